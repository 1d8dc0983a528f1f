/*
 * sync.h - the socket between the agent and a child that is being set up.
 *
 * A SOCK_SEQPACKET pair: messages keep their bounds, and the child's end is CLOEXEC, so that end of
 * stream means that execve has succeeded, if it was announced, or else that the child is dead.
 *
 *	agent -> child	SYNC_GO		id maps are written, limits raised
 *			SYNC_START	(init) container_start() was called
 *	child -> agent	ready (init), about to execve, or failed with a struct error's parts
 */
#ifndef HUSK_AGENT_SYNC_H
#define HUSK_AGENT_SYNC_H

#include "agent/container.h"

enum sync_order { SYNC_GO = 'G', SYNC_START = 'S' };

int sync_pair(int *agent_end, int *child_end, struct error *err);
/* ERR_NOT_RUNNING: the child has ended. */
int sync_order(int sock, enum sync_order order, struct error *err);
/* In the child: waits for the order. An agent that is gone is an error. */
int sync_await(int sock, enum sync_order order, struct error *err);
int sync_ready(int sock, struct error *err);
/* Nothing but execve follows. */
int sync_exec(int sock, struct error *err);
void sync_failed(int sock, const struct error *why);

#endif
