/*
 * What Linux finds at its 64-bit entry (Documentation/arch/x86/boot.rst): boot_params with the
 * memory map, the command line, page tables that map the first GiB onto itself, a GDT, the MP
 * table, and random numbers, so that the guest's own are good from the first one on.
 *
 * Not PVH's entry, which has less to set up: there Linux asks for Xen at 256 places of CPUID before
 * anything else, and each is an exit.
 */
#include <asm/bootparam.h>
#include <asm/e820.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/arch/x86_64/machine.h"

#define LOADER_UNNAMED 0xff
#define BOOT_FLAG 0xaa55
#define MAGIC 0x53726448u
#define KERNEL_ALIGN 0x1000000u
#define SEED_BYTES 32u /* which Linux takes for enough */

#define PTE_PRESENT 1u
#define PTE_WRITABLE 2u
#define PTE_LARGE 0x80u
#define LARGE_PAGE 0x200000u
#define PTES 512u

#define GDT_CODE UINT64_C(0x00af9b000000ffff) /* 64-bit code, all of memory */
#define GDT_DATA UINT64_C(0x00cf93000000ffff)
#define GDT_TSS UINT64_C(0x00008b0000000067)
#define SEL_TSS 0x20

#define CR0_PE 1u
#define CR0_ET 0x10u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

/* Guest memory below 1 MiB, which is in the first region by construction. */
static void *low(const struct guest_mem *m, uint64_t gpa, uint64_t bytes, struct error *err)
{
	void *p = mem_at(m, gpa, bytes);

	if (!p)
		error_set(err, "guest memory: nothing at 0x%llx", (unsigned long long)gpa);
	return p;
}

static void e820(struct boot_params *bp, uint64_t addr, uint64_t end, uint32_t type)
{
	if (end > addr)
		bp->e820_table[bp->e820_entries++] =
			(struct boot_e820_entry){.addr = addr, .size = end - addr, .type = type};
}

static void memory_map(struct boot_params *bp, const struct guest_mem *m)
{
	e820(bp, 0, GPA_MP_TABLE, E820_RAM);
	e820(bp, GPA_MP_TABLE, GPA_LOW_END, E820_RESERVED);
	for (unsigned i = 0; i < m->n; i++) {
		uint64_t begin = m->r[i].gpa, end = begin + m->r[i].size;

		e820(bp, begin < GPA_HIGH ? GPA_HIGH : begin, end, E820_RAM);
	}
}

/* Linux clears the seed when it has read it. */
static int write_seed(const struct guest_mem *m, struct boot_params *bp, struct error *err)
{
	struct setup_data *d = low(m, GPA_SETUP_DATA, sizeof(*d) + SEED_BYTES, err);
	ssize_t n;

	if (!d)
		return -1;
	*d = (struct setup_data){.type = SETUP_RNG_SEED, .len = SEED_BYTES};
	do
		n = getrandom(d->data, SEED_BYTES, 0);
	while (n < 0 && errno == EINTR);
	if (n != SEED_BYTES)
		return error_errno(err, "getrandom");
	bp->hdr.setup_data = GPA_SETUP_DATA;
	return 0;
}

static int write_params(const struct guest_mem *m, const struct boot_image *b, struct error *err)
{
	struct boot_params *bp = low(m, GPA_BOOT_PARAMS, sizeof(*bp), err);

	if (!bp)
		return -1;
	memset(bp, 0, sizeof(*bp));
	if (b->setup_bytes) {
		memcpy(&bp->hdr, b->setup, b->setup_bytes);
	} else {
		bp->hdr.boot_flag = BOOT_FLAG;
		bp->hdr.header = MAGIC;
		bp->hdr.kernel_alignment = KERNEL_ALIGN;
	}
	bp->hdr.type_of_loader = LOADER_UNNAMED;
	bp->hdr.loadflags |= LOADED_HIGH;
	bp->hdr.cmd_line_ptr = GPA_CMDLINE;
	bp->hdr.ramdisk_image = (uint32_t)b->initramfs;
	bp->hdr.ramdisk_size = (uint32_t)b->initramfs_bytes;
	memory_map(bp, m);
	return write_seed(m, bp, err);
}

static int write_page_tables(const struct guest_mem *m, struct error *err)
{
	uint64_t *t = low(m, GPA_PML4, 3 * 4096, err);

	_Static_assert(GPA_PDPT == GPA_PML4 + 4096 && GPA_PD == GPA_PDPT + 4096 &&
			       PTES * LARGE_PAGE == IDENTITY_BYTES,
		       "three tables, one after the other");
	if (!t)
		return -1;
	t[0] = GPA_PDPT | PTE_PRESENT | PTE_WRITABLE;
	t[PTES] = GPA_PD | PTE_PRESENT | PTE_WRITABLE;
	for (uint64_t i = 0; i < PTES; i++)
		t[2 * PTES + i] = i * LARGE_PAGE | PTE_PRESENT | PTE_WRITABLE | PTE_LARGE;
	return 0;
}

int boot_write(const struct guest_mem *m, const struct boot_image *b, const char *cmdline,
	       unsigned vcpus, enum arch_machine machine, struct error *err)
{
	static const uint64_t gdt[] = {0, 0, GDT_CODE, GDT_DATA, GDT_TSS, 0};
	size_t len = strlen(cmdline) + 1;
	void *g = low(m, GPA_GDT, sizeof(gdt), err), *c = low(m, GPA_CMDLINE, len, err);
	void *mpp = low(m, GPA_MP_POINTER, 16, err);
	void *mpt = low(m, GPA_MP_TABLE, mptable_bytes(vcpus), err);

	_Static_assert(GPA_CMDLINE + CMDLINE_MAX < GPA_MP_TABLE, "the command line has room");
	if (!g || !c || !mpp || !mpt)
		return -1;
	if (vcpus == 0 || vcpus > VCPUS_MAX || mptable_bytes(vcpus) > GPA_LOW_END - GPA_MP_TABLE)
		return error_kind(err, ERR_INVALID, "vcpus: 1 to %u, not %u", VCPUS_MAX, vcpus);
	memcpy(g, gdt, sizeof(gdt));
	memcpy(c, cmdline, len);
	mptable_write(mpp, mpt, vcpus, machine == ARCH_MICROVM ? GPA_IOAPIC_2 : GPA_IOAPIC);
	if (write_page_tables(m, err) < 0)
		return -1;
	if (machine == ARCH_MICROVM && reset_write(m, b->entry, sizeof(gdt), err) < 0)
		return -1;
	return write_params(m, b, err);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .db = !code,
				    .s = 1,
				    .l = code,
				    .g = 1};
}

void boot_sregs(struct kvm_sregs *s)
{
	struct kvm_segment data = segment(SEL_DATA, 3, false);

	s->cs = segment(SEL_CODE, 11, true);
	s->ds = s->es = s->ss = s->fs = s->gs = data;
	s->tr = (struct kvm_segment){.limit = 0x67, .selector = SEL_TSS, .type = 11, .present = 1};
	s->ldt = (struct kvm_segment){.unusable = 1};
	s->gdt.base = GPA_GDT;
	s->gdt.limit = 6 * 8 - 1;
	s->idt.base = 0;
	s->idt.limit = 0;
	s->cr0 = CR0_PE | CR0_ET | CR0_PG;
	s->cr3 = GPA_PML4;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
}
