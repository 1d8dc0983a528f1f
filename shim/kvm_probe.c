#include "shim/kvm_probe.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define CODE_GPA 0x1000
#define ROUNDS 10000
/* 10,000 rounds take microseconds on a CPU and about 10 ms in an emulator of instructions. */
#define LIMIT_US 2000

/* Real mode: mov cx, ROUNDS; 1: dec cx; jnz 1b; hlt */
static const uint8_t code[] = {0xb9, ROUNDS & 0xff, ROUNDS >> 8, 0x49, 0x75, 0xfd, 0xf4};

static int set_registers(int vcpu)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = CODE_GPA, .rflags = 2};

	if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
		return -1;
	s.cs.base = 0;
	s.cs.selector = 0;
	return ioctl(vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(vcpu, KVM_SET_REGS, &r) < 0 ? -1 : 0;
}

/* Runs to the hlt. The first entry pays for page tables and the like: it is not timed. */
static int timed_run(int vcpu, const struct kvm_run *run, uint64_t *us)
{
	for (int i = 0; i < 2; i++) {
		uint64_t t = now_us();

		if (set_registers(vcpu) < 0 || ioctl(vcpu, KVM_RUN, 0) < 0 ||
		    run->exit_reason != KVM_EXIT_HLT)
			return -1;
		*us = now_us() - t;
	}
	return 0;
}

static enum kvm_verdict run_loop(int kvm, int vm, uint8_t *ram, struct error *err)
{
	struct kvm_userspace_memory_region region = {.memory_size = 0x10000,
						     .userspace_addr = (uintptr_t)ram};
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	cleanup_close int vcpu = -1;
	struct kvm_run *run;
	uint64_t us = 0;
	int r;

	memcpy(ram + CODE_GPA, code, sizeof(code));
	if (size < (int)sizeof(*run) || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ||
	    (vcpu = ioctl(vm, KVM_CREATE_VCPU, 0)) < 0) {
		error_errno(err, "make a vCPU");
		return KVM_ABSENT;
	}
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED) {
		error_errno(err, "map a vCPU");
		return KVM_ABSENT;
	}
	r = timed_run(vcpu, run, &us);
	munmap(run, (size_t)size);
	if (r < 0) {
		error_set(err, "opens, but a vCPU does not run");
		return KVM_ABSENT;
	}
	return us > LIMIT_US ? KVM_EMULATES : KVM_RUNS;
}

enum kvm_verdict kvm_probe(struct error *err)
{
	cleanup_close int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	cleanup_close int vm = -1;
	enum kvm_verdict v;
	uint8_t *ram;

	if (kvm < 0) {
		error_errno(err, "/dev/kvm");
		return KVM_ABSENT;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		error_errno(err, "make a VM");
		return KVM_ABSENT;
	}
	ram = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED) {
		error_errno(err, "map memory");
		return KVM_ABSENT;
	}
	v = run_loop(kvm, vm, ram, err);
	munmap(ram, 0x10000);
	return v;
}
