/*
 * handover.h - descriptors that callers of create, run and exec hand over, or want to have.
 */
#ifndef HUSK_SHIM_HANDOVER_H
#define HUSK_SHIM_HANDOVER_H

#include <sys/types.h>

#include "lib/error.h"

/* What runc passes on to the container's process besides stdio, a process in a machine of its own
 * cannot have: --preserve-fds above 0 (`preserve`: its value, or NULL) and LISTEN_FDS of socket
 * activation that is meant for this process. ERR_UNSUPPORTED names them. */
int handover_check(const char *preserve, struct error *err);

/* Connects to the Unix socket that --pidfd-socket names, before anything is made. `path` NULL, when
 * nobody wants a pidfd: *sock is -1. */
int handover_connect(const char *path, int *sock, struct error *err);
/* Sends a pidfd of `pid` there, as runc does; nothing to do for -1. */
int handover_pidfd(int sock, pid_t pid, struct error *err);

#endif
