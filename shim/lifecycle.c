/* How a container that was made (create.c) is started and taken away. */
#include "shim/lifecycle.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/hooks.h"
#include "shim/host_policy.h"
#include "shim/net_devices.h"
#include "shim/network.h"
#include "shim/plan.h"
#include "shim/pod.h"
#include "shim/root_disks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#define ANSWER_MS 3000 /* for a guest that runs to answer */
#define DAWDLE_S 1800  /* how long a guest may be at its changes before `delete` ends it */
#define GONE_MS 10000  /* how long processes that were told to end may take */

int lifecycle_hooks(enum oci_hook_phase phase, const struct container_state *st,
		    const struct oci_spec *spec, int intr_fd, struct error *err)
{
	struct oci_state view = state_view(st, spec);
	cleanup_free char *text = NULL;

	if (!hooks_any(spec, phase))
		return 0;
	if (oci_state_for_hook(&view, &text, NULL, err) < 0)
		return -1;
	return hooks_run(spec, phase, text, st->bundle, intr_fd, err);
}

int lifecycle_network(const struct container_dir *d, pid_t pid, int intr_fd, struct error *err)
{
	const struct network_place place = {
		.container = d->id, .dirfd = d->fd, .pid = pid, .intr_fd = intr_fd};

	return network_sync(&place, true, err);
}

/* ---- start */

int lifecycle_poststart(const struct container_state *st, const struct oci_spec *spec, int intr_fd,
			struct error *err)
{
	return lifecycle_hooks(OCI_HOOK_POSTSTART, st, spec, intr_fd, err);
}

int lifecycle_start(const struct container_dir *d, struct container_state *st,
		    const struct oci_spec *spec, int intr_fd, struct error *err)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	uint64_t t = now_us();

	if (st->status == OCI_STATUS_STOPPED)
		return error_kind(err, ERR_NOT_RUNNING,
				  "cannot start a container that has stopped");
	if (st->status == OCI_STATUS_RUNNING)
		return error_set(err, "cannot start an already running container");
	if (st->status != OCI_STATUS_CREATED)
		return error_set(err, "cannot start a container in the %s state",
				 oci_status_name(st->status));
	if (container_agent(d, st, &vmm, &a, err) < 0)
		return -1;
	/* A joiner has the sandbox's, which the sandbox's start made, and its proxy follows. */
	if (!st->sandbox && lifecycle_network(d, st->pid, intr_fd, err) < 0)
		return -1;
	a.intr_fd = intr_fd;
	/* Before it can write anything. */
	st->started = true;
	if (state_save(d, st, err) < 0 || agent_start(&a, d->id, err) < 0)
		return -1;
	st->status = OCI_STATUS_RUNNING;
	if (state_save(d, st, err) < 0)
		return -1;
	log_elapsed("start", t);
	if (lifecycle_poststart(st, spec, intr_fd, err) == 0)
		return 0;
	agent_kill(&a, d->id, "", SIGKILL, true, NULL);
	return -1;
}

/* ---- end */

void lifecycle_await_gone(pid_t pid, uint64_t start)
{
	uint64_t end = now_us() + GONE_MS * 1000ull;

	while (process_alive(pid, start)) {
		if (now_us() > end)
			kill(pid, SIGKILL);
		poll(NULL, 0, 1);
	}
}

/* Kills what runs in the guest, so that the proxy brings the changes to the rootfs and ends by
 * itself; waits as long as it gets on with that. */
static void end_in_guest(const struct container_dir *d, const struct container_state *st)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	cleanup_pod_members struct pod_members *members = NULL;
	uint64_t used = 0, begun = now_us(), since = begun;

	if (vmm_connect(d->fd, &vmm, NULL) < 0 || agent_connect(&vmm, ANSWER_MS, &a, NULL) < 0 ||
	    agent_kill(&a, d->id, "", SIGKILL, true, NULL) < 0)
		return;
	members = pod_members(d->fd, d->id);
	/* A hostile one could trickle for hours; its disk is read by another guest then. */
	while (process_alive(st->pid, st->pid_start) && now_us() - since < GONE_MS * 1000ull &&
	       now_us() - begun < DAWDLE_S * 1000000ull) {
		uint64_t ticks = process_ticks(st->pid) + pod_members_ticks(members);

		if (ticks != used)
			since = now_us();
		used = ticks;
		poll(NULL, 0, 2);
	}
}

/* The network namespace of a container that was started, which may go with its proxy; -1: it has
 * gone. */
