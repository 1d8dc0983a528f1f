/*
 * mount_source.h - looks at what the source of a mount is, and takes hold of it.
 */
#ifndef HUSK_SHIM_MOUNT_SOURCE_H
#define HUSK_SHIM_MOUNT_SOURCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lib/error.h"

struct mount_source {
	char *path; /* absolute, links resolved */
	int fd;	    /* O_PATH */
	struct stat st;
};

/* `source` is relative to `bundle` unless absolute. Sources that only the host's kernel can give
 * (proc, sysfs, cgroups, sockets, devices the guest does not have) are refused by name. */
int mount_source_open(const char *source, const char *bundle, struct mount_source *s,
		      struct error *err);
void mount_source_free(struct mount_source *s);
#define cleanup_mount_source __attribute__((cleanup(mount_source_free)))

/* A directory that may be projected: see docs/rootfs.md, "Mounts". */
bool mount_source_is_small_tree(const struct mount_source *s);
/* The guest's own device in place of this character device ("null"), or NULL. */
const char *mount_source_device(const struct mount_source *s);

/* A tmpfs that an engine made for /dev/shm, which nothing on the host looks at; `bytes`: its size.
 * Not the host's own. */
bool mount_source_is_shm(const struct mount_source *s, uint64_t *bytes);

/* Opens a block device or image file for a VM, and sees to it that nobody else changes it, or sees
 * it change, while the descriptor is open. */
int mount_source_open_disk(const struct mount_source *s, bool writable, struct error *err);

#endif
