/*
 * jail.h - what husk-vmm may still do once its machine is made. See docs/security.md.
 */
#ifndef HUSK_VMM_JAIL_H
#define HUSK_VMM_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

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
	bool engine_qemu;     /* QEMU has to be waited for, and vhost-user and QMP served */
	uint64_t file_bytes;  /* the largest file that it may write: a disk, or the log */
	const char *apparmor; /* the profile that it enters; NULL: none */
	const char *selinux;  /* the label that it gets; NULL: none */
};

/* The first thing of husk-vmm: learns who it is, and leaves the namespaces that no start needs
 * (network, IPC, UTS, cgroup). What it starts from now on has none of them either. */
int jail_begin(struct error *err);

/* This process's pid as its parent knows it (husk-vmm is PID 1 to itself), and the user and group
 * that this VM has for itself: nobody's where the range is not mapped (in the user namespace of a
 * container). Known from jail_begin() on. */
pid_t jail_pid(void);
unsigned jail_uid(void);

/* Takes from this process, for good, what only its start needed: user, groups, capabilities, file
 * systems, namespaces, most system calls. Once, while it has one thread, with everything open that
 * it will ever need but what comes over its sockets. */
int jail_close(const struct jail_config *cfg, struct error *err);
/* Narrows the calling thread further. Does nothing unless the jail is closed. Ends the process when
 * it fails: a thread never runs with more than its list. */
void jail_thread(enum jail_role role);

/* Opens the calling thread's attribute of AppArmor or SELinux: "current", or "exec" for its next
 * execve. To be written by jail_confine(), with the credentials that it was opened with. -1 with
 * errno. */
int jail_open_attribute(bool apparmor, const char *name);
int jail_confine(int attribute, const char *text);

/* ---- the steps that the opener and the minder take too; system calls alone, so that they may be
 * taken between fork and exec. Each returns -1 with errno. */

/* Leaves every mount of this process's mount namespace behind, for the directory `root`
 * (minder_empty_root()). The namespace must be its own. */
int jail_change_root(int root);
/* Gives up all of the bounding set but the capabilities of the mask `keep`. */
int jail_bound_capabilities(uint64_t keep);
/* Permitted and effective capabilities become `keep`, inheritable and ambient ones none. */
int jail_set_capabilities(uint64_t keep);
/* By Landlock: no path can be used (but to read and execute, if that is so), no TCP port, no
 * abstract socket of others, no signal to others. 1: this kernel has no Landlock. After
 * no_new_privs. */
int jail_restrict_paths(bool may_read);
/* The opener's list of system calls, from now on. */
int jail_filter_opener(void);
/* The same for QEMU's minder. */
int jail_filter_minder(void);

#endif
