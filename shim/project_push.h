/*
 * project_push.h - brings small host files into the guest's projects (docs/rootfs.md, "Mounts").
 */
#ifndef HUSK_SHIM_PROJECT_PUSH_H
#define HUSK_SHIM_PROJECT_PUSH_H

#include "shim/agent_client.h"
#include "shim/mount_plan.h"

/* Writes a changeset to `out`. */
typedef int (*push_fn)(void *arg, int out, struct error *err);
/* Sends what `send` writes ("root" or "projects" of the container). Returns when the
 * guest has applied all of it, or says why not. */
int push_changeset(struct vmm_client *vmm, struct agent_client *a, const char *container,
		   const char *what, push_fn send, void *arg, struct error *err);

/* Sends members names[i] with what fds[i] (O_PATH or open) is now: a file, or a directory with all
 * that is in it; whatever else the guest has under that name goes. Returns when the guest has
 * applied all of it, or says why not. */
int projects_push(struct vmm_client *vmm, struct agent_client *a, const char *container,
		  char *const *names, const int *fds, size_t n, struct error *err);
/* All projects of a plan that was made (not loaded): before the create that uses them. */
int mount_plan_push(const struct mount_plan *p, const char *container, struct vmm_client *vmm,
		    struct agent_client *a, struct error *err);

/* What the guest answered to a push: "ok" or the reason, one line. For tests; pure. */
int push_result_parse(const char *text, size_t len, struct error *err);

#endif
