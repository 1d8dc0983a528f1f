/* The inodes of what is not a directory. See build.c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/tree/builder.h"

#define SPARSE_MIN (128u << 10) /* fewer bytes of holes are not worth a block map */
#define CHUNKS_MAX 4096u	/* of a file, unless its chunks have their largest size */
#define SYMLINK_MAX 4096u
#define HASH_FIRST 1024u

bool is_gone(int errnum)
{
	return errnum == ENOENT;
}

void inode_fill(struct erofs_inode *in, const struct statx *st, enum erofs_layout layout,
		uint32_t xattrs)
{
	in->format = EROFS_FORMAT(layout);
	in->xattr_count =
		xattrs ? (uint16_t)(1 + (xattrs - sizeof(struct erofs_xattr_head)) / 4) : 0;
	in->mode = st->stx_mode;
	in->uid = st->stx_uid;
	in->gid = st->stx_gid;
	in->mtime = st->stx_mtime.tv_sec;
	in->mtime_nsec = st->stx_mtime.tv_nsec;
	in->nlink = 1;
	in->u = EROFS_NO_BLOCK;
}

/* Room for an inode, its xattrs and `extra` bytes behind them, which are filled. */
static int put_inode(struct builder *b, const struct statx *st, enum erofs_layout layout,
		     uint64_t size, uint32_t u, const void *extra, uint64_t extra_len,
		     uint32_t *nid, struct error *err)
{
	uint32_t xlen = b->xattrs.len, at;
	struct erofs_inode *in;

	if (meta_inode(&b->meta, sizeof(*in) + xlen + extra_len, &at, err) < 0)
		return -1;
	in = (struct erofs_inode *)(void *)(b->meta.b.p + at);
	inode_fill(in, st, layout, xlen);
	in->size = size;
	in->u = u;
	in->ino = (uint32_t)++b->inode_count;
	memcpy(in + 1, b->xattrs.body, xlen);
	if (extra_len)
		memcpy((uint8_t *)(in + 1) + xlen, extra, extra_len);
	*nid = at / EROFS_SLOT;
	return 0;
}

/* Linux's encoding of device numbers in 32 bits. */
static uint32_t device_number(const struct statx *st)
{
	uint32_t major = st->stx_rdev_major, minor = st->stx_rdev_minor;

	return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}

static int put_symlink(struct builder *b, struct member *m, const struct statx *st, int dirfd,
		       struct error *err)
{
	char target[SYMLINK_MAX + 1];
	ssize_t n = readlinkat(dirfd, member_name(b, m), target, sizeof(target));
	uint64_t whole = sizeof(struct erofs_inode) + b->xattrs.len + (uint64_t)(n > 0 ? n : 0);
	uint32_t at;

	if (n < 0)
		return error_errno(err, "readlink");
	if (n > (ssize_t)SYMLINK_MAX)
		return error_kind(err, ERR_UNSUPPORTED, "symlink of more than %u bytes",
				  SYMLINK_MAX);
	if (n && whole <= TREE_BLOCK)
		return put_inode(b, st, EROFS_INLINE, (uint64_t)n, EROFS_NO_BLOCK, target,
				 (uint64_t)n, &m->nid, err);
	if (meta_blocks(&b->meta, n ? 1 : 0, &at, err) < 0)
		return -1;
	memcpy(b->meta.b.p + at, target, (size_t)n);
	return put_inode(b, st, EROFS_PLAIN, (uint64_t)n, at / TREE_BLOCK, NULL, 0, &m->nid, err);
}

/* ---- data */

/* The next blocks of the image are the file's from file_block on. */
static int add_extent(struct builder *b, uint32_t file, uint64_t file_block, uint64_t blocks,
		      struct error *err)
{
	struct tree_extent *e;

	if (blocks > TREE_IMAGE_BLOCKS_MAX - TREE_META_MAX / TREE_BLOCK - b->data_blocks)
		return error_kind(err, ERR_UNSUPPORTED,
				  "with it, the files' data exceed the 16 TiB of an image");
	e = tbuf_add(&b->extents, sizeof(*e));
	if (!e)
		return builder_oom(err);
	*e = (struct tree_extent){(uint32_t)b->data_blocks, file, file_block};
	b->data_blocks += blocks;
	return 0;
}

static unsigned chunk_bits(uint64_t blocks)
{
	unsigned bits = 0;

	while (bits < EROFS_CHUNK_BITS_MAX && (blocks - 1) >> bits >= CHUNKS_MAX)
		bits++;
	return bits;
}

