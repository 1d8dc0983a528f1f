/*
 * What CPUID tells a guest (Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E; Linux,
 * Documentation/virt/kvm/x86/cpuid.rst).
 *
 * It begins with all that KVM supports on this host, paravirtual features included. Taken away is
 * what would only make the host's surface larger (virtualization within the guest, performance
 * counters, enclaves, memory encryption) and what tells of the host's shape. Put there: one package
 * with a core for each vCPU, without threads; and the frequencies, so that nothing is measured.
 */
#include <string.h>

#include "vmm/arch/x86_64/machine.h"

#define F1_ECX_MONITOR (1u << 3)
#define F1_ECX_VMX (1u << 5)
#define F1_ECX_PDCM (1u << 15)
#define F1_ECX_TSC_DEADLINE (1u << 24)
#define F1_ECX_HYPERVISOR (1u << 31)
#define F1_EDX_HTT (1u << 28)
#define F7_EBX_SGX (1u << 2)
#define F7_EBX_PT (1u << 25)
#define F7_ECX_SGX_LC (1u << 30)
#define F7_EDX_SGX_KEYS (1u << 1)
#define F7_EDX_ARCH_CAPABILITIES (1u << 29)
#define E1_ECX_CMP_LEGACY (1u << 1)
#define E1_ECX_SVM (1u << 2)
#define E1_ECX_TOPOLOGY (1u << 22)
#define E1_ECX_PERFCTR (1u << 23)
#define E1_ECX_PERFCTR_LLC (1u << 28)

#define LEVEL_CORE 2u /* leaf 0xb: type of a level, ECX bits 15:8 */
#define LEVEL_SMT 1u

#define KVM_LEAF 0x40000000u
#define FREQUENCY_LEAF 0x40000010u /* EAX: TSC, EBX: APIC timer; kHz */
#define APIC_KHZ 1000000u	   /* KVM's local APIC counts nanoseconds */

static struct kvm_cpuid_entry2 *find(struct cpu_model *m, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < m->n; i++) {
		struct kvm_cpuid_entry2 *e = &m->e[i];

		if (e->function == function &&
		    (e->index == index || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			return e;
	}
	return NULL;
}

static void drop(struct cpu_model *m, uint32_t function)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->n; i++)
		if (m->e[i].function != function)
			m->e[n++] = m->e[i];
	m->n = n;
}

static void add(struct cpu_model *m, const struct kvm_cpuid_entry2 *e)
{
	if (m->n < CPUID_MAX)
		m->e[m->n++] = *e;
}

static bool is_intel(struct cpu_model *m)
{
	const struct kvm_cpuid_entry2 *e = find(m, 0, 0);

	return e && e->ebx == 0x756e6547; /* "Genu" */
}

/* Those that are left out read as zeros. */
static void drop_leaves(struct cpu_model *m)
{
	static const uint32_t leaves[] = {
		5,	    /* MONITOR */
		0xa,	    /* performance counters */
		0x12,	    /* SGX */
		0x14,	    /* processor trace */
		0x8000000a, /* SVM */
		0x8000001f, /* memory encryption */
		0x80000022, /* performance counters of AMD */
		0x80000026, /* topology once more, of the host */
	};

	for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
		drop(m, leaves[i]);
}

static void frequencies(struct cpu_model *m)
{
	struct kvm_cpuid_entry2 *e = find(m, KVM_LEAF, 0);

	if (!e || !m->tsc_khz)
		return;
	if (e->eax < FREQUENCY_LEAF)
		e->eax = FREQUENCY_LEAF;
	drop(m, FREQUENCY_LEAF);
	add(m, &(struct kvm_cpuid_entry2){
		       .function = FREQUENCY_LEAF, .eax = m->tsc_khz, .ebx = APIC_KHZ});
}

