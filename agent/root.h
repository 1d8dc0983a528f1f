/*
 * root.h - the container's root: disks, EROFS, scratch, overlay; and PID 1's own root.
 */
#ifndef HUSK_AGENT_ROOT_H
#define HUSK_AGENT_ROOT_H

#include "agent/container.h"

/* Gives PID 1 a tmpfs for a root. Has to be called before anything is mounted; makes the empty
 * directories proc, sys, dev, run and tmp there. See root.c for why. */
int agent_leave_initramfs(struct error *err);

/* Mounts the container's root at <c->dir>/root (agent's mount namespace). */
int root_mount(const struct container *c, struct error *err);
/* What has to be known of a root that was mounted: in *c. */
int root_note(struct container *c, struct error *err);
/* Undoes root_mount(), whatever part of it was done, and waits until the disks are free. */
int root_unmount(const struct container *c, struct error *err);

/* True if a container whose init has been reaped has left nothing in its upper layer, and nobody is
 * there who still could: the host has nothing to fetch. */
bool root_is_clean(const struct container *c);

/* Descriptors of a container's directories: its upper layer, its merged root, and the directory
 * that holds the mount points, which no container can reach. */
int root_open_upper(const struct container *c, struct error *err);
int root_open_merged(const struct container *c, struct error *err);
int root_open_dir(const struct container *c, struct error *err);
/* The upper layer on a scratch disk that nothing has mounted. What a crash has left in its journal
 * is brought in place; nothing else is written. Unmounted when the descriptor is closed. */
int root_open_scratch(const char *serial, struct error *err);

/* In the child, in its new mount namespace: makes root_fd's mount the root and removes the old one.
 */
int root_enter(int root_fd, struct error *err);

#endif
