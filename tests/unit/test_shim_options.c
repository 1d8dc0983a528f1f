/* Command lines with the habits of runc's flags. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "shim/options.h"

static const char *bundle, *socket_path;
static bool detach, force;
static struct str_list env;

static const struct option_def defs[] = {
	{"bundle", "b", OPT_STR, &bundle, "DIR", "bundle"},
	{"console-socket", NULL, OPT_STR, &socket_path, "PATH", "socket"},
	{"detach", "d", OPT_FLAG, &detach, NULL, "detach"},
	{"force", "f", OPT_FLAG, &force, NULL, "force"},
	{"env", "e", OPT_LIST, &env, "NAME=VALUE", "environment"},
	{"criu", NULL, OPT_IGNORE, NULL, "PATH", "ignored"},
	{"no-pivot", NULL, OPT_IGNORE_FLAG, NULL, NULL, "ignored"},
	{0},
};

static int setup(void **state)
{
	(void)state;
	bundle = socket_path = NULL;
	detach = force = false;
	free(env.v);
	env = (struct str_list){0};
	return 0;
}

/* NULL-terminated words. Returns options_parse()'s result. */
#define PARSE(err, ...) parse(err, (const char *[]){__VA_ARGS__, NULL})

static int parse(struct error *err, const char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return options_parse(argc, (char **)argv, defs, "husk test", err);
}

static void value_forms(void **state)
{
	(void)state;
	assert_int_equal(PARSE(NULL, "--bundle", "/b", "id"), 2);
	assert_string_equal(bundle, "/b");
	assert_int_equal(PARSE(NULL, "--bundle=/c", "id"), 1);
	assert_string_equal(bundle, "/c");
	assert_int_equal(PARSE(NULL, "-b", "/d", "id"), 2);
	assert_string_equal(bundle, "/d");
	assert_int_equal(PARSE(NULL, "-bundle", "/e", "id"), 2);
	assert_string_equal(bundle, "/e");
	assert_int_equal(PARSE(NULL, "--bundle=", "id"), 1);
	assert_string_equal(bundle, "");
	assert_int_equal(PARSE(NULL, "--bundle", "--console-socket", "id"), 2);
	assert_string_equal(bundle, "--console-socket");
}

static void flag_forms(void **state)
{
	(void)state;
	assert_int_equal(PARSE(NULL, "--detach", "-f", "id"), 2);
	assert_true(detach && force);
	assert_int_equal(PARSE(NULL, "--detach=false", "-f=0", "id"), 2);
	assert_false(detach || force);
	assert_int_equal(PARSE(NULL, "--detach=true", "id"), 1);
	assert_true(detach);
}

static void options_end_at_the_first_operand(void **state)
{
	(void)state;
	assert_int_equal(PARSE(NULL, "-d", "id", "sh", "-f"), 1);
	assert_false(force);
	assert_int_equal(PARSE(NULL, "-d", "--", "-f"), 2);
	assert_false(force);
	assert_int_equal(PARSE(NULL, "-", "-f"), 0);
	assert_int_equal(parse(NULL, (const char *[]){NULL}), 0);
}

static int parse_all(struct error *err, const char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	return options_parse_all(argc, (char **)argv, defs, "husk test", err);
}

static void options_may_follow_operands(void **state)
{
	const char *mixed[] = {"one", "-d", "two", "--bundle", "/b", "three", NULL};
	const char *dashes[] = {"one", "-f", "--", "-d", "two", NULL};
	const char *plain[] = {"one", "two", NULL}, *none[] = {NULL}, *bad[] = {"one", "-x", NULL};

	(void)state;
	assert_int_equal(parse_all(NULL, mixed), 3);
	assert_true(detach);
	assert_string_equal(bundle, "/b");
	assert_string_equal(mixed[3], "one");
	assert_string_equal(mixed[4], "two");
	assert_string_equal(mixed[5], "three");
	detach = false;
	assert_int_equal(parse_all(NULL, dashes), 2);
	assert_true(force);
	assert_false(detach);
	assert_string_equal(dashes[2], "one");
	assert_string_equal(dashes[3], "-d");
	assert_string_equal(dashes[4], "two");
	assert_int_equal(parse_all(NULL, plain), 0);
	assert_string_equal(plain[0], "one");
	assert_string_equal(plain[1], "two");
	assert_int_equal(parse_all(NULL, none), 0);
	assert_int_equal(parse_all(NULL, bad), -1);
}

static void lists_collect(void **state)
{
	(void)state;
	assert_int_equal(PARSE(NULL, "-e", "A=1", "--env=B=2=3", "--env", "C=", "id"), 5);
	assert_int_equal(env.n, 3);
	assert_string_equal(env.v[0], "A=1");
	assert_string_equal(env.v[1], "B=2=3");
	assert_string_equal(env.v[2], "C=");
	assert_null(env.v[3]);
}

static void accepted_for_runcs_sake(void **state)
{
	(void)state;
	assert_int_equal(PARSE(NULL, "--criu", "/bin/criu", "--no-pivot", "-no-pivot", "id"), 4);
}

static void refused(int r, const struct error *err, const char *wanted)
{
	assert_int_equal(r, -1);
	assert_int_equal(err->kind, ERR_USAGE);
	assert_string_equal(err->msg, wanted);
}

static void errors_name_the_flag(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	refused(PARSE(&err, "--nope=1", "id"), &err,
		"husk test: unknown flag --nope: see 'husk test --help'");
	refused(PARSE(&err, "-x"), &err, "husk test: unknown flag -x: see 'husk test --help'");
	refused(PARSE(&err, "--bundle"), &err, "husk test: --bundle needs a value");
	refused(PARSE(&err, "-b"), &err, "husk test: --bundle needs a value");
	refused(PARSE(&err, "--detach=maybe"), &err,
		"husk test: --detach takes true or false, not \"maybe\"");
	/* No abbreviations: a caller's typing error must not become another flag. */
	refused(PARSE(&err, "--det"), &err,
		"husk test: unknown flag --det: see 'husk test --help'");
	refused(PARSE(&err, "--detached"), &err,
		"husk test: unknown flag --detached: see 'husk test --help'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(value_forms, setup),
		cmocka_unit_test_setup(flag_forms, setup),
		cmocka_unit_test_setup(options_end_at_the_first_operand, setup),
		cmocka_unit_test_setup(options_may_follow_operands, setup),
		cmocka_unit_test_setup_teardown(lists_collect, setup, setup),
		cmocka_unit_test_setup(accepted_for_runcs_sake, setup),
		cmocka_unit_test_setup(errors_name_the_flag, setup),
	};

	return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
