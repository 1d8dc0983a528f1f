/*
 * How a container is made, started and taken away.
 *
 * create has several things going at once: husk-vmm boots the guest, the proxy enters its network
 * namespace, and we read the root file system. They meet when the disks are attached and the agent
 * is told to set the container up. Nothing needs undoing by hand when
 * something fails, or when this process is killed: the VM ends when the last write end of its
 * lifeline closes (ours and the proxy's), and the proxy ends when its link closes before the
 * commit. What is left is the container's directory and the record of its changes (record.h), which
 * a failed create removes and `delete` can remove at any time: the record's name is in the state
 * before there is a record, and until the state says that the container was started nothing of
 * value can be in it.
 */
#include "shim/lifecycle.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/unsupported.h"
#include "oci/validate.h"
#include "shim/console.h"
#include "shim/hooks.h"
#include "shim/mirror.h"
#include "shim/network.h"
#include "shim/paths.h"
#include "shim/project_push.h"
#include "shim/root_disks.h"
#include "shim/scratch.h"
#include "shim/share.h"
#include "shim/spawn.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define MIB (1024ull * 1024)
#define MEM_DEFAULT (512 * MIB)
#define MEM_OVERHEAD (128 * MIB) /* guest kernel and agent, on top of a container's limit */
#define VCPUS_MAX 64
#define SLOTS_QEMU 6 /* for disks, cards and virtio-fs (docs/control-socket.md, "Slots") */
#define BOOT_TIMEOUT_S 60
#define ANSWER_MS 3000 /* for a guest that runs to answer */
#define DAWDLE_S 1800  /* how long a guest may be at its changes before `delete` ends it */
#define GONE_MS 10000  /* how long processes that were told to end may take */

/* ---- a container's configuration */

struct plan {
	char *bundle, *config, *rootfs, *data;
	struct oci_spec *spec; /* belongs to the sandbox */
	struct mount_plan mounts;
	struct choice choice;
	uint64_t mem_bytes, scratch_bytes;
	unsigned vcpus;
};

static void free_plan(struct plan *p)
{
	free(p->bundle);
	free(p->config);
	free(p->rootfs);
	free(p->data);
	mount_plan_free(&p->mounts);
	choice_free(&p->choice);
}

static int find_rootfs(struct plan *p, struct error *err)
{
	const char *path = p->spec->root_path;
	cleanup_free char *joined =
		path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", p->bundle, path);
	struct stat st;

	if (stat(joined, &st) < 0)
		return error_errno(err, "root.path: %s", joined);
	if (!S_ISDIR(st.st_mode))
		return error_kind(err, ERR_INVALID, "root.path: %s: not a directory", joined);
	p->rootfs = realpath(joined, NULL);
	return p->rootfs ? 0 : error_errno(err, "root.path: %s", joined);
}

/* NULL: the container has a new network namespace. */
static const char *netns_path(const struct oci_spec *spec)
{
	const struct oci_namespace *net = oci_spec_namespace(spec, OCI_NS_NETWORK);

	return net ? net->path : NULL;
}

static int check_netns(const struct oci_spec *spec, struct error *err)
{
	const struct oci_namespace *net = oci_spec_namespace(spec, OCI_NS_NETWORK);

	if (!net->path || network_check_path(net->path, err) == 0)
		return 0;
	return error_wrap(err, "linux.namespaces[%td].path", net - spec->lnx.namespaces);
}

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The guest gets what the container may use and what its kernel needs; a limit that is none (more
 * than the host has) makes no larger machine than the host is. */
static void size_machine(struct plan *p)
{
	const struct oci_resources *r = p->spec->lnx.resources;
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned cpus = online < 1 ? 1 : online > VCPUS_MAX ? VCPUS_MAX : (unsigned)online;

	p->mem_bytes = MEM_DEFAULT;
	p->vcpus = 1;
	if (r && r->memory.limit.has && r->memory.limit.v > 0) {
		uint64_t limit = (uint64_t)r->memory.limit.v, most = host_memory();

		if (limit > most)
			limit = most;
		p->mem_bytes = (limit + limit / 16 + MEM_OVERHEAD + MIB - 1) / MIB * MIB;
	}
	if (r && r->cpu.quota_us.has && r->cpu.quota_us.v > 0) {
		uint64_t period =
			r->cpu.period_us.has && r->cpu.period_us.v ? r->cpu.period_us.v : 100000;
		uint64_t n = ((uint64_t)r->cpu.quota_us.v + period - 1) / period;

		p->vcpus = n < cpus ? (unsigned)n : cpus;
	}
}

