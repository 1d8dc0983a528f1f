/* The x86-64 machine: where things lie, what a guest finds in memory and CPUID, its ports. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <asm/bootparam.h>
#include <asm/e820.h>
#include <elf.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/arch/x86_64/machine.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define KERNEL_GPA 0x1000000u

/* ---- layout */

static void ram_lies_below_and_above_the_hole(void **state)
{
	struct arch_range r[ARCH_RAM_MAX];

	(void)state;
	assert_int_equal(arch_ram(64 * MIB, r), 1);
	assert_int_equal(r[0].gpa, 0);
	assert_int_equal(r[0].bytes, 64 * MIB);
	assert_int_equal(arch_ram(3 * GIB, r), 1);
	assert_int_equal(r[0].bytes, 3 * GIB);
	assert_int_equal(arch_ram(3 * GIB + MIB, r), 2);
	assert_int_equal(r[0].bytes, 3 * GIB);
	assert_int_equal(r[1].gpa, 4 * GIB);
	assert_int_equal(r[1].bytes, MIB);
}

static void slots_have_usable_interrupts(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		unsigned irq = arch_slot_irq(i);

		assert_in_range(irq, 5, IOAPIC_PINS - 1);
		assert_int_not_equal(irq, 8); /* a clock's, on a PC */
		for (unsigned j = 0; i < 18 && j < i; j++)
			assert_int_not_equal(irq, arch_slot_irq(j));
	}
}

static void cmdline_names_every_slot(void **state)
{
	cleanup_free char *line = arch_cmdline(24, false, "husk.debug", NULL);
	unsigned n = 0;

	(void)state;
	assert_non_null(line);
	for (const char *p = line; (p = strstr(p, "virtio_mmio.device=512@0xd00")); p++)
		n++;
	assert_int_equal(n, 24);
	assert_non_null(strstr(line, "virtio_mmio.device=512@0xd0000000:5 "));
	assert_non_null(strstr(line, "virtio_mmio.device=512@0xd0002e00:"));
	assert_non_null(strstr(line, "earlyprintk=ttyS0,115200,keep"));
	assert_null(strstr(line, "console="));
	assert_string_equal(line + strlen(line) - 11, " husk.debug");
}

static void cmdline_of_a_console_is_not_quiet(void **state)
{
	cleanup_free char *line = arch_cmdline(1, true, "", NULL);

	(void)state;
	assert_non_null(strstr(line, "console=ttyS0"));
	assert_null(strstr(line, "quiet"));
	assert_null(strstr(line, "nr_uarts=0"));
}

static void cmdline_that_is_too_long_is_refused(void **state)
{
	struct error err = ERROR_INIT;
	char extra[CMDLINE_MAX + 1];
	char *line;

	(void)state;
	memset(extra, 'x', sizeof(extra));
	extra[800] = 0;
	line = arch_cmdline(24, false, extra, NULL);
	assert_non_null(line);
	free(line);
	extra[800] = 'x';
	extra[CMDLINE_MAX] = 0;
	assert_null(arch_cmdline(24, false, extra, &err));
	assert_int_equal(err.kind, ERR_INVALID);
	assert_non_null(strstr(err.msg, "cmdline"));
}

/* ---- what is in memory */

static int file_of(const void *data, size_t len, uint64_t bytes)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(pwrite(fd, data, len, 0), (ssize_t)len);
	return fd;
}

static struct guest_mem memory(uint64_t bytes)
{
	struct arch_range r[ARCH_RAM_MAX];
	unsigned n = arch_ram(bytes, r);
	cleanup_close int fd = file_of("", 0, bytes);
	struct guest_mem m = {0};
	uint64_t at = 0;

	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(mem_add(&m, r[i].gpa, r[i].bytes, 0, fd, at, NULL), 0);
		at += r[i].bytes;
	}
	return m;
}

