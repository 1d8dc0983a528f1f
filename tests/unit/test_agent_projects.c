/* Projects: a tmpfs for each container, what is told of when, and what is removed. */
#include "agent/projects.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cmocka.h>

#define HOME PROJECTS_DIR "/a" /* of the container that most tests have */

struct fixture {
	struct loop *loop;
	struct projects *set;
	char told[256]; /* "container/name " for each report */
	unsigned reports;
	unsigned stop_at; /* number of reports that ends the loop */
};

static void changed(void *arg, const char *container, const char *name)
{
	struct fixture *f = arg;
	size_t n = strlen(f->told);

	snprintf(f->told + n, sizeof(f->told) - n, "%s/%s ", container, name);
	if (++f->reports >= f->stop_at)
		loop_stop(f->loop, 0);
}

static void give_up(void *arg, uint32_t events UNUSED)
{
	loop_stop(arg, -1);
}

/* Runs the loop until there are `n` more reports; returns what they said. */
static const char *await(struct fixture *f, unsigned n)
{
	struct loop_source *limit = loop_timer(f->loop, 60000000, give_up, f->loop, NULL);

	f->told[0] = '\0';
	f->stop_at = f->reports + n;
	assert_int_equal(loop_run(f->loop), 0);
	loop_remove(limit);
	return f->told;
}

/* A mount namespace of our own, with a /run of our own. */
static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("run", "/run", "tmpfs", 0, NULL) < 0)
		return -1;
	f->loop = loop_new(NULL);
	f->set = projects_new(f->loop, changed, f);
	*state = f;
	return projects_dir(f->set, "a", NULL, NULL) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	projects_free(f->set);
	loop_free(f->loop);
	free(f);
	return umount2("/run", MNT_DETACH);
}

