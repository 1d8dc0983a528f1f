/* The image of a tree as a disk: reads of every shape, files that change, files that are held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "tests/unit/treedir.h"

struct fixture {
	void *dir; /* struct tmpdir */
	int fd;
	int tree;
	struct block_source *s;
};

static struct fixture *start(void **state, bool unstable)
{
	struct fixture *f = *state;

	f->tree = tree_of_dir(f->fd, false, unstable, NULL);
	f->s = source_of(f->tree, f->fd);
	return f;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int r = tmpdir_make(&f->dir);

	f->fd = ((struct tmpdir *)f->dir)->fd;
	f->tree = -1;
	*state = f;
	return r;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r = tmpdir_remove(&f->dir);

	if (f->s)
		f->s->ops->destroy(f->s);
	close_fd(&f->tree);
	free(f);
	return r;
}

/* The file's blocks in the image are `want`, n bytes, then zeros. */
static void expect(struct fixture *f, const char *path, const uint8_t *want, size_t n)
{
	size_t len = (n + TREE_BLOCK - 1) / TREE_BLOCK * TREE_BLOCK;
	uint8_t *got = malloc(len);

	memset(got, 0xee, len);
	assert_int_equal(read_at(f->s, got, len, data_of(f->tree, path)), 0);
	assert_memory_equal(got, want, n);
	for (size_t i = n; i < len; i++)
		assert_int_equal(got[i], 0);
	free(got);
}

static void expect_pattern(struct fixture *f, const char *path, size_t n, unsigned seed)
{
	uint8_t *want = pattern(n, seed);

	expect(f, path, want, n);
	free(want);
}

static int first_block(struct fixture *f, const char *path, uint8_t *got)
{
	return read_at(f->s, got, TREE_BLOCK, data_of(f->tree, path));
}

static void files_have_their_bytes_and_zeros_follow(void **state)
{
	static const size_t sizes[] = {1, 511, 4095, 4096, 4097, 100000};
	int dir = ((struct fixture *)*state)->fd;
	struct fixture *f;
	char name[32];

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(name, sizeof(name), "f%zu", sizes[i]);
		put_pattern(dir, name, sizes[i], (unsigned)i);
	}
	put_file(dir, "empty", "", 0);
	f = start(state, false);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(name, sizeof(name), "f%zu", sizes[i]);
		expect_pattern(f, name, sizes[i], (unsigned)i);
	}
}

/* The whole image in one request, and in requests of odd buffers that begin anywhere. */
static void requests_may_span_everything(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	uint8_t *whole, *parts;
	struct fixture *f;
	char name[32];

	for (unsigned i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_pattern(dir, name, i * 700 + 1, i);
	}
	f = start(state, false);
	whole = malloc(f->s->bytes);
	parts = malloc(f->s->bytes);
	assert_int_equal(read_at(f->s, whole, f->s->bytes, 0), 0);
	for (uint64_t off = 0, len; off < f->s->bytes; off += len) {
		uint64_t left = f->s->bytes - off;
		struct iovec iov[100];
		unsigned n = 0;

		for (len = 0; n < ARRAY_LEN(iov) && len < left; n++) {
			uint64_t part = (n * 37 + off / 512) % 1500;

			iov[n].iov_base = parts + off + len;
			iov[n].iov_len = part < left - len ? part : left - len;
			len += iov[n].iov_len;
		}
		memset(parts + off, 0xee, len);
		assert_int_equal(f->s->ops->readv(f->s, iov, n, off), 0);
	}
	assert_memory_equal(whole, parts, f->s->bytes);
	free(whole);
	free(parts);
}

static void reads_beyond_the_end_and_writes_fail(void **state)
{
	struct fixture *f = start(state, false);
	uint8_t buf[512] = {0};
	struct iovec iov = {buf, sizeof(buf)};

	assert_true(f->s->readonly);
	assert_int_equal(read_at(f->s, buf, sizeof(buf), f->s->bytes), -EIO);
	assert_int_equal(read_at(f->s, buf, sizeof(buf), UINT64_MAX - 100), -EIO);
	assert_int_equal(f->s->ops->writev(f->s, &iov, 1, 0), -EROFS);
}

