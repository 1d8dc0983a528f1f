/*
 * share.h - virtiofsd for the mounts that are shared with the host.
 */
#ifndef HUSK_SHIM_SHARE_H
#define HUSK_SHIM_SHARE_H

#include <sys/types.h>

#include "shim/host_cgroup.h"
#include "shim/mount_plan.h"

struct share {
	int sock;  /* connected vhost-user socket, for husk-vmm */
	pid_t pid; /* what minds virtiofsd: a child of the caller */
	int news;  /* what virtiofsd says; see share_blame() */
};

/* Starts virtiofsd on a directory that holds the plan's shares and nothing else, in namespaces of
 * its own; does not wait until it is up. It ends when the sandbox's lifeline ends (`lifeline`: read
 * end) or its socket closes. `log_fd` (-1: none) gets what it has to say. It is in `cgroup`
 * (NULL: ours). */
int share_start(const struct mount_plan *p, const struct host_cgroup *cgroup, int lifeline,
		int log_fd, struct share *s, struct error *err);
/* ---- for those that come later (share_join.h)
 * The name of a share in the directory of shares `fs`, and its source as a mount that is nowhere.
 */
int share_make_member(int fs, const struct planned_mount *m, struct error *err);
int share_clone_source(const struct planned_mount *m, struct error *err);

/* After the machine did not start: if virtiofsd has ended, that is the error. Returns -1. */
int share_blame(struct share *s, struct error *err);
/* Closes the caller's descriptors; what runs goes on. */
void share_free(struct share *s);

#endif
