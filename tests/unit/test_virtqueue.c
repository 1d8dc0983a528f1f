/* Split virtqueues: chains as a driver makes them, chains as none may, and who is told when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/log.h"
#include "tests/unit/ring.h"

struct fixture {
	struct test_ring r;
	struct virtqueue q;
	struct vq_chain c;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	test_ring_init(&f->r, 8);
	vq_init(&f->q);
	f->q.indirect = true;
	f->q.call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	*state = f;
	return test_ring_setup(&f->r, &f->q, 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->q.call_fd);
	test_ring_free(&f->r);
	free(f);
	return 0;
}

static void breaks(struct fixture *f)
{
	assert_int_equal(vq_pop(&f->q, &f->c), -1);
	assert_true(f->q.broken);
	assert_int_equal(vq_pop(&f->q, &f->c), -1);
	assert_true(vq_empty(&f->q));
	assert_false(vq_kicks_on(&f->q));
}

static void one_chain_there_and_back(void **state)
{
	struct fixture *f = *state;
	char buf[16] = {0};

	assert_int_equal(vq_pop(&f->q, &f->c), 0);
	assert_true(vq_empty(&f->q));
	memcpy(f->r.ram + RING_DATA, "hello", 5);
	memcpy(f->r.ram + RING_DATA + 100, "world", 5);
	ring_put(&f->r, 3, RING_DATA, 5, RING_NEXT, 1);
	ring_put(&f->r, 1, RING_DATA + 100, 5, RING_NEXT, 7);
	ring_put(&f->r, 7, RING_DATA + 200, 3, RING_NEXT | RING_WRITE, 0);
	ring_put(&f->r, 0, RING_DATA + 300, 10, RING_WRITE, 0);
	ring_offer(&f->r, 3);
	assert_false(vq_empty(&f->q));
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	assert_int_equal(f->c.head, 3);
	assert_int_equal(f->c.nread, 2);
	assert_int_equal(f->c.nwrite, 2);
	assert_int_equal(f->c.read_bytes, 10);
	assert_int_equal(f->c.write_bytes, 13);
	assert_int_equal(vq_read(&f->c, 3, buf, sizeof(buf)), 7);
	assert_string_equal(buf, "loworld");
	assert_int_equal(vq_read(&f->c, 10, buf, 1), 0);
	assert_int_equal(vq_write(&f->c, 2, "abcdef", 6), 6);
	assert_memory_equal(f->r.ram + RING_DATA + 202, "a", 1);
	assert_memory_equal(f->r.ram + RING_DATA + 300, "bcdef", 5);
	assert_int_equal(vq_write(&f->c, 12, "zz", 2), 1);
	vq_push(&f->q, f->c.head, 8);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(ring_used(&f->r, 0)[0], 3);
	assert_int_equal(ring_used(&f->r, 0)[1], 8);
	assert_int_equal(vq_pop(&f->q, &f->c), 0);
}

static void unpop_gives_it_again(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 2, RING_DATA, 1, 0, 0);
	ring_offer(&f->r, 2);
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	vq_unpop(&f->q);
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	assert_int_equal(f->c.head, 2);
}

static void indices_wrap_around(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 1, RING_WRITE, 0);
	for (unsigned i = 0; i < 70000; i++) {
		ring_offer(&f->r, 0);
		assert_int_equal(vq_pop(&f->q, &f->c), 1);
		vq_push(&f->q, 0, 1);
	}
	assert_int_equal(ring_used_idx(&f->r), 70000 - 65536);
	assert_int_equal(vq_pop(&f->q, &f->c), 0);
}

/* A stopped queue goes on where it was: the used index is the ring's. */
static void set_up_again_it_goes_on(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 1, RING_WRITE, 0);
	for (unsigned i = 0; i < 5; i++)
		ring_offer(&f->r, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(vq_pop(&f->q, &f->c), 1);
		vq_push(&f->q, 0, 1);
	}
	vq_reset(&f->q);
	assert_int_equal(vq_pop(&f->q, &f->c), 0);
	assert_int_equal(test_ring_setup(&f->r, &f->q, 3), 0);
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	vq_push(&f->q, 0, 1);
	assert_int_equal(ring_used_idx(&f->r), 4);
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	assert_int_equal(vq_pop(&f->q, &f->c), 0);
}

