/*
 * host_policy.h - fields of config.json that are about a host's processes, and so hold for the
 * machine's: linux.memoryPolicy, linux.intelRdt, process.apparmorProfile, process.selinuxLabel,
 * linux.mountLabel.
 */
#ifndef HUSK_SHIM_HOST_POLICY_H
#define HUSK_SHIM_HOST_POLICY_H

#include "oci/spec.h"

/* Can this host do what is asked for? Errors name the field. */
int host_policy_check(const struct oci_spec *spec, struct error *err);
/* For a container that joins a pod, whose machine has been made: what cannot be changed any more is
 * refused, and a profile or label, which is the sandbox's, is told. */
int host_policy_check_joins(const struct oci_spec *spec, struct error *err);
/* The same for a process that is to be exec'ed in a container of configuration `spec`, whose
 * machine has its profile and label already. */
int host_policy_check_exec(const struct oci_spec *spec, const struct oci_process *p,
			   struct error *err);

/* The AppArmor profile, or SELinux label, that the machine is to enter; NULL: none. */
const char *host_policy_apparmor(const struct oci_process *p);
const char *host_policy_selinux(const struct oci_process *p);

/* In the process that becomes the machine: takes memory policy and resctrl group. */
int host_policy_enter(const struct oci_spec *spec, const char *id, struct error *err);
/* Removes what it made in the resctrl file system, once the machine is gone. */
void host_policy_leave(const struct oci_spec *spec, const char *id);

/* The modes and flags of linux.memoryPolicy that are known, for `features`. */
#define POLICY_NAMES_MAX 16
void memory_policy_names(const char *modes[POLICY_NAMES_MAX], const char *flags[POLICY_NAMES_MAX]);

/* ---- parts, for tests */

#define RESCTRL_DIR "/sys/fs/resctrl"

/* The group of the container in the resctrl file system at `root`, with this process in it. */
int rdt_enter(const char *root, const struct oci_intel_rdt *r, const char *id, struct error *err);
void rdt_leave(const char *root, const struct oci_intel_rdt *r, const char *id);

/* Mode with flags as set_mempolicy(2) has them, and the nodes as bits. */
#define POLICY_NODES_MAX 1024
struct memory_policy {
	int mode;
	unsigned long nodes[POLICY_NODES_MAX / (8 * sizeof(unsigned long))];
};
int memory_policy_parse(const struct oci_memory_policy *m, struct memory_policy *p,
			struct error *err);

#endif
