/*
 * device_plan.h - block devices of linux.devices: each becomes a disk of the guest.
 *
 * The host's device is opened by its number, under whatever name it has here, with the claims and
 * locks of a volume (mount_source.c): one that the host has mounted, or another container writes,
 * is refused. In the container the node has the path, mode and owner that config.json says, and the
 * number of the guest's disk.
 *
 * Engines give a privileged container all nodes of the host. Those are not asked for one by one,
 * and handing the host's disks over would be the end of isolation: none of them is attached, which
 * is said once.
 */
#ifndef HUSK_SHIM_DEVICE_PLAN_H
#define HUSK_SHIM_DEVICE_PLAN_H

#include "shim/mount_plan.h"

/* Adds the disks to the plan, which has room for them. Errors name linux.devices[i]. */
int device_plan_add(const struct oci_spec *spec, struct mount_plan *p, struct error *err);

#endif
