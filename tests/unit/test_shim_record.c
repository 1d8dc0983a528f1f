/* Records of changes: their journal, locks, states, and what crashes leave of them; scratch sizes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/journal.h"
#include "shim/record.h"
#include "shim/scratch.h"
#include "shim/state.h"
#include "tests/unit/tmpdir.h"

#define SMALL SCRATCH_MIN

/* A record on the test's own directory, with everything in it that there can be. */
static struct record make(const struct tmpdir *t, const char *name)
{
	struct rootfs rootfs = {
		.id = {.path = (char *)"/srv/a b%\xff", .ino = UINT64_MAX, .dev = 7}};
	struct record r;
	struct error err = ERROR_INIT;

	if (record_make(t->path, name, "c1", &rootfs, SMALL, true, -1, &r, &err) < 0)
		fail_msg("%s", err.msg);
	return r;
}

static void sizes_that_are_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t mib;
	} good[] = {{NULL, 10240},	 {"16M", 16},	 {"16777216", 16},
		    {"16777217", 17},	 {"17000k", 17}, {"1g", 1024},
		    {"1T", 1024 * 1024}, {"500M", 500},	 {"16384K", 16}};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(scratch_size(good[i].text, 0, 0, &bytes, NULL), 0);
		assert_int_equal(bytes, good[i].mib << 20);
	}
}

static void sizes_that_are_none(void **state)
{
	static const char *const bad[] = {"",	  "M",	      "-1",	"1.5G",
					  "15M",  "16777215", "2T",	"10GB",
					  " 1G",  "1G ",      "0x100M", "18446744073709551616",
					  "1025G"};
	struct error err = ERROR_INIT;
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (scratch_size(bad[i], 0, 0, &bytes, &err) == 0)
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_non_null(strstr(err.msg, "annotations[\"io.husk.scratch-size\"]: \"1025G\": "));
}

static void the_host_bounds_sizes(void **state)
{
	struct error err = ERROR_INIT;
	uint64_t bytes;

	(void)state;
	assert_int_equal(scratch_size(NULL, 1 << 30, 0, &bytes, NULL), 0);
	assert_int_equal(bytes, 1 << 30);
	assert_int_equal(scratch_size(NULL, 0, 2u << 30, &bytes, NULL), 0);
	assert_int_equal(bytes, 2u << 30);
	assert_int_equal(scratch_size("2G", 1 << 30, 2u << 30, &bytes, NULL), 0);
	assert_int_equal(scratch_size("3G", 1 << 30, 2u << 30, &bytes, &err), -1);
	assert_string_equal(err.msg, "annotations[\"io.husk.scratch-size\"]: \"3G\": more than "
				     "scratch.maximum of the configuration file (2G)");
}

static void a_record_is_read_as_it_was_made(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *name = record_name("c1");
	cleanup_record struct record a = make(t, name), b = {.dirfd = -1, .scratch = -1};

	assert_int_equal(record_open(t->path, name, false, 0, &b, NULL), 0);
	assert_string_equal(b.name, name);
	assert_string_equal(b.container, "c1");
	assert_string_equal(b.rootfs.path, "/srv/a b%\xff");
	assert_null(b.rootfs.upper);
	assert_int_equal(b.rootfs.ino, UINT64_MAX);
	assert_int_equal(b.state, RECORD_ACTIVE);
	assert_true(b.mknod);
	assert_false(b.block);
	assert_int_equal(b.scratch, -1);
	assert_int_equal(record_sync(&b, NULL), 0);
	assert_int_equal(record_remove(t->path, &a, NULL), 0);
}

static void names_of_long_and_odd_ids(void **state)
{
	char id[1025];
	cleanup_free char *a = NULL, *b = NULL;

	(void)state;
	memset(id, 'x', 1024);
	id[1024] = '\0';
	a = record_name(id);
	b = record_name(id);
	assert_in_range(strlen(a), 16, 128);
	assert_string_not_equal(a, b);
}

/* The lock is held as long as anybody has the scratch's open file description. */
static void the_lock_goes_with_the_last_descriptor(void **state)
{
	const struct tmpdir *t = *state;
	struct record a = make(t, "r-lock");
	cleanup_record struct record b = {.dirfd = -1, .scratch = -1};
	struct error err = ERROR_INIT;
	int other = dup(a.scratch);

	assert_int_equal(record_open(t->path, "r-lock", true, 0, &b, &err), -1);
	assert_int_equal(err.kind, ERR_TIMEOUT);
	record_close(&a);
	assert_int_equal(record_open(t->path, "r-lock", true, 5, &b, &err), -1);
	assert_int_equal(err.kind, ERR_TIMEOUT);
	close(other);
	assert_int_equal(record_open(t->path, "r-lock", true, 0, &b, &err), 0);
	assert_true(b.scratch >= 0);
	assert_int_equal(record_remove(t->path, &b, NULL), 0);
}

