/*
 * arch.h - what differs between processor architectures in engine kvm; vmm/arch/<name>/ has it.
 *
 * Nothing here knows of threads, devices or the loop. `kvm`, `vm` and `vcpu` are KVM's descriptors.
 */
#ifndef HUSK_VMM_ARCH_H
#define HUSK_VMM_ARCH_H

#include <stdbool.h>
#include <stddef.h>
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

enum arch_machine {
	ARCH_OWN,     /* the one that this header describes */
	ARCH_MICROVM, /* QEMU's microvm with a second I/O APIC and arch_firmware() */
};

struct arch_image {
	int kernel_fd;	     /* ELF (vmlinux) or bzImage */
	int initramfs_fd;    /* -1: none */
	const char *cmdline; /* whole; arch_cmdline() */
	unsigned vcpus;
	enum arch_machine machine;
};

/* Where the first vCPU begins; plain data. */
struct arch_entry {
	uint64_t ip;	    /* of its first instruction */
	uint64_t table;	    /* guest physical: what the kernel is handed (x86: boot_params) */
	uint64_t initramfs; /* guest physical: where it is, or has to be; 0: none */
};

/* The kernel's parameters of this machine: those that `nslots` slots and the way of booting need,
 * and `extra`. `console`: a serial console for everything; else its last words alone. ERR_INVALID
 * when that is longer than a kernel takes. The caller frees. */
char *arch_cmdline(unsigned nslots, bool console, const char *extra, struct error *err);

/* Writes kernel, initramfs and tables to guest memory, which must be fresh (zeros). What is only
 * read of the kernel is mapped from the file, privately (MAP_FIXED over `m`'s mapping), not copied,
 * where its offset in the file allows that: guests share it. No page of it is ever used for
 * anything else by Linux, so that no device is asked to put something there: the memory's own file
 * (struct mem_region) has zeros in its place. The kernel's bytes are not trusted (fuzz_kernel).
 * ERR_INVALID names what is wrong with the kernel. For ARCH_MICROVM
 * it writes the tables alone: the kernel, an ELF, and the initramfs are for others to load, before
 * the machine runs. */
int arch_load(const struct guest_mem *m, const struct arch_image *img, struct arch_entry *entry,
	      struct error *err);

/* A firmware image (a memfd) that takes ARCH_MICROVM's first processor from its reset to what was
 * loaded. */
int arch_firmware(struct error *err);

/* ---- the virtual machine */

struct arch_vm;

/* Interrupt controllers and timers, and what all `vcpus` have in common. Before the first vCPU is
 * made. */
struct arch_vm *arch_vm_new(int kvm, int vm, unsigned vcpus, struct error *err);
void arch_vm_free(struct arch_vm *v);
/* CPUID, MSRs and registers of vCPU `index`, which is also its APIC id. Those but the first wait to
 * be started by the guest, and need no `entry`. */
int arch_vcpu_init(const struct arch_vm *v, int vcpu, unsigned index,
		   const struct arch_entry *entry, struct error *err);

/* Where a vCPU stands, in words for a log. */
void arch_describe(int vcpu, char *buf, size_t size);

/* ---- exits */

enum arch_end {
	ARCH_GOES_ON,
	ARCH_RESET, /* the guest reset its machine */
	ARCH_PANIC, /* its kernel said that it panicked (pvpanic) */
};

/* The serial port's interrupt. */
unsigned arch_console_irq(void);

/* What the machine has behind I/O ports beside KVM's own: a serial port and ways to end. */
struct arch_ports {
	/* A byte that the guest wrote to its serial port; from a vCPU's thread. */
	void (*console)(void *arg, uint8_t byte);
	void *arg;
	int irq_fd;	 /* eventfd that raises arch_console_irq(); -1: none, without a console */
	uint8_t uart[8]; /* registers of the serial port; the caller zeroes them at first */
};

/* Serves a KVM_EXIT_IO. One call at a time: the caller has a lock. */
enum arch_end arch_io(struct arch_ports *p, struct kvm_run *run);

#endif
