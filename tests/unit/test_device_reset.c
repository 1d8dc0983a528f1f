/*
 * Devices across resets and new probes, by virtio-mmio: what is in flight when a guest resets is
 * over when its write returns, whatever the device was doing; the next driver finds it as new; and
 * nothing is left behind (setup and teardown count descriptors, tests count threads).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/virtio_blk.h>

#include "tests/unit/mmio_guest.h"
#include "tests/unit/threads.h"
#include "vmm/source.h"
#include "vmm/virtio/balloon.h"
#include "vmm/virtio/blk.h"

#define ROUNDS 50u
#define DATA (RING_DATA + 0x1000)
#define STATUS (RING_DATA + 0x800)
#define PENDING 0xee

static unsigned fds_before;

static unsigned open_fds(void)
{
	cleanup_dir DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	return n;
}

static int setup(void **state)
{
	fds_before = open_fds();
	assert_int_equal(threads_settled(1), 1);
	*state = machine_new();
	return 0;
}

static int teardown(void **state)
{
	machine_free(*state);
	return open_fds() == fds_before ? 0 : -1;
}

static void kick(struct machine *m, int slot, uint32_t q)
{
	uint64_t one = 1;

	for (unsigned i = 0; i < m->nio; i++) {
		const struct io *io = &m->io[i];

		if (io->slot == (unsigned)slot && io->off == MMIO_QUEUE_NOTIFY && io->value == q)
			assert_int_equal(write(io->fd, &one, sizeof(one)), sizeof(one));
	}
}

static void reset(struct machine *m, int slot)
{
	mmio_w32(m, slot, MMIO_STATUS, 0);
	assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0);
}

static void leave(struct machine *m, int slot, struct virtio_device *d)
{
	reset(m, slot);
	machine_unplug(m, d);
	assert_int_equal(ring_calls(m->gone_fd, RING_WAIT_MS), 1);
	d->ops->destroy(d);
}

static void wait_used(struct machine *m, int slot, uint16_t n)
{
	ring_await(&m->r, n, m->irq[slot]);
	assert_int_equal(ring_used_idx(&m->r), n);
}

/* ---- a disk whose reads take their time and then write to guest memory */

struct slow {
	struct block_source s;
	unsigned us, reads, inside;
};

static int slow_readv(struct block_source *s, const struct iovec *iov, unsigned n,
		      UNUSED uint64_t off)
{
	struct slow *w = (struct slow *)s;

	__atomic_fetch_add(&w->inside, 1, __ATOMIC_SEQ_CST);
	usleep(w->us);
	for (unsigned i = 0; i < n; i++)
		memset(iov[i].iov_base, 'r', iov[i].iov_len);
	__atomic_fetch_add(&w->reads, 1, __ATOMIC_SEQ_CST);
	__atomic_fetch_sub(&w->inside, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void slow_destroy(UNUSED struct block_source *s)
{
}

static const struct block_source_ops slow_ops = {.readv = slow_readv, .destroy = slow_destroy};

static struct slow slow_source(unsigned us)
{
	return (struct slow){.s = {.ops = &slow_ops, .bytes = 1 << 20, .readonly = true}, .us = us};
}

static struct virtio_device *disk(struct machine *m, struct slow *w,
				  const struct ratelimit_config *limit)
{
	struct virtio_device *d = blk_new(m->loop, true, NULL);

	if (limit)
		blk_limit(d, limit);
	assert_int_equal(blk_attach(d, "disk", &w->s, NULL), 0);
	return d;
}

static void offer_reads(struct machine *m, int slot, unsigned n)
{
	struct virtio_blk_outhdr h = {.type = VIRTIO_BLK_T_IN};

	memcpy(m->r.ram + RING_DATA, &h, sizeof(h));
	m->r.ram[STATUS] = PENDING;
	ring_put(&m->r, 0, RING_DATA, sizeof(h), RING_NEXT, 1);
	ring_put(&m->r, 1, DATA, 512, RING_NEXT | RING_WRITE, 2);
	ring_put(&m->r, 2, STATUS, 1, RING_WRITE, 0);
	for (unsigned i = 0; i < n; i++)
		ring_offer(&m->r, 0);
	kick(m, slot, 0);
}

static void requests_in_flight_are_over_when_the_reset_is(void **state)
{
	struct machine *m = *state;
	struct slow w = slow_source(2000);
	struct virtio_device *d = disk(m, &w, NULL);
	int slot = machine_plug(m, d);
	unsigned before = threads();

	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned reads;

		drv_start(m, slot);
		offer_reads(m, slot, 10);
		if (i % 2)
			while (__atomic_load_n(&w.inside, __ATOMIC_SEQ_CST) == 0)
				usleep(100);
		reset(m, slot);
		assert_int_equal(__atomic_load_n(&w.inside, __ATOMIC_SEQ_CST), 0);
		/* The memory is the guest's again: nobody writes to it. */
		reads = __atomic_load_n(&w.reads, __ATOMIC_SEQ_CST);
		memset(m->r.ram, 0x55, RING_RAM);
		if (i % 10 == 0)
			usleep(5000);
		assert_int_equal(__atomic_load_n(&w.reads, __ATOMIC_SEQ_CST), reads);
		for (unsigned k = 0; k < RING_RAM; k += 64)
			assert_int_equal(m->r.ram[k], 0x55);
	}
	assert_int_equal(threads_settled(before), before);
	drv_start(m, slot);
	offer_reads(m, slot, 3);
	wait_used(m, slot, 3);
	assert_int_equal(m->r.ram[STATUS], VIRTIO_BLK_S_OK);
	leave(m, slot, d);
}

static void a_limited_disk_is_reset_at_once(void **state)
{
	struct machine *m = *state;
	struct ratelimit_config limit = {.ops_per_s = 1, .ops_burst = 1};
	struct slow w = slow_source(0);
	struct virtio_device *d = disk(m, &w, &limit);
	int slot = machine_plug(m, d);
	uint64_t before = now_us(), took_s;

	for (unsigned i = 0; i < ROUNDS; i++) {
		drv_start(m, slot);
		offer_reads(m, slot, 16);
		reset(m, slot);
	}
	leave(m, slot, d);
	/* A second of debt in each round was nobody's to wait for, and a reset buys nothing. */
	took_s = (now_us() - before) / 1000000;
	assert_true(took_s < ROUNDS / 2);
	assert_true(w.reads <= 2 + took_s);
}

static void a_disk_comes_and_goes_while_its_driver_does(void **state)
{
	struct machine *m = *state;
	unsigned before = threads();

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct slow w = slow_source(100);
		struct virtio_device *d = disk(m, &w, NULL);
		int slot = machine_plug(m, d);

		drv_start(m, slot);
		offer_reads(m, slot, 5);
		if (i % 2)
			wait_used(m, slot, 5);
		leave(m, slot, d);
		assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), 0);
	}
	assert_int_equal(threads_settled(before), before);
}

