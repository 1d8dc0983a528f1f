/* Projected files that host and guest both change: shim/mirror_projects.c. The guest is a directory
 * whose files come as a changeset. */
#include "shim/mirror_projects.h"
#include "lib/changeset/collect.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/mount_plan.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/unit/tmpdir.h"

#define BOUND_US 20000000

struct fixture {
	struct tmpdir *tmp;
	struct timespec since;
	int inotify;
	struct projects_mirror *p;
};

static void put(const struct fixture *f, const char *name, const char *text)
{
	cleanup_close int fd =
		openat(f->tmp->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text), NULL), 0);
}

static void assert_content(const struct fixture *f, const char *name, const char *wanted)
{
	cleanup_free char *text = NULL;
	size_t len;

	assert_int_equal(file_read(f->tmp->fd, name, 4096, &text, &len, NULL), 0);
	assert_string_equal(text, wanted);
}

/* Three mounts: log (writable file), hosts (read-only file), conf (directory). */
static void save_plan(const struct fixture *f)
{
	static const char *const names[] = {"log", "hosts", "conf"};
	struct planned_mount v[3] = {0};
	struct mount_plan plan = {.v = v, .n = 3, .projects = 3};
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < 3; i++) {
		v[i].index = i;
		v[i].from = MOUNT_FROM_PROJECT;
		v[i].name = xasprintf("p%zu", i);
		v[i].source = xasprintf("%s/%s", f->tmp->path, names[i]);
		v[i].dir = i == 2;
		v[i].writable = i == 0;
		v[i].fd = open(v[i].source, O_PATH | O_CLOEXEC);
		assert_int_equal(mount_identity(v[i].fd, v[i].identity, &err), 0);
	}
	assert_int_equal(mount_plan_save(&plan, f->tmp->fd, &err), 0);
	for (size_t i = 0; i < 3; i++) {
		free(v[i].name);
		free(v[i].source);
		close_fd(&v[i].fd);
	}
}

/* What was changed before is older than what is changed after, on the clock of change times. */
static void next_tick(void)
{
	struct timespec first, now;

	clock_gettime(CLOCK_REALTIME_COARSE, &first);
	do {
		poll(NULL, 0, 1);
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	} while ((now.tv_sec - first.tv_sec) * 1000000000 + now.tv_nsec - first.tv_nsec < 15000000);
}

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	void *tmp;

	if (tmpdir_make(&tmp) < 0)
		return -1;
	f->tmp = tmp;
	*state = f;
	put(f, "log", "");
	put(f, "hosts", "1");
	mkdirat(f->tmp->fd, "conf", 0755);
	put(f, "conf/a", "1");
	mkdirat(f->tmp->fd, "guest", 0755);
	save_plan(f);
	next_tick();
	clock_gettime(CLOCK_REALTIME, &f->since);
	next_tick();
	f->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return f->inotify < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	void *tmp = f->tmp;

	pm_free(f->p);
	close_fd(&f->inotify);
	free(f);
	return tmpdir_remove(&tmp);
}

static void open_it(struct fixture *f)
{
	struct error err = ERROR_INIT;

	f->p = pm_open(f->tmp->fd, f->since, &err);
	assert_non_null(f->p);
	pm_watch(f->p, f->inotify);
}

/* The names that are sent until nothing is pending any more. */
static char *sent(struct fixture *f)
{
	uint64_t end = now_us() + BOUND_US;
	char *all = xstrdup("");

	for (;;) {
		_Alignas(struct inotify_event) char buf[4096];
		struct pollfd p = {.fd = f->inotify, .events = POLLIN};
		char **names;
		int *fds;
		ssize_t n;
		size_t k;

		while ((n = read(f->inotify, buf, sizeof(buf))) > 0)
			for (char *at = buf; at < buf + n;) {
				const struct inotify_event *e = (void *)at;

				pm_event(f->p, e);
				at += sizeof(*e) + e->len;
			}
		if (!pm_pending(f->p))
			return all;
		assert_true(now_us() < end);
		k = pm_take(f->p, false, &names, &fds);
		for (size_t i = 0; i < k; i++) {
			char *more = xasprintf("%s%s%s", all, all[0] ? " " : "", names[i]);

			assert_true(fds[i] >= 0);
			free(all);
			all = more;
		}
		pm_pushed(f->p, true);
		poll(&p, 1, 10);
	}
}

