/*
 * redirect.h - who speaks to port 53 of 127.0.0.11 speaks to another port of it, unknowingly.
 */
#ifndef HUSK_AGENT_REDIRECT_H
#define HUSK_AGENT_REDIRECT_H

#include <netinet/in.h>

#include "lib/error.h"

/* For every process of the guest, for good. Not for whoever binds a socket: both ports stay free
 * for that. Only in a guest: ERR_UNSUPPORTED anywhere else. */
int redirect_port(struct in_addr address, uint16_t from, uint16_t to, struct error *err);

#endif
