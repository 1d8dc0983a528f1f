/*
 * apply.h - the receiver of a changeset: makes a directory like the stream says.
 *
 * Never leaves the directory: it holds a descriptor for each level, opened with O_NOFOLLOW, and
 * names one component at a time. What is there already and alike is not touched (an overlayfs would
 * copy it up). New content gets a temporary name (".husk-" and digits) and is renamed over the old
 * one.
 */
#ifndef HUSK_LIB_CHANGESET_APPLY_H
#define HUSK_LIB_CHANGESET_APPLY_H

#include <sys/stat.h>

#include "lib/changeset/changeset.h"
#include "lib/error.h"

/* Names of a lower file that has several links, by its inode number in the tree. There are groups
 * only where the lower is one tree, so that the number says it all. */
struct cs_link_group {
	uint64_t ino;
	char **paths; /* relative to the root */
	size_t n;
};

struct cs_apply_options {
	uint64_t max_entries, max_bytes; /* 0: the format's own bounds, no bound */
	bool mknod; /* make character and block devices; otherwise they are refused, counted, warned
		     * of */
	bool in_place; /* regular files directly in the root directory keep their inode */
	const struct cs_link_group *links;
	size_t n_links;
	/* Before a regular file that is there is replaced or removed (also beneath a directory that
	 * is), not before one is written in place. An error ends the apply. */
	int (*before_replace)(void *arg, const char *path, struct error *err);
	/* After something was changed: `st` is what is there now, NULL: nothing. */
	void (*changed)(void *arg, const char *path, const struct stat *st);
	void *arg;
};

/* Reads the stream from `in` and applies it beneath `rootfd`. On an error what was applied stays;
 * applying the same stream again completes it. Nothing is synced: who has to know that it is on the
 * disk calls syncfs(2) afterwards. Entries that options or the file system do not allow (and links
 * to them) are left out, counted and warned of; that is no error. */
int cs_apply(int in, int rootfd, const struct cs_apply_options *o, struct cs_counts *n,
	     struct error *err);

#endif
