#include "netns/message.h"
#include "lib/cleanup.h"
#include "netns/rtnl.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>

#define FOR_EVER UINT32_MAX

/* ---- addresses */

/* What is to be decided by who makes an address; the kernel adds its own flags. There is no
 * detection of duplicates: the host's kernel has done it. */
static uint32_t address_flags(const struct net_address *a)
{
	uint32_t flags = (a->flags & (IFA_F_HOMEADDRESS | IFA_F_MCAUTOJOIN)) | IFA_F_NOPREFIXROUTE;

	return a->local.ip.family == AF_INET6 ? flags | IFA_F_NODAD : flags;
}

static void put_lifetimes(struct nlmsghdr *m, const struct net_address *a)
{
	struct ifa_cacheinfo ci = {.ifa_valid = a->valid_s, .ifa_prefered = a->preferred_s};

	if (a->valid_s == FOR_EVER && a->preferred_s == FOR_EVER)
		return;
	/* Its last second: the kernel takes no address that is over. */
	if (ci.ifa_valid == 0)
		ci.ifa_valid = 1;
	if (ci.ifa_prefered > ci.ifa_valid)
		ci.ifa_prefered = ci.ifa_valid;
	rtnl_put(m, IFA_CACHEINFO, &ci, sizeof(ci));
}

void net_put_address(struct nlmsghdr *m, const struct net_address *a, unsigned ifindex)
{
	struct ifaddrmsg *h = rtnl_header(m, sizeof(*h));
	uint32_t flags = address_flags(a);

	h->ifa_family = a->local.ip.family;
	h->ifa_prefixlen = a->local.len;
	h->ifa_flags = (uint8_t)flags;
	h->ifa_scope = a->scope;
	h->ifa_index = ifindex;
	rtnl_put_ip(m, IFA_LOCAL, &a->local.ip);
	rtnl_put_ip(m, IFA_ADDRESS, a->peer.family ? &a->peer : &a->local.ip);
	rtnl_put_ip(m, IFA_BROADCAST, &a->broadcast);
	if (a->label[0])
		rtnl_put_str(m, IFA_LABEL, a->label);
	rtnl_put_u32(m, IFA_FLAGS, flags);
	put_lifetimes(m, a);
}

/* ---- routes */

static void put_gateway(struct nlmsghdr *m, uint8_t family, const struct net_ip *gateway)
{
	uint8_t via[2 + 16]; /* struct rtvia */
	uint16_t other = gateway->family;

	if (gateway->family == 0 || gateway->family == family) {
		rtnl_put_ip(m, RTA_GATEWAY, gateway);
		return;
	}
	memcpy(via, &other, sizeof(other));
	memcpy(via + sizeof(other), gateway->bytes, sizeof(gateway->bytes));
	rtnl_put(m, RTA_VIA, via, sizeof(other) + net_ip_size(gateway->family));
}

static void put_nexthop(struct nlmsghdr *m, uint8_t family, const struct net_nexthop *n,
			unsigned ifindex)
{
	uint32_t at = m->nlmsg_len;
	struct rtnexthop *h = rtnl_put_raw(m, sizeof(*h));

	if (!h)
		return;
	h->rtnh_flags = n->onlink ? RTNH_F_ONLINK : 0;
	h->rtnh_hops = n->weight;
	h->rtnh_ifindex = (int)ifindex;
	put_gateway(m, family, &n->gateway);
	h->rtnh_len = (uint16_t)(m->nlmsg_len - at);
}

static void put_nexthops(struct nlmsghdr *m, const struct net_route *r, const unsigned *ifindexes)
{
	struct nlattr *nest;

	if (r->n_nexthops == 1) {
		if (ifindexes[0])
			rtnl_put_u32(m, RTA_OIF, ifindexes[0]);
		put_gateway(m, r->family, &r->nexthops[0].gateway);
		return;
	}
	nest = rtnl_nest(m, RTA_MULTIPATH);
	for (size_t i = 0; i < r->n_nexthops; i++)
		put_nexthop(m, r->family, &r->nexthops[i], ifindexes[i]);
	rtnl_nest_end(m, nest);
}

