/*
 * flatten [--upper] [--unstable] [--tree FILE] DIR [IMAGE]: makes the tree of DIR and writes the
 * whole image that it stands for, as a guest would read it; zeros become holes. Prints numbers and
 * times as JSON.
 */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/source.h"
#include "vmm/tree/build.h"
#include "vmm/tree/read.h"

#define STEP (1u << 20)

static int fail(const struct error *err)
{
	fprintf(stderr, "flatten: %s\n", err->msg);
	return 1;
}

static int write_step(int out, const uint8_t *buf, size_t len, uint64_t off, struct error *err)
{
	for (size_t at = 0, n; at < len; at += n) {
		static const uint8_t zeros[4096];

		n = len - at < sizeof(zeros) ? len - at : sizeof(zeros);
		if (memcmp(buf + at, zeros, n) != 0 &&
		    pwrite(out, buf + at, n, (off_t)(off + at)) != (ssize_t)n)
			return error_errno(err, "write image");
	}
	return 0;
}

/* A request that fails is repeated block by block, and blocks that fail stay zero: *lost. */
static int copy_image(struct block_source *s, int out, uint64_t *lost, struct error *err)
{
	cleanup_free uint8_t *buf = malloc(STEP);

	if (!buf || ftruncate(out, (off_t)s->bytes) < 0)
		return error_errno(err, "image");
	for (uint64_t off = 0; off < s->bytes; off += STEP) {
		size_t len = s->bytes - off < STEP ? s->bytes - off : STEP;
		struct iovec iov = {buf, len};

		if (s->ops->readv(s, &iov, 1, off) < 0) {
			for (size_t at = 0; at < len; at += 4096) {
				iov = (struct iovec){buf + at, 4096};
				if (s->ops->readv(s, &iov, 1, off + at) < 0) {
					memset(buf + at, 0, 4096);
					++*lost;
				}
			}
		}
		if (write_step(out, buf, len, off, err) < 0)
			return -1;
	}
	return 0;
}

static int image_of(int tree, int dir, const char *path, uint64_t *lost, struct error *err)
{
	cleanup_close int out = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct block_source *s;
	int r;

	if (out < 0)
		return error_errno(err, "create %s", path);
	s = source_tree_new(dup(tree), dup(dir), NULL, err);
	if (!s)
		return -1;
	r = copy_image(s, out, lost, err);
	s->ops->destroy(s);
	return r;
}

static double cpu_ms(const struct rusage *a, const struct rusage *b)
{
	return (double)(b->ru_utime.tv_sec - a->ru_utime.tv_sec + b->ru_stime.tv_sec -
			a->ru_stime.tv_sec) *
		       1e3 +
	       (double)(b->ru_utime.tv_usec - a->ru_utime.tv_usec + b->ru_stime.tv_usec -
			a->ru_stime.tv_usec) /
		       1e3;
}

static int usage(void)
{
	fputs("usage: flatten [--upper] [--unstable] [--tree FILE] DIR [IMAGE]\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"upper", no_argument, NULL, 'u'},
						{"tree", required_argument, NULL, 't'},
						{"unstable", no_argument, NULL, 'i'},
						{0}};
	struct tree_build_options o = {0};
	const char *tree_path = NULL;
	struct error err = ERROR_INIT;
	struct tree_stats st = {0};
	cleanup_close int dir = -1, tree = -1;
	uint64_t t0, built, opened, done, lost = 0;
	struct rusage before, ru;
	struct tree *t;
	int c;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_WARN, "flatten");
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'u')
			o.upper = true;
		else if (c == 'i')
			o.inodes_unstable = true;
		else if (c == 't')
			tree_path = optarg;
		else
			return usage();
	}
	if (argc - optind < 1 || argc - optind > 2)
		return usage();
	dir = open(argv[optind], O_PATH | O_DIRECTORY | O_CLOEXEC);
	tree = tree_path ? open(tree_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
			 : memfd_create("tree", MFD_CLOEXEC);
	if (dir < 0 || tree < 0) {
		perror("flatten");
		return 1;
	}
	getrusage(RUSAGE_SELF, &before);
	t0 = now_us();
	if (tree_build(dir, &o, tree, &st, &err) < 0)
		return fail(&err);
	built = now_us();
	getrusage(RUSAGE_SELF, &ru);
	t = tree_open(dup(tree), true, &err);
	if (!t)
		return fail(&err);
	opened = now_us();
	tree_free(t);
	if (argc - optind == 2 && image_of(tree, dir, argv[optind + 1], &lost, &err) < 0)
		return fail(&err);
	done = now_us();
	printf("{\"members\": %" PRIu64 ", \"dirs\": %" PRIu64 ", \"files\": %" PRIu64
	       ", \"hard_links\": %" PRIu64 ", \"meta_bytes\": %" PRIu64
	       ", \"name_bytes\": %" PRIu64 ", \"tree_bytes\": %" PRIu64
	       ", \"image_bytes\": %" PRIu64 ", \"lost_blocks\": %" PRIu64
	       ", \"build_ms\": %.3f, \"build_cpu_ms\": %.3f, \"verify_ms\": %.3f, \"image_ms\": "
	       "%.3f, \"peak_kib\": "
	       "%ld}\n",
	       st.members, st.dirs, st.files, st.hard_links, st.meta_bytes, st.name_bytes,
	       st.tree_bytes, st.image_bytes, lost, (double)(built - t0) / 1e3,
	       cpu_ms(&before, &ru), (double)(opened - built) / 1e3, (double)(done - opened) / 1e3,
	       ru.ru_maxrss - before.ru_maxrss);
	return 0;
}