/* A kernel whose text of a page and 16 bytes begins at file offset `off`. */
static int elf_kernel(uint64_t off)
{
	struct {
		Elf64_Ehdr h;
		Elf64_Phdr p[1];
	} k = {
		.h = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB},
		      .e_type = ET_EXEC,
		      .e_machine = EM_X86_64,
		      .e_entry = KERNEL_GPA,
		      .e_phoff = sizeof(Elf64_Ehdr),
		      .e_phentsize = sizeof(Elf64_Phdr),
		      .e_phnum = 1},
		.p = {{.p_type = PT_LOAD,
		       .p_flags = PF_R | PF_X,
		       .p_offset = off,
		       .p_paddr = KERNEL_GPA,
		       .p_filesz = 4096 + 16,
		       .p_memsz = 0x100000}},
	};
	uint8_t text[4096 + 16];
	int fd = file_of(&k, sizeof(k), off + sizeof(text));

	memset(text, 0x90, sizeof(text));
	text[sizeof(text) - 1] = 0xf4;
	assert_int_equal(pwrite(fd, text, sizeof(text), (off_t)off), sizeof(text));
	return fd;
}

static void loads_kernel_and_initramfs(void **state)
{
	uint64_t offsets[] = {0x2000, 0x2010}; /* mapped; copied */
	static const char archive[] = "070701";
	uint8_t seeds[2][32] = {{0}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(offsets); i++) {
		cleanup_close int kernel = elf_kernel(offsets[i]);
		cleanup_close int initramfs = file_of(archive, sizeof(archive), 5000);
		struct guest_mem m = memory(64 * MIB);
		struct arch_image img = {kernel, initramfs, "panic=-1", 1, ARCH_OWN};
		struct arch_entry entry;
		const struct setup_data *seed;
		struct boot_params *bp;
		uint8_t *text, byte;

		assert_int_equal(arch_load(&m, &img, &entry, NULL), 0);
		assert_int_equal(entry.ip, KERNEL_GPA);
		text = mem_at(&m, KERNEL_GPA, 8192);
		assert_int_equal(text[0], 0x90);
		assert_int_equal(text[4095], 0x90);
		assert_int_equal(text[4096 + 15], 0xf4);
		assert_int_equal(text[4096 + 16], 0);
		text[0] = 1; /* a guest's patch is its own */
		assert_int_equal(pread(kernel, &byte, 1, (off_t)offsets[i]), 1);
		assert_int_equal(byte, 0x90);
		bp = mem_at(&m, entry.table, sizeof(*bp));
		assert_string_equal(mem_at(&m, bp->hdr.cmd_line_ptr, 9), "panic=-1");
		seed = mem_at(&m, bp->hdr.setup_data, sizeof(*seed) + 32);
		assert_int_equal(seed->next, 0);
		assert_int_equal(seed->type, SETUP_RNG_SEED);
		assert_int_equal(seed->len, 32);
		assert_memory_not_equal(seed->data, seeds[1 - i], 32);
		memcpy(seeds[i], seed->data, 32);
		assert_int_equal(bp->hdr.ramdisk_size, 5000);
		assert_int_equal(bp->hdr.ramdisk_image, 64 * MIB - 8192);
		assert_memory_equal(mem_at(&m, bp->hdr.ramdisk_image, 5000), archive,
				    sizeof(archive));
		mem_clear(&m);
	}
}

/* For QEMU: kernel and initramfs have places, the tables say so, and the reset vector leads there.
 */
