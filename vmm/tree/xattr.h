/*
 * xattr.h - a file's extended attributes, as they stand behind its inode in the image.
 */
#ifndef HUSK_VMM_TREE_XATTR_H
#define HUSK_VMM_TREE_XATTR_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

struct xattrs {
	bool upper;    /* see struct tree_build_options */
	bool warned;   /* about a name that EROFS cannot have */
	uint8_t *body; /* the result */
	uint32_t len;  /* of body: 0, or head and entries */
	char *list;
};

int xattrs_init(struct xattrs *x, struct error *err);
void xattrs_free(struct xattrs *x);

/* Reads those of `name` in the working directory, or of directory `dirfd` if name is NULL: there
 * are no system calls for a name beneath a descriptor before Linux 6.13, and the way over
 * /proc/self/fd takes several times as long. A file that is gone has none. An error does not name
 * the file. */
int xattrs_read(struct xattrs *x, int dirfd, const char *name, struct error *err);

#endif
