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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plans_segments),
		cmocka_unit_test(a_segment_of_zeros_takes_memory_alone),
		cmocka_unit_test(refuses_other_files),
		cmocka_unit_test(refuses_bad_program_headers),
		cmocka_unit_test(refuses_segments_out_of_range),
		cmocka_unit_test(refuses_an_entry_outside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
