/* An honest driver, as small as can be: it finds out whether the device still works. */
#include "tests/hostile/guest.h"

#define SPINS 400000000u /* far more than any answer takes */

#define S_START 3u /* ACKNOWLEDGE, DRIVER */
#define S_FEATURES_OK 8u
#define S_DRIVER_OK 4u

uint64_t drv_features(const struct slot *s)
{
	uint64_t f;

	write32(s, R_DEVICE_FEATURES_SEL, 1);
	f = (uint64_t)read32(s, R_DEVICE_FEATURES) << 32;
	write32(s, R_DEVICE_FEATURES_SEL, 0);
	return f | read32(s, R_DEVICE_FEATURES);
}

static void set_queue(const struct slot *s, unsigned q, uint32_t num)
{
	uint32_t max, at = (uint32_t)(uintptr_t)ring(q);

	write32(s, R_QUEUE_SEL, q);
	max = read32(s, R_QUEUE_NUM_MAX);
	if (!max)
		return;
	write32(s, R_QUEUE_NUM, num < max ? num : max);
	write32(s, R_QUEUE_DESC, at);
	write32(s, R_QUEUE_DESC + 4, 0);
	write32(s, R_QUEUE_DRIVER, at + RING_AVAIL);
	write32(s, R_QUEUE_DRIVER + 4, 0);
	write32(s, R_QUEUE_DEVICE, at + RING_USED);
	write32(s, R_QUEUE_DEVICE + 4, 0);
	write32(s, R_QUEUE_READY, 1);
}

bool drv_start(const struct slot *s, uint64_t features, uint32_t num)
{
	write32(s, R_STATUS, 0);
	if (read32(s, R_STATUS))
		return false;
	write32(s, R_STATUS, S_START);
	write32(s, R_DRIVER_FEATURES_SEL, 1);
	write32(s, R_DRIVER_FEATURES, (uint32_t)(features >> 32));
	write32(s, R_DRIVER_FEATURES_SEL, 0);
	write32(s, R_DRIVER_FEATURES, (uint32_t)features);
	write32(s, R_STATUS, S_START | S_FEATURES_OK);
	if (!(read32(s, R_STATUS) & S_FEATURES_OK))
		return false;
	for (unsigned q = 0; q < QUEUES; q++)
		set_queue(s, q, num);
	write32(s, R_STATUS, S_START | S_FEATURES_OK | S_DRIVER_OK);
	return read32(s, R_STATUS) & S_DRIVER_OK;
}

/* ---- one request */

static volatile uint16_t *used_idx(unsigned q)
{
	return (volatile uint16_t *)(void *)(ring(q) + RING_USED + 2);
}

/* Offers the chain that begins at descriptor 0 of a new ring. */
static void offer(const struct slot *s, unsigned q)
{
	volatile uint16_t *avail = (volatile uint16_t *)(void *)(ring(q) + RING_AVAIL);

	avail[2] = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	avail[1] = 1;
	write32(s, R_QUEUE_NOTIFY, q);
}

static bool answered(unsigned q)
{
	for (uint32_t i = 0; i < SPINS; i++) {
		if (*used_idx(q) == 1)
			return true;
		pause_cpu();
	}
	return false;
}

static void clear_rings(void)
{
	for (unsigned q = 0; q < QUEUES; q++)
		for (unsigned i = 0; i < RING_BYTES; i += 8)
			*(volatile uint64_t *)(void *)(ring(q) + i) = 0;
}

static uint64_t data(unsigned off)
{
	return arena + DATA_OFF + off;
}

static void put(unsigned q, unsigned i, uint64_t addr, uint32_t len, uint16_t flags)
{
	struct desc *d = (struct desc *)(void *)ring(q);

	d[i] = (struct desc){addr, len, flags, (uint16_t)(i + 1)};
}

static bool rng_works(const struct slot *s)
{
	put(0, 0, data(0), 16, DESC_WRITE);
	offer(s, 0);
	return answered(0);
}

/* Its serial: that every disk answers, the empty one too. */
static bool block_works(const struct slot *s)
{
	volatile uint32_t *h = (volatile uint32_t *)(uintptr_t)data(0);
	volatile uint8_t *status = (volatile uint8_t *)(uintptr_t)data(64);

	h[0] = 8; /* VIRTIO_BLK_T_GET_ID */
	h[1] = h[2] = h[3] = 0;
	*status = 0xff;
	put(0, 0, data(0), 16, DESC_NEXT);
	put(0, 1, data(32), 20, DESC_NEXT | DESC_WRITE);
	put(0, 2, data(64), 1, DESC_WRITE);
	offer(s, 0);
	return answered(0) && *status == 0;
}

/* Data for a stream that does not exist is answered with a reset. */
static bool vsock_works(const struct slot *s)
{
	volatile uint32_t *h = (volatile uint32_t *)(uintptr_t)data(0);
	volatile uint8_t *answer = (volatile uint8_t *)(uintptr_t)data(4096);

	for (unsigned i = 0; i < 11; i++)
		h[i] = 0;
	h[0] = 3;	    /* src_cid */
	h[2] = 2;	    /* dst_cid */
	h[4] = 77;	    /* src_port */
	h[5] = 78;	    /* dst_port */
	h[7] = 1 | 5 << 16; /* type stream, op RW */
	for (unsigned i = 0; i < 44; i++)
		answer[i] = 0;
	put(0, 0, data(4096), 4096, DESC_WRITE);
	offer(s, 0);
	put(1, 0, data(0), 44, 0);
	offer(s, 1);
	return answered(1) && answered(0) && answer[30] == 3 /* RST */;
}

/* A packet out; a card without a TAP takes it too. */
static bool net_works(const struct slot *s)
{
	volatile uint8_t *p = (volatile uint8_t *)(uintptr_t)data(0);

	for (unsigned i = 0; i < 12 + 60; i++)
		p[i] = 0;
	put(1, 0, data(0), 12 + 60, 0);
	offer(s, 1);
	return answered(1);
}

/* One page of the arena goes and comes back. */
static bool balloon_works(const struct slot *s)
{
	*(volatile uint32_t *)(uintptr_t)data(0) = (uint32_t)(data(1u << 20) >> 12);
	put(0, 0, data(0), 4, 0);
	offer(s, 0);
	if (!answered(0))
		return false;
	put(1, 0, data(0), 4, 0);
	offer(s, 1);
	return answered(1);
}

bool drv_works(const struct slot *s)
{
	write32(s, R_STATUS, 0);
	if (read32(s, R_STATUS))
		return false;
	clear_rings();
	if (!drv_start(s, UINT64_C(1) << F_VERSION_1, 16))
		return false;
	switch (s->id) {
	case ID_RNG:
		return rng_works(s);
	case ID_BLOCK:
		return block_works(s);
	case ID_VSOCK:
		return vsock_works(s);
	case ID_NET:
		return net_works(s);
	case ID_BALLOON:
		return balloon_works(s);
	default: /* virtio-fs: another process answers, and may refuse */
		return true;
	}
}
