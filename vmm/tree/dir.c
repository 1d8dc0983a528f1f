/* Directories: reading the names, writing the blocks. See build.c. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/tree/builder.h"

/* What getdents64() gives. */
struct dent {
	uint64_t ino, off;
	uint16_t reclen;
	uint8_t type;
	char name[];
} __attribute__((packed));

static int add_name(struct builder *b, const char *name, uint8_t type, struct error *err)
{
	size_t len = strlen(name), at = b->names.len;
	struct member *m;
	char *copy;

	if (len == 0 || len > EROFS_NAME_MAX)
		return error_kind(err, ERR_UNSUPPORTED, "a name in it has %zu bytes", len);
	if (++b->stats.members > TREE_FILES_MAX)
		return error_kind(err, ERR_UNSUPPORTED, "more than %u files (TREE_FILES_MAX)",
				  TREE_FILES_MAX);
	copy = tbuf_add(&b->names, len + 1);
	m = tbuf_add(&b->members, sizeof(*m));
	if (!copy || !m)
		return builder_oom(err);
	memcpy(copy, name, len + 1);
	for (size_t i = 0; i < sizeof(m->key); i++)
		m->key = m->key << 8 | (i < len ? (uint8_t)name[i] : 0);
	m->name = (uint32_t)at;
	m->len = (uint8_t)len;
	m->type = type;
	m->file = m->link = m->dir = NONE;
	return 0;
}

static int by_name(const void *va, const void *vb, void *names)
{
	const struct member *a = va, *b = vb;

	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	return strcmp((const char *)names + a->name, (const char *)names + b->name);
}

static int read_names(struct builder *b, int fd, struct error *err)
{
	for (;;) {
		long n = syscall(SYS_getdents64, fd, b->dents, DENTS_BYTES);

		if (n < 0 && errno == ENOENT) /* removed under us: it is empty */
			return 0;
		if (n < 0)
			return error_errno(err, "getdents64");
		if (n == 0)
			return 0;
		for (long i = 0; i < n;) {
			const struct dent *d = (const void *)(b->dents + i);

			i += d->reclen;
			if (strcmp(d->name, ".") == 0 || strcmp(d->name, "..") == 0)
				continue;
			if (add_name(b, d->name, d->type == DT_DIR ? EROFS_DIR : 0, err) < 0)
				return -1;
		}
	}
}

int dir_read_names(struct builder *b, struct error *err)
{
	struct level *l = &b->level[b->depth - 1];
	struct member *m;

	if (add_name(b, ".", EROFS_DIR, err) < 0 || add_name(b, "..", EROFS_DIR, err) < 0)
		return -1;
	b->stats.members -= 2;
	m = member_at(b, l->first);
	m[0].dir = l->dir;
	m[1].dir = ((struct tree_dir *)(void *)b->dirs.p)[l->dir].parent;
	if (!l->pseudo && read_names(b, l->fd, err) < 0)
		return -1;
	l->members = (uint32_t)(b->members.len / sizeof(*m)) - l->first;
	qsort_r(member_at(b, l->first), l->members, sizeof(*m), by_name, b->names.p);
	return 0;
}

/* ---- writing */

static void drop_gone(struct builder *b, struct level *l)
{
	struct member *m = member_at(b, l->first);
	uint32_t n = 0;

	for (uint32_t i = 0; i < l->members; i++) {
		if (m[i].type)
			m[n++] = m[i];
		else
			b->stats.members--;
	}
	l->members = n;
}

/* Members from i on that fit into one block; *bytes of it. */
static uint32_t in_block(const struct builder *b, const struct level *l, uint32_t i,
			 uint32_t *bytes)
{
	const struct member *m = member_at(b, l->first);
	uint32_t first = i;

	*bytes = 0;
	while (i < l->members && *bytes + sizeof(struct erofs_dirent) + m[i].len <= TREE_BLOCK)
		*bytes += (uint32_t)sizeof(struct erofs_dirent) + m[i++].len;
	return i - first;
}

/* The tables refer to names where they are now: at offset `at` of the metadata. */
static int note_name(struct builder *b, const struct level *l, const struct member *m, uint32_t at,
		     struct error *err)
{
	struct tree_file *f = (struct tree_file *)(void *)b->files.p + m->file;
	const struct linked *all = (const struct linked *)(void *)b->inodes.p;
	struct tree_dir *d = (struct tree_dir *)(void *)b->dirs.p + m->dir;
	struct tree_link *k;

	b->stats.name_bytes += m->len;
	if (m->type == EROFS_DIR) {
		d->name = at;
		d->len = m->len;
		return 0;
	}
	if (m->file != NONE) {
		f->dir = l->dir;
		f->name = at;
		f->len = m->len;
	}
	if (m->link == NONE || all[m->link].whiteout)
		return 0;
	k = tbuf_add(&b->links, sizeof(*k));
	if (!k)
		return builder_oom(err);
	/* the index of the inode for now: finish.c sorts by it */
	*k = (struct tree_link){.nid = m->link, .dir = l->dir, .name = at, .len = m->len};
	return 0;
}

