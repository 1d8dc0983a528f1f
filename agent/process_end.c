/*
 * The end of a container, once it is to be deleted: everything of it is killed; when all processes,
 * tools and workers are reaped, a last worker unmounts; then it is forgotten, and whoever waits is
 * answered. A `create` that failed goes the same way, and is answered at the end of it: its disks
 * are free then.
 */
#include "agent/process.h"
#include "agent/projects.h"
#include "agent/ready.h"
#include "agent/tools.h"
#include "agent/worker.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <signal.h>

static bool ctr_all_reaped(const struct ctr *ctr)
{
	if (tools_running(ctr->set, ctr) || workers_running(ctr->set, ctr))
		return false;
	for (const struct proc *p = ctr->procs; p; p = p->next)
		if (!p->reaped)
			return false;
	return true;
}

/* The last that is done: it is gone, or an error tells what is left of it. */
static void on_dismantled(void *arg, const struct error *failure)
{
	struct ctr *ctr = arg;
	struct procs *set = ctr->set;
	struct ctr **at = &set->ctrs;
	struct proto_reply ok = {.type = REPLY_OK};

	while (*at != ctr)
		at = &(*at)->next;
	*at = ctr->next;
	set->n_ctrs--;
	projects_release(set->projects, ctr->c->id);
	if (failure) {
		log_error("delete: %s", failure->msg);
		waiters_fail(set, &ctr->deleters, failure);
	} else {
		waiters_reply(set, &ctr->deleters, &ok);
	}
	if (ctr->creator)
		waiters_fail(set, &ctr->creator, ctr->failure);
	while (ctr->watchers)
		waiters_forget(set, &ctr->watchers, ctr->watchers->client);
	container_free(ctr->c);
	free(ctr->failure);
	free(ctr);
	procs_check_down(set);
}

static int dismantle(void *arg, struct error *err)
{
	const struct ctr *ctr = arg;

	return container_dismantle(ctr->c, err);
}

/* All but the table's entry and what is mounted. */
static void ctr_strip(struct ctr *ctr)
{
	ctr->dismantling = true;
	if (ctr->failure && ctr->init) {
		ctr->creator = ctr->init->asker;
		ctr->init->asker = NULL;
	}
	while (ctr->procs) {
		proc_answer_wait(ctr->procs);
		proc_drop(ctr->procs);
	}
	loop_remove(ctr->oom_src);
	ctr->oom_src = NULL;
	close_fd(&ctr->oom_fd);
	ready_unwatch(ctr);
}

/* The end of a mount namespace unmounts some twenty file systems, and frees what is in them: in
 * the process that closes it last. */
static void on_dismantling(void *arg)
{
	const struct ctr *ctr = arg;

	container_close(ctr->c);
}

static void ctr_dismantle(struct ctr *ctr)
{
	const struct worker_job job = {.name = "husk-delete",
				       .work = dismantle,
				       .arg = ctr,
				       .keep = &ctr->c->cgroup_fd,
				       .begun = on_dismantling,
				       .done = on_dismantled};
	struct error err = ERROR_INIT;

	ctr_strip(ctr);
	if (worker_start(ctr->set, ctr, &job, &err) == 0)
		return;
	container_close(ctr->c);
	on_dismantled(ctr, container_dismantle(ctr->c, &err) < 0 ? &err : NULL);
}

void ctr_delete(struct ctr *ctr)
{
	struct error err = ERROR_INIT;

	if (ctr->dismantling)
		return;
	ctr->deleting = true;
	if (ctr_all_reaped(ctr)) {
		ctr_dismantle(ctr);
		return;
	}
	tools_kill(ctr->set, ctr);
	workers_kill(ctr->set, ctr);
	if (ctr->c->cgroup_fd >= 0 && container_kill_all(ctr->c, SIGKILL, &err) < 0)
		log_error("container %s: %s", ctr->c->id, err.msg);
	/* Also those that are not in the cgroup yet, or in none. */
	for (struct proc *p = ctr->procs; p; p = p->next)
		proc_signal(p, SIGKILL);
}

void ctr_check_delete(struct ctr *ctr)
{
	if (ctr->deleting && !ctr->dismantling && ctr_all_reaped(ctr))
		ctr_dismantle(ctr);
}

void ctr_end_now(struct ctr *ctr)
{
	if (!ctr->dismantling)
		ctr_strip(ctr);
	container_close(ctr->c);
	container_dismantle(ctr->c, NULL);
	on_dismantled(ctr, NULL);
}
