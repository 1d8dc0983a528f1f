/*
 * A container, as the agent sees it: what is made once, its processes, its end.
 *
 * What outlives processes is the agent's: mounts of the root, the cgroup, the compiled seccomp
 * filter. What a process does to itself is in child.c. Between the two: what the agent has to do to
 * a child that waits (id maps, hard limits, OOM score).
 */
#include "agent/container.h"
#include "agent/cgroup.h"
#include "agent/child.h"
#include "agent/devices.h"
#include "agent/mounts.h"
#include "agent/namespaces.h"
#include "agent/ready.h"
#include "agent/root.h"
#include "agent/seccomp.h"
#include "agent/security.h"
#include "agent/sync.h"
#include "agent/sysctl.h"
#include "agent/volumes.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/idmap.h"
#include "oci/validate.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- new */

void container_close(struct container *c)
{
	close_fd(&c->init_pidfd);
	close_fd(&c->mnt_ns);
	close_fd(&c->ipc_ns);
	close_fd(&c->device_prog);
	close_fd(&c->notify_fd);
	for (size_t i = 0; i < OCI_NS_TYPES; i++)
		if (c->join[i].on)
			close_fd(&c->join[i].pidfd);
}

void container_free(struct container *c)
{
	container_close(c);
	free(c->id);
	oci_spec_free(c->spec);
	free(c->mounts);
	free(c->devices);
	free(c->numbers);
	free(c->dir);
	free(c->cgroup);
	close_fd(&c->cgroup_fd);
	seccomp_prog_free(c->seccomp);
	cgroup_forget_update(c);
	free(c);
}

