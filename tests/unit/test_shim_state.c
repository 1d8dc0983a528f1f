/* Containers' directories: ids, locks, state.json, and what is derived from the process table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/state.h"
#include "tests/unit/tmpdir.h"

static void good_ids(void **state)
{
	char longest[1025];

	(void)state;
	memset(longest, 'a', 1024);
	longest[1024] = '\0';
	assert_int_equal(id_check("c", NULL), 0);
	assert_int_equal(id_check("A.b_c+d-9", NULL), 0);
	assert_int_equal(id_check("...", NULL), 0);
	assert_int_equal(id_check("-x", NULL), 0);
	assert_int_equal(id_check(longest, NULL), 0);
}

static void bad_ids(void **state)
{
	static const char *const bad[] = {".",	 "..",	"a/b",	    "../x",
					  "a b", "a\n", "\xc3\xa9", "a:b"};
	struct error err = ERROR_INIT;
	char too_long[1026];

	(void)state;
	assert_int_equal(id_check("", &err), -1);
	assert_string_equal(err.msg, "container id must not be empty");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (id_check(bad[i], &err) == 0)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(err.kind, ERR_USAGE);
	memset(too_long, 'a', 1025);
	too_long[1025] = '\0';
	assert_int_equal(id_check(too_long, NULL), -1);
}

static void one_id_one_container(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *root = xasprintf("%s/not/yet", t->path);
	cleanup_container_dir struct container_dir a = {.fd = -1}, b = {.fd = -1};
	struct error err = ERROR_INIT;

	assert_int_equal(dir_make(root, "c", &a, NULL), 0);
	assert_int_equal(dir_make(root, "c", &b, &err), -1);
	assert_int_equal(err.kind, ERR_EXISTS);
	assert_string_equal(err.msg, "container with given ID already exists: \"c\"");
}

static void missing_container(void **state)
{
	const struct tmpdir *t = *state;
	struct container_dir d;
	struct error err = ERROR_INIT;

	assert_int_equal(dir_open(t->path, "none", false, 0, &d, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_string_equal(err.msg, "container \"none\" does not exist");
	assert_int_equal(dir_open(t->path, "../etc", false, 0, &d, &err), -1);
	assert_int_equal(err.kind, ERR_USAGE);
}

static void lock_keeps_others_out(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir a = {.fd = -1}, b = {.fd = -1};
	struct error err = ERROR_INIT;

	assert_int_equal(dir_make(t->path, "c", &a, NULL), 0);
	assert_int_equal(dir_open(t->path, "c", true, 5, &b, &err), -1);
	assert_int_equal(err.kind, ERR_TIMEOUT);
	assert_int_equal(dir_open(t->path, "c", false, 0, &b, NULL), 0);
	dir_unlock(&a);
	assert_int_equal(dir_lock(&b, 5, NULL), 0);
}

/* Whoever dies holding the lock takes it along. */
static void lock_ends_with_its_holder(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};
	pid_t child = fork();

	if (child == 0) {
		struct container_dir mine;

		dir_make(t->path, "c", &mine, NULL);
		kill(getpid(), SIGKILL);
	}
	waitpid(child, NULL, 0);
	assert_int_equal(dir_open(t->path, "c", true, 0, &d, NULL), 0);
}

