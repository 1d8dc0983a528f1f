/*
 * Block requests over guest memory that the input fills, with a source in memory that checks what
 * it is asked. Includes the device's source to serve requests without its thread.
 *
 * Input: a byte of options, then guest memory: ring of 16, then what its descriptors point to.
 */
#include "vmm/virtio/blk.c"

#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define RAM 0x4000u
#define DISK 0x2000u
#define AVAIL 0x100u
#define USED 0x140u
#define ANY_GPA 0 /* guest memory starts at address 0 */

static uint8_t disk[DISK];

static void require(bool what)
{
	if (!what)
		abort();
}

static int mem_move(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off,
		    bool out)
{
	for (unsigned i = 0; i < n; i++) {
		require(off <= s->bytes && iov[i].iov_len <= s->bytes - off);
		if (out)
			memcpy(disk + off, iov[i].iov_base, iov[i].iov_len);
		else
			memcpy(iov[i].iov_base, disk + off, iov[i].iov_len);
		off += iov[i].iov_len;
	}
	return 0;
}

static int mem_readv(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off)
{
	return mem_move(s, iov, n, off, false);
}

static int mem_writev(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off)
{
	require(!s->readonly);
	return mem_move(s, iov, n, off, true);
}

static int mem_flush(struct block_source *s)
{
	require(!s->readonly);
	return 0;
}

static int mem_discard(struct block_source *s, uint64_t off, uint64_t len, bool zero)
{
	require(!s->readonly);
	require(len && off <= s->bytes && len <= s->bytes - off);
	if (!zero)
		return -EOPNOTSUPP;
	memset(disk + off, 0, len);
	return 0;
}

static void mem_destroy(UNUSED struct block_source *s)
{
}

static const struct block_source_ops with_discard = {
	mem_readv, mem_writev, mem_flush, mem_discard, mem_destroy,
};
static const struct block_source_ops without_discard = {
	mem_readv, mem_writev, mem_flush, NULL, mem_destroy,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t ram[RAM] __attribute__((aligned(4096)));
	static struct vq_chain c;
	struct guest_mem mem = {.n = 1, .r = {{.gpa = ANY_GPA, .size = RAM, .hva = ram}}};
	struct block_source src = {.bytes = DISK};
	struct blk *b;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	if (len < 1)
		return 0;
	memset(ram, 0, sizeof(ram));
	memcpy(ram, data + 1, len - 1 < RAM ? len - 1 : RAM);
	b = blk_of(blk_new(NULL, data[0] & 1, NULL));
	src.readonly = data[0] & 3;
	src.ops = data[0] & 4 ? &with_discard : &without_discard;
	if (!(data[0] & 8)) {
		b->src = &src;
		strcpy(b->serial, "12345678901234567890");
	}
	b->d.vq[0].indirect = true;
	require(vq_setup(&b->d.vq[0], &mem, 16, ram, ram + AVAIL, ram + USED, 0, NULL) == 0);
	for (unsigned i = 0; i < 32 && vq_pop(&b->d.vq[0], &c) > 0; i++)
		serve(b, &b->d.vq[0], &c);
	b->src = NULL;
	b->d.ops->destroy(&b->d);
	return 0;
}