static void writes_tables_alone_for_a_microvm(void **state)
{
	static const char archive[] = "070701";
	cleanup_close int kernel = elf_kernel(0x2000), firmware = arch_firmware(NULL);
	cleanup_close int initramfs = file_of(archive, sizeof(archive), 5000);
	struct guest_mem m = memory(64 * MIB);
	struct arch_image img = {kernel, initramfs, "quiet", 1, ARCH_MICROVM};
	struct arch_entry entry;
	struct boot_params *bp;
	uint8_t jump[5], *reset, *table;
	uint64_t to;
	bool leads = false;

	(void)state;
	assert_int_equal(arch_load(&m, &img, &entry, NULL), 0);
	bp = mem_at(&m, entry.table, sizeof(*bp));
	assert_int_equal(entry.ip, KERNEL_GPA);
	assert_int_equal(entry.initramfs, 64 * MIB - 8192);
	assert_int_equal(bp->hdr.ramdisk_image, entry.initramfs);
	assert_int_equal(*(uint8_t *)mem_at(&m, KERNEL_GPA, 1), 0);
	assert_int_equal(*(uint8_t *)mem_at(&m, entry.initramfs, 1), 0);
	table = mem_at(&m, GPA_MP_TABLE, mptable_bytes(1));
	assert_memory_equal(table + 44 + 20 + 8 + 4, &(uint32_t){GPA_IOAPIC_2}, 4);

	assert_int_equal(lseek(firmware, 0, SEEK_END), 65536);
	assert_int_equal(pread(firmware, jump, 5, 65536 - 16), 5);
	assert_int_equal(jump[0], 0xea); /* far jump */
	assert_int_equal((jump[1] | jump[2] << 8) + (jump[3] | jump[4] << 8) * 16, GPA_RESET);
	reset = mem_at(&m, GPA_RESET, 256);
	for (unsigned i = 0; i < 256 - sizeof(to); i++) {
		memcpy(&to, reset + i, sizeof(to));
		leads |= to == entry.ip;
	}
	assert_true(leads);
	mem_clear(&m);
}

static void a_microvm_takes_no_bzimage(void **state)
{
	uint8_t header[0x1000] = {[0x1fe] = 0x55, [0x1ff] = 0xaa, [0x202] = 'H', 'd', 'r', 'S'};
	cleanup_close int kernel = file_of(header, sizeof(header), sizeof(header));
	struct guest_mem m = memory(64 * MIB);
	struct arch_image img = {kernel, -1, "", 1, ARCH_MICROVM};
	struct error err = ERROR_INIT;
	struct arch_entry entry;

	(void)state;
	assert_int_equal(arch_load(&m, &img, &entry, &err), -1);
	assert_non_null(strstr(err.msg, "kernel: a bzImage: engine qemu needs"));
	mem_clear(&m);
}

static void e820_covers_all_ram(void **state)
{
	cleanup_close int kernel = elf_kernel(0x1000);
	struct guest_mem m = memory(5 * GIB);
	struct arch_image img = {kernel, -1, "", 2, ARCH_OWN};
	struct arch_entry entry;
	struct boot_params *bp;
	uint64_t ram = 0, end = 0;

	(void)state;
	assert_int_equal(arch_load(&m, &img, &entry, NULL), 0);
	bp = mem_at(&m, entry.table, sizeof(*bp));
	for (unsigned i = 0; i < bp->e820_entries; i++) {
		struct boot_e820_entry e = bp->e820_table[i];

		assert_true(e.addr >= end);
		end = e.addr + e.size;
		if (e.type == E820_RAM)
			ram += e.size;
		assert_false(e.addr < 4 * GIB && end > 3 * GIB);
	}
	assert_int_equal(end, 6 * GIB);
	assert_int_equal(ram, 5 * GIB - MIB + GPA_MP_TABLE);
	mem_clear(&m);
}

static void load_refuses(uint64_t ram, int kernel, int initramfs, const char *why)
{
	struct guest_mem m = memory(ram);
	struct arch_image img = {kernel, initramfs, "", 1, ARCH_OWN};
	struct error err = ERROR_INIT;
	struct arch_entry entry;

	assert_int_equal(arch_load(&m, &img, &entry, &err), -1);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
	mem_clear(&m);
}

static void what_does_not_fit_is_refused(void **state)
{
	cleanup_close int kernel = elf_kernel(0x1000);
	cleanup_close int initramfs = file_of("", 0, 48 * MIB);
	cleanup_close int text = file_of("hello", 5, 5);

	(void)state;
	load_refuses(16 * MIB, kernel, -1, "needs 17 MiB");
	load_refuses(64 * MIB, kernel, initramfs, "initramfs: 48 MiB do not fit");
	load_refuses(64 * MIB, text, -1, "kernel: the file ends within its ELF header");
}

/* ---- bzImage */

