#include "netns/parse.h"
#include "lib/cleanup.h"
#include "netns/dump.h"

#include <limits.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/ipv6.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

/* Attributes of a rule that are looked at: those of kernels to come, too. These two came with Linux
 * 6.15, and are there whenever a rule is of one port: all of its bits count. */
#define FRA_SEEN 64
#define FRA_SPORT_MASK_ 28
#define FRA_DPORT_MASK_ 29

int parse_broken(const char *what, struct error *err)
{
	return error_kind(err, ERR_INVALID, "cannot read what the kernel says of %s", what);
}

/* ---- links */

static const struct {
	const char *word;
	enum net_kind kind;
} kinds[] = {
	{"veth", NET_KIND_VETH},     {"macvlan", NET_KIND_MACVLAN},	{"ipvlan", NET_KIND_IPVLAN},
	{"bridge", NET_KIND_BRIDGE}, {"dummy", NET_KIND_DUMMY},		{"vlan", NET_KIND_VLAN},
	{"vxlan", NET_KIND_VXLAN},   {"wireguard", NET_KIND_WIREGUARD},
};

/* One kind of the kernel's is two of ours. */
static bool parse_tun(const struct attr *data, struct net_link *l)
{
	struct attr a[IFLA_TUN_TYPE + 1];
	uint8_t type = l->type == ARPHRD_ETHER ? IFF_TAP : IFF_TUN;

	if (!attrs_nested(data, a, ARRAY_LEN(a)) || !attr_u8(&a[IFLA_TUN_TYPE], &type))
		return false;
	l->kind = type == IFF_TAP ? NET_KIND_TAP : NET_KIND_TUN;
	return true;
}

static bool parse_kind(const struct attr *info, struct net_link *l)
{
	struct attr a[IFLA_INFO_DATA + 1];

	if (!attrs_nested(info, a, ARRAY_LEN(a)) ||
	    !attr_string(&a[IFLA_INFO_KIND], l->kind_name, sizeof(l->kind_name)))
		return false;
	if (l->kind_name[0] == '\0') {
		l->kind = l->type == ARPHRD_LOOPBACK ? NET_KIND_LOOPBACK : NET_KIND_PHYSICAL;
		return true;
	}
	if (strcmp(l->kind_name, "tun") == 0)
		return parse_tun(&a[IFLA_INFO_DATA], l);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (strcmp(l->kind_name, kinds[i].word) == 0)
			l->kind = kinds[i].kind;
	return true;
}

/* What IPv6 thinks of the link. It is not there when the link's MTU is too small for it, and may
 * have been told to keep away from it. */
static bool parse_ipv6(const struct attr *spec, struct net_link *l)
{
	struct attr families[AF_INET6 + 1], a[IFLA_INET6_ADDR_GEN_MODE + 1];
	const struct attr *conf = &a[IFLA_INET6_CONF];
	uint32_t disabled = 0;

	if (!attrs_nested(spec, families, ARRAY_LEN(families)) ||
	    !attrs_nested(&families[AF_INET6], a, ARRAY_LEN(a)) ||
	    !attr_u8(&a[IFLA_INET6_ADDR_GEN_MODE], &l->addr_gen))
		return false;
	if (conf->len >= (DEVCONF_DISABLE_IPV6 + 1) * sizeof(disabled))
		memcpy(&disabled, conf->data + DEVCONF_DISABLE_IPV6 * sizeof(disabled),
		       sizeof(disabled));
	l->no_ipv6 = !families[AF_INET6].data || disabled != 0;
	return true;
}

