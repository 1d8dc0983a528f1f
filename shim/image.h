/*
 * image.h - the disks of a container: its root file system as an EROFS image, and its scratch.
 *
 * Both are files without a name (O_TMPFILE) in the data directory: whatever happens, nothing of
 * them is left behind.
 */
#ifndef HUSK_SHIM_IMAGE_H
#define HUSK_SHIM_IMAGE_H

#include <sys/types.h>

#include "lib/error.h"

struct root_image {
	int fd;	    /* the image; valid after root_image_finish() */
	int log_fd; /* what mkfs.erofs said */
	pid_t mkfs;
};

/* Begins to turn directory `rootfs` into an EROFS image, in a process of its own. */
int root_image_begin(const char *rootfs, const char *data, struct root_image *im,
		     struct error *err);
/* Waits for it. Returns the image's fd, the caller's from now on. */
int root_image_finish(struct root_image *im, const char *rootfs, const char *data, int intr_fd,
		      struct error *err);
void root_image_free(struct root_image *im); /* kills mkfs if it still runs */

/* A fresh scratch disk: sparse ext4, cloned from a template in `data` that is made at first use. */
int scratch_make(const char *data, int intr_fd, struct error *err);

#endif
