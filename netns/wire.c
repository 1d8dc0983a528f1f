/*
 * wire.c - a link and its TAP are joined by traffic control: ingress qdiscs, u32 filters, mirred.
 *
 * Theory of operation. A frame that comes in at a link passes its ingress qdisc before the
 * namespace's stack has seen it. Filters hang there in the order of their priorities; each is for
 * one protocol. They use what every kernel with traffic control has: u32 (which compares words of
 *the packet, counted from its network header) and mirred (which sends it, or a copy, out of another
 * link); nothing of flower, matchall or gact. A filter of u32 that ends the search and has no
 *action lets the frame go on to the stack, and so does mirred with TC_ACT_OK after a copy.
 *
 *	the link	ARP				a copy to the TAP, and on
 *			IPv6, neighbour and router	a copy to the TAP, and on
 *			 advertisements, DHCP's answers
 *			TCP, UDP to NET_PORTS_*, and	on
 *			 ICMP errors about them
 *			tagged, if the link has VLANs	on: they are links of their own
 *			 in this namespace
 *			all				to the TAP
 *	the TAP		all				to the link
 *
 * A later fragment has no ports, and is the guest's. The kernel takes a VLAN tag out of the frame
 * before its ingress, and says that the protocol is 802.1Q: the filters for IP do not see such
 * frames.
 *
 * What was there before has to be known at undo, by whoever comes then: everything that made the
 * wiring may have died. So it is kept where the wiring is. Behind the filter that takes everything
 * hangs another one, the note, which no frame can reach or match; its selector holds words that
 * nobody compares. It lives as long as the wiring does, and tells ours from others' besides. The
 * TAP has a copy for the case that the link is gone.
 *
 * Somebody else's ingress (or clsact) qdisc is used as it is, and their filters of lower priorities
 * come first.
 */
#include "netns/wiring.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/attr.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/tc_act/tc_mirred.h>
#include <linux/pkt_sched.h>
#include <string.h>

#define PARENT TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS) /* of ingress and of clsact */

/* Behind what people number by hand, before what the kernel numbers by itself (from 49152 down). */
enum {
	PRIO_ARP = 18517,
	PRIO_IPV6,
	PRIO_IPV4,
	PRIO_VLAN,
	PRIO_SVLAN,
	PRIO_ALL,
};

#define NODE_ALL 1
#define NODE_NOTE 0xfff

#define PORTS_MASK 0xfc00u
_Static_assert((NET_PORTS_FIRST & ~PORTS_MASK) == 0 &&
		       NET_PORTS_LAST == (NET_PORTS_FIRST | (~PORTS_MASK & 0xffff)),
	       "one comparison does for the ports");

#define RANGE_FILE "ipv4/ip_local_port_range"
#define RANGE_DEFAULT ((struct range){32768, 60999}) /* of a new namespace */

struct range {
	uint16_t first, last;
};

#define NOTE_MAGIC 0x6875736bu /* "husk" */
#define NOTE_QDISC 1u	       /* the ingress qdisc is ours */
#define NOTE_ALLMULTI 2u       /* so is the link's flag */

struct note {
	struct range ports; /* before us */
	uint32_t flags;
};

/* ---- filters */

struct key {
	uint32_t value, mask;
	int at;
};

enum act { PASS, COPY, REDIRECT };

struct filter {
	uint16_t prio, protocol;
	uint16_t node;
	enum act act;
	unsigned n_keys;
	struct key keys[7];
};

/* Keys are compared in their order, so what tells most comes first: nearly every frame is known to
 * be none of these by one word behind the IP header. */

/* Of IPv4 without options that is not a later fragment: the protocol. */
#define IPV4(protocol)                               \
	{0x45000000, 0xff000000, 0}, {0, 0x1fff, 4}, \
	{                                            \
		(protocol) << 16, 0xff0000, 8        \
	}
/* Of IPv6 without extension headers. */
#define IPV6(next)                     \
	{                              \
		(next) << 8, 0xff00, 4 \
	}
#define TO_PORTS(at)                            \
	{                                       \
		NET_PORTS_FIRST, PORTS_MASK, at \
	}