static void applied_is_remembered_and_taken_back(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_record struct record a = make(t, "r-state");
	struct record b;

	a.unchanged = true;
	assert_int_equal(record_set_state(&a, RECORD_APPLIED, NULL), 0);
	assert_int_equal(record_open(t->path, "r-state", false, 0, &b, NULL), 0);
	assert_int_equal(b.state, RECORD_APPLIED);
	assert_true(b.unchanged);
	record_close(&b);
	assert_int_equal(record_set_state(&a, RECORD_ACTIVE, NULL), 0);
	assert_int_equal(record_open(t->path, "r-state", false, 0, &b, NULL), 0);
	assert_int_equal(b.state, RECORD_ACTIVE);
	record_close(&b);
	assert_int_equal(record_remove(t->path, &a, NULL), 0);
}

static void what_was_written_live_counts_at_the_end(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_record struct record a = make(t, "r-live");
	struct record b;

	assert_int_equal(record_note_written(&a, NULL), 0);
	a.unchanged = true;
	assert_int_equal(record_set_state(&a, RECORD_APPLIED, NULL), 0);
	assert_false(a.unchanged);
	assert_int_equal(record_open(t->path, "r-live", false, 0, &b, NULL), 0);
	assert_false(b.unchanged);
	record_close(&b);
	assert_int_equal(record_remove(t->path, &a, NULL), 0);
}

/* What was applied before the host started again may not have reached its disk. */
static void applied_counts_until_the_host_starts_again(void **state)
{
	static const char other_boot[] = "00000000-0000-0000-0000-000000000000\nunchanged\n";
	static const char *const texts[] = {other_boot, "", "x"};
	const struct tmpdir *t = *state;
	cleanup_record struct record a = make(t, "r-boot");
	struct record b;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(file_write_atomic(a.dirfd, "applied", texts[i], strlen(texts[i]),
						   0600, NULL),
				 0);
		assert_int_equal(record_open(t->path, "r-boot", false, 0, &b, NULL), 0);
		assert_int_equal(b.state, RECORD_ACTIVE);
		record_close(&b);
	}
	assert_int_equal(record_remove(t->path, &a, NULL), 0);
}

static size_t count(const struct tmpdir *t)
{
	char **v = record_list(t->path, NULL);
	size_t n = 0;

	while (v[n])
		n++;
	strv_free(v);
	return n;
}

