/*
 * A virtual machine and its processors, as KVM wants to be told.
 *
 * Local APICs, I/O APIC and 8259s are KVM's own: an interrupt reaches a guest without us. There is
 * no PIT: the frequencies are known to a guest (kvmclock, CPUID), and each local APIC has a timer
 * with a deadline. Only where KVM cannot give that timer, there is a PIT to measure by.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/arch/x86_64/machine.h"

#define MSR_MISC_ENABLE 0x1a0
#define MISC_ENABLE_FAST_STRING 1u
#define MISC_ENABLE_NO_BTS (1u << 11) /* no performance counters: nor what depends on them */
#define MISC_ENABLE_NO_PEBS (1u << 12)
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLED_WB 0x806u /* enabled; all memory is write-back */

#define RFLAGS_ALWAYS 2u

struct arch_vm {
	unsigned vcpus;
	bool tsc_deadline;
	struct cpu_model model;
};

/* Performance counters of the host are no guest's business; KVM since 5.18 can be told so. */
static void forbid_pmu(int vm)
{
	struct kvm_enable_cap cap = {.cap = KVM_CAP_PMU_CAPABILITY, .args = {KVM_PMU_CAP_DISABLE}};

	ioctl(vm, KVM_ENABLE_CAP, &cap);
}

static int make_irqchip(int kvm, int vm, bool pit, struct error *err)
{
	struct kvm_pit_config cfg = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_IRQCHIP) <= 0)
		return error_kind(err, ERR_UNSUPPORTED, "KVM: no interrupt controllers");
	if (ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0)
		return error_errno(err, "KVM_CREATE_IRQCHIP");
	if (pit && ioctl(vm, KVM_CREATE_PIT2, &cfg) < 0)
		return error_errno(err, "KVM_CREATE_PIT2");
	return 0;
}

/* Intel processors that cannot run real mode, in which all but the first vCPU begin, have it made
 * up by KVM, in pages of the guest's that are kept free for it: a page table at GPA_REAL_MODE,
 * which is KVM's own choice, and three pages behind it. Elsewhere this does nothing. */
static int reserve_real_mode(int vm, struct error *err)
{
	if (ioctl(vm, KVM_SET_TSS_ADDR, GPA_REAL_MODE + 0x1000ul) < 0)
		return error_errno(err, "KVM_SET_TSS_ADDR");
	return 0;
}

static int supported_cpuid(int kvm, struct cpu_model *m, struct error *err)
{
	cleanup_free struct kvm_cpuid2 *c =
		xcalloc(1, sizeof(*c) + CPUID_MAX * sizeof(c->entries[0]));

	c->nent = CPUID_MAX;
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, c) < 0)
		return error_errno(err, "KVM_GET_SUPPORTED_CPUID");
	m->n = c->nent < CPUID_MAX ? c->nent : CPUID_MAX;
	memcpy(m->e, c->entries, m->n * sizeof(m->e[0]));
	return 0;
}

struct arch_vm *arch_vm_new(int kvm, int vm, unsigned vcpus, struct error *err)
{
	cleanup_free struct arch_vm *v = xcalloc(1, sizeof(*v));
	int khz;

	if (vcpus == 0 || vcpus > VCPUS_MAX) {
		error_kind(err, ERR_INVALID, "vcpus: 1 to %u, not %u", VCPUS_MAX, vcpus);
		return NULL;
	}
	v->vcpus = vcpus;
	v->tsc_deadline = ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	forbid_pmu(vm);
	if (reserve_real_mode(vm, err) < 0 || make_irqchip(kvm, vm, !v->tsc_deadline, err) < 0 ||
	    supported_cpuid(kvm, &v->model, err) < 0)
		return NULL;
	khz = ioctl(vm, KVM_GET_TSC_KHZ); /* of a VM since 5.17 */
	v->model.tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	cpuid_model(&v->model, v->tsc_deadline);
	return steal_ptr(&v);
}

void arch_vm_free(struct arch_vm *v)
{
	free(v);
}

static int set_cpuid(const struct arch_vm *v, int vcpu, unsigned index, struct error *err)
{
	cleanup_free struct cpu_model *m = xcalloc(1, sizeof(*m));
	cleanup_free struct kvm_cpuid2 *c = NULL;

	*m = v->model;
	cpuid_vcpu(m, index, v->vcpus);
	c = xcalloc(1, sizeof(*c) + m->n * sizeof(c->entries[0]));
	c->nent = m->n;
	memcpy(c->entries, m->e, m->n * sizeof(m->e[0]));
	if (ioctl(vcpu, KVM_SET_CPUID2, c) < 0)
		return error_errno(err, "vCPU %u: KVM_SET_CPUID2", index);
	return 0;
}

static int set_msrs(int vcpu, unsigned index, struct error *err)
{
	static const struct kvm_msr_entry msrs[] = {
		{.index = MSR_MISC_ENABLE,
		 .data = MISC_ENABLE_FAST_STRING | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS},
		{.index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED_WB},
	};
	union {
		struct kvm_msrs m;
		uint8_t room[sizeof(struct kvm_msrs) + sizeof(msrs)];
	} u = {.m.nmsrs = ARRAY_LEN(msrs)};

	memcpy(u.m.entries, msrs, sizeof(msrs));
	if (ioctl(vcpu, KVM_SET_MSRS, &u) != (int)ARRAY_LEN(msrs))
		return error_errno(err, "vCPU %u: KVM_SET_MSRS", index);
	return 0;
}

static int set_registers(int vcpu, const struct arch_entry *entry, struct error *err)
{
	struct kvm_regs regs = {.rip = entry->ip, .rsi = entry->table, .rflags = RFLAGS_ALWAYS};
	struct kvm_sregs sregs;

	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return error_errno(err, "vCPU 0: KVM_GET_SREGS");
	boot_sregs(&sregs);
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
		return error_errno(err, "vCPU 0: KVM_SET_SREGS");
	if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return error_errno(err, "vCPU 0: KVM_SET_REGS");
	return 0;
}

int arch_vcpu_init(const struct arch_vm *v, int vcpu, unsigned index,
		   const struct arch_entry *entry, struct error *err)
{
	if (set_cpuid(v, vcpu, index, err) < 0 || set_msrs(vcpu, index, err) < 0)
		return -1;
	/* KVM lets the others wait for the guest's INIT and start-up interrupts. */
	return index == 0 ? set_registers(vcpu, entry, err) : 0;
}
