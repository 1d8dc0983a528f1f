/* A mapped tree. See format.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/tree/crc.h"
#include "vmm/tree/image.h"

struct tree {
	uint8_t *map;
	struct tree_header h; /* a copy: checked once */
	const uint8_t *meta;
	const struct tree_extent *extents;
	const struct tree_file *files;
	const struct tree_dir *dirs;
	const struct tree_link *links;
};

static int not_a_tree(struct error *err, const char *why)
{
	return error_kind(err, ERR_INVALID, "tree: %s", why);
}

/* The header's numbers agree with one another and with the length of the file. */
static int check_header(const struct tree_header *h, uint64_t bytes, struct error *err)
{
	uint64_t need = TREE_BLOCK + (uint64_t)h->meta_blocks * TREE_BLOCK;

	if (memcmp(h->magic, TREE_MAGIC, sizeof(h->magic)) != 0)
		return not_a_tree(err, "not a tree of husk");
	if (h->version != TREE_VERSION)
		return not_a_tree(err, "made by another version of husk");
	if (h->meta_blocks < 1 || h->meta_blocks > TREE_META_MAX / TREE_BLOCK ||
	    h->image_blocks < h->meta_blocks || h->image_blocks > TREE_IMAGE_BLOCKS_MAX)
		return not_a_tree(err, "impossible size of its image");
	if (h->extents > UINT32_MAX || h->files > UINT32_MAX || h->dirs > UINT32_MAX ||
	    h->links > UINT32_MAX || h->dirs < 1)
		return not_a_tree(err, "impossible size of a table");
	need += h->extents * sizeof(struct tree_extent) + h->files * sizeof(struct tree_file) +
		h->dirs * sizeof(struct tree_dir) + h->links * sizeof(struct tree_link);
	if (h->bytes != bytes || need != bytes)
		return not_a_tree(err, "cut off, or longer than it says");
	return 0;
}

static int check_crc(const struct tree *t, struct error *err)
{
	uint8_t block[TREE_BLOCK];
	uint32_t crc;

	memcpy(block, t->map, sizeof(block));
	memset(block + offsetof(struct tree_header, crc), 0, sizeof(t->h.crc));
	crc = crc32c(~0u, block, sizeof(block));
	crc = crc32c(crc, t->map + sizeof(block), t->h.bytes - sizeof(block));
	if (crc != t->h.crc)
		return not_a_tree(err, "its checksum is wrong");
	return 0;
}

static int open_mapped(struct tree *t, uint64_t bytes, bool verify, struct error *err)
{
	memcpy(&t->h, t->map, sizeof(t->h));
	if (check_header(&t->h, bytes, err) < 0)
		return -1;
	t->meta = t->map + TREE_BLOCK;
	t->extents = (const void *)(t->meta + (size_t)t->h.meta_blocks * TREE_BLOCK);
	t->files = (const void *)(t->extents + t->h.extents);
	t->dirs = (const void *)(t->files + t->h.files);
	t->links = (const void *)(t->dirs + t->h.dirs);
	return verify ? check_crc(t, err) : 0;
}

/* syscalls loop: fstat mmap(2!&PROT_EXEC) munmap close */

struct tree *tree_open(int fd, bool verify, struct error *err)
{
	cleanup_close int own = fd;
	struct tree *t;
	struct stat st;

	if (fd_stat(own, &st) < 0) {
		error_errno(err, "tree: fstat");
		return NULL;
	}
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)TREE_BLOCK) {
		not_a_tree(err, "too small to be one");
		return NULL;
	}
	t = xcalloc(1, sizeof(*t));
	t->h.bytes = (uint64_t)st.st_size;
	t->map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, own, 0);
	if (t->map == MAP_FAILED) {
		error_errno(err, "tree: mmap");
		free(t);
		return NULL;
	}
	if (open_mapped(t, (uint64_t)st.st_size, verify, err) < 0) {
		munmap(t->map, (size_t)st.st_size);
		free(t);
		return NULL;
	}
	return t;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	munmap(t->map, t->h.bytes);
	free(t);
}

uint64_t tree_image_bytes(const struct tree *t)
{
	return t->h.image_blocks * TREE_BLOCK;
}

uint64_t tree_hard_links(const struct tree *t)
{
	return t->h.hard_links;
}

const uint8_t *tree_meta(const struct tree *t, uint64_t *len)
{
	*len = (uint64_t)t->h.meta_blocks * TREE_BLOCK;
	return t->meta;
}

