/* Files: whole reads with a bound, atomic replacement, directories; and processes by start time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "tests/unit/tmpdir.h"

static void whole_file(void **state)
{
	const struct tmpdir *t = *state;
	static char big[100000];
	cleanup_free char *text = NULL;
	size_t len = 0;

	memset(big, 'z', sizeof(big));
	assert_int_equal(file_write_atomic(t->fd, "f", big, sizeof(big), 0600, NULL), 0);
	assert_int_equal(file_read(t->fd, "f", sizeof(big), &text, &len, NULL), 0);
	assert_int_equal(len, sizeof(big));
	assert_memory_equal(text, big, len);
	assert_int_equal(text[len], 0);
}

static void larger_than_allowed(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	char *text = NULL;

	file_write_atomic(t->fd, "f", "12345", 5, 0600, NULL);
	assert_int_equal(file_read(t->fd, "f", 4, &text, NULL, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_string_equal(err.msg, "f: larger than 4 bytes");
}

static void missing_file(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	char *text = NULL;

	assert_int_equal(file_read(t->fd, "none", 10, &text, NULL, &err), -1);
	assert_string_equal(err.msg, "open none: No such file or directory");
}

static int entries(const struct tmpdir *t)
{
	cleanup_dir DIR *d = opendir(t->path);
	int n = 0;

	while (readdir(d))
		n++;
	return n - 2;
}

static void replaced_as_a_whole(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_close int old = -1;
	cleanup_free char *text = NULL;
	char buf[8] = "";
	struct stat st;

	file_write_atomic(t->fd, "f", "old", 3, 0600, NULL);
	old = openat(t->fd, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(file_write_atomic(t->fd, "f", "newer", 5, 0640, NULL), 0);
	assert_int_equal(read(old, buf, sizeof(buf)), 3);
	assert_string_equal(buf, "old");
	assert_int_equal(file_read(t->fd, "f", 100, &text, NULL, NULL), 0);
	assert_string_equal(text, "newer");
	assert_int_equal(fstatat(t->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(entries(t), 1);
}

static void put_writes_once_and_makes_nothing(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	cleanup_free char *text = NULL;

	assert_int_equal(file_put(t->fd, "knob", "1", &err), -1);
	assert_string_equal(err.msg, "open knob: No such file or directory");
	file_write_atomic(t->fd, "knob", "", 0, 0600, NULL);
	assert_int_equal(file_put(t->fd, "knob", "1", NULL), 0);
	assert_int_equal(file_read(t->fd, "knob", 10, &text, NULL, NULL), 0);
	assert_string_equal(text, "1");
	assert_int_equal(file_put(AT_FDCWD, "/proc/self/oom_score_adj", "none", &err), -1);
	assert_string_equal(err.msg,
			    "write \"none\" to /proc/self/oom_score_adj: Invalid argument");
}

static void parents_are_made(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = xasprintf("%s/a/b/c", t->path);
	cleanup_free char *file = xasprintf("%s/f/x", t->path);
	struct error err = ERROR_INIT;
	struct stat st;

	assert_int_equal(mkdir_p(path, 0700, NULL), 0);
	assert_int_equal(mkdir_p(path, 0700, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	file_write_atomic(t->fd, "f", "", 0, 0600, NULL);
	assert_int_equal(mkdir_p(file, 0700, &err), -1);
	assert_int_equal(mkdir_p("", 0700, NULL), -1);
	assert_non_null(strstr(err.msg, "mkdir"));
}

static void disk_full_is_told(void **state)
{
	struct error err = ERROR_INIT;
	cleanup_close int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(write_all(fd, "x", 1, &err), -1);
	assert_string_equal(err.msg, "write: No space left on device");
}

static void start_time_names_a_process(void **state)
{
	uint64_t mine = proc_start_time(getpid());
	pid_t child;

	(void)state;
	assert_true(mine > 0);
	assert_int_equal(proc_start_time(getpid()), mine);
	assert_int_equal(proc_start_time(0), 0);
	assert_int_equal(proc_start_time(-1), 0);
	child = fork();
	if (child == 0) {
		pause();
		_exit(0);
	}
	assert_true(proc_start_time(child) >= mine);
	kill(child, SIGKILL);
	/* Once it is a zombie, it is no process any more. */
	assert_int_equal(waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	assert_int_equal(proc_start_time(child), 0);
	waitpid(child, NULL, 0);
	assert_int_equal(proc_start_time(child), 0);
}

static void flags_of_descriptors(void **state)
{
	cleanup_close int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(set_nonblock(fd, true), 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	set_nonblock(fd, false);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK);
	set_cloexec(fd, false);
	assert_false(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(set_nonblock(-1, true), -1);
}

static void an_empty_directory_is_told(void **state)
{
	const struct tmpdir *t = *state;

	assert_true(dir_is_empty(t->fd, "."));
	assert_true(dir_is_empty(AT_FDCWD, t->path));
	assert_int_equal(mkdirat(t->fd, "d", 0700), 0);
	assert_false(dir_is_empty(t->fd, "."));
	assert_true(dir_is_empty(t->fd, "d"));
	assert_false(dir_is_empty(t->fd, "none"));
}

static void controls_are_replaced(void **state UNUSED)
{
	char s[] = "a\x1b[1m\tb\x7f \xc2\x9b"
		   "c \xc3\xa9\xc2\xa0 \xc2";

	replace_controls(s, '?');
	assert_string_equal(s, "a?[1m?b? ??c \xc3\xa9\xc2\xa0 \xc2");
}

static void *end_when_told(void *arg)
{
	char c;

	if (read(*(int *)arg, &c, 1) < 0)
		_exit(1);
	return NULL;
}

static bool is_zombie(pid_t pid)
{
	cleanup_free char *path = xasprintf("/proc/%d/stat", (int)pid);
	cleanup_free char *text = NULL;

	assert_int_equal(file_read(AT_FDCWD, path, 4096, &text, NULL, NULL), 0);
	return strstr(text, ") Z ") != NULL;
}

/* A process lives, and has its files open, until its last thread has ended. */
static void a_process_without_its_first_thread(void **state)
{
	int told[2];
	pid_t child;

	(void)state;
	assert_int_equal(pipe(told), 0);
	child = fork();
	if (child == 0) {
		pthread_t t;

		close(told[1]);
		if (pthread_create(&t, NULL, end_when_told, &told[0]) != 0)
			_exit(1);
		syscall(SYS_exit, 0);
	}
	close(told[0]);
	while (!is_zombie(child))
		poll(NULL, 0, 1);
	assert_true(proc_start_time(child) > 0);
	assert_true(proc_is_ending(child));
	assert_false(proc_is_ending(getpid()));
	close(told[1]);
	assert_int_equal(waitid(P_PID, (id_t)child, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
	assert_int_equal(proc_start_time(child), 0);
	waitpid(child, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_file, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(larger_than_allowed, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(missing_file, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(replaced_as_a_whole, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(put_writes_once_and_makes_nothing, tmpdir_make,
						tmpdir_remove),
		cmocka_unit_test_setup_teardown(parents_are_made, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(an_empty_directory_is_told, tmpdir_make,
						tmpdir_remove),
		cmocka_unit_test(controls_are_replaced),
		cmocka_unit_test(disk_full_is_told),
		cmocka_unit_test(start_time_names_a_process),
		cmocka_unit_test(a_process_without_its_first_thread),
		cmocka_unit_test(flags_of_descriptors),
	};

	return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
