/*
 * build.h - walks a directory once and writes its tree.
 */
#ifndef HUSK_VMM_TREE_BUILD_H
#define HUSK_VMM_TREE_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

struct tree_build_options {
	/* The directory is the upper layer of an overlayfs: its whiteouts and
	 * trusted.overlay.opaque become those of the image. Anything else that only the overlay can
	 * resolve (redirect, metacopy) is ERR_UNSUPPORTED. */
	bool upper;
	/* Inode numbers mean nothing later (an overlay's): a replaced file is not recognised. */
	bool inodes_unstable;
};

struct tree_stats {
	uint64_t members, dirs, files, hard_links; /* hard_links: files with several names */
	uint64_t meta_bytes, name_bytes, tree_bytes, image_bytes;
};

/* Writes the tree of directory `dirfd` to `out` (an empty memfd or file). Mounts beneath it belong
 * to it, those of kernel file systems (proc, sysfs, devpts, cgroup, ...) as empty directories. */
int tree_build(int dirfd, const struct tree_build_options *o, int out, struct tree_stats *st,
	       struct error *err);

#endif
