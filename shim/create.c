/*
 * How a container is made.
 *
 * create has several things going at once: husk-vmm boots the guest, the proxy enters its network
 * namespace, and we read the root file system. They meet when the disks are attached and the agent
 * is told to set the container up. A container that joins a pod has no machine to boot: it uses its
 * sandbox's.
 *
 * No process needs ending by hand when something fails, or when this one is killed: the VM ends
 * when the last write end of its lifeline closes (ours and the proxy's), and the proxy ends when
 * its link closes before the commit. What is left is the container's directory and the record of
 * its changes (record.h), which a failed create removes and `delete` can remove at any time: the
 * record's name is in the state before there is a record, and until the state says that the
 * container was started nothing of value can be in it.
 */
#include "shim/lifecycle.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/console.h"
#include "shim/handover.h"
#include "shim/hooks.h"
#include "shim/host_policy.h"
#include "shim/net_devices.h"
#include "shim/network.h"
#include "shim/notify.h"
#include "shim/plan.h"
#include "shim/pod.h"
#include "shim/project_push.h"
#include "shim/root_disks.h"
#include "shim/share.h"
#include "shim/share_join.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SLOTS_QEMU 21  /* for disks, cards and virtio-fs (docs/control-socket.md, "Slots") */
#define MEMBER_DISKS 2 /* of a container that joins a pod, at least */
#define BOOT_TIMEOUT_S 60

bool uses_own_terminal(const struct create_options *o, const struct oci_spec *spec)
{
	return spec->process->terminal && o->foreground && !o->console_socket;
}

struct making {
	const struct globals *g;
	const struct create_options *o;
	struct lifecycle *s;
	struct plan plan;
	int intr_fd;
	int lifeline; /* write end */
	pid_t vmm_pid;
	int notify_sock; /* that is mounted in the container */
	struct vmm_client vmm;
	struct agent_client agent;
	struct root_disks root;
	struct share share;
	struct sandbox sandbox; /* that it joins */
	char *join;		/* for the agent: whose namespaces are its own */
	int streams[STREAMS];
	uint64_t t_vmm; /* when husk-vmm was started */
	bool pid_file_written;
};

/* Of those that the guest may write; nobody knows those of a pod's other containers. */
static uint64_t largest_disk(const struct making *m)
{
	const struct mount_plan *p = &m->plan.mounts;
	uint64_t most = m->root.writable ? m->plan.scratch_bytes : 0;
	struct stat st;

	if (m->plan.pod.role == OCI_POD_SANDBOX)
		return VMM_FILE_BYTES_ANY;
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].from == MOUNT_FROM_DISK && p->v[i].writable &&
		    fstat(p->v[i].fd, &st) == 0 && (uint64_t)st.st_size > most)
			most = (uint64_t)st.st_size;
	return most;
}

static bool is_sandbox(const struct making *m)
{
	return m->plan.pod.role == OCI_POD_SANDBOX;
}

static bool joins(const struct making *m)
{
	return m->plan.pod.role == OCI_POD_JOINS;
}

/* What cannot be plugged has a slot from the start: cards that come later, and disks of those that
 * join a pod, which may be of either kind. */
static void plan_slots(const struct making *m, struct vmm_config *cfg)
{
	unsigned disks = cfg->readonly_disks + cfg->writable_disks;
	unsigned used =
		disks + (cfg->fs_sock >= 0 ? 1 : 0) + (cfg->debug || cfg->console_log ? 1 : 0);
	unsigned left = used < SLOTS_QEMU ? SLOTS_QEMU - used : 0;
	unsigned kept = is_sandbox(m) && left > MEMBER_DISKS ? MEMBER_DISKS : 0;

	cfg->nics = network_cards(plan_netns(m->plan.spec), left - kept);
	left -= cfg->nics;
	if (is_sandbox(m) && disks < DISKS_MAX_QEMU)
		cfg->writable_disks +=
			left < DISKS_MAX_QEMU - disks ? left : DISKS_MAX_QEMU - disks;
}

