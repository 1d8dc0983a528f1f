/*
 * xattrs.h - extended attributes of a changeset's entries, ACLs and capabilities among them.
 *
 * Not carried in either direction: what belongs to the host's security modules (security.* other
 * than security.capability) and what is no attribute but the file system's own state (system.*
 * other than the POSIX ACLs).
 */
#ifndef HUSK_LIB_CHANGESET_XATTRS_H
#define HUSK_LIB_CHANGESET_XATTRS_H

#include "lib/changeset/changeset.h"
#include "lib/error.h"

/* A file by its descriptor, or by directory and name (which is not followed). */
struct xattr_at {
	int fd; /* -1: dirfd and name */
	int dirfd;
	const char *name; /* also with fd: for messages */
};

/* Of one file; memory is kept for the next one. */
struct xattr_list {
	struct cs_xattr v[CS_XATTRS_MAX];
	size_t n;
	char *names, *values;
	size_t names_room, values_room;
};

bool xattr_is_carried(const char *name);
/* trusted.overlay.*: what an overlay says to itself. A receiver neither sets nor removes it: a
 * layer with a sender's redirect or metacopy would show files that are not the sender's to show. */
bool xattr_is_overlays(const char *name);

/* All that are carried. Longer lists than a changeset takes are an error. A file system without
 * attributes has none. */
int cs_xattrs_read(const struct xattr_at *at, struct xattr_list *l, struct error *err);
void cs_xattrs_free(struct xattr_list *l);

/* What a receiver may set: the same names with the same values, in any order. */
bool xattrs_equal(const struct cs_xattr *a, size_t n_a, const struct cs_xattr *b, size_t n_b);

/* Makes what is there (`there`) into `want`. Attributes that the file system does not take are
 * counted in *refused (with a warning by the caller) and are no error. */
int xattrs_set(const struct xattr_at *at, const struct xattr_list *there,
	       const struct cs_xattr *want, size_t n_want, uint64_t *refused, struct error *err);

#endif
