/*
 * apply.h - makes the namespace of the calling thread like a configuration, by rtnetlink.
 */
#ifndef HUSK_NETNS_APPLY_H
#define HUSK_NETNS_APPLY_H

#include "lib/error.h"
#include "netns/config.h"

/* Brings what was applied before (`old`, all zeroes at first) to `want`: what is in `old` alone is
 * taken away, what is in `want` alone is added, what differs is replaced; what others did to the
 * namespace stays. Links are not made: each of `want` is found by `index_of`, which gives the local
 * index for an index in `want` (0: it is not there, an error). A link gets name, MAC address, MTU,
 * flags, addresses (without waiting for duplicate address detection: the host did that), and goes
 * up or down; names may be exchanged among links. Routes are made as `want` has them, no matter what
 * the kernel would make of the addresses. All errors name the object, and what can be done beyond
 * the first one is done all the same. */
int netns_apply(const struct net_config *old, const struct net_config *want,
		unsigned (*index_of)(void *arg, unsigned index), void *arg, struct error *err);

#endif