/* Gives image blocks to the chunks that [from, to) touches and that have none. */
static int map_run(struct builder *b, uint64_t size, unsigned bits, uint64_t from, uint64_t to,
		   uint64_t *done, struct error *err)
{
	uint64_t bytes = (uint64_t)TREE_BLOCK << bits, first = from / bytes,
		 end = (to - 1) / bytes + 1;
	uint64_t file_end = (size + TREE_BLOCK - 1) / TREE_BLOCK, at, blocks;
	uint32_t *map = (uint32_t *)(void *)b->chunks.p;

	if (first < *done)
		first = *done;
	if (first >= end)
		return 0;
	at = first << bits;
	blocks = (end << bits < file_end ? end << bits : file_end) - at;
	for (uint64_t c = first; c < end; c++)
		map[c] = (uint32_t)(b->data_blocks + ((c - first) << bits));
	/* goes on where the run before it ended: the same extent */
	if (first == *done && first) {
		b->data_blocks += blocks;
		if (b->data_blocks > TREE_IMAGE_BLOCKS_MAX - TREE_META_MAX / TREE_BLOCK)
			return error_kind(err, ERR_UNSUPPORTED,
					  "with it, the files' data exceed the 16 TiB of an image");
	} else if (add_extent(b, (uint32_t)(b->files.len / sizeof(struct tree_file)), at, blocks,
			      err) < 0) {
		return -1;
	}
	*done = end;
	return 0;
}

/* Finds a file's data with SEEK_DATA. 1: the map is in b->chunks; 0: take it as a whole. */
static int map_chunks(struct builder *b, int fd, uint64_t size, unsigned bits, struct error *err)
{
	uint64_t blocks = (size + TREE_BLOCK - 1) / TREE_BLOCK, n = ((blocks - 1) >> bits) + 1;
	uint64_t pos = 0, done = 0;

	b->chunks.len = 0;
	if (!tbuf_add(&b->chunks, n * sizeof(uint32_t)))
		return builder_oom(err);
	memset(b->chunks.p, 0xff, b->chunks.len);
	while (pos < size) {
		off_t from = lseek(fd, (off_t)pos, SEEK_DATA), to;

		if (from < 0 && errno == ENXIO)
			break;
		to = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
		if (to <= from) { /* none of that here, or the file changes: as a whole */
			return 0;
		}
		if ((uint64_t)from >= size)
			break;
		pos = (uint64_t)to < size ? (uint64_t)to : size;
		if (map_run(b, size, bits, (uint64_t)from, pos, &done, err) < 0)
			return -1;
	}
	return 1;
}

/* 1: written as a sparse file, 0: it is none after all. */
static int put_sparse(struct builder *b, struct member *m, const struct statx *st, int dirfd,
		      struct error *err)
{
	cleanup_close int fd =
		openat(dirfd, member_name(b, m), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t size = st->stx_size, data = b->data_blocks;
	unsigned bits = chunk_bits((size + TREE_BLOCK - 1) / TREE_BLOCK);
	size_t extents = b->extents.len;
	struct stat now;
	int r;

	if (fd < 0 || fstat(fd, &now) < 0 || !S_ISREG(now.st_mode) || now.st_ino != st->stx_ino)
		return 0;
	r = map_chunks(b, fd, size, bits, err);
	if (r < 0)
		return -1;
	if (r == 0 || b->data_blocks - data >= (size + TREE_BLOCK - 1) / TREE_BLOCK) {
		b->data_blocks = data;
		b->extents.len = extents;
		return 0;
	}
	b->chunked = true;
	if (put_inode(b, st, EROFS_CHUNKED, size, bits, b->chunks.p, b->chunks.len, &m->nid, err) <
	    0)
		return -1;
	return 1;
}

static int put_regular(struct builder *b, struct member *m, const struct statx *st, int dirfd,
		       struct error *err)
{
	uint64_t size = st->stx_size, data = b->data_blocks;
	uint32_t file = (uint32_t)(b->files.len / sizeof(struct tree_file));
	struct tree_file *f;
	int r = 0;

	if (size > INT64_MAX - TREE_BLOCK)
		return error_kind(err, ERR_UNSUPPORTED, "size beyond 2^63");
	if (size >= SPARSE_MIN && st->stx_blocks * 512 <= size - SPARSE_MIN)
		r = put_sparse(b, m, st, dirfd, err);
	/* block numbers count from the metadata's end until that is known (finish.c) */
	if (r == 0)
		r = put_inode(b, st, EROFS_PLAIN, size, size ? (uint32_t)data : EROFS_NO_BLOCK,
			      NULL, 0, &m->nid, err);
	if (r == 0 && size)
		r = add_extent(b, file, 0, (size + TREE_BLOCK - 1) / TREE_BLOCK, err);
	if (r < 0)
		return -1;
	b->stats.files++;
	if (b->data_blocks == data)
		return 0;
	f = tbuf_add(&b->files, sizeof(*f));
	if (!f)
		return builder_oom(err);
	f->ino = st->stx_ino;
	f->size = size;
	f->nid = m->nid;
	m->file = file;
	return 0;
}

/* ---- hard links */

static uint64_t device_of(const struct statx *st)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor);
}

static uint32_t *hash_head(const struct builder *b, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev << 40) * UINT64_C(0x9e3779b97f4a7c15);

	return &b->hash[h >> 32 & (b->hash_size - 1)];
}