static int parse_link(const struct message *m, struct net_config *c, struct error *err)
{
	const struct ifinfomsg *ifi = m->header;
	struct attr a[IFLA_CARRIER + 1];
	struct net_link l =
				{
					.index = (unsigned)ifi->ifi_index,
					.type = ifi->ifi_type,
					.up = ifi->ifi_flags & IFF_UP,
					.carrier = ifi->ifi_flags & IFF_RUNNING,
					.noarp = ifi->ifi_flags & IFF_NOARP,
					.allmulti = ifi->ifi_flags & IFF_ALLMULTI,
					.promisc = ifi->ifi_flags & IFF_PROMISC,
					.no_multicast = !(ifi->ifi_flags & IFF_MULTICAST),
				},
			*new;
	uint8_t carrier = l.carrier;

	/* Other families tell of the same link: bridges of their ports. */
	if (ifi->ifi_family != AF_UNSPEC)
		return 0;
	if (ifi->ifi_index <= 0 || !attrs_find(m->attrs, m->len, a, ARRAY_LEN(a)) ||
	    !attr_string(&a[IFLA_IFNAME], l.name, sizeof(l.name)) || !net_name_valid(l.name))
		return parse_broken("a link", err);
	if (!attr_string(&a[IFLA_IFALIAS], l.alias, sizeof(l.alias)) ||
	    !attr_u32(&a[IFLA_MASTER], &l.master) || !attr_u32(&a[IFLA_MTU], &l.mtu) ||
	    !attr_u8(&a[IFLA_CARRIER], &carrier) || !parse_kind(&a[IFLA_LINKINFO], &l) ||
	    !parse_ipv6(&a[IFLA_AF_SPEC], &l))
		return parse_broken(l.name, err);
	if (l.type == ARPHRD_ETHER && !attr_struct(&a[IFLA_ADDRESS], l.mac, sizeof(l.mac)))
		return parse_broken(l.name, err);
	if (l.master > INT_MAX)
		return parse_broken(l.name, err);
	if (net_config_link(c, l.index))
		return error_kind(err, ERR_INVALID, "two links have the index %u", l.index);
	l.carrier = carrier != 0;
	new = net_config_add_link(c, err);
	if (!new)
		return -1;
	*new = l;
	return 1;
}

/* ---- addresses */

/* The link that a message is of. One that is not there went, or came, since links were asked for.
 */
static struct net_link *known(const struct net_config *c, uint32_t index, const char *what,
			      struct error *err)
{
	struct net_link *l = net_config_link(c, index);

	if (!l)
		error_kind(err, ERR_NOT_FOUND, "%s is of a link %u, which is not there", what,
			   index);
	return l;
}

/* What an address is, and what it is called, differs between the families: IPv4 always has
 * IFA_LOCAL, IPv6 has it with a peer alone. */
static bool parse_local(const struct attr *a, uint8_t family, struct net_address *n)
{
	struct net_ip *local = &n->local.ip;

	if (!attr_ip(&a[IFA_ADDRESS], family, &n->peer) || !attr_ip(&a[IFA_LOCAL], family, local))
		return false;
	if (local->family == 0)
		*local = n->peer;
	if (net_ip_equal(local, &n->peer))
		n->peer = (struct net_ip){0};
	return local->family != 0;
}

static int parse_address(const struct message *m, struct net_config *c, struct error *err)
{
	const struct ifaddrmsg *ifa = m->header;
	struct ifa_cacheinfo life = {.ifa_prefered = UINT32_MAX, .ifa_valid = UINT32_MAX};
	struct attr a[IFA_FLAGS + 1];
	struct net_address n =
				   {
					   .local.len = ifa->ifa_prefixlen,
					   .scope = ifa->ifa_scope,
					   .flags = ifa->ifa_flags,
				   },
			   *new;
	struct net_link *l;

	if (net_ip_size(ifa->ifa_family) == 0)
		return 0;
	if (!attrs_find(m->attrs, m->len, a, ARRAY_LEN(a)) ||
	    !parse_local(a, ifa->ifa_family, &n) ||
	    n.local.len > net_ip_size(ifa->ifa_family) * 8 ||
	    (ifa->ifa_family == AF_INET && !attr_ip(&a[IFA_BROADCAST], AF_INET, &n.broadcast)) ||
	    !attr_u32(&a[IFA_FLAGS], &n.flags) ||
	    !attr_struct(&a[IFA_CACHEINFO], &life, sizeof(life)) ||
	    !attr_string(&a[IFA_LABEL], n.label, sizeof(n.label)))
		return parse_broken("an address", err);
	l = known(c, ifa->ifa_index, "an address", err);
	if (!l)
		return -1;
	n.valid_s = life.ifa_valid;
	n.preferred_s = life.ifa_prefered;
	if (strcmp(n.label, l->name) == 0)
		memset(n.label, 0, sizeof(n.label));
	new = net_link_add_address(l, err);
	if (!new)
		return error_wrap(err, "%s", l->name);
	*new = n;
	return 1;
}

/* ---- rules */