#define FROM_PORTS(at)                                                           \
	{                                                                        \
		(uint32_t) NET_PORTS_FIRST << 16, (uint32_t)PORTS_MASK << 16, at \
	}
#define PORTS(from, to, at)                            \
	{                                              \
		(uint32_t)(from) << 16 | (to), ~0u, at \
	}
#define ICMP(type, mask, at)                                       \
	{                                                          \
		(uint32_t)(type) << 24, (uint32_t)(mask) << 24, at \
	}
/* What an ICMP error is about: the IP header is there from `at` on. */
#define ABOUT4(protocol, at)                         \
	{0x45000000, 0xff000000, at},                \
	{                                            \
		(protocol) << 16, 0xff0000, (at) + 8 \
	}
#define ABOUT6(next, at)                      \
	{                                     \
		(next) << 8, 0xff00, (at) + 4 \
	}

/* clang-format off */
static const struct filter to_stack[] = {
	{PRIO_ARP, ETH_P_ARP, 1, COPY, 1, {{0, 0, 0}}},

	{PRIO_IPV6, ETH_P_IPV6, 1, PASS, 2, {TO_PORTS(40), IPV6(IPPROTO_TCP)}},
	{PRIO_IPV6, ETH_P_IPV6, 2, PASS, 2, {TO_PORTS(40), IPV6(IPPROTO_UDP)}},
	/* Neighbour and router advertisements; DHCP. */
	{PRIO_IPV6, ETH_P_IPV6, 3, COPY, 2, {ICMP(136, 0xff, 40), IPV6(IPPROTO_ICMPV6)}},
	{PRIO_IPV6, ETH_P_IPV6, 4, COPY, 2, {ICMP(134, 0xff, 40), IPV6(IPPROTO_ICMPV6)}},
	{PRIO_IPV6, ETH_P_IPV6, 5, COPY, 2, {PORTS(547, 546, 40), IPV6(IPPROTO_UDP)}},
	/* Errors: types 1 to 3. */
	{PRIO_IPV6, ETH_P_IPV6, 6, PASS, 4,
	 {ICMP(0, 0xfc, 40), IPV6(IPPROTO_ICMPV6), ABOUT6(IPPROTO_TCP, 48), FROM_PORTS(88)}},
	{PRIO_IPV6, ETH_P_IPV6, 7, PASS, 4,
	 {ICMP(0, 0xfc, 40), IPV6(IPPROTO_ICMPV6), ABOUT6(IPPROTO_UDP, 48), FROM_PORTS(88)}},

	{PRIO_IPV4, ETH_P_IP, 1, PASS, 4, {TO_PORTS(20), IPV4(IPPROTO_TCP)}},
	{PRIO_IPV4, ETH_P_IP, 2, PASS, 4, {TO_PORTS(20), IPV4(IPPROTO_UDP)}},
	{PRIO_IPV4, ETH_P_IP, 3, COPY, 4, {PORTS(67, 68, 20), IPV4(IPPROTO_UDP)}},
	/* Destination unreachable. */
	{PRIO_IPV4, ETH_P_IP, 4, PASS, 7,
	 {ICMP(3, 0xff, 20), IPV4(IPPROTO_ICMP), ABOUT4(IPPROTO_TCP, 28), FROM_PORTS(48)}},
	{PRIO_IPV4, ETH_P_IP, 5, PASS, 7,
	 {ICMP(3, 0xff, 20), IPV4(IPPROTO_ICMP), ABOUT4(IPPROTO_UDP, 28), FROM_PORTS(48)}},
};
/* clang-format on */

static const struct filter tagged[] = {
	{PRIO_VLAN, ETH_P_8021Q, 1, PASS, 1, {{0, 0, 0}}},
	{PRIO_SVLAN, ETH_P_8021AD, 1, PASS, 1, {{0, 0, 0}}},
};

static const struct filter all = {PRIO_ALL, ETH_P_ALL, NODE_ALL, REDIRECT, 1, {{0, 0, 0}}};

