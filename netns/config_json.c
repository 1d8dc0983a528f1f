/*
 * config_json.c - a configuration as JSON.
 *
 *	{"links":[{"index":2,"name":"eth0","kind":"veth","mac":"02:42:ac:11:00:02","up":true,
 *		"addresses":[{"ip":"172.17.0.2/16","broadcast":"172.17.255.255"}]}],
 *	 "routes":[{"dst":"0.0.0.0/0","gateway":"172.17.0.1","link":2},
 *		{"dst":"::/0","nexthops":[{"gateway":"fe80::1","link":2},{"gateway":"fe80::2","link":3}]}],
 *	 "rules":[{"family":2,"priority":100,"mark":7,"mask":4294967295,"table":100}],
 *	 "neighbours":[{"link":2,"ip":"172.17.0.9","mac":"02:00:00:00:00:09"}]}
 *
 * Members are called as those of the structs are. One that is left out has the value that is usual:
 * zero, nothing, false; MTU 1500, ARPHRD_ETHER; lifetimes without end, addresses that are
 *permanent; table main, unicast, protocol boot; rules that look into a table; neighbours that are
 *permanent. A route by one next hop has that one's members for its own.
 *
 * Reading goes on after the first error, which is the one that is told: no caller of a getter has
 *to look.
 */
#include "netns/config_json.h"
#include "lib/cleanup.h"

#include <arpa/inet.h>
#include <limits.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <string.h>

#define USUAL_MTU 1500

/* Words of kinds, and the kernel's words. */
static const struct {
	const char *word, *kernel;
} kinds[] = {
	[NET_KIND_OTHER] = {"other", ""},
	[NET_KIND_PHYSICAL] = {"physical", ""},
	[NET_KIND_LOOPBACK] = {"loopback", ""},
	[NET_KIND_VETH] = {"veth", "veth"},
	[NET_KIND_MACVLAN] = {"macvlan", "macvlan"},
	[NET_KIND_IPVLAN] = {"ipvlan", "ipvlan"},
	[NET_KIND_BRIDGE] = {"bridge", "bridge"},
	[NET_KIND_TUN] = {"tun", "tun"},
	[NET_KIND_TAP] = {"tap", "tun"},
	[NET_KIND_DUMMY] = {"dummy", "dummy"},
	[NET_KIND_VLAN] = {"vlan", "vlan"},
	[NET_KIND_VXLAN] = {"vxlan", "vxlan"},
	[NET_KIND_WIREGUARD] = {"wireguard", "wireguard"},
};

/* ---- writing */

static void put_num(struct jsonw *w, const char *key, uint64_t v, uint64_t usual)
{
	if (v != usual)
		jsonw_kuint(w, key, v);
}

static void put_true(struct jsonw *w, const char *key, bool v)
{
	if (v)
		jsonw_kbool(w, key, true);
}

static void put_text(struct jsonw *w, const char *key, const char *s)
{
	if (s[0])
		jsonw_kstr(w, key, s);
}

static void put_ip(struct jsonw *w, const char *key, const struct net_ip *ip)
{
	char text[NET_TEXT_MAX];

	if (ip->family != 0)
		jsonw_kstr(w, key, net_ip_text(ip, text));
}

static void put_prefix(struct jsonw *w, const char *key, const struct net_prefix *p)
{
	char text[NET_TEXT_MAX];

	if (p->ip.family != 0)
		jsonw_kstr(w, key, net_prefix_text(p, text));
}

static void put_mac(struct jsonw *w, const char *key, const uint8_t mac[6])
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	jsonw_kstr(w, key, text);
}

static void put_range(struct jsonw *w, const char *key, const struct net_range *r)
{
	jsonw_key(w, key);
	jsonw_arr(w);
	jsonw_uint(w, r->from);
	jsonw_uint(w, r->to);
	jsonw_end_arr(w);
}

static void write_address(struct jsonw *w, const struct net_address *a)
{
	jsonw_obj(w);
	put_prefix(w, "ip", &a->local);
	put_ip(w, "peer", &a->peer);
	put_ip(w, "broadcast", &a->broadcast);
	put_num(w, "scope", a->scope, 0);
	put_num(w, "flags", a->flags, IFA_F_PERMANENT);
	put_num(w, "valid_s", a->valid_s, UINT32_MAX);
	put_num(w, "preferred_s", a->preferred_s, UINT32_MAX);
	put_text(w, "label", a->label);
	jsonw_end_obj(w);
}