static int hash_grow(struct builder *b, struct error *err)
{
	uint32_t n = (uint32_t)(b->inodes.len / sizeof(struct linked));
	struct linked *all = (struct linked *)(void *)b->inodes.p;
	uint32_t size = b->hash_size ? b->hash_size * 2 : HASH_FIRST;
	uint32_t *hash;

	if (n < b->hash_size)
		return 0;
	hash = malloc(size * sizeof(*hash));
	if (!hash)
		return builder_oom(err);
	memset(hash, 0xff, size * sizeof(*hash));
	free(b->hash);
	b->hash = hash;
	b->hash_size = size;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t *head = hash_head(b, all[i].dev, all[i].ino);

		all[i].next = *head;
		*head = i;
	}
	return 0;
}

static struct linked *linked_at(const struct builder *b, uint32_t i)
{
	return (struct linked *)(void *)b->inodes.p + i;
}

/* Looks for the inode under another name, NONE if this is the first. */
static uint32_t linked_find(const struct builder *b, const struct statx *st)
{
	uint64_t dev = device_of(st);
	uint32_t i = b->hash ? *hash_head(b, dev, st->stx_ino) : NONE;

	while (i != NONE && (linked_at(b, i)->ino != st->stx_ino || linked_at(b, i)->dev != dev))
		i = linked_at(b, i)->next;
	return i;
}

static int linked_add(struct builder *b, const struct statx *st, struct member *m, bool whiteout,
		      struct error *err)
{
	uint32_t i = (uint32_t)(b->inodes.len / sizeof(struct linked)), *head;
	struct linked *l;

	if (hash_grow(b, err) < 0)
		return -1;
	l = tbuf_add(&b->inodes, sizeof(*l));
	if (!l)
		return builder_oom(err);
	head = hash_head(b, device_of(st), st->stx_ino);
	*l = (struct linked){
		.dev = device_of(st),
		.ino = st->stx_ino,
		.nid = m->nid,
		.names = 1,
		.next = *head,
		.type = m->type,
		.whiteout = whiteout,
	};
	*head = i;
	m->link = i;
	return 0;
}

/* ---- all of them */

static uint8_t type_of(unsigned mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return EROFS_REG;
	case S_IFDIR:
		return EROFS_DIR;
	case S_IFCHR:
		return EROFS_CHR;
	case S_IFBLK:
		return EROFS_BLK;
	case S_IFIFO:
		return EROFS_FIFO;
	case S_IFSOCK:
		return EROFS_SOCK;
	case S_IFLNK:
		return EROFS_LNK;
	default:
		return 0;
	}
}

static int put(struct builder *b, struct member *m, const struct statx *st, int dirfd,
	       struct error *err)
{
	if (m->type == EROFS_REG)
		return put_regular(b, m, st, dirfd, err);
	if (m->type == EROFS_LNK)
		return put_symlink(b, m, st, dirfd, err);
	return put_inode(b, st, EROFS_PLAIN, 0,
			 m->type == EROFS_CHR || m->type == EROFS_BLK ? device_number(st)
								      : EROFS_NO_BLOCK,
			 NULL, 0, &m->nid, err);
}

static bool is_whiteout(const struct statx *st)
{
	return S_ISCHR(st->stx_mode) && !st->stx_rdev_major && !st->stx_rdev_minor;
}

/* The guest's overlay would take it for a whiteout. */
static void skip_whiteout(struct builder *b, struct member *m)
{
	m->type = 0;
	if (!b->warned_device) {
		cleanup_free char *path = builder_path(b, member_name(b, m));

		log_warn("%s: a device 0:0 means a deleted file to overlayfs: left out, and others "
			 "like it",
			 path);
	}
	b->warned_device = true;
}

static int read_fresh(struct builder *b, struct member *m, const struct statx *st, int dirfd,
		      struct error *err)
{
	if (xattrs_read(&b->xattrs, dirfd, member_name(b, m), err) < 0)
		return -1;
	if (put(b, m, st, dirfd, err) < 0)
		return -1;
	return st->stx_nlink > 1 ? linked_add(b, st, m, is_whiteout(st), err) : 0;
}

int member_read(struct builder *b, uint32_t i, struct error *err)
{
	struct member *m = member_at(b, i);
	int dirfd = b->level[b->depth - 1].fd;
	struct statx st;
	uint32_t link;

	if (m->type == EROFS_DIR) /* what is not surely one has no type yet */
		return 0;
	if (statx(dirfd, member_name(b, m), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS, &st) < 0) {
		if (is_gone(errno))
			return 0;
		error_errno(err, "statx");
		return builder_wrap(b, member_name(b, m), err);
	}
	m->type = type_of(st.stx_mode);
	if (m->type == EROFS_DIR)
		return 0;
	if (!b->o.upper && is_whiteout(&st)) {
		skip_whiteout(b, m);
		return 0;
	}
	link = st.stx_nlink > 1 ? linked_find(b, &st) : NONE;
	if (link != NONE && linked_at(b, link)->type == m->type) {
		linked_at(b, link)->names++;
		m->nid = linked_at(b, link)->nid;
		m->link = link;
		return 0;
	}
	if (read_fresh(b, m, &st, dirfd, err) < 0)
		return builder_wrap(b, member_name(b, m), err);
	return 0;
}
