#include "agent/disk.h"
#include "agent/process.h"
#include "agent/projects.h"
#include "agent/ps.h"
#include "agent/ready.h"
#include "agent/request_network.h"
#include "agent/slots.h"
#include "agent/stats.h"
#include "agent/sysctl.h"
#include "agent/tools.h"
#include "agent/volumes.h"
#include "agent/worker.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>

/* Answers that come at once. */

static void reply_ok(struct procs *set, void *client, int64_t seq)
{
	struct proto_reply r = {.type = REPLY_OK, .seq = seq};

	set->ops->reply(client, &r);
}

static void reply_error(struct procs *set, void *client, int64_t seq, const struct error *err)
{
	struct proto_reply r = {.type = REPLY_ERROR, .seq = seq, .error = err};

	set->ops->reply(client, &r);
}

static struct ctr *need_ctr(struct procs *set, const struct proto_request *r, struct error *err)
{
	struct ctr *ctr = ctr_find(set, r->container);

	if (!ctr)
		error_kind(err, ERR_NOT_FOUND, "container %s does not exist", r->container);
	return ctr;
}

static struct proc *need_proc(struct procs *set, const struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);
	struct proc *p = ctr ? proc_find(ctr, r->process) : NULL;

	if (ctr && !p)
		error_kind(err, ERR_NOT_FOUND, "container %s has no process \"%s\"", r->container,
			   r->process);
	return p;
}

static bool init_lives(const struct ctr *ctr)
{
	return ctr->init && !ctr->init->reaped && !ctr->deleting;
}

/* One with a process. */
static struct ctr *need_running(struct procs *set, const struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);

	if (ctr && (!init_lives(ctr) || ctr->init->pid == 0)) {
		error_kind(err, ERR_NOT_RUNNING, "container not running");
		return NULL;
	}
	return ctr;
}

/* ---- create, exec */

/* The child's side of its stdio, and ours. */
struct stdio {
	struct child_io child;
	int in, out, err;
};

#define STDIO_INIT                           \
	{                                    \
		{-1, -1, -1, -1}, -1, -1, -1 \
	}

static void stdio_close(struct stdio *io)
{
	close_fd(&io->child.in);
	close_fd(&io->child.out);
	close_fd(&io->child.err);
	close_fd(&io->child.console_sock);
	close_fd(&io->in);
	close_fd(&io->out);
	close_fd(&io->err);
}
#define cleanup_stdio __attribute__((cleanup(stdio_close)))

/* Makes pipes, or the socket on which the pty's master comes, and the process's streams on them.
 */
static int add_stdio(struct proc *p, const struct oci_process *spec, struct stdio *io,
		     struct error *err)
{
	if (spec->terminal) {
		int fds[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
			return error_errno(err, "socketpair");
		p->console_sock = fds[0];
		io->child.console_sock = fds[1];
		return proc_add_stream(p, &p->console, STREAM_CONSOLE, -1, err);
	}
	if (pipe_make(&io->child.in, &io->in, err) < 0 ||
	    pipe_make(&io->out, &io->child.out, err) < 0 ||
	    pipe_make(&io->err, &io->child.err, err) < 0 ||
	    proc_add_stream(p, &p->in, STREAM_IN, steal_fd(&io->in), err) < 0 ||
	    proc_add_stream(p, &p->out, STREAM_OUT, steal_fd(&io->out), err) < 0)
		return -1;
	return proc_add_stream(p, &p->err, STREAM_OUT, steal_fd(&io->err), err);
}

static int check_room(struct procs *set, struct error *err)
{
	if (set->down)
		return error_kind(err, ERR_NOT_RUNNING, "the guest is shutting down");
	if (set->n_procs >= PROCS_MAX)
		return error_set(err, "too many processes (%u)", set->n_procs);
	return 0;
}

/* What is left to do when the child has been forked: a failure here kills it. */
static int await_report(struct proc *p, void *client, int64_t seq, struct error *err)
{
	if (proc_watch_sync(p, err) < 0)
		return -1;
	return waiter_add(p->ctr->set, &p->asker, client, seq, err);
}

/* The root is there: now the process. */
static int fork_init(struct ctr *ctr, struct error *err)
{
	cleanup_stdio struct stdio io = STDIO_INIT;
	struct proc *p = ctr->init;

	if (container_ready(ctr->c, err) < 0)
		return -1;
	ctr_watch_memory(ctr);
	if (ready_watch(ctr, err) < 0)
		return -1;
	if (add_stdio(p, ctr->c->spec->process, &io, err) < 0)
		return -1;
	p->sync_fd = container_create(ctr->c, &io.child, err);
	if (p->sync_fd < 0)
		return -1;
	p->pid = ctr->c->init;
	if (proc_watch_sync(p, err) == 0)
		return 0;
	ctr_delete(ctr);
	return 0;
}

static int prepare(void *arg, struct error *err)
{
	const struct ctr *ctr = arg;

	return container_prepare(ctr->c, err);
}

static void on_prepared(void *arg, const struct error *failure)
{
	struct ctr *ctr = arg;
	struct error err = ERROR_INIT;

	if (failure)
		ctr_fail(ctr, failure);
	else if (ctr->deleting || ctr->init->killed)
		ctr_fail(ctr, NULL);
	else if (fork_init(ctr, &err) < 0)
		ctr_fail(ctr, &err);
}

/* They were pushed before. */
static int use_projects(struct procs *set, const struct proto_request *r, struct error *err)
{
	for (size_t i = 0; i < r->n_mounts; i++) {
		const struct proto_mount *m = &r->mounts[i];

		if (m->from == PROTO_MOUNT_PROJECT &&
		    projects_use(set->projects, r->container, m->name, m->writable, err) < 0)
			return error_wrap(err, "mounts[%zu]", m->index);
	}
	return 0;
}

static int join(struct procs *set, struct container *c, enum oci_ns_type type, const char *id,
		struct error *err)
{
	const struct ctr *other = id ? ctr_find(set, id) : NULL;

