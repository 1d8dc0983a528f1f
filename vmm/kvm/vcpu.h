/*
 * vcpu.h - the virtual processors: a thread each, which runs the guest and serves its exits. See
 * vcpu.c.
 */
#ifndef HUSK_VMM_KVM_VCPU_H
#define HUSK_VMM_KVM_VCPU_H

#include <pthread.h>

#include "vmm/arch/arch.h"
#include "vmm/kvm/vm.h"

struct mmio_bus;
struct vcpus;

struct vcpus_config {
	const struct vm *vm;
	struct mmio_bus *bus;
	struct arch_ports *ports;
	pthread_mutex_t *ports_lock; /* held over arch_io() */
	unsigned n;
};

/* Why the machine ended. */
enum vcpu_end {
	VCPU_GOES_ON,
	VCPU_RESET,    /* the guest reset it */
	VCPU_PANIC,    /* the guest's kernel said that it panicked */
	VCPU_OFF,      /* the guest turned it off */
	VCPU_SHUTDOWN, /* the processor shut down: a triple fault */
	VCPU_FAILED,   /* KVM could not go on; the text says why */
};

/* Exits to user space, by what they were for. */
struct vcpu_exits {
	uint64_t mmio_read, mmio_write, io, interrupted, other;
};

/* Makes the vCPUs, not their threads. */
struct vcpus *vcpus_new(const struct vcpus_config *cfg, struct error *err);
/* Stops the threads and frees all. */
void vcpus_free(struct vcpus *s);

/* KVM's descriptor of a vCPU. While it runs KVM does nothing else with it. */
int vcpus_fd(const struct vcpus *s, unsigned i);
/* Readable when a vCPU ended the machine or all are parked; vcpus_news() makes it unreadable. */
int vcpus_event_fd(const struct vcpus *s);

int vcpus_run(struct vcpus *s, struct error *err); /* makes the threads */
void vcpus_pause(struct vcpus *s);		   /* asks them to park */
void vcpus_resume(struct vcpus *s);
void vcpus_stop(struct vcpus *s); /* returns when no thread is left */

struct vcpus_news {
	bool parked; /* all of them, as vcpus_pause() asked */
	enum vcpu_end end;
	unsigned who;	  /* which vCPU ended the machine */
	const char *text; /* VCPU_FAILED */
};
void vcpus_news(struct vcpus *s, struct vcpus_news *out);

/* Of all vCPUs together; any thread, at any time. */
void vcpus_exits(const struct vcpus *s, struct vcpu_exits *out);

#endif
