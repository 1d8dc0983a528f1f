/*
 * forward.h - who connects to 127.0.0.1 in a pod's network namespace on the host reaches the
 * guest's.
 */
#ifndef HUSK_SHIM_FORWARD_H
#define HUSK_SHIM_FORWARD_H

#include "lib/error.h"

struct forward;

/* A thread that does so for the network namespace of this process and the sandbox whose directory
 * this is. ERR_UNSUPPORTED: not with this kernel. */
struct forward *forward_start(int dirfd, struct error *err);
/* Ends the thread and its connections. NULL is allowed. */
void forward_stop(struct forward *f);

#endif
