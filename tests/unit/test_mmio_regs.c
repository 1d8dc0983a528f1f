/* The register file of a virtio-mmio slot: what a guest may write when, and what it reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "vmm/mmio_regs.h"

#define VERSION_1 (UINT64_C(1) << VIRTIO_F_VERSION_1)
#define OFFERED (VERSION_1 | 0x30000021)
#define QUEUES 3
#define ARG_NONE 0xdead

struct file {
	struct mmio_regs r;
	uint32_t page[MMIO_CONFIG / 4];
	uint32_t arg; /* of the last action */
};

static int setup(void **state)
{
	struct file *f = calloc(1, sizeof(*f));

	mmio_regs_empty(&f->r);
	mmio_regs_fill(&f->r, 42, OFFERED, QUEUES, 256);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static enum mmio_action wr(struct file *f, uint32_t off, uint32_t v)
{
	f->arg = ARG_NONE;
	return mmio_regs_write(&f->r, off, &v, sizeof(v), &f->arg);
}

static uint32_t rd(struct file *f, uint32_t off)
{
	mmio_regs_show(&f->r, f->page);
	return f->page[off / 4];
}

/* As Linux does it, up to the status given. */
static void go_to(struct file *f, uint32_t status)
{
	wr(f, MMIO_STATUS, 0);
	wr(f, MMIO_STATUS, VIRTIO_S_ACKNOWLEDGE);
	wr(f, MMIO_STATUS, rd(f, MMIO_STATUS) | VIRTIO_S_DRIVER);
	wr(f, MMIO_DRIVER_FEATURES_SEL, 1);
	wr(f, MMIO_DRIVER_FEATURES, 1);
	wr(f, MMIO_DRIVER_FEATURES_SEL, 0);
	wr(f, MMIO_DRIVER_FEATURES, 0x20);
	wr(f, MMIO_STATUS, rd(f, MMIO_STATUS) | (status & VIRTIO_S_FEATURES_OK));
	assert_int_equal(rd(f, MMIO_STATUS), 3 | (status & VIRTIO_S_FEATURES_OK));
	if (status & VIRTIO_S_DRIVER_OK)
		assert_int_equal(wr(f, MMIO_STATUS, 0xf), MMIO_START);
}

static void set_queue(struct file *f, uint32_t q, uint32_t num)
{
	wr(f, MMIO_QUEUE_SEL, q);
	wr(f, MMIO_QUEUE_NUM, num);
	wr(f, MMIO_QUEUE_DESC_LOW, 0x1000);
	wr(f, MMIO_QUEUE_DESC_HIGH, 1);
	wr(f, MMIO_QUEUE_DRIVER_LOW, 0x2000);
	wr(f, MMIO_QUEUE_DRIVER_HIGH, 2);
	wr(f, MMIO_QUEUE_DEVICE_LOW, 0x3000);
	wr(f, MMIO_QUEUE_DEVICE_HIGH, 3);
	wr(f, MMIO_QUEUE_READY, 1);
}

static void an_empty_slot_is_a_placeholder(void **state)
{
	struct file *f = *state;
	struct mmio_regs before;

	mmio_regs_empty(&f->r);
	before = f->r;
	assert_int_equal(rd(f, MMIO_MAGIC), 0x74726976);
	assert_int_equal(rd(f, MMIO_VERSION), 2);
	assert_int_equal(rd(f, MMIO_DEVICE_ID), 0);
	for (uint32_t off = 0; off < 0x200; off += 4)
		assert_int_equal(wr(f, off, 0xf), MMIO_NOTHING);
	assert_memory_equal(&f->r, &before, sizeof(before));
}

static void a_device_shows_what_it_is(void **state)
{
	struct file *f = *state;

	assert_int_equal(rd(f, MMIO_DEVICE_ID), 42);
	assert_int_equal(rd(f, MMIO_VENDOR_ID), 0x6b737568);
	assert_int_equal(rd(f, MMIO_STATUS), 0);
	assert_int_equal(rd(f, MMIO_SHM_LEN_LOW), UINT32_MAX);
	assert_int_equal(rd(f, MMIO_SHM_BASE_HIGH), UINT32_MAX);
	assert_int_equal(rd(f, MMIO_QUEUE_RESET), 0);
	wr(f, MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(rd(f, MMIO_DEVICE_FEATURES), 1);
	wr(f, MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(rd(f, MMIO_DEVICE_FEATURES), 0x30000021);
	wr(f, MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(rd(f, MMIO_DEVICE_FEATURES), 0);
	wr(f, MMIO_QUEUE_SEL, QUEUES - 1);
	assert_int_equal(rd(f, MMIO_QUEUE_NUM_MAX), 256);
	wr(f, MMIO_QUEUE_SEL, QUEUES);
	assert_int_equal(rd(f, MMIO_QUEUE_NUM_MAX), 0);
}

static void the_whole_handshake_starts_the_device(void **state)
{
	struct file *f = *state;

	go_to(f, VIRTIO_S_FEATURES_OK);
	set_queue(f, 1, 64);
	assert_int_equal(rd(f, MMIO_QUEUE_READY), 1);
	assert_int_equal(rd(f, MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(wr(f, MMIO_STATUS, 0xf), MMIO_START);
	assert_true(mmio_regs_live(&f->r));
	assert_int_equal(f->r.driver_features, VERSION_1 | 0x20);
	assert_false(f->r.q[0].ready);
	assert_true(f->r.q[1].ready);
	assert_int_equal(f->r.q[1].num, 64);
	assert_int_equal(f->r.q[1].desc, 0x100001000);
	assert_int_equal(f->r.q[1].driver, 0x200002000);
	assert_int_equal(f->r.q[1].device, 0x300003000);
	assert_int_equal(rd(f, MMIO_INTERRUPT_STATUS), MMIO_INT_USED);
	/* Only once. */
	assert_int_equal(wr(f, MMIO_STATUS, 0xf), MMIO_NOTHING);
}

static void features_that_were_not_offered_are_refused(void **state)
{
	struct file *f = *state;

	go_to(f, 0);
	wr(f, MMIO_DRIVER_FEATURES, 0x02);
	wr(f, MMIO_STATUS, 0xb);
	assert_int_equal(rd(f, MMIO_STATUS), 3);
	wr(f, MMIO_DRIVER_FEATURES, 0x01);
	wr(f, MMIO_STATUS, 0xb);
	assert_int_equal(rd(f, MMIO_STATUS), 0xb);
}

static void a_driver_without_version_1_is_refused(void **state)
{
	struct file *f = *state;

	go_to(f, 0);
	wr(f, MMIO_DRIVER_FEATURES_SEL, 1);
	wr(f, MMIO_DRIVER_FEATURES, 0);
	wr(f, MMIO_STATUS, 0xb);
	assert_int_equal(rd(f, MMIO_STATUS), 3);
	assert_int_equal(wr(f, MMIO_STATUS, 0xf), MMIO_NOTHING);
	assert_int_equal(rd(f, MMIO_STATUS), 3);
}

static void features_stay_once_they_are_agreed_on(void **state)
{
	struct file *f = *state;

	go_to(f, VIRTIO_S_FEATURES_OK);
	wr(f, MMIO_DRIVER_FEATURES, 0);
	assert_int_equal(f->r.driver_features, VERSION_1 | 0x20);
	go_to(f, 0);
	wr(f, MMIO_DRIVER_FEATURES_SEL, 2); /* selects nothing */
	wr(f, MMIO_DRIVER_FEATURES, UINT32_MAX);
	assert_int_equal(f->r.driver_features, VERSION_1 | 0x20);
}

static void status_goes_forward_and_in_order(void **state)
{
	struct file *f = *state;

	assert_int_equal(wr(f, MMIO_STATUS, VIRTIO_S_DRIVER_OK), MMIO_NOTHING);
	assert_int_equal(rd(f, MMIO_STATUS), 0);
	wr(f, MMIO_STATUS, VIRTIO_S_FEATURES_OK); /* no DRIVER */
	assert_int_equal(rd(f, MMIO_STATUS), 0);
	go_to(f, 0);
	assert_int_equal(wr(f, MMIO_STATUS, 0xf), MMIO_NOTHING); /* not read back */
	assert_int_equal(rd(f, MMIO_STATUS), 0xb);
	wr(f, MMIO_STATUS, 0x3); /* takes a bit back */
	assert_int_equal(rd(f, MMIO_STATUS), 0xb);
	wr(f, MMIO_STATUS, 0x8b);
	assert_int_equal(wr(f, MMIO_STATUS, 0x8f), MMIO_NOTHING); /* it FAILED */
	assert_int_equal(rd(f, MMIO_STATUS), 0x8b);
	go_to(f, VIRTIO_S_FEATURES_OK);
	wr(f, MMIO_STATUS, 0xffffff7b); /* NEEDS_RESET is the device's to set, the rest nobody's */
	assert_int_equal(rd(f, MMIO_STATUS), 0xb);
}

static void queues_change_only_between_features_and_start(void **state)
{
	static const uint32_t when[] = {0, VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK};

	for (unsigned i = 0; i < ARRAY_LEN(when); i++) {
		struct file *f = *state;
		struct mmio_queue_regs before;

		go_to(f, when[i]);
		before = f->r.q[0];
		set_queue(f, 0, 128);
		wr(f, MMIO_QUEUE_READY, 0);
		assert_memory_equal(&f->r.q[0], &before, sizeof(before));
	}
}

static void a_ready_queue_stays_as_it_is(void **state)
{
	struct file *f = *state;
	struct mmio_queue_regs before;

	go_to(f, VIRTIO_S_FEATURES_OK);
	set_queue(f, 0, 128);
	before = f->r.q[0];
	wr(f, MMIO_QUEUE_NUM, 64);
	wr(f, MMIO_QUEUE_DESC_LOW, 0x9000);
	wr(f, MMIO_QUEUE_DRIVER_HIGH, 9);
	wr(f, MMIO_QUEUE_DEVICE_LOW, 0x9000);
	wr(f, MMIO_QUEUE_READY, 2);
	assert_memory_equal(&f->r.q[0], &before, sizeof(before));
	/* A driver that gives up before DRIVER_OK takes it back. */
	wr(f, MMIO_QUEUE_READY, 0);
	assert_int_equal(rd(f, MMIO_QUEUE_READY), 0);
	/* And once it runs, not even that. */
	set_queue(f, 0, 128);
	wr(f, MMIO_STATUS, 0xf);
	wr(f, MMIO_QUEUE_READY, 0);
	assert_int_equal(rd(f, MMIO_QUEUE_READY), 1);
}

static void queue_sizes_are_powers_of_two_up_to_the_maximum(void **state)
{
	static const uint32_t bad[] = {0, 3, 255, 257, 512, 65536, 65536 + 8, UINT32_MAX};
	struct file *f = *state;

	go_to(f, VIRTIO_S_FEATURES_OK);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		wr(f, MMIO_QUEUE_NUM, bad[i]);
		wr(f, MMIO_QUEUE_READY, 1); /* without a size it cannot be */
		assert_int_equal(f->r.q[0].num, 0);
		assert_int_equal(f->r.q[0].ready, 0);
	}
	for (uint32_t num = 1; num <= 256; num *= 2) {
		wr(f, MMIO_QUEUE_NUM, num);
		assert_int_equal(f->r.q[0].num, num);
	}
}

static void a_queue_that_is_none_takes_nothing(void **state)
{
	static const uint32_t none[] = {QUEUES, DEVICE_QUEUES_MAX, 0x10000, UINT32_MAX};
	struct file *f = *state;
	struct mmio_regs before;

	go_to(f, VIRTIO_S_FEATURES_OK);
	for (unsigned i = 0; i < ARRAY_LEN(none); i++) {
		wr(f, MMIO_QUEUE_SEL, none[i]);
		before = f->r;
		set_queue(f, none[i], 16);
		assert_memory_equal(&f->r, &before, sizeof(before));
		assert_int_equal(rd(f, MMIO_QUEUE_READY), 0);
		assert_int_equal(wr(f, MMIO_QUEUE_NOTIFY, none[i]), MMIO_NOTHING);
	}
	assert_int_equal(wr(f, MMIO_QUEUE_NOTIFY, 2), MMIO_KICK);
	assert_int_equal(f->arg, 2);
}

static void a_reset_forgets_all_but_the_device(void **state)
{
	struct file *f = *state;
	struct mmio_regs fresh = f->r;

	go_to(f, VIRTIO_S_FEATURES_OK);
	set_queue(f, 2, 8);
	assert_int_equal(wr(f, MMIO_STATUS, 0), MMIO_NOTHING); /* nothing runs: done */
	assert_memory_equal(&f->r, &fresh, sizeof(fresh));
	go_to(f, VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	assert_int_equal(wr(f, MMIO_STATUS, 0), MMIO_RESET); /* somebody has to stop it first */
	assert_int_equal(rd(f, MMIO_STATUS), 0xf);
	mmio_regs_reset(&f->r);
	assert_memory_equal(&f->r, &fresh, sizeof(fresh));
}

static void a_device_that_needs_a_reset_says_so(void **state)
{
	struct file *f = *state;

	go_to(f, VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	mmio_regs_needs_reset(&f->r);
	assert_int_equal(rd(f, MMIO_STATUS), 0x4f);
	assert_int_equal(rd(f, MMIO_INTERRUPT_STATUS), MMIO_INT_USED | MMIO_INT_CONFIG);
	assert_false(mmio_regs_live(&f->r));
	wr(f, MMIO_STATUS, 0xf); /* does not heal it */
	assert_int_equal(rd(f, MMIO_STATUS), 0x4f);
	assert_int_equal(wr(f, MMIO_STATUS, 0), MMIO_RESET);
}

static void an_acknowledgement_takes_back_a_change_of_configuration(void **state)
{
	struct file *f = *state;

	go_to(f, VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	f->r.interrupt_status |= MMIO_INT_CONFIG;
	wr(f, MMIO_INTERRUPT_ACK, MMIO_INT_USED);
	assert_int_equal(rd(f, MMIO_INTERRUPT_STATUS), 3);
	wr(f, MMIO_INTERRUPT_ACK, 3);
	assert_int_equal(rd(f, MMIO_INTERRUPT_STATUS), MMIO_INT_USED);
}

static void accesses_of_other_widths_are_ignored(void **state)
{
	static const uint32_t status[4] = {1, 1, 1, 1};
	struct file *f = *state;

	for (unsigned len = 0; len <= sizeof(status); len++)
		for (uint32_t off = MMIO_STATUS - 8; off < MMIO_STATUS + 8; off++)
			if (len != 4 || off % 4)
				assert_int_equal(mmio_regs_write(&f->r, off, status, len, &f->arg),
						 MMIO_NOTHING);
	assert_int_equal(rd(f, MMIO_STATUS), 0);
}

static void configuration_writes_lie_within_the_space(void **state)
{
	uint8_t data[16] = {0};
	struct file *f = *state;

	for (uint32_t off = MMIO_CONFIG; off < MMIO_CONFIG + 0x200; off++) {
		for (unsigned len = 0; len <= sizeof(data); len++) {
			bool ok = (len == 1 || len == 2 || len == 4 || len == 8) &&
				  off % (len < 4 ? len : 4) == 0 && off + len <= MMIO_CONFIG + 256;

			f->arg = ARG_NONE;
			assert_int_equal(mmio_regs_write(&f->r, off, data, len, &f->arg),
					 ok ? MMIO_CONFIG_WRITE : MMIO_NOTHING);
			if (ok)
				assert_int_equal(f->arg, off - MMIO_CONFIG);
		}
	}
}

static void registers_that_are_read_only_stay(void **state)
{
	static const uint32_t ro[] = {MMIO_MAGIC,
				      MMIO_VERSION,
				      MMIO_DEVICE_ID,
				      MMIO_VENDOR_ID,
				      MMIO_DEVICE_FEATURES,
				      MMIO_QUEUE_NUM_MAX,
				      MMIO_SHM_LEN_LOW,
				      MMIO_SHM_BASE_HIGH,
				      MMIO_INTERRUPT_STATUS,
				      MMIO_CONFIG_GENERATION,
				      MMIO_QUEUE_RESET,
				      MMIO_SHM_SEL};
	struct file *f = *state;

	for (unsigned i = 0; i < ARRAY_LEN(ro); i++) {
		uint32_t before = rd(f, ro[i]);

		assert_int_equal(wr(f, ro[i], 0x5a5a5a5a), MMIO_NOTHING);
		assert_int_equal(rd(f, ro[i]), before);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_empty_slot_is_a_placeholder, setup, teardown),
		cmocka_unit_test_setup_teardown(a_device_shows_what_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(the_whole_handshake_starts_the_device, setup,
						teardown),
		cmocka_unit_test_setup_teardown(features_that_were_not_offered_are_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_driver_without_version_1_is_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(features_stay_once_they_are_agreed_on, setup,
						teardown),
		cmocka_unit_test_setup_teardown(status_goes_forward_and_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(queues_change_only_between_features_and_start,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_ready_queue_stays_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(queue_sizes_are_powers_of_two_up_to_the_maximum,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_queue_that_is_none_takes_nothing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_reset_forgets_all_but_the_device, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_device_that_needs_a_reset_says_so, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			an_acknowledgement_takes_back_a_change_of_configuration, setup, teardown),
		cmocka_unit_test_setup_teardown(accesses_of_other_widths_are_ignored, setup,
						teardown),
		cmocka_unit_test_setup_teardown(configuration_writes_lie_within_the_space, setup,
						teardown),
		cmocka_unit_test_setup_teardown(registers_that_are_read_only_stay, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
