/*
 * message.h - objects of a configuration as rtnetlink requests, and as words for errors. Pure.
 *
 * Each net_put_*() puts the family's header and the attributes in a request that was begun
 * (rtnl_request()); the message's type and flags say what becomes of the object.
 */
#ifndef HUSK_NETNS_MESSAGE_H
#define HUSK_NETNS_MESSAGE_H

#include <linux/netlink.h>

#include "netns/config.h"

/* The local index of a link that a configuration calls `index`; 0: it is not there. */
typedef unsigned (*net_index_fn)(void *arg, unsigned index);

#define NET_WORDS_MAX 256

void net_put_address(struct nlmsghdr *m, const struct net_address *a, unsigned ifindex);
/* With links that are not there, the route has no next hops. */
void net_put_route(struct nlmsghdr *m, const struct net_route *r, net_index_fn index_of, void *arg);
void net_put_rule(struct nlmsghdr *m, const struct net_rule *r);
void net_put_neighbour(struct nlmsghdr *m, const struct net_neighbour *n, unsigned ifindex);

/* "route 10.0.0.0/8 via 10.1.0.1 dev eth0 table 7", "rule 100: from 10.0.0.0/8 lookup 7". Links of
 * `c` lend their names. */
void net_route_words(const struct net_config *c, const struct net_route *r,
		     char text[NET_WORDS_MAX]);
void net_rule_words(const struct net_rule *r, char text[NET_WORDS_MAX]);

#endif
