/*
 * volumes.h - the host's data in the guest, before a container's mounts show it.
 */
#ifndef HUSK_AGENT_VOLUMES_H
#define HUSK_AGENT_VOLUMES_H

#include "agent/container.h"

/* The virtio-fs, mounted when the first container needs it, and kept. */
#define SHARE_DIR "/run/share"
#define SHARE_TAG "husk"
/* One tmpfs for each name that the pod's containers share, kept as long as the guest. */
#define POD_DIR "/run/pod"

/* In the agent: the tmpfs of the pod that the container's mounts name. Whoever names one first
 * says how large it is. Errors name mounts[i]. */
int volumes_of_pod(const struct container *c, struct error *err);

/* In a worker, before the container's init is forked (which sees what was mounted by then): the
 * virtio-fs, and the container's disks below c->dir. Errors name mounts[i]. Does nothing for a
 * container without such mounts. */
int volumes_prepare(const struct container *c, struct error *err);

/* True if volumes_settle() has anything to do. */
bool volumes_have_disk(const struct container *c);
/* In a worker: the container's init has ended: what was written to its disks is on them when this
 * returns. */
void volumes_settle(const struct container *c);

/* Undoes what volumes_prepare() did for this container alone, whatever part of it was done, and
 * waits until its disks are free. Before c->dir is removed. */
int volumes_release(const struct container *c, struct error *err);

/* In a worker: the host has taken the member `name` out of the share. Looks for it until the kernel
 * has noticed, and with that forgotten its files, which virtiofsd keeps open as long. */
void volumes_forget(const char *name);

/* Where the data of mount `m` is: the path of a file or directory in the agent's mount namespace
 * and in copies of it. malloc'ed. */
char *volumes_path(const struct container *c, const struct proto_mount *m);

/* ---- between volumes.c and volume_disks.c */

char *volume_disk_path(const struct container *c, const struct proto_mount *m);
int volume_disk_mount(const struct container *c, const struct proto_mount *m, struct error *err);
int volume_disk_unmount(const struct container *c, const struct proto_mount *m, struct error *err);
/* True if something is mounted at `path`; asks no file system. */
bool volume_is_mounted(const char *path);
/* Unmounts what is mounted at `path`, if it is, and removes the mount point. */
int volume_unmount(const char *path, struct error *err);

#endif