static int start_vmm(struct making *m, struct error *err)
{
	cleanup_close int listen_sock = vmm_listen(m->s->dir.fd, err);
	cleanup_close int rd = -1;
	struct vmm_config cfg = {
		.choice = &m->plan.choice,
		.mem_bytes = m->plan.mem_bytes,
		.vcpus = m->plan.vcpus,
		.readonly_disks = m->root.rootfs.n_disks + m->plan.mounts.readonly_disks,
		.writable_disks = (m->root.writable ? 1 : 0) + m->plan.mounts.writable_disks,
		.file_bytes = largest_disk(m),
		.spec = m->plan.spec,
		.id = m->s->dir.id,
		.debug = m->g->debug,
		.console_log = m->plan.console_log,
		.listen_sock = listen_sock,
		.cgroup = &m->s->state.cgroup,
		.log_fd = m->g->log_fd,
		.fs_sock = -1};
	int p[2];

	if (listen_sock < 0)
		return -1;
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	rd = p[0];
	m->lifeline = p[1];
	cfg.lifeline = rd;
	if (m->o->foreground && cfg.log_fd < 0)
		cfg.log_fd = STDERR_FILENO;
	if (mount_plan_check_disks(
		    &m->plan.mounts, m->root.rootfs.n_disks + (m->root.writable ? 1 : 0),
		    choice_is_kvm(&m->plan.choice) ? DISKS_MAX_KVM : DISKS_MAX_QEMU, err) < 0)
		return -1;
	/* virtio-fs cannot be plugged: who joins a pod may have directories to share. */
	if ((m->plan.mounts.shares > 0 || is_sandbox(m)) &&
	    share_start(&m->plan.mounts, &m->s->state.cgroup, rd, cfg.log_fd, &m->share, err) < 0)
		return -1;
	cfg.fs_sock = m->share.sock;
	if (!choice_is_kvm(&m->plan.choice))
		plan_slots(m, &cfg);
	m->s->state.share_pid = m->share.pid;
	m->s->state.share_start = proc_start_time(m->share.pid);
	m->t_vmm = now_us();
	m->vmm_pid = vmm_spawn(&cfg, m->intr_fd, &m->vmm, err);
	if (m->vmm_pid < 0) {
		m->vmm_pid = 0;
		return -1;
	}
	m->s->state.vmm_pid = m->vmm_pid;
	m->s->state.vmm_start = proc_start_time(m->vmm_pid);
	/* husk-vmm has it: whoever else kept it would keep virtiofsd. */
	close_fd(&m->share.sock);
	return 0;
}

/* The VM of a joiner is its sandbox's, which has to be there. */
static int join_vmm(struct making *m, struct error *err)
{
	struct container_state *st = &m->s->state;

	st->sandbox = xstrdup(m->sandbox.dir.id);
	st->tag = pod_tag();
	m->root.tag = st->tag;
	mount_plan_tag(&m->plan.mounts, st->tag);
	/* `delete` has to know what to look for before there is something to find. */
	if (state_save(&m->s->dir, st, err) < 0 ||
	    pod_link(&m->s->dir, m->sandbox.dir.id, err) < 0 ||
	    vmm_connect(m->s->dir.fd, &m->vmm, err) < 0)
		return -1;
	m->vmm.intr_fd = m->intr_fd;
	return 0;
}

static int start_proxy(struct making *m, struct error *err)
{
	const struct oci_spec *spec = m->plan.spec;
	cleanup_close int console = -1;
	struct proxy_spawn ps = {.argv = spec->process->args,
				 .netns = plan_netns(spec),
				 .new_netns = !plan_netns(spec),
				 .claims_netns = !joins(m),
				 .lifeline = m->lifeline,
				 .dirfd = m->s->dir.fd,
				 .console_sock = -1,
				 .scratch = m->root.record.scratch,
				 .notify_sock = m->notify_sock,
				 .log_fd = m->g->log_fd,
				 .own_session = true};

	if (uses_own_terminal(m->o, spec)) {
		ps.own_session = false;
	} else if (spec->process->terminal) {
		if (!m->o->console_socket)
			return error_kind(
				err, ERR_USAGE,
				"process.terminal: cannot allocate tty if husk will detach "
				"without setting console socket: give --console-socket");
		console = console_connect(m->o->console_socket, err);
		if (console < 0)
			return -1;
		ps.console_sock = console;
	} else if (m->o->console_socket) {
		return error_kind(
			err, ERR_USAGE,
			"--console-socket: cannot use console socket if process.terminal is "
			"false");
	}
	if (m->o->foreground && ps.log_fd < 0)
		ps.log_fd = STDERR_FILENO;
	if (proxy_start(&ps, &m->s->proxy, err) < 0)
		return err && err->kind == ERR_UNSUPPORTED ? plan_blame_netns(spec, err) : -1;
	m->s->state.pid = m->s->proxy.pid;
	m->s->state.pid_start = proc_start_time(m->s->proxy.pid);
	if (m->root.record.dirfd < 0)
		return 0;
	return record_note_proxy(&m->root.record, m->s->state.pid, m->s->state.pid_start, err);
}