static uint32_t info(uint16_t prio, uint16_t protocol)
{
	return TC_H_MAKE((uint32_t)prio << 16, htons(protocol));
}

static bool prio_is_ours(uint16_t prio)
{
	return prio >= PRIO_ARP && prio <= PRIO_ALL;
}

static struct nlmsghdr *tc_request(struct rtnl *r, uint16_t type, uint16_t flags, unsigned index,
				   struct tcmsg **tc)
{
	struct nlmsghdr *m = rtnl_request(r, type, flags);

	*tc = rtnl_header(m, sizeof(**tc));
	(*tc)->tcm_ifindex = (int)index;
	return m;
}

static void put_selector(struct nlmsghdr *m, const struct key *keys, unsigned n)
{
	union {
		struct tc_u32_sel sel;
		uint8_t room[sizeof(struct tc_u32_sel) + 8 * sizeof(struct tc_u32_key)];
	} u = {.sel = {.flags = TC_U32_TERMINAL, .nkeys = (uint8_t)n}};

	for (unsigned i = 0; i < n; i++) {
		u.sel.keys[i].val = htonl(keys[i].value);
		u.sel.keys[i].mask = htonl(keys[i].mask);
		u.sel.keys[i].off = keys[i].at;
	}
	rtnl_put(m, TCA_U32_SEL, &u, sizeof(u.sel) + n * sizeof(u.sel.keys[0]));
}

static void put_mirred(struct nlmsghdr *m, enum act act, unsigned to)
{
	const struct tc_mirred p = {
		.action = act == COPY ? TC_ACT_OK : TC_ACT_STOLEN,
		.eaction = act == COPY ? TCA_EGRESS_MIRROR : TCA_EGRESS_REDIR,
		.ifindex = to,
	};
	struct nlattr *acts = rtnl_nest(m, TCA_U32_ACT), *first = rtnl_nest(m, 1), *options;

	rtnl_put_str(m, TCA_ACT_KIND, "mirred");
	options = rtnl_nest(m, TCA_ACT_OPTIONS);
	rtnl_put(m, TCA_MIRRED_PARMS, &p, sizeof(p));
	rtnl_nest_end(m, options);
	rtnl_nest_end(m, first);
	rtnl_nest_end(m, acts);
}

/* Whether the kernel says that it has not got what was asked for: ENODEV would be the link. */
static bool is_lack(const struct error *e)
{
	return e->errnum == ENOENT || e->errnum == EOPNOTSUPP;
}

static int add_filter(struct rtnl *r, unsigned on, unsigned to, const struct filter *f,
		      const char **lacks, struct error *err)
{
	struct error e = ERROR_INIT;
	struct tcmsg *tc;
	struct nlmsghdr *m = tc_request(r, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, on, &tc);
	struct nlattr *options;

	tc->tcm_parent = PARENT;
	tc->tcm_info = info(f->prio, f->protocol);
	tc->tcm_handle = f->node;
	rtnl_put_str(m, TCA_KIND, "u32");
	options = rtnl_nest(m, TCA_OPTIONS);
	put_selector(m, f->keys, f->n_keys);
	rtnl_put_u32(m, TCA_U32_FLAGS, TCA_CLS_FLAGS_SKIP_HW);
	if (f->act != PASS)
		put_mirred(m, f->act, to);
	rtnl_nest_end(m, options);
	if (wiring_talk(r, m, &e) == 0)
		return 0;
	if (is_lack(&e))
		*lacks = f->act == PASS ? "u32 filter (CONFIG_NET_CLS_U32)"
					: "mirred action (CONFIG_NET_ACT_MIRRED)";
	if (err)
		*err = e;
	return error_wrap(err, "filter of priority %u", f->prio);
}

static int add_filters(struct rtnl *r, unsigned on, unsigned to, const struct filter *f, size_t n,
		       const char **lacks, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (add_filter(r, on, to, &f[i], lacks, err) < 0)
			return -1;
	return 0;
}

