/* What shim/watch.c tells of changes in plain directories and in a real overlay. */
#include "shim/watch.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/state.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "tests/unit/tmpdir.h"

#define BOUND_US 20000000

struct fixture {
	struct tmpdir *tmp;
	char *upper, *merged;
	int inotify;
	struct watch *w;
	bool mounted;
};

static char *path_in(const struct fixture *f, const char *name)
{
	return xasprintf("%s/%s", f->merged, name);
}

static void put(const struct fixture *f, const char *name, const char *text)
{
	cleanup_free char *path = path_in(f, name);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text), NULL), 0);
}

static void make_dir(const struct fixture *f, const char *name)
{
	cleanup_free char *path = path_in(f, name);

	assert_int_equal(mkdir(path, 0755), 0);
}

static void move(const struct fixture *f, const char *from, const char *to)
{
	cleanup_free char *a = path_in(f, from), *b = path_in(f, to);

	assert_int_equal(rename(a, b), 0);
}

static void drop(const struct fixture *f, const char *name)
{
	cleanup_free char *path = path_in(f, name);

	assert_int_equal(remove(path), 0);
}

static struct stat look(const struct fixture *f, const char *name)
{
	cleanup_free char *path = path_in(f, name);
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st;
}

/* Time passes on the coarse clock of change times. */
static struct timespec next_tick(const struct fixture *f)
{
	struct timespec t;
	struct stat first, st;

