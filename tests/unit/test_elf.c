/* An ELF kernel's headers: what they say is planned, what they should not say is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/elf.h"

#define FILE_BYTES 0x10000u

struct kernel {
	Elf64_Ehdr h;
	Elf64_Phdr p[40];
};

/* Text of two pages at 16 MiB, data with zeros behind it. */
static struct kernel valid(void)
{
	struct kernel k = {
		.h = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB},
		      .e_type = ET_EXEC,
		      .e_machine = EM_X86_64,
		      .e_entry = 0x1000100,
		      .e_phoff = offsetof(struct kernel, p),
		      .e_phentsize = sizeof(Elf64_Phdr),
		      .e_phnum = 3},
		.p = {{.p_type = PT_LOAD,
		       .p_flags = PF_R | PF_X,
		       .p_offset = 0x2000,
		       .p_paddr = 0x1000000,
		       .p_filesz = 0x2000,
		       .p_memsz = 0x2000},
		      {.p_type = PT_NOTE, .p_offset = UINT64_MAX, .p_filesz = UINT64_MAX},
		      {.p_type = PT_LOAD,
		       .p_flags = PF_R | PF_W,
		       .p_offset = 0x4000,
		       .p_paddr = 0x1200000,
		       .p_filesz = 0x100,
		       .p_memsz = 0x5000}},
	};

	return k;
}

static int plan_of(const struct kernel *k, struct elf_plan *plan, struct error *err)
{
	cleanup_close int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
	assert_int_equal(pwrite(fd, k, sizeof(*k), 0), sizeof(*k));
	return elf_plan(fd, FILE_BYTES, plan, err);
}

static void refuses(const struct kernel *k, const char *why)
{
	struct error err = ERROR_INIT;
	struct elf_plan plan;

	assert_int_equal(plan_of(k, &plan, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
}

static void plans_segments(void **state)
{
	struct kernel k = valid();
	struct elf_plan plan;

	(void)state;
	assert_int_equal(plan_of(&k, &plan, NULL), 0);
	assert_int_equal(plan.n, 2);
	assert_int_equal(plan.entry, 0x1000100);
	assert_int_equal(plan.begin, 0x1000000);
	assert_int_equal(plan.end, 0x1205000);
	assert_int_equal(plan.s[0].offset, 0x2000);
	assert_int_equal(plan.s[0].bytes, 0x2000);
	assert_int_equal(plan.s[0].gpa, 0x1000000);
	assert_false(plan.s[0].writable);
	assert_int_equal(plan.s[1].bytes, 0x100);
	assert_true(plan.s[1].writable);
}

static void a_segment_of_zeros_takes_memory_alone(void **state)
{
	struct kernel k = valid();
	struct elf_plan plan;

	(void)state;
	k.p[2].p_filesz = 0;
	assert_int_equal(plan_of(&k, &plan, NULL), 0);
	assert_int_equal(plan.n, 1);
	assert_int_equal(plan.end, 0x1205000);
}

static void refuses_other_files(void **state)
{
	struct kernel k = valid();

	(void)state;
	k.h.e_ident[0] = 'M';
	refuses(&k, "no ELF file for x86-64");
	k = valid();
	k.h.e_ident[EI_CLASS] = ELFCLASS32;
	refuses(&k, "no ELF file for x86-64");
	k = valid();
	k.h.e_machine = EM_AARCH64;
	refuses(&k, "no ELF file for x86-64");
	k = valid();
	k.h.e_type = ET_REL;
	refuses(&k, "not executable");
}

static void refuses_bad_program_headers(void **state)
{
	struct kernel k = valid();

	(void)state;
	k.h.e_phentsize = 32;
	refuses(&k, "program headers");
	k = valid();
	k.h.e_phnum = 0;
	refuses(&k, "program headers");
	k.h.e_phnum = 65535;
	refuses(&k, "program headers");
	k = valid();
	k.h.e_phoff = UINT64_MAX - 8;
	refuses(&k, "program headers");
	k.h.e_phoff = FILE_BYTES - 8;
	refuses(&k, "ends within");
}

static void refuses_segments_out_of_range(void **state)
{
	struct kernel k = valid();

	(void)state;
	k.p[0].p_filesz = k.p[0].p_memsz + 1;
	refuses(&k, "out of range");
	k = valid();
	k.p[0].p_paddr = UINT64_MAX - 0x1000;
	refuses(&k, "out of range");
	k = valid();
	k.p[0].p_offset = FILE_BYTES - 0x1fff;
	refuses(&k, "beyond the file's end");
	k.p[0].p_offset = UINT64_MAX;
	refuses(&k, "beyond the file's end");
	k = valid();
	for (int i = 3; i < 40; i++)
		k.p[i] = k.p[2];
	k.h.e_phnum = 40;
	refuses(&k, "more than 16");
}

static void refuses_an_entry_outside(void **state)
{
	struct kernel k = valid();

	(void)state;
	k.h.e_entry = 0xffffffff81000000;
	refuses(&k, "entry point");
	k.h.e_entry = 0x1002000;
	refuses(&k, "entry point");
	k = valid();
	k.p[0].p_type = k.p[2].p_type = PT_NULL;
	refuses(&k, "entry point");
}

/* ---- the hint which pages will be patched */

static void mark(void *arg, uint64_t page)
{
	assert_true(page < 4);
	((unsigned *)arg)[page]++;
}

/* Sections' names at 0x400, two alternatives at 0x500, for text of four pages. */
static int patched_kernel(int32_t first, int32_t second)
{
	static const char names[] = "\0.shstrtab\0.altinstructions";
	int32_t alternatives[7] = {first}; /* 14 bytes each */
	struct {
		Elf64_Ehdr h;
		Elf64_Shdr s[3];
	} k = {.h = {.e_shoff = sizeof(Elf64_Ehdr),
		     .e_shentsize = sizeof(Elf64_Shdr),
		     .e_shnum = 3,
		     .e_shstrndx = 1},
	       .s = {{0},
		     {.sh_name = 1, .sh_offset = 0x400, .sh_size = sizeof(names)},
		     {.sh_name = 11, .sh_addr = 0x80005000, .sh_offset = 0x500, .sh_size = 28}}};
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	memcpy((uint8_t *)alternatives + 14, &second, 4);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &k, sizeof(k), 0), sizeof(k));
	assert_int_equal(pwrite(fd, names, sizeof(names), 0x400), sizeof(names));
	assert_int_equal(pwrite(fd, alternatives, 28, 0x500), 28);
	return fd;
}

