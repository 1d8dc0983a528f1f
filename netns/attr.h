/*
 * attr.h - attributes of a netlink message, found by their type. Bytes of any origin: what an
 * attribute says about its length is checked once, here; what it holds when it is got.
 */
#ifndef HUSK_NETNS_ATTR_H
#define HUSK_NETNS_ATTR_H

#include <linux/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "netns/config.h"

struct attr {
	const uint8_t *data; /* NULL: it is not there */
	size_t len;
};

/* One message: its type, the family's header, and what is behind that. */
struct message {
	uint16_t type;
	const void *header;
	const uint8_t *attrs;
	size_t len;
};

/* True if a whole message is at the beginning of `len` bytes; a negative `len` is none. */
bool message_ok(const struct nlmsghdr *h, int len);
/* False if `msg` is not one whole message with a header of `size` bytes. It is aligned as malloc()
 * does. */
bool message_open(const void *msg, size_t len, size_t size, struct message *m);

/* Fills `found` (n entries; types from n on are skipped, of several of a type the last counts).
 * False when they do not fill the bytes exactly. */
bool attrs_find(const uint8_t *data, size_t len, struct attr *found, unsigned n);
/* The same of what is nested in `a`; nothing when that is not there. */
bool attrs_nested(const struct attr *a, struct attr *found, unsigned n);

/* Each is true when the attribute is not there (nothing is stored), or is what it should be. */
bool attr_u8(const struct attr *a, uint8_t *v);
bool attr_u32(const struct attr *a, uint32_t *v);
bool attr_ip(const struct attr *a, uint8_t family, struct net_ip *ip);
bool attr_struct(const struct attr *a, void *v, size_t size); /* a longer one is its successor */
bool attr_string(const struct attr *a, char *s, size_t size); /* with or without its NUL */

/* A prefix of `len` bits of the address in `a`; none is one of 0 bits. The bits behind are 0. */
bool attr_prefix(const struct attr *a, uint8_t family, uint8_t len, struct net_prefix *p);

#endif
