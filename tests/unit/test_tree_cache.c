/* The cache of trees: hits, damage, eviction, many makers, and hosts where it cannot be used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/sha256.h"
#include "shim/tree_cache.h"
#include "tests/unit/tmpdir.h"
#include "vmm/tree/build.h"
#include "vmm/tree/read.h"

struct maker {
	int dir;
	unsigned made;
	int fails_with; /* errno, once */
};

static int make(void *arg, int out, struct error *err)
{
	struct maker *m = arg;

	m->made++;
	if (m->fails_with) {
		errno = m->fails_with;
		m->fails_with = 0;
		return error_errno(err, "no tree");
	}
	return tree_build(m->dir, &(struct tree_build_options){0}, out, &(struct tree_stats){0},
			  err);
}

static int get(const struct tmpdir *t, const char *identity, struct maker *m)
{
	struct error err = ERROR_INIT;
	int fd = tree_cache_get(t->path, identity, strlen(identity), make, m, &err);

	if (fd < 0)
		fail_msg("%s", err.msg);
	return fd;
}

static char *path_of(const struct tmpdir *t, const char *identity)
{
	char key[SHA256_HEX];

	sha256_hex(identity, strlen(identity), key);
	return xasprintf("%s/trees/%s", t->path, key);
}

static bool cached(const struct tmpdir *t, const char *identity)
{
	cleanup_free char *path = path_of(t, identity);

	return access(path, F_OK) == 0;
}

static void assert_tree(int fd)
{
	struct tree *tree = tree_open(fd, true, NULL);

	assert_non_null(tree);
	tree_free(tree);
}

static void made_once_then_found(void **state)
{
	const struct tmpdir *t = *state;
	struct maker m = {.dir = t->fd};
	struct stat a, b;
	int first = get(t, "one", &m), second = get(t, "one", &m);

	assert_int_equal(m.made, 1);
	assert_int_equal(fstat(first, &a), 0);
	assert_int_equal(fstat(second, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(fcntl(first, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(fcntl(second, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_tree(first);
	assert_tree(second);
	assert_tree(get(t, "two", &m));
	assert_int_equal(m.made, 2);
}

static void damage(const struct tmpdir *t, const char *identity, bool cut)
{
	cleanup_free char *path = path_of(t, identity);
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;
	char c;

	assert_int_equal(fstat(fd, &st), 0);
	if (cut) {
		assert_int_equal(ftruncate(fd, st.st_size / 2), 0);
		return;
	}
	assert_int_equal(pread(fd, &c, 1, st.st_size - 9), 1);
	c ^= 4;
	assert_int_equal(pwrite(fd, &c, 1, st.st_size - 9), 1);
}

static void a_damaged_tree_is_made_again(void **state)
{
	const struct tmpdir *t = *state;
	struct maker m = {.dir = t->fd};

	log_setup(-1, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	for (unsigned i = 0; i < 2; i++) {
		close(get(t, "x", &m));
		damage(t, "x", i == 0);
	}
	assert_tree(get(t, "x", &m));
	assert_int_equal(m.made, 3);
	assert_tree(get(t, "x", &m));
	assert_int_equal(m.made, 3);
}

static void set_age(const struct tmpdir *t, const char *identity, time_t age)
{
	cleanup_free char *path = path_of(t, identity);
	struct timeval tv[2] = {{.tv_sec = time(NULL) - age}, {.tv_sec = time(NULL) - age}};

	assert_int_equal(utimes(path, tv), 0);
}

static void the_longest_unused_go_first(void **state)
{
	const struct tmpdir *t = *state;
	struct maker m = {.dir = t->fd};

	close(get(t, "a", &m));
	close(get(t, "b", &m));
	close(get(t, "c", &m));
	set_age(t, "a", 3000);
	set_age(t, "b", 2000);
	set_age(t, "c", 1000);
	close(get(t, "a", &m)); /* used now */
	tree_cache_trim(t->path, 2, UINT64_MAX, 60);
	assert_true(cached(t, "a"));
	assert_false(cached(t, "b"));
	assert_true(cached(t, "c"));
	/* by size: a alone is more than that, and young */
	tree_cache_trim(t->path, 256, 1, 60);
	assert_true(cached(t, "a"));
	assert_false(cached(t, "c"));
}

static void what_killed_makers_left_goes_after_a_while(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *old = xasprintf("%s/trees/.old.1", t->path);
	cleanup_free char *young = xasprintf("%s/trees/.young.2", t->path);
	struct maker m = {.dir = t->fd};
	struct timeval tv[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

	close(get(t, "a", &m));
	close(open(old, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	close(open(young, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(utimes(old, tv), 0);
	tree_cache_trim(t->path, 256, UINT64_MAX, 60);
	assert_int_equal(access(old, F_OK), -1);
	assert_int_equal(access(young, F_OK), 0);
	assert_true(cached(t, "a"));
}

static void many_makers_at_once_all_get_a_tree(void **state)
{
	const struct tmpdir *t = *state;
	pid_t pids[8];
	int status;

	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct maker m = {.dir = t->fd};
			int fd = tree_cache_get(t->path, "z", 1, make, &m, NULL);
			struct tree *tree = fd < 0 ? NULL : tree_open(fd, true, NULL);

			_exit(tree ? 0 : 1);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_true(cached(t, "z"));
}

static void an_error_of_the_maker_leaves_nothing(void **state)
{
	const struct tmpdir *t = *state;
	struct maker m = {.dir = t->fd, .fails_with = EACCES};
	struct error err = ERROR_INIT;

	assert_int_equal(tree_cache_get(t->path, "e", 1, make, &m, &err), -1);
	assert_int_equal(err.errnum, EACCES);
	assert_false(cached(t, "e"));
}

static void a_full_disk_means_no_cache(void **state)
{
	const struct tmpdir *t = *state;
	struct maker m = {.dir = t->fd, .fails_with = ENOSPC};

	assert_tree(get(t, "f", &m));
	assert_int_equal(m.made, 2);
	assert_false(cached(t, "f"));
}

static void a_data_directory_that_cannot_be_used_means_no_cache(void **state)
{
	const struct tmpdir *t = *state;
	struct maker m = {.dir = t->fd};
	int fd = tree_cache_get("/proc/none", "g", 1, make, &m, NULL);

	assert_true(fd >= 0);
	assert_tree(fd);
}

static void digests_are_those_of_the_standard(void **state)
{
	char hex[SHA256_HEX];

	(void)state;
	sha256_hex("abc", 3, hex);
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	sha256_hex("", 0, hex);
	assert_string_equal(hex,
			    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
	assert_string_equal(hex,
			    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)
	const struct CMUnitTest tests[] = {
		TEST(made_once_then_found),
		TEST(a_damaged_tree_is_made_again),
		TEST(the_longest_unused_go_first),
		TEST(what_killed_makers_left_goes_after_a_while),
		TEST(many_makers_at_once_all_get_a_tree),
		TEST(an_error_of_the_maker_leaves_nothing),
		TEST(a_full_disk_means_no_cache),
		TEST(a_data_directory_that_cannot_be_used_means_no_cache),
		cmocka_unit_test(digests_are_those_of_the_standard),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
