#include "netns/config.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <string.h>

/* Flags of an address that its maker decides. The kernel sets the others as time goes by, but that
 * another host has the address (IFA_F_DADFAILED) makes a difference. */
#define ADDRESS_FLAGS                                                                \
	(IFA_F_NODAD | IFA_F_OPTIMISTIC | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | \
	 IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN | IFA_F_DADFAILED)

void net_config_free(struct net_config *c)
{
	for (size_t i = 0; i < c->n_links; i++)
		free(c->links[i].addresses);
	for (size_t i = 0; i < c->n_routes; i++)
		free(c->routes[i].nexthops);
	free(c->links);
	free(c->routes);
	free(c->rules);
	free(c->neighbours);
	*c = (struct net_config){0};
}

/* ---- one more */

/* An array grows when its number of elements is a power of two. */
static void *add(void *array, size_t *n, size_t max, size_t size, const char *what,
		 struct error *err)
{
	char **p = array;

	if (*n >= max) {
		error_kind(err, ERR_UNSUPPORTED, "more than %zu %s", max, what);
		return NULL;
	}
	if ((*n & (*n - 1)) == 0) {
		char *more = xcalloc(*n ? *n * 2 : 1, size);

		if (*n)
			memcpy(more, *p, *n * size);
		free(*p);
		*p = more;
	}
	return *p + (*n)++ * size;
}

struct net_link *net_config_add_link(struct net_config *c, struct error *err)
{
	return add(&c->links, &c->n_links, NET_LINKS_MAX, sizeof(*c->links), "links", err);
}

struct net_address *net_link_add_address(struct net_link *l, struct error *err)
{
	return add(&l->addresses, &l->n_addresses, NET_ADDRESSES_MAX, sizeof(*l->addresses),
		   "addresses", err);
}

struct net_route *net_config_add_route(struct net_config *c, struct error *err)
{
	return add(&c->routes, &c->n_routes, NET_ROUTES_MAX, sizeof(*c->routes), "routes", err);
}

struct net_nexthop *net_route_add_nexthop(struct net_route *r, struct error *err)
{
	return add(&r->nexthops, &r->n_nexthops, NET_NEXTHOPS_MAX, sizeof(*r->nexthops),
		   "next hops", err);
}

struct net_rule *net_config_add_rule(struct net_config *c, struct error *err)
{
	return add(&c->rules, &c->n_rules, NET_RULES_MAX, sizeof(*c->rules), "rules", err);
}

struct net_neighbour *net_config_add_neighbour(struct net_config *c, struct error *err)
{
	return add(&c->neighbours, &c->n_neighbours, NET_NEIGHBOURS_MAX, sizeof(*c->neighbours),
		   "neighbours", err);
}

/* ---- lookup, text */

struct net_link *net_config_link(const struct net_config *c, unsigned index)
{
	for (size_t i = 0; i < c->n_links; i++)
		if (c->links[i].index == index)
			return &c->links[i];
	return NULL;
}

struct net_link *net_config_link_named(const struct net_config *c, const char *name)
{
	for (size_t i = 0; i < c->n_links; i++)
		if (strcmp(c->links[i].name, name) == 0)
			return &c->links[i];
	return NULL;
}

size_t net_ip_size(uint8_t family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

void net_prefix_mask(struct net_prefix *p)
{
	size_t bytes = p->len / 8;

	if (bytes < sizeof(p->ip.bytes)) {
		p->ip.bytes[bytes] &= (uint8_t)(0xff00 >> p->len % 8);
		memset(p->ip.bytes + bytes + 1, 0, sizeof(p->ip.bytes) - bytes - 1);
	}
}

bool net_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= IFNAMSIZ || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	return strcspn(name, "/: \t\n\v\f\r") == len;
}

const char *net_ip_text(const struct net_ip *ip, char buf[NET_TEXT_MAX])
{
	if (!inet_ntop(ip->family, ip->bytes, buf, NET_TEXT_MAX))
		snprintf(buf, NET_TEXT_MAX, "none");
	return buf;
}

const char *net_prefix_text(const struct net_prefix *p, char buf[NET_TEXT_MAX])
{
	char ip[NET_TEXT_MAX];

	if (p->ip.family == 0)
		snprintf(buf, NET_TEXT_MAX, "default");
	else
		snprintf(buf, NET_TEXT_MAX, "%.46s/%u", net_ip_text(&p->ip, ip), p->len);
	return buf;
}

const char *net_route_text(const struct net_route *r, char buf[NET_ROUTE_TEXT_MAX])
{
	char dst[NET_TEXT_MAX];
	int n = snprintf(buf, NET_ROUTE_TEXT_MAX, "%s%s", r->family == AF_INET6 ? "IPv6 " : "",
			 net_prefix_text(&r->dst, dst));

	if (r->table != RT_TABLE_MAIN)
		snprintf(buf + n, NET_ROUTE_TEXT_MAX - (size_t)n, " in table %u", r->table);
	return buf;
}

