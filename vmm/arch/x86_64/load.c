/*
 * Kernel and initramfs into guest memory.
 *
 * An ELF kernel's read-only segments (text and constants, 12 of the 18 MB of ours) are mapped from
 * the file over guest memory where file offset and address agree within a page: nothing is copied,
 * and the page cache's one copy serves all guests. The mapping is private: what a guest's kernel
 * patches in its text is its own. What does not fill a page, and all the rest, is read into guest
 * memory. The file must not be truncated while guests run (it is mapped): replace it, as install(1)
 * and package managers do.
 *
 * A third of the pages of text do not stay shared: the kernel adapts itself to its processor. For
 * each of them KVM would map the file's page, then learn that it is written to, unmap it, and map
 * the copy: three exits for one. The kernel's file says which ones they are, so they are copied
 * beforehand.
 *
 * That is for a host that denies huge pages to guest memory (vmm/kvm/vm.c). Elsewhere nothing is
 * mapped: a huge page of text is one exit, its 512 small ones would be as many.
 *
 * QEMU loads its own (ARCH_MICROVM): here it is decided where, and the tables say so.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/arch/x86_64/machine.h"
#include "vmm/elf.h"

#define PAGE 4096u
#define HUGE 0x200000u
#define PAGE_MASK ((uint64_t)PAGE - 1)

static int file_size(int fd, const char *what, uint64_t *bytes, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_errno(err, "%s: fstat", what);
	if (!S_ISREG(st.st_mode))
		return error_kind(err, ERR_INVALID, "%s: no regular file", what);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

static int read_into(const struct guest_mem *m, int fd, uint64_t off, uint64_t gpa, uint64_t bytes,
		     const char *what, struct error *err)
{
	uint8_t *to = mem_at(m, gpa, bytes);

	if (!to)
		return error_set(err, "%s: no guest memory at 0x%" PRIx64, what, gpa);
	while (bytes > 0) {
		ssize_t n = pread(fd, to, bytes, (off_t)off);

		if (n < 0)
			return error_errno(err, "%s: read", what);
		if (n == 0)
			return error_kind(err, ERR_INVALID, "%s: the file became shorter", what);
		to += n;
		off += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

/* Whether guest memory at `to` is in huge pages: one byte that is touched makes all 2 MiB appear.
 */
static bool is_huge(uint8_t *to, uint64_t bytes)
{
	uint8_t *at = (uint8_t *)(((uintptr_t)to + HUGE - 1) & ~((uintptr_t)HUGE - 1));
	unsigned char in[HUGE / PAGE];

	if (bytes < HUGE || (uint64_t)(at - to) > bytes - HUGE)
		return false;
	*(volatile uint8_t *)at = 0;
	return mincore(at, HUGE, in) == 0 && in[HUGE / PAGE - 1] & 1;
}

static void make_own(void *arg, uint64_t page)
{
	volatile uint8_t *p = (uint8_t *)arg + page * PAGE;
	uint8_t same = *p;

	*p = same;
}

/* Whole pages of a segment, from the file. `bytes` says how many of its bytes they hold. */
static int map_pages(const struct guest_mem *m, int fd, const struct elf_segment *s,
		     uint64_t *bytes, struct error *err)
{
	uint8_t *to;

	*bytes = s->bytes & ~PAGE_MASK;
	if (s->writable || (s->gpa & PAGE_MASK) || (s->offset & PAGE_MASK) || *bytes == 0) {
		*bytes = 0;
		return 0;
	}
	to = mem_at(m, s->gpa, *bytes);
	if (!to || ((uintptr_t)to & PAGE_MASK))
		return error_set(err, "kernel: no guest memory at 0x%" PRIx64, s->gpa);
	if (is_huge(to, *bytes)) {
		*bytes = 0;
		return 0;
	}
	if (mmap(to, *bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
		 (off_t)s->offset) == MAP_FAILED)
		return error_errno(err, "kernel: map 0x%" PRIx64 " bytes", *bytes);
	madvise(to, *bytes, MADV_DONTDUMP);
	elf_patched_pages(fd, s, make_own, to);
	return 0;
}

static int load_segment(const struct guest_mem *m, int fd, const struct elf_segment *s,
			struct error *err)
{
	uint64_t mapped;

	if (map_pages(m, fd, s, &mapped, err) < 0)
		return -1;
	return read_into(m, fd, s->offset + mapped, s->gpa + mapped, s->bytes - mapped, "kernel",
			 err);
}

/* The kernel's place must be RAM that the entry has mapped, above the tables. */
static int check_place(const struct guest_mem *m, uint64_t begin, uint64_t end, struct error *err)
{
	if (begin < GPA_HIGH || end > IDENTITY_BYTES || begin >= end)
		return error_kind(err, ERR_INVALID,
				  "kernel: wants the memory from 0x%" PRIx64 " to 0x%" PRIx64
				  "; 0x%x to 0x%x is possible",
				  begin, end, GPA_HIGH, IDENTITY_BYTES);
	if (!mem_at(m, begin, end - begin))
		return error_kind(err, ERR_INVALID,
				  "kernel: needs %" PRIu64 " MiB of memory at least",
				  (end + 0xfffff) >> 20);
	return 0;
}

