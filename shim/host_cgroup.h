/*
 * host_cgroup.h - the container's cgroup on the host (docs/cgroups.md): where the proxy, husk-vmm
 * and its helpers are, what bounds the machine as a whole, and what engines read.
 */
#ifndef HUSK_SHIM_HOST_CGROUP_H
#define HUSK_SHIM_HOST_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/json.h"
#include "oci/spec.h"

/* One container's, as state.json keeps it. Without `dirs` and `unit` it has none. */
struct host_cgroup {
	char **dirs; /* absolute, one a hierarchy, NULL behind the last; NULL: not known (yet) */
	char *unit;  /* systemd's scope; NULL: the directories are ours to make and to remove */
	bool made;   /* nobody else was in it: what is in it now is the container's */
	/* What the machine itself may use: the limits of linux.resources get it on top. */
	uint64_t machine_bytes; /* memory of the guest; 0: no machine in it, a proxy alone */
	uint64_t overhead_bytes;
	struct oci_opt_int oom_score_adj; /* process.oomScoreAdj: see oom.h */
	pid_t holder; /* not in state.json: a child that keeps systemd's scope until we are in it */
};

/* What a container asks for. */
struct host_cgroup_wish {
	const char *id;
	const char *path; /* linux.cgroupsPath; NULL: absent */
	bool systemd;	  /* --systemd-cgroup */
	const struct oci_resources *resources;
	const struct oci_kv *annotations; /* org.systemd.property.* */
	size_t n_annotations;
	uint64_t machine_bytes; /* memory of the guest; 0: the container joins another's machine */
	bool kvm;
	struct oci_opt_int oom_score_adj; /* process.oomScoreAdj */
};

/* Says where the container's cgroup will be; makes nothing. To be in state.json before
 * host_cgroup_make(), so that `delete` finds whatever was made. None when nothing was asked for.
 * Errors: a host without cgroups (or read-only ones) when something was asked for, a cgroupsPath
 * that is none. */
int host_cgroup_plan(const struct host_cgroup_wish *w, struct host_cgroup *cg, struct error *err);

/* Makes it and applies the limits. On failure nothing is left but what host_cgroup_remove() takes
 * away. With systemd `dirs` are known after this: the state is to be saved again. */
int host_cgroup_make(struct host_cgroup *cg, const struct host_cgroup_wish *w, struct error *err);

/* The calling process enters it; what it starts is in it, too. */
int host_cgroup_enter(const struct host_cgroup *cg, struct error *err);
/* For clone3(2), CLONE_INTO_CGROUP: its directory in the v2 hierarchy where that is all there is;
 * -1: host_cgroup_enter() it is. */
int host_cgroup_clone_fd(const struct host_cgroup *cg);

/* Everybody is in it who is to keep it. */
void host_cgroup_let_go(struct host_cgroup *cg);

/* `update`: the limits that are given are applied, in an order that the kernel takes; what it
 * refuses is the error. Refused by name when the container has no cgroup on the host and the limit
 * is the host's alone. */
int host_cgroup_update(const struct host_cgroup *cg, const struct oci_resources *r,
		       struct error *err);

/* After everything in it has gone: waits (bounded) for what is just ending, and ends what does not,
 * unless it may be somebody else's. One that the engine has removed is no error. */
int host_cgroup_remove(const struct host_cgroup *cg, struct error *err);

/* As a value of state.json, and back; `v` NULL or of another type: none. */
void host_cgroup_write(struct jsonw *w, const struct host_cgroup *cg);
void host_cgroup_read(yajl_val v, struct host_cgroup *cg);
void host_cgroup_free(struct host_cgroup *cg);

#endif
