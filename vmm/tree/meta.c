#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/tree/erofs.h"
#include "vmm/tree/format.h"
#include "vmm/tree/meta.h"

#define TBUF_FIRST 4096u

void *tbuf_add(struct tbuf *b, size_t n)
{
	void *p;

	if (b->cap - b->len < n) {
		size_t cap = b->cap ? b->cap : TBUF_FIRST;

		while (cap - b->len < n) {
			if (cap > SIZE_MAX / 2)
				return NULL;
			cap *= 2;
		}
		p = realloc(b->p, cap);
		if (!p)
			return NULL;
		b->p = p;
		b->cap = cap;
	}
	p = b->p + b->len;
	memset(p, 0, n);
	b->len += n;
	return p;
}

void tbuf_free(struct tbuf *b)
{
	free(b->p);
	*b = (struct tbuf){0};
}

int meta_blocks(struct meta *m, uint64_t n, uint32_t *at, struct error *err)
{
	uint64_t old = m->b.len;

	if (n > (TREE_META_MAX - old) / TREE_BLOCK)
		return error_kind(err, ERR_UNSUPPORTED,
				  "the metadata of the tree exceed %llu bytes (TREE_META_MAX)",
				  (unsigned long long)TREE_META_MAX);
	if (!tbuf_add(&m->b, n * TREE_BLOCK))
		return error_set(err, "out of memory");
	*at = (uint32_t)old;
	return 0;
}

/* The end of a block, for small inodes to come. */
static void gap_push(struct meta *m, uint32_t at, uint32_t end)
{
	if (end - at < sizeof(struct erofs_inode))
		return;
	if (m->gaps == META_GAPS) { /* forget the oldest */
		m->gaps--;
		memmove(m->gap, m->gap + 1, m->gaps * sizeof(m->gap[0]));
	}
	m->gap[m->gaps].at = at;
	m->gap[m->gaps++].len = end - at;
}

static bool gap_take(struct meta *m, uint32_t bytes, uint32_t *at)
{
	unsigned i = m->gaps - 1;

	if (!m->gaps || m->gap[i].len < bytes)
		return false;
	*at = m->gap[i].at;
	m->gap[i].at += bytes;
	m->gap[i].len -= bytes;
	if (m->gap[i].len < sizeof(struct erofs_inode))
		m->gaps--;
	return true;
}

int meta_inode(struct meta *m, uint64_t bytes, uint32_t *at, struct error *err)
{
	uint64_t room = (bytes + EROFS_SLOT - 1) & ~(uint64_t)(EROFS_SLOT - 1);
	uint64_t blocks = (room + TREE_BLOCK - 1) / TREE_BLOCK;

	if (room <= TREE_BLOCK && gap_take(m, (uint32_t)room, at))
		return 0;
	if (room <= m->end - m->at) {
		*at = m->at;
		m->at += (uint32_t)room;
		return 0;
	}
	if (meta_blocks(m, blocks, at, err) < 0)
		return -1;
	gap_push(m, m->at, m->end);
	m->at = *at + (uint32_t)room;
	m->end = *at + (uint32_t)(blocks * TREE_BLOCK);
	return 0;
}