static void removed_is_gone(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_record struct record a = make(t, "r-gone"), b = {.dirfd = -1, .scratch = -1};
	struct error err = ERROR_INIT;

	assert_int_equal(count(t), 1);
	assert_int_equal(record_remove(t->path, &a, NULL), 0);
	assert_int_equal(count(t), 0);
	assert_int_equal(record_open(t->path, "r-gone", true, 0, &b, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_int_equal(record_discard(t->path, "r-gone", NULL), 0);
}

static void names_lead_nowhere_else(void **state)
{
	static const char *const bad[] = {"..", "../x", "r-../../x", "", "x"};
	const struct tmpdir *t = *state;
	struct record r;
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(record_open(t->path, bad[i], false, 0, &r, &err), -1);
		assert_int_equal(err.kind, ERR_INVALID);
		assert_int_equal(record_discard(t->path, bad[i], NULL), -1);
	}
}

static void make_old(const char *path)
{
	const struct timeval tv[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

	assert_int_equal(utimes(path, tv), 0);
}

/* A directory without a journal: its maker was killed, or still works on it. */
static void unfinished_ones_are_swept_when_old_and_unlocked(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *dead = xasprintf("%s/changes/r-dead", t->path);
	cleanup_free char *young = xasprintf("%s/changes/r-young", t->path);
	cleanup_free char *held = xasprintf("%s/changes/r-held", t->path);
	cleanup_record struct record holder = make(t, "r-held");
	cleanup_record struct record next = {.dirfd = -1, .scratch = -1};

	assert_int_equal(unlinkat(holder.dirfd, "journal.json", 0), 0);
	assert_int_equal(mkdir(dead, 0700), 0);
	assert_int_equal(mkdir(young, 0700), 0);
	make_old(dead);
	make_old(held);
	next = make(t, "r-next");
	assert_int_equal(access(dead, F_OK), -1);
	assert_int_equal(access(young, F_OK), 0);
	assert_int_equal(access(held, F_OK), 0);
	assert_int_equal(record_discard(t->path, "r-young", NULL), 0);
	assert_int_equal(record_discard(t->path, "r-held", NULL), 0);
	assert_int_equal(record_remove(t->path, &next, NULL), 0);
}

static void a_damaged_journal_is_an_error_that_names_it(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_record struct record a = make(t, "r-bad"), b = {.dirfd = -1, .scratch = -1};
	struct error err = ERROR_INIT;

	assert_int_equal(file_write_atomic(a.dirfd, "journal.json", "{", 1, 0600, NULL), 0);
	assert_int_equal(record_open(t->path, "r-bad", false, 0, &b, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_non_null(strstr(err.msg, "/changes/r-bad: journal.json: "));
	assert_int_equal(record_discard(t->path, "r-bad", NULL), 0);
}

static void journals_that_are_none(void **state)
{
#define REST "\"dev\":\"1\",\"ino\":\"2\",\"born\":\"3\"}"
	static const char *const bad[] = {
		"[]",
		"{\"version\":2}",
		"{\"version\":1,\"container\":\"\",\"path\":\"/a\"," REST,
		"{\"version\":1,\"container\":\"c\",\"path\":\"a\"," REST,
		"{\"version\":1,\"container\":\"c\",\"path\":\"/a%0\"," REST,
		"{\"version\":1,\"container\":\"c\",\"path\":\"/a%00\"," REST,
		"{\"version\":1,\"container\":\"c\",\"path\":\"/a\",\"upper\":\"b\"," REST,
		"{\"version\":1,\"container\":\"c\",\"path\":\"/a\",\"held\":\"../x\"," REST,
		"{\"version\":1,\"container\":\"c\",\"path\":\"/a\",\"dev\":\"-1\",\"ino\":\"2\"}",
		"{\"version\":1,\"container\":\"c\",\"path\":\"/a\",\"dev\":\"1\",\"ino\":\"2\"}",
		"{\"version\":1,\"container\":\"c\",\"path\":\"/a\",\"dev\":\"1\",\"ino\":"
		"\"99999999999999999999\",\"born\":\"0\"}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct record r = {.dirfd = -1, .scratch = -1};

		if (journal_parse(bad[i], strlen(bad[i]), &r, NULL) == 0)
			fail_msg("taken: %s", bad[i]);
		record_close(&r);
	}
}

static void links_are_grouped_by_inode(void **state)
{
	static const char text[] = "5\0a\0"
				   "5\0b/c\0"
				   "9\0x\0"
				   "9\0y\0"
				   "9\0z";
	struct record r = {.dirfd = -1, .scratch = -1};

	(void)state;
	assert_int_equal(links_parse(text, sizeof(text), &r, NULL), 0);
	assert_int_equal(r.n_links, 2);
	assert_int_equal(r.links[0].ino, 5);
	assert_int_equal(r.links[0].n, 2);
	assert_string_equal(r.links[0].paths[1], "b/c");
	assert_int_equal(r.links[1].n, 3);
	record_close(&r);
}

static void links_that_are_none(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} bad[] = {
#define T(s) {s, sizeof(s) - 1}
		T("5"),
		T("5\0"),
		T("5\0a"),
		T("x\0a\0"),
		T("5\0/a\0"),
		T("5\0\0"),
		T("5\0..\0"),
		T("5\0a/../b\0"),
		T("5\0a//b\0"),
		T("5\0a/\0"),
		T("6\0a\0"
		  "5\0b\0"),
		T("-5\0a\0"),
#undef T
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct record r = {.dirfd = -1, .scratch = -1};

		if (links_parse(bad[i].text, bad[i].len, &r, NULL) == 0)
			fail_msg("taken: %zu", i);
		assert_int_equal(r.n_links, 0);
	}
}

static uint64_t allocated(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void scratch_disks_are_sparse_and_alike(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_close int a = openat(t->fd, "a", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cleanup_close int b = openat(t->fd, "b", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat st;
	unsigned char x[4096], y[4096];

	assert_int_equal(scratch_fill(t->path, SCRATCH_DEFAULT, a, -1, NULL), 0);
	assert_int_equal(scratch_fill(t->path, SCRATCH_DEFAULT, b, -1, NULL), 0);
	assert_int_equal(fstat(a, &st), 0);
	assert_int_equal(st.st_size, SCRATCH_DEFAULT);
	assert_in_range(allocated(a), 1, 1 << 20);
	assert_int_equal(pread(a, x, sizeof(x), 0), sizeof(x));
	assert_int_equal(pread(b, y, sizeof(y), 0), sizeof(y));
	assert_memory_equal(x, y, sizeof(x));
	/* ext4's magic, and a journal among its features */
	assert_int_equal(x[1024 + 0x38], 0x53);
	assert_int_equal(x[1024 + 0x39], 0xef);
	assert_int_equal(x[1024 + 0x5c] & 4, 4);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_that_are_sizes),
		cmocka_unit_test(sizes_that_are_none),
		cmocka_unit_test(the_host_bounds_sizes),
		TEST(a_record_is_read_as_it_was_made),
		cmocka_unit_test(names_of_long_and_odd_ids),
		TEST(the_lock_goes_with_the_last_descriptor),
		TEST(applied_is_remembered_and_taken_back),
		TEST(what_was_written_live_counts_at_the_end),
		TEST(applied_counts_until_the_host_starts_again),
		TEST(removed_is_gone),
		TEST(names_lead_nowhere_else),
		TEST(unfinished_ones_are_swept_when_old_and_unlocked),
		TEST(a_damaged_journal_is_an_error_that_names_it),
		cmocka_unit_test(journals_that_are_none),
		cmocka_unit_test(links_are_grouped_by_inode),
		cmocka_unit_test(links_that_are_none),
		TEST(scratch_disks_are_sparse_and_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