static int bzimage(uint16_t version, uint16_t xloadflags, uint32_t init_size)
{
	struct setup_header h = {.setup_sects = 1,
				 .jump = 0x6aeb,
				 .header = 0x53726448,
				 .version = version,
				 .xloadflags = xloadflags,
				 .cmdline_size = 100,
				 .initrd_addr_max = 0x1ffffff,
				 .init_size = init_size,
				 .pref_address = KERNEL_GPA};
	int fd = file_of("", 0, 1024 + 8192);

	assert_int_equal(pwrite(fd, &h, sizeof(h), 0x1f1), sizeof(h));
	assert_int_equal(pwrite(fd, "\xcc", 1, 1024), 1);
	return fd;
}

static void loads_a_bzimage(void **state)
{
	cleanup_close int kernel = bzimage(0x20f, XLF_KERNEL_64, 0x10000);
	cleanup_close int initramfs = file_of("", 0, 4096);
	struct guest_mem m = memory(64 * MIB);
	struct arch_image img = {kernel, initramfs, "quiet", 1, ARCH_OWN};
	struct arch_entry entry;
	struct boot_params *bp;

	(void)state;
	assert_int_equal(arch_load(&m, &img, &entry, NULL), 0);
	assert_int_equal(entry.ip, KERNEL_GPA + 0x200);
	assert_int_equal(*(uint8_t *)mem_at(&m, KERNEL_GPA, 1), 0xcc);
	bp = mem_at(&m, entry.table, sizeof(*bp));
	assert_int_equal(bp->hdr.version, 0x20f);
	assert_int_equal(bp->hdr.ramdisk_image, 0x2000000 - 4096); /* not above initrd_addr_max */
	mem_clear(&m);
}

static void refuses_other_bzimages(void **state)
{
	cleanup_close int old = bzimage(0x20b, XLF_KERNEL_64, 0x10000);
	cleanup_close int narrow = bzimage(0x20f, 0, 0x10000);
	cleanup_close int small = bzimage(0x20f, XLF_KERNEL_64, 0x1000);
	cleanup_close int large = bzimage(0x20f, XLF_KERNEL_64, 0xf0000000);

	(void)state;
	load_refuses(64 * MIB, old, -1, "boot protocol 2.11");
	load_refuses(64 * MIB, narrow, -1, "64-bit entry");
	load_refuses(64 * MIB, small, -1, "wants 0x1000");
	load_refuses(64 * MIB, large, -1, "is possible");
}

/* ---- MP table */

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s = (uint8_t)(s + *p++);
	return s;
}

static void mptable_is_sound(void **state)
{
	static const unsigned counts[] = {1, 2, 64, VCPUS_MAX};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(counts); i++) {
		uint8_t p[16], t[GPA_LOW_END - GPA_MP_TABLE];
		unsigned len, cpus = 0, boot = 0, pins = 0, entries = 0;
		uint32_t addr;

		assert_true(mptable_bytes(counts[i]) <= sizeof(t));
		mptable_write(p, t, counts[i], GPA_IOAPIC);
		assert_memory_equal(p, "_MP_", 4);
		memcpy(&addr, p + 4, 4);
		assert_int_equal(addr, GPA_MP_TABLE);
		assert_int_equal(sum(p, 16), 0);
		assert_memory_equal(t, "PCMP", 4);
		len = t[4] | (unsigned)t[5] << 8;
		assert_int_equal(len, mptable_bytes(counts[i]));
		assert_int_equal(sum(t, len), 0);
		for (unsigned at = 44; at < len; at += t[at] == 0 ? 20 : 8, entries++) {
			if (t[at] == 0) {
				assert_int_equal(t[at + 1], cpus++);
				boot += t[at + 3] >> 1 & 1;
			}
			if (t[at] == 2) /* not a processor's id */
				assert_int_equal(t[at + 1], counts[i]);
			if (t[at] == 3)
				assert_int_equal(t[at + 7], pins++);
		}
		assert_int_equal(cpus, counts[i]);
		assert_int_equal(boot, 1);
		assert_int_equal(pins, IOAPIC_PINS);
		assert_int_equal(entries, t[34] | (unsigned)t[35] << 8);
	}
}

/* ---- CPUID */

#define ARCH_CAPABILITIES (1u << 29)

