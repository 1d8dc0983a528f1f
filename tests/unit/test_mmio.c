/*
 * virtio over MMIO: slots, their devices and what a driver sees of them. The loop runs in a second
 * thread, the test is the guest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <linux/virtio_blk.h>

#include "tests/unit/mmio_guest.h"
#include "vmm/source.h"

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
	*state = machine_new();
	return 0;
}

static int teardown(void **state)
{
	machine_free(*state);
	return open_fds() == fds_before ? 0 : -1;
}

/* The kernel's part: a guest's write that never reaches mmio_write(). */
static void kick(struct machine *m, unsigned slot, uint32_t q)
{
	uint64_t one = 1;

	for (unsigned i = 0; i < m->nio; i++) {
		const struct io *io = &m->io[i];

		if (io->slot != slot || io->off != MMIO_QUEUE_NOTIFY || io->value != q)
			continue;
		assert_int_equal(write(io->fd, &one, sizeof(one)), sizeof(one));
		return;
	}
	fail_msg("no ioeventfd for queue %u of slot %u", q, slot);
}

static bool gone(struct machine *m, int ms)
{
	return ring_calls(m->gone_fd, ms) == 1;
}

/* ---- real devices */

static void rng_gives(struct machine *m, int slot)
{
	uint16_t before = ring_used_idx(&m->r);
	static const uint8_t zeros[64];

	memset(m->r.ram + RING_DATA, 0, sizeof(zeros));
	ring_put(&m->r, 0, RING_DATA, sizeof(zeros), RING_WRITE, 0);
	ring_offer(&m->r, 0);
	kick(m, (unsigned)slot, 0);
	assert_int_equal(ring_calls(m->irq[slot], RING_WAIT_MS), 1);
	assert_int_equal(ring_used_idx(&m->r), before + 1);
	assert_int_equal(ring_used(&m->r, before)[1], sizeof(zeros));
	assert_memory_not_equal(m->r.ram + RING_DATA, zeros, sizeof(zeros));
}

static void a_driver_uses_a_device(void **state)
{
	struct machine *m = *state;
	struct virtio_device *d = rng_new(m->loop, NULL);
	int slot = machine_plug(m, d);

	assert_int_equal(slot, 0);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), VIRTIO_ID_RNG);
	assert_int_equal(mmio_r32(m, slot, MMIO_QUEUE_NUM_MAX), 256);
	drv_start(m, slot);
	rng_gives(m, slot);
	assert_int_equal(mmio_r32(m, slot, MMIO_INTERRUPT_STATUS), MMIO_INT_USED);
	mmio_w32(m, slot, MMIO_STATUS, 0);
	machine_unplug(m, d);
	assert_true(gone(m, RING_WAIT_MS));
	d->ops->destroy(d);
}

static void a_device_survives_resets_and_new_probes(void **state)
{
	struct machine *m = *state;
	struct virtio_device *d = rng_new(m->loop, NULL);
	int slot = machine_plug(m, d);

	for (unsigned i = 0; i < 50; i++) {
		drv_start(m, slot);
		if (i % 3)
			rng_gives(m, slot);
		if (i % 2)
			mmio_w32(m, slot, MMIO_STATUS, 0);
		assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), i % 2 ? 0 : 0xf);
	}
	mmio_w32(m, slot, MMIO_STATUS, 0);
	machine_unplug(m, d);
	assert_true(gone(m, RING_WAIT_MS));
	d->ops->destroy(d);
}

static void disk_reads(struct machine *m, int slot, const char *want)
{
	struct virtio_blk_outhdr h = {.type = VIRTIO_BLK_T_IN, .sector = 1};
	uint8_t *data = m->r.ram + RING_DATA;

	memcpy(data, &h, sizeof(h));
	data[1024] = 0xff;
	ring_put(&m->r, 0, RING_DATA, sizeof(h), RING_NEXT, 1);
	ring_put(&m->r, 1, RING_DATA + 512, 512, RING_NEXT | RING_WRITE, 2);
	ring_put(&m->r, 2, RING_DATA + 1024, 1, RING_WRITE, 0);
	ring_offer(&m->r, 0);
	kick(m, (unsigned)slot, 0);
	assert_int_equal(ring_calls(m->irq[slot], RING_WAIT_MS), 1);
	assert_int_equal(data[1024], VIRTIO_BLK_S_OK);
	assert_string_equal((char *)data + 512, want);
}

