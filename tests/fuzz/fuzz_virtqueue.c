/*
 * Virtqueues over guest memory that the input fills. Whatever a chain says, its segments lie in
 * memory, its sums are right, and a walk ends.
 *
 * Input: a byte of options, two of ring size and base, then guest memory from the descriptors on.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "vmm/virtqueue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define RAM 0x8000u
#define SIZE_MAX_LOG 4
#define DESC 0u
#define AVAIL 0x200u
#define USED 0x300u

static void require(bool what)
{
	if (!what)
		abort();
}

static uint64_t check_segments(const uint8_t *ram, const struct iovec *iov, unsigned n)
{
	uint64_t sum = 0;

	require(n <= VQ_SEGS_MAX);
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *p = iov[i].iov_base;

		require(iov[i].iov_len > 0);
		require(p >= ram && p + iov[i].iov_len <= ram + RAM);
		sum += iov[i].iov_len;
	}
	return sum;
}

static void check_chain(const uint8_t *ram, const struct virtqueue *q, const struct vq_chain *c)
{
	uint8_t buf[64];
	uint64_t n;

	require(c->head < q->size);
	require(c->nread + c->nwrite > 0);
	require(check_segments(ram, c->read, c->nread) == c->read_bytes);
	require(check_segments(ram, c->write, c->nwrite) == c->write_bytes);
	require(c->read_bytes + c->write_bytes <= VQ_CHAIN_BYTES_MAX);
	n = vq_read(c, 3, buf, sizeof(buf));
	require(n <= sizeof(buf) && (c->read_bytes < 3 + sizeof(buf) || n == sizeof(buf)));
	require(c->read_bytes < 3 ? n == 0 : n <= c->read_bytes - 3);
	require(vq_read(c, UINT64_MAX, buf, 1) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t ram[RAM] __attribute__((aligned(4096)));
	struct guest_mem mem = {.n = 1, .r = {{.gpa = 0x1000, .size = RAM, .hva = ram}}};
	static struct vq_chain c;
	struct virtqueue q;
	bool write_back;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	if (len < 3)
		return 0;
	memset(ram, 0, sizeof(ram));
	memcpy(ram, data + 3, len - 3 < RAM ? len - 3 : RAM);
	vq_init(&q);
	q.event_idx = data[0] & 1;
	q.indirect = data[0] & 2;
	write_back = data[0] & 4;
	if (vq_setup(&q, &mem, (uint16_t)(1u << data[1] % (SIZE_MAX_LOG + 1)), ram + DESC,
		     ram + AVAIL, ram + USED, data[2], NULL) < 0)
		return 0;
	for (unsigned i = 0; i < 64; i++) {
		int r = vq_pop(&q, &c);

		if (r <= 0) {
			require(r == 0 || q.broken);
			break;
		}
		check_chain(ram, &q, &c);
		/* A device's data may overwrite the ring itself. */
		if (write_back)
			vq_write(&c, 1, data, len);
		if (i % 5 == 4) {
			vq_unpop(&q);
			continue;
		}
		vq_push(&q, c.head, (uint32_t)c.write_bytes);
		vq_notify(&q);
		vq_kicks_off(&q);
		vq_kicks_on(&q);
	}
	return 0;
}