static const struct kvm_cpuid_entry2 *leaf(const struct cpu_model *m, uint32_t f, uint32_t index)
{
	for (uint32_t i = 0; i < m->n; i++)
		if (m->e[i].function == f && m->e[i].index == index)
			return &m->e[i];
	return NULL;
}

static struct cpu_model *host(uint32_t vendor)
{
	static const struct kvm_cpuid_entry2 e[] = {
		{.function = 0, .eax = 0x1f},
		{.function = 1, .ebx = 0x7fff0800, .ecx = 0x2a, .edx = 1u << 28},
		{.function = 4, .index = 0, .flags = 1, .eax = 0xfc004121},
		{.function = 4, .index = 3, .flags = 1, .eax = 0xfc1fc163},
		{.function = 7,
		 .flags = 1,
		 .ebx = 0x02000005,
		 .ecx = 0x40000000,
		 .edx = 3 | ARCH_CAPABILITIES},
		{.function = 0xa, .eax = 0x07300404},
		{.function = 0xb, .index = 0, .flags = 1, .eax = 1, .ebx = 2, .ecx = 0x100},
		{.function = 0xb, .index = 1, .flags = 1, .eax = 7, .ebx = 99, .ecx = 0x201},
		{.function = 0x40000000, .eax = 0x40000001},
		{.function = 0x80000001, .ecx = 0x00c00006},
		{.function = 0x80000008, .ecx = 0x707f},
		{.function = 0x8000000a, .eax = 1},
		{.function = 0x8000001e, .eax = 77, .ebx = 0x101, .ecx = 3},
	};
	struct cpu_model *m = xcalloc(1, sizeof(*m));

	memcpy(m->e, e, sizeof(e));
	m->n = ARRAY_LEN(e);
	m->e[0].ebx = vendor;
	m->tsc_khz = 2500000;
	return m;
}

static void cpuid_hides_what_no_guest_needs(void **state)
{
	cleanup_free struct cpu_model *m = host(0x756e6547);

	(void)state;
	cpuid_model(m, true);
	assert_null(leaf(m, 0xa, 0));
	assert_null(leaf(m, 0x8000000a, 0));
	assert_int_equal(leaf(m, 1, 0)->ecx & 0x28, 0); /* VMX, MONITOR */
	assert_int_equal(leaf(m, 1, 0)->ecx >> 31, 1);	/* a hypervisor is there */
	assert_int_equal(leaf(m, 1, 0)->ecx >> 24 & 1, 1);
	assert_int_equal(leaf(m, 7, 0)->ebx, 1); /* processor trace, SGX */
	assert_int_equal(leaf(m, 7, 0)->ecx, 0);
	assert_int_equal(leaf(m, 7, 0)->edx, 1 | ARCH_CAPABILITIES);
	assert_int_equal(leaf(m, 0x80000001, 0)->ecx & 0x800004, 0); /* SVM, counters */
	assert_int_equal(leaf(m, 0x40000000, 0)->eax, 0x40000010);
	assert_int_equal(leaf(m, 0x40000010, 0)->eax, 2500000);
	assert_int_equal(leaf(m, 0x40000010, 0)->ebx, 1000000);
}

static void cpuid_tells_one_package_of_single_threads(void **state)
{
	cleanup_free struct cpu_model *m = host(0x756e6547);

	(void)state;
	cpuid_model(m, true);
	cpuid_vcpu(m, 5, 6);
	assert_int_equal(leaf(m, 1, 0)->ebx, 0x05060800);
	assert_int_equal(leaf(m, 1, 0)->edx >> 28 & 1, 1);
	assert_int_equal(leaf(m, 0xb, 0)->eax, 0);
	assert_int_equal(leaf(m, 0xb, 0)->ebx, 1);
	assert_int_equal(leaf(m, 0xb, 0)->edx, 5);
	assert_int_equal(leaf(m, 0xb, 1)->eax, 3);
	assert_int_equal(leaf(m, 0xb, 1)->ebx, 6);
	assert_int_equal(leaf(m, 0xb, 1)->ecx, 0x201);
	assert_int_equal(leaf(m, 0xb, 2)->ecx, 2);
	assert_int_equal(leaf(m, 4, 0)->eax >> 14 & 0xfff, 0); /* first level: a core's own */
	assert_int_equal(leaf(m, 4, 3)->eax >> 14 & 0xfff, 7);
	assert_int_equal(leaf(m, 4, 3)->eax & 0x3fff, 0x163);
}