static void write_link(struct jsonw *w, const struct net_link *l)
{
	static const uint8_t no_mac[6];

	jsonw_obj(w);
	jsonw_kuint(w, "index", l->index);
	jsonw_kstr(w, "name", l->name);
	jsonw_kstr(w, "kind", kinds[l->kind].word);
	if (strcmp(l->kind_name, kinds[l->kind].kernel) != 0)
		jsonw_kstr(w, "kind_name", l->kind_name);
	put_text(w, "alias", l->alias);
	put_num(w, "master", l->master, 0);
	put_num(w, "type", l->type, ARPHRD_ETHER);
	if (memcmp(l->mac, no_mac, sizeof(no_mac)) != 0)
		put_mac(w, "mac", l->mac);
	put_num(w, "mtu", l->mtu, USUAL_MTU);
	put_true(w, "up", l->up);
	put_true(w, "carrier", l->carrier);
	put_true(w, "noarp", l->noarp);
	put_true(w, "allmulti", l->allmulti);
	put_true(w, "promisc", l->promisc);
	put_true(w, "no_multicast", l->no_multicast);
	put_num(w, "addr_gen", l->addr_gen, 0);
	put_true(w, "no_ipv6", l->no_ipv6);
	if (l->n_addresses > 0) {
		jsonw_key(w, "addresses");
		jsonw_arr(w);
		for (size_t i = 0; i < l->n_addresses; i++)
			write_address(w, &l->addresses[i]);
		jsonw_end_arr(w);
	}
	jsonw_end_obj(w);
}

/* The members of an object that is open. */
static void write_hop(struct jsonw *w, const struct net_nexthop *h)
{
	put_num(w, "link", h->link, 0);
	put_ip(w, "gateway", &h->gateway);
	put_num(w, "weight", h->weight, 0);
	put_true(w, "onlink", h->onlink);
}