/* All of one priority. */
static int remove_filters(struct rtnl *r, unsigned on, uint16_t prio, uint16_t protocol,
			  struct error *err)
{
	struct error e = ERROR_INIT;
	struct tcmsg *tc;
	struct nlmsghdr *m = tc_request(r, RTM_DELTFILTER, 0, on, &tc);

	tc->tcm_parent = PARENT;
	tc->tcm_info = info(prio, protocol);
	if (wiring_talk(r, m, &e) == 0 || e.errnum == ENOENT || e.errnum == ENODEV)
		return 0;
	if (err)
		*err = e;
	return error_wrap(err, "remove filter of priority %u", prio);
}

/* The note is last: what it says is true until then. */
static int remove_all_filters(struct rtnl *r, unsigned on, struct error *err)
{
	int result = 0;

	for (size_t i = 0; i < ARRAY_LEN(to_stack); i++)
		if (i == 0 || to_stack[i].prio != to_stack[i - 1].prio)
			result |=
				remove_filters(r, on, to_stack[i].prio, to_stack[i].protocol, err);
	for (size_t i = 0; i < ARRAY_LEN(tagged); i++)
		result |= remove_filters(r, on, tagged[i].prio, tagged[i].protocol, err);
	return result < 0 ? -1 : remove_filters(r, on, all.prio, all.protocol, err);
}

/* ---- qdiscs */

/* 1: it is ours now; 0: there was one. */
static int add_ingress(struct rtnl *r, unsigned on, const char **lacks, struct error *err)
{
	struct error e = ERROR_INIT;
	struct tcmsg *tc;
	struct nlmsghdr *m = tc_request(r, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, on, &tc);

	tc->tcm_parent = TC_H_INGRESS;
	tc->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	rtnl_put_str(m, TCA_KIND, "ingress");
	if (wiring_talk(r, m, &e) == 0)
		return 1;
	if (e.errnum == EEXIST)
		return 0;
	if (is_lack(&e))
		*lacks = "ingress qdisc (CONFIG_NET_SCH_INGRESS)";
	if (err)
		*err = e;
	return error_wrap(err, "ingress qdisc");
}

static int remove_ingress(struct rtnl *r, unsigned on, struct error *err)
{
	struct error e = ERROR_INIT;
	struct tcmsg *tc;
	struct nlmsghdr *m = tc_request(r, RTM_DELQDISC, 0, on, &tc);

	tc->tcm_parent = TC_H_INGRESS;
	tc->tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
	/* EINVAL, ENOENT: there is none. */
	if (wiring_talk(r, m, &e) == 0 || e.errnum == ENOENT || e.errnum == EINVAL ||
	    e.errnum == ENODEV)
		return 0;
	if (err)
		*err = e;
	return error_wrap(err, "remove ingress qdisc");
}

/* ---- notes */

static int add_note(struct rtnl *r, unsigned on, const struct note *n, const char **lacks,
		    struct error *err)
{
	struct filter f = {PRIO_ALL, ETH_P_ALL, NODE_NOTE, PASS, 5, {{0, 0, 0}}};

	/* The first bit cannot be both. */
	f.keys[0] = (struct key){1u << 31, 1u << 31, 0};
	f.keys[1] = (struct key){0, 1u << 31, 0};
	f.keys[2] = (struct key){NOTE_MAGIC, 0, 0};
	f.keys[3] = (struct key){(uint32_t)n->ports.first << 16 | n->ports.last, 0, 0};
	f.keys[4] = (struct key){n->flags, 0, 0};
	return add_filter(r, on, 0, &f, lacks, err);
}

