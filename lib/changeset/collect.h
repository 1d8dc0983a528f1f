/*
 * collect.h - the sender of a changeset.
 */
#ifndef HUSK_LIB_CHANGESET_COLLECT_H
#define HUSK_LIB_CHANGESET_COLLECT_H

#include "lib/changeset/changeset.h"
#include "lib/error.h"

enum cs_collect_kind {
	/* Directory of an overlayfs upper layer: whiteouts (character device 0:0) and opaque
	 * directories are said as such, overlayfs's own xattrs are left out, origins of hard-linked
	 * lower files decoded (trusted.overlay.origin, EROFS file handle). The top is a DIR "."
	 * with CS_ATTRS for the root directory's own attributes. */
	CS_COLLECT_UPPER,
	/* All that is in a directory; every directory is opaque. */
	CS_COLLECT_ALL,
};

/* Writes the whole stream of what is beneath `dirfd` to `out`. What vanishes while being read is
 * left out; what cannot be read ends the stream with an END record that tells, and is the error. */
int cs_collect(int dirfd, enum cs_collect_kind kind, int out, struct cs_counts *n,
	       struct error *err);

/* CS_COLLECT_UPPER of `upper`, with the overlay's directory work/index (-1: it has none): what it
 * kept of hard-linked lower files that have no name in the upper layer any more is sent as
 * CS_NAMELESS. */
int cs_collect_upper(int upper, int index, int out, struct cs_counts *n, struct error *err);

/* The same for chosen members of `dirfd`: paths relative to it, sorted, none beneath another one. A
 * path that is not there (or whose parent is not) is a WHITEOUT. Directories are sent with all
 * that is in them, not opaque; what leads to a path is a DIR without CS_ATTRS. */
int cs_collect_paths(int dirfd, char *const *paths, size_t n_paths, int out, struct cs_counts *n,
		     struct error *err);

/* Several roots in one stream: member i is named names[i], and is what fds[i] (O_PATH or open) is:
 * a directory with all that is in it (CS_OPAQUE), or a file. */
int cs_collect_members(char *const *names, const int *fds, size_t n_members, int out,
		       struct cs_counts *n, struct error *err);

#endif