static void write_hops(struct jsonw *w, const struct net_route *r)
{
	if (r->n_nexthops == 1 && (r->nexthops->link != 0 || r->nexthops->gateway.family != 0)) {
		write_hop(w, r->nexthops);
		return;
	}
	if (r->n_nexthops == 0)
		return;
	jsonw_key(w, "nexthops");
	jsonw_arr(w);
	for (size_t i = 0; i < r->n_nexthops; i++) {
		jsonw_obj(w);
		write_hop(w, &r->nexthops[i]);
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}

/* {"2":1400}: RTAX_MTU. */
static void write_metrics(struct jsonw *w, const struct net_route *r)
{
	bool any = false;

	for (unsigned i = 1; i <= RTAX_MAX; i++) {
		char key[12];

		if (r->metrics[i] == 0)
			continue;
		if (!any) {
			jsonw_key(w, "metrics");
			jsonw_obj(w);
		}
		any = true;
		snprintf(key, sizeof(key), "%u", i);
		jsonw_kuint(w, key, r->metrics[i]);
	}
	if (any)
		jsonw_end_obj(w);
}

static void write_route(struct jsonw *w, const struct net_route *r)
{
	jsonw_obj(w);
	/* This tells the route's family, too. */
	if (r->dst.ip.family != 0)
		put_prefix(w, "dst", &r->dst);
	else
		jsonw_kstr(w, "dst", r->family == AF_INET ? "0.0.0.0/0" : "::/0");
	put_prefix(w, "src", &r->src);
	put_num(w, "table", r->table, RT_TABLE_MAIN);
	put_num(w, "type", r->type, RTN_UNICAST);
	put_num(w, "scope", r->scope, RT_SCOPE_UNIVERSE);
	put_num(w, "protocol", r->protocol, RTPROT_BOOT);
	put_num(w, "tos", r->tos, 0);
	put_num(w, "priority", r->priority, 0);
	put_ip(w, "prefsrc", &r->prefsrc);
	write_metrics(w, r);
	put_num(w, "pref", r->pref, 0);
	write_hops(w, r);
	jsonw_end_obj(w);
}

static void write_rule(struct jsonw *w, const struct net_rule *r)
{
	jsonw_obj(w);
	jsonw_kuint(w, "family", r->family);
	put_num(w, "priority", r->priority, 0);
	put_num(w, "action", r->action, FR_ACT_TO_TBL);
	put_num(w, "table", r->table, 0);
	put_num(w, "target", r->target, 0);
	put_true(w, "invert", r->invert);
	put_prefix(w, "src", &r->src);
	put_prefix(w, "dst", &r->dst);
	put_text(w, "iif", r->iif);
	put_text(w, "oif", r->oif);
	put_num(w, "mark", r->mark, 0);
	put_num(w, "mask", r->mask, 0);
	put_num(w, "tos", r->tos, 0);
	put_num(w, "ip_proto", r->ip_proto, 0);
	put_num(w, "protocol", r->protocol, 0);
	if (r->sport.from || r->sport.to)
		put_range(w, "sport", &r->sport);
	if (r->dport.from || r->dport.to)
		put_range(w, "dport", &r->dport);
	if (r->has_uid)
		put_range(w, "uid", &r->uid);
	if (r->suppress_prefix >= 0)
		jsonw_kint(w, "suppress_prefix", r->suppress_prefix);
	jsonw_end_obj(w);
}

static void write_neighbour(struct jsonw *w, const struct net_neighbour *n)
{
	jsonw_obj(w);
	jsonw_kuint(w, "link", n->link);
	put_ip(w, "ip", &n->ip);
	if (n->has_mac)
		put_mac(w, "mac", n->mac);
	put_num(w, "state", n->state, NUD_PERMANENT);
	put_num(w, "flags", n->flags, 0);
	jsonw_end_obj(w);
}

void net_config_write(struct jsonw *w, const struct net_config *c)
{
	jsonw_key(w, "links");
	jsonw_arr(w);
	for (size_t i = 0; i < c->n_links; i++)
		write_link(w, &c->links[i]);
	jsonw_end_arr(w);
	jsonw_key(w, "routes");
	jsonw_arr(w);
	for (size_t i = 0; i < c->n_routes; i++)
		write_route(w, &c->routes[i]);
	jsonw_end_arr(w);
	jsonw_key(w, "rules");
	jsonw_arr(w);
	for (size_t i = 0; i < c->n_rules; i++)
		write_rule(w, &c->rules[i]);
	jsonw_end_arr(w);
	jsonw_key(w, "neighbours");
	jsonw_arr(w);
	for (size_t i = 0; i < c->n_neighbours; i++)
		write_neighbour(w, &c->neighbours[i]);
	jsonw_end_arr(w);
}

/* ---- reading */

/* An object that is read, and where it is ("routes[2]"). */
struct in {
	yajl_val v;
	char path[64];
	struct net_config *c;
	struct error *err;
	bool bad; /* err is filled: what comes later is of no interest */
};

static void bad(struct in *in, const char *key, const char *reason)
{
	if (!in->bad)
		error_kind(in->err, ERR_INVALID, "%s%s%s: %s", in->path, in->path[0] ? "." : "",
			   key, reason);
	in->bad = true;
}

/* Keeps a failure of a maker of config.h. */
static bool made(struct in *in, const void *p)
{
	struct error *err = in->err;

	if (!p && !in->bad) {
		in->bad = true;
		error_wrap(err, "%s", in->path);
	}
	return p != NULL;
}

static uint64_t get_num(struct in *in, const char *key, uint64_t max, uint64_t usual)
{
	yajl_val v = json_get(in->v, key);
	char reason[64];

	if (!v)
		return usual;
	if (YAJL_IS_INTEGER(v) && YAJL_GET_INTEGER(v) >= 0 && (uint64_t)YAJL_GET_INTEGER(v) <= max)
		return (uint64_t)YAJL_GET_INTEGER(v);
	snprintf(reason, sizeof(reason), "not a number from 0 to %llu", (unsigned long long)max);
	bad(in, key, reason);
	return usual;
}

static uint8_t get_u8(struct in *in, const char *key, uint8_t usual)
{
	return (uint8_t)get_num(in, key, UINT8_MAX, usual);
}

static uint32_t get_u32(struct in *in, const char *key, uint32_t usual)
{
	return (uint32_t)get_num(in, key, UINT32_MAX, usual);
}

static bool get_bool(struct in *in, const char *key)
{
	yajl_val v = json_get(in->v, key);

	if (v && !YAJL_IS_TRUE(v) && !YAJL_IS_FALSE(v))
		bad(in, key, "not true or false");
	return YAJL_IS_TRUE(v);
}

/* NULL when it is not there, or no text. */
static const char *get_text(struct in *in, const char *key)
{
	yajl_val v = json_get(in->v, key);

	if (v && !YAJL_IS_STRING(v))
		bad(in, key, "not a text");
	return YAJL_GET_STRING(v);
}

static void get_string(struct in *in, const char *key, char *s, size_t size)
{
	const char *text = get_text(in, key);

	if (!text)
		return;
	if (strlen(text) >= size)
		bad(in, key, "too long");
	else
		strcpy(s, text);
}

/* A link's name; none if it is not there. */
static void get_name(struct in *in, const char *key, char name[IFNAMSIZ])
{
	const char *text = get_text(in, key);

	if (!text)
		return;
	if (!net_name_valid(text))
		bad(in, key, "not an interface's name");
	else
		strcpy(name, text);
}

static bool ip_from_text(const char *text, struct net_ip *ip)
{
	ip->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(ip->family, text, ip->bytes) == 1;
}

static struct net_ip get_ip(struct in *in, const char *key)
{
	const char *text = get_text(in, key);
	struct net_ip ip = {0};

	if (!text || ip_from_text(text, &ip))
		return ip;
	bad(in, key, "not an IP address");
	return (struct net_ip){0};
}

static bool prefix_from_text(const char *text, struct net_prefix *p)
{
	const char *slash = strchr(text, '/');
	char ip[INET6_ADDRSTRLEN];
	unsigned long len;
	char *end;

	if (!slash || (size_t)(slash - text) >= sizeof(ip) || slash[1] < '0' || slash[1] > '9')
		return false;
	memcpy(ip, text, (size_t)(slash - text));
	ip[slash - text] = '\0';
	len = strtoul(slash + 1, &end, 10);
	if (*end || !ip_from_text(ip, &p->ip) || len > net_ip_size(p->ip.family) * 8)
		return false;
	p->len = (uint8_t)len;
	return true;
}

/* An address with the length of its prefix: of family 0 if it is not there. */
static struct net_prefix get_prefix(struct in *in, const char *key)
{
	const char *text = get_text(in, key);
	struct net_prefix p = {0};

	if (!text || prefix_from_text(text, &p))
		return p;
	bad(in, key, "not an IP address with the length of a prefix");
	return (struct net_prefix){0};
}

/* The same for what is matched: of no bits it is nothing, and those behind it are nothing. */
static struct net_prefix get_match(struct in *in, const char *key, uint8_t family)
{
	struct net_prefix p = get_prefix(in, key);

	if (p.ip.family != 0 && p.ip.family != family)
		bad(in, key, "of another family");
	if (p.len == 0)
		return (struct net_prefix){0};
	net_prefix_mask(&p);
	return p;
}

static bool get_mac(struct in *in, const char *key, uint8_t mac[6])
{
	const char *text = get_text(in, key);
	unsigned b[6];
	int n = 0;

	if (!text)
		return false;
	if (strspn(text, "0123456789abcdefABCDEF:") != 17 || text[17] ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &n) != 6 ||
	    n != 17) {
		bad(in, key, "not a MAC address");
		return false;
	}
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return true;
}

