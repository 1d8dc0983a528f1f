/*
 * locals.h - the links of this namespace, as far as who configures them has to know.
 */
#ifndef HUSK_NETNS_LOCALS_H
#define HUSK_NETNS_LOCALS_H

#include <stdbool.h>
#include <stddef.h>

#include "netns/rtnl.h"

struct net_local {
	unsigned index;
	char name[IFNAMSIZ];
	uint16_t type;	/* ARPHRD_* */
	unsigned flags; /* IFF_* */
	uint32_t mtu;
	uint8_t mac[6];
	bool has_own_mac;
	uint8_t own_mac[6]; /* that its driver gave it at first */
};

/* All of them; the caller frees *list. */
int net_locals(struct rtnl *nl, struct net_local **list, size_t *n, struct error *err);

#endif
