/* ELF64 (System V ABI, "Object Files"): the program headers of a kernel, checked. */
#include <elf.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "vmm/elf.h"

#define PHDRS_MAX 64
#define SECTIONS_MAX 128
#define NAMES_MAX 8192
#define PAGE_SHIFT 12

/* Linux, arch/x86/include/asm/alternative.h: where to patch, relative to the entry itself. */
struct alternative {
	int32_t site, replacement;
	uint32_t feature;
	uint8_t site_bytes, replacement_bytes;
} __attribute__((packed));

static int read_at(int fd, uint64_t off, void *buf, size_t len, const char *what, struct error *err)
{
	ssize_t n = pread(fd, buf, len, (off_t)off);

	if (n < 0)
		return error_errno(err, "kernel: read %s", what);
	if ((size_t)n != len)
		return error_kind(err, ERR_INVALID, "kernel: the file ends within its %s", what);
	return 0;
}

static int check_header(const Elf64_Ehdr *h, struct error *err)
{
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
	    h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64)
		return error_kind(err, ERR_INVALID, "kernel: no ELF file for x86-64");
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return error_kind(err, ERR_INVALID, "kernel: ELF type %u is not executable",
				  h->e_type);
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 || h->e_phnum > PHDRS_MAX)
		return error_kind(err, ERR_INVALID,
				  "kernel: %u ELF program headers of %u bytes; 1 to %u of %zu are "
				  "understood",
				  h->e_phnum, h->e_phentsize, PHDRS_MAX, sizeof(Elf64_Phdr));
	if (h->e_phoff > INT64_MAX / 2)
		return error_kind(err, ERR_INVALID, "kernel: ELF program headers at 0x%" PRIx64,
				  h->e_phoff);
	return 0;
}

static int add_segment(struct elf_plan *plan, const Elf64_Phdr *p, uint64_t file_bytes,
		       struct error *err)
{
	uint64_t end;

	if (p->p_memsz == 0)
		return 0;
	if (p->p_filesz > p->p_memsz || __builtin_add_overflow(p->p_paddr, p->p_memsz, &end))
		return error_kind(err, ERR_INVALID,
				  "kernel: ELF segment of 0x%" PRIx64 " bytes in 0x%" PRIx64
				  " at 0x%" PRIx64 " is out of range",
				  p->p_filesz, p->p_memsz, p->p_paddr);
	if (p->p_offset > file_bytes || p->p_filesz > file_bytes - p->p_offset)
		return error_kind(err, ERR_INVALID,
				  "kernel: ELF segment 0x%" PRIx64 "+0x%" PRIx64
				  " lies beyond the file's end",
				  p->p_offset, p->p_filesz);
	if (p->p_paddr < plan->begin)
		plan->begin = p->p_paddr;
	if (end > plan->end)
		plan->end = end;
	if (p->p_filesz == 0)
		return 0;
	if (plan->n == ELF_SEGMENTS_MAX)
		return error_kind(err, ERR_INVALID, "kernel: more than %d ELF segments",
				  ELF_SEGMENTS_MAX);
	plan->s[plan->n++] = (struct elf_segment){.offset = p->p_offset,
						  .bytes = p->p_filesz,
						  .gpa = p->p_paddr,
						  .vaddr = p->p_vaddr,
						  .writable = p->p_flags & PF_W};
	return 0;
}

static bool has_entry(const struct elf_plan *plan)
{
	for (unsigned i = 0; i < plan->n; i++)
		if (plan->entry >= plan->s[i].gpa &&
		    plan->entry - plan->s[i].gpa < plan->s[i].bytes)
			return true;
	return false;
}

int elf_plan(int fd, uint64_t file_bytes, struct elf_plan *plan, struct error *err)
{
	Elf64_Phdr ph[PHDRS_MAX];
	Elf64_Ehdr h;

	if (read_at(fd, 0, &h, sizeof(h), "ELF header", err) < 0 || check_header(&h, err) < 0 ||
	    read_at(fd, h.e_phoff, ph, sizeof(ph[0]) * h.e_phnum, "ELF program headers", err) < 0)
		return -1;
	*plan = (struct elf_plan){.entry = h.e_entry, .begin = UINT64_MAX};
	for (unsigned i = 0; i < h.e_phnum; i++)
		if (ph[i].p_type == PT_LOAD && add_segment(plan, &ph[i], file_bytes, err) < 0)
			return -1;
	if (!has_entry(plan))
		return error_kind(err, ERR_INVALID,
				  "kernel: the entry point 0x%" PRIx64
				  " is no physical address of an ELF segment",
				  plan->entry);
	return 0;
}

static bool find_section(int fd, const char *name, Elf64_Shdr *found)
{
	Elf64_Shdr sh[SECTIONS_MAX];
	char names[NAMES_MAX + 1] = "";
	Elf64_Ehdr h;
	ssize_t n;

	if (pread(fd, &h, sizeof(h), 0) != sizeof(h) || h.e_shentsize != sizeof(sh[0]) ||
	    h.e_shnum > SECTIONS_MAX || h.e_shstrndx >= h.e_shnum || h.e_shoff > INT64_MAX ||
	    pread(fd, sh, sizeof(sh[0]) * h.e_shnum, (off_t)h.e_shoff) !=
		    (ssize_t)(sizeof(sh[0]) * h.e_shnum))
		return false;
	if (sh[h.e_shstrndx].sh_offset > INT64_MAX)
		return false;
	n = pread(fd, names, NAMES_MAX, (off_t)sh[h.e_shstrndx].sh_offset);
	for (unsigned i = 0; i < h.e_shnum; i++)
		if (n > 0 && sh[i].sh_name < (uint64_t)n &&
		    strcmp(names + sh[i].sh_name, name) == 0) {
			*found = sh[i];
			return true;
		}
	return false;
}

void elf_patched_pages(int fd, const struct elf_segment *s,
		       void (*page)(void *arg, uint64_t number), void *arg)
{
	struct alternative a[512];
	Elf64_Shdr sh;

	if (!find_section(fd, ".altinstructions", &sh) || sh.sh_offset > INT64_MAX / 2 ||
	    sh.sh_size > INT32_MAX)
		return;
	for (uint64_t at = 0; at < sh.sh_size;) {
		ssize_t n = pread(fd, a, sizeof(a), (off_t)(sh.sh_offset + at));

		if (n < (ssize_t)sizeof(a[0]))
			return;
		for (size_t i = 0; i < (size_t)n / sizeof(a[0]) && at < sh.sh_size; i++) {
			uint64_t site = sh.sh_addr + at + (uint64_t)(int64_t)a[i].site - s->vaddr;

			if (site >> PAGE_SHIFT < s->bytes >> PAGE_SHIFT)
				page(arg, site >> PAGE_SHIFT);
			at += sizeof(a[0]);
		}
	}
}