	if (!id)
		return 0;
	if (!other)
		error_kind(err, ERR_NOT_FOUND, "container %s does not exist", id);
	else if (!init_lives(other))
		error_kind(err, ERR_NOT_RUNNING, "container %s has ended", id);
	else if (container_join(c, type, other->c, err) == 0)
		return 0;
	return error_wrap(err, "join.%s", oci_ns_name(type));
}

static struct container *new_container(struct procs *set, struct proto_request *r,
				       struct error *err)
{
	struct container *c;

	if (use_projects(set, r, err) < 0)
		return NULL;
	c = container_new(r->container, steal_ptr(&r->config), &r->root, steal_ptr(&r->mounts),
			  r->n_mounts, steal_ptr(&r->devices), r->n_devices, r->notify, err);
	if (c && join(set, c, OCI_NS_IPC, r->join.ipc, err) == 0 &&
	    join(set, c, OCI_NS_UTS, r->join.uts, err) == 0 &&
	    join(set, c, OCI_NS_PID, r->join.pid, err) == 0 &&
	    join(set, c, OCI_NS_USER, r->join.user, err) == 0)
		return c;
	if (c)
		container_free(c);
	return NULL;
}

static int do_create(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct worker_job job = {.name = "husk-create", .work = prepare, .done = on_prepared};
	struct container *c;
	struct ctr *ctr;

	if (check_room(set, err) < 0)
		return -1;
	if (ctr_find(set, r->container))
		return error_kind(err, ERR_EXISTS, "container %s exists", r->container);
	if (set->n_ctrs >= CTRS_MAX)
		return error_set(err, "too many containers (%u)", set->n_ctrs);
	network_begin(set->network);
	c = new_container(set, r, err);
	if (!c) {
		projects_release(set->projects, r->container);
		return -1;
	}
	ctr = ctr_add(set, c);
	ctr->init = proc_add(ctr, "", client);
	ctr->init->state = PROC_CREATING;
	job.arg = ctr;
	if (waiter_add(set, &ctr->init->asker, client, r->seq, err) < 0 ||
	    worker_start(set, ctr, &job, err) < 0) {
		waiters_forget(set, &ctr->init->asker, client);
		ctr->init->reaped = true;
		ctr_delete(ctr);
		return -1;
	}
	return 0;
}

static int do_exec(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	cleanup_stdio struct stdio io = STDIO_INIT;
	struct ctr *ctr = need_ctr(set, r, err);
	char name[PROTO_NAME_MAX + 1];
	struct proc *p;

	if (!ctr || check_room(set, err) < 0)
		return -1;
	if (!init_lives(ctr) || ctr->init->state == PROC_CREATING)
		return error_kind(err, ERR_NOT_RUNNING, "cannot exec in a stopped container");
	snprintf(name, sizeof(name), "%u", ++ctr->last_name);
	p = proc_add(ctr, name, client);
	p->state = PROC_STARTING;
	if (add_stdio(p, r->spec, &io, err) < 0 ||
	    (p->sync_fd = container_exec(ctr->c, r->spec, r->cgroup, &io.child, &p->pid, err)) <
		    0) {
		proc_drop(p);
		return -1;
	}
	if (await_report(p, client, r->seq, err) < 0) {
		p->state = PROC_FAILED;
		proc_kill(p);
		return -1;
	}
	return 0;
}

/* ---- start, kill, resize */

static int do_start(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);
	struct proc *p = ctr ? ctr->init : NULL;

