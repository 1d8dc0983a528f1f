/*
 * process.h - the containers and processes of this guest, as the server sees them.
 *
 * process.c keeps the table: who owns a process, who waits for it, its streams, its end;
 * process_end.c ends containers; request.c does what the host asks. All answer through struct
 * proc_ops, at once or later.
 */
#ifndef HUSK_AGENT_PROCESS_H
#define HUSK_AGENT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/container.h"
#include "agent/network.h"
#include "agent/proto.h"
#include "agent/names.h"
#include "agent/streams.h"
#include "lib/error.h"
#include "lib/loop.h"

#define CTRS_MAX 256	 /* containers of a guest */
#define PROCS_MAX 2048	 /* init and exec'd processes, ended ones included */
#define WAITERS_MAX 4096 /* requests that wait for an answer, all together */

/* How the table speaks to a client (a control connection). Neither may call back into it. */
struct proc_ops {
	void (*reply)(void *client, const struct proto_reply *r);
	void (*event)(void *client, const char *event, const char *container, const char *name);
};

/* A request that has not been answered. */
struct waiter {
	struct waiter *next;
	void *client;
	int64_t seq;
};

enum proc_state {
	PROC_CREATING, /* init: until it reports READY; at first it has no process */
	PROC_CREATED,  /* init: until `start` */
	PROC_STARTING, /* until its sync fd says STARTED or FAILED */
	PROC_RUNNING,
	PROC_FAILED, /* an exec'd process whose execve failed: gone when reaped */
};

struct ctr;

struct proc {
	struct proc *next; /* of the same container */
	struct ctr *ctr;
	char name[PROTO_NAME_MAX + 1];
	pid_t pid;   /* 0: there is none yet */
	void *owner; /* client; NULL once it has gone */
	enum proc_state state;
	bool reaped;
	bool killed; /* the host asked for SIGKILL (also too late), or its connection ended */
	int status;  /* once reaped: exit code, or 128 + signal */
	int signal;
	bool oom;
	unsigned long oom_base; /* the container's oom_kill counter when it was made */
	int sync_fd;
	enum child_stage stage;	      /* for child_report() */
	struct loop_source *sync_src; /* NULL while no report is awaited */
	int console_sock;	      /* where the pty's master comes from; -1: no terminal */
	struct stream *in, *out, *err, *console;
	unsigned outputs; /* what `wait` waits for: out, err, console, and the end of its disks */
	struct waiter *asker;	/* create, start or exec: the one that awaits the report */
	struct waiter *waiters; /* wait */
};

struct ctr {
	struct ctr *next;
	struct procs *set;
	struct container *c;
	struct proc *procs; /* init too */
	struct proc *init;
	unsigned last_name;
	bool deleting;		/* as soon as all its processes are reaped */
	bool dismantling;	/* a worker does it: nothing but that is left */
	struct error *failure;	/* of a `create` that failed */
	struct waiter *creator; /* the one that it is told, at the end */
	struct waiter *deleters;
	struct waiter *watchers; /* connections that asked for "changed"; no answer is owed */
	int oom_fd;		 /* memory.events, or -1 */
	struct loop_source *oom_src;
	unsigned long oom_seen;
	struct loop_source *ready_src; /* of its notification socket; NULL: it has none */
	struct waiter *ready_waiters;
	char ready[PROTO_READY_MAX + 1]; /* what it said; "": nothing yet */
};

struct procs {
	struct loop *loop;
	struct streams *streams;
	const struct proc_ops *ops;
	struct ctr *ctrs;
	unsigned n_ctrs, n_procs, n_waiters, n_tools;
	struct tool *tools;
	struct worker *workers;
	struct projects *projects;
	struct network *network;
	struct network_request *network_requests; /* the first is being served */
	struct names *names;
	bool names_redirected; /* for as long as there is a guest */
	int sigchld;
	struct loop_source *sigchld_src;
	bool down; /* shutdown has begun: nothing new is made */
	struct waiter *downers;
};

/* ---- process.c */

/* Blocks SIGCHLD in this process and reaps *every* child from then on. */
struct procs *procs_new(struct loop *loop, struct streams *streams, const struct proc_ops *ops,
			struct error *err);
/* Kills and forgets everything without waiting: for tests. */
void procs_free(struct procs *set);

/* The client's connection ended: its processes are killed, its requests are forgotten. */
void procs_client_gone(struct procs *set, void *client);

struct ctr *ctr_find(struct procs *set, const char *id);
struct proc *proc_find(struct ctr *ctr, const char *name);

/* Adds a container; takes `c` over. */
struct ctr *ctr_add(struct procs *set, struct container *c);
/* It has a cgroup now. */
void ctr_watch_memory(struct ctr *ctr);
/* `create` failed before there was a process: it is answered when all is gone again. What was
 * killed or deleted meanwhile fails for that (`err` may be NULL then). */
void ctr_fail(struct ctr *ctr, const struct error *err);
/* Adds a process that has no pid, no streams and no sync fd yet. */
struct proc *proc_add(struct ctr *ctr, const char *name, void *owner);
/* Watches for the next report on p->sync_fd. */
int proc_watch_sync(struct proc *p, struct error *err);
/* Makes a stream of the process; an output's end is waited for. Takes `fd` over. */
int proc_add_stream(struct proc *p, struct stream **slot, enum stream_kind kind, int fd,
		    struct error *err);
/* Forgets a process that was never forked. */
void proc_drop(struct proc *p);
/* Sends a signal to a process that is there, if it is. */
void proc_signal(const struct proc *p, int signal);
/* Sends SIGKILL to a process, and to all that depend on it; stops the making of a container. */
void proc_kill(struct proc *p);
/* It is gone, and the host wants it over: a reader that does not read cannot delay that for ever.
 */
void proc_limit_output(struct proc *p);
/* Goes on with a shutdown: answers it when no container is left. */
void procs_check_down(struct procs *set);

/* Remembers a request. An error, and nothing remembered, when there are too many. */
int waiter_add(struct procs *set, struct waiter **list, void *client, int64_t seq,
	       struct error *err);
/* Forgets a client's requests of a list. */
void waiters_forget(struct procs *set, struct waiter **list, const void *client);
/* Answers and forgets all requests of a list. */
void waiters_reply(struct procs *set, struct waiter **list, struct proto_reply *r);
void waiters_fail(struct procs *set, struct waiter **list, const struct error *err);

/* True when the end of the process is final: reaped, and its output taken over. */
bool proc_over(const struct proc *p);
void proc_reply_wait(const struct proc *p, struct proto_reply *r);
/* Answers all who wait. */
void proc_answer_wait(struct proc *p);

/* ---- process_end.c */

/* Kills what runs, and deletes the container once everything is reaped: maybe now. */
void ctr_delete(struct ctr *ctr);
/* Something that a delete waits for has ended. */
void ctr_check_delete(struct ctr *ctr);
/* Deletes a container whose processes and workers have been reaped, without the loop: for tests. */
void ctr_end_now(struct ctr *ctr);

/* ---- request.c */

/* Does what a request asks. The answer comes through ops->reply. `r` stays the caller's, though
 * what it holds may be taken out of it. */
void procs_request(struct procs *set, void *client, struct proto_request *r);

#endif