static void disks_come_and_go_by_their_slot(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < 20; i++) {
		struct virtio_device *d = blk_new(m->loop, false, NULL);
		int fd = memfd_create("disk", MFD_CLOEXEC), slot;
		char text[16];

		snprintf(text, sizeof(text), "disk %u", i);
		assert_int_equal(ftruncate(fd, 512 * (10 + i)), 0);
		assert_int_equal(pwrite(fd, text, sizeof(text), 512), sizeof(text));
		assert_int_equal(
			blk_attach(d, "serial", source_file_new(fd, false, true, NULL), NULL), 0);
		assert_int_equal(mmio_r32(m, 0, MMIO_DEVICE_ID), 0);
		slot = machine_plug(m, d);
		assert_int_equal(slot, 0);
		assert_int_equal(mmio_r32(m, 0, MMIO_DEVICE_ID), VIRTIO_ID_BLOCK);
		assert_int_equal(mmio_r32(m, 0, MMIO_CONFIG), 10 + i); /* capacity */
		drv_start(m, slot);
		disk_reads(m, slot, text);
		mmio_w32(m, slot, MMIO_STATUS, 0);
		mmio_w32(m, slot, MMIO_STATUS, VIRTIO_S_ACKNOWLEDGE);
		machine_unplug(m, d);
		assert_true(gone(m, RING_WAIT_MS));
		d->ops->destroy(d);
	}
	/* Made once, used twenty times. */
	assert_int_equal(m->nio, 2);
}

/* ---- slots */

static void a_device_in_use_leaves_when_the_guest_lets_go(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	drv_start(m, slot);
	machine_unplug(m, &m->fake[0].d);
	machine_settle(m);
	assert_false(gone(m, 0));
	assert_true(m->fake[0].on[0]);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), 42);
	mmio_w32(m, slot, MMIO_STATUS, 0);
	assert_true(gone(m, RING_WAIT_MS));
	assert_ptr_equal(m->gone, &m->fake[0].d);
	assert_null(m->fake[0].d.config_changed);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), 0);
	/* What Linux does next finds an empty slot. */
	mmio_w32(m, slot, MMIO_STATUS, VIRTIO_S_ACKNOWLEDGE);
	assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0);
}

static void a_device_that_was_not_started_leaves_at_its_reset(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	drv_negotiate(m, slot, 0);
	machine_unplug(m, &m->fake[0].d);
	machine_settle(m);
	assert_false(gone(m, 0));
	mmio_w32(m, slot, MMIO_STATUS, 0);
	assert_true(gone(m, RING_WAIT_MS));
	assert_int_equal(m->fake[0].starts, 0);
}

static void slots_run_out_and_are_used_again(void **state)
{
	struct machine *m = *state;

	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(machine_plug(m, &m->fake[i].d), i);
	assert_int_equal(machine_plug(m, &m->fake[SLOTS].d), -1);
	assert_string_equal(m->err.msg, "fake: all 4 slots are in use");
	assert_int_equal(m->err.kind, ERR_NO_ROOM);
	machine_unplug(m, &m->fake[2].d);
	assert_true(gone(m, RING_WAIT_MS));
	assert_int_equal(machine_plug(m, &m->fake[SLOTS].d), 2);
}

static void a_kernel_that_gives_no_interrupt_fails_the_plug(void **state)
{
	struct machine *m = *state;

	m->kernel_is_full = true;
	assert_int_equal(machine_plug(m, &m->fake[0].d), -1);
	assert_string_equal(m->err.msg, "virtio-mmio slot 0: fake: no more interrupts");
	assert_int_equal(mmio_r32(m, 0, MMIO_DEVICE_ID), 0);
	m->kernel_is_full = false;
	assert_int_equal(machine_plug(m, &m->fake[0].d), 0);
}