/* Before anybody looks at the namespace, hooks included. */
static int take_net_devices(struct making *m, struct error *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)m->s->state.pid);
	return net_devices_move(m->plan.spec, path, err);
}

static int run_create_hooks(struct making *m, struct error *err)
{
	static const enum oci_hook_phase phases[] = {OCI_HOOK_PRESTART, OCI_HOOK_CREATE_RUNTIME,
						     OCI_HOOK_CREATE_CONTAINER};

	for (size_t i = 0; i < ARRAY_LEN(phases); i++)
		if (lifecycle_hooks(phases[i], &m->s->state, m->plan.spec, m->intr_fd, err) < 0)
			return -1;
	return 0;
}

static unsigned boot_timeout_s(void)
{
	const char *s = getenv("HUSK_BOOT_TIMEOUT");
	int n = s ? atoi(s) : 0;

	return n > 0 ? (unsigned)n : BOOT_TIMEOUT_S;
}

/* Of a pod's VM others have slots, too. */
static int no_room(const struct making *m, struct error *err)
{
	cleanup_free char *disk = NULL;

	if (!joins(m) || err->kind != ERR_NO_ROOM)
		return -1;
	disk = xstrdup(err->msg);
	return error_kind(err, ERR_UNSUPPORTED,
			  "%s: the microVM of the pod \"%s\" has no room for one more disk: with "
			  "engine %s it has %u at most, and a container takes one to four",
			  disk, m->sandbox.dir.id, m->plan.choice.engine,
			  choice_is_kvm(&m->plan.choice) ? DISKS_MAX_KVM : DISKS_MAX_QEMU);
}

static int join_shares(struct making *m, struct error *err)
{
	const struct container_state *st = &m->sandbox.state;

	if (!joins(m) || m->plan.mounts.shares == 0)
		return 0;
	if (!process_alive(st->share_pid, st->share_start))
		return error_kind(err, ERR_NOT_RUNNING, "the pod's virtiofsd has ended");
	return share_join(st->share_pid, &m->plan.mounts, err);
}

static int attach_volumes(struct making *m, struct error *err)
{
	const struct mount_plan *p = &m->plan.mounts;
	char field[MOUNT_FIELD_LEN];

	for (size_t i = 0; i < p->n; i++) {
		const struct planned_mount *v = &p->v[i];

		if (v->from == MOUNT_FROM_DISK &&
		    vmm_attach_block(&m->vmm, v->serial, v->fd, !v->writable, v->writable, err) < 0)
			return error_wrap(err, "%s", mount_plan_field(v, field));
	}
	return 0;
}

static int attach_disks(struct making *m, struct error *err)
{
	uint64_t t;

	if (!joins(m) &&
	    vmm_wait_started(&m->vmm, now_us() + boot_timeout_s() * 1000000ull, err) < 0)
		return share_blame(&m->share, err) < 0 ? choice_blame(&m->plan.choice, err) : -1;
	log_elapsed("VMM start (since its exec)", m->t_vmm);
	t = now_us();
	if (root_disks_attach(&m->root, &m->vmm, err) < 0 || attach_volumes(m, err) < 0)
		return no_room(m, err);
	if (join_shares(m, err) < 0)
		return -1;
	log_elapsed("attach disks", t);
	return 0;
}

/* Adds the end of the guest's console to an error about a guest that does not answer. */
static int no_answer(struct making *m, struct error *err)
{
	cleanup_free char *console = vmm_console(&m->vmm);
	size_t n = strlen(console);
	const char *tail = n > 1000 ? console + n - 1000 : console;
	char *p;

	while ((p = strchr(console, '\n')))
		*p = '|';
	return error_kind(err, ERR_TIMEOUT,
			  "the guest did not answer within %u s: last console lines: %s",
			  boot_timeout_s(), tail[0] ? tail : "(none)");
}

