/*
 * forward.h - connections that the host makes to the guest's localhost.
 */
#ifndef HUSK_AGENT_FORWARD_H
#define HUSK_AGENT_FORWARD_H

#include "lib/loop.h"

#define FORWARDS_MAX 256 /* at one time */

struct forwards;

struct forwards *forwards_new(struct loop *loop);
void forwards_free(struct forwards *f); /* NULL is allowed */

/* Takes over a connection that a listener accepted (non-blocking): two bytes of it, a port number
 * with its high byte first, say where to connect: 127.0.0.1, or else ::1. One byte, 0, is the
 * answer when somebody listens there; what follows is TCP's. The end without it: nobody does. */
void forwards_accept(struct forwards *f, int conn);

#endif
