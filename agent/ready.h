/*
 * ready.h - sd_notify(3) in the guest: a container's own notification socket, and who waits for its
 * READY.
 */
#ifndef HUSK_AGENT_READY_H
#define HUSK_AGENT_READY_H

#include "agent/process.h"

/* Before the container's init is forked: makes the socket below c->dir, and adds to
 * config.json a mount that shows it and NOTIFY_SOCKET. */
int ready_prepare(struct container *c, struct error *err);
/* Removes it from the file system, if it is there. */
void ready_release(struct container *c);

/* Reads the socket from now on, whether anybody waits or not: who notifies must never be blocked.
 */
int ready_watch(struct ctr *ctr, struct error *err);
/* The container's init has ended: nobody waits any longer. */
void ready_ended(struct ctr *ctr);
void ready_unwatch(struct ctr *ctr);

/* The first line of a datagram that begins with "READY=", at most PROTO_READY_MAX printable bytes:
 * copied to `line`. Pure. */
bool ready_line(const char *datagram, size_t len, char line[PROTO_READY_MAX + 1]);

#endif
