/*
 * tools.c - `changes` and `push`, each served by a process of its own.
 *
 * Reading an upper layer or writing what the host sent takes as long as it takes: PID 1 forks, and
 * its loop goes on. The fork has one end of a pipe; the other end is a stream (streams.c), so that
 * the host's pace is the tool's pace, and a host that goes away is a broken pipe to it.
 *
 *	changes	upper layer, projects or a disk ──cs_collect──▶ pipe ──stream──▶ host
 *	push	host ──stream──▶ pipe ──cs_apply──▶ merged root or projects
 *		"ok" or an error ──▶ pipe ──result──▶ host
 *
 * A tool opens what it needs before it reports READY, which answers the request; what fails later
 * is told in the changeset's end record, or in the result.
 *
 * It belongs to the connection that asked, and is killed when that ends; a container that is
 * deleted kills its tools and waits for them, since their descriptors keep its disks busy. What is
 * in the pipe when a tool has ended is still sent, like the output of any process.
 *
 * The scratch disk of a container that is gone (its guest died) is mounted without a mount point:
 * the mount lives by its descriptor, and ends with the process whatever becomes of that. Mounted
 * read-only, which replays the journal all the same: nothing else is written to the disk, so that
 * whoever is interrupted may begin again.
 *
 * Pushes to one target take turns, by a lock on a directory that no container can reach.
 */
#include "agent/tools.h"
#include "agent/root.h"
#include "agent/sync.h"
#include "agent/worker.h"
#include "lib/changeset/apply.h"
#include "lib/changeset/collect.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define RESULT_MAX 1000 /* bytes of an error in a result */

struct tool {
	struct tool *next;
	struct procs *set;
	struct ctr *ctr; /* NULL: none, or the tool has been reaped */
	void *client;	 /* NULL once it has gone */
	pid_t pid;	 /* 0 once it has been reaped */
	int sync_fd;
	enum child_stage stage;
	struct loop_source *sync_src;
	struct waiter *asker; /* until the report */
	struct stream *stream, *result;
	unsigned open; /* of them: not over yet */
};

/* ---- the process */

struct ends {
	int data;   /* changes: written to; push: read from */
	int result; /* push */
	int sync;
};

/* A job and the tool's own descriptors for it. */
struct work {
	const struct tool_job *job;
	struct container c; /* a copy of *job->c */
	struct ends e;
	int projects;
	int *fds;
};

static int become_tool(struct work *w, struct error *err)
{
	const struct tool_job *job = w->job;
	int **keep = xcalloc(job->n + 5, sizeof(*keep));
	size_t n = 0;
	int r;

	w->fds = xcalloc(job->n + 1, sizeof(int));
	w->projects = job->projects;
	keep[n++] = &w->e.sync;
	keep[n++] = &w->e.data;
	if (w->e.result >= 0)
		keep[n++] = &w->e.result;
	if (w->projects >= 0)
		keep[n++] = &w->projects;
	if (job->c)
		w->c = *job->c;
	if (job->c && w->c.cgroup_fd >= 0)
		keep[n++] = &w->c.cgroup_fd;
	for (size_t i = 0; i < job->n; i++) {
		w->fds[i] = job->fds[i];
		keep[n++] = &w->fds[i];
	}
	r = worker_become(job->op == OP_PUSH ? "husk-push" : "husk-changes", keep, n, err);
	free(keep);
	return r;
}

/* An upper directory as the host made it (root.c, make_upper_dir): its guest died before anything
 * got to the disk. Its attributes mean nothing. */
static bool is_untouched(int upper)
{
	struct stat st;

	return fstat(upper, &st) == 0 && (st.st_mode & 07777) == 0 && dir_is_empty(upper, ".");
}