static void names_pages_that_will_be_patched(void **state)
{
	struct elf_segment s = {.bytes = 0x4000, .vaddr = 0x80000000};
	cleanup_close int fd = patched_kernel(-0x5000 + 0x1ff0, -0x5000 + 0x3000 - 14);
	cleanup_close int outside = patched_kernel(-0x5000 - 1, 0x100);
	unsigned n[4] = {0};

	(void)state;
	elf_patched_pages(fd, &s, mark, n);
	assert_int_equal(n[0], 0);
	assert_int_equal(n[1], 1);
	assert_int_equal(n[2], 0);
	assert_int_equal(n[3], 1);
	elf_patched_pages(outside, &s, mark, n);
	assert_int_equal(n[0] + n[1] + n[2] + n[3], 2);
}

static void a_kernel_without_sections_has_no_hint(void **state)
{
	struct elf_segment s = {.bytes = 0x4000, .vaddr = 0x80000000};
	struct kernel k = valid();
	cleanup_close int fd = memfd_create("kernel", MFD_CLOEXEC);
	unsigned n[4] = {0};

	(void)state;
	assert_int_equal(pwrite(fd, &k, sizeof(k), 0), sizeof(k));
	elf_patched_pages(fd, &s, mark, n);
	assert_int_equal(n[0] + n[1] + n[2] + n[3], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_segments),
		cmocka_unit_test(a_segment_of_zeros_takes_memory_alone),
		cmocka_unit_test(refuses_other_files),
		cmocka_unit_test(refuses_bad_program_headers),
		cmocka_unit_test(refuses_segments_out_of_range),
		cmocka_unit_test(refuses_an_entry_outside),
		cmocka_unit_test(names_pages_that_will_be_patched),
		cmocka_unit_test(a_kernel_without_sections_has_no_hint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