	if (!ctr)
		return -1;
	if (!init_lives(ctr))
		return error_kind(err, ERR_NOT_RUNNING,
				  "cannot start a container that has stopped");
	if (p->state == PROC_CREATING)
		return error_kind(err, ERR_NOT_RUNNING, "container %s is being made", r->container);
	if (p->state != PROC_CREATED)
		return error_kind(err, ERR_INVALID, "cannot start an already running container");
	if (waiter_add(set, &p->asker, client, r->seq, err) < 0)
		return -1;
	/* What takes the cards at this moment hides the others itself. */
	if (!set->network_requests)
		network_hide_spares(set->network);
	if (proc_watch_sync(p, err) < 0 || container_start(ctr->c, p->sync_fd, err) < 0) {
		waiters_fail(set, &p->asker, err);
		proc_kill(p);
		return 0;
	}
	p->state = PROC_STARTING;
	return 0;
}

static int not_running(const struct proc *p, struct error *err)
{
	return error_kind(err, ERR_NOT_RUNNING, "%s",
			  *p->name ? "os: process already finished" : "container not running");
}

/* What has no handlers yet ignores signals when it is its namespace's PID 1: before `start`, those
 * that are to end a container do end it. */
static bool ends_created(int signal)
{
	return signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGQUIT;
}

static int do_kill(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct proc *p = need_proc(set, r, err);
	int signal = r->signal;

	if (!p)
		return -1;
	if (p->reaped) {
		if (signal != SIGKILL || proc_over(p))
			return not_running(p, err);
		p->killed = true;
		proc_limit_output(p);
		reply_ok(set, client, r->seq);
		return 0;
	}
	if (p->state <= PROC_CREATED && ends_created(signal))
		signal = SIGKILL;
	if (signal == SIGKILL)
		p->killed = true;
	if (p->pid == 0) { /* its root is being made */
		if (signal != SIGKILL)
			return not_running(p, err);
		proc_kill(p);
	} else if (r->all) {
		if (container_kill_all(p->ctr->c, signal, err) < 0)
			return -1;
	} else if (signal == SIGKILL) {
		proc_kill(p);
	} else if (kill(p->pid, signal) < 0) {
		return error_errno(err, "signal %d", signal);
	}
	reply_ok(set, client, r->seq);
	return 0;
}

static int do_resize(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct proc *p = need_proc(set, r, err);

	if (!p)
		return -1;
	if (!p->console)
		return error_kind(err, ERR_INVALID, "the process has no terminal");
	if (p->reaped)
		return not_running(p, err);
	if (stream_resize(p->console, r->width, r->height, err) < 0)
		return -1;
	reply_ok(set, client, r->seq);
	return 0;
}

/* ---- wait */

static int do_wait(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct proc *p = need_proc(set, r, err);
	struct proto_reply reply;

	if (!p)
		return -1;
	if (!proc_over(p))
		return waiter_add(set, &p->waiters, client, r->seq, err);
	proc_reply_wait(p, &reply);
	reply.seq = r->seq;
	set->ops->reply(client, &reply);
	return 0;
}

/* ---- the whole container */

/* A request that a worker serves, and what is to be done when it has ended. */
struct change {
	struct ctr *ctr;
	enum proto_freezer by;
	bool undo;
	const struct oci_resources *r; /* the request's: not for `done` */
};

static struct change *new_change(struct ctr *ctr)
{
	struct change *ch = xcalloc(1, sizeof(*ch));

	ch->ctr = ctr;
	return ch;
}

static int start_change(struct change *ch, struct worker_job job, void *client, int64_t seq,
			struct error *err)
{
	job.arg = ch;
	job.keep = &ch->ctr->c->cgroup_fd;
	if (worker_answer(ch->ctr->set, ch->ctr, client, seq, &job, err) == 0)
		return 0;
	job.done(ch, err);
	return -1;
}

