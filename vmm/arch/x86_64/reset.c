/*
 * How a processor comes from its reset to Linux's 64-bit entry, for a machine whose registers are
 * not ours to set (QEMU's microvm).
 *
 * The reset vector is in a firmware of 64 KiB, all but five bytes of it zeros: a jump to the
 * trampoline, which is in low RAM with the tables that it needs (boot.c). It goes from real mode to
 * long mode in one step: page tables, PAE and LME first, then protection and paging at once. It
 * runs where linear and physical addresses agree, so that nothing moves under it. Only the first
 * processor comes here: the others wait for the guest to start them.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/arch/x86_64/machine.h"

#define FIRMWARE_BYTES 0x10000 /* the least that QEMU takes; it ends at 4 GiB */
#define FIRMWARE_RESET 0xfff0

#define STR_(x) #x
#define STR(x) STR_(x)

/* What it needs to know is at its end, filled in by reset_write(). */
/* clang-format off */
__asm__(
	".pushsection .rodata\n"
	"reset_code:\n"
	"	.code16\n" /* cs = GPA_RESET / 16 */
	"	xorw %ax, %ax\n"
	"	movw %ax, %ds\n"
	"	lgdtl (" STR(GPA_RESET) " + reset_gdt - reset_code)\n"
	"	movl $" STR(GPA_PML4) ", %eax\n"
	"	movl %eax, %cr3\n"
	"	movl $0x20, %eax\n" /* PAE */
	"	movl %eax, %cr4\n"
	"	movl $0xc0000080, %ecx\n" /* EFER: LME */
	"	movl $0x100, %eax\n"
	"	xorl %edx, %edx\n"
	"	wrmsr\n"
	"	movl $0x80000011, %eax\n" /* PG, ET, PE */
	"	movl %eax, %cr0\n"
	"	ljmpl $" STR(SEL_CODE) ", $(" STR(GPA_RESET) " + reset_long - reset_code)\n"
	"	.code64\n"
	"reset_long:\n"
	"	movl $" STR(SEL_DATA) ", %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	movl %eax, %ss\n"
	"	movl %eax, %fs\n"
	"	movl %eax, %gs\n"
	"	movl $" STR(GPA_BOOT_PARAMS) ", %esi\n"
	"	jmp *reset_entry(%rip)\n"
	"	.balign 8\n"
	"reset_entry:\n"
	"	.quad 0\n"
	"reset_gdt:\n"
	"	.word 0\n"
	"	.long 0\n"
	"reset_end:\n"
	"	.balign 2\n"
	"reset_where:\n"
	"	.word reset_end - reset_code, reset_entry - reset_code, reset_gdt - reset_code\n"
	"	.popsection\n");
/* clang-format on */

extern const uint8_t reset_code[];
extern const struct {
	uint16_t bytes, entry, gdt; /* offsets in the code */
} reset_where;

int reset_write(const struct guest_mem *m, uint64_t entry, uint16_t gdt_bytes, struct error *err)
{
	uint8_t *to = mem_at(m, GPA_RESET, reset_where.bytes);
	uint16_t limit = (uint16_t)(gdt_bytes - 1);
	uint32_t gdt = GPA_GDT;

	if (!to)
		return error_set(err, "guest memory: nothing at 0x%x", GPA_RESET);
	memcpy(to, reset_code, reset_where.bytes);
	memcpy(to + reset_where.entry, &entry, sizeof(entry));
	memcpy(to + reset_where.gdt, &limit, sizeof(limit));
	memcpy(to + reset_where.gdt + sizeof(limit), &gdt, sizeof(gdt));
	return 0;
}

int arch_firmware(struct error *err)
{
	/* A far jump to segment GPA_RESET / 16, offset 0. */
	static const uint8_t jump[] = {0xea, 0, 0, GPA_RESET >> 4 & 0xff, GPA_RESET >> 12};
	cleanup_close int fd = memfd_create("husk-firmware", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, FIRMWARE_BYTES) < 0 ||
	    pwrite(fd, jump, sizeof(jump), FIRMWARE_RESET) != sizeof(jump))
		return error_errno(err, "firmware");
	return steal_fd(&fd);
}