/* The host has checked the same; this end does not build on it. */
static int check(const char *id, const struct oci_spec *spec, struct error *err)
{
	if (!id[0] || strchr(id, '/') || strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
		return error_kind(err, ERR_INVALID, "container id \"%s\": not a name", id);
	if (oci_spec_validate(spec, err) < 0)
		return -1;
	return sysctl_check(spec, err);
}

struct container *container_new(const char *id, struct oci_spec *spec,
				const struct proto_root *root, struct proto_mount *mounts,
				size_t n_mounts, struct proto_device *devices, size_t n_devices,
				bool notify, struct error *err)
{
	struct container *c = xcalloc(1, sizeof(*c));

	c->id = xstrdup(id);
	c->spec = spec;
	c->root = *root;
	c->mounts = mounts;
	c->n_mounts = n_mounts;
	c->devices = devices;
	c->n_devices = n_devices;
	c->notify = notify;
	c->dir = xasprintf("/run/husk/%s", id);
	c->cgroup = cgroup_name(id);
	c->cgroup_fd = c->init_pidfd = c->device_prog = c->mnt_ns = c->ipc_ns = c->notify_fd = -1;
	if (check(id, spec, err) < 0 || volumes_of_pod(c, err) < 0) {
		container_free(c);
		return NULL;
	}
	return c;
}

static bool same_mappings(const struct oci_id_mapping *a, size_t n_a,
			  const struct oci_id_mapping *b, size_t n_b)
{
	cleanup_free char *x = oci_id_map_text(a, n_a);
	cleanup_free char *y = oci_id_map_text(b, n_b);

	return strcmp(x, y) == 0;
}

static void copy_mappings(struct oci_id_mapping **to, size_t *n_to,
			  const struct oci_id_mapping *from, size_t n)
{
	*to = xcalloc(n + 1, sizeof(**to));
	memcpy(*to, from, n * sizeof(**to));
	*n_to = n;
}

/* They are those of the namespace, and may be left out; others would be a mistake. */
static int take_mappings(struct oci_spec *spec, const struct oci_spec *other, struct error *err)
{
	struct oci_linux *l = &spec->lnx;
	const struct oci_linux *o = &other->lnx;

	if (!oci_spec_namespace(other, OCI_NS_USER))
		return error_kind(err, ERR_INVALID, "it has no user namespace");
	if (l->n_uid_mappings == 0 && l->n_gid_mappings == 0) {
		copy_mappings(&l->uid_mappings, &l->n_uid_mappings, o->uid_mappings,
			      o->n_uid_mappings);
		copy_mappings(&l->gid_mappings, &l->n_gid_mappings, o->gid_mappings,
			      o->n_gid_mappings);
		return 0;
	}
	if (!same_mappings(l->uid_mappings, l->n_uid_mappings, o->uid_mappings, o->n_uid_mappings))
		return error_kind(err, ERR_INVALID,
				  "linux.uidMappings: not those of the user namespace");
	if (!same_mappings(l->gid_mappings, l->n_gid_mappings, o->gid_mappings, o->n_gid_mappings))
		return error_kind(err, ERR_INVALID,
				  "linux.gidMappings: not those of the user namespace");
	return 0;
}

int container_join(struct container *c, enum oci_ns_type type, const struct container *other,
		   struct error *err)
{
	struct container_join *j = &c->join[type];

	if (other->init <= 0 || other->init_pidfd < 0)
		return error_kind(err, ERR_NOT_RUNNING, "container %s has no process", other->id);
	if (type == OCI_NS_USER && take_mappings(c->spec, other->spec, err) < 0)
		return -1;
	j->pidfd = fcntl(other->init_pidfd, F_DUPFD_CLOEXEC, 0);
	if (j->pidfd < 0)
		return error_errno(err, "pidfd");
	j->on = true;
	return 0;
}

int container_prepare(struct container *c, struct error *err)
{
	uint64_t t = now_us();

	if (root_mount(c, err) < 0 || mounts_prepare(c, err) < 0 || devices_find(c, err) < 0 ||
	    devices_prepare(c, err) < 0)
		return -1;
	log_elapsed("root", t);
	return 0;
}

int container_ready(struct container *c, struct error *err)
{
	const struct oci_linux *l = &c->spec->lnx;
	uint64_t t = now_us();

	if (l->seccomp) {
		c->seccomp = seccomp_prog_compile(l->seccomp, err);
		if (!c->seccomp)
			return -1;
		t = log_elapsed("seccomp filter", t);
	}
	/* The disks of devices were found before, in another process's memory. */
	if (root_note(c, err) < 0 || ready_prepare(c, err) < 0 || devices_find(c, err) < 0 ||
	    cgroup_create(c, err) < 0)
		return -1;
	log_elapsed("cgroup", t);
	return sysctl_apply_net(c->spec, err);
}

const struct proto_mount *container_mount(const struct container *c, size_t index)
{
	for (size_t i = 0; i < c->n_mounts; i++)
		if (c->mounts[i].index == index)
			return &c->mounts[i];
	return NULL;
}

/* ---- processes */

/* A child that we made and cannot use. The server may not know its pid. */
static void discard(pid_t pid)
{
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* What the agent does to the child that waits, and lets it go. */
static int release(const struct container *c, const struct oci_process *p, pid_t pid, bool is_init,
		   int sync, struct error *err)
{
	if (is_init && ns_write_id_maps(c, pid, err) < 0)
		return -1;
	if (security_prepare(pid, p, is_init, err) < 0)
		return -1;
	return sync_order(sync, SYNC_GO, err);
}

/* Forks and releases a child; returns the agent's end of the sync socket. */
static int spawn(struct container *c, struct child *ch, int cgroup, pid_t *pid, int *pidfd,
		 struct error *err)
{
	cleanup_close int ours = -1;
	cleanup_close int theirs = -1;

	if (sync_pair(&ours, &theirs, err) < 0)
		return -1;
	/* Children inherit it, and are visible in the container before they could do it themselves.
	 */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_errno(err, "PR_SET_DUMPABLE");
	ch->sync = theirs;
	*pid = ch->is_init ? ns_fork_init(c, pidfd, err)
			   : ns_fork_into(c->spec, c->init_pidfd, cgroup, err);
	if (*pid < 0)
		return -1;
	if (*pid == 0)
		child_run(ch);
	close_fd(&theirs);
	if (release(c, ch->p, *pid, ch->is_init, ours, err) < 0) {
		discard(*pid);
		return -1;
	}
	return steal_fd(&ours);
}

int container_create(struct container *c, const struct child_io *io, struct error *err)
{
	struct child ch = {.c = c,
			   .p = c->spec->process,
			   .caps = c->spec->process->capabilities,
			   .is_init = true,
			   .io = *io};
	int pidfd = -1;
	pid_t pid;
	int sync;

	if (c->init_pidfd >= 0)
		return error_set(err, "container %s has a process already", c->id);
	sync = spawn(c, &ch, c->cgroup_fd, &pid, &pidfd, err);
	if (sync < 0) {
		close_fd(&pidfd);
		return -1;
	}
	c->init = pid;
	c->init_pidfd = pidfd;
	return sync;
}

/* The end of a mount namespace unmounts some twenty file systems before the parent hears of the
 * end of the process. Held by us, it takes place at the delete, when nobody waits for a status. */
static void hold_namespaces(struct container *c)
{
	cleanup_free char *mnt = xasprintf("/proc/%d/ns/mnt", (int)c->init);
	cleanup_free char *ipc = xasprintf("/proc/%d/ns/ipc", (int)c->init);

	c->mnt_ns = open(mnt, O_RDONLY | O_CLOEXEC);
	c->ipc_ns = open(ipc, O_RDONLY | O_CLOEXEC);
}

int container_start(struct container *c, int sync_fd, struct error *err)
{
	if (c->started)
		return error_set(err, "container %s was started before", c->id);
	if (sysctl_apply_interfaces(c->spec, true, err) < 0)
		return -1;
	hold_namespaces(c);
	if (sync_order(sync_fd, SYNC_START, err) < 0)
		return -1;
	c->started = true;
	return 0;
}

/* ERR_NOT_FOUND in words of the flag that asks for it. */
static int open_cgroup(const struct container *c, const char *path, struct error *err)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	int fd = (int)syscall(SYS_openat2, c->cgroup_fd, path, &how, sizeof(how));

	return fd >= 0 ? fd : error_errno(err, "cgroup %s of the container", path);
}

int container_exec(struct container *c, const struct oci_process *p, const char *cgroup,
		   const struct child_io *io, pid_t *pid, struct error *err)
{
	cleanup_close int sub = -1;
	struct child ch = {
		.c = c,
		.p = p,
		.caps = p->capabilities ? p->capabilities : c->spec->process->capabilities,
		.io = *io,
	};

	if (c->init <= 0 || c->init_pidfd < 0)
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (oci_process_validate(p, err) < 0)
		return -1;
	if (cgroup && (sub = open_cgroup(c, cgroup, err)) < 0)
		return -1;
	return spawn(c, &ch, sub >= 0 ? sub : c->cgroup_fd, pid, NULL, err);
}

/* ---- limits, end */

int container_update_begin(struct container *c, const struct oci_resources *r, struct error *err)
{
	if (r)
		return cgroup_remember(c, r, err);
	return c->undo ? 0 : error_kind(err, ERR_INVALID, "there is no update to undo");
}

int container_update(const struct container *c, const struct oci_resources *r, struct error *err)
{
	if (!r)
		return cgroup_undo(c, err);
	if (cgroup_apply(c, r, err) == 0)
		return 0;
	cgroup_undo(c, NULL);
	return -1;
}

void container_update_end(struct container *c, bool nothing_to_undo)
{
	if (nothing_to_undo)
		cgroup_forget_update(c);
}

int container_dismantle(struct container *c, struct error *err)
{
	int r = cgroup_remove(c, err);

	if (volumes_release(c, r < 0 ? NULL : err) < 0)
		r = -1;
	ready_release(c);
	if (root_unmount(c, r < 0 ? NULL : err) < 0 || devices_release(c, r < 0 ? NULL : err) < 0)
		r = -1;
	return r < 0 ? error_wrap(err, "delete container %s", c->id) : 0;
}
