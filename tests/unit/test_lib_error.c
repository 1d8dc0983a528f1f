/* The error idiom: one line, what it keeps and what it adds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "lib/error.h"

static void message_and_kind(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(error_set(&err, "disk %s is %d", "vda", 7), -1);
	assert_string_equal(err.msg, "disk vda is 7");
	assert_int_equal(err.kind, ERR_OTHER);
	assert_int_equal(error_kind(&err, ERR_EXISTS, "again"), -1);
	assert_string_equal(err.msg, "again");
	assert_int_equal(err.kind, ERR_EXISTS);
}

static void errno_is_told_and_kept(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	errno = ENOENT;
	assert_int_equal(error_errno(&err, "open %s", "/x"), -1);
	assert_string_equal(err.msg, "open /x: No such file or directory");
	assert_int_equal(err.errnum, ENOENT);
}

static void context_keeps_kind_and_errno(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	errno = EACCES;
	error_errno(&err, "open %s", "/x");
	err.kind = ERR_INVALID;
	assert_int_equal(error_wrap(&err, "container %s", "c1"), -1);
	assert_string_equal(err.msg, "container c1: open /x: Permission denied");
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(err.errnum, EACCES);
}

static void always_one_line(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	error_set(&err, "a\nb\tc\033[31md\x7f");
	assert_string_equal(err.msg, "a b c [31md ");
}

static void too_long_is_cut(void **state)
{
	static char text[3 * ERROR_MSG_MAX];
	struct error err = ERROR_INIT;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	error_set(&err, "%s", text);
	assert_int_equal(strlen(err.msg), ERROR_MSG_MAX - 1);
	error_wrap(&err, "context");
	assert_int_equal(strlen(err.msg), ERROR_MSG_MAX - 1);
	assert_memory_equal(err.msg, "context: x", 10);
	errno = EIO;
	error_errno(&err, "%s", text);
	assert_int_equal(strlen(err.msg), ERROR_MSG_MAX - 1);
}

static void nobody_cares(void **state)
{
	(void)state;
	assert_int_equal(error_set(NULL, "x"), -1);
	assert_int_equal(error_kind(NULL, ERR_PEER, "x"), -1);
	assert_int_equal(error_errno(NULL, "x"), -1);
	assert_int_equal(error_wrap(NULL, "x"), -1);
}

static void kinds_have_names(void **state)
{
	(void)state;
	for (int k = ERR_OTHER; k <= ERR_NO_ROOM; k++) {
		const char *name = error_kind_name((enum error_kind)k);

		assert_non_null(name);
		assert_int_equal(error_kind_from_name(name), k);
	}
	assert_string_equal(error_kind_name(ERR_CMD_NOT_FOUND), "cmd_not_found");
	assert_int_equal(error_kind_from_name("of a later version"), ERR_OTHER);
	assert_int_equal(error_kind_from_name(NULL), ERR_OTHER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(message_and_kind),
		cmocka_unit_test(errno_is_told_and_kept),
		cmocka_unit_test(context_keeps_kind_and_errno),
		cmocka_unit_test(always_one_line),
		cmocka_unit_test(too_long_is_cut),
		cmocka_unit_test(nobody_cares),
		cmocka_unit_test(kinds_have_names),
	};

	return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