/* Writes n members from the i-th on at offset `at` of the metadata. */
static int write_block(struct builder *b, const struct level *l, uint32_t nid, uint32_t at,
		       uint32_t i, uint32_t n, struct error *err)
{
	const struct member *m = member_at(b, l->first) + i;
	uint32_t name = n * (uint32_t)sizeof(struct erofs_dirent);
	uint8_t *block = b->meta.b.p + at;

	for (uint32_t j = 0; j < n; j++, m++) {
		const char *text = member_name(b, m);
		struct erofs_dirent *d = (struct erofs_dirent *)(void *)block + j;
		bool self = text[0] == '.' && m->len == 1;
		bool up = text[0] == '.' && text[1] == '.' && m->len == 2;

		d->nid = self ? nid : m->nid;
		d->name = (uint16_t)name;
		d->type = m->type;
		memcpy(block + name, text, m->len);
		if (up)
			((uint32_t *)(void *)b->dotdots.p)[l->dir] =
				at + j * (uint32_t)sizeof(struct erofs_dirent);
		else if (!self && note_name(b, l, m, at + name, err) < 0)
			return -1;
		name += m->len;
	}
	return 0;
}

/* How a directory is laid out. */
struct shape {
	uint32_t full; /* blocks of its own */
	uint32_t tail; /* bytes of entries behind the inode */
	uint64_t size;
};

static struct shape shape_of(const struct builder *b, const struct level *l, bool root)
{
	uint64_t head = sizeof(struct erofs_inode) + b->xattrs.len;
	struct shape s = {0};
	uint32_t bytes = 0;

	for (uint32_t i = 0, n; i < l->members; i += n) {
		n = in_block(b, l, i, &bytes);
		s.full++;
	}
	s.size = (uint64_t)(s.full - 1) * TREE_BLOCK + bytes;
	if (!root && bytes < TREE_BLOCK && head + bytes <= TREE_BLOCK) {
		s.tail = bytes;
		s.full--;
	}
	return s;
}

static int write_blocks(struct builder *b, const struct level *l, const struct shape *s,
			uint32_t inode, uint32_t blocks, struct error *err)
{
	uint32_t nid = inode / EROFS_SLOT, i = 0, n, bytes;
	uint32_t tail = inode + (uint32_t)sizeof(struct erofs_inode) + b->xattrs.len;

	for (uint32_t block = 0; i < l->members; block++, i += n) {
		uint32_t at = block < s->full ? blocks + block * TREE_BLOCK : tail;

		n = in_block(b, l, i, &bytes);
		if (write_block(b, l, nid, at, i, n, err) < 0)
			return -1;
	}
	return 0;
}

/* The root's inode and xattrs; the rest comes when it is written. */
int dir_reserve_root(struct builder *b, struct error *err)
{
	uint32_t super;

	if (xattrs_read(&b->xattrs, b->level[0].fd, NULL, err) < 0 ||
	    meta_inode(&b->meta, EROFS_SUPER_AT + sizeof(struct erofs_super), &super, err) < 0 ||
	    meta_inode(&b->meta, sizeof(struct erofs_inode) + b->xattrs.len, &b->root_at, err) < 0)
		return -1;
	b->root_xattrs = b->xattrs.len;
	memcpy(b->meta.b.p + b->root_at + sizeof(struct erofs_inode), b->xattrs.body,
	       b->xattrs.len);
	return 0;
}

/* Room for the inode of the deepest level and what follows it; its xattrs are put there. */
static int place_inode(struct builder *b, const struct level *l, bool root, struct shape *s,
		       uint32_t *at, struct error *err)
{
	b->xattrs.len = 0;
	if (root) {
		*at = b->root_at;
		b->xattrs.len = b->root_xattrs;
		*s = shape_of(b, l, true);
		return 0;
	}
	if (!l->pseudo && xattrs_read(&b->xattrs, l->fd, NULL, err) < 0)
		return -1;
	*s = shape_of(b, l, false);
	if (meta_inode(&b->meta, sizeof(struct erofs_inode) + b->xattrs.len + s->tail, at, err) < 0)
		return -1;
	memcpy(b->meta.b.p + *at + sizeof(struct erofs_inode), b->xattrs.body, b->xattrs.len);
	return 0;
}

int dir_write(struct builder *b, uint32_t *nid, struct error *err)
{
	struct level *l = &b->level[b->depth - 1];
	uint32_t at = 0, blocks = 0;
	struct erofs_inode *in;
	struct shape s;

	drop_gone(b, l);
	if (place_inode(b, l, b->depth == 1, &s, &at, err) < 0)
		return -1;
	if (s.full && meta_blocks(&b->meta, s.full, &blocks, err) < 0)
		return -1;
	in = (struct erofs_inode *)(void *)(b->meta.b.p + at);
	inode_fill(in, &l->st, s.tail ? EROFS_INLINE : EROFS_PLAIN, b->xattrs.len);
	in->size = s.size;
	in->nlink = 2 + l->subdirs;
	in->u = s.full ? blocks / TREE_BLOCK : EROFS_NO_BLOCK;
	in->ino = (uint32_t)++b->inode_count;
	*nid = at / EROFS_SLOT;
	b->stats.dirs++;
	return write_blocks(b, l, &s, at, blocks, err);
}
