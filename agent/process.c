/*
 * process.c - the table of containers and processes.
 *
 * A process goes through up to five waits, none of which stops the server:
 *
 *	root	(init) a worker mounts what it is to see (worker.h)
 *	report	its sync fd says READY (init), STARTED or FAILED; answers create, start or exec
 *	end	SIGCHLD; every child is reaped here, also orphans that nobody asked for
 *	output	its streams have passed on what it wrote, a worker has brought an init's disks in
 *		order; then `wait` is answered
 *	leave	the record stays for late waiters: init's until the container is deleted, an
 *		exec'd process's until its owner's connection ends
 *
 * A container that is deleted, or whose `create` failed, goes on in process_end.c.
 *
 * A process belongs to the client that made it. When that one's connection ends the process is
 * killed, by pid: it cannot have been reused, since only this table reaps.
 */
#include "agent/process.h"
#include "agent/namespaces.h"
#include "agent/projects.h"
#include "agent/ready.h"
#include "agent/request_network.h"
#include "agent/root.h"
#include "agent/tools.h"
#include "agent/volumes.h"
#include "agent/worker.h"
#include "lib/cleanup.h"
#include "lib/fds.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

static void proc_check_leave(struct proc *p);

/* ---- waiters */

int waiter_add(struct procs *set, struct waiter **list, void *client, int64_t seq,
	       struct error *err)
{
	struct waiter *w;

	if (set->n_waiters >= WAITERS_MAX)
		return error_set(err, "too many requests wait for an answer (%d)", WAITERS_MAX);
	w = xcalloc(1, sizeof(*w));
	*w = (struct waiter){.next = *list, .client = client, .seq = seq};
	*list = w;
	set->n_waiters++;
	return 0;
}

void waiters_forget(struct procs *set, struct waiter **list, const void *client)
{
	while (*list) {
		struct waiter *w = *list;

		if (w->client == client) {
			*list = w->next;
			set->n_waiters--;
			free(w);
		} else {
			list = &w->next;
		}
	}
}

void waiters_reply(struct procs *set, struct waiter **list, struct proto_reply *r)
{
	while (*list) {
		struct waiter *w = *list;

		*list = w->next;
		set->n_waiters--;
		r->seq = w->seq;
		set->ops->reply(w->client, r);
		free(w);
	}
}

void waiters_fail(struct procs *set, struct waiter **list, const struct error *err)
{
	struct proto_reply r = {.type = REPLY_ERROR, .error = err};

	waiters_reply(set, list, &r);
}

/* ---- look-up */

struct ctr *ctr_find(struct procs *set, const char *id)
{
	for (struct ctr *ctr = set->ctrs; ctr; ctr = ctr->next)
		if (strcmp(ctr->c->id, id) == 0)
			return ctr;
	return NULL;
}

struct proc *proc_find(struct ctr *ctr, const char *name)
{
	for (struct proc *p = ctr->procs; p; p = p->next)
		if (strcmp(p->name, name) == 0 && p->state != PROC_FAILED)
			return p;
	return NULL;
}

/* ---- memory events of a container */

/* Those that watch, and the init's owner, which may be one of them. */
static void tell_oom(struct ctr *ctr)
{
	void *owner = ctr->init ? ctr->init->owner : NULL;

	for (struct waiter *w = ctr->watchers; w; w = w->next)
		if (w->client != owner)
			ctr->set->ops->event(w->client, "oom", ctr->c->id, NULL);
	if (owner)
		ctr->set->ops->event(owner, "oom", ctr->c->id, NULL);
}

static void on_memory_event(void *arg, uint32_t events UNUSED)
{
	struct ctr *ctr = arg;
	char buf[256];
	unsigned long n;

	/* Reading arms the next event. */
	if (pread(ctr->oom_fd, buf, sizeof(buf), 0) < 0) {
		loop_remove(ctr->oom_src);
		ctr->oom_src = NULL;
		return;
	}
	n = container_oom_kills(ctr->c);
	if (n > ctr->oom_seen)
		tell_oom(ctr);
	ctr->oom_seen = n;
}

