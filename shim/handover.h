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

/* Sends a pidfd of `pid` to the Unix socket that --pidfd-socket names, as runc does. `path` NULL:
 * nobody wants one. */
int handover_pidfd(const char *path, pid_t pid, struct error *err);

#endif