static void slots_do_not_share_state(void **state)
{
	struct machine *m = *state;
	int a = machine_plug(m, &m->fake[0].d), b = machine_plug(m, &m->fake[1].d);

	drv_start(m, a);
	machine_settle(m);
	assert_true(m->fake[0].on[0]);
	assert_false(m->fake[1].on[0]);
	assert_int_equal(mmio_r32(m, b, MMIO_STATUS), 0);
	assert_int_not_equal(m->irq[a], m->irq[b]);
}

static void a_hidden_device_is_no_device_before_it_is_revealed(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug_hidden(m, &m->fake[0].d);
	int other = machine_plug(m, &m->fake[1].d);

	assert_int_equal(slot, 0);
	assert_int_equal(other, 1);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), 0);
	assert_null(m->fake[0].d.config_changed);
	for (uint32_t status = 1; status <= 0xf; status = status << 1 | 1)
		mmio_w32(m, slot, MMIO_STATUS, status);
	machine_settle(m);
	assert_int_equal(m->fake[0].starts, 0);
	assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_FEATURES), 0);

	machine_do(m, machine_reveal_fn);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), m->fake[0].d.ops->id);
	drv_start(m, slot);
	machine_settle(m);
	machine_do(m, machine_reveal_fn); /* changes nothing of what is seen */
	machine_settle(m);
	assert_true(m->fake[0].on[0]);
	assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0xf);
}

static void a_hidden_device_leaves_unseen(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug_hidden(m, &m->fake[0].d);

	machine_unplug(m, &m->fake[0].d);
	assert_true(gone(m, RING_WAIT_MS));
	machine_do(m, machine_reveal_fn);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), 0);
	assert_int_equal(machine_plug(m, &m->fake[1].d), slot);
	assert_int_equal(mmio_r32(m, slot, MMIO_DEVICE_ID), m->fake[1].d.ops->id);
}

static void accesses_outside_of_the_slots_are_ignored(void **state)
{
	static const uint64_t off[] = {SLOTS * MMIO_SLOT_BYTES, UINT64_MAX, UINT64_MAX - 4095,
				       MMIO_SLOT_BYTES - 4, SLOTS * MMIO_SLOT_BYTES - 1};
	struct machine *m = *state;
	uint64_t v = UINT64_MAX;

	machine_plug(m, &m->fake[0].d);
	for (unsigned i = 0; i < ARRAY_LEN(off); i++) {
		mmio_write(m->bus, off[i], &v, sizeof(v));
		mmio_read(m->bus, off[i], &v, sizeof(v));
		assert_int_equal(v, 0);
		v = UINT64_MAX;
	}
}

/* ---- starting */

static void only_queues_that_are_ready_run(void **state)
{
	struct machine *m = *state;
	struct fake *f = &m->fake[0];
	int slot = machine_plug(m, &f->d);

	drv_negotiate(m, slot, 1u << VIRTIO_F_EVENT_IDX | 0x20);
	drv_queue(m, slot, 1, 0);
	drv_go(m, slot);
	machine_settle(m);
	assert_false(f->on[0]);
	assert_true(f->on[1]);
	assert_true(f->seen[1].event_idx);
	assert_false(f->seen[1].indirect);
	assert_int_equal(f->seen[1].size, m->r.size);
	assert_ptr_equal(f->seen[1].used, m->r.ram + RING_USED);
	assert_true(virtio_has(&f->d, 5));
	assert_false(virtio_has(&f->d, 0));
}

static void kicks_from_before_the_start_are_kept(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	drv_negotiate(m, slot, 0);
	drv_queue(m, slot, 1, 0);
	kick(m, (unsigned)slot, 1);
	mmio_w32(m, slot, MMIO_QUEUE_NOTIFY, 1); /* the slow way */
	drv_go(m, slot);
	machine_settle(m);
	assert_int_equal(ring_calls(m->fake[0].seen[1].kick_fd, 0), 2);
}

static void kicks_are_not_inherited(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	kick(m, (unsigned)slot, 0);
	machine_unplug(m, &m->fake[0].d);
	assert_true(gone(m, RING_WAIT_MS));
	assert_int_equal(machine_plug(m, &m->fake[1].d), slot);
	assert_int_equal(ring_calls(m->fake[1].d.vq[0].kick_fd, 0), 0);
}

