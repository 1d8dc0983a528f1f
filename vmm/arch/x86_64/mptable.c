/*
 * The MP table (MultiProcessor Specification 1.4, chapter 4): processors, the I/O APIC, and which
 * of its pins each interrupt has. There is no ACPI in this machine.
 *
 * There is one bus, ISA, whose interrupts all go to the pins of their own numbers, edge-triggered.
 * Linux then uses number and pin alike, also above 15.
 *
 * QEMU's microvm has two I/O APICs, and its devices are at the second one. Linux without ACPI sets
 * up the pins of the first I/O APIC of the table alone: so that is the only one in it. The pins of
 * the other one, where a serial port and a clock are, go nowhere.
 */
#include <string.h>

#include "vmm/arch/x86_64/machine.h"

#define SPEC_14 4
#define LAPIC_VERSION 0x14
#define IOAPIC_VERSION 0x11
#define CPU_ENABLED 1
#define CPU_BOOT 2

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_INTERRUPT, ENTRY_LOCAL };
enum { INT_VECTORED, INT_NMI, INT_SMI, INT_EXTERNAL };

struct mp_pointer {
	char signature[4];
	uint32_t table;
	uint8_t paragraphs, version, checksum, feature[5];
};

struct mp_header {
	char signature[4];
	uint16_t length;
	uint8_t version, checksum;
	char oem[8], product[12];
	uint32_t oem_table;
	uint16_t oem_bytes, entries;
	uint32_t lapic;
	uint16_t extended_bytes;
	uint8_t extended_checksum, reserved;
};

struct mp_cpu {
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, reserved[2];
};

struct mp_bus {
	uint8_t type, id;
	char name[6];
};

struct mp_ioapic {
	uint8_t type, id, version, flags;
	uint32_t address;
};

struct mp_interrupt {
	uint8_t type, kind;
	uint16_t flags;
	uint8_t bus, irq, apic, pin;
};

_Static_assert(sizeof(struct mp_pointer) == 16 && sizeof(struct mp_header) == 44 &&
		       sizeof(struct mp_cpu) == 20 && sizeof(struct mp_bus) == 8 &&
		       sizeof(struct mp_ioapic) == 8 && sizeof(struct mp_interrupt) == 8,
	       "sizes of the specification");

struct writer {
	uint8_t *at;
	unsigned entries;
};

static void put(struct writer *w, const void *entry, size_t bytes)
{
	memcpy(w->at, entry, bytes);
	w->at += bytes;
	w->entries++;
}

static uint8_t checksum(const void *p, size_t bytes)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + ((const uint8_t *)p)[i]);
	return (uint8_t)-sum;
}

uint64_t mptable_bytes(unsigned vcpus)
{
	return sizeof(struct mp_header) + vcpus * sizeof(struct mp_cpu) + sizeof(struct mp_bus) +
	       sizeof(struct mp_ioapic) + (IOAPIC_PINS + 2) * sizeof(struct mp_interrupt);
}

static void put_interrupts(struct writer *w, uint8_t ioapic)
{
	for (uint8_t i = 0; i < IOAPIC_PINS; i++)
		put(w,
		    &(struct mp_interrupt){
			    .type = ENTRY_INTERRUPT, .irq = i, .apic = ioapic, .pin = i},
		    sizeof(struct mp_interrupt));
	/* The local APICs' own: the 8259s at LINT0 of the first, NMI at LINT1 of all. */
	put(w, &(struct mp_interrupt){.type = ENTRY_LOCAL, .kind = INT_EXTERNAL},
	    sizeof(struct mp_interrupt));
	put(w, &(struct mp_interrupt){.type = ENTRY_LOCAL, .kind = INT_NMI, .apic = 0xff, .pin = 1},
	    sizeof(struct mp_interrupt));
}

void mptable_write(void *pointer, void *table, unsigned vcpus, uint32_t ioapic_address)
{
	struct mp_pointer p = {.signature = {'_', 'M', 'P', '_'},
			       .table = GPA_MP_TABLE,
			       .paragraphs = 1,
			       .version = SPEC_14};
	struct mp_header h = {.signature = {'P', 'C', 'M', 'P'},
			      .length = (uint16_t)mptable_bytes(vcpus),
			      .version = SPEC_14,
			      .oem = {'H', 'U', 'S', 'K', ' ', ' ', ' ', ' '},
			      .product = {'m', 'i', 'c', 'r', 'o', 'V', 'M', ' ', ' ', ' ', ' ',
					  ' '},
			      .lapic = GPA_LAPIC};
	struct writer w = {.at = (uint8_t *)table + sizeof(h)};
	uint8_t ioapic = (uint8_t)vcpus; /* ids below are the processors' */

	for (unsigned i = 0; i < vcpus; i++)
		put(&w,
		    &(struct mp_cpu){.type = ENTRY_CPU,
				     .apic_id = (uint8_t)i,
				     .apic_version = LAPIC_VERSION,
				     .flags = i ? CPU_ENABLED : CPU_ENABLED | CPU_BOOT,
				     .signature = 0x600,
				     .features = 0x201 /* FPU, APIC */},
		    sizeof(struct mp_cpu));
	put(&w, &(struct mp_bus){.type = ENTRY_BUS, .name = {'I', 'S', 'A', ' ', ' ', ' '}},
	    sizeof(struct mp_bus));
	put(&w,
	    &(struct mp_ioapic){.type = ENTRY_IOAPIC,
				.id = ioapic,
				.version = IOAPIC_VERSION,
				.flags = 1,
				.address = ioapic_address},
	    sizeof(struct mp_ioapic));
	put_interrupts(&w, ioapic);
	h.entries = (uint16_t)w.entries;
	memcpy(table, &h, sizeof(h));
	h.checksum = checksum(table, h.length);
	memcpy(table, &h, sizeof(h));
	p.checksum = checksum(&p, sizeof(p));
	memcpy(pointer, &p, sizeof(p));
}
