/*
 * cgroup_systemd.h - a container's cgroup as a transient scope of systemd (--systemd-cgroup).
 */
#ifndef HUSK_SHIM_CGROUP_SYSTEMD_H
#define HUSK_SHIM_CGROUP_SYSTEMD_H

#include "shim/cgroup_host.h"
#include "shim/host_cgroup.h"

/* Has systemd make the scope cg->unit in the wish's slice, with its limits as properties, and fills
 * cg->dirs: where it is in each hierarchy, whether systemd made it there or not. On failure there
 * is no unit any more. */
int cgroup_systemd_start(struct host_cgroup *cg, const struct host_cgroup_wish *w,
			 const struct cgroup_host *host, struct error *err);
/* Tells it of new limits: what it does not know it takes back some day. */
int cgroup_systemd_update(const struct host_cgroup *cg, const struct oci_resources *r,
			  const struct cgroup_host *host, struct error *err);
/* Lets systemd go of it; one that has gone is no error. */
int cgroup_systemd_stop(const char *unit, struct error *err);

#endif