static void assert_sent(struct fixture *f, const char *wanted)
{
	cleanup_free char *got = sent(f);

	assert_string_equal(got, wanted);
}

/* The guest's copy of member `name` is guest/<file>. */
static int receive(struct fixture *f, const char *name, const char *file, struct error *err)
{
	cleanup_close int stream = open(f->tmp->path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
	cleanup_close int fd = openat(f->tmp->fd, file, O_RDONLY | O_CLOEXEC);
	char *names[] = {(char *)name};
	struct cs_counts n = {0};

	assert_true(stream >= 0 && fd >= 0);
	assert_int_equal(cs_collect_members(names, &fd, 1, stream, &n, err), 0);
	lseek(stream, 0, SEEK_SET);
	return pm_receive(f->p, stream, err);
}

static void guest_writes(struct fixture *f, const char *name, const char *text)
{
	struct error err = ERROR_INIT;

	put(f, "guest/file", text);
	assert_int_equal(receive(f, name, "guest/file", &err), 0);
}

/* ---- tests */

static void sends_what_changed_since_the_container_was_made(void **state)
{
	struct fixture *f = *state;

	put(f, "hosts", "2");
	open_it(f);
	assert_sent(f, "p1");
}

static void sends_what_changed_before_it_was_watched(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	f->p = pm_open(f->tmp->fd, f->since, &err);
	assert_non_null(f->p);
	put(f, "hosts", "2");
	put(f, "conf/a", "2");
	pm_watch(f->p, f->inotify);
	assert_sent(f, "p1 p2");
	assert_sent(f, "");
}

static void sends_nothing_when_nothing_changed(void **state)
{
	struct fixture *f = *state;

	open_it(f);
	assert_sent(f, "");
	put(f, "hosts", "1");
	assert_sent(f, "");
}

static void sends_files_that_are_written_in_place(void **state)
{
	struct fixture *f = *state;

	open_it(f);
	put(f, "hosts", "2");
	assert_sent(f, "p1");
	fchmodat(f->tmp->fd, "hosts", 0600, 0);
	assert_sent(f, "p1");
}

static void a_file_that_takes_its_name_is_another_file(void **state)
{
	struct fixture *f = *state;

	open_it(f);
	put(f, "new", "2");
	assert_int_equal(renameat(f->tmp->fd, "new", f->tmp->fd, "hosts"), 0);
	assert_sent(f, "");
}

static void sends_directories_as_kubernetes_changes_them(void **state)
{
	struct fixture *f = *state;

	mkdirat(f->tmp->fd, "conf/..1", 0755);
	put(f, "conf/..1/key", "1");
	assert_int_equal(symlinkat("..1", f->tmp->fd, "conf/..data"), 0);
	open_it(f);
	assert_sent(f, "p2");
	mkdirat(f->tmp->fd, "conf/..2", 0755);
	put(f, "conf/..2/key", "2");
	assert_int_equal(symlinkat("..2", f->tmp->fd, "conf/tmp"), 0);
	assert_int_equal(renameat(f->tmp->fd, "conf/tmp", f->tmp->fd, "conf/..data"), 0);
	assert_sent(f, "p2");
	/* The new directory is watched, too. */
	put(f, "conf/..2/key", "3");
	assert_sent(f, "p2");
}

static void stops_with_a_directory_that_has_grown_too_much(void **state)
{
	struct fixture *f = *state;
	cleanup_close int fd = -1;

	open_it(f);
	fd = openat(f->tmp->fd, "conf/large", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(fd, PROJECT_GROWN_BYTES + 1), 0);
	assert_sent(f, "");
	put(f, "hosts", "2");
	assert_sent(f, "p1");
}

static void writes_what_the_guest_wrote_in_place(void **state)
{
	struct fixture *f = *state;
	struct stat before, after;

	fstatat(f->tmp->fd, "log", &before, 0);
	open_it(f);
	assert_true(pm_writable(f->p));
	guest_writes(f, "p0", "terminated\n");
	assert_content(f, "log", "terminated\n");
	fstatat(f->tmp->fd, "log", &after, 0);
	assert_int_equal(before.st_ino, after.st_ino);
	guest_writes(f, "p0", "no\n");
	assert_content(f, "log", "no\n");
	/* Our own write gives an event, and no push. */
	assert_sent(f, "");
}

static void gives_no_set_uid_bits_to_host_files(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	struct stat st;

	open_it(f);
	put(f, "guest/file", "x");
	fchmodat(f->tmp->fd, "guest/file", 06755, 0);
	assert_int_equal(receive(f, "p0", "guest/file", &err), 0);
	fstatat(f->tmp->fd, "log", &st, 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

static void what_the_guest_did_not_change_undoes_no_write_of_the_host(void **state)
{
	struct fixture *f = *state;

	open_it(f);
	guest_writes(f, "p0", "old");
	assert_sent(f, "");
	put(f, "log", "new");
	guest_writes(f, "p0", "old");
	assert_content(f, "log", "new");
	assert_sent(f, "p0");
}

static void the_host_wins_when_both_wrote(void **state)
{
	struct fixture *f = *state;

	open_it(f);
	put(f, "log", "host");
	guest_writes(f, "p0", "guest");
	assert_content(f, "log", "host");
	assert_sent(f, "p0");
}

static void takes_only_files_that_the_guest_may_write(void **state)
{
	struct fixture *f = *state;

	open_it(f);
	guest_writes(f, "p1", "evil");
	guest_writes(f, "p2", "evil");
	guest_writes(f, "p9", "evil");
	assert_content(f, "hosts", "1");
	assert_content(f, "conf/a", "1");
}

static void a_source_that_leads_elsewhere_is_not_written(void **state)
{
	struct fixture *f = *state;

	put(f, "precious", "host");
	assert_int_equal(unlinkat(f->tmp->fd, "log", 0), 0);
	assert_int_equal(symlinkat("precious", f->tmp->fd, "log"), 0);
	open_it(f);
	assert_false(pm_writable(f->p));
	guest_writes(f, "p0", "evil");
	assert_content(f, "precious", "host");
	assert_sent(f, "");
}

static void refuses_a_stream_without_an_end(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	cleanup_close int fd = -1;

	open_it(f);
	put(f, "guest/stream", "HUSKCS01");
	fd = openat(f->tmp->fd, "guest/stream", O_RDONLY | O_CLOEXEC);
	assert_int_equal(pm_receive(f->p, fd, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
}

static void has_nothing_to_do_without_projects(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	assert_int_equal(unlinkat(f->tmp->fd, "mounts.json", 0), 0);
	assert_null(pm_open(f->tmp->fd, f->since, &err));
	assert_string_equal(err.msg, "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sends_what_changed_since_the_container_was_made),
		TEST(sends_what_changed_before_it_was_watched),
		TEST(sends_nothing_when_nothing_changed),
		TEST(sends_files_that_are_written_in_place),
		TEST(a_file_that_takes_its_name_is_another_file),
		TEST(sends_directories_as_kubernetes_changes_them),
		TEST(stops_with_a_directory_that_has_grown_too_much),
		TEST(writes_what_the_guest_wrote_in_place),
		TEST(gives_no_set_uid_bits_to_host_files),
		TEST(what_the_guest_did_not_change_undoes_no_write_of_the_host),
		TEST(the_host_wins_when_both_wrote),
		TEST(takes_only_files_that_the_guest_may_write),
		TEST(a_source_that_leads_elsewhere_is_not_written),
		TEST(refuses_a_stream_without_an_end),
		TEST(has_nothing_to_do_without_projects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
