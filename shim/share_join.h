/*
 * share_join.h - mounts that come to a virtiofsd that runs, and go again: those of containers that
 * join a pod (docs/pods.md, "Shares").
 */
#ifndef HUSK_SHIM_SHARE_JOIN_H
#define HUSK_SHIM_SHARE_JOIN_H

#include <sys/types.h>

#include "shim/mount_plan.h"

/* Adds the plan's shares to what the virtiofsd of this minder (share.h) shows. When something fails
 * none of them stays. */
int share_join(pid_t minder, const struct mount_plan *p, struct error *err);
/* Takes away those whose names end with `.tag`. *names: what they are called (strv_free()); NULL
 * when there are none. */
int share_leave(pid_t minder, const char *tag, char ***names, struct error *err);

#endif
