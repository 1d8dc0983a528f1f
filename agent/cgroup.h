/*
 * cgroup.h - the container's cgroup in the guest (cgroup v2) and linux.resources in it.
 */
#ifndef HUSK_AGENT_CGROUP_H
#define HUSK_AGENT_CGROUP_H

#include "agent/container.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* ---- pure: what to write where */

struct cgroup_setting {
	char file[64]; /* of the cgroup's directory */
	char *value;
	char *field;   /* of config.json, for errors */
	bool optional; /* a kernel without that file is no error: nothing is lost */
};

struct cgroup_plan {
	struct cgroup_setting *v;
	size_t n;
};

/* The settings that stand for linux.resources, in the order in which they are to be written. Errors
 * (ERR_INVALID) name the field. Fields that the host honours (blockIO throttling, io.* of unified)
 * or that cgroup v2 does not have (kernel memory, swappiness, real-time) give no setting. */
int cgroup_plan_build(const struct oci_resources *r, struct cgroup_plan *out, struct error *err);
void cgroup_plan_free(struct cgroup_plan *p);
#define cleanup_plan __attribute__((cleanup(cgroup_plan_free)))

/* ---- the cgroup */

/* Its name below CGROUP_ROOT; malloc'ed. */
char *cgroup_name(const char *id);
/* Makes c->cgroup, and c->cgroup_fd, with limits and device filter. */
int cgroup_create(struct container *c, struct error *err);
int cgroup_apply(const struct container *c, const struct oci_resources *r, struct error *err);
/* Remembers in c->undo what the files hold that `r` is about to change, until the next time. */
int cgroup_remember(struct container *c, const struct oci_resources *r, struct error *err);
/* Brings back what was there before the last update; an error when there was none. */
int cgroup_undo(const struct container *c, struct error *err);
void cgroup_forget_update(struct container *c);
/* The device filter for these rules. */
int cgroup_devices(struct container *c, const struct oci_device_rule *rules, size_t n,
		   struct error *err);
/* Kills what is in it, waits (bounded) until nothing is, removes it. */
int cgroup_remove(struct container *c, struct error *err);

#endif
