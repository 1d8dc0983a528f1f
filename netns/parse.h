/*
 * parse.h - rtnetlink messages into a configuration: what dump.h does not show. Pure.
 */
#ifndef HUSK_NETNS_PARSE_H
#define HUSK_NETNS_PARSE_H

#include "netns/attr.h"

/* Next hops that routes name by a number (`ip nexthop`). */
#define NET_OBJECTS_MAX 4096

struct nexthop_object {
	uint32_t id;
	bool blackhole;
	bool encap; /* its packets get another header */
	struct net_nexthop hop;
	struct nexthop_member {
		uint32_t id;
		uint8_t weight; /* less one */
	} * members;		/* of a group */
	size_t n_members;
};

struct nexthop_objects {
	struct nexthop_object *list; /* in the order of their numbers: so the kernel dumps them */
	size_t n;
};

void nexthop_objects_free(struct nexthop_objects *o);
#define cleanup_nexthop_objects __attribute__((cleanup(nexthop_objects_free)))
/* RTM_NEWNEXTHOP; results as netns_parse(). */
int parse_nexthop(const void *msg, size_t len, struct nexthop_objects *o, struct error *err);

/* netns_parse() with the objects that routes may name. */
int parse_message(const void *msg, size_t len, struct net_config *c,
		  const struct nexthop_objects *o, struct error *err);
/* RTM_NEWROUTE alone. */
int parse_route(const struct message *m, struct net_config *c, const struct nexthop_objects *o,
		struct error *err);

/* The error of a message that is broken. Returns -1. */
int parse_broken(const char *what, struct error *err);

#endif
