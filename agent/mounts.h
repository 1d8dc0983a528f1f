/*
 * mounts.h - the mounts of config.json, masked and read-only paths, read-only root.
 */
#ifndef HUSK_AGENT_MOUNTS_H
#define HUSK_AGENT_MOUNTS_H

#include "agent/container.h"

/* What has to become read-only once the container's files are all in place. */
struct late_ro {
	int *fds;
	size_t n;
};

/* Mounts everything in spec->mounts beneath root_fd, in order (child, before root_enter()). */
int mounts_apply(const struct container *c, int root_fd, struct late_ro *late, struct error *err);
/* Makes the mounts of *late and, if asked for, the root read-only (after root_enter()). */
int mounts_finish(const struct container *c, struct late_ro *late, struct error *err);
/* linux.readonlyPaths and linux.maskedPaths (after root_enter()). Paths that do not exist are
 * passed over. */
int mounts_restrict(const struct oci_linux *l, struct error *err);

/* True if /dev is the container's own and not a bind mount of somebody else's. */
bool mounts_own_dev(const struct oci_spec *spec);

/* Mounts a copy of what `src_fd` is at `dst_fd` (both may be O_PATH). */
int mounts_bind_fd(int src_fd, int dst_fd, const char *what, struct error *err);

/* In the agent, once, before the init is forked: volumes.h, and what a container in a user
 * namespace may not mount by itself. volumes_release() undoes the former. */
int mounts_prepare(const struct container *c, struct error *err);

/* Flags of mount(2) as attributes of mount_setattr(2); pure. */
void mounts_attributes(unsigned long flags, unsigned long clear_flags, uint64_t *set,
		       uint64_t *clear);

#endif