static void expect_needs_reset(struct machine *m, int slot)
{
	assert_int_equal(ring_calls(m->irq[slot], RING_WAIT_MS), 1);
	assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0xf | VIRTIO_S_NEEDS_RESET);
	assert_int_equal(mmio_r32(m, slot, MMIO_INTERRUPT_STATUS), 3);
	assert_false(m->fake[slot].on[0] || m->fake[slot].on[1]);
}

static void a_ring_outside_of_memory_needs_a_reset(void **state)
{
	static const struct {
		uint32_t reg, value;
	} bad[] = {{MMIO_QUEUE_DESC_LOW, RING_RAM - 16},   {MMIO_QUEUE_DESC_HIGH, 1},
		   {MMIO_QUEUE_DRIVER_HIGH, UINT32_MAX},   {MMIO_QUEUE_DRIVER_LOW, RING_RAM - 2},
		   {MMIO_QUEUE_DEVICE_LOW, RING_RAM - 64}, {MMIO_QUEUE_DEVICE_LOW, RING_USED + 1},
		   {MMIO_QUEUE_DESC_LOW, RING_DESC + 8}};
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		drv_negotiate(m, slot, 0);
		drv_queue(m, slot, 0, 0);
		drv_queue(m, slot, 1, 0);
		mmio_w32(m, slot, MMIO_QUEUE_READY, 0);
		mmio_w32(m, slot, bad[i].reg, bad[i].value);
		mmio_w32(m, slot, MMIO_QUEUE_READY, 1);
		drv_go(m, slot);
		expect_needs_reset(m, slot);
		mmio_w32(m, slot, MMIO_STATUS, 0);
		assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0);
	}
	drv_start(m, slot);
	machine_settle(m);
	assert_true(m->fake[0].on[0]);
}

static void a_device_that_cannot_start_needs_a_reset(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	m->fake[0].refuses = true;
	drv_negotiate(m, slot, 0);
	drv_queue(m, slot, 0, 0);
	drv_queue(m, slot, 1, 0);
	drv_go(m, slot);
	expect_needs_reset(m, slot);
	assert_int_equal(m->fake[0].starts, 1);
	assert_int_equal(m->fake[0].stops, 1);
}

/* ---- resets */

static void a_reset_is_over_when_its_write_returns(void **state)
{
	struct machine *m = *state;
	struct fake *f = &m->fake[0];
	int slot = machine_plug(m, &f->d);

	for (unsigned i = 1; i <= 200; i++) {
		drv_start(m, slot);
		if (i % 2)
			machine_settle(m); /* else it may not even have started */
		mmio_w32(m, slot, MMIO_STATUS, 0);
		assert_false(f->on[0]);
		assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0);
		assert_int_equal(mmio_r32(m, slot, MMIO_INTERRUPT_STATUS), 0);
		assert_int_equal(f->d.acked, 0);
	}
	assert_true(f->starts >= 100);
	assert_int_equal(f->starts, f->stops);
}

static int resetter_wants;

static void *resetter(void *arg)
{
	struct machine *m = arg;

	__atomic_store_n(&resetter_wants, 1, __ATOMIC_RELEASE);
	mmio_w32(m, 0, MMIO_STATUS, 0);
	return NULL;
}

/* In the loop's thread, so that nobody serves the reset meanwhile. */
static void start_and_wake_a_resetter(struct machine *m)
{
	pthread_t t;

	resetter_wants = 0;
	if (pthread_create(&t, NULL, resetter, m))
		abort();
	while (!__atomic_load_n(&resetter_wants, __ATOMIC_ACQUIRE))
		sched_yield();
	mmio_wake_all(m->bus);
	pthread_join(t, NULL);
}

static void nobody_waits_when_the_machine_ends(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	drv_start(m, slot);
	machine_do(m, start_and_wake_a_resetter);
}

/* ---- the configuration space */

static void change_config_fn(struct machine *m)
{
	struct fake *f = &m->fake[0];

	memset(f->config, f->config[0] + 1, sizeof(f->config));
	f->d.config_changed(&f->d, f->d.transport);
}