static void cpuid_of_amd_tells_the_same(void **state)
{
	cleanup_free struct cpu_model *m = host(0x68747541);

	(void)state;
	cpuid_model(m, false);
	cpuid_vcpu(m, 3, 4);
	assert_int_equal(leaf(m, 7, 0)->edx, 1);
	assert_int_equal(leaf(m, 1, 0)->ecx >> 24 & 1, 0);
	assert_int_equal(leaf(m, 0x80000008, 0)->ecx & 0xf0ff, 0x2003);
	assert_int_equal(leaf(m, 0x8000001e, 0)->eax, 3);
	assert_int_equal(leaf(m, 0x8000001e, 0)->ebx, 3);
	assert_int_equal(leaf(m, 0x8000001e, 0)->ecx, 0);
	assert_int_equal(leaf(m, 0x80000001, 0)->ecx & 2, 2);
}

static void cpuid_of_one_vcpu_has_no_hyperthreads(void **state)
{
	cleanup_free struct cpu_model *m = host(0x68747541);

	(void)state;
	cpuid_model(m, true);
	cpuid_vcpu(m, 0, 1);
	assert_int_equal(leaf(m, 1, 0)->edx >> 28 & 1, 0);
	assert_int_equal(leaf(m, 0xb, 1)->eax, 0);
	assert_int_equal(leaf(m, 0x80000001, 0)->ecx & 2, 0);
}

/* ---- ports */

struct port_test {
	struct arch_ports p;
	char out[64];
	unsigned n;
	union {
		struct kvm_run run;
		uint8_t room[sizeof(struct kvm_run) + 64];
	} u;
};

static void take(void *arg, uint8_t byte)
{
	struct port_test *t = arg;

	t->out[t->n++] = (char)byte;
}

static struct port_test *ports(void)
{
	struct port_test *t = xcalloc(1, sizeof(*t));

	t->p = (struct arch_ports){.console = take, .arg = t, .irq_fd = -1};
	t->u.run.io.data_offset = sizeof(struct kvm_run);
	return t;
}

static enum arch_end out(struct port_test *t, uint16_t port, unsigned size, const char *data,
			 unsigned count)
{
	t->u.run.io.direction = KVM_EXIT_IO_OUT;
	t->u.run.io.port = port;
	t->u.run.io.size = (uint8_t)size;
	t->u.run.io.count = count;
	memcpy(t->u.room + sizeof(struct kvm_run), data, (size_t)size * count);
	return arch_io(&t->p, &t->u.run);
}

static enum arch_end outb(struct port_test *t, uint16_t port, uint8_t v)
{
	return out(t, port, 1, (const char *)&v, 1);
}

static uint8_t inb(struct port_test *t, uint16_t port)
{
	t->u.run.io.direction = KVM_EXIT_IO_IN;
	t->u.run.io.port = port;
	t->u.run.io.size = 1;
	t->u.run.io.count = 1;
	t->u.room[sizeof(struct kvm_run)] = 0x5a;
	assert_int_equal(arch_io(&t->p, &t->u.run), ARCH_GOES_ON);
	return t->u.room[sizeof(struct kvm_run)];
}

static void the_machine_ends_by_its_ports(void **state)
{
	cleanup_free struct port_test *t = ports();

	(void)state;
	assert_int_equal(outb(t, 0x64, 0xfe), ARCH_RESET);
	assert_int_equal(outb(t, 0x64, 0xd1), ARCH_GOES_ON);
	assert_int_equal(outb(t, 0xcf9, 0x06), ARCH_RESET);
	assert_int_equal(outb(t, 0xcf9, 0x02), ARCH_GOES_ON);
	assert_int_equal(outb(t, 0x505, 1), ARCH_PANIC);
	assert_int_equal(outb(t, 0x505, 2), ARCH_GOES_ON);
	assert_int_equal(inb(t, 0x505), 1);
	/* PCI's configuration address is 4 bytes wide; its second is not the reset. */
	assert_int_equal(out(t, 0xcf8, 4, "\x00\xff\xff\x80", 1), ARCH_GOES_ON);
}

