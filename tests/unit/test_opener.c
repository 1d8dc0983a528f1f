/* The opener: which files it gives, and that it gives nothing else. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/opener.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "tmpdir.h"

static struct opener *o;

static int start(void **state)
{
	struct error err = ERROR_INIT;

	o = opener_start(&err);
	if (!o)
		print_error("%s\n", err.msg);
	return o ? tmpdir_make(state) : -1;
}

static int stop(void **state)
{
	opener_free(o);
	return tmpdir_remove(state);
}

static void make(const struct tmpdir *t, const char *name, const char *text, mode_t mode)
{
	int fd = openat(t->fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, mode);

	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void expect(int fd, const char *text)
{
	char buf[64] = "";

	assert_true(fd >= 0);
	assert_int_equal(read(fd, buf, sizeof(buf) - 1), strlen(text));
	assert_string_equal(buf, text);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
}

static void test_opens_files_beneath(void **state)
{
	const struct tmpdir *t = *state;

	make(t, "a", "hello", 0644);
	mkdirat(t->fd, "d", 0700);
	make(t, "d/b", "deep", 0600);
	assert_int_equal(fchownat(t->fd, "d/b", 12345, 12345, 0), 0);
	expect(opener_open(o, t->fd, "a"), "hello");
	expect(opener_open(o, t->fd, "d/b"), "deep");
	assert_int_equal(opener_open(o, t->fd, "none"), -ENOENT);
}

static void test_does_not_leave_the_directory(void **state)
{
	const struct tmpdir *t = *state;

	mkdirat(t->fd, "in", 0755);
	make(t, "out", "secret", 0644);
	symlinkat("../out", t->fd, "in/link");
	symlinkat("..", t->fd, "in/up");
	symlinkat("/proc/self/root", t->fd, "in/root");
	{
		cleanup_close int in = openat(t->fd, "in", O_RDONLY | O_DIRECTORY);

		assert_int_equal(opener_open(o, in, "../out"), -EXDEV);
		assert_int_equal(opener_open(o, in, "/etc/passwd"), -EXDEV);
		assert_int_equal(opener_open(o, in, "link"), -ESTALE);
		assert_int_equal(opener_open(o, in, "up/out"), -ELOOP);
		assert_int_equal(opener_open(o, in, "root/etc/passwd"), -ELOOP);
		assert_int_equal(opener_open(o, in, ""), -ENOENT);
	}
}

static void test_gives_regular_files_alone(void **state)
{
	const struct tmpdir *t = *state;

	mkdirat(t->fd, "dir", 0755);
	assert_int_equal(mknodat(t->fd, "fifo", S_IFIFO | 0644, 0), 0);
	assert_int_equal(mknodat(t->fd, "sock", S_IFSOCK | 0644, 0), 0);
	assert_int_equal(opener_open(o, t->fd, "dir"), -ESTALE);
	assert_int_equal(opener_open(o, t->fd, "."), -ESTALE);
	assert_int_equal(opener_open(o, t->fd, "fifo"), -ESTALE);
	assert_int_equal(opener_open(o, t->fd, "sock"), -ESTALE);
}

/* To open a device or a pipe is to do something to it. */
static void test_opens_nothing_else(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_close int seen = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	static const char *const names[] = {"fifo", "null", "file"};
	char link[64], events[1024];

	assert_int_equal(mknodat(t->fd, "fifo", S_IFIFO | 0644, 0), 0);
	assert_int_equal(mknodat(t->fd, "null", S_IFCHR | 0644, makedev(1, 3)), 0);
	make(t, "file", "text", 0644);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d/%s", t->fd, names[i]);
		assert_true(inotify_add_watch(seen, link, IN_OPEN) >= 0);
	}
	assert_int_equal(opener_open(o, t->fd, "fifo"), -ESTALE);
	assert_int_equal(opener_open(o, t->fd, "null"), -ESTALE);
	assert_int_equal(read(seen, events, sizeof(events)), -1);
	expect(opener_open(o, t->fd, "file"), "text");
	assert_int_equal(read(seen, events, sizeof(events)), sizeof(struct inotify_event));
}

