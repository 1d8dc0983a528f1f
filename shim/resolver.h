/*
 * resolver.h - asks the engine's name server in this process's network namespace (127.0.0.11, port
 * 53) what the guest asks its own. docs/network.md, "Name server".
 */
#ifndef HUSK_SHIM_RESOLVER_H
#define HUSK_SHIM_RESOLVER_H

#include "lib/error.h"

struct resolver;

/* `stream`: of the agent's op `resolver`; taken over. */
struct resolver *resolver_new(int stream, struct error *err);
/* NULL is allowed. */
void resolver_free(struct resolver *r);

/* Readable when there is something to do. */
int resolver_fd(const struct resolver *r);
/* Until then at most, a question is given up. -1: there is none. */
int resolver_wait_ms(const struct resolver *r);
/* Does what there is to do, without waiting. -1: the stream is over (ERR_PEER). */
int resolver_step(struct resolver *r, struct error *err);

#endif
