/*
 * devices.h - what is in a container's /dev (config-linux.md, "Devices", "Default Devices").
 */
#ifndef HUSK_AGENT_DEVICES_H
#define HUSK_AGENT_DEVICES_H

#include "agent/container.h"

/* The guest's disk behind each block device of linux.devices. */
struct disk_number {
	unsigned major, minor;
};

/* In the agent, once: finds them (bounded wait), and checks that the guest has the character
 * devices. A privileged container, for which engines list all devices of the host, gets those that
 * the guest has. */
int devices_find(struct container *c, struct error *err);
/* Waits (bounded) until nothing uses these disks any more. */
int devices_release(const struct container *c, struct error *err);

/* In the agent, once, for a container in a user namespace, where mknod is refused: makes the nodes
 * in <c->dir>/dev, for the container to bind. */
int devices_prepare(const struct container *c, struct error *err);

/* Default devices, linux.devices, /dev/ptmx and the links to /proc, beneath root_fd (child, before
 * root_enter()). */
int devices_make(const struct container *c, int root_fd, struct error *err);

#endif
