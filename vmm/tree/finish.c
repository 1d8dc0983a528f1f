/* The end of a build: what needed to know all of it, checksums, and writing it out. See build.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "vmm/tree/builder.h"
#include "vmm/tree/crc.h"

static struct erofs_inode *inode_at(const struct builder *b, uint32_t nid)
{
	return (struct erofs_inode *)(void *)(b->meta.b.p + (size_t)nid * EROFS_SLOT);
}

static uint32_t xattr_bytes(const struct erofs_inode *in)
{
	if (!in->xattr_count)
		return 0;
	return (uint32_t)sizeof(struct erofs_xattr_head) + (in->xattr_count - 1u) * 4;
}

/* ".." of every directory; its parent's number is known only now. */
static void patch_parents(struct builder *b)
{
	const struct tree_dir *d = (const struct tree_dir *)(void *)b->dirs.p;
	const uint32_t *nids = (const uint32_t *)(void *)b->dir_nids.p;
	const uint32_t *at = (const uint32_t *)(void *)b->dotdots.p;

	for (size_t i = 0; i < b->dirs.len / sizeof(*d); i++)
		((struct erofs_dirent *)(void *)(b->meta.b.p + at[i]))->nid = nids[d[i].parent];
}

/* Block numbers counted from the end of the metadata. */
static void patch_blocks(struct builder *b, uint32_t meta_blocks)
{
	const struct tree_file *f = (const struct tree_file *)(void *)b->files.p;

	for (size_t i = 0; i < b->files.len / sizeof(*f); i++) {
		struct erofs_inode *in = inode_at(b, f[i].nid);
		uint64_t chunk = (uint64_t)TREE_BLOCK << (in->u & EROFS_CHUNK_BITS_MASK);
		uint32_t *map;

		if (EROFS_FORMAT_LAYOUT(in->format) == EROFS_PLAIN) {
			in->u += meta_blocks;
			continue;
		}
		map = (uint32_t *)(void *)((uint8_t *)(in + 1) + xattr_bytes(in));
		for (uint64_t c = 0; c < (in->size - 1) / chunk + 1; c++)
			if (map[c] != EROFS_NO_BLOCK)
				map[c] += meta_blocks;
	}
}

static int by_inode(const void *va, const void *vb)
{
	const struct tree_link *a = va, *b = vb;

	if (a->nid != b->nid)
		return a->nid < b->nid ? -1 : 1;
	return a->name < b->name ? -1 : a->name > b->name;
}

/* Link counts of files with several names, and the table of those. */
static void finish_links(struct builder *b)
{
	const struct linked *all = (const struct linked *)(void *)b->inodes.p;
	struct tree_link *k = (struct tree_link *)(void *)b->links.p;
	size_t n = b->links.len / sizeof(*k), kept = 0;

	for (size_t i = 0; i < b->inodes.len / sizeof(*all); i++)
		inode_at(b, all[i].nid)->nlink = all[i].names;
	if (n)
		qsort(k, n, sizeof(*k), by_inode);
	for (size_t i = 0, next; i < n; i = next) {
		for (next = i + 1; next < n && k[next].nid == k[i].nid;)
			next++;
		if (next - i < 2)
			continue;
		b->stats.hard_links++;
		for (size_t j = i; j < next; j++) {
			k[kept] = k[j];
			k[kept++].nid = all[k[j].nid].nid;
		}
	}
	b->links.len = kept * sizeof(*k);
}

/* Each 32 bits of the UUID stand for a quarter of the blocks. */
static void make_uuid(const struct builder *b, uint8_t uuid[16])
{
	uint32_t sum[4] = {~0u, ~0u, ~0u, ~0u};

	for (size_t at = 0, i = 0; at < b->meta.b.len; at += TREE_BLOCK, i++)
		sum[i % 4] = crc32c(sum[i % 4], b->meta.b.p + at, TREE_BLOCK);
	memcpy(uuid, sum, sizeof(sum));
	uuid[6] = (uuid[6] & 0x0f) | 0x80; /* version 8: made by a rule of one's own */
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
}

static void write_super(struct builder *b, uint32_t meta_blocks)
{
	struct erofs_super *s = (struct erofs_super *)(void *)(b->meta.b.p + EROFS_SUPER_AT);

	*s = (struct erofs_super){
		.magic = EROFS_MAGIC,
		.compat = EROFS_COMPAT_SB_CHECKSUM | EROFS_COMPAT_MTIME,
		.block_bits = EROFS_BLOCK_BITS,
		.root_nid = (uint16_t)(b->root_at / EROFS_SLOT),
		.inodes = b->inode_count,
		.blocks = (uint32_t)(meta_blocks + b->data_blocks),
		.incompat = b->chunked ? EROFS_INCOMPAT_CHUNKED : 0,
	};
	make_uuid(b, s->uuid);
	s->checksum = crc32c(~0u, s, TREE_BLOCK - EROFS_SUPER_AT);
}

static int write_parts(struct builder *b, struct tree_header *h, int out, struct error *err)
{
	const struct tbuf *part[] = {&b->meta.b, &b->extents, &b->files, &b->dirs, &b->links};
	uint8_t block[TREE_BLOCK] = {0};
	uint32_t crc;

	h->bytes = sizeof(block);
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		h->bytes += part[i]->len;
	memcpy(block, h, sizeof(*h));
	crc = crc32c(~0u, block, sizeof(block));
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		crc = crc32c(crc, part[i]->p, part[i]->len);
	h->crc = crc;
	memcpy(block, h, sizeof(*h));
	if (write_all(out, block, sizeof(block), err) < 0)
		return error_wrap(err, "tree");
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		if (part[i]->len && write_all(out, part[i]->p, part[i]->len, err) < 0)
			return error_wrap(err, "tree");
	return 0;
}

int tree_finish(struct builder *b, int out, struct error *err)
{
	uint32_t meta_blocks = (uint32_t)(b->meta.b.len / TREE_BLOCK);
	struct tree_header h = {
		.version = TREE_VERSION,
		.flags = b->o.inodes_unstable ? TREE_INODES_UNSTABLE : 0,
		.meta_blocks = meta_blocks,
		.image_blocks = meta_blocks + b->data_blocks,
	};

	memcpy(h.magic, TREE_MAGIC, sizeof(h.magic));
	patch_parents(b);
	patch_blocks(b, meta_blocks);
	finish_links(b);
	write_super(b, meta_blocks);
	h.extents = b->extents.len / sizeof(struct tree_extent);
	h.files = b->files.len / sizeof(struct tree_file);
	h.dirs = b->dirs.len / sizeof(struct tree_dir);
	h.links = b->links.len / sizeof(struct tree_link);
	h.hard_links = b->stats.hard_links;
	if (write_parts(b, &h, out, err) < 0)
		return -1;
	b->stats.meta_bytes = b->meta.b.len;
	b->stats.tree_bytes = h.bytes;
	b->stats.image_bytes = h.image_blocks * TREE_BLOCK;
	return 0;
}
