/*
 * source.h - where the bytes of a virtual disk come from.
 *
 * A block source is a flat array of bytes. The raw file is the first one; the synthesised EROFS
 * image is the next. Called from the block device's own thread, one call at a time for a source.
 */
#ifndef HUSK_VMM_SOURCE_H
#define HUSK_VMM_SOURCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "lib/error.h"

struct block_source;
struct opener;

struct block_source_ops {
	/* Move exactly the bytes of `iov`, at byte `off`. The device has checked that they lie
	 * below the capacity. Return 0, or -errno. */
	int (*readv)(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off);
	int (*writev)(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off);
	int (*flush)(struct block_source *s); /* what was written survives a power cut */
	/* Gives [off, off + len) back to the host; it reads as zeros afterwards if `zero`. NULL:
	 * not offered. */
	int (*discard)(struct block_source *s, uint64_t off, uint64_t len, bool zero);
	void (*destroy)(struct block_source *s);
};

struct block_source {
	const struct block_source_ops *ops;
	uint64_t bytes; /* capacity, a multiple of 512 */
	bool readonly;
};

/* A raw image: a regular file or a block device. Takes `fd` over, also on failure. `discardable`:
 * nobody needs the content after a crash of the host, so that flush does nothing. */
struct block_source *source_file_new(int fd, bool readonly, bool discardable, struct error *err);

/* The image of a tree (vmm/tree/): metadata from `tree`, file data from beneath directory `dir`.
 * Read-only. Takes both descriptors over, also on failure. `opener` (kept by the caller) opens the
 * files for a process that is jailed; NULL: it does so itself. */
struct block_source *source_tree_new(int tree, int dir, struct opener *opener, struct error *err);
/* The file at `path` (relative, in the image; nothing happens if it is no regular file there)
 * stays readable when it is removed or replaced from now on. Any thread may call. */
int source_tree_hold(struct block_source *s, const char *path, struct error *err);

#endif
