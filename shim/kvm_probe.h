/*
 * kvm_probe.h - does /dev/kvm really run guests?
 *
 * It may open, make VMs and vCPUs, and then run guest kernels by instruction emulation, three
 * orders of magnitude too slow, on hosts whose KVM was made for paravirtual guests alone. The probe
 * runs a short loop in a vCPU and looks at the time.
 */
#ifndef HUSK_SHIM_KVM_PROBE_H
#define HUSK_SHIM_KVM_PROBE_H

#include "lib/error.h"

enum kvm_verdict { KVM_ABSENT, KVM_EMULATES, KVM_RUNS };

/* Takes well below 50 ms, whatever it finds. KVM_ABSENT fills *err with the reason. */
enum kvm_verdict kvm_probe(struct error *err);

#endif
