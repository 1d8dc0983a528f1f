/*
 * meta.h - the metadata of an image while it is made: bytes that grow, and room for inodes in them.
 */
#ifndef HUSK_VMM_TREE_META_H
#define HUSK_VMM_TREE_META_H

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

/* An array that grows; what is added is zero. Elements move when it grows. */
struct tbuf {
	uint8_t *p;
	size_t len, cap;
};

/* Adds n bytes; their place, or NULL when memory is short. */
void *tbuf_add(struct tbuf *b, size_t n);
void tbuf_free(struct tbuf *b);

#define META_GAPS 32

struct meta {
	struct tbuf b;
	uint32_t at, end; /* what is left of the block in which small things go */
	struct {
		uint32_t at, len;
	} gap[META_GAPS]; /* ends of earlier such blocks */
	unsigned gaps;
};

/* All give the offset of zeroed room, and fail if the metadata become too large; the caller names
 * the file. Blocks of directories and long symlinks: */
int meta_blocks(struct meta *m, uint64_t n, uint32_t *at, struct error *err);
/* An inode and what must follow it; does not cross a block's end unless it is larger than one. */
int meta_inode(struct meta *m, uint64_t bytes, uint32_t *at, struct error *err);

#endif
