/*
 * dump.h - reads how a network namespace is configured, by rtnetlink.
 */
#ifndef HUSK_NETNS_DUMP_H
#define HUSK_NETNS_DUMP_H

#include "lib/error.h"
#include "netns/config.h"

/* Everything there is in the namespace of the calling thread, both families: all links with their
 * addresses; routes of all tables and types but those the kernel makes by itself for an address
 * (table local, protocol kernel; cloned ones); rules but the three that the kernel begins with;
 * permanent and proxy neighbours. One consistent view: a dump that the kernel says was interrupted
 * is taken again. Routes that use nexthop objects have them resolved. */
int netns_dump(struct net_config *c, struct error *err);

/* ---- pure: one rtnetlink message each (not a batch) into the configuration

 * `msg` has `len` bytes, and is of any origin. Returns 1 when something was added, 0 when the
 * message is not of interest, -1 (ERR_INVALID; too many: ERR_UNSUPPORTED) when it cannot be read.
 * What a type above cannot hold (an encapsulation) is ERR_UNSUPPORTED and names the object; what is
 * of a link that is not in `c` is ERR_NOT_FOUND. */
int netns_parse(const void *msg, size_t len, struct net_config *c, struct error *err);

#endif