/* Whether this RTM_NEWTFILTER is a note. */
static bool is_note(const struct nlmsghdr *m, struct note *n)
{
	struct attr a[TCA_OPTIONS + 1], o[TCA_U32_SEL + 1];
	uint8_t raw[sizeof(struct tc_u32_sel) + 5 * sizeof(struct tc_u32_key)];
	struct tc_u32_key keys[5];
	const struct tcmsg *tc;
	struct message msg;

	if (!message_open(m, m->nlmsg_len, sizeof(*tc), &msg))
		return false;
	tc = msg.header;
	if (TC_H_MAJ(tc->tcm_info) >> 16 != PRIO_ALL || (tc->tcm_handle & 0xfff) != NODE_NOTE ||
	    !attrs_find(msg.attrs, msg.len, a, ARRAY_LEN(a)) ||
	    !attrs_nested(&a[TCA_OPTIONS], o, ARRAY_LEN(o)) || !o[TCA_U32_SEL].data ||
	    !attr_struct(&o[TCA_U32_SEL], raw, sizeof(raw)))
		return false;
	memcpy(keys, raw + sizeof(struct tc_u32_sel), sizeof(keys));
	if (ntohl(keys[2].val) != NOTE_MAGIC)
		return false;
	n->ports.first = (uint16_t)(ntohl(keys[3].val) >> 16);
	n->ports.last = (uint16_t)ntohl(keys[3].val);
	n->flags = ntohl(keys[4].val);
	return true;
}

/* A link with an ingress (or clsact) qdisc. */
struct hook {
	unsigned index;
	bool noted, foreign; /* a note of ours; filters that are not ours */
	bool tagged;	     /* tagged frames go on */
	struct note note;
};

struct hooks {
	struct hook *v;
	size_t n;
};

static void hooks_free(struct hooks *h)
{
	free(h->v);
}

static int on_qdisc(const struct nlmsghdr *m, void *arg, struct error *err)
{
	const struct tcmsg *tc = NLMSG_DATA(m);
	struct hooks *h = arg;
	struct hook *v;

	if (m->nlmsg_type != RTM_NEWQDISC || m->nlmsg_len < NLMSG_LENGTH(sizeof(*tc)) ||
	    tc->tcm_parent != TC_H_INGRESS)
		return 0;
	v = realloc(h->v, (h->n + 1) * sizeof(*v));
	if (!v)
		return error_set(err, "out of memory");
	h->v = v;
	v[h->n++] = (struct hook){.index = (unsigned)tc->tcm_ifindex};
	return 0;
}

static int on_filter(const struct nlmsghdr *m, void *arg, struct error *err)
{
	const struct tcmsg *tc = NLMSG_DATA(m);
	struct hook *h = arg;

	(void)err;
	if (m->nlmsg_type != RTM_NEWTFILTER || m->nlmsg_len < NLMSG_LENGTH(sizeof(*tc)))
		return 0;
	if (is_note(m, &h->note))
		h->noted = true;
	else if (TC_H_MAJ(tc->tcm_info) >> 16 == PRIO_VLAN)
		h->tagged = true;
	else if (!prio_is_ours((uint16_t)(TC_H_MAJ(tc->tcm_info) >> 16)))
		h->foreign = true;
	return 0;
}

static int read_hook(struct rtnl *r, struct hook *h, struct error *err)
{
	struct error e = ERROR_INIT;
	struct tcmsg *tc;
	struct nlmsghdr *m = tc_request(r, RTM_GETTFILTER, 0, h->index, &tc);

	tc->tcm_parent = PARENT;
	if (rtnl_dump(r, m, on_filter, h, &e) == 0)
		return 0;
	/* The link or its qdisc went meanwhile. */
	if (e.errnum == ENODEV || e.errnum == EINVAL || e.errnum == ENOENT)
		return 0;
	if (err)
		*err = e;
	return error_wrap(err, "list filters");
}

static int read_hooks(struct rtnl *r, struct hooks *h, struct error *err)
{
	struct error e = ERROR_INIT;
	struct tcmsg *tc;
	struct nlmsghdr *m = tc_request(r, RTM_GETQDISC, 0, 0, &tc);

	if (rtnl_dump(r, m, on_qdisc, h, &e) < 0) {
		/* A kernel without traffic control. */
		if (e.errnum == EOPNOTSUPP)
			return 0;
		if (err)
			*err = e;
		return error_wrap(err, "list qdiscs");
	}
	for (size_t i = 0; i < h->n; i++)
		if (read_hook(r, &h->v[i], err) < 0)
			return -1;
	return 0;
}