/* True if it is there. */
static bool get_range(struct in *in, const char *key, uint32_t max, struct net_range *r)
{
	yajl_val v = json_get(in->v, key), from, to;

	if (!v)
		return false;
	from = YAJL_IS_ARRAY(v) && v->u.array.len == 2 ? v->u.array.values[0] : NULL;
	to = from ? v->u.array.values[1] : NULL;
	if (!YAJL_IS_INTEGER(from) || !YAJL_IS_INTEGER(to) || YAJL_GET_INTEGER(from) < 0 ||
	    YAJL_GET_INTEGER(to) < YAJL_GET_INTEGER(from) || YAJL_GET_INTEGER(to) > max) {
		bad(in, key, "not a pair of numbers");
		return false;
	}
	*r = (struct net_range){(uint32_t)YAJL_GET_INTEGER(from), (uint32_t)YAJL_GET_INTEGER(to)};
	return true;
}

static void check_link(struct in *in, unsigned index)
{
	if (!net_config_link(in->c, index))
		bad(in, "link", "not the index of a link");
}

/* Calls `read` for each element of an array of objects that may be there. */
static int each(struct in *parent, const char *key, void (*read)(struct in *in, void *of), void *of)
{
	yajl_val v = json_get(parent->v, key);

	if (v && !YAJL_IS_ARRAY(v))
		bad(parent, key, "not an array");
	for (size_t i = 0; YAJL_IS_ARRAY(v) && i < v->u.array.len && !parent->bad; i++) {
		struct in in = {.v = v->u.array.values[i], .c = parent->c, .err = parent->err};

		snprintf(in.path, sizeof(in.path), "%.30s%s%s[%zu]", parent->path,
			 parent->path[0] ? "." : "", key, i);
		if (!YAJL_IS_OBJECT(in.v)) {
			error_kind(in.err, ERR_INVALID, "%s: not an object", in.path);
			in.bad = true;
		} else {
			read(&in, of);
		}
		parent->bad = in.bad;
	}
	return parent->bad ? -1 : 0;
}

