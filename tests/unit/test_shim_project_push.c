/* What the guest says when files were pushed to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "shim/project_push.h"

static void answers_to_a_push(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(push_result_parse("ok\n", 3, NULL), 0);
	assert_int_equal(push_result_parse("ok", 2, &err), -1);
	assert_string_equal(err.msg, "the guest did not say how it went");
	assert_int_equal(push_result_parse("error: m1: full\033[\n", 18, &err), -1);
	assert_string_equal(err.msg, "the guest: m1: full?[");
	assert_int_equal(push_result_parse("\n", 1, &err), -1);
	assert_string_equal(err.msg, "the guest: no reason given");
	assert_int_equal(push_result_parse("", 0, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_to_a_push),
	};

	return cmocka_run_group_tests_name("project push", tests, NULL, NULL);
}
