/*
 * ring.h - the driver's side of a virtqueue, for tests: guest memory in a memfd, one split ring in
 * it, and helpers that write descriptors as a driver would (or as none would).
 */
#ifndef HUSK_TESTS_RING_H
#define HUSK_TESTS_RING_H

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtqueue.h"

#define RING_RAM (1u << 20) /* bytes of guest memory, at guest physical 0 */
#define RING_DESC 0x1000u   /* VQ_SIZE_MAX descriptors fit */
#define RING_AVAIL 0x5000u
#define RING_USED 0x6000u
#define RING_DATA 0x10000u /* from here on it is the test's */

#define RING_WAIT_MS 60000 /* the bound of a wait, however busy the machine is */

#define RING_NEXT 1
#define RING_WRITE 2
#define RING_INDIRECT 4

struct ring_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct test_ring {
	struct guest_mem mem;
	uint8_t *ram;
	int fd;
	uint16_t size;
};

static inline void test_ring_init(struct test_ring *r, uint16_t size)
{
	memset(r, 0, sizeof(*r));
	r->size = size;
	r->fd = memfd_create("guest", MFD_CLOEXEC);
	if (r->fd < 0 || ftruncate(r->fd, RING_RAM) < 0 ||
	    mem_add(&r->mem, 0, RING_RAM, 0x7f0000000000, r->fd, 0, NULL) < 0)
		abort();
	r->ram = mem_at(&r->mem, 0, RING_RAM);
}

static inline void test_ring_free(struct test_ring *r)
{
	mem_clear(&r->mem);
	close_fd(&r->fd);
}

static inline int test_ring_setup(struct test_ring *r, struct virtqueue *q, uint16_t last_avail)
{
	return vq_setup(q, &r->mem, r->size, r->ram + RING_DESC, r->ram + RING_AVAIL,
			r->ram + RING_USED, last_avail, NULL);
}

static inline uint16_t *ring_u16(struct test_ring *r, uint32_t at)
{
	return (uint16_t *)(void *)(r->ram + at);
}

static inline struct ring_desc *ring_desc_at(struct test_ring *r, uint32_t at)
{
	return (struct ring_desc *)(void *)(r->ram + at);
}

static inline void ring_put(struct test_ring *r, uint16_t i, uint64_t addr, uint32_t len,
			    uint16_t flags, uint16_t next)
{
	ring_desc_at(r, RING_DESC)[i] = (struct ring_desc){addr, len, flags, next};
}

static inline void ring_offer(struct test_ring *r, uint16_t head)
{
	uint16_t *idx = ring_u16(r, RING_AVAIL + 2);

	ring_u16(r, RING_AVAIL + 4)[*idx % r->size] = head;
	__atomic_store_n(idx, (uint16_t)(*idx + 1), __ATOMIC_RELEASE);
}

static inline uint16_t ring_used_idx(struct test_ring *r)
{
	return __atomic_load_n(ring_u16(r, RING_USED + 2), __ATOMIC_ACQUIRE);
}

/* {id, len} of used entry i */
static inline uint32_t *ring_used(struct test_ring *r, uint16_t i)
{
	return (uint32_t *)(void *)(r->ram + RING_USED + 4) + 2u * (i % r->size);
}

static inline uint16_t *ring_used_event(struct test_ring *r)
{
	return ring_u16(r, RING_AVAIL + 4 + 2u * r->size);
}

static inline uint16_t *ring_avail_event(struct test_ring *r)
{
	return ring_u16(r, RING_USED + 4 + 8u * r->size);
}

/* How often an eventfd was written since it was last asked; waits `ms` for the first. */
static inline uint64_t ring_calls(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n = 0;

	if (poll(&p, 1, ms) > 0 && read(fd, &n, sizeof(n)) != sizeof(n))
		return 0;
	return n;
}

/* Waits until the device has returned chains up to `until`, which it tells by `call`. */
static inline bool ring_await(struct test_ring *r, uint16_t until, int call)
{
	uint64_t end = now_us() + RING_WAIT_MS * UINT64_C(1000);

	while (ring_used_idx(r) != until && now_us() < end)
		ring_calls(call, 100);
	return ring_used_idx(r) == until;
}

#endif