static void read_address(struct in *in, void *of)
{
	struct net_address *a = net_link_add_address(of, in->err);
	uint8_t family;

	if (!made(in, a))
		return;
	a->local = get_prefix(in, "ip");
	a->peer = get_ip(in, "peer");
	a->broadcast = get_ip(in, "broadcast");
	a->scope = get_u8(in, "scope", 0);
	a->flags = get_u32(in, "flags", IFA_F_PERMANENT);
	a->valid_s = get_u32(in, "valid_s", UINT32_MAX);
	a->preferred_s = get_u32(in, "preferred_s", UINT32_MAX);
	get_string(in, "label", a->label, sizeof(a->label));
	family = a->local.ip.family;
	if (family == 0)
		bad(in, "ip", "missing");
	if (a->peer.family != 0 && a->peer.family != family)
		bad(in, "peer", "of another family");
	if (a->broadcast.family != 0 && (family != AF_INET || a->broadcast.family != AF_INET))
		bad(in, "broadcast", "not of an IPv4 address");
}

static void read_kind(struct in *in, struct net_link *l)
{
	const char *word = get_text(in, "kind");

	for (size_t i = 0; word && i < ARRAY_LEN(kinds); i++)
		if (strcmp(kinds[i].word, word) == 0) {
			l->kind = (enum net_kind)i;
			strcpy(l->kind_name, kinds[i].kernel);
			get_string(in, "kind_name", l->kind_name, sizeof(l->kind_name));
			return;
		}
	bad(in, "kind", "not a kind of link");
}

static void read_link(struct in *in, void *of)
{
	unsigned index = (unsigned)get_num(in, "index", INT_MAX, 0);
	struct net_link *l;

	(void)of;
	if (index == 0 || net_config_link(in->c, index))
		bad(in, "index", "missing, 0, or another link's");
	l = net_config_add_link(in->c, in->err);
	if (!made(in, l))
		return;
	l->index = index;
	get_name(in, "name", l->name);
	if (l->name[0] == '\0')
		bad(in, "name", "missing");
	read_kind(in, l);
	get_string(in, "alias", l->alias, sizeof(l->alias));
	l->master = (unsigned)get_num(in, "master", INT_MAX, 0);
	l->type = (uint16_t)get_num(in, "type", UINT16_MAX, ARPHRD_ETHER);
	get_mac(in, "mac", l->mac);
	l->mtu = get_u32(in, "mtu", USUAL_MTU);
	l->up = get_bool(in, "up");
	l->carrier = get_bool(in, "carrier");
	l->noarp = get_bool(in, "noarp");
	l->allmulti = get_bool(in, "allmulti");
	l->promisc = get_bool(in, "promisc");
	l->no_multicast = get_bool(in, "no_multicast");
	l->addr_gen = get_u8(in, "addr_gen", 0);
	l->no_ipv6 = get_bool(in, "no_ipv6");
	each(in, "addresses", read_address, l);
}

static void read_hop(struct in *in, void *of)
{
	struct net_route *r = of;
	struct net_nexthop *h = net_route_add_nexthop(r, in->err);

	if (!made(in, h))
		return;
	h->link = (unsigned)get_num(in, "link", INT_MAX, 0);
	h->gateway = get_ip(in, "gateway");
	h->weight = get_u8(in, "weight", 0);
	h->onlink = get_bool(in, "onlink");
	if (h->link != 0)
		check_link(in, h->link);
	/* IPv4 can go by a router's IPv6 address, not the other way about. */
	if (h->gateway.family == AF_INET && r->family != AF_INET)
		bad(in, "gateway", "of another family");
}

static void read_metrics(struct in *in, struct net_route *r)
{
	yajl_val v = json_get(in->v, "metrics");
	struct in metrics = *in;

	if (!v)
		return;
	if (!YAJL_IS_OBJECT(v)) {
		bad(in, "metrics", "not an object");
		return;
	}
	metrics.v = v;
	snprintf(metrics.path, sizeof(metrics.path), "%.50s.metrics", in->path);
	for (unsigned i = 1; i <= RTAX_MAX; i++) {
		char key[12];

		snprintf(key, sizeof(key), "%u", i);
		r->metrics[i] = get_u32(&metrics, key, 0);
	}
	in->bad = metrics.bad;
}