static void deleted_while_waiting_for_the_lock(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir a = {.fd = -1}, b = {.fd = -1};
	struct error err = ERROR_INIT;

	assert_int_equal(dir_make(t->path, "c", &a, NULL), 0);
	assert_int_equal(dir_open(t->path, "c", false, 0, &b, NULL), 0);
	assert_int_equal(dir_remove(&a, NULL), 0);
	dir_unlock(&a);
	assert_int_equal(dir_lock(&b, 10, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static struct container_state sample(pid_t pid, enum oci_status status)
{
	return (struct container_state){
		.id = (char *)"c",
		.bundle = (char *)"/b",
		.rootfs = (char *)"/b/rootfs",
		.created = {.tv_sec = 1767366245, .tv_nsec = 250000000},
		.status = status,
		.pid = pid,
		.pid_start = proc_start_time(pid),
		.vmm_pid = pid,
		.vmm_start = proc_start_time(pid),
		.engine = (char *)"qemu",
		.config = (char *)"{\"a\": \"\\\"\\u00e9\"}\n",
	};
}

static void state_comes_back(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state got = {0};
	struct container_state s = sample(getpid(), OCI_STATUS_RUNNING);
	struct stat st;

	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	assert_int_equal(state_save(&d, &s, NULL), 0);
	assert_int_equal(state_load(&d, &got, NULL), 0);
	assert_string_equal(got.id, "c");
	assert_string_equal(got.bundle, "/b");
	assert_string_equal(got.rootfs, "/b/rootfs");
	assert_string_equal(got.config, s.config);
	assert_string_equal(got.engine, "qemu");
	assert_int_equal(got.status, OCI_STATUS_RUNNING);
	assert_int_equal(got.pid, getpid());
	assert_int_equal(got.vmm_pid, getpid());
	assert_int_equal(got.created.tv_sec, 1767366245);
	assert_int_equal(got.created.tv_nsec, 250000000);
	assert_int_equal(fstatat(d.fd, "state.json", &st, 0), 0);
	assert_int_equal(st.st_mode & 077, 0);
}

static void state_of_a_pod_comes_back(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state got = {0}, other = {0};
	struct container_state s = sample(getpid(), OCI_STATUS_RUNNING);

	s.is_sandbox = true;
	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	assert_int_equal(state_save(&d, &s, NULL), 0);
	assert_int_equal(state_load(&d, &got, NULL), 0);
	assert_true(got.is_sandbox);
	assert_null(got.sandbox);
	s.is_sandbox = false;
	s.sandbox = (char *)"the-sandbox";
	s.tag = (char *)"0123abcd";
	assert_int_equal(state_save(&d, &s, NULL), 0);
	assert_int_equal(state_load(&d, &other, NULL), 0);
	assert_false(other.is_sandbox);
	assert_string_equal(other.sandbox, "the-sandbox");
	assert_string_equal(other.tag, "0123abcd");
}

/* Whatever the file says: a container whose proxy has gone is stopped. */
static void gone_proxy_means_stopped(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};
	struct container_state s = sample(getpid(), OCI_STATUS_RUNNING);
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	waitpid(child, NULL, 0);
	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	for (int reused = 0; reused < 2; reused++) {
		cleanup_state struct container_state got = {0};

		s.pid = reused ? getpid() : child;
		s.pid_start = proc_start_time(getpid()) + 1; /* another process's */
		assert_int_equal(state_save(&d, &s, NULL), 0);
		assert_int_equal(state_load(&d, &got, NULL), 0);
		assert_int_equal(got.status, OCI_STATUS_STOPPED);
		assert_int_equal(got.pid, 0);
	}
}

static void half_made_has_no_state(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};
	struct container_state got;
	struct error err = ERROR_INIT;

	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	assert_int_equal(state_load(&d, &got, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void damaged_state(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "{}", "{\"id\":\"c\"}", "{\"id\":7}"};
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};

	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct container_state got;
		struct error err = ERROR_INIT;

		file_write_atomic(d.fd, "state.json", bad[i], strlen(bad[i]), 0600, NULL);
		assert_int_equal(state_load(&d, &got, &err), -1);
		assert_non_null(strstr(err.msg, "state.json"));
		assert_int_not_equal(err.kind, ERR_NOT_FOUND);
	}
}

static void all_is_removed(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};
	struct container_state s = sample(getpid(), OCI_STATUS_CREATED);

	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	state_save(&d, &s, NULL);
	file_write_atomic(d.fd, "exec.1", "x", 1, 0600, NULL);
	assert_int_equal(dir_remove(&d, NULL), 0);
	assert_int_equal(access(d.path, F_OK), -1);
}

