#include "oci/spec_names.h"
#include "lib/cleanup.h"

#include <linux/sched.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

const struct name oci_ns_names[] = {
	{"pid", OCI_NS_PID},	   {"network", OCI_NS_NETWORK}, {"mount", OCI_NS_MOUNT},
	{"ipc", OCI_NS_IPC},	   {"uts", OCI_NS_UTS},		{"user", OCI_NS_USER},
	{"cgroup", OCI_NS_CGROUP}, {"time", OCI_NS_TIME},	{NULL, 0},
};

const struct name oci_rlimit_names[] = {
	{"RLIMIT_AS", RLIMIT_AS},
	{"RLIMIT_CORE", RLIMIT_CORE},
	{"RLIMIT_CPU", RLIMIT_CPU},
	{"RLIMIT_DATA", RLIMIT_DATA},
	{"RLIMIT_FSIZE", RLIMIT_FSIZE},
	{"RLIMIT_LOCKS", RLIMIT_LOCKS},
	{"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
	{"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
	{"RLIMIT_NICE", RLIMIT_NICE},
	{"RLIMIT_NOFILE", RLIMIT_NOFILE},
	{"RLIMIT_NPROC", RLIMIT_NPROC},
	{"RLIMIT_RSS", RLIMIT_RSS},
	{"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
	{"RLIMIT_RTTIME", RLIMIT_RTTIME},
	{"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
	{"RLIMIT_STACK", RLIMIT_STACK},
	{NULL, 0},
};

const struct name oci_sched_policies[] = {
	{"SCHED_OTHER", SCHED_NORMAL},
	{"SCHED_FIFO", SCHED_FIFO},
	{"SCHED_RR", SCHED_RR},
	{"SCHED_BATCH", SCHED_BATCH},
	{"SCHED_ISO", OCI_SCHED_ISO},
	{"SCHED_IDLE", SCHED_IDLE},
	{"SCHED_DEADLINE", SCHED_DEADLINE},
	{NULL, 0},
};

const struct name oci_sched_flags[] = {
	{"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
	{"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
	{"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
	{"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
	{"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
	{"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
	{"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
	{NULL, 0},
};

const struct name oci_ioprio_classes[] = {
	{"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}, {NULL, 0}};

/* The first name of a value is the one that name_of() gives. */
const struct name oci_seccomp_actions[] = {
	{"SCMP_ACT_KILL_THREAD", OCI_ACT_KILL_THREAD},
	{"SCMP_ACT_KILL", OCI_ACT_KILL_THREAD},
	{"SCMP_ACT_KILL_PROCESS", OCI_ACT_KILL_PROCESS},
	{"SCMP_ACT_TRAP", OCI_ACT_TRAP},
	{"SCMP_ACT_ERRNO", OCI_ACT_ERRNO},
	{"SCMP_ACT_TRACE", OCI_ACT_TRACE},
	{"SCMP_ACT_ALLOW", OCI_ACT_ALLOW},
	{"SCMP_ACT_LOG", OCI_ACT_LOG},
	{"SCMP_ACT_NOTIFY", OCI_ACT_NOTIFY},
	{NULL, 0},
};

const struct name oci_seccomp_ops[] = {
	{"SCMP_CMP_NE", OCI_CMP_NE},
	{"SCMP_CMP_LT", OCI_CMP_LT},
	{"SCMP_CMP_LE", OCI_CMP_LE},
	{"SCMP_CMP_EQ", OCI_CMP_EQ},
	{"SCMP_CMP_GE", OCI_CMP_GE},
	{"SCMP_CMP_GT", OCI_CMP_GT},
	{"SCMP_CMP_MASKED_EQ", OCI_CMP_MASKED_EQ},
	{NULL, 0},
};

const struct name oci_seccomp_flags[] = {
	{"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
	{"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
	{"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
	{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
	{NULL, 0},
};

const struct name oci_propagations[] = {
	{"shared", MS_SHARED},
	{"rshared", MS_SHARED | MS_REC},
	{"slave", MS_SLAVE},
	{"rslave", MS_SLAVE | MS_REC},
	{"private", MS_PRIVATE},
	{"rprivate", MS_PRIVATE | MS_REC},
	{"unbindable", MS_UNBINDABLE},
	{"runbindable", MS_UNBINDABLE | MS_REC},
	{NULL, 0},
};

const struct name oci_personalities[] = {{"LINUX", PER_LINUX}, {"LINUX32", PER_LINUX32}, {NULL, 0}};

const struct name oci_device_types[] = {{"c", 'c'}, {"u", 'c'}, {"b", 'b'}, {"p", 'p'}, {NULL, 0}};

const struct name oci_device_rule_types[] = {
	{"a", 'a'}, {"", 'a'}, {"c", 'c'}, {"b", 'b'}, {NULL, 0}};

static const char *const archs[] = {
	"SCMP_ARCH_X86",     "SCMP_ARCH_X86_64",   "SCMP_ARCH_X32",	    "SCMP_ARCH_ARM",
	"SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",	   "SCMP_ARCH_MIPS64",	    "SCMP_ARCH_MIPS64N32",
	"SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
	"SCMP_ARCH_PPC64",   "SCMP_ARCH_PPC64LE",  "SCMP_ARCH_S390",	    "SCMP_ARCH_S390X",
	"SCMP_ARCH_PARISC",  "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",	    "SCMP_ARCH_LOONGARCH64",
	"SCMP_ARCH_M68K",    "SCMP_ARCH_SH",	   "SCMP_ARCH_SHEB",	    NULL,
};

const char *oci_seccomp_arch_name(size_t i)
{
	return i < ARRAY_LEN(archs) ? archs[i] : NULL;
}

bool oci_seccomp_arch_known(const char *name)
{
	for (size_t i = 0; archs[i]; i++)
		if (strcmp(archs[i], name) == 0)
			return true;
	return false;
}

const char *oci_seccomp_flag_name(size_t i, uint32_t *flag)
{
	if (i >= ARRAY_LEN(oci_seccomp_flags))
		return NULL;
	if (flag)
		*flag = (uint32_t)oci_seccomp_flags[i].value;
	return oci_seccomp_flags[i].name;
}

const char *oci_seccomp_action_name(enum oci_seccomp_action a)
{
	return name_of(oci_seccomp_actions, a);
}

const char *oci_seccomp_op_name(enum oci_seccomp_op op)
{
	return name_of(oci_seccomp_ops, op);
}

const char *oci_rlimit_name(int resource)
{
	return resource < 0 ? NULL : name_of(oci_rlimit_names, (uint64_t)resource);
}

const char *oci_ns_name(enum oci_ns_type type)
{
	return name_of(oci_ns_names, type);
}

int oci_ns_clone_flag(enum oci_ns_type type)
{
	static const int flags[OCI_NS_TYPES] = {
		[OCI_NS_PID] = CLONE_NEWPID,	   [OCI_NS_NETWORK] = CLONE_NEWNET,
		[OCI_NS_MOUNT] = CLONE_NEWNS,	   [OCI_NS_IPC] = CLONE_NEWIPC,
		[OCI_NS_UTS] = CLONE_NEWUTS,	   [OCI_NS_USER] = CLONE_NEWUSER,
		[OCI_NS_CGROUP] = CLONE_NEWCGROUP, [OCI_NS_TIME] = CLONE_NEWTIME,
	};

	return (unsigned)type < OCI_NS_TYPES ? flags[type] : 0;
}

const char *oci_hook_name(enum oci_hook_phase p)
{
	static const char *const names[OCI_HOOK_PHASES] = {
		[OCI_HOOK_PRESTART] = "prestart",
		[OCI_HOOK_CREATE_RUNTIME] = "createRuntime",
		[OCI_HOOK_CREATE_CONTAINER] = "createContainer",
		[OCI_HOOK_START_CONTAINER] = "startContainer",
		[OCI_HOOK_POSTSTART] = "poststart",
		[OCI_HOOK_POSTSTOP] = "poststop",
	};

	return (unsigned)p < OCI_HOOK_PHASES ? names[p] : NULL;
}
