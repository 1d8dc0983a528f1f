/*
 * claim.h - whose a network namespace is: of all containers with a microVM of their own at most
 * one can be in it.
 */
#ifndef HUSK_NETNS_CLAIM_H
#define HUSK_NETNS_CLAIM_H

#include <sys/types.h>

#include "lib/error.h"

/* Claims the calling thread's network namespace for this process and those that inherit the
 * descriptor that is returned (CLOEXEC): the claim ends with its last copy. ERR_EXISTS when
 * somebody has it: *holder is the process that claimed it, or 0 where that cannot be told. */
int netns_claim(pid_t *holder, struct error *err);

#endif
