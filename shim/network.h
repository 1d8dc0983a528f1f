/*
 * network.h - gives a container's microVM the links of its network namespace, and follows them.
 * docs/network.md.
 */
#ifndef HUSK_SHIM_NETWORK_H
#define HUSK_SHIM_NETWORK_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/error.h"

/* A container, as far as its network goes. */
struct network_place {
	const char *container;
	int dirfd;   /* its directory */
	pid_t pid;   /* a process in its network namespace: the init's proxy */
	int intr_fd; /* readable: give up (ERR_INTERRUPTED); -1: none */
};

/* One look at the namespace, and what has to be done so that the guest is like it: TAPs made and
 * wired, cards attached and detached, the agent told. Serialized with others that do the same for
 * the container; nothing to do costs one dump. `first`: at the container's start, before which a
 * call does nothing. ERR_UNSUPPORTED names a link that a microVM cannot have, and another husk
 * container that has the namespace's links already. An error of the first one leaves nothing wired;
 * of later ones, all that can be done was done. */
int network_sync(const struct network_place *p, bool first, struct error *err);

/* True from the container's start on. */
bool network_started(int dirfd);
/* True if it was given a card, ever. */
bool network_used(int dirfd);

/* How many cards a machine of engine qemu should have: the links that are in the namespace at
 * `path` (NULL: it will be a new one) and some for those that come later, at most `free_slots`. */
unsigned network_cards(const char *path, unsigned free_slots);

/* A network namespace of config.json: there, a network namespace, and not the host's own.
 * ERR_INVALID, ERR_UNSUPPORTED. */
int network_check_path(const char *path, struct error *err);

/* Takes what is the container's away from the namespace at `path`, and what is of no container any
 * more, when the VM has ended. A namespace that is gone is no error. */
int network_undo(const char *path, const char *container, struct error *err);

/* The same for a container whose directory this is, if it was started; a warning when it fails.
 * `path` NULL: the namespace has gone. */
void network_clean(int dirfd, const char *path, const char *container);
/* The VM closes its TAPs: it is about to end. */
void network_let_go(int dirfd);

/* ---- in the proxy of an init */

struct network;

/* A thread that follows the namespace of this process for the container, from the container's start
 * on, and answers the guest's name server requests (127.0.0.11). */
struct network *network_follow(const char *container, int dirfd, struct error *err);
/* Ends the thread. To be called while the VM is still there; NULL is allowed. */
void network_stop(struct network *n);
/* When the VM has gone: takes what is ours away from the namespace. NULL is allowed. */
void network_end(struct network *n);

#endif
