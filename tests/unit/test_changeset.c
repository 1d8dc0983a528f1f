/* Changesets: what is collected from one tree and applied to another makes them alike. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "tests/unit/changeset.h"
#include "tests/unit/tmpdir.h"

/* A directory with two in it. */
struct trees {
	struct tmpdir *t;
	char src[96], dst[96];
	int src_fd, dst_fd;
	unsigned changed, replaced;
};

static int setup(void **state)
{
	struct trees *s = calloc(1, sizeof(*s));

	if (!s || tmpdir_make((void **)&s->t) < 0)
		return -1;
	snprintf(s->src, sizeof(s->src), "%s/src", s->t->path);
	snprintf(s->dst, sizeof(s->dst), "%s/dst", s->t->path);
	if (mkdir(s->src, 0755) < 0 || mkdir(s->dst, 0755) < 0)
		return -1;
	s->src_fd = open(s->src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->dst_fd = open(s->dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct trees *s = *state;
	int r;

	close(s->src_fd);
	close(s->dst_fd);
	r = tmpdir_remove((void **)&s->t);
	free(s);
	return r;
}

static void put_file(int dir, const char *name, const char *text, mode_t mode, time_t mtime)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime, .tv_nsec = 123456789}};
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(futimens(fd, t), 0);
	close(fd);
}

static void put_socket(int dir, const char *name)
{
	assert_int_equal(mknodat(dir, name, S_IFSOCK | 0640, 0), 0);
}