static int await_frozen(void *arg, struct error *err)
{
	const struct change *ch = arg;

	return container_await_frozen(ch->ctr->c, err);
}

/* Nobody was told that it has stopped: what did must go on. */
static void on_frozen(void *arg, const struct error *failure)
{
	struct change *ch = arg;

	if (failure && ch->undo)
		container_freeze(ch->ctr->c, ch->by, false, NULL);
	ctr_check_delete(ch->ctr);
	free(ch);
}

static int do_freeze(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_running(set, r, err);
	bool frozen = r->op == OP_PAUSE;
	struct change *ch;
	bool was;

	if (!ctr)
		return -1;
	was = ctr->c->frozen_by & (1u << r->by);
	if (container_freeze(ctr->c, r->by, frozen, err) < 0)
		return -1;
	if (container_has_frozen(ctr->c)) {
		reply_ok(set, client, r->seq);
		return 0;
	}
	ch = new_change(ctr);
	ch->by = r->by;
	ch->undo = frozen && !was;
	return start_change(
		ch,
		(struct worker_job){.name = "husk-freeze", .work = await_frozen, .done = on_frozen},
		client, r->seq, err);
}

static int update(void *arg, struct error *err)
{
	const struct change *ch = arg;

	return container_update(ch->ctr->c, ch->r, err);
}

static void on_updated(void *arg, const struct error *failure)
{
	struct change *ch = arg;

	container_update_end(ch->ctr->c, ch->undo || failure);
	ctr_check_delete(ch->ctr);
	free(ch);
}

/* Lowering a limit may take the time that the kernel needs to push memory out. */
static int do_update(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_running(set, r, err);
	struct change *ch;

	if (!ctr || container_update_begin(ctr->c, r->resources, err) < 0)
		return -1;
	ch = new_change(ctr);
	ch->r = r->resources;
	ch->undo = !r->resources;
	return start_change(
		ch, (struct worker_job){.name = "husk-update", .work = update, .done = on_updated},
		client, r->seq, err);
}

static const char *name_of_pid(void *arg, int pid)
{
	const struct ctr *ctr = arg;

	for (const struct proc *p = ctr->procs; p; p = p->next)
		if (p->pid == pid && !p->reaped)
			return p->name;
	return NULL;
}

static int do_ps(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);
	cleanup_free struct proto_ps *list = NULL;
	struct proto_reply reply = {.type = REPLY_PS, .seq = r->seq};

	if (!ctr || ps_list(ctr->c->cgroup_fd, name_of_pid, ctr, &list, &reply.n_ps, err) < 0)
		return -1;
	reply.ps = list;
	set->ops->reply(client, &reply);
	return 0;
}

static int do_stats(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);
	cleanup_free struct stats *stats = NULL;
	struct proto_reply reply = {.type = REPLY_STATS, .seq = r->seq};
	struct sysinfo machine = {0};

	if (!ctr)
		return -1;
	stats = xcalloc(1, sizeof(*stats));
	stats_collect(ctr->c->cgroup_fd, stats);
	sysinfo(&machine);
	reply.stats = stats;
	reply.memory = (uint64_t)machine.totalram * machine.mem_unit;
	reply.cpus = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	set->ops->reply(client, &reply);
	return 0;
}

/* ---- changes, push, watch */

static int check_deleting(const struct ctr *ctr, struct error *err)
{
	return ctr->deleting ? error_kind(err, ERR_NOT_RUNNING, "container %s is being deleted",
					  ctr->c->id)
			     : 0;
}

static struct ctr *need_scratch(struct procs *set, const struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);

	if (!ctr || check_deleting(ctr, err) < 0)
		return NULL;
	if (!ctr->init || (ctr->init->pid == 0 && !ctr->init->reaped))
		error_kind(err, ERR_NOT_RUNNING, "container %s is being made", r->container);
	else if (!ctr->c->root.upper[0])
		error_kind(err, ERR_INVALID, "container %s has a read-only root", r->container);
	else
		return ctr;
	return NULL;
}

static int do_changes(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct tool_job job = {.op = r->op, .what = r->what, .serial = r->serial, .projects = -1};
	struct ctr *ctr = NULL;
	char **names;
	int *fds;

	if (r->what == PROTO_WHAT_ROOT) {
		ctr = need_scratch(set, r, err);
		if (!ctr)
			return -1;
		job.c = ctr->c;
		job.ended = !init_lives(ctr);
		if (job.ended)
			container_kill_all(ctr->c, SIGKILL, NULL);
	} else if (r->what == PROTO_WHAT_PROJECTS) {
		ctr = need_ctr(set, r, err);
		if (!ctr || check_deleting(ctr, err) < 0)
			return -1;
		job.n = projects_writable(set->projects, r->container, &names, &fds);
		job.names = names;
		job.fds = fds;
	}
	return tool_start(set, ctr, client, r->seq, &job, err);
}