static int load_plan(const struct globals *g, const struct create_options *o, struct plan *p,
		     struct error *err)
{
	cleanup_free char *path = NULL;
	unsigned interval; /* the mirror's business; wrong ones are refused here */
	size_t len;

	p->bundle = realpath(o->bundle ? o->bundle : ".", NULL);
	if (!p->bundle)
		return error_errno(err, "bundle %s", o->bundle ? o->bundle : ".");
	path = xasprintf("%s/config.json", p->bundle);
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return error_kind(err, ERR_INVALID,
				  "%s: no such file or directory: make one with 'husk spec'", path);
	if (file_read(AT_FDCWD, path, OCI_SPEC_MAX, &p->config, &len, err) < 0)
		return -1;
	if (oci_spec_parse(p->config, len, &p->spec, err) < 0 ||
	    oci_spec_validate(p->spec, err) < 0 || oci_spec_supported(p->spec, err) < 0 ||
	    scratch_size(oci_spec_annotation(p->spec, SCRATCH_ANNOTATION), &p->scratch_bytes, err) <
		    0 ||
	    sync_interval(oci_spec_annotation(p->spec, SYNC_ANNOTATION), &interval, err) < 0 ||
	    check_netns(p->spec, err) < 0 || find_rootfs(p, err) < 0 ||
	    mount_plan_make(p->spec, p->bundle, &p->mounts, err) < 0)
		return error_wrap(err, "%s", path);
	if (choice_make(&g->wish, oci_spec_annotation(p->spec, ENGINE_ANNOTATION), &p->choice,
			err) < 0)
		return -1;
	choice_say(&p->choice, g->log_fd >= 0);
	oci_spec_warn(p->spec);
	size_machine(p);
	p->data = path_data(err);
	return p->data ? 0 : -1;
}

/* ---- hooks */

static int run_phase(enum oci_hook_phase phase, const struct container_state *st,
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

/* ---- create */

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
	struct vmm_client vmm;
	struct agent_client agent;
	struct root_disks root;
	struct share share;
	int streams[STREAMS];
	uint64_t t_vmm; /* when husk-vmm was started */
	bool pid_file_written;
};

/* Of those that the guest may write. */
static uint64_t largest_disk(const struct making *m)
{
	const struct mount_plan *p = &m->plan.mounts;
	uint64_t most = m->root.writable ? m->plan.scratch_bytes : 0;
	struct stat st;

	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].from == MOUNT_FROM_DISK && p->v[i].writable &&
		    fstat(p->v[i].fd, &st) == 0 && (uint64_t)st.st_size > most)
			most = (uint64_t)st.st_size;
	return most;
}