static void a_change_of_the_configuration_is_told(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);
	uint32_t gen;

	drv_start(m, slot);
	machine_settle(m);
	assert_int_equal(ring_calls(m->irq[slot], 0), 0);
	gen = mmio_r32(m, slot, MMIO_CONFIG_GENERATION);
	machine_do(m, change_config_fn);
	assert_int_equal(ring_calls(m->irq[slot], 0), 1);
	assert_int_equal(mmio_r32(m, slot, MMIO_INTERRUPT_STATUS), 3);
	assert_int_not_equal(mmio_r32(m, slot, MMIO_CONFIG_GENERATION), gen);
	assert_int_equal(mmio_r32(m, slot, MMIO_CONFIG + 12), 0x01010101);
	assert_int_equal(mmio_r32(m, slot, MMIO_CONFIG + 16), 0);
	mmio_w32(m, slot, MMIO_INTERRUPT_ACK, 3);
	assert_int_equal(mmio_r32(m, slot, MMIO_INTERRUPT_STATUS), 1);
}

static void a_change_from_before_the_start_is_told_at_the_start(void **state)
{
	struct machine *m = *state;
	int slot = machine_plug(m, &m->fake[0].d);

	machine_do(m, change_config_fn); /* nobody had read it */
	drv_negotiate(m, slot, 0);
	assert_int_equal(mmio_r32(m, slot, MMIO_CONFIG), 0x01010101);
	assert_int_equal(mmio_r32(m, slot, MMIO_INTERRUPT_STATUS), 0);
	machine_do(m, change_config_fn);
	assert_int_equal(ring_calls(m->irq[slot], 0), 0);
	drv_queue(m, slot, 0, 0);
	drv_go(m, slot);
	machine_settle(m);
	assert_int_equal(ring_calls(m->irq[slot], 0), 1);
	assert_int_equal(mmio_r32(m, slot, MMIO_INTERRUPT_STATUS), 3);
}

