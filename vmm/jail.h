/*
 * jail.h - what husk-vmm may still do once its machine is made. See docs/security.md.
 */
#ifndef HUSK_VMM_JAIL_H
#define HUSK_VMM_JAIL_H

#include <stdbool.h>

#include "lib/error.h"

/* Which system calls: a filter a kind of thread, made by the build from the lists that stand next
 * to the code that needs them (vmm/syscalls). */
enum jail_role {
	JAIL_LOOP,  /* the loop's thread: the union of all, as threads inherit it */
	JAIL_VCPU,  /* a vCPU of engine kvm */
	JAIL_BLOCK, /* a disk's thread */
	JAIL_NET,   /* a network card's thread */
};

struct jail_config {
	bool engine_qemu; /* QEMU has to be waited for, and vhost-user and QMP served */
};

/* Takes from this process what only its start needed: user, groups, capabilities, file systems,
 * namespaces, most system calls. Once, while it has one thread, with everything open that it will
 * ever need but what comes over its sockets. */
int jail_close(const struct jail_config *cfg, struct error *err);
/* Narrows the calling thread further. Does nothing unless the jail is closed. Ends the process when
 * it fails: a thread never runs with more than its list. */
void jail_thread(enum jail_role role);

#endif