static const struct hook *find_hook(const struct hooks *h, unsigned index)
{
	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].index == index)
			return &h->v[i];
	return NULL;
}

/* ---- ports */

static int read_range(struct range *range, struct error *err)
{
	cleanup_free char *text = NULL;
	unsigned first, last;

	if (file_read(AT_FDCWD, "/proc/sys/net/" RANGE_FILE, 256, &text, NULL, err) < 0)
		return -1;
	if (sscanf(text, "%u %u", &first, &last) != 2 || first > 65535 || last > 65535)
		return error_set(err, "/proc/sys/net/" RANGE_FILE ": not two ports");
	*range = (struct range){(uint16_t)first, (uint16_t)last};
	return 0;
}

static int write_range(struct range range, struct error *err)
{
	char text[32];

	snprintf(text, sizeof(text), "%u %u", range.first, range.last);
	return wiring_sysctl(text, err, RANGE_FILE);
}

static bool range_is_ours(struct range range)
{
	return range.first == NET_PORTS_FIRST && range.last == NET_PORTS_LAST;
}

/* What the range was before the first of us. */
static int range_before(const struct hooks *h, struct range *range, struct error *err)
{
	if (read_range(range, err) < 0)
		return -1;
	if (!range_is_ours(*range))
		return 0;
	*range = RANGE_DEFAULT;
	for (size_t i = 0; i < h->n; i++)
		if (h->v[i].noted)
			*range = h->v[i].note.ports;
	return 0;
}

/* When the last link is unwired. */
static int restore_range(const struct hooks *h, struct error *err)
{
	struct range now, before;

	if (read_range(&now, err) < 0)
		return -1;
	if (!range_is_ours(now))
		return 0;
	if (range_before(h, &before, err) < 0)
		return -1;
	return write_range(before, err);
}

/* ---- to and fro */

/* macvlan and ipvlan drop groups that the namespace has not joined. */
static bool wants_allmulti(const struct wlink *l)
{
	return (strcmp(l->kind, "macvlan") == 0 || strcmp(l->kind, "ipvlan") == 0) &&
	       !(l->flags & IFF_ALLMULTI);
}

static int set_allmulti(struct rtnl *r, unsigned index, bool on, struct error *err)
{
	struct nlmsghdr *m = wiring_link(r, index, on ? IFF_ALLMULTI : 0, IFF_ALLMULTI);

	if (wiring_talk(r, m, err) < 0)
		return error_wrap(err, "all multicast %s", on ? "on" : "off");
	return 0;
}

static bool has_vlans(const struct wlinks *links, unsigned index)
{
	for (size_t i = 0; i < links->n; i++)
		if (links->v[i].lower == index && !links->v[i].lower_elsewhere &&
		    strcmp(links->v[i].kind, "vlan") == 0)
			return true;
	return false;
}

/* A VLAN of a link that was wired before it came. */
static int let_tagged_go(const struct wiring *w, const struct hooks *h, const char **lacks,
			 struct error *err)
{
	const struct hook *lower = find_hook(h, w->link->lower);

	if (strcmp(w->link->kind, "vlan") != 0 || w->link->lower_elsewhere || !lower ||
	    !lower->noted || lower->tagged)
		return 0;
	return add_filters(w->r, lower->index, 0, tagged, ARRAY_LEN(tagged), lacks, err);
}

static int wire_link(const struct wiring *w, struct note *note, const char **lacks,
		     struct error *err)
{
	unsigned on = w->link->index, to = w->tap->index;
	int ours = add_ingress(w->r, on, lacks, err);

	if (ours < 0)
		return -1;
	note->flags = ours ? NOTE_QDISC : 0;
	if (wants_allmulti(w->link))
		note->flags |= NOTE_ALLMULTI;
	if (add_note(w->r, on, note, lacks, err) < 0) {
		if (ours)
			remove_ingress(w->r, on, NULL);
		return -1;
	}
	if (note->flags & NOTE_ALLMULTI && set_allmulti(w->r, on, true, err) < 0)
		return -1;
	if (add_filters(w->r, on, to, to_stack, ARRAY_LEN(to_stack), lacks, err) < 0)
		return -1;
	if (has_vlans(w->all, on) &&
	    add_filters(w->r, on, to, tagged, ARRAY_LEN(tagged), lacks, err) < 0)
		return -1;
	return add_filters(w->r, on, to, &all, 1, lacks, err);
}

