/*
 * steer.h - a network namespace whose localhost is somewhere else.
 */
#ifndef HUSK_NETNS_STEER_H
#define HUSK_NETNS_STEER_H

#include "lib/error.h"

/* From now on every TCP connection to 127.0.0.1, whatever its port, in the caller's network
 * namespace is `listener`'s (a listening socket of IPv4 there), which finds the port as the local
 * one of what it accepts. Returns a descriptor: when it is closed, everything is as it was.
 * ERR_UNSUPPORTED: the kernel has no BPF programs for it (Linux 5.9). */
int netns_steer_localhost(int listener, struct error *err);

#endif