static bool whole_port(const struct attr *mask)
{
	return mask->len == 2 && mask->data[0] == 0xff && mask->data[1] == 0xff;
}

/* What a rule can match on, and struct net_rule cannot. */
static const char *foreign_match(const struct attr *a)
{
	if (a[FRA_TUN_ID].data)
		return "tun_id";
	if (a[FRA_FLOW].data)
		return "realms";
	if (a[FRA_L3MDEV].data)
		return "l3mdev";
	if (a[FRA_SUPPRESS_IFGROUP].data)
		return "suppress_ifgroup";
	for (unsigned i = FRA_DPORT_RANGE + 1; i < FRA_SEEN; i++)
		if (a[i].data &&
		    !((i == FRA_SPORT_MASK_ || i == FRA_DPORT_MASK_) && whole_port(&a[i])))
			return "a kind of match that husk does not know";
	return NULL;
}

static bool parse_range(const struct attr *a, struct net_range *r)
{
	struct fib_rule_port_range p = {0};

	if (!attr_struct(a, &p, sizeof(p)))
		return false;
	*r = (struct net_range){p.start, p.end};
	return p.start <= p.end;
}

static bool parse_name(const struct attr *a, char name[IFNAMSIZ])
{
	return !a->data || (attr_string(a, name, IFNAMSIZ) && net_name_valid(name));
}

static bool parse_matches(const struct fib_rule_hdr *h, const struct attr *a, struct net_rule *r)
{
	uint32_t suppress = UINT32_MAX;
	struct fib_rule_uid_range uid = {0};

	if (!attr_prefix(&a[FRA_SRC], h->family, h->src_len, &r->src) ||
	    !attr_prefix(&a[FRA_DST], h->family, h->dst_len, &r->dst) ||
	    !parse_name(&a[FRA_IIFNAME], r->iif) || !parse_name(&a[FRA_OIFNAME], r->oif) ||
	    !attr_u32(&a[FRA_FWMARK], &r->mark) || !attr_u32(&a[FRA_FWMASK], &r->mask) ||
	    !attr_u8(&a[FRA_IP_PROTO], &r->ip_proto) ||
	    !parse_range(&a[FRA_SPORT_RANGE], &r->sport) ||
	    !parse_range(&a[FRA_DPORT_RANGE], &r->dport) ||
	    !attr_u32(&a[FRA_SUPPRESS_PREFIXLEN], &suppress) ||
	    !attr_struct(&a[FRA_UID_RANGE], &uid, sizeof(uid)))
		return false;
	r->suppress_prefix = suppress <= 128 ? (int32_t)suppress : -1;
	r->has_uid = a[FRA_UID_RANGE].data != NULL;
	r->uid = (struct net_range){uid.start, uid.end};
	return uid.start <= uid.end;
}

/* The rules that a namespace begins with: all packets look at the tables local, main, default. */
static bool given(const struct net_rule *r)
{
	static const struct {
		uint32_t priority, table;
	} begin[] = {{0, RT_TABLE_LOCAL}, {32766, RT_TABLE_MAIN}, {32767, RT_TABLE_DEFAULT}};
	struct net_rule plain = {
		.family = r->family,
		.action = FR_ACT_TO_TBL,
		.protocol = r->protocol,
		.suppress_prefix = -1,
	};

	for (size_t i = 0; i < ARRAY_LEN(begin); i++) {
		plain.priority = begin[i].priority;
		plain.table = begin[i].table;
		if (net_rule_equal(r, &plain))
			return true;
	}
	return false;
}

static int parse_rule(const struct message *m, struct net_config *c, struct error *err)
{
	const struct fib_rule_hdr *h = m->header;
	struct attr a[FRA_SEEN];
	struct net_rule r =
				{
					.family = h->family,
					.action = h->action,
					.table = h->table,
					.tos = h->tos,
					.invert = h->flags & FIB_RULE_INVERT,
				},
			*new;
	const char *foreign;

	/* The kernel's multicast routing has rules, too. */
	if (net_ip_size(h->family) == 0)
		return 0;
	if (!attrs_find(m->attrs, m->len, a, ARRAY_LEN(a)) ||
	    !attr_u32(&a[FRA_PRIORITY], &r.priority) || !attr_u32(&a[FRA_TABLE], &r.table) ||
	    !attr_u32(&a[FRA_GOTO], &r.target) || !attr_u8(&a[FRA_PROTOCOL], &r.protocol) ||
	    !parse_matches(h, a, &r))
		return parse_broken("a rule", err);
	foreign = foreign_match(a);
	if (foreign)
		return error_kind(err, ERR_UNSUPPORTED, "rule %u: %s is not supported", r.priority,
				  foreign);
	if (given(&r))
		return 0;
	new = net_config_add_rule(c, err);
	if (!new)
		return -1;
	*new = r;
	return 1;
}