static void put_metrics(struct nlmsghdr *m, const struct net_route *r)
{
	struct nlattr *nest = NULL;

	for (unsigned i = 1; i <= RTAX_MAX; i++) {
		/* A congestion control's number is a name to the kernel. */
		if (r->metrics[i] == 0 || i == RTAX_CC_ALGO)
			continue;
		if (!nest)
			nest = rtnl_nest(m, RTA_METRICS);
		rtnl_put_u32(m, (uint16_t)i, r->metrics[i]);
	}
	rtnl_nest_end(m, nest);
}

/* False if one of the links is not there. */
static bool find_links(const struct net_route *r, net_index_fn index_of, void *arg,
		       unsigned ifindexes[NET_NEXTHOPS_MAX])
{
	if (r->n_nexthops == 0 || r->n_nexthops > NET_NEXTHOPS_MAX)
		return false;
	for (size_t i = 0; i < r->n_nexthops; i++) {
		unsigned link = r->nexthops[i].link;

		ifindexes[i] = link ? index_of(arg, link) : 0;
		if (link && !ifindexes[i])
			return false;
	}
	return true;
}

void net_put_route(struct nlmsghdr *m, const struct net_route *r, net_index_fn index_of, void *arg)
{
	struct rtmsg *h = rtnl_header(m, sizeof(*h));
	unsigned ifindexes[NET_NEXTHOPS_MAX];

	h->rtm_family = r->family;
	h->rtm_dst_len = r->dst.len;
	h->rtm_src_len = r->src.len;
	h->rtm_tos = r->tos;
	h->rtm_table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC;
	h->rtm_protocol = r->protocol;
	h->rtm_scope = r->scope;
	h->rtm_type = r->type;
	h->rtm_flags = r->n_nexthops == 1 && r->nexthops[0].onlink ? RTNH_F_ONLINK : 0;
	rtnl_put_u32(m, RTA_TABLE, r->table);
	rtnl_put_ip(m, RTA_DST, &r->dst.ip);
	rtnl_put_ip(m, RTA_SRC, &r->src.ip);
	rtnl_put_ip(m, RTA_PREFSRC, &r->prefsrc);
	if (r->priority)
		rtnl_put_u32(m, RTA_PRIORITY, r->priority);
	if (r->pref)
		rtnl_put_u8(m, RTA_PREF, r->pref);
	put_metrics(m, r);
	if (find_links(r, index_of, arg, ifindexes))
		put_nexthops(m, r, ifindexes);
}

/* ---- rules, neighbours */

static void put_range(struct nlmsghdr *m, uint16_t type, const struct net_range *r)
{
	struct fib_rule_port_range range = {(uint16_t)r->from, (uint16_t)r->to};

	if (r->from || r->to)
		rtnl_put(m, type, &range, sizeof(range));
}

static void put_names(struct nlmsghdr *m, const struct net_rule *r)
{
	if (r->iif[0])
		rtnl_put_str(m, FRA_IIFNAME, r->iif);
	if (r->oif[0])
		rtnl_put_str(m, FRA_OIFNAME, r->oif);
}

static void put_conditions(struct nlmsghdr *m, const struct net_rule *r)
{
	struct fib_rule_uid_range uids = {r->uid.from, r->uid.to};

	rtnl_put_ip(m, FRA_SRC, &r->src.ip);
	rtnl_put_ip(m, FRA_DST, &r->dst.ip);
	put_names(m, r);
	if (r->mark || r->mask) {
		rtnl_put_u32(m, FRA_FWMARK, r->mark);
		rtnl_put_u32(m, FRA_FWMASK, r->mask);
	}
	if (r->ip_proto)
		rtnl_put_u8(m, FRA_IP_PROTO, r->ip_proto);
	put_range(m, FRA_SPORT_RANGE, &r->sport);
	put_range(m, FRA_DPORT_RANGE, &r->dport);
	if (r->has_uid)
		rtnl_put(m, FRA_UID_RANGE, &uids, sizeof(uids));
}