	put(f, "../tick", "");
	first = look(f, "../tick");
	do {
		poll(NULL, 0, 1);
		put(f, "../tick", "x");
		st = look(f, "../tick");
	} while ((st.st_ctim.tv_sec - first.st_ctim.tv_sec) * 1000000000 + st.st_ctim.tv_nsec -
			 first.st_ctim.tv_nsec <
		 30000000);
	clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

static void watch_from(struct fixture *f, struct timespec since)
{
	struct error err = ERROR_INIT;

	f->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	assert_true(f->inotify >= 0);
	f->w = watch_new(&(struct watch_options){.inotify = f->inotify,
						 .events = f->mounted ? f->upper : f->merged,
						 .merged = f->merged,
						 .overlay = f->mounted,
						 .since = since},
			 &err);
	assert_non_null(f->w);
}

static void watch_now(struct fixture *f)
{
	watch_from(f, next_tick(f));
}

static void take_events(struct fixture *f)
{
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n;

	while ((n = read(f->inotify, buf, sizeof(buf))) > 0)
		for (char *at = buf; at < buf + n;) {
			const struct inotify_event *e = (void *)at;

			watch_event(f->w, e);
			at += sizeof(*e) + e->len;
		}
}

/* All that there is to see has been seen, and is at rest together: where the process stands still
 * between two events, the first one may have come to rest by itself, and is told by itself. */
static void let_rest(struct fixture *f)
{
	struct pollfd p = {.fd = f->inotify, .events = POLLIN};

	do
		take_events(f);
	while (poll(&p, 1, WATCH_QUIET_MS + 10) > 0);
}

/* Everything that is told until nothing is pending any more, "a b c". */
static char *told(struct fixture *f)
{
	uint64_t end = now_us() + BOUND_US;
	char *all = xstrdup("");

	for (;;) {
		char **v;
		size_t n;

		take_events(f);
		if (!watch_pending(f->w))
			return all;
		let_rest(f);
		assert_true(now_us() < end);
		v = watch_take(f->w, false, &n);
		for (size_t i = 0; v && i < n; i++) {
			char *more = xasprintf("%s%s%s", all, all[0] ? " " : "", v[i]);

			free(all);
			all = more;
		}
		strv_free(v);
	}
}

static void assert_told(struct fixture *f, const char *wanted)
{
	cleanup_free char *got = told(f);

	assert_string_equal(got, wanted);
}

/* ---- fixtures */

static int set_up_plain(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	void *tmp;

	if (tmpdir_make(&tmp) < 0)
		return -1;
	f->tmp = tmp;
	f->merged = xasprintf("%s/rootfs", f->tmp->path);
	f->inotify = -1;
	*state = f;
	return mkdir(f->merged, 0755);
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	void *tmp = f->tmp;

	watch_free(f->w);
	close_fd(&f->inotify);
	if (f->mounted && umount(f->merged) < 0)
		return -1;
	if (f->upper && umount(f->tmp->path) < 0)
		return -1;
	free(f->upper);
	free(f->merged);
	free(f);
	return tmpdir_remove(&tmp);
}

/* lower/ has dir/file and dir/sub/deep, and file. */
static int set_up_overlay(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	cleanup_free char *options = NULL;
	void *tmp;

	if (tmpdir_make(&tmp) < 0)
		return -1;
	f->tmp = tmp;
	f->inotify = -1;
	*state = f;
	f->merged = xasprintf("%s/lower", f->tmp->path);
	f->upper = xasprintf("%s/upper", f->tmp->path);
	if (mount("overlay-test", f->tmp->path, "tmpfs", 0, "mode=0755") < 0)
		return -1;
	mkdir(f->merged, 0755);
	make_dir(f, "dir");
	make_dir(f, "dir/sub");
	put(f, "dir/file", "1");
	put(f, "dir/sub/deep", "1");
	put(f, "file", "1");
	make_dir(f, "../upper");
	make_dir(f, "../work");
	make_dir(f, "../merged");
	options = xasprintf("lowerdir=%s,upperdir=%s,workdir=%s/work", f->merged, f->upper,
			    f->tmp->path);
	free(f->merged);
	f->merged = xasprintf("%s/merged", f->tmp->path);
	if (mount("overlay", f->merged, "overlay", 0, options) < 0)
		return -1;
	f->mounted = true;
	return 0;
}

/* ---- plain directories */

static void tells_files_made_changed_and_removed(void **state)
{
	struct fixture *f = *state;

	put(f, "old", "1");
	put(f, "gone", "1");
	watch_now(f);
	put(f, "new", "1");
	put(f, "old", "2");
	drop(f, "gone");
	assert_told(f, "gone new old");
	assert_told(f, "");
}

static void tells_what_changed_before_it_watched(void **state)
{
	struct fixture *f = *state;
	struct timespec since;

	make_dir(f, "a");
	put(f, "a/old", "1");
	put(f, "a/changed", "1");
	since = next_tick(f);
	next_tick(f);
	put(f, "a/changed", "2");
	make_dir(f, "fresh");
	put(f, "fresh/file", "1");
	watch_from(f, since);
	assert_told(f, "a/changed fresh");
}

static void tells_new_directories_as_a_whole(void **state)
{
	struct fixture *f = *state;

	watch_now(f);
	make_dir(f, "a");
	make_dir(f, "a/b");
	put(f, "a/b/c", "1");
	put(f, "a.b", "1");
	assert_told(f, "a a.b");
	put(f, "a/b/c", "2");
	assert_told(f, "a/b/c");
}

static void follows_renamed_directories(void **state)
{
	struct fixture *f = *state;

	make_dir(f, "a");
	make_dir(f, "a/b");
	put(f, "a/b/c", "1");
	watch_now(f);
	move(f, "a", "z");
	assert_told(f, "a z");
	put(f, "z/b/c", "2");
	assert_told(f, "z/b/c");
}

static void is_silent_about_attributes_of_known_directories(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *dir = path_in(f, "a");

	make_dir(f, "a");
	watch_now(f);
	assert_int_equal(chmod(dir, 0700), 0);
	assert_told(f, "");
}

static void does_not_tell_a_file_while_it_is_written(void **state)
{
	struct fixture *f = *state;
	uint64_t until;
	size_t n;

	watch_now(f);
	until = now_us() + 4 * WATCH_QUIET_MS * 1000;
	while (now_us() < until) {
		uint64_t written = now_us();
		char **v;

		put(f, "busy", "1");
		take_events(f);
		v = watch_take(f->w, false, &n);
		/* On a busy machine that took long, and it came to rest. */
		if (now_us() - written < WATCH_QUIET_MS * 1000)
			assert_null(v);
		strv_free(v);
		poll(NULL, 0, 5);
	}
	put(f, "busy", "2");
	assert_told(f, "busy");
}

static void tells_all_at_once_when_asked(void **state)
{
	struct fixture *f = *state;
	char **v;
	size_t n;

	watch_now(f);
	put(f, "b", "1");
	put(f, "a", "1");
	take_events(f);
	v = watch_take(f->w, true, &n);
	assert_int_equal(n, 2);
	assert_string_equal(v[0], "a");
	assert_string_equal(v[1], "b");
	strv_free(v);
	assert_false(watch_pending(f->w));
}

static void keeps_its_own_changes_to_itself(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	put(f, "gone", "1");
	watch_now(f);
	put(f, "mine", "1");
	st = look(f, "mine");
	watch_own(f->w, "mine", &st);
	make_dir(f, "dir");
	st = look(f, "dir");
	watch_own(f->w, "dir", &st);
	drop(f, "gone");
	watch_own(f->w, "gone", NULL);
	put(f, "dir/other", "1");
	put(f, "both", "1");
	st = look(f, "both");
	watch_own(f->w, "both", &st);
	/* The clock of change times goes on. */
	next_tick(f);
	put(f, "both", "2");
	take_events(f);
	watch_own_done(f->w);
	assert_told(f, "both dir/other");
}

/* As many and as deep as a hostile sender likes. */
static void own_changes_take_bounded_memory(void **state)
{
	struct fixture *f = *state;
	static char path[8192];

	watch_now(f);
	put(f, "other", "1");
	take_events(f);
	memset(path, 'x', sizeof(path) - 1);
	watch_own(f->w, path, NULL); /* longer than anybody could open */
	path[4000] = '\0';
	for (unsigned i = 0; i < 40000; i++) {
		snprintf(path, 9, "%08x", i);
		path[8] = '/';
		watch_own(f->w, path, NULL);
	}
	assert_false(watch_pending(f->w));
	watch_own_done(f->w);
	put(f, "later", "1");
	assert_told(f, "later");
}

static void leaves_out_temporary_names(void **state)
{
	struct fixture *f = *state;

	watch_now(f);
	put(f, ".husk-17", "1");
	move(f, ".husk-17", "file");
	assert_told(f, "file");
}

static void finds_changes_after_lost_events(void **state)
{
	struct fixture *f = *state;
	_Alignas(struct inotify_event) char buf[4096];

	make_dir(f, "a");
	watch_now(f);
	next_tick(f);
	put(f, "a/file", "1");
	while (read(f->inotify, buf, sizeof(buf)) > 0)
		;
	assert_false(watch_pending(f->w));
	watch_rescan(f->w);
	assert_told(f, "a/file");
}

static void does_not_follow_links_out_of_the_rootfs(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *link = path_in(f, "out");

	watch_now(f);
	assert_int_equal(symlink("/etc", link), 0);
	assert_told(f, "out");
	next_tick(f);
	assert_told(f, "");
	watch_rescan(f->w);
	assert_told(f, "");
}

/* ---- overlay */

static void sees_what_is_written_through_the_overlay(void **state)
{
	struct fixture *f = *state;

	watch_now(f);
	put(f, "dir/new", "1");
	assert_told(f, "dir/new");
	put(f, "file", "2");
	assert_told(f, "file");
	put(f, "dir/sub/deep", "2");
	assert_told(f, "dir/sub/deep");
}

static void sees_writes_in_place_to_files_of_the_upper_layer(void **state)
{
	struct fixture *f = *state;
	cleanup_free char *path = path_in(f, "dir/file");
	cleanup_close int fd = -1;

	put(f, "dir/file", "22");
	watch_now(f);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "33", 2, 0), 2);
	close_fd(&fd);
	assert_told(f, "dir/file");
}