void ctr_watch_memory(struct ctr *ctr)
{
	struct error err = ERROR_INIT;
	char buf[256];

	ctr->oom_seen = container_oom_kills(ctr->c);
	if (ctr->c->cgroup_fd < 0)
		return;
	ctr->oom_fd = openat(ctr->c->cgroup_fd, "memory.events", O_RDONLY | O_CLOEXEC);
	if (ctr->oom_fd < 0 || pread(ctr->oom_fd, buf, sizeof(buf), 0) < 0)
		return;
	ctr->oom_src = loop_add(ctr->set->loop, ctr->oom_fd, EPOLLPRI, on_memory_event, ctr, &err);
	if (!ctr->oom_src)
		log_error("container %s: memory.events: %s", ctr->c->id, err.msg);
}

/* ---- records */

struct ctr *ctr_add(struct procs *set, struct container *c)
{
	struct ctr *ctr = xcalloc(1, sizeof(*ctr));

	*ctr = (struct ctr){.next = set->ctrs, .set = set, .c = c, .oom_fd = -1};
	set->ctrs = ctr;
	set->n_ctrs++;
	return ctr;
}

struct proc *proc_add(struct ctr *ctr, const char *name, void *owner)
{
	struct proc *p = xcalloc(1, sizeof(*p));

	*p = (struct proc){.next = ctr->procs,
			   .ctr = ctr,
			   .owner = owner,
			   .sync_fd = -1,
			   .console_sock = -1,
			   .oom_base = ctr->oom_seen};
	snprintf(p->name, sizeof(p->name), "%s", name);
	ctr->procs = p;
	ctr->set->n_procs++;
	return p;
}

static void close_sync(struct proc *p)
{
	loop_remove(p->sync_src);
	p->sync_src = NULL;
	close_fd(&p->sync_fd);
}

void proc_drop(struct proc *p)
{
	struct procs *set = p->ctr->set;
	struct proc **at = &p->ctr->procs;
	static const struct error gone = {.kind = ERR_NOT_RUNNING, .msg = "container was deleted"};

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (p->ctr->init == p)
		p->ctr->init = NULL;
	set->n_procs--;
	close_sync(p);
	close_fd(&p->console_sock);
	stream_free(p->in);
	stream_free(p->out);
	stream_free(p->err);
	stream_free(p->console);
	waiters_fail(set, &p->asker, &gone);
	waiters_fail(set, &p->waiters, &gone);
	free(p);
}

/* ---- the end of a process, and of a container */

bool proc_over(const struct proc *p)
{
	return p->reaped && p->outputs == 0;
}

void proc_reply_wait(const struct proc *p, struct proto_reply *r)
{
	*r = (struct proto_reply){.type = REPLY_WAIT,
				  .status = p->status,
				  .signal = p->signal,
				  .oom = p->oom,
				  .killed = p->killed,
				  .clean = p == p->ctr->init && root_is_clean(p->ctr->c)};
}

void proc_answer_wait(struct proc *p)
{
	struct proto_reply r;

	proc_reply_wait(p, &r);
	waiters_reply(p->ctr->set, &p->waiters, &r);
}

static void on_output_over(void *arg)
{
	struct proc *p = arg;

	p->outputs--;
	proc_check_leave(p);
}

static void on_input_over(void *arg UNUSED)
{
}

int proc_add_stream(struct proc *p, struct stream **slot, enum stream_kind kind, int fd,
		    struct error *err)
{
	bool output = kind != STREAM_IN;

	*slot = stream_new(p->ctr->set->streams, kind, fd, output ? on_output_over : on_input_over,
			   p, err);
	if (!*slot)
		return -1;
	p->outputs += output;
	return 0;
}

/* Whoever waits may know now; and a record that nobody can ask for any more goes. */
static void proc_check_leave(struct proc *p)
{
	if (!proc_over(p))
		return;
	proc_answer_wait(p);
	if (p != p->ctr->init && (!p->owner || p->state == PROC_FAILED))
		proc_drop(p);
}

