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
 *  - those of another container of the pod (struct container's `join`): the agent enters them by
 *    the other init's pidfd, forks, and goes back. So the child is the agent's own, without a
 *    process in between, and is in them also if it has a new user namespace, whose rights would
 *    not suffice to enter them. A user namespace is the exception (namespaces_user.c).
 *
 * Paths of config.json mean nothing here, they are the host's: a namespace that is not another
 * container's is a new one.
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
#include <sys/utsname.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

bool ns_own(const struct oci_spec *spec, enum oci_ns_type type)
{
	if (type == OCI_NS_MOUNT)
		return true;
	return type != OCI_NS_NETWORK && oci_spec_namespace(spec, type);
}

bool ns_new(const struct container *c, enum oci_ns_type type)
{
	return ns_own(c->spec, type) && !c->join[type].on;
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

/* Where the agent goes for a fork. */
static const enum oci_ns_type visited[] = {OCI_NS_PID, OCI_NS_IPC, OCI_NS_UTS, OCI_NS_TIME};

/* The agent's own namespaces, to return to; -1: never left. */
struct home {
	int fd[ARRAY_LEN(visited)];
};
#define HOME_INIT                      \
	{                              \
		{                      \
			-1, -1, -1, -1 \
		}                      \
	}

static void go_home(struct home *h)
{
	for (size_t i = 0; i < ARRAY_LEN(visited); i++) {
		if (h->fd[i] >= 0 && setns(h->fd[i], oci_ns_clone_flag(visited[i])) < 0) {
			log_error("return to the agent's %s namespace: %s", oci_ns_name(visited[i]),
				  strerror(errno));
			abort();
		}
		close_fd(&h->fd[i]);
	}
}

/* Remembers the way back from visited[i]. */
static int leave(struct home *h, size_t i, struct error *err)
{
	cleanup_free char *path = xasprintf("/proc/self/ns/%s", oci_ns_name(visited[i]));

	h->fd[i] = open(path, O_RDONLY | O_CLOEXEC);
	return h->fd[i] < 0 ? error_errno(err, "open %s", path) : 0;
}

/* Goes where the init behind `pidfd` is. */
static int visit(struct home *h, size_t i, int pidfd, struct error *err)
{
	if (leave(h, i, err) < 0)
		return -1;
	if (setns(pidfd, oci_ns_clone_flag(visited[i])) == 0)
		return 0;
	if (errno == ESRCH)
		return error_kind(err, ERR_NOT_RUNNING, "the container has ended");
	return error_errno(err, "join the %s namespace", oci_ns_name(visited[i]));
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
static int leave_home(const struct container *c, struct home *h, struct error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(visited); i++) {
		const struct container_join *j = &c->join[visited[i]];

		if (j->on && visit(h, i, j->pidfd, err) < 0)
			return error_wrap(err, "join.%s", oci_ns_name(visited[i]));
		if (visited[i] != OCI_NS_TIME || !ns_new(c, OCI_NS_TIME))
			continue;
		if (leave(h, i, err) < 0)
			return error_wrap(err, "linux.namespaces (time)");
		if (unshare(CLONE_NEWTIME) < 0)
			return error_errno(err, "linux.namespaces (time): unshare");
		if (write_time_offsets(&c->spec->lnx, err) < 0)
			return -1;
	}
	return 0;
}

/* ENOMEM: the init of the pid namespace is gone, and with it the namespace. */
static pid_t fork_away(uint64_t flags, int cgroup_fd, int *pidfd, bool in_pid_ns, struct error *err)
{
	pid_t pid = ns_fork(flags, cgroup_fd, pidfd, err);

	if (pid < 0 && err && errno == ENOMEM && in_pid_ns)
		err->kind = ERR_NOT_RUNNING;
	return pid;
}

pid_t ns_fork_init(const struct container *c, int *pidfd, struct error *err)
{
	static const enum oci_ns_type by_clone[] = {OCI_NS_PID, OCI_NS_MOUNT, OCI_NS_IPC,
						    OCI_NS_UTS, OCI_NS_USER};
	struct home h = HOME_INIT;
	uint64_t flags = 0;
	pid_t pid;

	for (size_t i = 0; i < ARRAY_LEN(by_clone); i++)
		if (ns_new(c, by_clone[i]))
			flags |= (uint64_t)oci_ns_clone_flag(by_clone[i]);
	if (leave_home(c, &h, err) < 0) {
		go_home(&h);
		return -1;
	}
	if (c->join[OCI_NS_USER].on)
		pid = ns_fork_in_user(c, flags, pidfd, err);
	else
		pid = fork_away(flags, c->cgroup_fd, pidfd, c->join[OCI_NS_PID].on, err);
	if (pid != 0)
		go_home(&h); /* the child has left for good */
	return pid;
}

pid_t ns_fork_into(const struct oci_spec *spec, int init_pidfd, int cgroup_fd, struct error *err)
{
	struct home h = HOME_INIT;
	int pidfd = -1;
	pid_t pid;

	if (ns_own(spec, OCI_NS_PID) && visit(&h, 0, init_pidfd, err) < 0) {
		go_home(&h);
		return -1;
	}
	pid = fork_away(0, cgroup_fd, &pidfd, h.fd[0] >= 0, err);
	if (pid == 0)
		return 0;
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

int ns_write_id_maps(const struct container *c, pid_t pid, struct error *err)
{
	const struct oci_linux *l = &c->spec->lnx;

	if (!ns_new(c, OCI_NS_USER))
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

/* As runc does, also in another container's namespace; there it is mostly the same already, and in
 * a user namespace of one's own it could not be set. */
static int set_names(const struct oci_spec *spec, struct error *err)
{
	struct utsname now;

	if (uname(&now) < 0)
		return error_errno(err, "uname");
	if (spec->hostname && strcmp(spec->hostname, now.nodename) != 0 &&
	    sethostname(spec->hostname, strlen(spec->hostname)) < 0)
		return error_errno(err, "hostname: set \"%s\"", spec->hostname);
	if (spec->domainname && strcmp(spec->domainname, now.domainname) != 0 &&
	    setdomainname(spec->domainname, strlen(spec->domainname)) < 0)
		return error_errno(err, "domainname: set \"%s\"", spec->domainname);
	return 0;
}

int ns_enter(const struct container *c, struct error *err)
{
	if (ns_own(c->spec, OCI_NS_USER) && ns_become_root(err) < 0)
		return -1;
	if (ns_new(c, OCI_NS_CGROUP) && unshare(CLONE_NEWCGROUP) < 0)
		return error_errno(err, "linux.namespaces (cgroup): unshare");
	return set_names(c->spec, err);
}
