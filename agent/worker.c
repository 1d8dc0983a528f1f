/*
 * worker.c - a forked copy of the agent does one thing and ends.
 *
 * A fork shares the agent's namespaces, so that what it mounts is mounted for the agent. It has the
 * agent's memory as it was, and gives back nothing but success or an error (sync.h). That is read
 * when the process has been reaped: then it holds no mount and no disk any more, and whoever was
 * waiting for it may go on.
 *
 * Killing a worker is always in order: what it leaves half done, container_dismantle() undoes.
 */
#include "agent/worker.h"
#include "agent/sync.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct worker {
	struct worker *next;
	struct procs *set;
	struct ctr *ctr; /* NULL: none */
	pid_t pid;
	int sync_fd;
	void (*done)(void *arg, const struct error *failure);
	void *arg;
	struct waiter *asker;
};

/* ---- the process */

int worker_become(const char *name, int **fds, size_t n, struct error *err)
{
	sigset_t none;

	for (size_t i = 0; i < n; i++) {
		*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, 3 + (int)n);
		if (*fds[i] < 0)
			return error_errno(err, "descriptors");
	}
	for (size_t i = 0; i < n; i++)
		if (dup3(*fds[i], 3 + (int)i, O_CLOEXEC) < 0)
			return error_errno(err, "descriptors");
		else
			*fds[i] = 3 + (int)i;
	if (syscall(SYS_close_range, 3 + (unsigned)n, ~0U, 0) < 0)
		return error_errno(err, "close_range");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	umask(0);
	prctl(PR_SET_NAME, name);
	/* Those who share the agent's pid namespace see it. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_errno(err, "PR_SET_DUMPABLE");
	/* As PID 1 itself: a container is at fault. (Not permitted to a test's process.) */
	file_put(AT_FDCWD, "/proc/self/oom_score_adj", "-1000", NULL);
	return 0;
}

static void __attribute__((noreturn)) run(const struct worker_job *job, int sync)
{
	int *fds[2] = {&sync, job->keep};
	struct error err = ERROR_INIT;
	bool keep = job->keep && *job->keep >= 0;

	if ((job->begun && sync_await(sync, SYNC_GO, &err) < 0) ||
	    worker_become(job->name, fds, keep ? 2 : 1, &err) < 0 || job->work(job->arg, &err) < 0)
		sync_failed(sync, &err);
	else
		sync_ready(sync, NULL);
	_exit(0);
}

/* ---- the agent's side */

static void worker_free(struct worker *w)
{
	struct worker **at = &w->set->workers;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	close_fd(&w->sync_fd);
	free(w);
}

static int fork_worker(struct worker *w, const struct worker_job *job, struct error *err)
{
	cleanup_close int theirs = -1;

	if (sync_pair(&w->sync_fd, &theirs, err) < 0)
		return -1;
	w->pid = fork();
	if (w->pid == 0)
		run(job, theirs);
	if (w->pid < 0)
		return error_errno(err, "fork");
	if (job->begun) {
		job->begun(job->arg);
		sync_order(w->sync_fd, SYNC_GO, NULL); /* one that is dead will be reaped */
	}
	return 0;
}

static struct worker *start(struct procs *set, struct ctr *ctr, const struct worker_job *job,
			    struct error *err)
{
	struct worker *w = xcalloc(1, sizeof(*w));

	*w = (struct worker){.next = set->workers,
			     .set = set,
			     .ctr = ctr,
			     .sync_fd = -1,
			     .done = job->done,
			     .arg = job->arg};
	set->workers = w;
	if (fork_worker(w, job, err) < 0) {
		worker_free(w);
		return NULL;
	}
	return w;
}

int worker_start(struct procs *set, struct ctr *ctr, const struct worker_job *job,
		 struct error *err)
{
	return start(set, ctr, job, err) ? 0 : -1;
}

int worker_answer(struct procs *set, struct ctr *ctr, void *client, int64_t seq,
		  const struct worker_job *job, struct error *err)
{
	struct waiter *asker = NULL;
	struct worker *w;

	if (waiter_add(set, &asker, client, seq, err) < 0)
		return -1;
	w = start(set, ctr, job, err);
	if (!w) {
		waiters_forget(set, &asker, client);
		return -1;
	}
	w->asker = asker;
	return 0;
}

bool worker_reaped(struct procs *set, pid_t pid)
{
	struct worker *w = set->workers;
	enum child_stage stage = STAGE_SETUP;
	struct error err = ERROR_INIT;
	const struct error *failure;
	struct worker ended;

	while (w && w->pid != pid)
		w = w->next;
	if (!w)
		return false;
	failure = child_report(w->sync_fd, &stage, &err) == CHILD_READY ? NULL : &err;
	ended = *w;
	worker_free(w); /* `done` may look whether it is over */
	if (ended.done)
		ended.done(ended.arg, failure);
	if (failure)
		waiters_fail(set, &ended.asker, failure);
	else
		waiters_reply(set, &ended.asker, &(struct proto_reply){.type = REPLY_OK});
	return true;
}

void workers_client_gone(struct procs *set, const void *client)
{
	for (struct worker *w = set->workers; w; w = w->next)
		waiters_forget(set, &w->asker, client);
}

bool workers_running(const struct procs *set, const struct ctr *ctr)
{
	for (const struct worker *w = set->workers; w; w = w->next)
		if (!ctr || w->ctr == ctr)
			return true;
	return false;
}

void workers_kill(struct procs *set, const struct ctr *ctr)
{
	for (struct worker *w = set->workers; w; w = w->next)
		if (!ctr || w->ctr == ctr)
			kill(w->pid, SIGKILL);
}

void workers_free(struct procs *set)
{
	while (set->workers) {
		struct worker *w = set->workers;

		kill(w->pid, SIGKILL);
		waitpid(w->pid, NULL, 0);
		while (w->asker)
			waiters_forget(set, &w->asker, w->asker->client);
		worker_free(w);
	}
}