void cpuid_model(struct cpu_model *m, bool tsc_deadline)
{
	struct kvm_cpuid_entry2 *e;

	drop_leaves(m);
	e = find(m, 1, 0);
	if (e) {
		e->ecx &= ~(F1_ECX_MONITOR | F1_ECX_VMX | F1_ECX_PDCM);
		e->ecx |= F1_ECX_HYPERVISOR;
		if (tsc_deadline)
			e->ecx |= F1_ECX_TSC_DEADLINE;
	}
	e = find(m, 7, 0);
	if (e) {
		e->ebx &= ~(F7_EBX_SGX | F7_EBX_PT);
		e->ecx &= ~F7_ECX_SGX_LC;
		e->edx &= ~F7_EDX_SGX_KEYS;
		/* KVM offers the register on every processor; those of AMD have none, and their
		 * guests would read it four times. */
		if (!is_intel(m))
			e->edx &= ~F7_EDX_ARCH_CAPABILITIES;
	}
	e = find(m, 0x80000001, 0);
	if (e)
		e->ecx &= ~(E1_ECX_SVM | E1_ECX_PERFCTR | E1_ECX_PERFCTR_LLC);
	frequencies(m);
}

/* Bits that the ids 0 to n-1 take. */
static uint32_t id_bits(unsigned n)
{
	return n > 1 ? 32 - (uint32_t)__builtin_clz(n - 1) : 0;
}

/* Leaves 0xb and 0x1f: a thread a core, `vcpus` cores a package. */
static void extended_topology(struct cpu_model *m, uint32_t leaf, unsigned index, unsigned vcpus)
{
	if (!find(m, leaf, 0))
		return;
	drop(m, leaf);
	for (uint32_t level = 0; level < 3; level++) {
		struct kvm_cpuid_entry2 e = {.function = leaf,
					     .index = level,
					     .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
					     .ecx = level,
					     .edx = index};

		if (level == 0) {
			e.ebx = 1;
			e.ecx |= LEVEL_SMT << 8;
		} else if (level == 1) {
			e.eax = id_bits(vcpus);
			e.ebx = vcpus;
			e.ecx |= LEVEL_CORE << 8;
		}
		add(m, &e);
	}
}

/* Leaf 4 (Intel) and 0x8000001d (AMD), a cache a subleaf: EAX bits 25:14 are the ids that share it,
 * less one. The last level is everybody's, the others are a core's own. */
static void caches(struct cpu_model *m, unsigned vcpus)
{
	uint32_t sharing = (1u << id_bits(vcpus)) - 1;

	for (uint32_t i = 0; i < m->n; i++) {
		struct kvm_cpuid_entry2 *e = &m->e[i];

		if ((e->function != 4 && e->function != 0x8000001d) || !(e->eax & 0x1f))
			continue;
		e->eax &= ~(0xfffu << 14);
		if ((e->eax >> 5 & 7) >= 3)
			e->eax |= (sharing & 0xfff) << 14;
		if (e->function == 4) /* bits 31:26: cores a package, less one */
			e->eax = (e->eax & ~(0x3fu << 26)) | (sharing & 0x3f) << 26;
	}
}

static void amd_topology(struct cpu_model *m, unsigned index, unsigned vcpus)
{
	struct kvm_cpuid_entry2 *e = find(m, 0x80000001, 0);

	if (e && vcpus > 1)
		e->ecx |= E1_ECX_CMP_LEGACY;
	else if (e)
		e->ecx &= ~E1_ECX_CMP_LEGACY;
	if (e && !(e->ecx & E1_ECX_TOPOLOGY))
		drop(m, 0x8000001e);
	e = find(m, 0x80000008, 0);
	if (e)
		e->ecx = (e->ecx & ~0xf0ffu) | ((vcpus - 1) & 0xff) | id_bits(vcpus) << 12;
	e = find(m, 0x8000001e, 0);
	if (e) {
		e->eax = index;
		e->ebx = index & 0xff; /* a thread a core */
		e->ecx = 0;	       /* one node */
		e->edx = 0;
	}
}

void cpuid_vcpu(struct cpu_model *m, unsigned index, unsigned vcpus)
{
	struct kvm_cpuid_entry2 *e = find(m, 1, 0);

	if (e) {
		e->ebx = (e->ebx & 0xffff) | (vcpus & 0xff) << 16 | index << 24;
		e->edx = vcpus > 1 ? e->edx | F1_EDX_HTT : e->edx & ~F1_EDX_HTT;
	}
	extended_topology(m, 0xb, index, vcpus);
	extended_topology(m, 0x1f, index, vcpus);
	caches(m, vcpus);
	if (!is_intel(m))
		amd_topology(m, index, vcpus);
}
