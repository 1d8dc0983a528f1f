/*
 * config.h - how a network namespace is configured, as types: links, addresses, routes, rules,
 * neighbours. The host reads it from a container's namespace (dump.h), sends it to the guest
 * (config_json.h), and the guest makes its own like it (apply.h). Policy-free and without I/O.
 *
 * Numbers are the kernel's (rtnetlink(7)): families, scopes, tables, flags. Whatever the kernel
 * counts in network byte order is bytes here.
 */
#ifndef HUSK_NETNS_CONFIG_H
#define HUSK_NETNS_CONFIG_H

#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

/* Bounds of one configuration; what goes beyond is an error that names the bound. */
#define NET_LINKS_MAX 64
#define NET_ADDRESSES_MAX 256 /* of one link */
#define NET_ROUTES_MAX 4096
#define NET_NEXTHOPS_MAX 32
#define NET_RULES_MAX 512
#define NET_NEIGHBOURS_MAX 1024

struct net_ip {
	uint8_t family;	   /* AF_INET, AF_INET6; 0: none */
	uint8_t bytes[16]; /* 4 or 16 of them */
};

struct net_prefix {
	struct net_ip ip; /* family 0: all addresses */
	uint8_t len;
};

struct net_address {
	struct net_prefix local; /* the address, and the length of its subnet's prefix */
	struct net_ip peer;	 /* the other end of a point-to-point link; family 0: none */
	struct net_ip broadcast; /* IPv4; family 0: none */
	uint8_t scope;
	uint32_t flags;		       /* IFA_F_* */
	uint32_t valid_s, preferred_s; /* lifetimes; UINT32_MAX: for ever */
	char label[IFNAMSIZ];	       /* IPv4 alias; "": the link's name */
};

/* What a link is, as far as that decides whether a guest can have it. */
enum net_kind {
	NET_KIND_OTHER,	   /* a kind that this table does not know: its word is in `kind_name` */
	NET_KIND_PHYSICAL, /* no kind: hardware, or a virtual function of it */
	NET_KIND_LOOPBACK,
	NET_KIND_VETH,
	NET_KIND_MACVLAN,
	NET_KIND_IPVLAN,
	NET_KIND_BRIDGE,
	NET_KIND_TUN, /* layer 3 */
	NET_KIND_TAP,
	NET_KIND_DUMMY,
	NET_KIND_VLAN,
	NET_KIND_VXLAN,
	NET_KIND_WIREGUARD,
};

struct net_link {
	unsigned index; /* in its namespace */
	char name[IFNAMSIZ];
	enum net_kind kind;
	char kind_name[16]; /* IFLA_INFO_KIND; "" of a physical one */
	char alias[256];    /* IFLA_IFALIAS */
	unsigned master;    /* index of the bridge or bond that it is a port of; 0: none */
	uint16_t type;	    /* ARPHRD_* */
	uint8_t mac[6];	    /* of an Ethernet link; zeroes otherwise */
	uint32_t mtu;
	bool up, carrier;
	bool noarp, allmulti, promisc, no_multicast;
	uint8_t addr_gen; /* IN6_ADDR_GEN_MODE_* */
	bool no_ipv6;	  /* IPv6 is off: no AF_INET6 in IFLA_AF_SPEC, or disable_ipv6 is set */
	struct net_address *addresses; /* made one after the other they are as they were */
	size_t n_addresses;
};

struct net_nexthop {
	unsigned link;	       /* index; 0: none */
	struct net_ip gateway; /* family 0: on-link; may be IPv6 in an IPv4 route (RTA_VIA) */
	uint8_t weight;	       /* less one, as RTNH counts hops */
	bool onlink;	       /* RTNH_F_ONLINK */
};

struct net_route {
	uint8_t family;
	struct net_prefix dst; /* ip.family 0: default */
	struct net_prefix src; /* IPv6 source routing; ip.family 0: any */
	uint32_t table;	       /* RT_TABLE_* or any number */
	uint8_t type, scope, protocol, tos;
	uint32_t priority; /* "metric" */
	struct net_ip prefsrc;
	uint32_t metrics[RTAX_MAX + 1]; /* 0: not set */
	uint8_t pref;			/* IPv6 router preference */
	struct net_nexthop *nexthops;	/* none for blackhole and its like */
	size_t n_nexthops;
};

