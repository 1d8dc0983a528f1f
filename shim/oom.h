/*
 * oom.h - the host's OOM killer and a container: whom it shall prefer, and how engines learn of a
 * kill in the guest.
 */
#ifndef HUSK_SHIM_OOM_H
#define HUSK_SHIM_OOM_H

#include "shim/host_cgroup.h"

/* The calling process is, or will be, the machine: it gets process.oomScoreAdj of the container,
 * since the container's memory is its own. Absent: as inherited. A score that this process may not
 * have is told in the log, and the nearest one taken. */
void oom_score_machine(const struct oci_opt_int *adj);
/* A proxy gets less: when the machine dies the proxy can still tell. */
void oom_score_proxy(const struct oci_opt_int *adj);

/* The guest's kernel has killed a process of the container for memory: the host's counts one in the
 * container's cgroup, too, where engines look. For a cgroup whose machine has gone. */
int oom_relay(const struct host_cgroup *cg, struct error *err);

#endif