/* Cards cannot be plugged: those of later have a slot from the start. */
static unsigned free_cards(const struct making *m, const struct vmm_config *cfg)
{
	unsigned used = cfg->readonly_disks + cfg->writable_disks + (cfg->fs_sock >= 0 ? 1 : 0);

	return network_cards(netns_path(m->plan.spec), used < SLOTS_QEMU ? SLOTS_QEMU - used : 0);
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
		.debug = m->g->debug,
		.listen_sock = listen_sock,
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
	if (m->plan.mounts.shares > 0 &&
	    share_start(&m->plan.mounts, rd, cfg.log_fd, &m->share, err) < 0)
		return -1;
	cfg.fs_sock = m->share.sock;
	if (!choice_is_kvm(&m->plan.choice))
		cfg.nics = free_cards(m, &cfg);
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

static int start_proxy(struct making *m, struct error *err)
{
	const struct oci_spec *spec = m->plan.spec;
	cleanup_close int console = -1;
	struct proxy_spawn ps = {.argv = spec->process->args,
				 .netns = netns_path(spec),
				 .new_netns = !netns_path(spec),
				 .lifeline = m->lifeline,
				 .dirfd = m->s->dir.fd,
				 .console_sock = -1,
				 .scratch = m->root.record.scratch,
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
		return -1;
	m->s->state.pid = m->s->proxy.pid;
	m->s->state.pid_start = proc_start_time(m->s->proxy.pid);
	if (m->root.record.dirfd < 0)
		return 0;
	return record_note_proxy(&m->root.record, m->s->state.pid, m->s->state.pid_start, err);
}

static int run_create_hooks(struct making *m, struct error *err)
{
	static const enum oci_hook_phase phases[] = {OCI_HOOK_PRESTART, OCI_HOOK_CREATE_RUNTIME,
						     OCI_HOOK_CREATE_CONTAINER};

	for (size_t i = 0; i < ARRAY_LEN(phases); i++)
		if (run_phase(phases[i], &m->s->state, m->plan.spec, m->intr_fd, err) < 0)
			return -1;
	return 0;
}

static unsigned boot_timeout_s(void)
{
	const char *s = getenv("HUSK_BOOT_TIMEOUT");
	int n = s ? atoi(s) : 0;

	return n > 0 ? (unsigned)n : BOOT_TIMEOUT_S;
}

static int attach_volumes(struct making *m, struct error *err)
{
	const struct mount_plan *p = &m->plan.mounts;

	for (size_t i = 0; i < p->n; i++) {
		const struct planned_mount *v = &p->v[i];

		if (v->from == MOUNT_FROM_DISK &&
		    vmm_attach_block(&m->vmm, v->serial, v->fd, !v->writable, v->writable, err) < 0)
			return error_wrap(err, "mounts[%zu]", v->index);
	}
	return 0;
}

static int attach_disks(struct making *m, struct error *err)
{
	uint64_t t;

	if (vmm_wait_started(&m->vmm, now_us() + boot_timeout_s() * 1000000ull, err) < 0)
		return share_blame(&m->share, err) < 0 ? choice_blame(&m->plan.choice, err) : -1;
	log_elapsed("VMM start (since its exec)", m->t_vmm);
	t = now_us();
	if (root_disks_attach(&m->root, &m->vmm, err) < 0)
		return -1;
	if (attach_volumes(m, err) < 0)
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

/* The guest gets the links of the namespace as they are now. */
static int give_network(const struct container_dir *d, pid_t pid, int intr_fd, struct error *err)
{
	const struct network_place place = {
		.container = d->id, .dirfd = d->fd, .pid = pid, .intr_fd = intr_fd};

	return network_sync(&place, true, err);
}

/* `run` lets the process go on here, at once: its stdio streams are opened while it starts, and
 * hold what it writes until then. */
static int start_in_guest(struct making *m, struct error *err)
{
	uint64_t t = now_us();

	if (give_network(&m->s->dir, m->s->state.pid, m->intr_fd, err) < 0 ||
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
	struct agent_msg made;
	struct proxy_job job;
	uint64_t t = now_us();
	int r;

	if (!root || !mounts || mount_plan_push(&m->plan.mounts, &m->vmm, &m->agent, err) < 0)
		return -1;
	if (m->plan.mounts.projects > 0)
		t = log_elapsed("push files", t);
	if (agent_create(&m->agent, m->s->dir.id, m->plan.config, root, mounts, &made, err) < 0)
		return -1;
	log_elapsed("create in the guest", t);
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
				 .init = true};
	memcpy(job.streams, m->streams, sizeof(job.streams));
	/* Before the first byte comes: what the guest's terminal wrote is written as it is. */
	if (uses_own_terminal(m->o, m->plan.spec))
		tty_raw(STDIN_FILENO);
	r = proxy_go(&m->s->proxy, &job, p->terminal, p->console_width, p->console_height,
		     m->intr_fd, err);
	log_elapsed("streams and proxy", t);
	return r;
}

/* The record's name is in the state before the record is there, so that `delete` finds it. */
static int make_record(struct making *m, struct error *err)
{
	struct container_state *st = &m->s->state;

	if (!m->root.writable)
		return 0;
	st->record = record_name(st->id);
	if (state_save(&m->s->dir, st, err) < 0)
		return -1;
	return root_disks_make_record(&m->root, st->record, st->id, m->plan.spec,
				      m->plan.scratch_bytes, err);
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
	if (mount_plan_save(&m->plan.mounts, m->s->dir.fd, err) < 0 || start_vmm(m, err) < 0)
		return -1;
	t = log_elapsed("fork husk-vmm", t);
	st->status = OCI_STATUS_CREATING;
	if (make_record(m, err) < 0)
		return -1;
	t = now_us();
	if (start_proxy(m, err) < 0)
		return -1;
	log_elapsed("proxy and network namespace", t);
	st->started = m->o->start;
	if (state_save(&m->s->dir, st, err) < 0)
		return -1;
	/* Hooks may change the root file system: it is read when they have run. */
	if ((hooks && run_create_hooks(m, err) < 0) || root_disks_build(&m->root, err) < 0)
		return -1;
	if (attach_disks(m, err) < 0 || meet_agent(m, err) < 0 || create_in_guest(m, err) < 0)
		return -1;
	st->status = m->o->start ? OCI_STATUS_RUNNING : OCI_STATUS_CREATED;
	if (m->o->pid_file && pid_file_write(m->o->pid_file, st->pid, err) < 0)
		return -1;
	m->pid_file_written = m->o->pid_file != NULL;
	if (state_save(&m->s->dir, st, err) < 0)
		return -1;
	return proxy_commit(&m->s->proxy, err);
}

/* Everything that `make` opened and the sandbox does not need any more. */
static void release(struct making *m)
{
	root_disks_free(&m->root);
	share_free(&m->share);
	vmm_close(&m->vmm);
	agent_close(&m->agent);
	for (unsigned i = 0; i < STREAMS; i++)
		close_fd(&m->streams[i]);
	close_fd(&m->lifeline);
	free_plan(&m->plan);
	m->root.data = NULL;
}

/* Waits until a process has gone, our child or not; kills it when it takes too long. */
static void await_gone(pid_t pid, uint64_t start)
{
	uint64_t end = now_us() + GONE_MS * 1000ull;

	while (process_alive(pid, start)) {
		if (now_us() > end)
			kill(pid, SIGKILL);
		poll(NULL, 0, 1);
	}
}

static void undo(struct making *m)
{
	struct container_state *st = &m->s->state;

	proxy_abort(&m->s->proxy);
	release(m);
	if (m->pid_file_written)
		unlink(m->o->pid_file);
	if (m->vmm_pid > 0) {
		await_gone(st->vmm_pid, st->vmm_start);
		waitpid(m->vmm_pid, NULL, 0);
	}
	if (m->share.pid > 0)
		waitpid(m->share.pid, NULL, 0);
	root_changes_settle(st->record, st->id, false, true, &m->g->wish, -1, NULL);
	network_clean(m->s->dir.fd, netns_path(m->s->spec), m->s->dir.id);
	dir_remove(&m->s->dir, NULL);
}

int lifecycle_create(const struct globals *g, const struct create_options *o, int intr_fd,
		     struct lifecycle *s, struct error *err)
{
	struct making m = {.g = g,
			   .o = o,
			   .s = s,
			   .intr_fd = intr_fd,
			   .lifeline = -1,
			   .vmm = {.sock = -1},
			   .agent = {.sock = -1},
			   .root = {.wish = &g->wish,
				    .intr_fd = intr_fd,
				    .rootfs = {.dirfd = -1, .device = -1},
				    .record = {.dirfd = -1, .scratch = -1}},
			   .share = {.sock = -1, .news = -1},
			   .streams = {-1, -1, -1, -1}};
	uint64_t t = now_us();

	*s = (struct lifecycle){.dir = {.fd = -1}, .proxy = {.link = -1}};
	if (id_check(o->id, err) < 0)
		return -1;
	if (load_plan(g, o, &m.plan, err) < 0) {
		oci_spec_free(m.plan.spec);
		free_plan(&m.plan);
		return -1;
	}
	s->spec = m.plan.spec;
	log_elapsed("parse", t);
	if (dir_make(g->root, o->id, &s->dir, err) < 0) {
		release(&m);
		return -1;
	}
	s->state.id = xstrdup(o->id);
	s->state.bundle = xstrdup(m.plan.bundle);
	s->state.rootfs = xstrdup(m.plan.rootfs);
	s->state.config = xstrdup(m.plan.config);
	s->state.engine = xstrdup(m.plan.choice.engine);
	clock_gettime(CLOCK_REALTIME, &s->state.created);
	if (make(&m, err) < 0) {
		undo(&m);
		return -1;
	}
	release(&m);
	log_elapsed("create, in all", t);
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

/* ---- start */

int lifecycle_poststart(const struct container_state *st, const struct oci_spec *spec, int intr_fd,
			struct error *err)
{
	return run_phase(OCI_HOOK_POSTSTART, st, spec, intr_fd, err);
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
	if (container_agent(d, st, &vmm, &a, err) < 0 || give_network(d, st->pid, intr_fd, err) < 0)
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

/* Processor time that a process has used, in clock ticks; 0 if that cannot be told. */
static uint64_t cpu_ticks(pid_t pid)
{
	cleanup_free char *path = xasprintf("/proc/%d/stat", (int)pid);
	cleanup_free char *text = NULL;
	unsigned long long user = 0, sys = 0;
	char *p;

	if (file_read(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
		return 0;
	/* The command name may hold anything; the last ')' ends it. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
			 &sys) != 2)
		return 0;
	return user + sys;
}

/* Kills what runs in the guest, so that the proxy brings the changes to the rootfs and ends by
 * itself; waits as long as it gets on with that. */
static void end_in_guest(const struct container_dir *d, const struct container_state *st)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	uint64_t used = 0, begun = now_us(), since = begun;

	if (vmm_connect(d->fd, &vmm, NULL) < 0 || agent_connect(&vmm, ANSWER_MS, &a, NULL) < 0 ||
	    agent_kill(&a, d->id, "", SIGKILL, true, NULL) < 0)
		return;
	/* A hostile one could trickle for hours; its disk is read by another guest then. */
	while (process_alive(st->pid, st->pid_start) && now_us() - since < GONE_MS * 1000ull &&
	       now_us() - begun < DAWDLE_S * 1000000ull) {
		uint64_t ticks = cpu_ticks(st->pid);

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

	if (!network_used(d->fd))
		return -1;
	if (process_alive(st->pid, st->pid_start))
		return open(path, O_RDONLY | O_CLOEXEC);
	if (!st->config || container_spec(st, &spec, NULL) < 0 || !netns_path(spec))
		return -1;
	return open(netns_path(spec), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

int lifecycle_destroy(const struct globals *g, struct container_dir *d, struct container_state *st,
		      bool force, struct error *err)
{
	cleanup_oci_spec struct oci_spec *spec = NULL;
	cleanup_close int netns = hold_netns(d, st);
	cleanup_free char *netns_fd = NULL;
	struct error hook_err = ERROR_INIT;

	if (st->record && process_alive(st->pid, st->pid_start))
		end_in_guest(d, st);
	if (process_alive(st->pid, st->pid_start)) {
		kill(st->pid, SIGKILL);
		await_gone(st->pid, st->pid_start);
	}
	/* The proxy held the lifeline: the VM ends by itself. */
	await_gone(st->vmm_pid, st->vmm_start);
	/* It holds the sources of shares: whoever unmounts them next finds them free. */
	await_gone(st->share_pid, st->share_start);
	/* Its proxy did this, unless it was killed. */
	if (netns >= 0)
		netns_fd = xasprintf("/proc/self/fd/%d", netns);
	network_clean(d->fd, netns_fd, d->id);
	st->status = OCI_STATUS_STOPPED;
	st->pid = 0;
	if (root_changes_settle(st->record, d->id, st->started, force, &g->wish, -1, err) < 0 ||
	    dir_remove(d, err) < 0)
		return -1;
	if (!st->config || container_spec(st, &spec, &hook_err) < 0)
		return 0;
	/* A failing poststop hook is a warning: the container is gone (runtime.md, "Lifecycle"). */
	if (run_phase(OCI_HOOK_POSTSTOP, st, spec, -1, &hook_err) < 0)
		log_warn("%s", hook_err.msg);
	return 0;
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
	if (vmm_connect(d->fd, vmm, err) < 0)
		return -1;
	return agent_connect(vmm, GONE_MS, a, err);
}
