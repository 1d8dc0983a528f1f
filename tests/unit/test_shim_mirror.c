/* The mirror's edges: what is asked of it, and how often it acts by itself. */
#include "shim/mirror.h"
#include "lib/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/unit/tmpdir.h"

static void interval_is_a_number_of_seconds(void **state)
{
	unsigned s = 7;

	(void)state;
	assert_int_equal(sync_interval(NULL, &s, NULL), 0);
	assert_int_equal(s, 0);
	assert_int_equal(sync_interval("1", &s, NULL), 0);
	assert_int_equal(s, 1);
	assert_int_equal(sync_interval("86400", &s, NULL), 0);
	assert_int_equal(s, 86400);
}

static void other_intervals_are_refused_by_name(void **state)
{
	static const char *const bad[] = {"",	"0",	 "-1",	       "1s",
					  " 1", "86401", "4294967297", "99999999999999999999"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct error err = ERROR_INIT;
		unsigned s;

		assert_int_equal(sync_interval(bad[i], &s, &err), -1);
		assert_int_equal(err.kind, ERR_INVALID);
		assert_non_null(strstr(err.msg, SYNC_ANNOTATION));
	}
}

static void nobody_to_ask_is_a_container_that_does_not_run(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	struct cs_counts n = {0};

	assert_int_equal(mirror_ask_sync(t->fd, -1, &n, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_RUNNING);
}

/* A directory without a state: nothing to mirror, and nothing to sync. */
static void a_sync_without_a_container_is_refused(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	struct cs_counts n = {0};
	struct mirror *m = mirror_start("nobody", t->fd, &err);

	assert_non_null(m);
	assert_int_equal(mirror_ask_sync(t->fd, -1, &n, &err), -1);
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	mirror_stop(m, NULL, NULL);
}

static void ends_at_once_when_told_to(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	struct mirror *m = mirror_start("nobody", t->fd, &err);

	assert_non_null(m);
	mirror_stop(m, NULL, NULL);
	mirror_stop(NULL, NULL, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(interval_is_a_number_of_seconds),
		cmocka_unit_test(other_intervals_are_refused_by_name),
		cmocka_unit_test_setup_teardown(nobody_to_ask_is_a_container_that_does_not_run,
						tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(a_sync_without_a_container_is_refused, tmpdir_make,
						tmpdir_remove),
		cmocka_unit_test_setup_teardown(ends_at_once_when_told_to, tmpdir_make,
						tmpdir_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