static void what_is_not_there_reads_as_ones(void **state)
{
	cleanup_free struct port_test *t = ports();

	(void)state;
	assert_int_equal(inb(t, 0x64) & 2, 0); /* whoever resets by it waits for that */
	assert_int_equal(inb(t, 0x60), 0xff);
	assert_int_equal(inb(t, 0x71), 0xff);
	t->u.run.io.size = 4;
	t->u.run.io.port = 0xcfc;
	t->u.run.io.count = 2;
	assert_int_equal(arch_io(&t->p, &t->u.run), ARCH_GOES_ON);
	assert_memory_equal(t->u.room + sizeof(struct kvm_run), "\xff\xff\xff\xff\xff\xff\xff\xff",
			    8);
}

static void the_serial_port_sends(void **state)
{
	cleanup_free struct port_test *t = ports();

	(void)state;
	assert_int_equal(outb(t, 0x3fb, 0x83), ARCH_GOES_ON);
	outb(t, 0x3f8, 1); /* the divisor is no output */
	assert_int_equal(inb(t, 0x3f8), 1);
	outb(t, 0x3fb, 0x03);
	out(t, 0x3f8, 1, "hello", 5);
	assert_int_equal(inb(t, 0x3fd) & 0x60, 0x60);
	outb(t, 0x3fc, 0x1a); /* looped back: not sent, seen as modem status */
	outb(t, 0x3f8, 'x');
	assert_int_equal(inb(t, 0x3fe) & 0xf0, 0x90);
	assert_string_equal(t->out, "hello");
}

static void the_serial_port_interrupts_when_it_may_send(void **state)
{
	cleanup_free struct port_test *t = ports();
	cleanup_close int fd = eventfd(0, EFD_NONBLOCK);
	uint64_t n;

	(void)state;
	t->p.irq_fd = fd;
	outb(t, 0x3f8, 'a');
	assert_int_equal(read(fd, &n, sizeof(n)), -1);
	assert_int_equal(inb(t, 0x3fa) & 0x3f, 1);
	outb(t, 0x3f9, 2);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(inb(t, 0x3fa) & 0x3f, 2);
	assert_int_equal(inb(t, 0x3fa) & 0x3f, 1); /* reading it took it away */
	out(t, 0x3f8, 1, "bcd", 3);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1);
	outb(t, 0x3f9, 0);
	assert_int_equal(inb(t, 0x3fa) & 0x3f, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ram_lies_below_and_above_the_hole),
		cmocka_unit_test(slots_have_usable_interrupts),
		cmocka_unit_test(cmdline_names_every_slot),
		cmocka_unit_test(cmdline_of_a_console_is_not_quiet),
		cmocka_unit_test(cmdline_that_is_too_long_is_refused),
		cmocka_unit_test(loads_kernel_and_initramfs),
		cmocka_unit_test(writes_tables_alone_for_a_microvm),
		cmocka_unit_test(a_microvm_takes_no_bzimage),
		cmocka_unit_test(e820_covers_all_ram),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(loads_a_bzimage),
		cmocka_unit_test(refuses_other_bzimages),
		cmocka_unit_test(mptable_is_sound),
		cmocka_unit_test(cpuid_hides_what_no_guest_needs),
		cmocka_unit_test(cpuid_tells_one_package_of_single_threads),
		cmocka_unit_test(cpuid_of_amd_tells_the_same),
		cmocka_unit_test(cpuid_of_one_vcpu_has_no_hyperthreads),
		cmocka_unit_test(the_machine_ends_by_its_ports),
		cmocka_unit_test(what_is_not_there_reads_as_ones),
		cmocka_unit_test(the_serial_port_sends),
		cmocka_unit_test(the_serial_port_interrupts_when_it_may_send),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