static int open_project(const char *name, int flags)
{
	cleanup_free char *path = xasprintf("%s/%s", HOME, name);
	int fd = open(path, flags | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

static void write_project(const char *name, const char *text)
{
	int fd = open_project(name, O_CREAT | O_TRUNC | O_WRONLY);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static bool exists(const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s", HOME, name);

	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void use(struct fixture *f, const char *container, const char *name, bool writable)
{
	struct error err = ERROR_INIT;

	if (projects_use(f->set, container, name, writable, &err) < 0)
		fail_msg("%s", err.msg);
}

/* ---- the tmpfs */

static void each_container_has_a_tmpfs_of_its_own(void **state)
{
	struct fixture *f = *state;
	struct stat a, b;
	struct statfs s;
	int fd = projects_dir(f->set, "a", NULL, NULL);

	assert_int_equal(projects_dir(f->set, "a", NULL, NULL), fd);
	assert_int_not_equal(projects_dir(f->set, "b", NULL, NULL), fd);
	assert_int_equal(statfs(HOME, &s), 0);
	assert_int_equal(s.f_files, 65536);
	assert_int_equal(stat(HOME, &a), 0);
	assert_int_equal(stat(PROJECTS_DIR "/b", &b), 0);
	assert_int_not_equal(a.st_dev, b.st_dev);
	assert_int_equal(umount2(HOME, MNT_DETACH), 0);
	assert_int_equal(statfs(HOME, &s), 0);
	assert_int_not_equal(s.f_files, 65536); /* there was one only */
	assert_int_equal(mount("none", HOME, "tmpfs", 0, NULL), 0);
}

/* ---- use */

static void expect_refused(struct fixture *f, const char *name, bool writable, const char *why)
{
	struct error err = ERROR_INIT;

	assert_int_equal(projects_use(f->set, "a", name, writable, &err), -1);
	assert_non_null(strstr(err.msg, name));
	if (!strstr(err.msg, why))
		fail_msg("%s", err.msg);
}

static void what_cannot_be_used_is_named(void **state)
{
	struct fixture *f = *state;

	expect_refused(f, "absent", false, "No such file");
	assert_int_equal(mkdir(HOME "/d", 0755), 0);
	expect_refused(f, "d", true, "only files");
	assert_int_equal(symlink("/etc", HOME "/l"), 0);
	expect_refused(f, "l", false, "neither a file nor a directory");
	write_project("f", "1");
	use(f, "a", "f", true);
	write_project("g", "2");
	assert_int_equal(rename(HOME "/g", HOME "/f"), 0);
	expect_refused(f, "f", false, "was replaced");
}

static void writable_ones_are_listed_once(void **state)
{
	struct fixture *f = *state;
	struct stat a, b;
	char **names;
	int *fds;

	assert_int_equal(projects_writable(f->set, "a", &names, &fds), 0);
	write_project("one", "1");
	write_project("two", "2");
	use(f, "a", "one", false);
	use(f, "a", "two", true);
	use(f, "a", "two", true);
	assert_int_equal(projects_writable(f->set, "a", &names, &fds), 1);
	assert_string_equal(names[0], "two");
	assert_int_equal(fstat(fds[0], &a), 0);
	assert_int_equal(stat(HOME "/two", &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(projects_writable(f->set, "none", &names, &fds), 0);
}

/* ---- what is told */

static void write_at(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void a_closed_file_is_told_to_its_container(void **state)
{
	struct fixture *f = *state;

	assert_true(projects_dir(f->set, "b", NULL, NULL) >= 0);
	write_project("log", "");
	write_at(PROJECTS_DIR "/b/log", "");
	use(f, "a", "log", true);
	use(f, "b", "log", true);
	write_project("log", "done\n");
	assert_string_equal(await(f, 1), "a/log ");
	write_at(PROJECTS_DIR "/b/log", "done\n");
	assert_string_equal(await(f, 1), "b/log ");
	projects_release(f->set, "a");
	write_at(PROJECTS_DIR "/b/log", "again\n");
	assert_string_equal(await(f, 1), "b/log ");
}

static void readers_are_not_watched(void **state)
{
	struct fixture *f = *state;

	write_project("ro", "");
	write_project("rw", "");
	use(f, "a", "ro", false);
	use(f, "a", "rw", true);
	write_project("ro", "x");
	write_project("rw", "x");
	assert_string_equal(await(f, 1), "a/rw ");
}

static void many_writes_to_an_open_file_are_one_report(void **state)
{
	struct fixture *f = *state;
	int fd;

	write_project("log", "");
	use(f, "a", "log", true);
	fd = open_project("log", O_WRONLY | O_APPEND);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(write(fd, "x", 1), 1);
	assert_string_equal(await(f, 1), "a/log ");
	for (int i = 0; i < 1000; i++)
		assert_int_equal(write(fd, "y", 1), 1);
	assert_string_equal(await(f, 1), "a/log ");
	close(fd);
	assert_string_equal(await(f, 1), "a/log ");
}

static void closing_again_and_again_is_bounded(void **state)
{
	struct fixture *f = *state;

	write_project("log", "");
	use(f, "a", "log", true);
	write_project("log", "1");
	assert_string_equal(await(f, 1), "a/log ");
	for (int i = 0; i < 100; i++)
		write_project("log", "2");
	assert_string_equal(await(f, 1), "a/log ");
	write_project("log", "3");
	assert_string_equal(await(f, 1), "a/log ");
}

static void a_bind_mount_and_a_mode_are_seen(void **state)
{
	struct fixture *f = *state;
	int fd;

	write_project("file", "");
	use(f, "a", "file", true);
	fd = open("/run/at", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(mount(HOME "/file", "/run/at", NULL, MS_BIND, NULL), 0);
	fd = open("/run/at", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_string_equal(await(f, 1), "a/file ");
	assert_int_equal(chmod("/run/at", 0600), 0);
	assert_string_equal(await(f, 1), "a/file ");
	assert_int_equal(umount2("/run/at", MNT_DETACH), 0);
}

static void an_overflown_queue_loses_nothing(void **state)
{
	struct fixture *f = *state;
	const char *told;
	int a, b;

	write_project("first", "");
	write_project("second", "");
	write_project("third", "");
	use(f, "a", "first", true);
	use(f, "a", "second", true);
	use(f, "a", "third", true);
	a = open_project("first", O_WRONLY);
	b = open_project("second", O_WRONLY);
	/* more than fs.inotify.max_queued_events, and no two alike in a row */
	for (int i = 0; i < 16384; i++) {
		assert_int_equal(write(a, "x", 1), 1);
		assert_int_equal(write(b, "x", 1), 1);
	}
	write_project("third", "x");
	told = await(f, 3);
	assert_non_null(strstr(told, "a/first "));
	assert_non_null(strstr(told, "a/second "));
	assert_non_null(strstr(told, "a/third "));
	close(a);
	close(b);
}

/* ---- removal */

static void a_container_takes_its_own_along(void **state)
{
	struct fixture *f = *state;

	assert_true(projects_dir(f->set, "b", NULL, NULL) >= 0);
	write_project("own", "");
	write_at(PROJECTS_DIR "/b/own", "b's");
	use(f, "a", "own", true);
	use(f, "b", "own", false);
	write_project("own", "pending event");
	projects_release(f->set, "nobody");
	projects_release(f->set, "a");
	assert_false(exists("own"));
	assert_int_equal(access(HOME, F_OK), -1);
	assert_int_equal(access(PROJECTS_DIR "/b/own", F_OK), 0);
	assert_true(projects_dir(f->set, "a", NULL, NULL) >= 0);
	write_project("own", "new");
	use(f, "a", "own", true);
	write_project("own", "newer");
	assert_string_equal(await(f, 1), "a/own ");
	projects_release(f->set, "b");
	assert_int_equal(access(PROJECTS_DIR "/b", F_OK), -1);
}

/* What the container has mounted is its own affair: its mount namespace goes with it. */
static void a_bound_project_does_not_stop_removal(void **state)
{
	struct fixture *f = *state;

	write_project("file", "");
	use(f, "a", "file", true);
	write_at("/run/at", "");
	assert_int_equal(mount(HOME "/file", "/run/at", NULL, MS_BIND, NULL), 0);
	projects_release(f->set, "a");
	assert_int_equal(access(HOME, F_OK), -1);
	assert_int_equal(umount2("/run/at", MNT_DETACH), 0);
}

static void what_no_container_uses_goes_with_its_pusher(void **state)
{
	struct fixture *f = *state;
	int one = 0, two = 0;

	assert_true(projects_dir(f->set, "b", &one, NULL) >= 0);
	assert_true(projects_dir(f->set, "c", &two, NULL) >= 0);
	assert_true(projects_dir(f->set, "d", &two, NULL) >= 0);
	write_at(PROJECTS_DIR "/d/file", "");
	use(f, "d", "file", false);
	projects_client_gone(f->set, &two);
	assert_int_equal(access(PROJECTS_DIR "/b", F_OK), 0);
	assert_int_equal(access(PROJECTS_DIR "/c", F_OK), -1);
	assert_int_equal(access(PROJECTS_DIR "/d/file", F_OK), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(each_container_has_a_tmpfs_of_its_own),
		T(what_cannot_be_used_is_named),
		T(writable_ones_are_listed_once),
		T(a_closed_file_is_told_to_its_container),
		T(readers_are_not_watched),
		T(many_writes_to_an_open_file_are_one_report),
		T(closing_again_and_again_is_bounded),
		T(a_bind_mount_and_a_mode_are_seen),
		T(an_overflown_queue_loses_nothing),
		T(a_container_takes_its_own_along),
		T(a_bound_project_does_not_stop_removal),
		T(what_no_container_uses_goes_with_its_pusher),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