static void indirect_tables(void **state)
{
	struct fixture *f = *state;
	struct ring_desc *t = ring_desc_at(&f->r, RING_DATA);

	/* as a whole chain, and with more entries than the ring has */
	for (uint16_t i = 0; i < 20; i++)
		t[i] = (struct ring_desc){RING_DATA + 0x1000 + i, 1,
					  (i < 19 ? RING_NEXT : 0) | (i > 9 ? RING_WRITE : 0),
					  (uint16_t)(i + 1)};
	ring_put(&f->r, 0, RING_DATA, 20 * sizeof(*t), RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	assert_int_equal(f->c.nread, 10);
	assert_int_equal(f->c.nwrite, 10);
	/* behind direct descriptors */
	ring_put(&f->r, 1, RING_DATA + 0x2000, 5, RING_NEXT, 0);
	ring_offer(&f->r, 1);
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	assert_int_equal(f->c.nread, 11);
	assert_int_equal(f->c.head, 1);
}

static void indirect_must_be_negotiated(void **state)
{
	struct fixture *f = *state;

	f->q.indirect = false;
	ring_put(&f->r, 0, RING_DATA, 16, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void indirect_in_indirect_breaks(void **state)
{
	struct fixture *f = *state;

	*ring_desc_at(&f->r, RING_DATA) = (struct ring_desc){RING_DATA, 16, RING_INDIRECT, 0};
	ring_put(&f->r, 0, RING_DATA, 16, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void indirect_with_next_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 16, RING_INDIRECT | RING_NEXT, 1);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void odd_indirect_length_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 24, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void indirect_outside_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_RAM - 16, 32, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void loop_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 1, RING_NEXT, 1);
	ring_put(&f->r, 1, RING_DATA, 1, RING_NEXT, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void loop_in_indirect_breaks(void **state)
{
	struct fixture *f = *state;
	struct ring_desc *t = ring_desc_at(&f->r, RING_DATA);

	t[0] = (struct ring_desc){RING_DATA, 1, RING_NEXT, 1};
	t[1] = (struct ring_desc){RING_DATA, 1, RING_NEXT, 0};
	ring_put(&f->r, 0, RING_DATA, 32, RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void too_many_segments_break(void **state)
{
	struct fixture *f = *state;
	struct ring_desc *t = ring_desc_at(&f->r, RING_DATA);

	for (uint16_t i = 0; i < VQ_SEGS_MAX + 1; i++)
		t[i] = (struct ring_desc){RING_DATA, 1, i < VQ_SEGS_MAX ? RING_NEXT : 0,
					  (uint16_t)(i + 1)};
	ring_put(&f->r, 0, RING_DATA, (VQ_SEGS_MAX + 1) * sizeof(*t), RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void too_many_bytes_break(void **state)
{
	struct fixture *f = *state;
	struct ring_desc *t = ring_desc_at(&f->r, RING_DATA);

	for (uint16_t i = 0; i < 129; i++)
		t[i] = (struct ring_desc){0, RING_RAM, i < 128 ? RING_NEXT : 0, (uint16_t)(i + 1)};
	t[127].flags = 0; /* exactly VQ_CHAIN_BYTES_MAX */
	ring_put(&f->r, 0, RING_DATA, 129 * sizeof(*t), RING_INDIRECT, 0);
	ring_offer(&f->r, 0);
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	assert_int_equal(f->c.read_bytes, VQ_CHAIN_BYTES_MAX);
	t[127].flags = RING_NEXT;
	ring_offer(&f->r, 0);
	breaks(f);
}

static void outside_memory_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_RAM - 1, 2, 0, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void address_overflow_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, UINT64_MAX - 1, UINT32_MAX, 0, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void empty_descriptor_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 0, 0, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void readable_after_writable_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 1, RING_WRITE | RING_NEXT, 1);
	ring_put(&f->r, 1, RING_DATA, 1, 0, 0);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void head_out_of_range_breaks(void **state)
{
	struct fixture *f = *state;

	ring_offer(&f->r, 8);
	breaks(f);
}

static void next_out_of_range_breaks(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 1, RING_NEXT, 8);
	ring_offer(&f->r, 0);
	breaks(f);
}

static void jumping_index_breaks(void **state)
{
	struct fixture *f = *state;

	*ring_u16(&f->r, RING_AVAIL + 2) = 9;
	breaks(f);
}

static void bad_rings_are_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t *ram = f->r.ram;

	for (uint16_t size = 0; size <= 16; size++) {
		bool good = size == 1 || size == 2 || size == 4 || size == 8 || size == 16;

		assert_int_equal(vq_setup(&f->q, &f->r.mem, size, ram, ram, ram, 0, NULL),
				 good ? 0 : -1);
	}
	assert_int_equal(vq_setup(&f->q, &f->r.mem, 2048, ram, ram, ram, 0, NULL), -1);
	assert_int_equal(vq_setup(&f->q, &f->r.mem, 8, ram + 8, ram, ram, 0, NULL), -1);
	assert_int_equal(vq_setup(&f->q, &f->r.mem, 8, ram, ram + 1, ram, 0, NULL), -1);
	assert_int_equal(vq_setup(&f->q, &f->r.mem, 8, ram, ram, ram + 2, 0, NULL), -1);
	assert_int_equal(vq_desc_bytes(8), 128);
	assert_int_equal(vq_avail_bytes(8), 22);
	assert_int_equal(vq_used_bytes(8), 70);
}

static void calls_unless_told_not_to(void **state)
{
	struct fixture *f = *state;

	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 0); /* nothing was pushed */
	vq_push(&f->q, 0, 0);
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 1);
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 0);
	*ring_u16(&f->r, RING_AVAIL) = 1; /* NO_INTERRUPT */
	vq_push(&f->q, 0, 0);
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 0);
}

static void calls_when_the_event_is_passed(void **state)
{
	struct fixture *f = *state;

	f->q.event_idx = true;
	*ring_used_event(&f->r) = 100; /* what was left there by chance */
	vq_push(&f->q, 0, 0);
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 1); /* the first call is unconditional */
	*ring_used_event(&f->r) = 3;
	vq_push(&f->q, 0, 0);
	vq_push(&f->q, 0, 0);
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 0);
	vq_push(&f->q, 0, 0); /* the used index becomes 4: entry 3 was used */
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 1);
	vq_push(&f->q, 0, 0);
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 0);
	*ring_used_event(&f->r) = 6;
	for (unsigned i = 0; i < 4; i++)
		vq_push(&f->q, 0, 0);
	vq_notify(&f->q);
	assert_int_equal(ring_calls(f->q.call_fd, 0), 1);
}

