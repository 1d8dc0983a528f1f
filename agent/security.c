#include "agent/security.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/caps.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_CLASS_SHIFT 13

/* sched_setattr(2); <linux/sched/types.h> cannot be had together with <sched.h>. */
struct sched_attributes {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* ---- in the agent */

static int set_scheduler(pid_t pid, const struct oci_scheduler *s, struct error *err)
{
	struct sched_attributes attr = {
		.size = sizeof(attr),
		.policy = s->policy,
		.flags = s->flags,
		.nice = s->nice,
		.priority = (uint32_t)s->priority,
		.runtime = s->runtime_ns,
		.deadline = s->deadline_ns,
		.period = s->period_ns,
	};

	if (syscall(SYS_sched_setattr, pid, &attr, 0) < 0)
		return error_errno(err, "process.scheduler");
	return 0;
}

/* "0-3,7" as a set. The syntax was checked (oci_is_cpu_list()); numbers beyond a set are dropped.
 */
static void parse_cpus(const char *s, cpu_set_t *set)
{
	CPU_ZERO(set);
	while (*s) {
		char *end;
		unsigned long a = strtoul(s, &end, 10), b = a;

		if (*end == '-')
			b = strtoul(end + 1, &end, 10);
		for (unsigned long i = a; i <= b && i < CPU_SETSIZE; i++)
			CPU_SET(i, set);
		if (end == s)
			return;
		s = end + strspn(end, ", ");
	}
}

/* The process is born in its cgroup: of the two only the final affinity has a meaning. */
static int set_affinity(pid_t pid, const struct oci_process *p, struct error *err)
{
	const char *cpus = p->exec_cpu_affinity_final ? p->exec_cpu_affinity_final
						      : p->exec_cpu_affinity_initial;
	cpu_set_t set;

	if (!cpus)
		return 0;
	parse_cpus(cpus, &set);
	if (sched_setaffinity(pid, sizeof(set), &set) < 0)
		return error_errno(err, "process.execCPUAffinity (%s)", cpus);
	return 0;
}

static int raise_hard_limits(pid_t pid, const struct oci_process *p, struct error *err)
{
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct oci_rlimit *l = &p->rlimits[i];
		struct rlimit now;

		if (prlimit(pid, (__rlimit_resource_t)l->resource, NULL, &now) < 0)
			return error_errno(err, "process.rlimits[%zu]: %s", i,
					   oci_rlimit_name(l->resource));
		if (now.rlim_max >= l->hard)
			continue;
		now.rlim_max = l->hard;
		if (prlimit(pid, (__rlimit_resource_t)l->resource, &now, NULL) < 0)
			return error_errno(err, "process.rlimits[%zu]: %s", i,
					   oci_rlimit_name(l->resource));
	}
	return 0;
}

int security_prepare(pid_t pid, const struct oci_process *p, bool is_init, struct error *err)
{
	char path[64], value[16];

	if (p->oom_score_adj.has) {
		snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
		snprintf(value, sizeof(value), "%d", p->oom_score_adj.v);
		if (file_put(AT_FDCWD, path, value, err) < 0)
			return error_wrap(err, "process.oomScoreAdj");
	}
	if (p->scheduler && set_scheduler(pid, p->scheduler, err) < 0)
		return -1;
	if (p->io_priority &&
	    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid,
		    p->io_priority->class << IOPRIO_CLASS_SHIFT | p->io_priority->priority) < 0)
		return error_errno(err, "process.ioPriority");
	/* config.md, "execCPUAffinity": not for the container's first process. */
	if (!is_init && set_affinity(pid, p, err) < 0)
		return -1;
	return raise_hard_limits(pid, p, err);
}

/* ---- in the child */

int security_keyring(const char *id, struct error *err)
{
	cleanup_free char *name = xasprintf("_ses.%s", id);

	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) < 0 && errno != ENOSYS)
		return error_errno(err, "make a session keyring");
	return 0;
}

int security_personality(const struct oci_linux *l, struct error *err)
{
	if (l->has_personality && personality(l->personality) < 0)
		return error_errno(err, "linux.personality");
	return 0;
}

int security_rlimits(const struct oci_process *p, struct error *err)
{
	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct oci_rlimit *l = &p->rlimits[i];
		struct rlimit r = {.rlim_cur = l->soft, .rlim_max = l->hard};

		if (setrlimit((__rlimit_resource_t)l->resource, &r) < 0)
			return error_errno(err, "process.rlimits[%zu]: %s", i,
					   oci_rlimit_name(l->resource));
	}
	return 0;
}

int security_no_new_privs(const struct oci_process *p, struct error *err)
{
	if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, "process.noNewPrivileges");
	return 0;
}

static bool has(uint64_t set, int cap)
{
	return set & (UINT64_C(1) << cap);
}

int security_caps_before_user(const struct oci_capabilities *caps, struct error *err)
{
	uint64_t bounding = caps ? caps->bounding : 0;

	for (int i = 0; i < cap_max_bits(); i++)
		if (!(i < 64 && has(bounding, i)) && cap_get_bound(i) == 1 && cap_drop_bound(i) < 0)
			return error_errno(err, "process.capabilities.bounding: drop %s",
					   oci_cap_name(i) ? oci_cap_name(i) : "a capability");
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return error_errno(err, "keep capabilities");
	return 0;
}

static int set_flags(cap_t state, cap_flag_t flag, uint64_t set)
{
	for (cap_value_t i = 0; i < cap_max_bits() && i < 64; i++)
		if (has(set, i) && cap_set_flag(state, flag, 1, &i, CAP_SET) < 0)
			return -1;
	return 0;
}

/* The kernel raises only what is permitted and inheritable. The rest of the set has no effect, as
 * with runc; the host has warned of it (oci_spec_warn()). */
static int set_ambient(const struct oci_capabilities *caps, struct error *err)
{
	uint64_t ambient = caps->ambient & caps->permitted & caps->inheritable;

	if (cap_reset_ambient() < 0)
		return error_errno(err, "process.capabilities.ambient: clear");
	for (cap_value_t i = 0; i < cap_max_bits() && i < 64; i++)
		if (has(ambient, i) && cap_set_ambient(i, CAP_SET) < 0)
			return error_errno(err, "process.capabilities.ambient: raise %s",
					   oci_cap_name(i));
	return 0;
}

int security_caps_after_user(const struct oci_capabilities *caps, struct error *err)
{
	static const struct oci_capabilities none;
	cap_t state = cap_init();
	int r = 0;

	if (!caps)
		caps = &none;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		r = error_errno(err, "keep capabilities");
	else if (!state || set_flags(state, CAP_EFFECTIVE, caps->effective) < 0 ||
		 set_flags(state, CAP_PERMITTED, caps->permitted) < 0 ||
		 set_flags(state, CAP_INHERITABLE, caps->inheritable) < 0 ||
		 cap_set_proc(state) < 0)
		r = error_errno(err, "process.capabilities: apply");
	if (state)
		cap_free(state);
	return r < 0 ? r : set_ambient(caps, err);
}