void proc_signal(const struct proc *p, int signal)
{
	if (p->pid > 0 && !p->reaped)
		kill(p->pid, signal);
}

/* An init whose pid namespace does not end with it leaves others behind. */
static bool takes_all_along(const struct proc *p)
{
	return p == p->ctr->init && !ns_new(p->ctr->c, OCI_NS_PID);
}

void proc_kill(struct proc *p)
{
	p->killed = true;
	if (p->reaped)
		return;
	proc_signal(p, SIGKILL);
	if (p->pid == 0)
		workers_kill(p->ctr->set, p->ctr);
	else if (takes_all_along(p))
		container_kill_all(p->ctr->c, SIGKILL, NULL);
}

/* ---- reports of the set-up code */

/* The pty's master comes before the report that the server reacts to. */
static void take_console(struct proc *p)
{
	unsigned nfds = 1;
	char byte = 0;
	int fd;

	if (p->console_sock < 0)
		return;
	if (fds_receive(p->console_sock, &byte, 1, &fd, &nfds, MSG_DONTWAIT, NULL) >= 0 && nfds)
		stream_set_master(p->console, fd);
	close_fd(&p->console_sock);
}

static void reply_process(struct proc *p)
{
	struct proto_reply r = {.type = REPLY_PROCESS, .pid = p->pid, .process = p->name};

	if (p->in)
		stream_token(p->in, r.in);
	if (p->out)
		stream_token(p->out, r.out);
	if (p->err)
		stream_token(p->err, r.err);
	if (p->console)
		stream_token(p->console, r.console);
	waiters_reply(p->ctr->set, &p->asker, &r);
}

static const struct error killed_early = {.kind = ERR_NOT_RUNNING,
					  .msg = "the container was killed while it was made"};

static const struct error killed_late = {
	.kind = ERR_NOT_RUNNING, .msg = "the process was killed before its command was executed"};

static void remember_failure(struct ctr *ctr, const struct error *err)
{
	if (ctr->failure)
		return;
	ctr->failure = xcalloc(1, sizeof(*err));
	*ctr->failure = *err;
}

/* `create` failed: it is answered when the container has gone again. */
static void fail_create(struct proc *p, const struct error *err)
{
	close_sync(p);
	remember_failure(p->ctr, p->killed || p->ctr->deleting ? &killed_early : err);
	/* Not at once: the report may have been taken on behalf of reaping this very process. */
	p->ctr->deleting = true;
	proc_signal(p, SIGKILL);
}

void ctr_fail(struct ctr *ctr, const struct error *err)
{
	remember_failure(ctr, ctr->init->killed || ctr->deleting ? &killed_early : err);
	ctr->deleting = true;
	ctr->init->reaped = true; /* there is nothing to reap */
	ctr_check_delete(ctr);
}

static void on_report(struct proc *p, enum child_state state, struct error *err)
{
	bool is_init = p == p->ctr->init;
	struct proto_reply ok = {.type = REPLY_OK};

	if (p->state == PROC_CREATING) {
		if (state == CHILD_STARTED) /* it cannot be */
			error_set(err, "container init was not ready");
		if (state != CHILD_READY) {
			fail_create(p, err);
			return;
		}
		/* The next report is for `start`; until then only the end of the process counts. */
		loop_remove(p->sync_src);
		p->sync_src = NULL;
		p->state = PROC_CREATED;
		take_console(p);
		reply_process(p);
		return;
	}
	if (state == CHILD_READY) /* an exec'd process goes on by itself */
		return;
	close_sync(p);
	if (state == CHILD_STARTED) {
		p->state = PROC_RUNNING;
		take_console(p);
		if (is_init)
			waiters_reply(p->ctr->set, &p->asker, &ok);
		else
			reply_process(p);
	} else {
		p->state = is_init ? PROC_RUNNING : PROC_FAILED;
		waiters_fail(p->ctr->set, &p->asker, p->killed ? &killed_late : err);
	}
}