static void sparse_files_read_as_they_are(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	uint8_t *data = pattern(10000, 3);
	struct fixture *f;
	int fd = openat(dir, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_int_equal(pwrite(fd, data, 10000, 1 << 20), 10000);
	assert_int_equal(ftruncate(fd, 4 << 20), 0);
	close(fd);
	f = start(state, false);
	assert_true(f->s->bytes < 1 << 20);
	expect(f, "sparse", data, 10000);
	free(data);
}

/* What was logged meanwhile. */
static int log_pipe[2];

static void log_to_pipe(void)
{
	assert_int_equal(pipe2(log_pipe, O_NONBLOCK | O_CLOEXEC), 0);
	log_setup(log_pipe[1], LOG_FMT_TEXT, LOG_LVL_WARN, "test");
}

static unsigned logged_lines(const char *has)
{
	static char text[65536];
	unsigned lines = 0;
	ssize_t n = read(log_pipe[0], text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	if (has && !strstr(text, has))
		fail_msg("no \"%s\" in: %s", has, text);
	close(log_pipe[0]);
	close(log_pipe[1]);
	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	return lines;
}

static void file_that_became_shorter_reads_as_zeros(void **state)
{
	int dir = ((struct fixture *)*state)->fd, fd;
	uint8_t *want = pattern(20000, 1);
	struct fixture *f;

	put_pattern(dir, "f", 20000, 1);
	f = start(state, false);
	fd = openat(dir, "f", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 5000), 0);
	close(fd);
	memset(want + 5000, 0, 15000);
	log_to_pipe();
	expect(f, "f", want, 20000);
	expect(f, "f", want, 20000);
	assert_int_equal(logged_lines("f: became shorter"), 1);
	free(want);
}

static void file_that_grew_keeps_its_size(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct fixture *f;

	put_pattern(dir, "f", 100, 1);
	f = start(state, false);
	put_pattern(dir, "f", 5000, 1);
	expect_pattern(f, "f", 100, 1);
}

static void lost_file_is_an_error_of_its_own(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	uint8_t buf[3 * TREE_BLOCK];
	struct fixture *f;

	put_pattern(dir, "a", 4096, 1);
	put_pattern(dir, "b", 4096, 2);
	put_pattern(dir, "c", 4096, 3);
	f = start(state, false);
	assert_int_equal(unlinkat(dir, "b", 0), 0);
	log_to_pipe();
	assert_int_equal(read_at(f->s, buf, sizeof(buf), data_of(f->tree, "a")), -EIO);
	assert_int_equal(first_block(f, "b", buf), -EIO);
	assert_int_equal(first_block(f, "b", buf), -EIO);
	assert_int_equal(logged_lines("root: b: was removed"), 1);
	expect_pattern(f, "a", 4096, 1);
	expect_pattern(f, "c", 4096, 3);
}

static void complaints_are_bounded(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct fixture *f;
	uint8_t buf[TREE_BLOCK];
	char name[32];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_pattern(dir, name, 10, i);
	}
	f = start(state, false);
	log_to_pipe();
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(unlinkat(dir, name, 0), 0);
		assert_int_equal(first_block(f, name, buf), -EIO);
	}
	assert_int_equal(logged_lines("more such files are not reported"), 32);
}

/* Replaces `name` so that its old inode number cannot come back. */
static void replace(int dir, const char *name, const char *text)
{
	put_file(dir, "new", text, strlen(text));
	assert_int_equal(renameat(dir, "new", dir, name), 0);
}

static void replaced_file_is_an_error(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	uint8_t buf[TREE_BLOCK];
	struct fixture *f;

	put_pattern(dir, "f", 100, 1);
	f = start(state, false);
	replace(dir, "f", "new text");
	assert_int_equal(first_block(f, "f", buf), -EIO);
}

static void replaced_file_is_taken_where_inodes_mean_nothing(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	uint8_t buf[TREE_BLOCK];
	struct fixture *f;

	put_file(dir, "f", "old text", 8);
	f = start(state, true);
	replace(dir, "f", "new text");
	assert_int_equal(first_block(f, "f", buf), 0);
	assert_memory_equal(buf, "new text", 8);
}

static void what_is_no_file_any_more_neither_blocks_nor_leads_away(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	uint8_t buf[TREE_BLOCK];
	struct fixture *f;

	assert_int_equal(mkdirat(dir, "d", 0755) | mkdirat(dir, "e", 0755), 0);
	put_pattern(dir, "d/f", 100, 1);
	put_pattern(dir, "fifo", 100, 1);
	put_pattern(dir, "link", 100, 1);
	f = start(state, true);
	assert_int_equal(unlinkat(dir, "fifo", 0) | mkfifoat(dir, "fifo", 0600), 0);
	assert_int_equal(unlinkat(dir, "link", 0) | symlinkat("d/f", dir, "link"), 0);
	assert_int_equal(renameat(dir, "d", dir, "e/d") | symlinkat("e/d", dir, "d"), 0);
	assert_int_equal(first_block(f, "fifo", buf), -EIO);
	assert_int_equal(first_block(f, "link", buf), -EIO);
	assert_int_equal(first_block(f, "d/f", buf), -EIO);
}

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1000; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void more_files_than_stay_open(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct fixture *f;
	unsigned before;
	char name[32];

	for (unsigned i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_pattern(dir, name, 10 + i, i);
	}
	f = start(state, false);
	before = open_fds();
	for (unsigned i = 0; i < 1800; i++) {
		unsigned j = i * 7 % 600;

		snprintf(name, sizeof(name), "f%u", j);
		expect_pattern(f, name, 10 + j, j);
		if (i % 5 == 0)
			expect_pattern(f, "f1", 11, 1);
	}
	assert_true(open_fds() <= before + 256);
}

