/*
 * parse_route.c - routes, and the next hops that they go by.
 *
 * A route says where it goes in one of four ways: a link and a gateway of its own (RTA_OIF with
 * RTA_GATEWAY, or RTA_VIA where the gateway is of another family), several of these
 * (RTA_MULTIPATH), the number of a next hop object (RTA_NH_ID), or not at all (blackhole and its
 * like). With an object the kernel shows the links and gateways besides, unless
 * net.ipv4.nexthop_compat_mode is 0: then they are looked up here. The guest has no objects, only
 * what they stand for.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/parse.h"

#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <string.h>

/* ---- next hop objects */

void nexthop_objects_free(struct nexthop_objects *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->list[i].members);
	free(o->list);
	*o = (struct nexthop_objects){0};
}

static const struct nexthop_object *find(const struct nexthop_objects *o, uint32_t id)
{
	size_t low = 0, high = o ? o->n : 0;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (o->list[mid].id == id)
			return &o->list[mid];
		if (o->list[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* Up to NET_NEXTHOPS_MAX members: with more a route cannot be had, which is its error. */
static bool parse_group(const struct attr *a, struct nexthop_object *n)
{
	size_t count = a->len / sizeof(struct nexthop_grp);

	if (!a->data)
		return true;
	if (count == 0 || a->len % sizeof(struct nexthop_grp) != 0)
		return false;
	if (count > NET_NEXTHOPS_MAX + 1)
		count = NET_NEXTHOPS_MAX + 1;
	n->members = xcalloc(count, sizeof(*n->members));
	n->n_members = count;
	for (size_t i = 0; i < count; i++) {
		struct nexthop_grp g;

		memcpy(&g, a->data + i * sizeof(g), sizeof(g));
		n->members[i] = (struct nexthop_member){g.id, g.weight};
	}
	return true;
}

/* Makes room for twice as many. */
static void grow(struct nexthop_objects *o)
{
	struct nexthop_object *list = xcalloc(o->n ? o->n * 2 : 1, sizeof(*list));

	if (o->n > 0)
		memcpy(list, o->list, o->n * sizeof(*list));
	free(o->list);
	o->list = list;
}

int parse_nexthop(const void *msg, size_t len, struct nexthop_objects *o, struct error *err)
{
	struct attr a[NHA_ENCAP + 1];
	struct nexthop_object n = {0};
	const struct nhmsg *nh;
	struct message m;

	if (!message_open(msg, len, sizeof(*nh), &m) || m.type != RTM_NEWNEXTHOP)
		return parse_broken("a next hop", err);
	nh = m.header;
	n.hop.onlink = nh->nh_flags & RTNH_F_ONLINK;
	if (!attrs_find(m.attrs, m.len, a, ARRAY_LEN(a)) || !a[NHA_ID].data ||
	    !attr_u32(&a[NHA_ID], &n.id) || !attr_u32(&a[NHA_OIF], &n.hop.link) ||
	    !attr_ip(&a[NHA_GATEWAY], nh->nh_family, &n.hop.gateway))
		return parse_broken("a next hop", err);
	n.blackhole = a[NHA_BLACKHOLE].data != NULL;
	n.encap = a[NHA_ENCAP_TYPE].data != NULL;
	if (o->n > 0 && o->list[o->n - 1].id >= n.id)
		return parse_broken("the order of next hops", err);
	if (o->n >= NET_OBJECTS_MAX)
		return error_kind(err, ERR_UNSUPPORTED, "more than %u next hop objects",
				  NET_OBJECTS_MAX);
	if (!parse_group(&a[NHA_GROUP], &n))
		return parse_broken("a group of next hops", err);
	if ((o->n & (o->n - 1)) == 0)
		grow(o);
	o->list[o->n++] = n;
	return 1;
}

static int not_there(const struct net_route *r, const char *what, uint32_t id, struct error *err)
{
	char text[NET_ROUTE_TEXT_MAX];

	return error_kind(err, ERR_NOT_FOUND, "route %s goes by a %s %u, which is not there",
			  net_route_text(r, text), what, id);
}

static int unsupported(const struct net_route *r, const char *what, struct error *err)
{
	char text[NET_ROUTE_TEXT_MAX];

	return error_kind(err, ERR_UNSUPPORTED, "route %s: %s is not supported",
			  net_route_text(r, text), what);
}

static int add_hop(struct net_route *r, const struct net_nexthop *hop, struct error *err)
{
	struct net_nexthop *new = net_route_add_nexthop(r, err);
	char text[NET_ROUTE_TEXT_MAX];

	if (!new)
		return error_wrap(err, "route %s", net_route_text(r, text));
	*new = *hop;
	return 0;
}

static int add_object(struct net_route *r, const struct nexthop_object *n, uint8_t weight,
		      struct error *err)
{
	struct net_nexthop hop = n->hop;

	if (n->encap)
		return unsupported(r, "an encapsulation", err);
	hop.weight = weight;
	return add_hop(r, &hop, err);
}

static int resolve(struct net_route *r, uint32_t id, const struct nexthop_objects *o,
		   struct error *err)
{
	const struct nexthop_object *n = find(o, id), *member;

	if (!n)
		return not_there(r, "next hop object", id, err);
	if (n->blackhole) {
		r->type = RTN_BLACKHOLE;
		return 0;
	}
	if (n->n_members == 0)
		return add_object(r, n, 0, err);
	for (size_t i = 0; i < n->n_members; i++) {
		member = find(o, n->members[i].id);
		if (!member)
			return not_there(r, "next hop object", n->members[i].id, err);
		if (add_object(r, member, n->members[i].weight, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- routes */

/* A gateway of the route's family. IPv4 can go by a router's IPv6 address, too. */
static bool parse_gateway(const struct attr *a, uint8_t family, struct net_ip *gateway)
{
	const struct attr *via = &a[RTA_VIA];
	struct attr ip;
	uint16_t other;

	if (!attr_ip(&a[RTA_GATEWAY], family, gateway))
		return false;
	if (!via->data)
		return true;
	if (via->len < sizeof(other))
		return false;
	memcpy(&other, via->data, sizeof(other));
	ip = (struct attr){via->data + sizeof(other), via->len - sizeof(other)};
	return (other == family || other == AF_INET6) && attr_ip(&ip, (uint8_t)other, gateway);
}

static int parse_multipath(const struct attr *paths, struct net_route *r, struct error *err)
{
	const uint8_t *at = paths->data;
	size_t left = paths->len;

	while (left > 0) {
		struct attr a[RTA_MAX + 1];
		struct net_nexthop hop = {0};
		struct rtnexthop h;
		size_t whole;

		if (left < sizeof(h))
			return parse_broken("a route's next hops", err);
		memcpy(&h, at, sizeof(h));
		if (h.rtnh_len < sizeof(h) || h.rtnh_len > left ||
		    !attrs_find(at + sizeof(h), h.rtnh_len - sizeof(h), a, ARRAY_LEN(a)) ||
		    !parse_gateway(a, r->family, &hop.gateway))
			return parse_broken("a route's next hops", err);
		if (a[RTA_ENCAP_TYPE].data)
			return unsupported(r, "an encapsulation", err);
		if (a[RTA_FLOW].data)
			return unsupported(r, "a realm", err);
		hop.link = (unsigned)h.rtnh_ifindex;
		hop.weight = h.rtnh_hops;
		hop.onlink = h.rtnh_flags & RTNH_F_ONLINK;
		if (add_hop(r, &hop, err) < 0)
			return -1;
		whole = NLA_ALIGN((size_t)h.rtnh_len);
		if (whole > left)
			whole = left;
		at += whole;
		left -= whole;
	}
	return 0;
}

static int parse_metrics(const struct attr *nest, struct net_route *r, struct error *err)
{
	struct attr a[RTAX_MAX + 1];

	if (!attrs_nested(nest, a, ARRAY_LEN(a)))
		return parse_broken("a route's metrics", err);
	if (a[RTAX_CC_ALGO].data)
		return unsupported(r, "a congestion control of its own", err);
	for (unsigned i = 1; i < ARRAY_LEN(a); i++)
		if (!attr_u32(&a[i], &r->metrics[i]))
			return parse_broken("a route's metrics", err);
	return 0;
}

static bool leads_nowhere(uint8_t type)
{
	return type == RTN_BLACKHOLE || type == RTN_UNREACHABLE || type == RTN_PROHIBIT ||
	       type == RTN_THROW;
}

static int parse_hops(const struct rtmsg *rtm, const struct attr *a, struct net_route *r,
		      const struct nexthop_objects *o, struct error *err)
{
	struct net_nexthop hop = {.onlink = rtm->rtm_flags & RTNH_F_ONLINK};
	uint32_t id = 0;

	if (!attr_u32(&a[RTA_OIF], &hop.link) || !attr_u32(&a[RTA_NH_ID], &id) ||
	    !parse_gateway(a, r->family, &hop.gateway))
		return parse_broken("a route", err);
	/* IPv6 gives those that lead nowhere the loopback. */
	if (leads_nowhere(r->type))
		return 0;
	if (a[RTA_ENCAP_TYPE].data)
		return unsupported(r, "an encapsulation", err);
	if (a[RTA_MULTIPATH].data)
		return parse_multipath(&a[RTA_MULTIPATH], r, err);
	if (hop.link != 0 || hop.gateway.family != 0)
		return add_hop(r, &hop, err);
	return id != 0 ? resolve(r, id, o, err) : 0;
}

static int parse_values(const struct rtmsg *rtm, const struct attr *a, struct net_route *r,
			struct error *err)
{
	if (!attr_u32(&a[RTA_TABLE], &r->table) || !attr_u32(&a[RTA_PRIORITY], &r->priority) ||
	    !attr_u8(&a[RTA_PREF], &r->pref) ||
	    !attr_prefix(&a[RTA_DST], r->family, rtm->rtm_dst_len, &r->dst) ||
	    !attr_prefix(&a[RTA_SRC], r->family, rtm->rtm_src_len, &r->src) ||
	    !attr_ip(&a[RTA_PREFSRC], r->family, &r->prefsrc))
		return parse_broken("a route", err);
	if (a[RTA_FLOW].data)
		return unsupported(r, "a realm", err);
	return parse_metrics(&a[RTA_METRICS], r, err);
}

/* The kernel makes those of table local for each address (and takes them back); those of no table
 * are what it answers when there is no route; cloned ones are what it learned of a destination. */
static bool is_the_kernels(const struct rtmsg *rtm, const struct net_route *r)
{
	return rtm->rtm_flags & RTM_F_CLONED || r->table == RT_TABLE_UNSPEC ||
	       (r->table == RT_TABLE_LOCAL && r->protocol == RTPROT_KERNEL);
}

static int links_are_there(const struct net_route *r, const struct net_config *c, struct error *err)
{
	for (size_t i = 0; i < r->n_nexthops; i++)
		if (r->nexthops[i].link != 0 && !net_config_link(c, r->nexthops[i].link))
			return not_there(r, "link", r->nexthops[i].link, err);
	return 0;
}

static int parse_all(const struct rtmsg *rtm, const struct attr *a, struct net_route *r,
		     const struct net_config *c, const struct nexthop_objects *o, struct error *err)
{
	if (parse_values(rtm, a, r, err) < 0)
		return -1;
	if (is_the_kernels(rtm, r))
		return 0;
	if (parse_hops(rtm, a, r, o, err) < 0 || links_are_there(r, c, err) < 0)
		return -1;
	return 1;
}

int parse_route(const struct message *m, struct net_config *c, const struct nexthop_objects *o,
		struct error *err)
{
	const struct rtmsg *rtm = m->header;
	struct attr a[RTA_MAX + 1];
	struct net_route r =
				 {
					 .family = rtm->rtm_family,
					 .table = rtm->rtm_table,
					 .type = rtm->rtm_type,
					 .scope = rtm->rtm_scope,
					 .protocol = rtm->rtm_protocol,
					 .tos = rtm->rtm_tos,
				 },
			 *new = NULL;
	int result;

	/* Multicast routing and MPLS have routes of their own families. */
	if (net_ip_size(r.family) == 0)
		return 0;
	if (r.type > RTN_MAX || !attrs_find(m->attrs, m->len, a, ARRAY_LEN(a)))
		return parse_broken("a route", err);
	result = parse_all(rtm, a, &r, c, o, err);
	if (result > 0) {
		new = net_config_add_route(c, err);
		result = new ? 1 : -1;
	}
	if (new)
		*new = r;
	else
		free(r.nexthops);
	return result;
}