static void log_boot(struct making *m)
{
	cleanup_agent_msg struct agent_msg hello = {0};
	struct vmm_times t = {0};

	if (!log_enabled(LOG_LVL_DEBUG) || agent_hello(&m->agent, &hello, NULL) < 0 ||
	    vmm_times(&m->vmm, &t, NULL) < 0)
		return;
	log_debug("time: VMM exec to machine: %.3f ms", (double)(t.machine - t.exec) / 1000);
	log_debug("time: kernel (guest clock): %.3f ms", (double)hello.boot_kernel_us / 1000);
	log_debug("time: agent (guest clock): %.3f ms",
		  (double)(hello.boot_agent_us - hello.boot_kernel_us) / 1000);
	log_debug("time: VMM exec to agent ready: %.3f ms", (double)(t.ready - t.exec) / 1000);
	log_debug("guest kernel: %s", hello.kernel);
}

static int meet_agent(struct making *m, struct error *err)
{
	uint64_t t = now_us();

	if (agent_connect(&m->vmm, boot_timeout_s() * 1000, &m->agent, err) < 0)
		return err && err->kind == ERR_TIMEOUT ? no_answer(m, err) : -1;
	log_elapsed("agent (wait)", t);
	log_boot(m);
	return 0;
}

/* `run` lets the process go on here, at once: its stdio streams are opened while it starts, and
 * hold what it writes until then. */
static int start_in_guest(struct making *m, struct error *err)
{
	uint64_t t = now_us();

	if ((!joins(m) && lifecycle_network(&m->s->dir, m->s->state.pid, m->intr_fd, err) < 0) ||
	    agent_start(&m->agent, m->s->dir.id, err) < 0)
		return -1;
	log_elapsed("start", t);
	return 0;
}

static int create_in_guest(struct making *m, struct error *err)
{
	const struct oci_process *p = m->plan.spec->process;
	cleanup_free char *root = root_disks_text(&m->root, err);
	cleanup_free char *mounts = mount_plan_text(&m->plan.mounts, err);
	cleanup_free char *devices = mount_plan_devices_text(&m->plan.mounts, err);
	struct agent_msg made;
	struct proxy_job job;
	uint64_t t = now_us();
	int r;

	if (!root || !mounts || !devices ||
	    mount_plan_push(&m->plan.mounts, m->s->dir.id, &m->vmm, &m->agent, err) < 0)
		return -1;
	if (m->plan.mounts.projects > 0)
		t = log_elapsed("push files", t);
	if (agent_create(&m->agent, m->s->dir.id, m->plan.config, root, mounts, devices, m->join,
			 notify_host() || m->notify_sock >= 0, &made, err) < 0)
		return -1;
	log_elapsed("create in the guest", t);
	/* Before its process can ask for it. */
	if (uses_own_terminal(m->o, m->plan.spec))
		agent_send_size(&m->agent, m->s->dir.id, "", STDIN_FILENO);
	r = m->o->start ? start_in_guest(m, err) : 0;
	t = now_us();
	if (r == 0)
		r = agent_open_streams(&m->vmm, &made, m->streams, err);
	agent_msg_free(&made);
	if (r < 0)
		return -1;
	job = (struct proxy_job){.container = m->s->dir.id,
				 .process = "",
				 .agent_sock = m->agent.sock,
				 .scratch = -1,
				 .init = true,
				 .role = m->plan.pod.role};
	memcpy(job.streams, m->streams, sizeof(job.streams));
	/* Before the first byte comes: what the guest's terminal wrote is written as it is. */
	if (uses_own_terminal(m->o, m->plan.spec))
		tty_raw(STDIN_FILENO);
	r = proxy_go(&m->s->proxy, &job, p->terminal, p->console_width, p->console_height,
		     m->intr_fd, err);
	log_elapsed("streams and proxy", t);
	return r;
}

/* The record's name is in the state before the record is there, so that `delete` finds it. The
 * state is there in any case before the proxy, which reads it. */
static int make_record(struct making *m, struct error *err)
{
	struct container_state *st = &m->s->state;

	if (m->root.writable)
		st->record = record_name(st->id);
	if (state_save(&m->s->dir, st, err) < 0)
		return -1;
	if (!m->root.writable)
		return 0;
	return root_disks_make_record(&m->root, st->record, st->id, m->plan.spec,
				      m->plan.scratch_bytes, err);
}

