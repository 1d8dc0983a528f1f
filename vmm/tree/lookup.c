/*
 * Names in the directories of an image, as the guest's kernel looks them up: a binary search for
 * the block, then one in it. Every offset is checked before it is followed.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "vmm/tree/erofs.h"
#include "vmm/tree/image.h"

struct view {
	const struct tree *t;
	const uint8_t *meta;
	uint64_t len;
};

/* One block of a directory, or its inline tail. */
struct dir_block {
	const uint8_t *p;
	uint32_t len;
	uint32_t entries;
};

static bool within(const struct view *v, uint64_t at, uint64_t len)
{
	return at <= v->len && len <= v->len - at;
}

static int get_inode(const struct view *v, uint64_t nid, struct erofs_inode *in, uint64_t *body)
{
	uint64_t at = nid * EROFS_SLOT;

	if (nid > TREE_META_MAX / EROFS_SLOT || !within(v, at, sizeof(*in)))
		return -EIO;
	memcpy(in, v->meta + at, sizeof(*in));
	*body = at + sizeof(*in);
	if (in->xattr_count)
		*body += sizeof(struct erofs_xattr_head) + (in->xattr_count - 1u) * 4;
	return 0;
}

static int get_block(const struct view *v, const struct erofs_inode *in, uint64_t body,
		     uint64_t block, struct dir_block *d)
{
	bool tail =
		EROFS_FORMAT_LAYOUT(in->format) == EROFS_INLINE && block == in->size / TREE_BLOCK;
	uint64_t at = tail ? body : ((uint64_t)in->u + block) * TREE_BLOCK;
	uint64_t left = in->size - block * TREE_BLOCK;
	struct erofs_dirent first;

	d->len = left < TREE_BLOCK ? (uint32_t)left : TREE_BLOCK;
	if (d->len < sizeof(first) || !within(v, at, d->len))
		return -EIO;
	d->p = v->meta + at;
	memcpy(&first, d->p, sizeof(first));
	d->entries = first.name / (uint32_t)sizeof(first);
	if (!d->entries || first.name % sizeof(first) || first.name >= d->len)
		return -EIO;
	return 0;
}

static int get_name(const struct dir_block *d, uint32_t i, struct tree_name *n, uint64_t *nid)
{
	struct erofs_dirent e, next;
	uint32_t end = d->len;

	memcpy(&e, d->p + i * sizeof(e), sizeof(e));
	if (i + 1 < d->entries) {
		memcpy(&next, d->p + (i + 1) * sizeof(e), sizeof(e));
		end = next.name;
	}
	if (e.name >= end || end > d->len)
		return -EIO;
	n->p = (const char *)d->p + e.name;
	n->len = (uint8_t)strnlen(n->p,
				  end - e.name < EROFS_NAME_MAX ? end - e.name : EROFS_NAME_MAX);
	*nid = e.nid;
	return 0;
}

static int compare(const char *name, size_t len, const struct tree_name *n)
{
	size_t both = len < n->len ? len : n->len;
	int r = memcmp(name, n->p, both);

	return r ? r : len < n->len ? -1 : len > n->len;
}

static int find_in_block(const struct dir_block *d, const char *name, size_t len, uint64_t *nid)
{
	uint32_t low = 0, high = d->entries;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		struct tree_name n;
		int c;

		if (get_name(d, mid, &n, nid) < 0)
			return -EIO;
		c = compare(name, len, &n);
		if (c == 0)
			return 1;
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return 0;
}

/* 1: found; 0: not there; -EIO. */
static int find(const struct view *v, uint64_t dir, const char *name, size_t len, uint64_t *nid)
{
	struct erofs_inode in;
	struct dir_block d;
	struct tree_name n;
	uint64_t body, low = 0, high;

	if (get_inode(v, dir, &in, &body) < 0)
		return -EIO;
	if (!S_ISDIR(in.mode))
		return 0;
	if (in.size > v->len)
		return -EIO;
	/* the last block whose first name is not behind ours */
	high = (in.size + TREE_BLOCK - 1) / TREE_BLOCK;
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;

		if (get_block(v, &in, body, mid, &d) < 0 || get_name(&d, 0, &n, nid) < 0)
			return -EIO;
		if (compare(name, len, &n) < 0)
			high = mid;
		else
			low = mid + 1;
	}
	if (low == 0)
		return 0;
	if (get_block(v, &in, body, low - 1, &d) < 0)
		return -EIO;
	return find_in_block(&d, name, len, nid);
}

/* The first block of a regular file's data in the image: 1, 0 if it has none, or -EIO. */
static int first_block(const struct view *v, uint64_t nid, uint32_t *block)
{
	uint64_t body, chunks;
	struct erofs_inode in;
	unsigned bits;

	if (get_inode(v, nid, &in, &body) < 0)
		return -EIO;
	if (!S_ISREG(in.mode) || !in.size)
		return 0;
	*block = in.u;
	if (EROFS_FORMAT_LAYOUT(in.format) == EROFS_PLAIN)
		return *block != EROFS_NO_BLOCK;
	bits = EROFS_BLOCK_BITS + (in.u & EROFS_CHUNK_BITS_MASK);
	chunks = ((in.size - 1) >> bits) + 1;
	if (chunks > v->len / sizeof(*block) || !within(v, body, chunks * sizeof(*block)))
		return -EIO;
	for (uint64_t c = 0; c < chunks; c++) {
		memcpy(block, v->meta + body + c * sizeof(*block), sizeof(*block));
		if (*block != EROFS_NO_BLOCK)
			return 1;
	}
	return 0;
}

int tree_lookup(const struct tree *t, const char *path, uint32_t *file)
{
	struct view v = {.t = t};
	struct erofs_super super;
	struct tree_piece piece;
	uint64_t nid;
	uint32_t block;
	int r;

	v.meta = tree_meta(t, &v.len);
	memcpy(&super, v.meta + EROFS_SUPER_AT, sizeof(super));
	nid = super.root_nid;
	while (*path) {
		size_t len = strcspn(path, "/");

		if (len) {
			r = find(&v, nid, path, len, &nid);
			if (r <= 0)
				return r;
		}
		path += len;
		path += strspn(path, "/");
	}
	r = first_block(&v, nid, &block);
	if (r <= 0)
		return r;
	r = tree_piece(t, (uint64_t)block * TREE_BLOCK, &piece);
	*file = piece.file;
	return r < 0 ? r : 1;
}