void net_put_rule(struct nlmsghdr *m, const struct net_rule *r)
{
	struct fib_rule_hdr *h = rtnl_header(m, sizeof(*h));

	h->family = r->family;
	h->dst_len = r->dst.len;
	h->src_len = r->src.len;
	h->tos = r->tos;
	h->table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC;
	h->action = r->action;
	h->flags = r->invert ? FIB_RULE_INVERT : 0;
	put_conditions(m, r);
	if (r->table)
		rtnl_put_u32(m, FRA_TABLE, r->table);
	rtnl_put_u32(m, FRA_PRIORITY, r->priority);
	if (r->action == FR_ACT_GOTO)
		rtnl_put_u32(m, FRA_GOTO, r->target);
	if (r->suppress_prefix >= 0)
		rtnl_put_u32(m, FRA_SUPPRESS_PREFIXLEN, (uint32_t)r->suppress_prefix);
	if (r->protocol)
		rtnl_put_u8(m, FRA_PROTOCOL, r->protocol);
}

void net_put_neighbour(struct nlmsghdr *m, const struct net_neighbour *n, unsigned ifindex)
{
	struct ndmsg *h = rtnl_header(m, sizeof(*h));

	h->ndm_family = n->ip.family;
	h->ndm_ifindex = (int)ifindex;
	h->ndm_state = n->state;
	h->ndm_flags = n->flags;
	rtnl_put_ip(m, NDA_DST, &n->ip);
	if (n->has_mac)
		rtnl_put(m, NDA_LLADDR, n->mac, sizeof(n->mac));
}

/* ---- words */

static size_t add(char *text, size_t at, const char *before, const char *word)
{
	int n;

	if (at >= NET_WORDS_MAX - 1)
		return at;
	n = snprintf(text + at, NET_WORDS_MAX - at, "%s%s", before, word);
	return at + (n > 0 ? (size_t)n : 0);
}

static size_t add_number(char *text, size_t at, const char *before, uint32_t n)
{
	char word[16];

	snprintf(word, sizeof(word), "%u", n);
	return add(text, at, before, word);
}

void net_route_words(const struct net_config *c, const struct net_route *r,
		     char text[NET_WORDS_MAX])
{
	char buf[NET_TEXT_MAX];
	size_t at = add(text, 0, "route ", net_prefix_text(&r->dst, buf));

	if (r->n_nexthops > 0) {
		const struct net_nexthop *n = &r->nexthops[0];
		const struct net_link *l = net_config_link(c, n->link);

		if (n->gateway.family)
			at = add(text, at, " via ", net_ip_text(&n->gateway, buf));
		if (l)
			at = add(text, at, " dev ", l->name);
		if (r->n_nexthops > 1)
			at = add(text, at, " and others", "");
	}
	if (r->priority)
		at = add_number(text, at, " metric ", r->priority);
	if (r->table != RT_TABLE_MAIN)
		add_number(text, at, " table ", r->table);
}

void net_rule_words(const struct net_rule *r, char text[NET_WORDS_MAX])
{
	char buf[NET_TEXT_MAX];
	size_t at =
		add_number(text, 0, r->family == AF_INET6 ? "IPv6 rule " : "rule ", r->priority);

	at = add(text, at, ": from ", r->src.ip.family ? net_prefix_text(&r->src, buf) : "all");
	if (r->dst.ip.family)
		at = add(text, at, " to ", net_prefix_text(&r->dst, buf));
	if (r->iif[0])
		at = add(text, at, " iif ", r->iif);
	if (r->oif[0])
		at = add(text, at, " oif ", r->oif);
	if (r->action == FR_ACT_TO_TBL)
		add_number(text, at, " lookup ", r->table);
}