/* In the state before it is there, so that `delete` finds it. */
static int make_cgroup(struct making *m, struct error *err)
{
	const struct oci_spec *spec = m->plan.spec;
	struct container_state *st = &m->s->state;
	const struct host_cgroup_wish wish = {.id = st->id,
					      .path = spec->lnx.cgroups_path,
					      .systemd = m->g->systemd_cgroup,
					      .resources = spec->lnx.resources,
					      .annotations = spec->annotations,
					      .n_annotations = spec->n_annotations,
					      .machine_bytes = joins(m) ? 0 : m->plan.mem_bytes,
					      .kvm = choice_is_kvm(&m->plan.choice),
					      .oom_score_adj = spec->process->oom_score_adj};
	uint64_t t = now_us();

	if (host_cgroup_plan(&wish, &st->cgroup, err) < 0)
		return -1;
	if (!st->cgroup.dirs && !st->cgroup.unit)
		return 0;
	if (state_save(&m->s->dir, st, err) < 0 || host_cgroup_make(&st->cgroup, &wish, err) < 0)
		return -1;
	log_elapsed("cgroup", t);
	return state_save(&m->s->dir, st, err);
}

static int make(struct making *m, struct error *err)
{
	const struct oci_spec *spec = m->plan.spec;
	struct container_state *st = &m->s->state;
	bool hooks = hooks_any(spec, OCI_HOOK_PRESTART) ||
		     hooks_any(spec, OCI_HOOK_CREATE_RUNTIME) ||
		     hooks_any(spec, OCI_HOOK_CREATE_CONTAINER);
	uint64_t t;

	m->root.data = m->plan.data;
	m->root.writable = !spec->root_readonly;
	if (root_disks_open(&m->root, m->plan.rootfs, hooks, err) < 0)
		return -1;
	t = now_us();
	if (mount_plan_save(&m->plan.mounts, m->s->dir.fd, err) < 0 || make_cgroup(m, err) < 0 ||
	    (joins(m) ? join_vmm(m, err) : start_vmm(m, err)) < 0)
		return -1;
	t = log_elapsed(joins(m) ? "join the pod" : "fork husk-vmm", t);
	st->status = OCI_STATUS_CREATING;
	if (make_record(m, err) < 0)
		return -1;
	t = now_us();
	if (start_proxy(m, err) < 0)
		return -1;
	log_elapsed("proxy and network namespace", t);
	if (take_net_devices(m, err) < 0)
		return -1;
	st->started = m->o->start;
	if (state_save(&m->s->dir, st, err) < 0)
		return -1;
	/* Hooks may change the root file system: it is read when they have run. */
	if ((hooks && run_create_hooks(m, err) < 0) || root_disks_build(&m->root, err) < 0)
		return -1;
	if (attach_disks(m, err) < 0 || meet_agent(m, err) < 0 || create_in_guest(m, err) < 0) {
		vmm_blame(&m->vmm, err);
		return -1;
	}
	/* The proxy has answered: it is in there. */
	host_cgroup_let_go(&st->cgroup);
	st->status = m->o->start ? OCI_STATUS_RUNNING : OCI_STATUS_CREATED;
	if (m->o->pid_file && pid_file_write(m->o->pid_file, st->pid, err) < 0)
		return -1;
	m->pid_file_written = m->o->pid_file != NULL;
	if (handover_pidfd(m->o->pidfd_sock, st->pid, err) < 0 ||
	    state_save(&m->s->dir, st, err) < 0)
		return -1;
	return proxy_commit(&m->s->proxy, err);
}

/* Everything that `make` opened and the sandbox does not need any more. */
static void release(struct making *m)
{
	root_disks_free(&m->root);
	share_free(&m->share);
	sandbox_close(&m->sandbox);
	free(m->join);
	vmm_close(&m->vmm);
	agent_close(&m->agent);
	for (unsigned i = 0; i < STREAMS; i++)
		close_fd(&m->streams[i]);
	close_fd(&m->lifeline);
	close_fd(&m->notify_sock);
	plan_free(&m->plan);
	m->root.data = NULL;
}