/* ---- a balloon with more to do than it does in a round */

static void a_balloon_is_reset_in_its_rounds(void **state)
{
	struct machine *m = *state;
	struct virtio_device *d = balloon_new(m->loop, NULL);
	int slot;

	m->r.mem.r[0].fd = m->r.fd;
	slot = machine_plug(m, d);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), VIRTIO_ID_BALLOON);
	for (unsigned i = 0; i < ROUNDS; i++) {
		drv_negotiate(m, slot, i % 2 ? 1u << 5 : 0);
		memset(m->r.ram, 0, RING_DATA);
		for (uint32_t q = 0; q < 3; q++)
			drv_queue(m, slot, q, q * 0x200);
		/* Reports of 8 separate pages each, on the third queue. */
		for (uint16_t k = 0; k < 8; k++)
			ring_desc_at(&m->r, RING_DESC + 0x400)[k] =
				(struct ring_desc){RING_DATA + 0x10000u + k * 8192u, 4096,
						   k < 7 ? RING_WRITE | RING_NEXT : RING_WRITE,
						   (uint16_t)(k + 1)};
		*ring_u16(&m->r, RING_AVAIL + 0x400 + 2) = 16;
		drv_go(m, slot);
		kick(m, slot, 2);
		if (i % 3 == 0)
			machine_settle(m);
		reset(m, slot);
		memset(m->r.ram, 0x55, RING_RAM);
		if (i % 10 == 0)
			usleep(5000);
		machine_settle(m);
		for (unsigned k = 0; k < RING_RAM; k += 64)
			assert_int_equal(m->r.ram[k], 0x55);
	}
	leave(m, slot, d);
}

static void a_vsock_forgets_its_queues(void **state)
{
	struct machine *m = *state;
	struct virtio_device *d = vsock_new(m->loop, NULL);
	int slot = machine_plug(m, d);

	for (unsigned i = 0; i < ROUNDS; i++) {
		drv_negotiate(m, slot, 0);
		memset(m->r.ram, 0, RING_DATA);
		for (uint32_t q = 0; q < 3; q++)
			drv_queue(m, slot, q, q * 0x200);
		/* Empty buffers to fill, and a packet that is none. */
		ring_put(&m->r, 0, RING_DATA, 4096, RING_WRITE, 0);
		ring_offer(&m->r, 0);
		ring_desc_at(&m->r, RING_DESC + 0x200)[0] =
			(struct ring_desc){RING_DATA + 0x2000, 44, 0, 0};
		*ring_u16(&m->r, RING_AVAIL + 0x200 + 2) = 1;
		drv_go(m, slot);
		kick(m, slot, 0);
		kick(m, slot, 1);
		if (i % 2)
			machine_settle(m);
		reset(m, slot);
		memset(m->r.ram, 0x55, RING_RAM);
		machine_settle(m);
		for (unsigned k = 0; k < RING_RAM; k += 64)
			assert_int_equal(m->r.ram[k], 0x55);
	}
	leave(m, slot, d);
}

static void a_generator_gives_nothing_after_its_reset(void **state)
{
	struct machine *m = *state;
	struct virtio_device *d = rng_new(m->loop, NULL);
	int slot = machine_plug(m, d);

	for (unsigned i = 0; i < ROUNDS; i++) {
		drv_start(m, slot);
		/* More than its ration: it waits for a timer when the reset comes. */
		ring_put(&m->r, 0, DATA, 4096, RING_WRITE, 0);
		for (unsigned k = 0; k < 16; k++)
			ring_offer(&m->r, 0);
		kick(m, slot, 0);
		if (i % 2)
			machine_settle(m);
		reset(m, slot);
		memset(m->r.ram, 0x55, RING_RAM);
		if (i % 10 == 0)
			usleep(20000);
		machine_settle(m);
		for (unsigned k = 0; k < RING_RAM; k += 64)
			assert_int_equal(m->r.ram[k], 0x55);
	}
	leave(m, slot, d);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(requests_in_flight_are_over_when_the_reset_is),
		T(a_limited_disk_is_reset_at_once),
		T(a_disk_comes_and_goes_while_its_driver_does),
		T(a_balloon_is_reset_in_its_rounds),
		T(a_vsock_forgets_its_queues),
		T(a_generator_gives_nothing_after_its_reset),
	};

	return cmocka_run_group_tests_name("device reset", tests, NULL, NULL);
}