/* ---- neighbours */

static bool is_multicast(const struct net_ip *ip)
{
	return ip->family == AF_INET ? ip->bytes[0] >= 224 : ip->bytes[0] == 0xff;
}

/* Who needs no resolution is NUD_NOARP, which the kernel finds out by itself for groups, broadcast,
 * and all of a link that does without. What is left was put there. */
static bool put_there(const struct net_neighbour *n, const struct net_link *l)
{
	if (n->flags & NTF_PROXY || n->state & NUD_PERMANENT)
		return true;
	return n->state & NUD_NOARP && !l->noarp && l->kind != NET_KIND_LOOPBACK && n->has_mac &&
	       !(n->mac[0] & 1) && !is_multicast(&n->ip);
}

static int parse_neighbour(const struct message *m, struct net_config *c, struct error *err)
{
	const struct ndmsg *nd = m->header;
	struct attr a[NDA_LLADDR + 1];
	const struct attr *mac = &a[NDA_LLADDR];
	struct net_neighbour n =
				     {
					     .link = (unsigned)nd->ndm_ifindex,
					     .state = nd->ndm_state & (NUD_PERMANENT | NUD_NOARP),
					     .flags = nd->ndm_flags & (NTF_PROXY | NTF_ROUTER),
				     },
			     *new;
	const struct net_link *l;

	/* Learned ones are many, and come and go: they are not looked at any further. Bridges have
	 * "neighbours" of their own family. */
	if (net_ip_size(nd->ndm_family) == 0 || (n.state == 0 && !(n.flags & NTF_PROXY)))
		return 0;
	if (!attrs_find(m->attrs, m->len, a, ARRAY_LEN(a)) || !a[NDA_DST].data ||
	    !attr_ip(&a[NDA_DST], nd->ndm_family, &n.ip))
		return parse_broken("a neighbour", err);
	n.has_mac = mac->data && mac->len == sizeof(n.mac) && !(n.flags & NTF_PROXY);
	if (n.has_mac)
		memcpy(n.mac, mac->data, sizeof(n.mac));
	if (n.flags & NTF_PROXY)
		n.state = 0;
	l = known(c, n.link, "a neighbour", err);
	if (!l)
		return -1;
	if (!put_there(&n, l))
		return 0;
	new = net_config_add_neighbour(c, err);
	if (!new)
		return -1;
	*new = n;
	return 1;
}

/* ---- all of them */

int parse_message(const void *msg, size_t len, struct net_config *c,
		  const struct nexthop_objects *o, struct error *err)
{
	const struct nlmsghdr *h = msg;
	struct message m;

	if (len < NLMSG_HDRLEN)
		return parse_broken("a message that is too short", err);
	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
		if (!message_open(msg, len, sizeof(struct ifinfomsg), &m))
			return parse_broken("a link", err);
		return parse_link(&m, c, err);
	case RTM_NEWADDR:
		if (!message_open(msg, len, sizeof(struct ifaddrmsg), &m))
			return parse_broken("an address", err);
		return parse_address(&m, c, err);
	case RTM_NEWROUTE:
		if (!message_open(msg, len, sizeof(struct rtmsg), &m))
			return parse_broken("a route", err);
		return parse_route(&m, c, o, err);
	case RTM_NEWRULE:
		if (!message_open(msg, len, sizeof(struct fib_rule_hdr), &m))
			return parse_broken("a rule", err);
		return parse_rule(&m, c, err);
	case RTM_NEWNEIGH:
		if (!message_open(msg, len, sizeof(struct ndmsg), &m))
			return parse_broken("a neighbour", err);
		return parse_neighbour(&m, c, err);
	default:
		return 0;
	}
}

int netns_parse(const void *msg, size_t len, struct net_config *c, struct error *err)
{
	return parse_message(msg, len, c, NULL, err);
}
