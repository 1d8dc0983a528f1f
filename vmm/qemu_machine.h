/*
 * qemu_machine.h - the machine that QEMU is told to make (engine_qemu.c): its memory with all that
 * runs in it, its firmware, and where its devices are.
 */
#ifndef HUSK_VMM_QEMU_MACHINE_H
#define HUSK_VMM_QEMU_MACHINE_H

#include "vmm/engine.h"

#define QEMU_SLOTS 23	  /* for devices */
#define QEMU_SLOT_FIRST 1 /* number of the first one's virtio-mmio bus */

struct qemu_machine {
	int memory, firmware; /* files without a name */
	uint64_t initramfs;   /* where QEMU has to load it; 0: there is none */
};

/* How many slots the devices take: ours, then virtio-fs, then a console. */
unsigned qemu_machine_slots(const struct engine_config *cfg);

/* Makes the files. The memory has in it what the kernel finds at its entry; the kernel itself, at
 * the addresses that it names, and the initramfs are for QEMU to load. `tsc_khz` 0: not known. To
 * be closed whatever this returns. */
int qemu_machine_make(const struct engine_config *cfg, uint64_t tsc_khz, struct qemu_machine *m,
		      struct error *err);
void qemu_machine_close(struct qemu_machine *m);

#endif