static int load_elf(const struct guest_mem *m, int fd, uint64_t file_bytes, bool place_only,
		    struct boot_image *b, struct error *err)
{
	struct elf_plan plan;

	if (elf_plan(fd, file_bytes, &plan, err) < 0 ||
	    check_place(m, plan.begin, plan.end, err) < 0)
		return -1;
	for (unsigned i = 0; i < plan.n && !place_only; i++)
		if (load_segment(m, fd, &plan.s[i], err) < 0)
			return -1;
	b->entry = plan.entry;
	b->kernel_end = plan.end;
	return 0;
}

static int load_bzimage(const struct guest_mem *m, int fd, uint64_t file_bytes,
			struct boot_image *b, unsigned *cmdline_max, uint64_t *initramfs_max,
			struct error *err)
{
	struct bzimage_plan plan;

	if (bzimage_plan(fd, file_bytes, &plan, err) < 0 ||
	    check_place(m, plan.gpa, plan.end, err) < 0 ||
	    read_into(m, fd, plan.offset, plan.gpa, plan.bytes, "kernel", err) < 0)
		return -1;
	b->entry = plan.entry;
	b->kernel_end = plan.end;
	memcpy(b->setup, plan.setup, plan.setup_bytes);
	b->setup_bytes = plan.setup_bytes;
	if (plan.cmdline_max < *cmdline_max)
		*cmdline_max = plan.cmdline_max;
	if (plan.initramfs_max < *initramfs_max)
		*initramfs_max = plan.initramfs_max;
	return 0;
}

/* At the end of the RAM below the hole, or as high as the kernel takes it. */
static int load_initramfs(const struct guest_mem *m, int fd, uint64_t max, bool place_only,
			  struct boot_image *b, struct error *err)
{
	uint64_t end = m->r[0].gpa + m->r[0].size, bytes;

	if (fd < 0)
		return 0;
	if (file_size(fd, "initramfs", &bytes, err) < 0)
		return -1;
	if (bytes == 0)
		return 0;
	if (end - 1 > max)
		end = max + 1;
	if (bytes > end || ((end - bytes) & ~PAGE_MASK) < b->kernel_end)
		return error_kind(err, ERR_INVALID,
				  "initramfs: %" PRIu64 " MiB do not fit into the guest's memory",
				  (bytes + 0xfffff) >> 20);
	b->initramfs = (end - bytes) & ~PAGE_MASK;
	b->initramfs_bytes = bytes;
	return place_only ? 0 : read_into(m, fd, 0, b->initramfs, bytes, "initramfs", err);
}

int arch_load(const struct guest_mem *m, const struct arch_image *img, struct arch_entry *entry,
	      struct error *err)
{
	struct boot_image b = {0};
	unsigned cmdline_max = CMDLINE_MAX;
	uint64_t initramfs_max = GPA_HOLE - 1, bytes;
	bool place_only = img->machine == ARCH_MICROVM;

	if (m->n == 0 || m->r[0].gpa != 0 || m->r[0].size < GPA_HIGH)
		return error_set(err, "guest memory: the first MiB is missing");
	/* Our file's mount has huge pages where they are asked for. */
	for (unsigned i = 0; i < m->n && !place_only; i++)
		madvise(m->r[i].hva, m->r[i].size, MADV_HUGEPAGE);
	if (file_size(img->kernel_fd, "kernel", &bytes, err) < 0)
		return -1;
	if (place_only && bzimage_is(img->kernel_fd))
		return error_kind(err, ERR_INVALID,
				  "kernel: a bzImage: engine qemu needs the uncompressed vmlinux "
				  "(ELF)");
	if ((bzimage_is(img->kernel_fd)
		     ? load_bzimage(m, img->kernel_fd, bytes, &b, &cmdline_max, &initramfs_max, err)
		     : load_elf(m, img->kernel_fd, bytes, place_only, &b, err)) < 0)
		return -1;
	if (strlen(img->cmdline) > cmdline_max)
		return error_kind(err, ERR_INVALID, "cmdline: %zu bytes, this kernel takes %u",
				  strlen(img->cmdline), cmdline_max);
	if (load_initramfs(m, img->initramfs_fd, initramfs_max, place_only, &b, err) < 0 ||
	    boot_write(m, &b, img->cmdline, img->vcpus, img->machine, err) < 0)
		return -1;
	*entry = (struct arch_entry){
		.ip = b.entry, .table = GPA_BOOT_PARAMS, .initramfs = b.initramfs};
	return 0;
}
