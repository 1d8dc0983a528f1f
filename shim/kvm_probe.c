#include "shim/kvm_probe.h"
#include "lib/cleanup.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#define CODE_GPA 0x1000
#define ROUNDS 4000
/* How much longer so many rounds take than one: microseconds on a CPU, about 5 ms in an emulator of
 * instructions. */
#define LIMIT_US 1000

/* Real mode: 1: dec cx; jnz 1b; hlt */
static const uint8_t code[] = {0x49, 0x75, 0xfd, 0xf4};

static int set_registers(int vcpu, unsigned rounds)
{
	struct kvm_sregs s;
	struct kvm_regs r = {.rip = CODE_GPA, .rcx = rounds, .rflags = 2};

	if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
		return -1;
	s.cs.base = 0;
	s.cs.selector = 0;
	return ioctl(vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(vcpu, KVM_SET_REGS, &r) < 0 ? -1 : 0;
}

/* Of this thread: however busy the machine is. */
static int64_t cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Runs to the hlt; -1 if it does not get there. */
static int64_t timed_run(int vcpu, const struct kvm_run *run, unsigned rounds)
{
	int64_t t = cpu_us();

	if (set_registers(vcpu, rounds) < 0 || ioctl(vcpu, KVM_RUN, 0) < 0 ||
	    run->exit_reason != KVM_EXIT_HLT)
		return -1;
	return cpu_us() - t;
}

static enum kvm_verdict look(int vcpu, const struct kvm_run *run)
{
	int64_t one, all;

	/* The first entry pays for page tables and the like: it is not looked at. */
	if (timed_run(vcpu, run, 1) < 0)
		return KVM_ABSENT;
	one = timed_run(vcpu, run, 1);
	all = timed_run(vcpu, run, ROUNDS);
	if (one < 0 || all < 0)
		return KVM_ABSENT;
	return all - one < LIMIT_US ? KVM_RUNS : KVM_EMULATES;
}

static enum kvm_verdict run_loop(int kvm, int vm, uint8_t *ram, struct error *err)
{
	struct kvm_userspace_memory_region region = {.memory_size = 0x10000,
						     .userspace_addr = (uintptr_t)ram};
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	cleanup_close int vcpu = -1;
	enum kvm_verdict v;
	struct kvm_run *run;

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
	v = look(vcpu, run);
	munmap(run, (size_t)size);
	if (v == KVM_ABSENT)
		error_set(err, "opens, but a vCPU does not run");
	return v;
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