static void listed_in_order(void **state)
{
	const struct tmpdir *t = *state;
	static const char *const ids[] = {"b", "a", "a.1"};
	cleanup_free char *none = xasprintf("%s/none", t->path);
	char **v = state_list(none, NULL);

	assert_non_null(v);
	assert_null(v[0]);
	strv_free(v);
	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		cleanup_container_dir struct container_dir d = {.fd = -1};

		assert_int_equal(dir_make(t->path, ids[i], &d, NULL), 0);
	}
	v = state_list(t->path, NULL);
	assert_string_equal(v[0], "a");
	assert_string_equal(v[1], "a.1");
	assert_string_equal(v[2], "b");
	assert_null(v[3]);
	strv_free(v);
}

static void pid_file(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = xasprintf("%s/pid", t->path);
	cleanup_free char *bad = xasprintf("%s/none/pid", t->path);
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;

	assert_int_equal(pid_file_write(path, 4711, NULL), 0);
	assert_int_equal(file_read(AT_FDCWD, path, 32, &text, NULL, NULL), 0);
	assert_string_equal(text, "4711");
	assert_int_equal(pid_file_write(bad, 1, &err), -1);
	assert_non_null(strstr(err.msg, "--pid-file"));
}

/* A process that is at a container until a signal ends it. */
static pid_t busy_with(const char *root)
{
	cleanup_container_dir struct container_dir d = {.fd = -1};
	char c = 0;
	pid_t pid;
	int p[2];

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		if (dir_open(root, "c", true, 0, &d, NULL) < 0)
			_exit(1);
		dir_note(&d);
		(void)!write(p[1], "x", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	close(p[1]);
	return pid;
}

static void who_noted_itself_can_be_interrupted(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};
	int status = 0;
	pid_t pid;

	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	assert_false(dir_interrupt(&d, SIGTERM));
	dir_unlock(&d);
	pid = busy_with(t->path);
	assert_int_equal(dir_lock(&d, 0, NULL), -1);
	assert_true(dir_interrupt(&d, SIGTERM));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WTERMSIG(status), SIGTERM);
	assert_int_equal(dir_lock(&d, 0, NULL), 0);
	/* Its note is still there, and of nobody. */
	assert_false(dir_interrupt(&d, SIGTERM));
	dir_note(&d);
	assert_true(dir_interrupt(&d, 0));
	dir_unlock(&d);
	assert_false(dir_interrupt(&d, 0));
}

static void a_note_that_is_none_interrupts_nobody(void **state)
{
	static const char *const bad[] = {"", "x", "-1 5", "0 0", "1", "1 1", "999999999999 3"};
	const struct tmpdir *t = *state;
	cleanup_container_dir struct container_dir d = {.fd = -1};

	assert_int_equal(dir_make(t->path, "c", &d, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(
			file_write_atomic(d.fd, "busy", bad[i], strlen(bad[i]), 0600, NULL), 0);
		assert_false(dir_interrupt(&d, 0));
	}
}

#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_ids),
		cmocka_unit_test(bad_ids),
		DIR_TEST(one_id_one_container),
		DIR_TEST(missing_container),
		DIR_TEST(lock_keeps_others_out),
		DIR_TEST(lock_ends_with_its_holder),
		DIR_TEST(deleted_while_waiting_for_the_lock),
		DIR_TEST(state_comes_back),
		DIR_TEST(state_of_a_pod_comes_back),
		DIR_TEST(gone_proxy_means_stopped),
		DIR_TEST(half_made_has_no_state),
		DIR_TEST(damaged_state),
		DIR_TEST(all_is_removed),
		DIR_TEST(listed_in_order),
		DIR_TEST(pid_file),
		DIR_TEST(who_noted_itself_can_be_interrupted),
		DIR_TEST(a_note_that_is_none_interrupts_nobody),
	};

	return cmocka_run_group_tests_name("state", tests, NULL, NULL);
}
