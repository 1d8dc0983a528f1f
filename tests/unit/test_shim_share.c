/* virtiofsd for shared mounts: what it sees, and that it ends with the sandbox. Needs root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/share.h"
#include "tests/unit/tmpdir.h"

#define WAIT_MS 20000

struct fixture {
	struct tmpdir *dir;
	char *ro, *file;
	struct planned_mount v[3];
	struct mount_plan plan;
	struct share share;
	int lifeline[2];
};

static void plan_add(struct fixture *f, const char *name, const char *path, bool dir, bool writable)
{
	struct planned_mount *m = &f->v[f->plan.n++];

	*m = (struct planned_mount){.from = MOUNT_FROM_SHARE,
				    .name = (char *)name,
				    .source = (char *)path,
				    .dir = dir,
				    .writable = writable,
				    .fd = open(path, O_PATH | O_CLOEXEC)};
	assert_true(m->fd >= 0);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	void *dir = NULL;
	int fd;

	if (tmpdir_make(&dir) < 0)
		return -1;
	f->dir = dir;
	f->ro = xasprintf("%s/ro", f->dir->path);
	f->file = xasprintf("%s/file", f->dir->path);
	mkdir(f->ro, 0755);
	fd = open(f->file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	close(fd);
	f->plan.v = f->v;
	plan_add(f, "m0", f->dir->path, true, true);
	plan_add(f, "m1", f->ro, true, false);
	plan_add(f, "m2", f->file, false, true);
	f->share = (struct share){.sock = -1, .news = -1};
	*state = f;
	/* Whatever the minder leaves comes to us. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	return pipe2(f->lifeline, O_CLOEXEC);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	void *dir = f->dir;

	share_free(&f->share);
	close_fd(&f->lifeline[0]);
	close_fd(&f->lifeline[1]);
	for (size_t i = 0; i < f->plan.n; i++)
		close_fd(&f->v[i].fd);
	free(f->ro);
	free(f->file);
	free(f);
	return tmpdir_remove(&dir);
}

static void start(struct fixture *f)
{
	struct error err = ERROR_INIT;

	if (geteuid() != 0 || access("/usr/lib/qemu/virtiofsd", X_OK) < 0)
		skip();
	if (share_start(&f->plan, NULL, f->lifeline[0], -1, &f->share, &err) < 0)
		fail_msg("%s", err.msg);
}

/* Asks for its features: it answers once it is in its jail. */
static void await_answer(const struct fixture *f)
{
	const uint32_t ask[3] = {1, 1, 0}; /* VHOST_USER_GET_FEATURES, version 1, no payload */
	struct pollfd p = {.fd = f->share.sock, .events = POLLIN};
	uint32_t answer[5];

	assert_int_equal(send(f->share.sock, ask, sizeof(ask), MSG_NOSIGNAL), sizeof(ask));
	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(recv(f->share.sock, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
	assert_int_equal(answer[0], 1);
}

/* The processes below `pid`, deepest last. */
static size_t descendants(pid_t pid, pid_t *v, size_t max)
{
	cleanup_free char *path = xasprintf("/proc/%d/task/%d/children", pid, pid);
	cleanup_free char *text = NULL;
	char *save = NULL;
	size_t n = 0;

	if (file_read(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
		return 0;
	for (char *w = strtok_r(text, " ", &save); w && n < max; w = strtok_r(NULL, " ", &save)) {
		v[n] = atoi(w);
		n++;
		n += descendants(v[n - 1], v + n, max - n);
	}
	return n;
}

static void await_end(struct fixture *f, const pid_t *v, size_t n)
{
	uint64_t end = now_us() + WAIT_MS * 1000ull;

	assert_int_equal(waitpid(f->share.pid, NULL, 0), f->share.pid);
	for (size_t i = 0; i < n; i++)
		while (kill(v[i], 0) == 0) {
			waitpid(-1, NULL, WNOHANG);
			if (now_us() > end)
				fail_msg("process %d is still there", v[i]);
			poll(NULL, 0, 1);
		}
}

static void sees_the_shares_alone(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *path = NULL, *probe = NULL;
	cleanup_dir DIR *d = NULL;
	const struct dirent *e;
	pid_t v[8];
	size_t n, seen = 0;

	start(f);
	await_answer(f);
	n = descendants(f->share.pid, v, ARRAY_LEN(v));
	assert_true(n >= 2);
	path = xasprintf("/proc/%d/root", v[n - 1]);
	d = opendir(path);
	assert_non_null(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		assert_int_equal(e->d_name[0], 'm');
		seen++;
	}
	assert_int_equal(seen, 3);
	probe = xasprintf("%s/m0/probe", path);
	assert_int_equal(mknod(probe, S_IFREG | 0644, 0), 0);
	assert_int_equal(unlink(probe), 0);
	free(probe);
	probe = xasprintf("%s/m1/probe", path);
	assert_int_equal(mknod(probe, S_IFREG | 0644, 0), -1);
	assert_int_equal(errno, EROFS);
	free(probe);
	probe = xasprintf("%s/probe", path);
	assert_int_equal(mknod(probe, S_IFREG | 0644, 0), -1);
	assert_int_equal(errno, EROFS);
	close_fd(&f->lifeline[1]);
	await_end(f, v, n);
}

static uint64_t capabilities_of(pid_t pid)
{
	cleanup_free char *path = xasprintf("/proc/%d/status", pid);
	cleanup_free char *text = NULL;
	const char *line;

	assert_int_equal(file_read(AT_FDCWD, path, 65536, &text, NULL, NULL), 0);
	line = strstr(text, "CapPrm:");
	assert_non_null(line);
	return strtoull(line + 7, NULL, 16);
}

static void makes_devices_only_for_who_may(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *probe = NULL;
	pid_t v[8];
	size_t n;

	for (int may = 0; may < 2; may++) {
		f->plan.mknod = may;
		start(f);
		await_answer(f);
		n = descendants(f->share.pid, v, ARRAY_LEN(v));
		assert_int_equal(capabilities_of(v[n - 1]) >> CAP_MKNOD & 1, may);
		assert_true(capabilities_of(v[n - 1]) & 1 << CAP_CHOWN);
		/* What is one opens none. */
		free(probe);
		probe = xasprintf("/proc/%d/root/m0/null", v[n - 1]);
		assert_int_equal(mknod(probe, S_IFCHR | 0666, makedev(1, 3)), 0);
		assert_int_equal(open(probe, O_RDONLY | O_CLOEXEC), -1);
		assert_int_equal(errno, EACCES);
		assert_int_equal(unlink(probe), 0);
		close_fd(&f->share.sock);
		await_end(f, v, n);
		close_fd(&f->share.news);
	}
}

static void ends_with_its_connection(void **state)
{
	struct fixture *f = *state;
	pid_t v[8];
	size_t n;

	start(f);
	await_answer(f);
	n = descendants(f->share.pid, v, ARRAY_LEN(v));
	close_fd(&f->share.sock);
	await_end(f, v, n);
}

static void ends_with_the_lifeline_before_it_is_up(void **state)
{
	struct fixture *f = *state;

	start(f);
	close_fd(&f->lifeline[1]);
	await_end(f, NULL, 0);
}

/* kill -9 of any one of its processes. */
static void ends_with_each_of_its_processes(void **state)
{
	struct fixture *f = *state;
	pid_t v[8] = {0};
	size_t n, victim = 0;

	do {
		if (victim > 0)
			assert_int_equal(share_start(&f->plan, NULL, f->lifeline[0], -1, &f->share,
						     NULL),
					 0);
		else
			start(f);
		await_answer(f);
		v[0] = f->share.pid;
		n = 1 + descendants(f->share.pid, v + 1, ARRAY_LEN(v) - 1);
		kill(v[victim], SIGKILL);
		await_end(f, v + 1, n - 1);
		share_free(&f->share);
	} while (++victim < n);
	assert_true(victim >= 3);
}

static void the_reason_is_told(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	uint64_t end = now_us() + WAIT_MS * 1000ull;

	setenv("HUSK_VIRTIOFSD", "/bin/false", 1);
	start(f);
	unsetenv("HUSK_VIRTIOFSD");
	while (err.msg[0] == '\0' && now_us() < end)
		share_blame(&f->share, &err);
	assert_string_equal(err.msg, "virtiofsd ended: it did not say why");
	setenv("HUSK_VIRTIOFSD", "/nonexistent", 1);
	share_free(&f->share);
	assert_int_equal(share_start(&f->plan, NULL, f->lifeline[0], -1, &f->share, &err), -1);
	unsetenv("HUSK_VIRTIOFSD");
	assert_non_null(strstr(err.msg, "apt-get install qemu-system-common"));
}

#define SHARE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SHARE_TEST(sees_the_shares_alone),
		SHARE_TEST(makes_devices_only_for_who_may),
		SHARE_TEST(ends_with_its_connection),
		SHARE_TEST(ends_with_the_lifeline_before_it_is_up),
		SHARE_TEST(ends_with_each_of_its_processes),
		SHARE_TEST(the_reason_is_told),
	};

	return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