static void on_sync(void *arg, uint32_t events UNUSED)
{
	struct proc *p = arg;
	struct error err = ERROR_INIT;
	enum child_state state = child_report(p->sync_fd, &p->stage, &err);

	on_report(p, state, &err);
}

int proc_watch_sync(struct proc *p, struct error *err)
{
	p->sync_src = loop_add(p->ctr->set->loop, p->sync_fd, EPOLLIN, on_sync, p, err);
	return p->sync_src ? 0 : -1;
}

/* ---- reaping */

static struct proc *find_pid(struct procs *set, pid_t pid)
{
	for (struct ctr *ctr = set->ctrs; ctr; ctr = ctr->next)
		for (struct proc *p = ctr->procs; p; p = p->next)
			if (p->pid == pid && !p->reaped)
				return p;
	return NULL;
}

/* What a process said last is told first, whatever epoll's order was. */
static void last_report(struct proc *p)
{
	static const struct error died = {.kind = ERR_OTHER,
					  .msg = "process ended before it was started"};

	while (p->sync_src) {
		struct pollfd pfd = {.fd = p->sync_fd, .events = POLLIN};

		if (poll(&pfd, 1, 0) <= 0)
			break;
		on_sync(p, EPOLLIN);
	}
	if (p->state == PROC_CREATING)
		fail_create(p, &died);
	else
		waiters_fail(p->ctr->set, &p->asker, &died);
}

void proc_limit_output(struct proc *p)
{
	struct stream *outputs[] = {p->out, p->err, p->console};

	for (size_t i = 0; i < ARRAY_LEN(outputs); i++)
		if (outputs[i])
			stream_limit(outputs[i], STREAM_KILLED_US);
}

/* Tells the streams that the process has ended, or that nobody will fetch any more. May free `p`.
 */
static void end_streams(struct proc *p)
{
	struct stream *outputs[] = {p->out, p->err, p->console};

	/* The ends of streams must not find the process over before all have been told. */
	p->outputs++;
	if (p->in)
		stream_process_ended(p->in, 0);
	for (size_t i = 0; i < ARRAY_LEN(outputs); i++)
		if (outputs[i])
			stream_process_ended(outputs[i], p->owner ? STREAM_GRACE_US : 0);
	if (p->killed)
		proc_limit_output(p);
	on_output_over(p);
}

static int settle(void *arg, struct error *err UNUSED)
{
	const struct proc *p = arg;

	volumes_settle(p->ctr->c);
	return 0;
}

static void on_settled(void *arg, const struct error *failure UNUSED)
{
	struct proc *p = arg;
	struct ctr *ctr = p->ctr;

	on_output_over(p); /* it is the init, and stays */
	ctr_check_delete(ctr);
}

/* `wait` is answered when what was written to the init's disks is on them. */
static void settle_disks(struct proc *p)
{
	struct worker_job job = {.name = "husk-sync", .work = settle, .done = on_settled, .arg = p};
	struct container *c = p->ctr->c;
	struct error err = ERROR_INIT;

	if (p->ctr->deleting || !volumes_have_disk(c))
		return;
	p->outputs++;
	if (worker_start(p->ctr->set, p->ctr, &job, &err) == 0)
		return;
	p->outputs--;
	volumes_settle(c);
}

static void proc_reaped(struct proc *p, int wstatus)
{
	struct ctr *ctr = p->ctr;

	last_report(p);
	/* Whoever watches hears of the cause before the end, whatever epoll's order is. */
	if (ctr->oom_src)
		on_memory_event(ctr, 0);
	p->signal = WIFSIGNALED(wstatus) ? WTERMSIG(wstatus) : 0;
	p->status = p->signal ? 128 + p->signal : WEXITSTATUS(wstatus);
	p->oom = p->signal == SIGKILL && !p->killed && container_oom_kills(ctr->c) > p->oom_base;
	log_debug("container %s: process \"%s\" ended with %d", ctr->c->id, p->name, p->status);
	if (takes_all_along(p))
		container_kill_all(ctr->c, SIGKILL, NULL);
	if (p == ctr->init) {
		ctr->c->init = 0;
		ready_ended(ctr);
		settle_disks(p);
	}
	close_sync(p);
	p->reaped = true;
	end_streams(p);
	ctr_check_delete(ctr);
}

