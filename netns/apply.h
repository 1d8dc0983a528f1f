/*
 * apply.h - makes the namespace of the calling thread like a configuration, by rtnetlink.
 */
#ifndef HUSK_NETNS_APPLY_H
#define HUSK_NETNS_APPLY_H

#include "lib/error.h"
#include "netns/config.h"

struct net_apply {
	/* The local index of a link that a configuration calls `index`; 0: it is not there. */
	unsigned (*index_of)(void *arg, unsigned index);
	/* Called when every link has its name, before any of them goes up and has addresses: the
	 * time for sysctls. May be NULL. */
	int (*named)(void *arg, struct error *err);
	void *arg;
};

/* Brings what was applied before (`old`, all zeroes at first) to `want`: what is in `old` alone is
 * taken away, what is in `want` alone is added, what differs is replaced; what others did to the
 * namespace stays. Links are not made: one that is not there is an error. A link gets name, MAC
 * address, MTU, flags, addresses (without waiting for duplicate address detection: the host did
 * that), and goes up or down; names may be exchanged among links. Of a loopback only addresses are
 * looked at. Routes are made as `want` has them, no matter what the kernel would make of the
 * addresses. The error names the object and is the first one: what can be done beyond it is done
 * all the same. What could not be made is taken out of `want`, which then is the next `old`. */
int netns_apply(const struct net_config *old, struct net_config *want, const struct net_apply *a,
		struct error *err);

#endif