static int do_push(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct tool_job job = {.op = r->op, .what = r->what, .projects = -1};
	struct ctr *ctr = NULL;

	if (r->what == PROTO_WHAT_ROOT) {
		ctr = need_scratch(set, r, err);
		if (!ctr)
			return -1;
		job.c = ctr->c;
	} else {
		job.projects = projects_dir(set->projects, r->container, client, err);
		if (job.projects < 0)
			return -1;
	}
	return tool_start(set, ctr, client, r->seq, &job, err);
}

static int do_watch(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);

	if (!ctr)
		return -1;
	waiters_forget(set, &ctr->watchers, client); /* twice is once */
	if (waiter_add(set, &ctr->watchers, client, r->seq, err) < 0)
		return -1;
	reply_ok(set, client, r->seq);
	return 0;
}

static int do_ready(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);
	struct proto_reply reply = {.type = REPLY_READY, .seq = r->seq};

	if (!ctr)
		return -1;
	if (!ctr->ready_src)
		return error_kind(err, ERR_INVALID, "container %s has no notification socket",
				  r->container);
	if (!ctr->ready[0] && !init_lives(ctr))
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (!ctr->ready[0])
		return waiter_add(set, &ctr->ready_waiters, client, r->seq, err);
	reply.ready = ctr->ready;
	set->ops->reply(client, &reply);
	return 0;
}

static int release_disk(void *arg, struct error *err)
{
	return disk_release(arg, err);
}

static int forget_share(void *arg, struct error *err)
{
	(void)err;
	volumes_forget(arg);
	return 0;
}

static int do_release(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	if (r->share[0]) {
		if (worker_start(set, NULL,
				 &(struct worker_job){.name = "husk-forget",
						      .work = forget_share,
						      .arg = r->share},
				 err) < 0)
			return -1;
		reply_ok(set, client, r->seq);
		return 0;
	}
	if (r->detached) {
		slots_detached(r->serial);
		reply_ok(set, client, r->seq);
		return 0;
	}
	return worker_answer(set, NULL, client, r->seq,
			     &(struct worker_job){.name = "husk-release",
						  .work = release_disk,
						  .arg = r->serial},
			     err);
}

static int do_delete(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *ctr = need_ctr(set, r, err);

	if (!ctr)
		return -1;
	if (waiter_add(set, &ctr->deleters, client, r->seq, err) < 0)
		return -1;
	ctr_delete(ctr);
	return 0;
}

static int do_shutdown(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct ctr *next;

	if (waiter_add(set, &set->downers, client, r->seq, err) < 0)
		return -1;
	set->down = true;
	tools_kill(set, NULL);
	for (struct ctr *ctr = set->ctrs; ctr; ctr = next) {
		next = ctr->next;
		ctr_delete(ctr);
	}
	procs_check_down(set);
	return 0;
}

void procs_request(struct procs *set, void *client, struct proto_request *r)
{
	static int (*const ops[])(struct procs *, void *, struct proto_request *,
				  struct error *) = {
		[OP_CREATE] = do_create,
		[OP_START] = do_start,
		[OP_EXEC] = do_exec,
		[OP_WAIT] = do_wait,
		[OP_KILL] = do_kill,
		[OP_RESIZE] = do_resize,
		[OP_PAUSE] = do_freeze,
		[OP_RESUME] = do_freeze,
		[OP_UPDATE] = do_update,
		[OP_CHANGES] = do_changes,
		[OP_PUSH] = do_push,
		[OP_WATCH] = do_watch,
		[OP_PS] = do_ps,
		[OP_DELETE] = do_delete,
		[OP_SHUTDOWN] = do_shutdown,
		[OP_RELEASE] = do_release,
		[OP_NETWORK] = request_network,
		[OP_RESOLVER] = request_resolver,
		[OP_STATS] = do_stats,
		[OP_READY] = do_ready,
	};
	struct error err = ERROR_INIT;

	/* -1: nobody has answered and nobody will. */
	if (ops[r->op](set, client, r, &err) < 0)
		reply_error(set, client, r->seq, &err);
}