static void what_the_guest_configures_reaches_the_device(void **state)
{
	struct machine *m = *state;
	struct fake *f = &m->fake[0];
	int slot = machine_plug(m, &f->d);
	static const uint8_t eight[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	mmio_w32(m, slot, MMIO_CONFIG + 8, 0xa5a5a5a5);
	machine_settle(m);
	assert_int_equal(f->config_writes, 1);
	assert_int_equal(mmio_r32(m, slot, MMIO_CONFIG + 8), 0xa5a5a5a5);
	mmio_write(m->bus, MMIO_CONFIG, eight, sizeof(eight));
	mmio_write(m->bus, MMIO_CONFIG + 14, eight, 1);
	machine_settle(m);
	assert_memory_equal(f->config, eight, sizeof(eight));
	assert_int_equal(f->config[13], 0);
	assert_int_equal(f->config[14], 1);
	assert_int_equal(f->config_bytes, 4 + 8 + 1);
	assert_int_equal(ring_calls(m->irq[slot], 0), 0); /* it knows */
}

/* ---- pause */

static void a_pause_stops_the_queues_where_they_are(void **state)
{
	struct machine *m = *state;
	struct fake *f = &m->fake[1];
	struct virtio_device *d = rng_new(m->loop, NULL);
	int slot = machine_plug(m, d);

	machine_plug(m, &f->d); /* in a slot that is not started */
	drv_start(m, slot);
	rng_gives(m, slot);
	rng_gives(m, slot);
	for (unsigned i = 0; i < 3; i++) {
		machine_do(m, machine_pause_fn);
		ring_offer(&m->r, 0);
		kick(m, (unsigned)slot, 0);
		machine_settle(m);
		assert_int_equal(ring_used_idx(&m->r), 2 + 2 * i);
		assert_int_equal(ring_calls(m->irq[slot], 0), 0);
		machine_do(m, machine_resume_fn);
		assert_int_equal(ring_calls(m->irq[slot], RING_WAIT_MS), 1);
		assert_int_equal(ring_used_idx(&m->r), 3 + 2 * i);
		rng_gives(m, slot);
	}
	assert_int_equal(f->starts, 0);
	/* A new probe begins at the ring's start again. */
	drv_start(m, slot);
	rng_gives(m, slot);
	mmio_w32(m, slot, MMIO_STATUS, 0);
	machine_unplug(m, d);
	assert_true(gone(m, RING_WAIT_MS));
	d->ops->destroy(d);
}

static void a_pause_comes_after_what_was_asked_before(void **state)
{
	struct machine *m = *state;
	struct fake *f = &m->fake[0];
	int slot = machine_plug(m, &f->d);

	drv_start(m, slot);
	machine_do(m, machine_pause_fn);
	machine_do(m, machine_pause_fn);
	assert_int_equal(f->starts, f->stops);
	machine_unplug(m, &f->d);
	machine_do(m, machine_resume_fn);
	machine_do(m, machine_resume_fn);
	assert_true(f->on[0]);
	assert_int_equal(mmio_r32(m, slot, MMIO_STATUS), 0xf);
	mmio_w32(m, slot, MMIO_STATUS, 0);
	assert_true(gone(m, RING_WAIT_MS));
}

/* What a disk does when its thread cannot be made. */
static void a_device_that_cannot_go_on_leaves_the_machine_paused(void **state)
{
	struct machine *m = *state;
	struct fake *f = &m->fake[0], *last = &m->fake[1];
	struct virtio_device *d = rng_new(m->loop, NULL);
	int slot = machine_plug(m, &f->d), at, end;

	at = machine_plug(m, d);
	end = machine_plug(m, &last->d);
	drv_start(m, slot);
	drv_start(m, at);
	drv_negotiate(m, end, 0);
	drv_queue(m, end, 0, 0);
	drv_queue(m, end, 1, 0);
	drv_go(m, end);
	rng_gives(m, at);
	machine_do(m, machine_pause_fn);
	last->refuses = true;
	ring_offer(&m->r, 0);
	kick(m, (unsigned)at, 0);
	for (unsigned i = 0; i < 3; i++) {
		machine_do(m, machine_resume_fn);
		assert_int_equal(m->result, -1);
		assert_string_equal(m->err.msg,
				    "virtio-mmio slot 2: fake: ring 1: it does not want to");
		machine_settle(m);
		assert_false(f->on[0] || last->on[0] || last->on[1]);
		assert_int_equal(mmio_r32(m, end, MMIO_STATUS), 0xf);
	}
	last->refuses = false;
	machine_do(m, machine_resume_fn);
	assert_int_equal(m->result, 0);
	assert_true(f->on[0] && last->on[0] && last->on[1]);
	assert_int_equal(ring_calls(m->irq[at], RING_WAIT_MS), 1);
	assert_int_equal(ring_used_idx(&m->r), 2);
	rng_gives(m, at);
	mmio_w32(m, at, MMIO_STATUS, 0);
	machine_unplug(m, d);
	assert_true(gone(m, RING_WAIT_MS));
	d->ops->destroy(d);
}

/* ---- several vCPUs */

#define VCPUS 4
#define WRITES 4000

struct vcpu {
	struct machine *m;
	unsigned seed;
	pthread_t thread;
};

static void *hammer(void *arg)
{
	static const uint32_t off[] = {MMIO_STATUS,	    MMIO_STATUS,
				       MMIO_STATUS,	    MMIO_DRIVER_FEATURES,
				       MMIO_QUEUE_SEL,	    MMIO_QUEUE_NUM,
				       MMIO_QUEUE_READY,    MMIO_QUEUE_NOTIFY,
				       MMIO_QUEUE_DESC_LOW, MMIO_QUEUE_DRIVER_LOW,
				       MMIO_INTERRUPT_ACK,  MMIO_CONFIG,
				       MMIO_CONFIG + 8,	    MMIO_QUEUE_DEVICE_LOW};
	static const uint32_t value[] = {0, 1, 3, 0xb, 0xf, 0xf, 16, RING_DESC, RING_AVAIL, ~0u};
	struct vcpu *v = arg;

	for (unsigned i = 0; i < WRITES; i++) {
		int slot = rand_r(&v->seed) % 2;

		if (rand_r(&v->seed) % 64 == 0) { /* the others disturb it */
			mmio_w32(v->m, slot, MMIO_STATUS, 0);
			mmio_w32(v->m, slot, MMIO_STATUS, 3);
			mmio_w32(v->m, slot, MMIO_DRIVER_FEATURES_SEL, 1);
			mmio_w32(v->m, slot, MMIO_DRIVER_FEATURES, 1);
			mmio_w32(v->m, slot, MMIO_STATUS, 0xb);
			drv_queue(v->m, slot, 0, 0);
			mmio_w32(v->m, slot, MMIO_STATUS, 0xf);
		}
		mmio_w32(v->m, slot, off[(unsigned)rand_r(&v->seed) % ARRAY_LEN(off)],
			 value[(unsigned)rand_r(&v->seed) % ARRAY_LEN(value)]);
	}
	return NULL;
}

static void several_vcpus_may_write_to_one_slot(void **state)
{
	struct machine *m = *state;
	struct vcpu v[VCPUS];
	struct fake *moving = &m->fake[1];

	machine_plug(m, &m->fake[0].d);
	machine_plug(m, &moving->d);
	for (unsigned i = 0; i < VCPUS; i++) {
		v[i] = (struct vcpu){.m = m, .seed = i + 1};
		assert_int_equal(pthread_create(&v[i].thread, NULL, hammer, &v[i]), 0);
	}
	for (unsigned i = 0; i < 20; i++) { /* meanwhile devices come and go and change */
		machine_do(m, change_config_fn);
		machine_unplug(m, &moving->d);
		if (gone(m, 100)) {
			moving = &m->fake[1 + (i + 1) % 2];
			assert_int_equal(machine_plug(m, &moving->d), 1);
		}
	}
	for (unsigned i = 0; i < VCPUS; i++)
		pthread_join(v[i].thread, NULL);
	mmio_w32(m, 0, MMIO_STATUS, 0);
	mmio_w32(m, 1, MMIO_STATUS, 0);
	machine_settle(m);
	assert_true(m->fake[0].starts > 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(m->fake[i].starts, m->fake[i].stops);
}

/* ---- what the kernel may keep for later */

static void lazy_writes_are_without_effect_on_what_is_read(void **state)
{
	struct machine *m = *state;
	struct mmio_range lazy[4];
	unsigned n = mmio_lazy_ranges(lazy);
	int slot = machine_plug(m, &m->fake[0].d);
	uint8_t before[MMIO_SLOT_BYTES];

	assert_in_range(n, 1, 4);
	drv_negotiate(m, slot, 0);
	mmio_read(m->bus, 0, before, sizeof(before));
	for (unsigned i = 0; i < n; i++)
		for (uint32_t off = lazy[i].off; off < lazy[i].off + lazy[i].len; off += 4)
			mmio_w32(m, slot, off, 1);
	assert_memory_equal(m->pages, before, sizeof(before));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_driver_uses_a_device),
		TEST(a_device_survives_resets_and_new_probes),
		TEST(disks_come_and_go_by_their_slot),
		TEST(a_device_in_use_leaves_when_the_guest_lets_go),
		TEST(a_device_that_was_not_started_leaves_at_its_reset),
		TEST(slots_run_out_and_are_used_again),
		TEST(a_kernel_that_gives_no_interrupt_fails_the_plug),
		TEST(slots_do_not_share_state),
		TEST(a_hidden_device_is_no_device_before_it_is_revealed),
		TEST(a_hidden_device_leaves_unseen),
		TEST(accesses_outside_of_the_slots_are_ignored),
		TEST(only_queues_that_are_ready_run),
		TEST(kicks_from_before_the_start_are_kept),
		TEST(kicks_are_not_inherited),
		TEST(a_ring_outside_of_memory_needs_a_reset),
		TEST(a_device_that_cannot_start_needs_a_reset),
		TEST(a_reset_is_over_when_its_write_returns),
		TEST(nobody_waits_when_the_machine_ends),
		TEST(a_change_of_the_configuration_is_told),
		TEST(a_change_from_before_the_start_is_told_at_the_start),
		TEST(what_the_guest_configures_reaches_the_device),
		TEST(a_pause_stops_the_queues_where_they_are),
		TEST(a_pause_comes_after_what_was_asked_before),
		TEST(a_device_that_cannot_go_on_leaves_the_machine_paused),
		TEST(several_vcpus_may_write_to_one_slot),
		TEST(lazy_writes_are_without_effect_on_what_is_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
