/*
 * How a process gets into its namespaces.
 *
 * One clone3() makes the init in all its new namespaces and in its cgroup. Three kinds need more:
 *
 *  - cgroup: clone3() would take the parent's cgroup for the root of a new cgroup namespace, so the
 *    child unshares it when it is where it belongs;
 *  - time: the offsets have to be set before anybody is in the namespace. The agent
 *    unshares it (that moves only children to come), writes the offsets of "the children's"
 *    namespace, forks, and goes back to its own;
 *  - pid, when joined: that, too, moves only children to come. The agent joins, forks, and goes
 *    back. So the child is the agent's own, without a process in between.
 *
 * While the agent is "away" nothing else is forked: it has one thread. Not getting back would put
 * the next container's processes into this one's namespaces, and ends the guest.
 */
#include "agent/namespaces.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/idmap.h"

#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

bool ns_own(const struct oci_spec *spec, enum oci_ns_type type)
{
	if (type == OCI_NS_MOUNT)
		return true;
	return type != OCI_NS_NETWORK && oci_spec_namespace(spec, type);
}

static bool ns_new(const struct oci_spec *spec, enum oci_ns_type type)
{
	const struct oci_namespace *ns = oci_spec_namespace(spec, type);

	if (type == OCI_NS_MOUNT)
		return true;
	return type != OCI_NS_NETWORK && ns && !ns->path;
}

static const char *ns_path(const struct oci_spec *spec, enum oci_ns_type type)
{
	const struct oci_namespace *ns = oci_spec_namespace(spec, type);

	return ns && type != OCI_NS_NETWORK && type != OCI_NS_MOUNT ? ns->path : NULL;
}

int ns_join_flags(const struct oci_spec *spec)
{
	int flags = 0;

	for (int t = 0; t < OCI_NS_TYPES; t++)
		if (ns_own(spec, (enum oci_ns_type)t) && t != OCI_NS_PID)
			flags |= oci_ns_clone_flag((enum oci_ns_type)t);
	return flags;
}

