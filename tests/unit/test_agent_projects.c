/* Projects: the tmpfs, what is told of when, and what is removed. */
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
	struct loop_source *limit = loop_timer(f->loop, 5000000, give_up, f->loop, NULL);

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
	return projects_dir(f->set, NULL) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	projects_free(f->set);
	loop_free(f->loop);
	free(f);
	return umount2(PROJECTS_DIR, MNT_DETACH) < 0 || umount2("/run", MNT_DETACH) < 0;
}

static int open_project(const char *name, int flags)
{
	cleanup_free char *path = xasprintf("%s/%s", PROJECTS_DIR, name);
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
	cleanup_free char *path = xasprintf("%s/%s", PROJECTS_DIR, name);

	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void use(struct fixture *f, const char *container, const char *name, bool writable)
{
	struct error err = ERROR_INIT;

	if (projects_use(f->set, container, name, writable, &err) < 0)
		fail_msg("%s", err.msg);
}

/* ---- the tmpfs */

static void one_tmpfs(void **state)
{
	struct fixture *f = *state;
	struct statfs s;
	int fd = projects_dir(f->set, NULL);

	assert_int_equal(projects_dir(f->set, NULL), fd);
	assert_int_equal(statfs(PROJECTS_DIR, &s), 0);
	assert_int_equal(s.f_files, 65536);
	assert_int_equal(umount2(PROJECTS_DIR, MNT_DETACH), 0);
	assert_int_equal(statfs(PROJECTS_DIR, &s), 0);
	assert_int_not_equal(s.f_files, 65536); /* there was one only */
	assert_int_equal(mount("none", PROJECTS_DIR, "tmpfs", 0, NULL), 0);
}

/* ---- use */

static void expect_refused(struct fixture *f, const char *name, bool writable, const char *why)
{
	struct error err = ERROR_INIT;

	assert_int_equal(projects_use(f->set, "c", name, writable, &err), -1);
	assert_non_null(strstr(err.msg, name));
	if (!strstr(err.msg, why))
		fail_msg("%s", err.msg);
}

static void what_cannot_be_used_is_named(void **state)
{
	struct fixture *f = *state;

	expect_refused(f, "absent", false, "No such file");
	assert_int_equal(mkdir(PROJECTS_DIR "/d", 0755), 0);
	expect_refused(f, "d", true, "only files");
	assert_int_equal(symlink("/etc", PROJECTS_DIR "/l"), 0);
	expect_refused(f, "l", false, "neither a file nor a directory");
	write_project("f", "1");
	use(f, "a", "f", true);
	write_project("g", "2");
	assert_int_equal(rename(PROJECTS_DIR "/g", PROJECTS_DIR "/f"), 0);
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
	write_project("three", "3");
	use(f, "a", "one", false);
	use(f, "a", "two", true);
	use(f, "a", "two", true);
	use(f, "b", "three", true);
	assert_int_equal(projects_writable(f->set, "a", &names, &fds), 1);
	assert_string_equal(names[0], "two");
	assert_int_equal(fstat(fds[0], &a), 0);
	assert_int_equal(stat(PROJECTS_DIR "/two", &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(projects_writable(f->set, "none", &names, &fds), 0);
}

/* ---- what is told */

static void a_closed_file_is_told_to_its_writers(void **state)
{
	struct fixture *f = *state;

	write_project("log", "");
	use(f, "a", "log", true);
	use(f, "b", "log", false);
	use(f, "c", "log", true);
	write_project("log", "done\n");
	assert_string_equal(await(f, 2), "c/log a/log ");
	projects_release(f->set, "a");
	write_project("log", "again\n");
	assert_string_equal(await(f, 1), "c/log ");
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
	assert_int_equal(mount(PROJECTS_DIR "/file", "/run/at", NULL, MS_BIND, NULL), 0);
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
	use(f, "c", "first", true);
	use(f, "c", "second", true);
	use(f, "c", "third", true);
	a = open_project("first", O_WRONLY);
	b = open_project("second", O_WRONLY);
	/* more than fs.inotify.max_queued_events, and no two alike in a row */
	for (int i = 0; i < 16384; i++) {
		assert_int_equal(write(a, "x", 1), 1);
		assert_int_equal(write(b, "x", 1), 1);
	}
	write_project("third", "x");
	told = await(f, 3);
	assert_non_null(strstr(told, "c/first "));
	assert_non_null(strstr(told, "c/second "));
	assert_non_null(strstr(told, "c/third "));
	close(a);
	close(b);
}

/* ---- removal */

static void the_last_container_takes_it_along(void **state)
{
	struct fixture *f = *state;

	write_project("shared", "");
	write_project("own", "");
	use(f, "a", "shared", true);
	use(f, "b", "shared", false);
	use(f, "a", "own", false);
	write_project("own", "pending event");
	projects_release(f->set, "nobody");
	projects_release(f->set, "a");
	assert_true(exists("shared"));
	assert_false(exists("own"));
	projects_release(f->set, "b");
	assert_false(exists("shared"));
	write_project("own", "new");
	use(f, "a", "own", true);
	write_project("own", "newer");
	assert_string_equal(await(f, 1), "a/own ");
}

static void links_are_not_followed_in_removal(void **state)
{
	struct fixture *f = *state;
	int fd = open("/run/precious", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	close(fd);
	assert_int_equal(mkdir("/run/dir", 0755), 0);
	assert_int_equal(rename("/run/precious", "/run/dir/precious"), 0);
	assert_int_equal(mkdir(PROJECTS_DIR "/d", 0755), 0);
	assert_int_equal(mkdir(PROJECTS_DIR "/d/sub", 0), 0);
	assert_int_equal(symlink("/run/dir", PROJECTS_DIR "/d/l"), 0);
	assert_int_equal(symlink("/run/dir/precious", PROJECTS_DIR "/d/sub/l"), 0);
	assert_int_equal(symlink("sub", PROJECTS_DIR "/d/..data"), 0);
	use(f, "a", "d", false);
	projects_release(f->set, "a");
	assert_false(exists("d"));
	assert_int_equal(access("/run/dir/precious", F_OK), 0);
}

/* Deeper than descriptors and stack would reach, and with a directory beside each. */
static void a_deep_tree_is_removed(void **state)
{
	struct fixture *f = *state;
	int at = projects_dir(f->set, NULL);
	int fd;

	assert_int_equal(mkdirat(at, "deep", 0755), 0);
	fd = openat(at, "deep", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 5000; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		assert_int_equal(mkdirat(fd, ".husk-0", 0755), 0);
		assert_int_equal(symlinkat("d", fd, "l"), 0);
		next = openat(fd, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	use(f, "a", "deep", false);
	projects_release(f->set, "a");
	assert_false(exists("deep"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(one_tmpfs),
		T(what_cannot_be_used_is_named),
		T(writable_ones_are_listed_once),
		T(a_closed_file_is_told_to_its_writers),
		T(readers_are_not_watched),
		T(many_writes_to_an_open_file_are_one_report),
		T(closing_again_and_again_is_bounded),
		T(a_bind_mount_and_a_mode_are_seen),
		T(an_overflown_queue_loses_nothing),
		T(the_last_container_takes_it_along),
		T(links_are_not_followed_in_removal),
		T(a_deep_tree_is_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
