#include "vmm/kvm/vm.h"
#include "lib/cleanup.h"
#include "vmm/arch/arch.h"
#include "vmm/mmio.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

/* A device that is plugged in, or out. */
/* syscalls loop: ioctl(1==KVM_IRQFD) ioctl(1==KVM_IOEVENTFD) ioctl(1==KVM_REGISTER_COALESCED_MMIO)
 *	ioctl(1==KVM_UNREGISTER_COALESCED_MMIO) */

#define KVM_PATH "/dev/kvm"
#define MEM_NAME "husk-guest"
#define HUGE_PAGE (2u << 20)
#define KVM_API 12 /* the only one there is (Documentation/virt/kvm/api.rst) */

static int check_capabilities(struct vm *m, struct error *err)
{
	static const struct {
		int cap;
		const char *name;
	} needed[] = {
		{KVM_CAP_USER_MEMORY, "user memory"},
		{KVM_CAP_READONLY_MEM, "read-only memory"},
		{KVM_CAP_IOEVENTFD, "ioeventfd"},
		{KVM_CAP_IRQFD, "irqfd"},
		{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
	};
	int version = ioctl(m->kvm, KVM_GET_API_VERSION, 0), n;

	if (version != KVM_API)
		return error_kind(err, ERR_UNSUPPORTED, KVM_PATH ": API version %d, not %d",
				  version, KVM_API);
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if (ioctl(m->kvm, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return error_kind(err, ERR_UNSUPPORTED,
					  KVM_PATH ": this host's KVM has no %s (use engine qemu)",
					  needed[i].name);
	n = ioctl(m->kvm, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
	m->ring_page = n > 0 ? (unsigned)n : 0;
	n = ioctl(m->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	m->vcpus_max = n > 0 ? (unsigned)n : 1;
	n = ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (n < (int)sizeof(struct kvm_run))
		return error_errno(err, KVM_PATH ": size of a vCPU's mapping");
	m->run_bytes = (size_t)n;
	return 0;
}

static int open_kvm(struct vm *m, struct error *err)
{
	m->kvm = open(KVM_PATH, O_RDWR | O_CLOEXEC);
	if (m->kvm < 0)
		return error_errno(err, "open " KVM_PATH);
	if (check_capabilities(m, err) < 0)
		return -1;
	do
		m->vm = ioctl(m->kvm, KVM_CREATE_VM, 0);
	while (m->vm < 0 && errno == EINTR);
	if (m->vm < 0)
		return error_errno(err, KVM_PATH ": make a virtual machine");
	return 0;
}

/* A file of a tmpfs of its own, which has huge pages wherever they are asked for. Memory that is
 * not of a mounted tmpfs, a memfd's as well, has them only if the host says so in shmem_enabled,
 * which is "never" by default. -1: this host's kernel has none, or does not let us mount. */
static int huge_file(uint64_t bytes)
{
	cleanup_close int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), dir = -1;
	char size[32];
	int fd;

	/* All of the file in huge pages, also its last one. */
	snprintf(size, sizeof(size), "%" PRIu64, bytes + HUGE_PAGE);
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "huge", "advise", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	dir = fsmount(fs, FSMOUNT_CLOEXEC,
		      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (dir < 0)
		return -1;
	fd = openat(dir, MEM_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		unlinkat(dir, MEM_NAME, 0);
	return fd;
}

/* Its size is final: nobody can truncate it under a mapping. */
static int plain_file(uint64_t bytes, struct error *err)
{
	cleanup_close int fd = memfd_create(MEM_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return error_errno(err, "guest memory: memfd");
	if (ftruncate(fd, (off_t)bytes) < 0)
		return error_errno(err, "guest memory: %" PRIu64 " bytes", bytes);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return error_errno(err, "guest memory: seal");
	return steal_fd(&fd);
}

/* One file for all of it, which can be saved, shared and punched as a whole. */
static int make_memory(struct vm *m, uint64_t bytes, struct error *err)
{
	struct arch_range r[ARCH_RAM_MAX];
	unsigned n = arch_ram(bytes, r);
	uint64_t offset = 0;

	m->mem_fd = huge_file(bytes);
	if (m->mem_fd < 0)
		m->mem_fd = plain_file(bytes, err);
	else if (ftruncate(m->mem_fd, (off_t)bytes) < 0)
		return error_errno(err, "guest memory: %" PRIu64 " bytes", bytes);
	if (m->mem_fd < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		if (mem_add(&m->mem, r[i].gpa, r[i].bytes, 0, m->mem_fd, offset, err) < 0)
			return -1;
		m->mem.r[i].fd = m->mem_fd;
		offset += r[i].bytes;
	}
	return 0;
}

static int make_pages(struct vm *m, unsigned nslots, struct error *err)
{
	void *p = mmap(NULL, (size_t)nslots * MMIO_SLOT_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return error_errno(err, "register pages: map");
	m->pages = p;
	m->nslots = nslots;
	return 0;
}

int vm_open(struct vm *m, uint64_t bytes, unsigned nslots, struct error *err)
{
	*m = (struct vm){.kvm = -1, .vm = -1, .mem_fd = -1};
	if (open_kvm(m, err) == 0 && make_memory(m, bytes, err) == 0 &&
	    make_pages(m, nslots, err) == 0)
		return 0;
	vm_close(m);
	return -1;
}

void vm_close(struct vm *m)
{
	/* The machine first: it would have to follow every change of its memory. */
	close_fd(&m->vm);
	close_fd(&m->kvm);
	if (m->pages)
		munmap(m->pages, (size_t)m->nslots * MMIO_SLOT_BYTES);
	m->pages = NULL;
	mem_clear(&m->mem);
	close_fd(&m->mem_fd);
}

static int add_memory(const struct vm *m, uint32_t number, uint32_t flags, uint64_t gpa,
		      uint64_t bytes, const void *hva, struct error *err)
{
	struct kvm_userspace_memory_region r = {.slot = number,
						.flags = flags,
						.guest_phys_addr = gpa,
						.memory_size = bytes,
						.userspace_addr = (uintptr_t)hva};

	if (ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return error_errno(err, "guest memory: 0x%" PRIx64 "+0x%" PRIx64, gpa, bytes);
	return 0;
}

int vm_map(struct vm *m, struct error *err)
{
	for (unsigned i = 0; i < m->mem.n; i++)
		if (add_memory(m, i, 0, m->mem.r[i].gpa, m->mem.r[i].size, m->mem.r[i].hva, err) <
		    0)
			return -1;
	return add_memory(m, m->mem.n, KVM_MEM_READONLY, arch_slots_gpa(),
			  (uint64_t)m->nslots * MMIO_SLOT_BYTES, m->pages, err);
}

static uint64_t slot_gpa(unsigned slot)
{
	return arch_slots_gpa() + (uint64_t)slot * MMIO_SLOT_BYTES;
}

int vm_irqfd(const struct vm *m, unsigned irq, int fd, struct error *err)
{
	struct kvm_irqfd q = {.fd = (uint32_t)fd, .gsi = irq};

	if (ioctl(m->vm, KVM_IRQFD, &q) < 0)
		return error_errno(err, "interrupt %u", irq);
	return 0;
}

int vm_irq(void *arg, unsigned slot, int fd, struct error *err)
{
	return vm_irqfd(arg, arch_slot_irq(slot), fd, err);
}

int vm_io(void *arg, unsigned slot, uint32_t off, uint32_t value, int fd, struct error *err)
{
	const struct vm *m = arg;
	struct kvm_ioeventfd q = {.datamatch = value,
				  .addr = slot_gpa(slot) + off,
				  .len = 4,
				  .fd = fd,
				  .flags = KVM_IOEVENTFD_FLAG_DATAMATCH};

	if (ioctl(m->vm, KVM_IOEVENTFD, &q) < 0)
		return error_errno(err, "slot %u: ioeventfd at 0x%x", slot, off);
	return 0;
}

int vm_coalesce(struct vm *m, unsigned slot, struct error *err)
{
	struct mmio_range r[4];
	unsigned n = mmio_lazy_ranges(r);

	if (!m->ring_page || m->lazy >> slot & 1)
		return 0;
	for (unsigned i = 0; i < n; i++) {
		struct kvm_coalesced_mmio_zone z = {.addr = slot_gpa(slot) + r[i].off,
						    .size = r[i].len};

		if (ioctl(m->vm, KVM_REGISTER_COALESCED_MMIO, &z) < 0)
			return error_errno(err, "slot %u: coalesced registers at 0x%x", slot,
					   r[i].off);
	}
	m->lazy |= UINT64_C(1) << slot;
	return 0;
}
