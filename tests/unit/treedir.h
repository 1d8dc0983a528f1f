/* A temporary directory whose tree is made and read (with cmocka.h before it). */
#ifndef HUSK_TESTS_UNIT_TREEDIR_H
#define HUSK_TESTS_UNIT_TREEDIR_H

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/unit/tmpdir.h"
#include "vmm/source.h"
#include "vmm/tree/build.h"
#include "vmm/tree/image.h"
#include "vmm/tree/read.h"

static inline void put_file(int dir, const char *name, const void *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

/* n bytes that are not zero; they differ with `seed`. */
static inline uint8_t *pattern(size_t n, unsigned seed)
{
	uint8_t *p = malloc(n + 1);

	assert_non_null(p);
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)((i * 31 + i / 251 + seed * 7) % 255 + 1);
	return p;
}

static inline void put_pattern(int dir, const char *name, size_t n, unsigned seed)
{
	uint8_t *p = pattern(n, seed);

	put_file(dir, name, p, n);
	free(p);
}

/* The tree as a memfd. */
static inline int tree_of_dir(int dir, bool upper, bool unstable, struct tree_stats *st)
{
	struct tree_build_options o = {.upper = upper, .inodes_unstable = unstable};
	struct error err = ERROR_INIT;
	int fd = memfd_create("tree", MFD_CLOEXEC);

	assert_true(fd >= 0);
	if (tree_build(dir, &o, fd, st, &err) < 0)
		fail_msg("%s", err.msg);
	return fd;
}

static inline struct tree *opened(int fd)
{
	struct error err = ERROR_INIT;
	struct tree *t = tree_open(dup(fd), true, &err);

	if (!t)
		fail_msg("%s", err.msg);
	return t;
}

/* Where the data of file `path` begins in the image. */
static inline uint64_t data_of(int fd, const char *path)
{
	struct tree *t = opened(fd);
	struct tree_piece p;
	uint32_t file;
	uint64_t off;

	assert_int_equal(tree_lookup(t, path, &file), 1);
	tree_meta(t, &off);
	for (; tree_piece(t, off, &p) == 0 && p.file != file;)
		off += p.bytes;
	assert_true(off < tree_image_bytes(t));
	tree_free(t);
	return off;
}

static inline struct block_source *source_of(int fd, int dir)
{
	struct error err = ERROR_INIT;
	struct block_source *s = source_tree_new(dup(fd), dup(dir), NULL, &err);

	if (!s)
		fail_msg("%s", err.msg);
	return s;
}

static inline int read_at(struct block_source *s, void *buf, size_t len, uint64_t off)
{
	struct iovec iov = {buf, len};

	return s->ops->readv(s, &iov, 1, off);
}

#endif
