/* Token buckets: exact over time, right at the limits of their numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/cleanup.h"
#include "vmm/ratelimit.h"

#define S UINT64_C(1000000)

static struct ratelimit limit(struct ratelimit_config cfg, uint64_t now)
{
	struct ratelimit r;

	ratelimit_init(&r, &cfg, now);
	return r;
}

static void without_a_rate_nothing_is_limited(UNUSED void **state)
{
	struct ratelimit r = limit((struct ratelimit_config){.bytes_burst = 1, .ops_burst = 1}, 0);

	assert_false(ratelimit_limits(&r));
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(ratelimit_take(&r, UINT64_MAX, 0), 0);
}

static void a_full_bucket_gives_its_burst_and_then_its_rate(UNUSED void **state)
{
	struct ratelimit r =
		limit((struct ratelimit_config){.ops_per_s = 1000, .ops_burst = 5}, 7 * S);

	assert_true(ratelimit_limits(&r));
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(ratelimit_take(&r, 1 << 30, 7 * S), 0);
	assert_int_equal(ratelimit_take(&r, 0, 7 * S), 1000);
	assert_int_equal(ratelimit_take(&r, 0, 7 * S + 400), 600);
	assert_int_equal(ratelimit_take(&r, 0, 7 * S + 999), 1);
	assert_int_equal(ratelimit_take(&r, 0, 7 * S + 1000), 0);
	assert_int_equal(ratelimit_take(&r, 0, 7 * S + 1000), 1000);
	/* It never holds more than its burst. */
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(ratelimit_take(&r, 0, 100 * S), 0);
	assert_int_equal(ratelimit_take(&r, 0, 100 * S), 1000);
}

static void no_burst_means_a_tenth_of_a_second(UNUSED void **state)
{
	struct ratelimit r = limit((struct ratelimit_config){.bytes_per_s = 1000}, 0);
	struct ratelimit slow = limit((struct ratelimit_config){.ops_per_s = 3}, 0);

	assert_int_equal(ratelimit_take(&r, 100, 0), 0);
	assert_int_equal(ratelimit_take(&r, 1, 0), 1000);
	assert_int_equal(ratelimit_take(&slow, 1, 0), 0);
	assert_int_equal(ratelimit_take(&slow, 1, 0), 333334);
}

static void fractions_are_kept(UNUSED void **state)
{
	struct ratelimit r = limit((struct ratelimit_config){.ops_per_s = 3, .ops_burst = 1000}, 0);
	unsigned taken = 0;

	while (ratelimit_take(&r, 0, 0) == 0)
		;
	for (uint64_t now = 0; now <= 100 * S; now += 777)
		taken += ratelimit_take(&r, 0, now) == 0;
	assert_int_equal(taken, 299); /* the 300th is due 100 us after the last asking */
}

static void the_scarcer_bucket_decides_and_nothing_is_taken(UNUSED void **state)
{
	struct ratelimit r = limit(
		(struct ratelimit_config){
			.bytes_per_s = 1000, .bytes_burst = 1000, .ops_per_s = 10, .ops_burst = 2},
		0);

	assert_int_equal(ratelimit_take(&r, 900, 0), 0);
	assert_int_equal(ratelimit_take(&r, 600, 0), 500 * 1000);
	assert_int_equal(ratelimit_take(&r, 100, 0), 0); /* the bytes and the operation are there */
	assert_int_equal(ratelimit_take(&r, 1, 0), 100 * 1000);
	assert_int_equal(ratelimit_take(&r, 500, 0), 500 * 1000);
}

static void a_large_operation_goes_through_a_full_bucket_into_debt(UNUSED void **state)
{
	struct ratelimit r =
		limit((struct ratelimit_config){.bytes_per_s = 1000, .bytes_burst = 100}, 0);

	assert_int_equal(ratelimit_take(&r, 1, 0), 0);
	assert_int_equal(ratelimit_take(&r, 5000, 0), 1000); /* not full */
	assert_int_equal(ratelimit_take(&r, 5000, 1000), 0);
	assert_int_equal(ratelimit_take(&r, 1, 1000), 4901 * 1000);
	assert_int_equal(ratelimit_take(&r, 1, 1000 + 4901 * 1000), 0);
}

static void what_was_moved_already_is_paid_for(UNUSED void **state)
{
	struct ratelimit r =
		limit((struct ratelimit_config){.bytes_per_s = 1000, .bytes_burst = 100}, 0);
	struct ratelimit none = limit((struct ratelimit_config){0}, 0);

	ratelimit_charge(&r, 1100);
	assert_int_equal(ratelimit_take(&r, 100, 0), 1100 * 1000);
	ratelimit_charge(&none, UINT64_MAX);
	assert_int_equal(ratelimit_take(&none, 100, 0), 0);
}

static void a_clock_that_goes_back_takes_nothing_away(UNUSED void **state)
{
	struct ratelimit r =
		limit((struct ratelimit_config){.ops_per_s = 1, .ops_burst = 1}, 10 * S);

	assert_int_equal(ratelimit_take(&r, 0, 5 * S), 0);
	assert_int_equal(ratelimit_take(&r, 0, 5 * S), 1 * S);
	assert_int_equal(ratelimit_take(&r, 0, 11 * S), 0);
}

static void the_largest_numbers_do_not_wrap(UNUSED void **state)
{
	struct ratelimit r = limit(
		(struct ratelimit_config){.bytes_per_s = UINT64_MAX, .bytes_burst = UINT64_MAX}, 0);
	struct ratelimit slow =
		limit((struct ratelimit_config){.bytes_per_s = 1, .bytes_burst = 1}, 0);

	assert_int_equal(ratelimit_take(&r, UINT64_MAX, 0), 0);
	assert_int_equal(ratelimit_take(&r, UINT64_MAX, 0), 500000);
	assert_int_equal(ratelimit_take(&r, UINT64_MAX, UINT64_MAX), 0);
	ratelimit_charge(&r, UINT64_MAX);
	ratelimit_charge(&r, UINT64_MAX);
	assert_in_range(ratelimit_take(&r, 1, UINT64_MAX), 500000, 1000001);
	assert_int_equal(ratelimit_take(&slow, UINT64_MAX, 0), 0);
	assert_int_equal(ratelimit_take(&slow, 1, 1), UINT64_MAX);
	ratelimit_charge(&slow, UINT64_MAX);
	assert_int_equal(ratelimit_take(&slow, 1, UINT64_MAX), UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_rate_nothing_is_limited),
		cmocka_unit_test(a_full_bucket_gives_its_burst_and_then_its_rate),
		cmocka_unit_test(no_burst_means_a_tenth_of_a_second),
		cmocka_unit_test(fractions_are_kept),
		cmocka_unit_test(the_scarcer_bucket_decides_and_nothing_is_taken),
		cmocka_unit_test(a_large_operation_goes_through_a_full_bucket_into_debt),
		cmocka_unit_test(what_was_moved_already_is_paid_for),
		cmocka_unit_test(a_clock_that_goes_back_takes_nothing_away),
		cmocka_unit_test(the_largest_numbers_do_not_wrap),
	};

	return cmocka_run_group_tests_name("ratelimit", tests, NULL, NULL);
}