struct net_range {
	uint32_t from, to; /* both 0: none */
};

struct net_rule {
	uint8_t family;
	uint32_t priority;
	uint8_t action; /* FR_ACT_* */
	uint32_t table;
	uint32_t target; /* FR_ACT_GOTO: a priority */
	bool invert;
	struct net_prefix src, dst;
	char iif[IFNAMSIZ], oif[IFNAMSIZ]; /* "": any */
	uint32_t mark, mask;
	uint8_t tos, ip_proto, protocol;
	struct net_range sport, dport, uid;
	bool has_uid;
	int32_t suppress_prefix; /* -1: none */
};

struct net_neighbour {
	unsigned link;
	struct net_ip ip;
	bool has_mac;
	uint8_t mac[6];
	uint16_t state; /* NUD_PERMANENT, NUD_NOARP */
	uint8_t flags;	/* NTF_PROXY, NTF_ROUTER */
};

struct net_config {
	struct net_link *links;
	size_t n_links;
	struct net_route *routes;
	size_t n_routes;
	struct net_rule *rules;
	size_t n_rules;
	struct net_neighbour *neighbours;
	size_t n_neighbours;
};

void net_config_free(struct net_config *c);
#define cleanup_net_config __attribute__((cleanup(net_config_free)))

/* One more, all zeroes, of the configuration or of a part of it; pointers to others of its kind are
 * not valid any more. NULL (ERR_UNSUPPORTED) when there are as many as the bounds allow. */
struct net_link *net_config_add_link(struct net_config *c, struct error *err);
struct net_address *net_link_add_address(struct net_link *l, struct error *err);
struct net_route *net_config_add_route(struct net_config *c, struct error *err);
struct net_nexthop *net_route_add_nexthop(struct net_route *r, struct error *err);
struct net_rule *net_config_add_rule(struct net_config *c, struct error *err);
struct net_neighbour *net_config_add_neighbour(struct net_config *c, struct error *err);

/* NULL if there is none. */
struct net_link *net_config_link(const struct net_config *c, unsigned index);
struct net_link *net_config_link_named(const struct net_config *c, const char *name);

/* Bytes of an address: 4, 16, 0 of no family that is known. */
size_t net_ip_size(uint8_t family);
/* Zeroes the bits behind the prefix's length. */
void net_prefix_mask(struct net_prefix *p);
/* Whether the kernel would take it for a link's name: such a one is harmless in a path. */
bool net_name_valid(const char *name);
/* "10.0.0.2", "fe80::1", "none". "10.0.0.2/24", "default". They return `buf`. */
#define NET_TEXT_MAX 52
const char *net_ip_text(const struct net_ip *ip, char buf[NET_TEXT_MAX]);
const char *net_prefix_text(const struct net_prefix *p, char buf[NET_TEXT_MAX]);
/* "10.0.0.0/8 in table 100": what errors call a route. */
#define NET_ROUTE_TEXT_MAX 128
const char *net_route_text(const struct net_route *r, char buf[NET_ROUTE_TEXT_MAX]);

/* `same`: whether the kernel would take both for one object (its key: what it says "exists" of).
 * `equal`: whether they are alike in everything that one who makes them can decide; flags that the
 * kernel sets by itself (tentative, secondary, ...) do not count. */
bool net_ip_equal(const struct net_ip *a, const struct net_ip *b);
bool net_prefix_equal(const struct net_prefix *a, const struct net_prefix *b);
bool net_address_same(const struct net_address *a, const struct net_address *b);
bool net_address_equal(const struct net_address *a, const struct net_address *b);
bool net_route_same(const struct net_route *a, const struct net_route *b);
bool net_route_equal(const struct net_route *a, const struct net_route *b);
bool net_rule_equal(const struct net_rule *a, const struct net_rule *b);
bool net_neighbour_same(const struct net_neighbour *a, const struct net_neighbour *b);
bool net_neighbour_equal(const struct net_neighbour *a, const struct net_neighbour *b);

#endif
