/*
 * watch.h - tells that a network namespace's configuration changes.
 */
#ifndef HUSK_NETNS_WATCH_H
#define HUSK_NETNS_WATCH_H

#include <stdbool.h>

#include "lib/error.h"

/* A non-blocking rtnetlink socket of the calling thread's namespace that is sent every change of
 * links, addresses, routes, rules and permanent neighbours, both families. Readable: something may
 * have changed. */
int netns_watch(struct error *err);
/* Reads all that is there. True if something of that changed (or messages were lost): neighbours
 * that the kernel learned, and statistics, are nothing. `gone` (may be NULL): the socket is broken.
 */
bool netns_watch_take(int fd, bool *gone);

#endif