/* A request with several descriptors, which husk-vmm does not make. */
static void test_keeps_no_descriptor(void **state)
{
	const struct tmpdir *t = *state;
	char path[] = "a";

	make(t, "a", "hello", 0644);
	expect(opener_open(o, t->fd, "a"), "hello");
	for (int i = 0; i < 64; i++) {
		union {
			char buf[CMSG_SPACE(4 * sizeof(int))];
			struct cmsghdr head;
		} ctl = {.head = {.cmsg_level = SOL_SOCKET,
				  .cmsg_type = SCM_RIGHTS,
				  .cmsg_len = CMSG_LEN(4 * sizeof(int))}};
		int fds[4] = {t->fd, t->fd, t->fd, t->fd}, answer = -1;
		struct iovec iov = {path, sizeof(path)};
		struct msghdr m = {.msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = ctl.buf,
				   .msg_controllen = sizeof(ctl.buf)};

		memcpy(CMSG_DATA(&ctl.head), fds, sizeof(fds));
		assert_int_equal(sendmsg(opener_fd(o), &m, 0), sizeof(path));
		assert_int_equal(recv(opener_fd(o), &answer, sizeof(answer), 0), sizeof(answer));
		assert_int_equal(answer, 0);
	}
	expect(opener_open(o, t->fd, "a"), "hello");
}

/* Deeper than one system call takes. */
static void test_opens_deep_paths(void **state)
{
	const struct tmpdir *t = *state;
	char name[256], *path = NULL;
	int at = dup(t->fd);

	memset(name, 'n', 250);
	name[250] = '\0';
	for (int i = 0; i < 40; i++) {
		char *longer = path ? xasprintf("%s/%s", path, name) : xstrdup(name);
		int next;

		free(path);
		path = longer;
		assert_int_equal(mkdirat(at, name, 0755), 0);
		next = openat(at, name, O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	{
		struct tmpdir deep = {.fd = at};
		cleanup_free char *file = xasprintf("%s/f", path);

		make(&deep, "f", "far down", 0644);
		expect(opener_open(o, t->fd, file), "far down");
		free(path);
		path = xasprintf("%s/../f", file);
		assert_true(opener_open(o, t->fd, path) < 0);
	}
	free(path);
	/* nftw(3) does not come so far. */
	unlinkat(at, "f", 0);
	for (int i = 0; i < 40; i++) {
		int up = openat(at, "..", O_RDONLY | O_DIRECTORY);

		assert_int_equal(unlinkat(up, name, AT_REMOVEDIR), 0);
		close(at);
		at = up;
	}
	close(at);
}

static void test_refuses_what_is_too_long(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = xcalloc(1, OPENER_PATH_MAX + 1);

	memset(path, 'a', OPENER_PATH_MAX);
	assert_int_equal(opener_open(o, t->fd, path), -ENAMETOOLONG);
	path[OPENER_PATH_MAX - 1] = '\0';
	assert_int_equal(opener_open(o, t->fd, path), -ENAMETOOLONG);
	assert_int_equal(opener_open(o, -1, "a"), -EINVAL);
	make(t, "a", "still there", 0644);
	expect(opener_open(o, t->fd, "a"), "still there");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opens_files_beneath, start, stop),
		cmocka_unit_test_setup_teardown(test_does_not_leave_the_directory, start, stop),
		cmocka_unit_test_setup_teardown(test_gives_regular_files_alone, start, stop),
		cmocka_unit_test_setup_teardown(test_opens_nothing_else, start, stop),
		cmocka_unit_test_setup_teardown(test_keeps_no_descriptor, start, stop),
		cmocka_unit_test_setup_teardown(test_opens_deep_paths, start, stop),
		cmocka_unit_test_setup_teardown(test_refuses_what_is_too_long, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
