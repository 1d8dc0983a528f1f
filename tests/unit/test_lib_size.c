/* Sizes as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "lib/size.h"

static void numbers_with_and_without_units(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0},
		    {"1", 1},
		    {"1k", 1024},
		    {"3M", UINT64_C(3) << 20},
		    {"2g", UINT64_C(2) << 30},
		    {"16T", UINT64_C(16) << 40},
		    {"18446744073709551615", UINT64_MAX},
		    {"16777215T", UINT64_C(16777215) << 40}};
	uint64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_true(size_parse(good[i].text, &v));
		assert_int_equal(v, good[i].bytes);
	}
}

static void what_is_none(void **state)
{
	static const char *const bad[] = {"",
					  "M",
					  "-1",
					  "+1",
					  "1.5G",
					  "10GB",
					  " 1",
					  "1 ",
					  "0x1",
					  "1P",
					  "18446744073709551616",
					  "1MM",
					  "1\n",
					  "16777216T"};
	uint64_t v = 7;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (size_parse(bad[i], &v))
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(v, 7);
}

static void written_in_the_largest_whole_unit(void **state)
{
	char buf[SIZE_TEXT];

	(void)state;
	assert_string_equal(size_text(0, buf), "0");
	assert_string_equal(size_text(1023, buf), "1023");
	assert_string_equal(size_text(1024, buf), "1K");
	assert_string_equal(size_text(1536, buf), "1536");
	assert_string_equal(size_text(UINT64_C(10) << 30, buf), "10G");
	assert_string_equal(size_text(UINT64_C(2048) << 40, buf), "2048T");
	assert_string_equal(size_text(UINT64_MAX, buf), "18446744073709551615");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_with_and_without_units),
		cmocka_unit_test(what_is_none),
		cmocka_unit_test(written_in_the_largest_whole_unit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
