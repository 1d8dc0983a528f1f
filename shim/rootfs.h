/*
 * rootfs.h - what kind of thing a rootfs directory is, and the disks that it becomes.
 * docs/rootfs.md, "Which rootfs is which".
 */
#ifndef HUSK_SHIM_ROOTFS_H
#define HUSK_SHIM_ROOTFS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"
#include "shim/mountinfo.h"

enum rootfs_kind { ROOTFS_PLAIN, ROOTFS_OVERLAY, ROOTFS_BLOCK };

/* Tells the same directory again later, also after a restart of the host. */
struct rootfs_id {
	char *path;	   /* of the rootfs directory */
	char *upper;	   /* ROOTFS_OVERLAY: the upper directory; otherwise NULL */
	uint64_t dev, ino; /* of `upper`, or of the directory. `dev` is not compared: device numbers
			    * of some file systems change with every mount. `ino` 0: means nothing
			    * there */
	uint64_t born;	   /* its birth time in nanoseconds; 0: not known */
	bool mounted;	   /* the directory is a mount point: it may come and go */
};

/* A lower disk of the guest. */
struct rootfs_disk {
	char serial[21];  /* "root", "init", "upper" */
	const char *type; /* "erofs", "ext4", "xfs", "squashfs" */
	int tree, dir;	  /* a tree and its directory, or */
	int device;	  /* a block device or image; -1 */
	bool stable;	  /* what it shows cannot change under us: nothing needs a hold */
};

#define ROOTFS_DISKS_MAX 3

struct rootfs {
	enum rootfs_kind kind;
	struct rootfs_id id;
	int dirfd;	   /* O_PATH of the directory */
	char *mutable_dir; /* where writes of others show: the upper directory, or the directory */
	unsigned n_disks;
	struct rootfs_disk disks[ROOTFS_DISKS_MAX]; /* topmost first; after rootfs_build() */
	bool index;				    /* it has hard links that the guest must keep */
	/* private */
	struct overlay_layers layers;
	unsigned n_init;     /* of the lower layers, those on top that are this container's own */
	bool unstable;	     /* inode numbers mean nothing later */
	bool device_written; /* the device has a file system that the host may have written to */
	int device;
};

/* Looks what `path` is (mountinfo), and how many lower disks it will need; walks nothing yet.
 * `may_change`: hooks will run, so that an upper layer that is empty now may get content. */
int rootfs_open(const char *path, bool may_change, struct rootfs *r, struct error *err);
/* Builds the trees, or takes them from the cache in `data`. */
int rootfs_build(struct rootfs *r, const char *data, struct error *err);
void rootfs_free(struct rootfs *r);
#define cleanup_rootfs __attribute__((cleanup(rootfs_free)))

/* An upper layer that adds nothing: empty, with owner and mode of the layer below. */
bool rootfs_upper_is_bare(const struct rootfs *r);

/* Opens what is at `path` now, if it is the rootfs that `id` was taken of; -1 if not. */
int rootfs_reopen(const struct rootfs_id *id);
bool rootfs_is(const struct rootfs_id *id);
/* False if what it was taken of is gone for good: its directory does not exist any more. */
bool rootfs_may_return(const struct rootfs_id *id);
void rootfs_id_free(struct rootfs_id *id);

#endif