bool tree_inodes_unstable(const struct tree *t)
{
	return t->h.flags & TREE_INODES_UNSTABLE;
}

uint32_t tree_files(const struct tree *t)
{
	return (uint32_t)t->h.files;
}

uint64_t tree_file_ino(const struct tree *t, uint32_t file)
{
	return t->files[file].ino;
}

int tree_piece(const struct tree *t, uint64_t off, struct tree_piece *p)
{
	uint64_t block = off / TREE_BLOCK - t->h.meta_blocks, low = 0, high = t->h.extents;
	struct tree_extent e;
	uint64_t end, into;

	if (off / TREE_BLOCK < t->h.meta_blocks || off / TREE_BLOCK >= t->h.image_blocks)
		return -EIO;
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (t->extents[mid].block <= block)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return -EIO;
	e = t->extents[low - 1];
	end = low < t->h.extents ? t->extents[low].block : t->h.image_blocks - t->h.meta_blocks;
	if (block < e.block || block >= end || e.file >= t->h.files ||
	    e.file_block > INT64_MAX / TREE_BLOCK - (end - e.block))
		return -EIO;
	into = off - (t->h.meta_blocks + (uint64_t)e.block) * TREE_BLOCK;
	*p = (struct tree_piece){
		.file = e.file,
		.file_off = e.file_block * TREE_BLOCK + into,
		.bytes = (end - e.block) * TREE_BLOCK - into,
		.size = t->files[e.file].size,
	};
	return 0;
}

/* ---- names */

static int get_name(const struct tree *t, uint32_t at, uint8_t len, struct tree_name *n)
{
	uint64_t meta = (uint64_t)t->h.meta_blocks * TREE_BLOCK;

	if (!len || at > meta || len > meta - at)
		return -EIO;
	n->p = (const char *)t->meta + at;
	n->len = len;
	if (memchr(n->p, '/', len) || memchr(n->p, 0, len))
		return -EIO;
	if (n->p[0] == '.' && (len == 1 || (len == 2 && n->p[1] == '.')))
		return -EIO;
	return 0;
}

/* From the name up to the root, then turned round. */
static int get_path(const struct tree *t, uint32_t dir, uint32_t at, uint8_t len,
		    struct tree_path *p)
{
	p->n = 0;
	if (get_name(t, at, len, &p->name[p->n++]) < 0)
		return -EIO;
	while (dir) {
		struct tree_dir d;

		if (dir >= t->h.dirs || p->n > TREE_DEPTH_MAX)
			return -EIO;
		d = t->dirs[dir];
		if (d.parent >= dir || get_name(t, d.name, d.len, &p->name[p->n++]) < 0)
			return -EIO;
		dir = d.parent;
	}
	for (unsigned i = 0; i < p->n / 2; i++) {
		struct tree_name swap = p->name[i];

		p->name[i] = p->name[p->n - 1 - i];
		p->name[p->n - 1 - i] = swap;
	}
	return 0;
}

static char *path_text(const struct tree_path *p)
{
	size_t len = 0;
	char *text, *at;

	for (unsigned i = 0; i < p->n; i++)
		len += p->name[i].len + 1u;
	text = at = xcalloc(1, len + 1);
	for (unsigned i = 0; i < p->n; i++) {
		memcpy(at, p->name[i].p, p->name[i].len);
		at += p->name[i].len;
		*at++ = '/';
	}
	if (at > text)
		at[-1] = '\0';
	return text;
}

int tree_file_path(const struct tree *t, uint32_t file, struct tree_path *p)
{
	struct tree_file f = t->files[file];

	return get_path(t, f.dir, f.name, f.len, p);
}

char *tree_file_text(const struct tree *t, uint32_t file)
{
	cleanup_free struct tree_path *p = xcalloc(1, sizeof(*p));

	return tree_file_path(t, file, p) < 0 ? NULL : path_text(p);
}

int tree_each_link(const struct tree *t, int (*fn)(void *arg, uint64_t ino, const char *path),
		   void *arg)
{
	cleanup_free struct tree_path *p = xcalloc(1, sizeof(*p));

	for (uint64_t i = 0; i < t->h.links; i++) {
		struct tree_link l = t->links[i];
		cleanup_free char *text = NULL;
		int r;

		if (get_path(t, l.dir, l.name, l.len, p) < 0)
			return -EIO;
		text = path_text(p);
		r = fn(arg, l.nid, text);
		if (r)
			return r;
	}
	return 0;
}