static int changes(struct work *w, struct error *err)
{
	const struct tool_job *job = w->job;
	cleanup_close int from = -1, index = -1;
	struct cs_counts n = {0};

	if (job->what == PROTO_WHAT_ROOT) {
		if (job->ended && container_await_empty(&w->c, err) < 0)
			return -1;
		from = root_open_upper(job->c, err);
	} else if (job->what == PROTO_WHAT_DISK) {
		from = root_open_scratch(job->serial, err);
	}
	if ((from < 0 && job->what != PROTO_WHAT_PROJECTS) || sync_ready(w->e.sync, err) < 0)
		return -1;
	close_fd(&w->e.sync);
	if (job->what == PROTO_WHAT_PROJECTS)
		return cs_collect_members(job->names, w->fds, job->n, w->e.data, &n, err);
	if (job->what == PROTO_WHAT_DISK && is_untouched(from))
		return cs_collect_members(NULL, NULL, 0, w->e.data, &n, err);
	/* work/ is beside upper/; without hard links in the lower there is no index. */
	index = openat(from, "../work/index", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return cs_collect_upper(from, index, w->e.data, &n, err);
}

/* `lock`: a directory of the agent's. */
static int apply(struct work *w, int to, int lock, struct error *err)
{
	struct cs_apply_options o = {
		.mknod = w->job->what == PROTO_WHAT_ROOT,
		.in_place = w->job->what == PROTO_WHAT_PROJECTS,
	};
	struct cs_counts n = {0};

	while (flock(lock, LOCK_EX) < 0)
		if (errno != EINTR)
			return error_errno(err, "lock the target of a push");
	return cs_apply(w->e.data, to, &o, &n, err);
}

static void tell_result(int fd, const struct error *why)
{
	cleanup_free char *text =
		why ? xasprintf("error: %.*s\n", RESULT_MAX, why->msg) : xstrdup("ok\n");

	write_all(fd, text, strlen(text), NULL);
}

static int push(struct work *w, struct error *err)
{
	cleanup_close int to = -1;
	cleanup_close int lock = -1;
	struct error why = ERROR_INIT;

	if (w->job->what == PROTO_WHAT_ROOT) {
		to = root_open_merged(w->job->c, err);
		lock = to < 0 ? -1 : root_open_dir(w->job->c, err);
	} else {
		lock = openat(w->projects, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (lock < 0)
			return error_errno(err, "open the projects");
		to = fcntl(lock, F_DUPFD_CLOEXEC, 0);
	}
	if (to < 0 || lock < 0 || sync_ready(w->e.sync, err) < 0)
		return -1;
	close_fd(&w->e.sync);
	tell_result(w->e.result, apply(w, to, lock, &why) < 0 ? &why : NULL);
	return 0;
}

static void __attribute__((noreturn)) run(const struct tool_job *job, const struct ends *e)
{
	struct work w = {.job = job, .e = *e};
	struct error err = ERROR_INIT;

	if (become_tool(&w, &err) == 0 &&
	    (job->op == OP_PUSH ? push(&w, &err) : changes(&w, &err)) == 0)
		_exit(0);
	if (w.e.sync >= 0)
		sync_failed(w.e.sync, &err);
	_exit(1);
}

/* ---- the agent's side: its end, and that of its streams */

static void close_sync(struct tool *t)
{
	loop_remove(t->sync_src);
	t->sync_src = NULL;
	close_fd(&t->sync_fd);
}

static void tool_free(struct tool *t)
{
	struct tool **at = &t->set->tools;

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	t->set->n_tools--;
	close_sync(t);
	waiters_forget(t->set, &t->asker, t->client);
	stream_free(t->stream);
	stream_free(t->result);
	free(t);
}

static void on_stream_over(void *arg)
{
	struct tool *t = arg;

	if (--t->open == 0 && t->pid == 0)
		tool_free(t);
}

/* May free `t`. */
static void end_streams(struct tool *t)
{
	uint64_t grace_us = t->client ? STREAM_GRACE_US : 0;

	t->open++; /* not over before both have been told */
	stream_process_ended(t->stream, grace_us);
	if (t->result)
		stream_process_ended(t->result, grace_us);
	on_stream_over(t);
}

/* ---- its report */

static void on_sync(void *arg, uint32_t events UNUSED)
{
	struct tool *t = arg;
	struct proto_reply r = {.type = REPLY_STREAM};
	struct error err = ERROR_INIT;
	enum child_state state = child_report(t->sync_fd, &t->stage, &err);

	close_sync(t);
	if (state != CHILD_READY) {
		waiters_fail(t->set, &t->asker, &err);
		return;
	}
	stream_token(t->stream, r.stream);
	if (t->result)
		stream_token(t->result, r.result);
	waiters_reply(t->set, &t->asker, &r);
}

struct ctr *tools_reaped(struct procs *set, pid_t pid)
{
	struct tool *t = set->tools;
	struct ctr *ctr;

	while (t && t->pid != pid)
		t = t->next;
	if (!t)
		return NULL;
	/* Its end of the socket is closed: there is a report, or the end. */
	if (t->sync_src)
		on_sync(t, EPOLLIN);
	ctr = t->ctr;
	t->ctr = NULL;
	t->pid = 0;
	end_streams(t);
	return ctr;
}

/* ---- the start */

static int add_stream(struct tool *t, struct stream **slot, enum stream_kind kind, int fd,
		      struct error *err)
{
	*slot = stream_new(t->set->streams, kind, fd, on_stream_over, t, err);
	t->open += *slot != NULL;
	return *slot ? 0 : -1;
}

/* Makes pipes and streams; the tool's ends are the caller's to close, also on failure. */
static int make_ends(struct tool *t, bool is_push, struct ends *e, struct error *err)
{
	int ours = -1;

	if (sync_pair(&t->sync_fd, &e->sync, err) < 0)
		return -1;
	if (!is_push)
		return pipe_make(&ours, &e->data, err) < 0
			       ? -1
			       : add_stream(t, &t->stream, STREAM_OUT, ours, err);
	if (pipe_make(&e->data, &ours, err) < 0 ||
	    add_stream(t, &t->stream, STREAM_IN, ours, err) < 0 ||
	    pipe_make(&ours, &e->result, err) < 0)
		return -1;
	return add_stream(t, &t->result, STREAM_OUT, ours, err);
}

static void close_ends(struct ends *e)
{
	close_fd(&e->data);
	close_fd(&e->result);
	close_fd(&e->sync);
}

static int fork_tool(struct tool *t, const struct tool_job *job, const struct ends *e,
		     struct error *err)
{
	t->pid = fork();
	if (t->pid == 0)
		run(job, e);
	if (t->pid < 0) {
		t->pid = 0;
		return error_errno(err, "fork");
	}
	return 0;
}

int tool_start(struct procs *set, struct ctr *ctr, void *client, int64_t seq,
	       const struct tool_job *job, struct error *err)
{
	struct ends e = {-1, -1, -1};
	struct tool *t;

	if (set->down)
		return error_kind(err, ERR_NOT_RUNNING, "the guest is shutting down");
	if (set->n_tools >= TOOLS_MAX)
		return error_set(err, "too many changesets at one time (%d)", TOOLS_MAX);
	t = xcalloc(1, sizeof(*t));
	*t = (struct tool){
		.next = set->tools, .set = set, .ctr = ctr, .client = client, .sync_fd = -1};
	set->tools = t;
	set->n_tools++;
	if (make_ends(t, job->op == OP_PUSH, &e, err) < 0 ||
	    !(t->sync_src = loop_add(set->loop, t->sync_fd, EPOLLIN, on_sync, t, err)) ||
	    waiter_add(set, &t->asker, client, seq, err) < 0 || fork_tool(t, job, &e, err) < 0) {
		close_ends(&e);
		tool_free(t);
		return -1;
	}
	close_ends(&e);
	return 0;
}

/* ---- those who go */

void tools_client_gone(struct procs *set, void *client)
{
	for (struct tool *t = set->tools, *next; t; t = next) {
		next = t->next;
		if (t->client != client)
			continue;
		waiters_forget(set, &t->asker, client);
		t->client = NULL;
		if (t->pid > 0)
			kill(t->pid, SIGKILL);
		else
			end_streams(t);
	}
}

bool tools_running(const struct procs *set, const struct ctr *ctr)
{
	for (const struct tool *t = set->tools; t; t = t->next)
		if (t->pid > 0 && (!ctr || t->ctr == ctr))
			return true;
	return false;
}

void tools_kill(struct procs *set, const struct ctr *ctr)
{
	for (struct tool *t = set->tools; t; t = t->next)
		if (t->pid > 0 && (!ctr || t->ctr == ctr))
			kill(t->pid, SIGKILL);
}

void tools_free(struct procs *set)
{
	while (set->tools) {
		struct tool *t = set->tools;

		if (t->pid > 0) {
			kill(t->pid, SIGKILL);
			waitpid(t->pid, NULL, 0);
		}
		tool_free(t);
	}
}
