/*
 * slots.h - the machine's virtio-mmio slots, which hold a device or none (disk.c, network.c).
 */
#ifndef HUSK_AGENT_SLOTS_H
#define HUSK_AGENT_SLOTS_H

#include <stddef.h>

#include "lib/error.h"

#define SLOT_NAME_MAX 31 /* bytes of "virtio-mmio.N" */

/* In a worker: asks every slot that has no driver for a device: what the host has attached is there
 * when this returns, with its driver. Slots that were given back are left alone for a while. */
void slots_probe(void);

/* The same for one slot that has a device, and no driver. Errors are for the log alone. */
void slot_bind(const char *slot);

/* The slot that a device is in, from a path of sysfs that leads to it. ERR_UNSUPPORTED: none. */
int slot_of(const char *path, char slot[SLOT_NAME_MAX + 1], struct error *err);

/* Takes the slot's driver away: nothing of the guest uses its device any more when this returns. */
int slot_unbind(const char *slot, struct error *err);

/* In a worker: the same for a disk, which the host detaches next: until slots_detached(), or for a
 * second, nobody asks the slot for it again. */
int slot_give_back(const char *slot, const char *serial, struct error *err);
/* The host has detached the disk: its slot may be asked again. */
void slots_detached(const char *serial);

/* For whoever waits for a device: sleeps, a little longer each time. `*us` begins with 0. */
void slots_pause(unsigned long *us);

#endif