static void asks_for_kicks(void **state)
{
	struct fixture *f = *state;

	vq_kicks_off(&f->q);
	assert_int_equal(*ring_u16(&f->r, RING_USED), 1); /* NO_NOTIFY */
	assert_false(vq_kicks_on(&f->q));
	assert_int_equal(*ring_u16(&f->r, RING_USED), 0);
	ring_put(&f->r, 0, RING_DATA, 1, 0, 0);
	ring_offer(&f->r, 0);
	assert_true(vq_kicks_on(&f->q));

	f->q.event_idx = true;
	assert_int_equal(vq_pop(&f->q, &f->c), 1);
	assert_false(vq_kicks_on(&f->q));
	assert_int_equal(*ring_avail_event(&f->r), 1);
	ring_offer(&f->r, 0);
	assert_true(vq_kicks_on(&f->q));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_chain_there_and_back),
		T(unpop_gives_it_again),
		T(indices_wrap_around),
		T(set_up_again_it_goes_on),
		T(indirect_tables),
		T(indirect_must_be_negotiated),
		T(indirect_in_indirect_breaks),
		T(indirect_with_next_breaks),
		T(odd_indirect_length_breaks),
		T(indirect_outside_breaks),
		T(loop_breaks),
		T(loop_in_indirect_breaks),
		T(too_many_segments_break),
		T(too_many_bytes_break),
		T(outside_memory_breaks),
		T(address_overflow_breaks),
		T(empty_descriptor_breaks),
		T(readable_after_writable_breaks),
		T(head_out_of_range_breaks),
		T(next_out_of_range_breaks),
		T(jumping_index_breaks),
		T(bad_rings_are_refused),
		T(calls_unless_told_not_to),
		T(calls_when_the_event_is_passed),
		T(asks_for_kicks),
	};

	return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
