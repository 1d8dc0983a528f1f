/*
 * Any bytes as a tree: opened, its image read, its links and names looked up. File data comes from
 * lib/ of the checkout, which the seeds were made of, if it is there.
 *
 * Input: the tree. Its length is put right, so that mutations get further than that.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/source.h"
#include "vmm/tree/format.h"
#include "vmm/tree/read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define LINKS_MAX 100
#define READS 40

static int memfd_of(const uint8_t *data, size_t len)
{
	int fd = memfd_create("tree", MFD_CLOEXEC);
	struct tree_header h;

	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		abort();
	if (len < TREE_BLOCK)
		return fd;
	memcpy(&h, data, sizeof(h));
	h.bytes = len;
	if (pwrite(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		abort();
	return fd;
}

static int count(void *arg, uint64_t ino, const char *path)
{
	unsigned *n = arg;

	(void)ino;
	if (!*path || strstr(path, "//"))
		abort();
	return ++*n == LINKS_MAX;
}

/* Reads at both ends of the metadata, of the image, and between. */
static void read_some(struct block_source *s, uint32_t meta_blocks)
{
	static uint8_t a[100], b[TREE_BLOCK], c[3 * TREE_BLOCK];
	struct iovec iov[] = {{a, sizeof(a)}, {b, sizeof(b)}, {a, 0}, {c, sizeof(c)}};
	uint64_t len = sizeof(a) + sizeof(b) + sizeof(c),
		 last = s->bytes > len ? s->bytes - len : 0;

	if (s->bytes < len)
		return;
	for (uint64_t i = 0; i <= READS; i++)
		s->ops->readv(s, iov, 4, last / READS * i / 512 * 512);
	s->ops->readv(s, iov, 4, last);
	for (uint64_t i = 0; i < READS; i++) {
		uint64_t off = (meta_blocks + i) * TREE_BLOCK - 512;

		if (off <= last)
			s->ops->readv(s, iov, 4, off);
	}
	if (s->ops->readv(s, iov, 4, s->bytes - 512) == 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char *const paths[] = {
		"file.c", "changeset/changeset.h", "/log.h/", "none", "changeset",
		"..",	  "changeset/../error.c",  ""};
	int dir = open("lib", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = memfd_of(data, len);
	struct block_source *s;
	struct tree_header h;
	struct tree *t;
	unsigned n = 0;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	t = tree_open(dup(fd), true, NULL);
	tree_free(t);
	t = tree_open(dup(fd), false, NULL);
	if (t)
		tree_each_link(t, count, &n);
	tree_free(t);
	if (dir < 0)
		dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s = source_tree_new(fd, dir, NULL, NULL);
	if (!s)
		return 0;
	memcpy(&h, data, sizeof(h));
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		source_tree_hold(s, paths[i], NULL);
	read_some(s, h.meta_blocks);
	s->ops->destroy(s);
	return 0;
}
