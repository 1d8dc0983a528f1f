/*
 * share.h - virtiofsd for the mounts that are shared with the host.
 */
#ifndef HUSK_SHIM_SHARE_H
#define HUSK_SHIM_SHARE_H

#include <sys/types.h>

#include "shim/mount_plan.h"

struct share {
	int sock;  /* connected vhost-user socket, for husk-vmm */
	pid_t pid; /* what minds virtiofsd */
};

/* Starts virtiofsd on a directory that holds the plan's shares and nothing else, in namespaces of
 * its own. It ends when the sandbox's lifeline ends (`lifeline`: read end) or its socket closes. */
int share_start(const struct mount_plan *p, int lifeline, int log_fd, struct share *s,
		struct error *err);

#endif
