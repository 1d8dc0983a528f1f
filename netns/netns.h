/*
 * netns.h - network namespaces: to join, to make, to visit.
 */
#ifndef HUSK_NETNS_NETNS_H
#define HUSK_NETNS_NETNS_H

#include "lib/error.h"

/* The calling thread enters the namespace at `path` (such as /run/netns/x or /proc/PID/ns/net). */
int netns_join(const char *path, struct error *err);
/* The calling thread enters a new namespace, with its loopback up. */
int netns_new(struct error *err);

/* A visit: the calling thread enters the namespace at `path`, and goes back when `home` (-1 before)
 * goes out of scope or at netns_leave(). Sockets that it makes there stay there. A thread that
 *cannot go back ends the process: it must never go on in a namespace that is not its own.
 *
 *	cleanup_netns int home = -1;
 *
 *	if (netns_enter(path, &home, err) < 0)
 *		return -1;
 *
 * err->errnum is ENOENT when there is nothing at `path`. */
int netns_enter(const char *path, int *home, struct error *err);
void netns_leave(int *home);
#define cleanup_netns __attribute__((cleanup(netns_leave)))

#endif
