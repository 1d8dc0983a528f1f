/*
 * arch.h - what differs between processor architectures in engine kvm; vmm/arch/<name>/ has it.
 *
 * Nothing here knows of threads, devices or the loop. `kvm`, `vm` and `vcpu` are KVM's descriptors.
 */
#ifndef HUSK_VMM_ARCH_H
#define HUSK_VMM_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/mem.h"

struct kvm_run;

/* ---- the machine's address space */

#define ARCH_RAM_MAX 2 /* ranges of RAM: below and above the hole for devices */

struct arch_range {
	uint64_t gpa, bytes;
};

/* Where `bytes` of RAM (a multiple of 1 MiB) lie; returns the number of ranges. */
unsigned arch_ram(uint64_t bytes, struct arch_range out[ARCH_RAM_MAX]);
/* The register page of virtio-mmio slot 0; slot n's is n * 4096 further. */
uint64_t arch_slots_gpa(void);
/* The interrupt of a slot. Slots may share one. */
unsigned arch_slot_irq(unsigned slot);

/* ---- what runs in it */

struct arch_image {
	int kernel_fd;	     /* ELF (vmlinux) or bzImage */
	int initramfs_fd;    /* -1: none */
	const char *cmdline; /* whole; arch_cmdline() */
	unsigned vcpus;
};

/* Where the first vCPU begins; plain data. */
struct arch_entry {
	uint64_t ip;	/* of its first instruction */
	uint64_t table; /* guest physical: boot_params, or the PVH start info */
	bool pvh;	/* 32-bit entry of PVH; else 64-bit */
};

/* The kernel's parameters of this machine: those that `nslots` slots and the way of booting need,
 * and `extra`. `console`: a serial console for everything; else its last words alone. ERR_INVALID
 * when that is longer than a kernel takes. The caller frees. */
char *arch_cmdline(unsigned nslots, bool console, const char *extra, struct error *err);

/* Writes kernel, initramfs and tables to guest memory. Read-only segments of the kernel whose
 * offset in the file allows it are mapped from the file, privately (MAP_FIXED over `m`'s mapping),
 * not copied: guests share them. The kernel's bytes are not trusted (fuzz_kernel). ERR_INVALID
 * names what is wrong with the kernel. */
int arch_load(const struct guest_mem *m, const struct arch_image *img, struct arch_entry *entry,
	      struct error *err);

/* ---- the virtual machine */

/* Interrupt controllers and timers; before the first vCPU is made. */
int arch_vm_init(int kvm, int vm, struct error *err);
/* CPUID, MSRs and registers of vCPU `index` (also its APIC id) of `vcpus`. Those but the first wait
 * to be started by the guest. */
int arch_vcpu_init(int kvm, int vm, int vcpu, unsigned index, unsigned vcpus,
		   const struct arch_entry *entry, struct error *err);

/* ---- exits */

enum arch_end {
	ARCH_GOES_ON,
	ARCH_RESET, /* the guest reset its machine */
	ARCH_PANIC, /* its kernel said that it panicked (pvpanic) */
};

/* What the machine has behind I/O ports beside KVM's own: a serial port and ways to end. */
struct arch_ports {
	/* A byte that the guest wrote to its serial port; from a vCPU's thread. */
	void (*console)(void *arg, uint8_t byte);
	void *arg;
	uint8_t uart[8]; /* registers of the serial port; the caller zeroes them at first */
};

/* Serves a KVM_EXIT_IO. One call at a time: the caller has a lock. */
enum arch_end arch_io(struct arch_ports *p, struct kvm_run *run);

#endif