/* ---- comparisons */

bool net_ip_equal(const struct net_ip *a, const struct net_ip *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, net_ip_size(a->family)) == 0;
}

bool net_prefix_equal(const struct net_prefix *a, const struct net_prefix *b)
{
	return net_ip_equal(&a->ip, &b->ip) && (a->ip.family == 0 || a->len == b->len);
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	return memcmp(a, b, bytes) == 0 && (rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0);
}

/* IPv4: a link may have an address several times, in subnets that differ (that of the peer, if
 * there is one). IPv6: once. */
bool net_address_same(const struct net_address *a, const struct net_address *b)
{
	const struct net_ip *to_a = a->peer.family ? &a->peer : &a->local.ip;
	const struct net_ip *to_b = b->peer.family ? &b->peer : &b->local.ip;

	if (!net_ip_equal(&a->local.ip, &b->local.ip))
		return false;
	if (a->local.ip.family != AF_INET)
		return true;
	return a->local.len == b->local.len && a->local.len <= 32 &&
	       same_bits(to_a->bytes, to_b->bytes, a->local.len);
}

bool net_address_equal(const struct net_address *a, const struct net_address *b)
{
	return net_prefix_equal(&a->local, &b->local) && net_ip_equal(&a->peer, &b->peer) &&
	       net_ip_equal(&a->broadcast, &b->broadcast) && a->scope == b->scope &&
	       (a->flags & ADDRESS_FLAGS) == (b->flags & ADDRESS_FLAGS) &&
	       a->valid_s == b->valid_s && a->preferred_s == b->preferred_s &&
	       strcmp(a->label, b->label) == 0;
}

bool net_route_same(const struct net_route *a, const struct net_route *b)
{
	return a->family == b->family && a->table == b->table && a->priority == b->priority &&
	       net_prefix_equal(&a->dst, &b->dst) && net_prefix_equal(&a->src, &b->src) &&
	       (a->family != AF_INET || a->tos == b->tos);
}

static bool nexthop_equal(const struct net_nexthop *a, const struct net_nexthop *b)
{
	return a->link == b->link && net_ip_equal(&a->gateway, &b->gateway) &&
	       a->weight == b->weight && a->onlink == b->onlink;
}

bool net_route_equal(const struct net_route *a, const struct net_route *b)
{
	if (!net_route_same(a, b) || a->tos != b->tos || a->type != b->type ||
	    a->scope != b->scope || a->protocol != b->protocol || a->pref != b->pref ||
	    !net_ip_equal(&a->prefsrc, &b->prefsrc) ||
	    memcmp(a->metrics, b->metrics, sizeof(a->metrics)) != 0 ||
	    a->n_nexthops != b->n_nexthops)
		return false;
	for (size_t i = 0; i < a->n_nexthops; i++)
		if (!nexthop_equal(&a->nexthops[i], &b->nexthops[i]))
			return false;
	return true;
}

static bool range_equal(const struct net_range *a, const struct net_range *b)
{
	return a->from == b->from && a->to == b->to;
}

bool net_rule_equal(const struct net_rule *a, const struct net_rule *b)
{
	return a->family == b->family && a->priority == b->priority && a->action == b->action &&
	       a->table == b->table && a->target == b->target && a->invert == b->invert &&
	       net_prefix_equal(&a->src, &b->src) && net_prefix_equal(&a->dst, &b->dst) &&
	       strcmp(a->iif, b->iif) == 0 && strcmp(a->oif, b->oif) == 0 && a->mark == b->mark &&
	       a->mask == b->mask && a->tos == b->tos && a->ip_proto == b->ip_proto &&
	       a->protocol == b->protocol && range_equal(&a->sport, &b->sport) &&
	       range_equal(&a->dport, &b->dport) && a->has_uid == b->has_uid &&
	       (!a->has_uid || range_equal(&a->uid, &b->uid)) &&
	       a->suppress_prefix == b->suppress_prefix;
}

bool net_neighbour_same(const struct net_neighbour *a, const struct net_neighbour *b)
{
	return a->link == b->link && net_ip_equal(&a->ip, &b->ip) &&
	       (a->flags & NTF_PROXY) == (b->flags & NTF_PROXY);
}

bool net_neighbour_equal(const struct net_neighbour *a, const struct net_neighbour *b)
{
	return net_neighbour_same(a, b) && a->has_mac == b->has_mac &&
	       (!a->has_mac || memcmp(a->mac, b->mac, sizeof(a->mac)) == 0) &&
	       a->state == b->state && a->flags == b->flags;
}
