/* Where things lie in the machine's address space, and what the kernel is told of it in words. */
#include <cpuid.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/arch/x86_64/machine.h"
#include "vmm/mmio.h"

/* The machine's part of the kernel's parameters.
 *   panic=-1 reboot=k: a guest that panics resets at once; a triple fault is then never meant.
 *   noreplace-smp: leaves kernel text as it is, so that more of it stays shared between guests.
 *   dummy.numdummies=0: no network interface but those that the container is given.
 * There is no serial port to look for without a console. Last words cost little even so: an early
 * console, which is never given up, writes to the port what is as urgent as a panic; nine exits
 * set it up. */
#define ALWAYS "panic=-1 reboot=k noreplace-smp rcupdate.rcu_expedited=1 dummy.numdummies=0"
#define LAST_WORDS " quiet loglevel=1 8250.nr_uarts=0 earlyprintk=ttyS0,115200,keep"
#define CONSOLE " console=ttyS0 earlyprintk=ttyS0,115200"
/* No watchdog over a counter that the processor itself calls invariant, and no test whether those
 * of several processors agree. */
#define TSC " tsc=reliable"

#define INVARIANT_TSC (1u << 8) /* CPUID 0x80000007, EDX */

unsigned arch_ram(uint64_t bytes, struct arch_range out[ARCH_RAM_MAX])
{
	out[0] = (struct arch_range){0, bytes < GPA_HOLE ? bytes : GPA_HOLE};
	if (bytes <= GPA_HOLE)
		return 1;
	out[1] = (struct arch_range){GPA_4G, bytes - GPA_HOLE};
	return 2;
}

uint64_t arch_slots_gpa(void)
{
	return GPA_SLOTS;
}

/* Pins of the I/O APIC that no part of a PC has a claim on in this machine. */
unsigned arch_slot_irq(unsigned slot)
{
	static const uint8_t pins[] = {5,  6,  7,  9,  10, 11, 12, 13, 14,
				       15, 16, 17, 18, 19, 20, 21, 22, 23};

	return pins[slot % ARRAY_LEN(pins)];
}

unsigned arch_console_irq(void)
{
	return CONSOLE_IRQ;
}

static bool tsc_is_invariant(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & INVARIANT_TSC);
}

char *arch_cmdline(unsigned nslots, bool console, const char *extra, struct error *err)
{
	cleanup_free char *line = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&line, &len);

	if (!f)
		return error_errno(err, "kernel parameters"), NULL;
	fprintf(f, "%s%s%s", ALWAYS, console ? CONSOLE : LAST_WORDS, tsc_is_invariant() ? TSC : "");
	for (unsigned i = 0; i < nslots; i++)
		fprintf(f, " virtio_mmio.device=%u@0x%llx:%u", MMIO_SLOT_BYTES,
			(unsigned long long)arch_slots_gpa() + i * MMIO_SLOT_BYTES,
			arch_slot_irq(i));
	if (extra && *extra)
		fprintf(f, " %s", extra);
	if (fclose(f) != 0)
		return error_errno(err, "kernel parameters"), NULL;
	if (len > CMDLINE_MAX) {
		error_kind(err, ERR_INVALID,
			   "cmdline: the kernel's parameters have %zu bytes, %zu of them the "
			   "machine's own; Linux takes %u",
			   len, len - strlen(extra ? extra : ""), CMDLINE_MAX);
		return NULL;
	}
	return steal_ptr(&line);
}
