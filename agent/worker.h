/*
 * worker.h - what the agent does in a process of its own, so that its loop goes on.
 */
#ifndef HUSK_AGENT_WORKER_H
#define HUSK_AGENT_WORKER_H

#include "agent/process.h"

struct worker_job {
	const char *name; /* of the process */
	/* In the worker, a copy of the agent: what it does to memory is lost. */
	int (*work)(void *arg, struct error *err);
	void *arg;
	int *keep; /* a descriptor that `work` needs: in the worker *keep is its number. NULL: none
		    */
	/* In the agent, when there is a worker that has all that the agent has open, and before it
	 * closes that: so it is the worker that closes last what is closed here. NULL: nothing. */
	void (*begun)(void *arg);
	/* In the loop, when the worker has been reaped: all that it had open is closed. `failure`
	 * NULL: `work` has succeeded. A worker that was killed has failed. A container's calls
	 * ctr_check_delete(), since a delete may have waited for it. */
	void (*done)(void *arg, const struct error *failure);
};

/* `ctr` NULL: it belongs to no container; else that is not deleted before the worker has ended. */
int worker_start(struct procs *set, struct ctr *ctr, const struct worker_job *job,
		 struct error *err);
/* The same for a job whose success or failure is the answer to a request, which is sent after
 * `done` (NULL, for no container's: then `arg` is needed only during the call). */
int worker_answer(struct procs *set, struct ctr *ctr, void *client, int64_t seq,
		  const struct worker_job *job, struct error *err);

/* A child was reaped: calls `done` if it was a worker, and returns true. */
bool worker_reaped(struct procs *set, pid_t pid);
void workers_client_gone(struct procs *set, const void *client);
/* True if a worker of `ctr` (NULL: any) has not been reaped yet. */
bool workers_running(const struct procs *set, const struct ctr *ctr);
void workers_kill(struct procs *set, const struct ctr *ctr);
/* Kills and forgets all without the loop: for tests. */
void workers_free(struct procs *set);

/* In a process that was forked for one task: moves `n` descriptors to 3 and up, in order, closes
 * all others but 0, 1 and 2 (pipes of the agent must not be kept open here), makes signals normal,
 * and the process one that no container can look into and the kernel does not end for memory. */
int worker_become(const char *name, int **fds, size_t n, struct error *err);

#endif
