/* bzImage (Linux, Documentation/arch/x86/boot.rst): the setup header, for a 64-bit entry. */
#include <asm/bootparam.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "vmm/arch/x86_64/machine.h"

#define HEADER_AT 0x1f1u
#define MAGIC_AT 0x202u
#define MAGIC 0x53726448u /* "HdrS" */
#define SECTOR 512u
#define VERSION_MIN 0x20c /* xloadflags */
#define ENTRY_64 0x200u

_Static_assert(sizeof(struct setup_header) <= 256, "struct boot_image has room for it");

static int read_header(int fd, struct setup_header *h)
{
	return pread(fd, h, sizeof(*h), HEADER_AT) == sizeof(*h) && h->header == MAGIC ? 0 : -1;
}

bool bzimage_is(int fd)
{
	struct setup_header h;

	return read_header(fd, &h) == 0;
}

int bzimage_plan(int fd, uint64_t file_bytes, struct bzimage_plan *plan, struct error *err)
{
	struct setup_header h;
	uint64_t sectors;

	if (read_header(fd, &h) < 0)
		return error_kind(err, ERR_INVALID, "kernel: no bzImage");
	if (h.version < VERSION_MIN || !(h.xloadflags & XLF_KERNEL_64))
		return error_kind(err, ERR_INVALID,
				  "kernel: bzImage of boot protocol %u.%02u without a 64-bit entry",
				  h.version >> 8, h.version & 0xffu);
	sectors = h.setup_sects ? h.setup_sects : 4; /* as the documentation says of 0 */
	*plan = (struct bzimage_plan){.offset = (sectors + 1) * SECTOR,
				      .gpa = h.pref_address,
				      .initramfs_max = h.initrd_addr_max,
				      .cmdline_max = h.cmdline_size};
	if (plan->offset >= file_bytes)
		return error_kind(err, ERR_INVALID, "kernel: the bzImage ends within its setup");
	plan->bytes = file_bytes - plan->offset;
	/* What it is loaded into is at least what it has. */
	if (h.init_size < plan->bytes || plan->bytes <= ENTRY_64 ||
	    __builtin_add_overflow(plan->gpa, h.init_size, &plan->end))
		return error_kind(err, ERR_INVALID,
				  "kernel: bzImage of 0x%" PRIx64 " bytes wants 0x%x at 0x%" PRIx64,
				  plan->bytes, h.init_size, plan->gpa);
	plan->entry = plan->gpa + ENTRY_64;
	/* The header's own jump says where it ends (boot.rst, "Details of header fields"). */
	plan->setup_bytes = MAGIC_AT + (h.jump >> 8) - HEADER_AT;
	if (plan->setup_bytes > sizeof(h))
		plan->setup_bytes = sizeof(h);
	memcpy(plan->setup, &h, plan->setup_bytes);
	return 0;
}
