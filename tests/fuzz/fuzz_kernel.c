/*
 * Kernels of any content, ELF or bzImage, loaded into a guest's memory with an initramfs. What is
 * accepted begins within memory that was written, and nothing but guest memory is written.
 */
#include "vmm/arch/arch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM (32u << 20)
#define GUARD 0xa5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool what)
{
	if (!what)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static int kernel = -1, initramfs = -1;
	static uint8_t *map;
	struct arch_image img = {.cmdline = "panic=-1", .vcpus = 2};
	struct guest_mem m = {.n = 1};
	struct arch_entry entry;

	if (kernel < 0) {
		kernel = memfd_create("kernel", MFD_CLOEXEC);
		initramfs = memfd_create("initramfs", MFD_CLOEXEC);
		require(kernel >= 0 && initramfs >= 0 && write(initramfs, "0707", 4) == 4);
		map = mmap(NULL, RAM + 8192, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		require(map != MAP_FAILED);
		memset(map, GUARD, 4096);
		memset(map + 4096 + RAM, GUARD, 4096);
	}
	/* Afresh, as a loader may have mapped the file of the last round there. */
	require(mmap(map + 4096, RAM, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED);
	require(ftruncate(kernel, 0) == 0 && pwrite(kernel, data, len, 0) == (ssize_t)len);
	m.r[0] = (struct mem_region){.size = RAM, .hva = map + 4096, .fd = -1};
	img.kernel_fd = kernel;
	img.initramfs_fd = initramfs;
	for (int machine = ARCH_OWN; machine <= ARCH_MICROVM; machine++) {
		img.machine = (enum arch_machine)machine;
		if (arch_load(&m, &img, &entry, NULL) == 0)
			require(entry.ip < RAM && mem_at(&m, entry.table, 4096) &&
				mem_at(&m, entry.initramfs, 4));
	}
	for (unsigned i = 0; i < 4096; i++)
		require(map[i] == GUARD && map[4096 + RAM + i] == GUARD);
	return 0;
}
