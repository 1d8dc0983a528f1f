/*
 * disk.h - the guest's block devices, found by their virtio-blk serial (virtio 1.2 §5.2.6).
 */
#ifndef HUSK_AGENT_DISK_H
#define HUSK_AGENT_DISK_H

#include <stdbool.h>

#include "lib/error.h"

#define DISK_WAIT_US 5000000 /* how long a disk may take to appear */

struct disk {
	char node[64]; /* "/dev/vda" */
	unsigned major, minor;
};

/* In a worker: finds the disk with that serial and a capacity other than 0. Disks come by
 * hot-attach: looks again, asking empty virtio-mmio slots for a device each time, for at most
 * DISK_WAIT_US (ERR_TIMEOUT). */
int disk_find(const char *serial, struct disk *out, struct error *err);

/* The same without waiting or probing: false if there is none. */
bool disk_lookup(const char *serial, struct disk *out);

/* True if the agent itself has the disk mounted (for another container that shares it). */
bool disk_is_mounted(const struct disk *d);

/* Waits at most `wait_us` until nothing has the disk mounted. */
int disk_wait_unused(const struct disk *d, unsigned long wait_us, struct error *err);

/* In a worker: gives a disk that nothing uses back: its device has no driver any more when this
 * returns, so that the host may detach it. ERR_NOT_FOUND: no such disk. */
int disk_release(const char *serial, struct error *err);

#endif