static void fewer_descriptors_than_the_cache_wants(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct rlimit old, few;
	struct fixture *f;
	char name[32];

	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_pattern(dir, name, 10, i);
	}
	f = start(state, false);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few = old;
	few.rlim_cur = open_fds() + 20;
	setrlimit(RLIMIT_NOFILE, &few);
	for (unsigned i = 0; i < 100; i++) {
		uint8_t buf[TREE_BLOCK], *want = pattern(10, i);
		struct error err = ERROR_INIT;

		/* the test itself needs some to find the offset */
		setrlimit(RLIMIT_NOFILE, &old);
		snprintf(name, sizeof(name), "f%u", i);
		uint64_t off = data_of(f->tree, name);

		setrlimit(RLIMIT_NOFILE, &few);
		assert_int_equal(read_at(f->s, buf, sizeof(buf), off), 0);
		assert_memory_equal(buf, want, 10);
		free(want);
		if (i == 50) { /* all are in use by then */
			assert_int_equal(source_tree_hold(f->s, "f99", &err), -1);
			assert_non_null(strstr(err.msg, "RLIMIT_NOFILE"));
		}
	}
	setrlimit(RLIMIT_NOFILE, &old);
}

static void held_file_outlives_its_name(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct fixture *f;

	assert_int_equal(mkdirat(dir, "d", 0755), 0);
	put_pattern(dir, "d/f", 10000, 1);
	put_pattern(dir, "g", 10000, 2);
	f = start(state, false);
	assert_int_equal(source_tree_hold(f->s, "d/f", NULL), 0);
	assert_int_equal(source_tree_hold(f->s, "/d//f", NULL), 0);
	assert_int_equal(source_tree_hold(f->s, "g", NULL), 0);
	assert_int_equal(unlinkat(dir, "d/f", 0) | unlinkat(dir, "d", AT_REMOVEDIR), 0);
	replace(dir, "g", "other");
	expect_pattern(f, "d/f", 10000, 1);
	expect_pattern(f, "g", 10000, 2);
}

static void holding_what_has_no_data_is_nothing(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct fixture *f;

	assert_int_equal(mkdirat(dir, "d", 0755) | symlinkat("d", dir, "l"), 0);
	put_file(dir, "empty", "", 0);
	f = start(state, false);
	assert_int_equal(source_tree_hold(f->s, "d", NULL), 0);
	assert_int_equal(source_tree_hold(f->s, "l", NULL), 0);
	assert_int_equal(source_tree_hold(f->s, "l/x", NULL), 0);
	assert_int_equal(source_tree_hold(f->s, "empty", NULL), 0);
	assert_int_equal(source_tree_hold(f->s, "none/at/all", NULL), 0);
	assert_int_equal(source_tree_hold(f->s, "", NULL), 0);
}

static void holding_what_is_gone_fails_by_name(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct error err = ERROR_INIT;
	struct fixture *f;

	put_pattern(dir, "f", 10, 1);
	f = start(state, false);
	assert_int_equal(unlinkat(dir, "f", 0), 0);
	assert_int_equal(source_tree_hold(f->s, "f", &err), -1);
	assert_non_null(strstr(err.msg, "hold f"));
}

static void *hold_all(void *arg)
{
	char name[32];

	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%u", i * 37 % 200);
		if (source_tree_hold(arg, name, NULL) < 0)
			return arg;
	}
	return NULL;
}

static void files_are_held_while_others_are_read(void **state)
{
	int dir = ((struct fixture *)*state)->fd;
	struct fixture *f;
	void *failed = NULL;
	uint8_t *buf;
	pthread_t t;
	char name[32];

	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_pattern(dir, name, 10, i);
	}
	f = start(state, false);
	buf = malloc(f->s->bytes);
	assert_int_equal(pthread_create(&t, NULL, hold_all, f->s), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(read_at(f->s, buf, f->s->bytes, 0), 0);
	pthread_join(t, &failed);
	assert_null(failed);
	free(buf);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(files_have_their_bytes_and_zeros_follow),
		T(requests_may_span_everything),
		T(reads_beyond_the_end_and_writes_fail),
		T(sparse_files_read_as_they_are),
		T(file_that_became_shorter_reads_as_zeros),
		T(file_that_grew_keeps_its_size),
		T(lost_file_is_an_error_of_its_own),
		T(complaints_are_bounded),
		T(replaced_file_is_an_error),
		T(replaced_file_is_taken_where_inodes_mean_nothing),
		T(what_is_no_file_any_more_neither_blocks_nor_leads_away),
		T(more_files_than_stay_open),
		T(fewer_descriptors_than_the_cache_wants),
		T(held_file_outlives_its_name),
		T(holding_what_has_no_data_is_nothing),
		T(holding_what_is_gone_fails_by_name),
		T(files_are_held_while_others_are_read),
	};

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
