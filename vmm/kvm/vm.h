/*
 * vm.h - a virtual machine of KVM: its memory and where interrupts and writes enter the kernel.
 *
 * vm_open() makes it, vm_map() gives the guest its memory once that is loaded, vm_close() ends it.
 * All from the loop's thread, and but for vm_irq(), vm_io() and vm_coalesce() before there is
 * another one: KVM waits for every processor when a machine's memory changes, unless the process
 * has one thread.
 */
#ifndef HUSK_VMM_KVM_VM_H
#define HUSK_VMM_KVM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/mem.h"

struct vm {
	int kvm, vm; /* /dev/kvm, the machine */
	int mem_fd;  /* the file that is all of the guest's RAM */
	struct guest_mem mem;
	uint8_t *pages; /* registers of the slots, MMIO_SLOT_BYTES each */
	unsigned nslots;
	size_t run_bytes;   /* of a vCPU's mapping */
	unsigned ring_page; /* where in it the ring of coalesced writes is; 0: there is none */
	uint64_t lazy;	    /* slots that have coalesced ranges; a bit each */
	unsigned vcpus_max; /* that this host gives a machine */
};

/* Opens /dev/kvm, makes a machine without vCPUs and maps `bytes` of RAM here. ERR_UNSUPPORTED names
 * what this host's KVM lacks. After a failure there is nothing to close. */
int vm_open(struct vm *m, uint64_t bytes, unsigned nslots, struct error *err);
/* Gives the guest its RAM and, read-only, the register pages. */
int vm_map(struct vm *m, struct error *err);
void vm_close(struct vm *m);

/* struct mmio_kernel's functions; `arg` is the struct vm. */
int vm_irq(void *arg, unsigned slot, int fd, struct error *err);
int vm_io(void *arg, unsigned slot, uint32_t off, uint32_t value, int fd, struct error *err);
/* A signal of `fd` is interrupt `irq`. */
int vm_irqfd(const struct vm *m, unsigned irq, int fd, struct error *err);
/* Writes to a slot's registers that mean nothing by themselves may collect in the ring. */
int vm_coalesce(struct vm *m, unsigned slot, struct error *err);

#endif