static int wire_tap(const struct wiring *w, const struct note *note, const char **lacks,
		    struct error *err)
{
	const struct note copy = {.ports = note->ports};
	unsigned on = w->tap->index;

	if (add_ingress(w->r, on, lacks, err) < 0 || add_note(w->r, on, &copy, lacks, err) < 0 ||
	    add_filters(w->r, on, w->link->index, &all, 1, lacks, err) < 0)
		return error_wrap(err, "%s", w->tap->name);
	return 0;
}

int wire_tc(const struct wiring *w, const char **lacks, struct error *err)
{
	__attribute__((cleanup(hooks_free))) struct hooks h = {0};
	struct note note = {0};

	*lacks = NULL;
	if (read_hooks(w->r, &h, err) < 0 || range_before(&h, &note.ports, err) < 0)
		return -1;
	/* The link's last filter is the last of all: from then on frames are the guest's. */
	if (wire_tap(w, &note, lacks, err) < 0 || let_tagged_go(w, &h, lacks, err) < 0 ||
	    wire_link(w, &note, lacks, err) < 0)
		return -1;
	return write_range((struct range){NET_PORTS_FIRST, NET_PORTS_LAST}, err);
}

static int unwire_hook(struct rtnl *r, const struct hook *h, struct error *err)
{
	int result = 0;

	if (h->note.flags & NOTE_ALLMULTI)
		result = set_allmulti(r, h->index, false, err);
	if (h->note.flags & NOTE_QDISC && !h->foreign)
		return remove_ingress(r, h->index, err) < 0 ? -1 : result;
	return remove_all_filters(r, h->index, err) < 0 ? -1 : result;
}

/* Whether any link but this one and its TAP is wired. */
static bool others_wired(const struct hooks *h, const struct wlinks *links, unsigned index)
{
	for (size_t i = 0; i < h->n; i++) {
		const struct wlink *l = wlinks_find(links, h->v[i].index);

		if (h->v[i].noted && h->v[i].index != index && l && !wlink_is_tap(l))
			return true;
	}
	return false;
}

static int unwire_index(struct rtnl *r, const struct hooks *h, const struct wlinks *links,
			unsigned index, struct error *err)
{
	const struct wlink *tap = wlinks_tap(links, index);
	const struct hook *own = find_hook(h, index);
	int result = 0;

	/* Before the notes go. */
	if (!others_wired(h, links, index))
		result = restore_range(h, err);
	if (own && own->noted && unwire_hook(r, own, err) < 0)
		result = -1;
	if (tap && find_hook(h, tap->index) && remove_ingress(r, tap->index, err) < 0)
		result = -1;
	return result;
}

int unwire_tc(struct rtnl *r, const struct wlinks *links, unsigned index, struct error *err)
{
	__attribute__((cleanup(hooks_free))) struct hooks h = {0};

	if (read_hooks(r, &h, err) < 0)
		return -1;
	return unwire_index(r, &h, links, index, err);
}

int unwire_tc_dead(struct rtnl *r, const struct wlinks *links, struct error *err)
{
	__attribute__((cleanup(hooks_free))) struct hooks h = {0};
	int result = 0;

	if (read_hooks(r, &h, err) < 0)
		return -1;
	for (size_t i = 0; i < h.n; i++) {
		const struct wlink *l = wlinks_find(links, h.v[i].index);

		if (!h.v[i].noted || !l || wlink_is_tap(l) || wlinks_tap(links, l->index))
			continue;
		if (unwire_index(r, &h, links, l->index, err) < 0)
			result = error_wrap(err, "link %s", l->name);
		h.v[i].noted = false;
	}
	/* A wired link that is gone took its note along. */
	if (!others_wired(&h, links, 0) && restore_range(&h, err) < 0)
		result = -1;
	return result;
}