static void undo(struct making *m)
{
	struct container_state *st = &m->s->state;
	struct error why = ERROR_INIT;

	proxy_abort(&m->s->proxy);
	if (joins(m) && st->sandbox && pod_leave(&m->s->dir, st, &why) < 0)
		log_warn("%s", why.msg);
	release(m);
	if (m->pid_file_written)
		unlink(m->o->pid_file);
	if (m->vmm_pid > 0) {
		lifecycle_await_gone(st->vmm_pid, st->vmm_start);
		waitpid(m->vmm_pid, NULL, 0);
	}
	if (m->share.pid > 0)
		waitpid(m->share.pid, NULL, 0);
	host_cgroup_let_go(&st->cgroup);
	if (host_cgroup_remove(&st->cgroup, &why) < 0)
		log_warn("container \"%s\": %s", st->id, why.msg);
	if (plan_netns(m->s->spec))
		net_devices_return(m->s->spec, plan_netns(m->s->spec));
	root_changes_settle(st->record, st->id, false, true, &m->g->wish, -1, NULL);
	network_clean(m->s->dir.fd, plan_netns(m->s->spec), m->s->dir.id);
	dir_remove(&m->s->dir, NULL);
	if (!joins(m))
		host_policy_leave(m->s->spec, st->id);
	/* A container that was not made is destroyed, too (runtime.md, "Lifecycle", 3 to 5). */
	st->status = OCI_STATUS_STOPPED;
	st->pid = 0;
	why = (struct error)ERROR_INIT;
	if (lifecycle_hooks(OCI_HOOK_POSTSTOP, st, m->s->spec, -1, &why) < 0)
		log_warn("%s", why.msg);
}

/* Before anything is made: what is wrong with the pod. */
static int find_sandbox(struct making *m, struct error *err)
{
	if (sandbox_open(m->g->root, &m->plan.pod, &m->sandbox, err) < 0 ||
	    pod_check_network(&m->sandbox, m->plan.spec, err) < 0)
		return -1;
	m->join = pod_join_text(m->g->root, &m->sandbox, m->plan.spec, err);
	m->plan.choice.engine = strcmp(m->sandbox.state.engine ?: "", "kvm") == 0 ? "kvm" : "qemu";
	return m->join ? 0 : -1;
}

int lifecycle_create(const struct globals *g, const struct create_options *o, int intr_fd,
		     struct lifecycle *s, struct error *err)
{
	struct making m = {.g = g,
			   .o = o,
			   .s = s,
			   .intr_fd = intr_fd,
			   .lifeline = -1,
			   .notify_sock = -1,
			   .vmm = {.sock = -1},
			   .agent = {.sock = -1},
			   .root = {.wish = &g->wish,
				    .intr_fd = intr_fd,
				    .rootfs = {.dirfd = -1, .device = -1},
				    .record = {.dirfd = -1, .scratch = -1}},
			   .share = {.sock = -1, .news = -1},
			   .sandbox = {.dir = {.fd = -1}},
			   .streams = {-1, -1, -1, -1}};
	uint64_t t = now_us();

	*s = (struct lifecycle){.dir = {.fd = -1}, .proxy = {.link = -1}};
	if (id_check(o->id, err) < 0)
		return -1;
	if (plan_load(g, o->bundle, o->id, &m.plan, err) < 0) {
		oci_spec_free(m.plan.spec);
		plan_free(&m.plan);
		return -1;
	}
	s->spec = m.plan.spec;
	m.notify_sock = notify_open_mounted(s->spec);
	log_elapsed("parse", t);
	if (joins(&m) && find_sandbox(&m, err) < 0) {
		release(&m);
		return -1;
	}
	if (dir_make(g->root, o->id, &s->dir, err) < 0) {
		release(&m);
		return -1;
	}
	dir_note(&s->dir);
	s->state.id = xstrdup(o->id);
	s->state.bundle = xstrdup(m.plan.bundle);
	s->state.rootfs = xstrdup(m.plan.rootfs);
	s->state.config = xstrdup(m.plan.config);
	s->state.engine = xstrdup(m.plan.choice.engine);
	s->state.is_sandbox = is_sandbox(&m);
	clock_gettime(CLOCK_REALTIME, &s->state.created);
	if (make(&m, err) < 0) {
		undo(&m);
		return -1;
	}
	release(&m);
	log_elapsed("create, in all", t);
	return 0;
}