/* The destination tells the family. */
static void read_destination(struct in *in, struct net_route *r)
{
	r->dst = get_prefix(in, "dst");
	r->family = r->dst.ip.family;
	if (r->family == 0)
		bad(in, "dst", "missing");
	if (r->dst.len == 0)
		r->dst = (struct net_prefix){0};
	else
		net_prefix_mask(&r->dst);
}

static void read_route(struct in *in, void *of)
{
	struct net_route *r = net_config_add_route(in->c, in->err);

	(void)of;
	if (!made(in, r))
		return;
	read_destination(in, r);
	r->src = get_match(in, "src", r->family);
	r->table = get_u32(in, "table", RT_TABLE_MAIN);
	r->type = (uint8_t)get_num(in, "type", RTN_MAX, RTN_UNICAST);
	r->scope = get_u8(in, "scope", RT_SCOPE_UNIVERSE);
	r->protocol = get_u8(in, "protocol", RTPROT_BOOT);
	r->tos = get_u8(in, "tos", 0);
	r->priority = get_u32(in, "priority", 0);
	r->prefsrc = get_ip(in, "prefsrc");
	if (r->prefsrc.family != 0 && r->prefsrc.family != r->family)
		bad(in, "prefsrc", "of another family");
	r->pref = get_u8(in, "pref", 0);
	read_metrics(in, r);
	if (!json_get(in->v, "nexthops") && (json_get(in->v, "link") || json_get(in->v, "gateway")))
		read_hop(in, r);
	each(in, "nexthops", read_hop, r);
}

static void read_rule(struct in *in, void *of)
{
	struct net_rule *r = net_config_add_rule(in->c, in->err);

	(void)of;
	if (!made(in, r))
		return;
	r->family = get_u8(in, "family", 0);
	if (net_ip_size(r->family) == 0)
		bad(in, "family", "not 2 or 10");
	r->priority = get_u32(in, "priority", 0);
	r->action = get_u8(in, "action", FR_ACT_TO_TBL);
	r->table = get_u32(in, "table", 0);
	r->target = get_u32(in, "target", 0);
	r->invert = get_bool(in, "invert");
	r->src = get_match(in, "src", r->family);
	r->dst = get_match(in, "dst", r->family);
	get_name(in, "iif", r->iif);
	get_name(in, "oif", r->oif);
	r->mark = get_u32(in, "mark", 0);
	r->mask = get_u32(in, "mask", 0);
	r->tos = get_u8(in, "tos", 0);
	r->ip_proto = get_u8(in, "ip_proto", 0);
	r->protocol = get_u8(in, "protocol", 0);
	get_range(in, "sport", UINT16_MAX, &r->sport);
	get_range(in, "dport", UINT16_MAX, &r->dport);
	r->has_uid = get_range(in, "uid", UINT32_MAX, &r->uid);
	r->suppress_prefix = -1;
	if (json_get(in->v, "suppress_prefix"))
		r->suppress_prefix = (int32_t)get_num(in, "suppress_prefix", 128, 0);
}

static void read_neighbour(struct in *in, void *of)
{
	struct net_neighbour *n = net_config_add_neighbour(in->c, in->err);

	(void)of;
	if (!made(in, n))
		return;
	n->link = (unsigned)get_num(in, "link", INT_MAX, 0);
	check_link(in, n->link);
	n->ip = get_ip(in, "ip");
	if (n->ip.family == 0)
		bad(in, "ip", "missing");
	n->has_mac = get_mac(in, "mac", n->mac);
	n->state = (uint16_t)get_num(in, "state", UINT16_MAX, NUD_PERMANENT);
	n->flags = get_u8(in, "flags", 0);
}

int net_config_read(yajl_val v, struct net_config *c, struct error *err)
{
	struct in in = {.v = v, .c = c, .err = err};

	*c = (struct net_config){0};
	if (each(&in, "links", read_link, NULL) == 0 &&
	    each(&in, "routes", read_route, NULL) == 0 &&
	    each(&in, "rules", read_rule, NULL) == 0 &&
	    each(&in, "neighbours", read_neighbour, NULL) == 0)
		return 0;
	net_config_free(c);
	return -1;
}
