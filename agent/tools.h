/*
 * tools.h - the processes of the agent that read a container's changes, or make what the host
 * pushes: requests `changes` and `push` of docs/agent-protocol.md.
 */
#ifndef HUSK_AGENT_TOOLS_H
#define HUSK_AGENT_TOOLS_H

#include "agent/process.h"

#define TOOLS_MAX 64 /* at one time */

struct tool_job {
	enum proto_op op; /* OP_CHANGES, OP_PUSH */
	enum proto_what what;
	const struct container *c; /* whose root */
	bool ended;		   /* its processes were killed: the last may be on its way out */
	const char *serial;	   /* changes of a disk */
	int projects;		   /* push: O_PATH of the container's projects */
	char *const *names;	   /* changes of projects, and their descriptors */
	const int *fds;
	size_t n;
};

/* Forks a tool, which needs `job` only during the call. The request is answered when the tool has
 * opened what it needs, or has failed to. `ctr` NULL: it belongs to no container. */
int tool_start(struct procs *set, struct ctr *ctr, void *client, int64_t seq,
	       const struct tool_job *job, struct error *err);

/* A child was reaped. If it was a container's tool, that container (which may wait for it). */
struct ctr *tools_reaped(struct procs *set, pid_t pid);
/* The client's connection ended: its tools are killed. */
void tools_client_gone(struct procs *set, void *client);
/* True if a tool of `ctr` (NULL: any) has not been reaped yet. */
bool tools_running(const struct procs *set, const struct ctr *ctr);
/* Kills the tools of `ctr` (NULL: all). */
void tools_kill(struct procs *set, const struct ctr *ctr);
/* Kills and forgets all without the loop: for tests. */
void tools_free(struct procs *set);

#endif