static void sees_removals_of_lower_files(void **state)
{
	struct fixture *f = *state;

	watch_now(f);
	drop(f, "dir/sub/deep");
	drop(f, "dir/sub");
	assert_told(f, "dir/sub");
	drop(f, "file");
	assert_told(f, "file");
}

static void tells_only_what_is_new_of_copied_up_directories(void **state)
{
	struct fixture *f = *state;
	struct timespec since = next_tick(f);

	next_tick(f);
	put(f, "dir/sub/other", "1");
	make_dir(f, "dir/fresh");
	put(f, "dir/fresh/file", "1");
	watch_from(f, since);
	assert_told(f, "dir/fresh dir/sub/other");
}

static void does_not_keep_the_overlay_mounted(void **state)
{
	struct fixture *f = *state;

	put(f, "dir/file", "2");
	watch_now(f);
	put(f, "dir/file", "3");
	assert_int_equal(umount(f->merged), 0);
	f->mounted = false;
	take_events(f);
}

static void paths_sort_with_their_directories(void **state)
{
	(void)state;
	assert_true(watch_path_cmp("a", "a/b") < 0);
	assert_true(watch_path_cmp("a/b", "a.b") < 0);
	assert_true(watch_path_cmp("a/b", "a-b") < 0);
	assert_true(watch_path_cmp("a\xff", "a/b") > 0);
	assert_int_equal(watch_path_cmp("a/b", "a/b"), 0);
}

#define PLAIN(name) cmocka_unit_test_setup_teardown(name, set_up_plain, tear_down)
#define OVERLAY(name) cmocka_unit_test_setup_teardown(name, set_up_overlay, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAIN(tells_files_made_changed_and_removed),
		PLAIN(tells_what_changed_before_it_watched),
		PLAIN(tells_new_directories_as_a_whole),
		PLAIN(follows_renamed_directories),
		PLAIN(is_silent_about_attributes_of_known_directories),
		PLAIN(does_not_tell_a_file_while_it_is_written),
		PLAIN(tells_all_at_once_when_asked),
		PLAIN(keeps_its_own_changes_to_itself),
		PLAIN(leaves_out_temporary_names),
		PLAIN(own_changes_take_bounded_memory),
		PLAIN(finds_changes_after_lost_events),
		PLAIN(does_not_follow_links_out_of_the_rootfs),
		OVERLAY(sees_what_is_written_through_the_overlay),
		OVERLAY(sees_writes_in_place_to_files_of_the_upper_layer),
		OVERLAY(sees_removals_of_lower_files),
		OVERLAY(tells_only_what_is_new_of_copied_up_directories),
		OVERLAY(does_not_keep_the_overlay_mounted),
		cmocka_unit_test(paths_sort_with_their_directories),
	};

	/* Mounts are nobody else's business. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
