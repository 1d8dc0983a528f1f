/*
 * machine.h - the parts of the x86-64 machine, among themselves.
 */
#ifndef HUSK_VMM_ARCH_X86_64_MACHINE_H
#define HUSK_VMM_ARCH_X86_64_MACHINE_H

#include <linux/kvm.h>

#include "vmm/arch/arch.h"

/* ---- the address map (docs/vmm.md). Below 1 MiB: what the kernel finds at its first instruction.
 * The floating pointer is where an MP table is looked for first. */
#define GPA_MP_POINTER 0x0u
#define GPA_GDT 0x1000u
#define GPA_RESET 0x2000 /* where a processor comes from its reset vector (reset.c) */
#define GPA_BOOT_PARAMS 0x7000
#define GPA_SETUP_DATA 0x8000u
#define GPA_PML4 0x9000
#define GPA_PDPT 0xA000u
#define GPA_PD 0xB000u
#define GPA_CMDLINE 0x20000u
#define GPA_MP_TABLE 0x9E000u /* to the end of low RAM: 8 KiB */
#define GPA_LOW_END 0xA0000u
#define GPA_HIGH 0x100000u   /* RAM again */
#define GPA_HOLE 0xC0000000u /* devices, to 4 GiB */
#define GPA_SLOTS 0xD0000000u
#define GPA_IOAPIC 0xFEC00000u
#define GPA_IOAPIC_2 0xFEC10000u /* of QEMU's microvm */
#define GPA_LAPIC 0xFEE00000u
#define GPA_REAL_MODE 0xFFFBC000u /* 16 KiB for KVM (vm.c) */
#define GPA_4G 0x100000000u
#define IDENTITY_BYTES 0x40000000u /* mapped one to one at the entry */

#define SEL_CODE 0x10 /* __BOOT_CS and __BOOT_DS of the boot protocol */
#define SEL_DATA 0x18

#define CMDLINE_MAX 2047 /* COMMAND_LINE_SIZE - 1 of Linux for x86 */
#define VCPUS_MAX 255	 /* 8 bits of APIC id, one of them the I/O APIC's */
#define IOAPIC_PINS 24
#define CONSOLE_IRQ 4

/* ---- mptable.c */

/* Bytes of the table of a machine with `vcpus`. */
uint64_t mptable_bytes(unsigned vcpus);
/* Writes the floating pointer (16 bytes) and the table, as they stand at GPA_MP_POINTER and
 * GPA_MP_TABLE. `ioapic`: address of the I/O APIC that devices interrupt. */
void mptable_write(void *pointer, void *table, unsigned vcpus, uint32_t ioapic);

/* ---- boot.c */

struct boot_image {
	uint64_t entry;	     /* of 64 bits */
	uint64_t kernel_end; /* first byte that the kernel does not need */
	uint64_t initramfs, initramfs_bytes;
	/* bzImage: the file's setup header from offset 0x1f1 on; 0 bytes: none. */
	uint8_t setup[256];
	unsigned setup_bytes;
};

/* Fills the tables below 1 MiB. */
int boot_write(const struct guest_mem *m, const struct boot_image *b, const char *cmdline,
	       unsigned vcpus, enum arch_machine machine, struct error *err);
void boot_sregs(struct kvm_sregs *s);

/* ---- reset.c */

/* The way from the reset vector to `entry`, with the GDT and page tables of boot_write(). */
int reset_write(const struct guest_mem *m, uint64_t entry, uint16_t gdt_bytes, struct error *err);

/* ---- bzimage.c */

struct bzimage_plan {
	uint64_t offset, bytes; /* in the file: what is loaded */
	uint64_t gpa, end;	/* where, and where what it needs ends */
	uint64_t entry;
	uint64_t initramfs_max; /* last address that an initramfs may take */
	uint8_t setup[256];
	unsigned setup_bytes;
	unsigned cmdline_max;
};

/* True if the file begins as a bzImage does. */
bool bzimage_is(int fd);
int bzimage_plan(int fd, uint64_t file_bytes, struct bzimage_plan *plan, struct error *err);

/* ---- cpuid.c */

#define CPUID_MAX 256

struct cpu_model {
	uint32_t n;
	uint32_t tsc_khz; /* 0: not known */
	struct kvm_cpuid_entry2 e[CPUID_MAX];
};

/* What a guest is told of the processors, from what KVM supports, but what each has for itself. */
void cpuid_model(struct cpu_model *m, bool tsc_deadline);
/* The model of vCPU `index` of `vcpus`. */
void cpuid_vcpu(struct cpu_model *m, unsigned index, unsigned vcpus);

#endif