/* One of everything. */
static void fill(int dir)
{
	static const unsigned char acl[] = {2,	  0,	0,    0, 1,    0,    6,	   0,	 0xff,
					    0xff, 0xff, 0xff, 2, 0,    4,    0,	   5,	 0,
					    0,	  0,	4,    0, 4,    0,    0xff, 0xff, 0xff,
					    0xff, 16,	0,    4, 0,    0xff, 0xff, 0xff, 0xff,
					    32,	  0,	0,    0, 0xff, 0xff, 0xff, 0xff};
	static const unsigned char cap[20] = {1, 0, 0, 2, 0, 4};
	char name[256], target[4096];
	int fd;

	put_file(dir, "plain", "hello\n", 0644, 1000);
	put_file(dir, "empty", "", 0600, -5);
	put_file(dir, "setuid", "x", 04755, 2000);
	put_file(dir, "new\nline", "y", 0, 2000);
	memset(name, 'n', 255);
	name[255] = '\0';
	put_file(dir, name, "long", 0444, 7);
	memset(target, 't', 4095);
	target[4095] = '\0';
	symlinkat(strlen(target) ? "plain" : "", dir, "link");
	symlinkat("/nowhere/../at all", dir, "dangling");
	mkfifoat(dir, "fifo", 0622);
	put_socket(dir, "socket");
	assert_int_equal(mknodat(dir, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(mknodat(dir, "disk", S_IFBLK | 0660, makedev(259, 70000)), 0);
	mkdirat(dir, "d", 0750);
	mkdirat(dir, "d/e", 01777);
	mkdirat(dir, "d/empty", 02755);
	put_file(dir, "d/e/f", "deep", 0640, 3000);
	assert_int_equal(fchownat(dir, "d/e/f", 12, 34, 0), 0);
	linkat(dir, "plain", dir, "d/plain2", 0);
	linkat(dir, "d/plain2", dir, "d/e/plain3", 0);
	linkat(dir, "link", dir, "d/link2", 0);
	fd = openat(dir, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(pwrite(fd, "middle", 6, 5 << 20), 6);
	assert_int_equal(ftruncate(fd, (off_t)10 << 30), 0);
	fsetxattr(fd, "user.a", "1", 1, 0);
	fsetxattr(fd, "trusted.b", "", 0, 0);
	fsetxattr(fd, "security.capability", cap, sizeof(cap), 0);
	close(fd);
	fd = openat(dir, "d/acl", O_RDWR | O_CREAT | O_CLOEXEC, 0640);
	fsetxattr(fd, "system.posix_acl_access", acl, sizeof(acl), 0);
	close(fd);
	fd = openat(dir, "d/empty", O_RDONLY | O_CLOEXEC);
	fsetxattr(fd, "system.posix_acl_default", acl, sizeof(acl), 0);
	close(fd);
	mkdirat(dir, "d/empty/inherits", 0700);
	put_file(dir, "d/empty/inherits-too", "z", 0600, 1);
}

static void count_change(void *arg, const char *path, const struct stat *st)
{
	struct trees *s = arg;

	(void)path;
	(void)st;
	s->changed++;
}

static int count_replace(void *arg, const char *path, struct error *err)
{
	struct trees *s = arg;

	(void)path;
	(void)err;
	s->replaced++;
	return 0;
}

static struct cs_apply_options options(struct trees *s)
{
	return (struct cs_apply_options){
		.mknod = true, .changed = count_change, .before_replace = count_replace, .arg = s};
}

static struct cs_counts apply(struct trees *s, int stream, const struct cs_apply_options *o)
{
	struct error err = ERROR_INIT;
	struct cs_counts n;

	lseek(stream, 0, SEEK_SET);
	if (cs_apply(stream, s->dst_fd, o, &n, &err) < 0)
		fail_msg("%s", err.msg);
	return n;
}

static int collect(int dir, enum cs_collect_kind kind)
{
	struct error err = ERROR_INIT;
	int stream = stream_new();

	if (cs_collect(dir, kind, stream, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	return stream;
}

static void everything_into_an_empty_directory(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = -1;
	struct cs_counts n;

	fill(s->src_fd);
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	n = apply(s, stream, &o);
	assert_true(same_trees(s->src, s->dst));
	assert_int_equal(n.refused, 0);
	assert_int_equal(n.links, 3);
	assert_true(n.changed > 20);
	assert_int_equal(n.changed, s->changed);
	assert_int_equal(s->replaced, 0);
	/* Holes stay holes: 10 GiB were not written. */
	assert_true(n.data_bytes < 1 << 20);
}

static void what_is_alike_is_not_touched(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = -1;
	struct stat before, after;

	fill(s->src_fd);
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	apply(s, stream, &o);
	assert_int_equal(fstatat(s->dst_fd, "setuid", &before, 0), 0);
	s->changed = 0;
	assert_int_equal(apply(s, stream, &o).changed, 0);
	assert_int_equal(s->changed, 0);
	assert_int_equal(s->replaced, 0);
	assert_int_equal(fstatat(s->dst_fd, "setuid", &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
	assert_true(same_trees(s->src, s->dst));
}

static void every_type_replaces_every_other(void **state)
{
	static const char *const make[] = {"mkdir %s; echo x > %s/inside; mkdir %s/sub",
					   "echo text > %s",
					   "ln -s nowhere %s",
					   "mkfifo %s",
					   "mknod %s c 1 5",
					   ":"};
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	char cmd[1024];

	for (size_t from = 0; from < ARRAY_LEN(make); from++)
		for (size_t to = 0; to < ARRAY_LEN(make); to++) {
			char name[32], src[128], dst[128];

			snprintf(name, sizeof(name), "%zu-%zu", from, to);
			snprintf(src, sizeof(src), "%s/%s", s->src, name);
			snprintf(dst, sizeof(dst), "%s/%s", s->dst, name);
			snprintf(cmd, sizeof(cmd), make[to], src, src, src);
			assert_true(shell(cmd));
			snprintf(cmd, sizeof(cmd), make[from], dst, dst, dst);
			assert_true(shell(cmd));
		}
	cleanup_close int stream = collect(s->src_fd, CS_COLLECT_ALL);

	apply(s, stream, &o);
	assert_true(same_trees(s->src, s->dst));
	assert_true(s->replaced > 0);
}

/* Same size, times, mode, owner: only the bytes differ. */
static void content_is_compared(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	static char big[1 << 20];
	cleanup_close int stream = -1;

	memset(big, 'a', sizeof(big) - 1);
	put_file(s->dst_fd, "f", big, 0644, 1000);
	put_file(s->dst_fd, "g", big, 0600, 1000);
	put_file(s->src_fd, "g", big, 0644, 1000);
	put_file(s->dst_fd, "hole", "\1", 0644, 1000);
	put_file(s->src_fd, "hole", "", 0644, 1000);
	big[700000] = 'b';
	put_file(s->src_fd, "f", big, 0644, 1000);
	struct timespec t[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	int fd = openat(s->src_fd, "hole", O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 1), 0);
	futimens(fd, t);
	close(fd);
	utimensat(s->dst_fd, "hole", t, 0);
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	apply(s, stream, &o);
	assert_true(same_trees(s->src, s->dst));
	assert_int_equal(s->replaced, 2);
}

static void opaque_prunes_what_is_not_named(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = -1;

	mkdirat(s->src_fd, "d", 0755);
	put_file(s->src_fd, "d/kept", "1", 0644, 1);
	mkdirat(s->dst_fd, "d", 0755);
	put_file(s->dst_fd, "d/kept", "1", 0644, 1);
	put_file(s->dst_fd, "d/gone", "1", 0644, 1);
	mkdirat(s->dst_fd, "d/tree", 0755);
	mkdirat(s->dst_fd, "d/tree/more", 0755);
	put_file(s->dst_fd, "d/tree/more/f", "1", 0644, 1);
	put_file(s->dst_fd, "gone-too", "1", 0644, 1);
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	apply(s, stream, &o);
	assert_true(same_trees(s->src, s->dst));
	assert_int_equal(s->replaced, 3);
}

static void deep_trees_need_few_descriptors(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = -1, bad = stream_new();
	struct error err = ERROR_INIT;
	int fd = dup(s->src_fd);

	for (int i = 0; i < CS_DEPTH_MAX; i++) {
		assert_int_equal(mkdirat(fd, "deeper", 0755), 0);
		int next = openat(fd, "deeper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		close(fd);
		fd = next;
	}
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	apply(s, stream, &o);
	assert_int_equal(apply(s, stream, &o).changed, 0);
	mkdirat(fd, "too-deep", 0755);
	close(fd);
	assert_int_equal(cs_collect(s->src_fd, CS_COLLECT_ALL, bad, NULL, &err), -1);
	assert_string_equal(err.msg, "too-deep: more than 1024 directories deep");
	lseek(bad, 0, SEEK_SET);
	assert_int_equal(cs_apply(bad, s->dst_fd, &o, NULL, &err), -1);
	assert_string_equal(
		err.msg, "changeset: the sender says: too-deep: more than 1024 directories deep");
	/* and gone again */
	unlinkat(s->src_fd, "deeper", AT_REMOVEDIR);
	int empty = openat(s->t->fd, ".", O_RDONLY | O_CLOEXEC);
	mkdirat(empty, "nothing", 0755);
	int nothing = openat(empty, "nothing", O_RDONLY | O_CLOEXEC);
	cleanup_close int stream2 = collect(nothing, CS_COLLECT_ALL);
	apply(s, stream2, &o);
	lseek(stream2, 0, SEEK_SET);
	assert_int_equal(cs_apply(stream2, s->src_fd, &o, NULL, NULL), 0);
	close(nothing);
	close(empty);
	assert_int_equal(openat(s->dst_fd, "deeper", O_PATH), -1);
}

static void chosen_paths(void **state)
{
	char *paths[] = {TEXT("d/e/f"),		 TEXT("d/plain2"), TEXT("gone"), TEXT("link"),
			 TEXT("missing/parent"), TEXT("no/d/x"),   TEXT("whole")};
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = stream_new();
	struct error err = ERROR_INIT;
	struct stat st;

	fill(s->src_fd);
	mkdirat(s->src_fd, "whole", 0700);
	put_file(s->src_fd, "whole/a", "a", 0600, 1);
	put_file(s->src_fd, "no", "a", 0600, 1);
	put_file(s->dst_fd, "gone", "a", 0600, 1);
	put_file(s->dst_fd, "stays", "a", 0600, 1);
	mkdirat(s->dst_fd, "missing", 0700);
	put_file(s->dst_fd, "missing/parent", "a", 0600, 1);
	mkdirat(s->dst_fd, "d", 0711);
	mkdirat(s->dst_fd, "whole", 0711);
	put_file(s->dst_fd, "whole/b", "b", 0600, 1);
	if (cs_collect_paths(s->src_fd, paths, ARRAY_LEN(paths), stream, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	apply(s, stream, &o);
	assert_int_equal(fstatat(s->dst_fd, "d/e/f", &st, 0), 0);
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(fstatat(s->dst_fd, "d/plain2", &st, 0), 0);
	assert_int_equal(fstatat(s->dst_fd, "gone", &st, 0), -1);
	assert_int_equal(fstatat(s->dst_fd, "missing", &st, 0), -1);
	assert_int_equal(fstatat(s->dst_fd, "stays", &st, 0), 0);
	assert_int_equal(fstatat(s->dst_fd, "no", &st, 0), -1);
	assert_int_equal(fstatat(s->dst_fd, "whole/a", &st, 0), 0);
	assert_int_equal(fstatat(s->dst_fd, "whole/b", &st, 0), 0);
	assert_int_equal(fstatat(s->dst_fd, "whole", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* What only leads there keeps its mode. */
	assert_int_equal(fstatat(s->dst_fd, "d", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
}

static void members_under_names_of_their_own(void **state)
{
	char *names[] = {TEXT("0"), TEXT("1")};
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = stream_new();
	struct error err = ERROR_INIT;
	struct stat st;
	int fds[2];

	fill(s->src_fd);
	put_file(s->dst_fd, "other", "", 0600, 1);
	mkdirat(s->dst_fd, "0", 0711);
	put_file(s->dst_fd, "0/old", "", 0600, 1);
	fds[0] = openat(s->src_fd, "d", O_PATH | O_CLOEXEC);
	fds[1] = openat(s->src_fd, "plain", O_PATH | O_CLOEXEC);
	if (cs_collect_members(names, fds, 2, stream, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	apply(s, stream, &o);
	assert_int_equal(fstatat(s->dst_fd, "0/e/f", &st, 0), 0);
	assert_int_equal(fstatat(s->dst_fd, "0/old", &st, 0), -1);
	assert_int_equal(fstatat(s->dst_fd, "1", &st, 0), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(fstatat(s->dst_fd, "other", &st, 0), 0);
	close(fds[0]);
	close(fds[1]);
}

static void files_in_place_keep_their_inode(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = -1, hole = -1;
	struct stat a, b;

	o.in_place = true;
	put_file(s->dst_fd, "f", "a longer text than the new one", 0644, 1);
	put_file(s->dst_fd, "same", "same", 0644, 1);
	put_file(s->dst_fd, "hole", "0123456789", 0644, 1);
	put_file(s->src_fd, "f", "short", 0600, 9);
	put_file(s->src_fd, "same", "same", 0644, 1);
	hole = openat(s->src_fd, "hole", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(hole, 100000), 0);
	fstatat(s->dst_fd, "f", &a, 0);
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	apply(s, stream, &o);
	fstatat(s->dst_fd, "f", &b, 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_true(same_trees(s->src, s->dst));
	assert_int_equal(apply(s, stream, &o).changed, 0);
}

/* Two files with two names each, where there was one with four. */
static void links_are_broken_where_the_sender_has_none(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = -1;

	put_file(s->dst_fd, "a", "same", 0600, 1);
	linkat(s->dst_fd, "a", s->dst_fd, "b", 0);
	linkat(s->dst_fd, "a", s->dst_fd, "x", 0);
	linkat(s->dst_fd, "a", s->dst_fd, "y", 0);
	linkat(s->dst_fd, "a", s->dst_fd, "z", 0);
	put_file(s->src_fd, "a", "same", 0600, 1);
	linkat(s->src_fd, "a", s->src_fd, "x", 0);
	put_file(s->src_fd, "b", "same", 0600, 1);
	linkat(s->src_fd, "b", s->src_fd, "y", 0);
	put_file(s->src_fd, "z", "same", 0600, 1);
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	apply(s, stream, &o);
	assert_true(same_trees(s->src, s->dst));
	assert_int_equal(apply(s, stream, &o).changed, 0);
}

/* The receiver is gone: an error, and no signal. */
static void a_closed_socket_is_an_error(void **state)
{
	struct trees *s = *state;
	struct error err = ERROR_INIT;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	close(sv[1]);
	assert_int_equal(cs_collect(s->src_fd, CS_COLLECT_ALL, sv[0], NULL, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
	assert_string_equal(err.msg, "write the changeset: Broken pipe");
	close(sv[0]);
}

/* However it was interrupted: the next run makes it what a first run would have made. */
static void cut_streams_are_completed(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	cleanup_close int stream = -1;
	off_t len;

	fill(s->src_fd);
	unlinkat(s->src_fd, "sparse", 0);
	put_file(s->dst_fd, "plain", "other", 0644, 1000);
	put_file(s->dst_fd, "setuid", "y", 04755, 2000);
	mkdirat(s->dst_fd, "link", 0755);
	put_file(s->dst_fd, "link/in-it", "y", 04755, 2000);
	stream = collect(s->src_fd, CS_COLLECT_ALL);
	len = lseek(stream, 0, SEEK_END);
	for (off_t cut = 0; cut < len; cut += 37) {
		cleanup_close int part = stream_new();
		static char buf[1 << 20];
		struct error err = ERROR_INIT;

		assert_int_equal(pread(stream, buf, (size_t)cut, 0), cut);
		assert_int_equal(write(part, buf, (size_t)cut), cut);
		lseek(part, 0, SEEK_SET);
		assert_int_equal(cs_apply(part, s->dst_fd, &o, NULL, &err), -1);
		assert_int_equal(err.kind, ERR_PEER);
		if (cut % 5 == 0) { /* what a killed run leaves */
			put_file(s->dst_fd, CS_TEMPORARY, "half", 0600, 1);
			if (mkdirat(s->dst_fd, "d", 0700) == 0 || errno == EEXIST)
				put_file(s->dst_fd, "d/" CS_TEMPORARY, "half", 0600, 1);
		}
		apply(s, stream, &o);
		if (cut % 11 == 0)
			assert_true(same_trees(s->src, s->dst));
		if (cut % 3 == 0) {
			put_file(s->dst_fd, "plain", "another", 0644, 1000);
			put_file(s->dst_fd, "d/e/f", "DEEP", 0640, 3000);
		}
	}
	apply(s, stream, &o);
	assert_true(same_trees(s->src, s->dst));
}

/* ---- random trees */

static unsigned dice(unsigned *seed, unsigned n)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % n;
}

/* Something, or nothing, in a directory; few names, so that they meet in the next tree. */
static void grow(int dir, int top, unsigned *seed, int depth)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "f"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = dice(seed, 3)}};
		char text[8] = "";
		int sub;

		memset(text, 'x' + (int)dice(seed, 2), dice(seed, 3));
		switch (dice(seed, 8)) {
		case 0:
		case 1:
			put_file(dir, names[i], text, 0600 + dice(seed, 2), dice(seed, 2));
			break;
		case 2:
			symlinkat(dice(seed, 2) ? "a" : "../b", dir, names[i]);
			break;
		case 3:
			mkfifoat(dir, names[i], 0600);
			break;
		case 4: /* a link to what the top has by now */
			linkat(top, names[dice(seed, 6)], dir, names[i], 0);
			break;
		case 5:
		case 6:
			if (depth == 0 || mkdirat(dir, names[i], 0700 + dice(seed, 2)) < 0)
				break;
			sub = openat(dir, names[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			grow(sub, top, seed, depth - 1);
			if (dice(seed, 2))
				fsetxattr(sub, "user.d", text, strlen(text), 0);
			close(sub);
			break;
		default:
			continue;
		}
		utimensat(dir, names[i], t, AT_SYMLINK_NOFOLLOW);
	}
}

static void any_tree_becomes_any_other(void **state)
{
	struct trees *s = *state;
	struct cs_apply_options o = options(s);
	unsigned seed = 4711;

	for (int i = 0; i < 60; i++) {
		char cmd[160];
		cleanup_close int stream = -1;

		snprintf(cmd, sizeof(cmd), "rm -rf %s/*", s->src);
		assert_true(shell(cmd));
		grow(s->src_fd, s->src_fd, &seed, 3);
		stream = collect(s->src_fd, CS_COLLECT_ALL);
		apply(s, stream, &o);
		assert_true(same_trees(s->src, s->dst));
		assert_int_equal(apply(s, stream, &o).changed, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(everything_into_an_empty_directory),
		T(what_is_alike_is_not_touched),
		T(every_type_replaces_every_other),
		T(content_is_compared),
		T(opaque_prunes_what_is_not_named),
		T(deep_trees_need_few_descriptors),
		T(chosen_paths),
		T(members_under_names_of_their_own),
		T(files_in_place_keep_their_inode),
		T(cut_streams_are_completed),
		T(links_are_broken_where_the_sender_has_none),
		T(a_closed_socket_is_an_error),
		T(any_tree_becomes_any_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