pid_t ns_fork(uint64_t flags, int cgroup_fd, int *pidfd, struct error *err)
{
	struct clone_args args = {
		.flags = flags | CLONE_PIDFD | (cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup_fd >= 0 ? (uint64_t)cgroup_fd : 0,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (pid < 0)
		return (pid_t)error_errno(err, "clone the container's process");
	return (pid_t)pid;
}

/* The agent's own namespaces, to return to. */
struct home {
	int pid, time;
};

static void go_home(struct home *h)
{
	if ((h->pid >= 0 && setns(h->pid, CLONE_NEWPID) < 0) ||
	    (h->time >= 0 && setns(h->time, CLONE_NEWTIME) < 0)) {
		log_error("return to the agent's namespaces: %s", strerror(errno));
		abort();
	}
	close_fd(&h->pid);
	close_fd(&h->time);
}

static int open_ns(const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? error_errno(err, "open %s", path) : fd;
}

static int write_time_offsets(const struct oci_linux *l, struct error *err)
{
	cleanup_free char *text = NULL;

	if (!l->has_time_offsets)
		return 0;
	text = xasprintf("monotonic %" PRId64 " %" PRIu32 "\nboottime %" PRId64 " %" PRIu32 "\n",
			 l->monotonic.secs.v, l->monotonic.nanosecs, l->boottime.secs.v,
			 l->boottime.nanosecs);
	if (file_put(AT_FDCWD, "/proc/self/timens_offsets", text, err) < 0)
		return error_wrap(err, "linux.timeOffsets");
	return 0;
}

/* Points the agent's children-to-come at the namespaces that clone3() cannot make or join. */
static int leave_home(const struct oci_spec *spec, struct home *h, struct error *err)
{
	const char *pid_path = ns_path(spec, OCI_NS_PID);

	if (pid_path) {
		cleanup_close int fd = open_ns(pid_path, err);

		if (fd < 0)
			return error_wrap(err, "linux.namespaces (pid)");
		h->pid = open_ns("/proc/self/ns/pid", err);
		if (h->pid < 0)
			return -1;
		if (setns(fd, CLONE_NEWPID) < 0)
			return error_errno(err, "linux.namespaces (pid): join %s", pid_path);
	}
	if (ns_new(spec, OCI_NS_TIME)) {
		h->time = open_ns("/proc/self/ns/time", err);
		if (h->time < 0)
			return error_wrap(err, "linux.namespaces (time)");
		if (unshare(CLONE_NEWTIME) < 0)
			return error_errno(err, "linux.namespaces (time): unshare");
		return write_time_offsets(&spec->lnx, err);
	}
	return 0;
}

pid_t ns_fork_init(const struct oci_spec *spec, int cgroup_fd, int *pidfd, struct error *err)
{
	static const enum oci_ns_type by_clone[] = {OCI_NS_PID, OCI_NS_MOUNT, OCI_NS_IPC,
						    OCI_NS_UTS, OCI_NS_USER};
	struct home h = {-1, -1};
	uint64_t flags = 0;
	pid_t pid;

	for (size_t i = 0; i < ARRAY_LEN(by_clone); i++)
		if (ns_new(spec, by_clone[i]))
			flags |= (uint64_t)oci_ns_clone_flag(by_clone[i]);
	if (leave_home(spec, &h, err) < 0) {
		go_home(&h);
		return -1;
	}
	pid = ns_fork(flags, cgroup_fd, pidfd, err);
	if (pid != 0)
		go_home(&h); /* the child has left for good */
	return pid;
}

pid_t ns_fork_into(const struct oci_spec *spec, int init_pidfd, int cgroup_fd, struct error *err)
{
	struct home h = {-1, -1};
	int pidfd = -1;
	pid_t pid;

	if (ns_own(spec, OCI_NS_PID)) {
		h.pid = open_ns("/proc/self/ns/pid", err);
		if (h.pid < 0)
			return -1;
		if (setns(init_pidfd, CLONE_NEWPID) < 0) {
			error_errno(err, "join the container's pid namespace");
			if (err && errno == ESRCH)
				err->kind = ERR_NOT_RUNNING;
			go_home(&h);
			return -1;
		}
	}
	pid = ns_fork(0, cgroup_fd, &pidfd, err);
	if (pid == 0)
		return 0;
	/* ENOMEM: the namespace's init is gone, and with it the namespace */
	if (pid < 0 && err && errno == ENOMEM && h.pid >= 0)
		err->kind = ERR_NOT_RUNNING;
	close_fd(&pidfd);
	go_home(&h);
	return pid;
}

static int write_map(pid_t pid, const char *file, const struct oci_id_mapping *m, size_t n,
		     struct error *err)
{
	cleanup_free char *text = oci_id_map_text(m, n);
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	return n ? file_put(AT_FDCWD, path, text, err) : 0;
}

int ns_write_id_maps(const struct oci_spec *spec, pid_t pid, struct error *err)
{
	const struct oci_linux *l = &spec->lnx;

	if (!ns_new(spec, OCI_NS_USER))
		return 0;
	if (write_map(pid, "uid_map", l->uid_mappings, l->n_uid_mappings, err) < 0)
		return error_wrap(err, "linux.uidMappings");
	if (write_map(pid, "gid_map", l->gid_mappings, l->n_gid_mappings, err) < 0)
		return error_wrap(err, "linux.gidMappings");
	return 0;
}

int ns_become_root(struct error *err)
{
	/* EINVAL: id 0 is not mapped; the capabilities are there all the same. */
	if ((setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) && errno != EINVAL)
		return error_errno(err, "become root in the user namespace");
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return error_errno(err, "setgroups");
	return 0;
}

static int join_path(const struct oci_spec *spec, enum oci_ns_type type, struct error *err)
{
	const char *path = ns_path(spec, type);
	cleanup_close int fd = -1;

	if (!path)
		return 0;
	fd = open_ns(path, err);
	if (fd < 0)
		return error_wrap(err, "linux.namespaces (%s)", oci_ns_name(type));
	if (setns(fd, oci_ns_clone_flag(type)) < 0)
		return error_errno(err, "linux.namespaces (%s): join %s", oci_ns_name(type), path);
	return 0;
}

int ns_enter(const struct oci_spec *spec, struct error *err)
{
	static const enum oci_ns_type joined[] = {OCI_NS_IPC, OCI_NS_UTS, OCI_NS_TIME,
						  OCI_NS_CGROUP, OCI_NS_USER};

	/* User last: with it go the rights over the others, which need not belong to it. */
	for (size_t i = 0; i < ARRAY_LEN(joined); i++)
		if (join_path(spec, joined[i], err) < 0)
			return -1;
	if (ns_own(spec, OCI_NS_USER) && ns_become_root(err) < 0)
		return -1;
	if (ns_new(spec, OCI_NS_CGROUP) && unshare(CLONE_NEWCGROUP) < 0)
		return error_errno(err, "linux.namespaces (cgroup): unshare");
	if (spec->hostname && sethostname(spec->hostname, strlen(spec->hostname)) < 0)
		return error_errno(err, "hostname: set \"%s\"", spec->hostname);
	if (spec->domainname && setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
		return error_errno(err, "domainname: set \"%s\"", spec->domainname);
	return 0;
}
