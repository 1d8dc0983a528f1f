/* The entropy device: fills what it is given, and no faster than its ration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/ring.h"
#include "vmm/virtio/rng.h"

struct fixture {
	struct loop *loop;
	struct test_ring r;
	struct virtio_device *d;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->loop = loop_new(NULL);
	test_ring_init(&f->r, 256);
	f->d = rng_new(f->loop, NULL);
	f->d->vq[0].kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->d->vq[0].call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	*state = f;
	return test_ring_setup(&f->r, &f->d->vq[0], 0);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int kick = f->d->vq[0].kick_fd, call = f->d->vq[0].call_fd;

	f->d->ops->destroy(f->d);
	loop_free(f->loop);
	test_ring_free(&f->r);
	close(kick);
	close(call);
	free(f);
	return 0;
}

static void fills_a_buffer(void **state)
{
	struct fixture *f = *state;
	uint8_t zeros[64] = {0};

	ring_put(&f->r, 0, RING_DATA, 40, RING_WRITE | RING_NEXT, 1);
	ring_put(&f->r, 1, RING_DATA + 100, 24, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	assert_int_equal(f->d->ops->start_queue(f->d, 0, NULL), 0);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(ring_used(&f->r, 0)[1], 64);
	assert_memory_not_equal(f->r.ram + RING_DATA, zeros, 40);
	assert_memory_equal(f->r.ram + RING_DATA + 40, zeros, 60);
	assert_memory_not_equal(f->r.ram + RING_DATA + 100, zeros, 24);
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 0), 1);
}

static void gives_one_request_4_kib_at_most(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 0x10000, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	assert_int_equal(f->d->ops->start_queue(f->d, 0, NULL), 0);
	assert_int_equal(ring_used(&f->r, 0)[1], 4096);
	assert_int_equal(f->r.ram[RING_DATA + 4096], 0);
}

static void a_request_without_room_comes_back(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 64, 0, 0);
	ring_offer(&f->r, 0);
	assert_int_equal(f->d->ops->start_queue(f->d, 0, NULL), 0);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(ring_used(&f->r, 0)[1], 0);
}

static void one_go_ends_with_the_burst(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 4096, RING_WRITE, 0);
	for (unsigned i = 0; i < 256; i++)
		ring_offer(&f->r, 0);
	assert_int_equal(f->d->ops->start_queue(f->d, 0, NULL), 0);
	assert_in_range(ring_used_idx(&f->r), 15, 17); /* 64 KiB */
}

static void stop_loop(void *arg, UNUSED uint32_t events)
{
	loop_stop(arg, 0);
}

/* Starved requests are answered later by the timer, without a kick. */
static void goes_on_by_itself(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, RING_DATA, 4096, RING_WRITE, 0);
	for (unsigned i = 0; i < 20; i++)
		ring_offer(&f->r, 0);
	assert_int_equal(f->d->ops->start_queue(f->d, 0, NULL), 0);
	for (unsigned i = 0; i < 500 && ring_used_idx(&f->r) < 20; i++) {
		assert_non_null(loop_timer(f->loop, 20000, stop_loop, f->loop, NULL));
		loop_run(f->loop);
	}
	assert_int_equal(ring_used_idx(&f->r), 20);
	f->d->ops->stop_queue(f->d, 0);
}

static void the_bucket_refills_and_overflows(void **state)
{
	struct rng_bucket b;

	(void)state;
	rng_bucket_init(&b, 1000);
	assert_true(rng_bucket_take(&b, 4096));
	while (rng_bucket_take(&b, 4096))
		;
	assert_true(b.tokens <= 0);
	assert_true(rng_bucket_wait_us(&b) > 0);
	rng_bucket_refill(&b, 1000 + rng_bucket_wait_us(&b));
	assert_true(rng_bucket_take(&b, 64));
	rng_bucket_refill(&b, UINT64_MAX);
	assert_int_equal(b.tokens, 65536);
	rng_bucket_refill(&b, 0); /* a clock that goes back gives nothing */
	assert_int_equal(b.tokens, 65536);
	assert_int_equal(rng_bucket_wait_us(&b), 0);
}

/* A second of one-byte requests is some thousand of them. */
static void small_requests_cost_too(void **state)
{
	struct rng_bucket b;
	unsigned n = 0;

	(void)state;
	rng_bucket_init(&b, 0);
	while (rng_bucket_take(&b, 1))
		n++;
	assert_in_range(n, 1000, 1024);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(fills_a_buffer),
		T(gives_one_request_4_kib_at_most),
		T(a_request_without_room_comes_back),
		T(one_go_ends_with_the_burst),
		T(goes_on_by_itself),
		cmocka_unit_test(the_bucket_refills_and_overflows),
		cmocka_unit_test(small_requests_cost_too),
	};

	return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