static void on_sigchld(void *arg, uint32_t events UNUSED)
{
	struct procs *set = arg;
	struct signalfd_siginfo info;
	struct ctr *ctr;
	struct proc *p;
	int wstatus;
	pid_t pid;

	/* First the signal, then the children: one that ends in between raises it anew. */
	if (read(set->sigchld, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &wstatus, WNOHANG)) > 0) {
		p = find_pid(set, pid);
		if (p) {
			proc_reaped(p, wstatus);
			continue;
		}
		if (!worker_reaped(set, pid)) {
			ctr = tools_reaped(set, pid);
			if (ctr)
				ctr_check_delete(ctr);
		}
		procs_check_down(set);
	}
}

/* ---- projects */

static void on_project_changed(void *arg, const char *container, const char *name)
{
	struct procs *set = arg;
	struct ctr *ctr = ctr_find(set, container);

	for (struct waiter *w = ctr ? ctr->watchers : NULL; w; w = w->next)
		set->ops->event(w->client, "changed", container, name);
}

/* ---- the table */

struct procs *procs_new(struct loop *loop, struct streams *streams, const struct proc_ops *ops,
			struct error *err)
{
	struct procs *set = xcalloc(1, sizeof(*set));
	sigset_t mask;

	*set = (struct procs){.loop = loop, .streams = streams, .ops = ops};
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	set->sigchld = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (set->sigchld < 0) {
		error_errno(err, "signalfd");
		free(set);
		return NULL;
	}
	set->sigchld_src = loop_add(loop, set->sigchld, EPOLLIN, on_sigchld, set, err);
	if (!set->sigchld_src) {
		close(set->sigchld);
		free(set);
		return NULL;
	}
	set->projects = projects_new(loop, on_project_changed, set);
	set->network = network_new();
	set->names = names_new(loop, streams);
	return set;
}

void procs_free(struct procs *set)
{
	if (!set)
		return;
	tools_free(set);
	workers_free(set);
	network_requests_free(set);
	while (set->ctrs) {
		struct ctr *ctr = set->ctrs;

		for (struct proc *p = ctr->procs; p; p = p->next)
			if (!p->reaped && p->pid > 0) {
				kill(p->pid, SIGKILL);
				waitpid(p->pid, NULL, 0);
			}
		ctr_end_now(ctr);
	}
	waiters_forget(set, &set->downers, NULL);
	projects_free(set->projects);
	network_free(set->network);
	names_free(set->names);
	loop_remove(set->sigchld_src);
	close(set->sigchld);
	free(set);
}

void procs_client_gone(struct procs *set, void *client)
{
	struct ctr *next_ctr;

	waiters_forget(set, &set->downers, client);
	tools_client_gone(set, client);
	workers_client_gone(set, client);
	projects_client_gone(set->projects, client);
	network_requests_client_gone(set, client);
	for (struct ctr *ctr = set->ctrs; ctr; ctr = next_ctr) {
		struct proc *next;

		next_ctr = ctr->next;
		waiters_forget(set, &ctr->deleters, client);
		waiters_forget(set, &ctr->creator, client);
		waiters_forget(set, &ctr->watchers, client);
		waiters_forget(set, &ctr->ready_waiters, client);
		for (struct proc *p = ctr->procs; p; p = next) {
			next = p->next;
			waiters_forget(set, &p->asker, client);
			waiters_forget(set, &p->waiters, client);
			if (p->owner != client)
				continue;
			p->owner = NULL;
			proc_kill(p);
			if (p->reaped)
				end_streams(p);
		}
	}
}

void procs_check_down(struct procs *set)
{
	struct proto_reply ok = {.type = REPLY_OK};

	if (!set->down || set->ctrs || tools_running(set, NULL) || workers_running(set, NULL) ||
	    !set->downers)
		return;
	sync();
	waiters_reply(set, &set->downers, &ok);
}
