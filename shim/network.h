/*
 * network.h - gives a container's microVM the links of its network namespace, and follows them.
 * docs/network.md.
 */
#ifndef HUSK_SHIM_NETWORK_H
#define HUSK_SHIM_NETWORK_H

#include "shim/state.h"
#include "shim/vmm_client.h"

/* One look at the namespace of `st->pid`, and what has to be done so that the guest is like it:
 * TAPs made and wired, cards attached and detached, the agent told. Serialized with others that do
 * the same for the container; nothing to do costs one dump. ERR_UNSUPPORTED names a link that a
 * microVM cannot have, and another husk container that has the namespace's links already. On an
 * error at `start` (`first`) what was wired is undone. */
int network_sync(const struct container_dir *d, const struct container_state *st, bool first,
		 struct error *err);

/* How many cards a machine of engine qemu should have: the links that are in the namespace at
 * `path` (NULL: it will be a new one) and some for those that come later, at most `free_slots`. */
unsigned network_cards(const char *path, unsigned free_slots);

/* Takes everything of ours away from the namespace at `path`, when no VM uses it any more. A
 * namespace that is gone is no error. */
int network_undo(const char *path, struct error *err);

/* ---- in the proxy of an init */

struct network;

/* A thread that follows the namespace of this process for the container, from the container's
 * start on (it begins with what it sees changing, or when it is told by the name server's stream),
 * and answers the guest's name server requests (127.0.0.11). */
struct network *network_follow(const char *container, int dirfd, struct error *err);
/* Ends the thread and takes what is ours away from the namespace. NULL is allowed. */
void network_end(struct network *n);

#endif