static int hold_netns(const struct container_dir *d, const struct container_state *st)
{
	cleanup_free char *path = xasprintf("/proc/%d/ns/net", (int)st->pid);
	cleanup_oci_spec struct oci_spec *spec = NULL;
	int fd = -1;

	if (!network_used(d->fd))
		return -1;
	if (process_alive(st->pid, st->pid_start))
		fd = open(path, O_RDONLY | O_CLOEXEC);
	/* A proxy that is just ending has none any more. */
	if (fd >= 0 || !st->config || container_spec(st, &spec, NULL) < 0 || !plan_netns(spec))
		return fd;
	return open(plan_netns(spec), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* `force`: what does not go is told, and left. */
static int remove_cgroup(const struct container_state *st, bool force, struct error *err)
{
	struct error why = ERROR_INIT;

	if (host_cgroup_remove(&st->cgroup, &why) == 0)
		return 0;
	if (force) {
		log_warn("container \"%s\": %s", st->id, why.msg);
		return 0;
	}
	if (err)
		*err = why;
	return -1;
}

int lifecycle_destroy(const struct globals *g, struct container_dir *d, struct container_state *st,
		      bool force, struct error *err)
{
	cleanup_oci_spec struct oci_spec *spec = NULL;
	cleanup_close int netns = hold_netns(d, st);
	cleanup_free char *netns_fd = NULL;
	struct error hook_err = ERROR_INIT;

	if ((st->record || st->is_sandbox) && process_alive(st->pid, st->pid_start))
		end_in_guest(d, st);
	if (process_alive(st->pid, st->pid_start)) {
		kill(st->pid, SIGKILL);
		lifecycle_await_gone(st->pid, st->pid_start);
	}
	/* A VM that cannot be left keeps the disks: the record tells whether they are needed. */
	if (st->sandbox && pod_leave(d, st, &hook_err) < 0)
		log_warn("%s", hook_err.msg);
	hook_err = (struct error)ERROR_INIT;
	/* The proxy held the lifeline: the VM ends by itself. */
	lifecycle_await_gone(st->vmm_pid, st->vmm_start);
	/* It holds the sources of shares: whoever unmounts them next finds them free. */
	lifecycle_await_gone(st->share_pid, st->share_start);
	/* Its proxy did this, unless it was killed. */
	if (netns >= 0)
		netns_fd = xasprintf("/proc/self/fd/%d", netns);
	network_clean(d->fd, netns_fd, d->id);
	if (netns_fd && st->config && container_spec(st, &spec, NULL) == 0)
		net_devices_return(spec, netns_fd);
	st->status = OCI_STATUS_STOPPED;
	st->pid = 0;
	if (remove_cgroup(st, force, err) < 0)
		return -1;
	if (root_changes_settle(st->record, d->id, st->started, force, &g->wish, -1, err) < 0 ||
	    dir_remove(d, err) < 0)
		return -1;
	if (!st->config || (!spec && container_spec(st, &spec, &hook_err) < 0))
		return 0;
	if (!st->sandbox)
		host_policy_leave(spec, d->id);
	/* A failing poststop hook is a warning: the container is gone (runtime.md, "Lifecycle"). */
	if (lifecycle_hooks(OCI_HOOK_POSTSTOP, st, spec, -1, &hook_err) < 0)
		log_warn("%s", hook_err.msg);
	return 0;
}

void lifecycle_free(struct lifecycle *s)
{
	dir_close(&s->dir);
	state_free(&s->state);
	oci_spec_free(s->spec);
	close_fd(&s->proxy.link);
	s->spec = NULL;
}

/* ---- existing containers */

int container_open(const struct globals *g, const char *id, bool lock, struct container_dir *d,
		   struct container_state *st, struct error *err)
{
	if (dir_open(g->root, id, lock, GONE_MS, d, err) < 0)
		return -1;
	if (state_load(d, st, err) < 0) {
		dir_close(d);
		return -1;
	}
	return 0;
}

int container_spec(const struct container_state *st, struct oci_spec **spec, struct error *err)
{
	if (!st->config)
		return error_set(err, "container \"%s\": its state has no configuration", st->id);
	return oci_spec_parse(st->config, strlen(st->config), spec, err);
}

int container_agent(const struct container_dir *d, const struct container_state *st,
		    struct vmm_client *vmm, struct agent_client *a, struct error *err)
{
	if (st->status == OCI_STATUS_STOPPED)
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (vmm_connect(d->fd, vmm, err) == 0 && agent_connect(vmm, GONE_MS, a, err) == 0)
		return 0;
	/* Its machine is ending, or has: callers know one name for that. */
	if (err && err->kind == ERR_NOT_RUNNING)
		error_kind(err, ERR_NOT_RUNNING, "container not running");
	/* A guest that takes its time to boot. */
	else if (err && err->kind == ERR_TIMEOUT && st->status == OCI_STATUS_CREATING)
		error_kind(err, ERR_TIMEOUT, "container \"%s\" is being created", d->id);
	return -1;
}
