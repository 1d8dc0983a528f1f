/* Command look-up, environment, home directories; reports of a child that is being set up. */
#include "agent/exec.h"
#include "agent/sync.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "tmpdir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* ---- look-up */

static void make_file(const struct tmpdir *t, const char *name, mode_t mode)
{
	int fd = openat(t->fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	close(fd);
}

static void expect_found(const char *command, const char *path, const char *want)
{
	struct error err = ERROR_INIT;
	cleanup_free char *found = exec_lookup(command, path, &err);

	if (!found)
		fail_msg("%s", err.msg);
	assert_string_equal(found, want);
}

static void expect_error(const char *command, const char *path, enum error_kind kind,
			 const char *message)
{
	struct error err = ERROR_INIT;

	assert_null(exec_lookup(command, path, &err));
	assert_string_equal(err.msg, message);
	assert_int_equal(err.kind, kind);
}

static void test_lookup_in_path(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = xasprintf("/no/such/dir::.:%s/a:%s/b", t->path, t->path);
	cleanup_free char *want = xasprintf("%s/b/tool", t->path);

	assert_int_equal(mkdirat(t->fd, "a", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "b", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "a/tool", 0755), 0); /* a directory does not count */
	make_file(t, "b/tool", 0755);
	make_file(t, "b/data", 0644);
	expect_found("tool", path, want);
	expect_error("nosuch", path, ERR_CMD_NOT_FOUND,
		     "exec: \"nosuch\": executable file not found in $PATH");
	expect_error("data", path, ERR_CMD_NOT_FOUND,
		     "exec: \"data\": executable file not found in $PATH");
	expect_error("", path, ERR_CMD_NOT_FOUND, "exec: \"\": executable file not found in $PATH");
	expect_error("tool", "", ERR_CMD_NOT_FOUND,
		     "exec: \"tool\": executable file not found in $PATH");
}

static void test_lookup_default_path(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	cleanup_free char *found = exec_lookup("sh", NULL, &err);

	assert_non_null(found);
}

static void test_lookup_by_path(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *good = xasprintf("%s/good", t->path);
	cleanup_free char *bad = xasprintf("%s/bad", t->path);
	cleanup_free char *below = xasprintf("%s/bad/x", t->path);
	cleanup_free char *no = xasprintf("exec: \"%s\": permission denied", bad);
	cleanup_free char *dir = xasprintf("exec: \"%s\": permission denied", t->path);
	cleanup_free char *nd = xasprintf("exec: \"%s\": stat %s: not a directory", below, below);

	make_file(t, "good", 0755);
	make_file(t, "bad", 0644);
	expect_found(good, "/nowhere", good);
	expect_error("/x/nosuch", NULL, ERR_CMD_NOT_FOUND,
		     "exec: \"/x/nosuch\": stat /x/nosuch: no such file or directory");
	expect_error(bad, NULL, ERR_CMD_NOT_EXEC, no);
	expect_error(t->path, NULL, ERR_CMD_NOT_EXEC, dir);
	expect_error(below, NULL, ERR_CMD_NOT_FOUND, nd);
}

static void test_exec_format(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *bad = xasprintf("%s/bad", t->path);
	cleanup_free char *want = xasprintf("exec %s: exec format error", bad);
	char *const argv[] = {bad, NULL};
	struct error err = ERROR_INIT;
	int fd;

	fd = openat(t->fd, "bad", O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	assert_int_equal(write(fd, "garbage", 7), 7);
	close(fd);
	assert_int_equal(exec_now(bad, argv, argv + 1, &err), -1);
	assert_string_equal(err.msg, want);
	assert_int_equal(err.kind, ERR_CMD_NOT_EXEC);
}

/* ---- environment */

static void free_env(char **env)
{
	for (size_t i = 0; env[i]; i++)
		free(env[i]);
	free(env);
}

static void test_environment(void **state UNUSED)
{
	char *const in[] = {(char[]){"A=1"}, (char[]){"B=2"}, (char[]){"A=3=4"}, (char[]){"AB="}};
	char **out = exec_environment(in, ARRAY_LEN(in), "/home/x");

	assert_string_equal(out[0], "B=2");
	assert_string_equal(out[1], "A=3=4");
	assert_string_equal(out[2], "AB=");
	assert_string_equal(out[3], "HOME=/home/x");
	assert_null(out[4]);
	assert_string_equal(exec_getenv(out, "A"), "3=4");
	assert_string_equal(exec_getenv(out, "AB"), "");
	assert_null(exec_getenv(out, "HOM"));
	free_env(out);
}

static void test_home_is_kept_or_filled(void **state UNUSED)
{
	char *const given[] = {(char[]){"HOME=/own"}};
	char *const empty[] = {(char[]){"HOME="}};
	char **out = exec_environment(given, 1, "/home/x");

	assert_string_equal(out[0], "HOME=/own");
	assert_null(out[1]);
	free_env(out);
	out = exec_environment(empty, 1, "/home/x");
	assert_string_equal(out[0], "HOME=/home/x");
	assert_null(out[1]);
	free_env(out);
}

static void expect_home(const char *passwd, uint32_t uid, const char *want)
{
	cleanup_free char *home = exec_home(passwd, uid);

	assert_string_equal(home, want);
}

static void test_home(void **state UNUSED)
{
	const char *passwd = "# comment\n\nbroken:x\nroot:x:0:0:root:/root:/bin/sh\n"
			     "u:x:1000:1000:,,,:/home/u:/bin/sh\nv:x:10:1::\nw:x:11:1::/w";

	expect_home(passwd, 0, "/root");
	expect_home(passwd, 1000, "/home/u");
	expect_home(passwd, 100, "/");
	expect_home(passwd, 10, "/");
	expect_home(passwd, 11, "/w");
	expect_home("", 0, "/");
}

/* ---- reports */

static void test_reports(void **state UNUSED)
{
	const struct error why = {.kind = ERR_CMD_NOT_FOUND, .errnum = ENOENT, .msg = "exec: no"};
	struct error err = ERROR_INIT;
	enum child_stage stage = STAGE_SETUP;
	int ours, theirs;

	assert_int_equal(sync_pair(&ours, &theirs, &err), 0);
	assert_int_equal(sync_ready(theirs, &err), 0);
	assert_int_equal(sync_exec(theirs, &err), 0);
	sync_failed(theirs, &why);
	assert_int_equal(child_report(ours, &stage, &err), CHILD_READY);
	assert_int_equal(stage, STAGE_READY);
	assert_int_equal(child_report(ours, &stage, &err), CHILD_READY);
	assert_int_equal(stage, STAGE_EXEC);
	assert_int_equal(child_report(ours, &stage, &err), CHILD_FAILED);
	assert_string_equal(err.msg, "exec: no");
	assert_int_equal(err.kind, ERR_CMD_NOT_FOUND);
	assert_int_equal(err.errnum, ENOENT);
	close(theirs);
	assert_int_equal(child_report(ours, &stage, &err), CHILD_STARTED);
	close(ours);
}

static void test_early_death_is_a_failure(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	enum child_stage stage = STAGE_SETUP;
	int ours, theirs;

	assert_int_equal(sync_pair(&ours, &theirs, &err), 0);
	close(theirs);
	assert_int_equal(child_report(ours, &stage, &err), CHILD_FAILED);
	assert_true(err.msg[0] != '\0');
	close(ours);
}

static void test_a_death_between_ready_and_execve_is_a_failure(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	enum child_stage stage = STAGE_SETUP;
	int ours, theirs;

	assert_int_equal(sync_pair(&ours, &theirs, &err), 0);
	assert_int_equal(sync_ready(theirs, &err), 0);
	close(theirs);
	assert_int_equal(child_report(ours, &stage, &err), CHILD_READY);
	assert_int_equal(child_report(ours, &stage, &err), CHILD_FAILED);
	assert_string_equal(err.msg, "the process died before its command was executed");
	close(ours);
}

static void test_orders(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	int ours, theirs;

	assert_int_equal(sync_pair(&ours, &theirs, &err), 0);
	assert_int_equal(sync_order(ours, SYNC_GO, &err), 0);
	assert_int_equal(sync_await(theirs, SYNC_GO, &err), 0);
	assert_int_equal(sync_order(ours, SYNC_GO, &err), 0);
	assert_int_equal(sync_await(theirs, SYNC_START, &err), -1);
	close(ours);
	assert_int_equal(sync_await(theirs, SYNC_GO, &err), -1);
	close(theirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lookup_in_path, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_lookup_by_path, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_exec_format, tmpdir_make, tmpdir_remove),
		cmocka_unit_test(test_lookup_default_path),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_home_is_kept_or_filled),
		cmocka_unit_test(test_home),
		cmocka_unit_test(test_reports),
		cmocka_unit_test(test_a_death_between_ready_and_execve_is_a_failure),
		cmocka_unit_test(test_early_death_is_a_failure),
		cmocka_unit_test(test_orders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
