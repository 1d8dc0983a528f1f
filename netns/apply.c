/*
 * apply.c - from one configuration to the next, by rtnetlink.
 *
 * Only differences between the two configurations are looked at, not what is in the namespace: what
 * somebody else made of it (the container, with CAP_NET_ADMIN) is nobody's business here. A change
 * on the host costs the guest no more than that change.
 *
 * The order is what lets each step succeed:
 *
 *	rules, routes, neighbours, addresses that go	what depends on others first
 *	links: name, MAC, MTU, flags; down		names in two turns if they are exchanged
 *	(the caller's turn: sysctls)
 *	links: up
 *	addresses, routes, neighbours, rules		rules last: their tables are filled then
 *
 * Routes need one another: a gateway is reached by a route that may come later in the list, and the
 * kernel refuses the one before the other. So they are made in rounds, those without a gateway
 * first, as long as a round gets any further.
 *
 * The kernel takes more away than it is told: with an IPv4 address the secondary ones of its
 * subnet, with an address the routes that prefer it as their source, with a link that goes down all
 * of its routes, neighbours and IPv6 addresses. Whenever one of these may have happened, all that
 * is wanted and could be hit is made again: each request either makes its object or replaces it
 * by itself.
 */
#include "netns/apply.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/apply_links.h"
#include "netns/message.h"
#include "netns/rtnl.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>

void apply_complain(struct apply *ap, struct error *e, const char *fmt, ...)
{
	char what[NET_WORDS_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	error_wrap(e, "%s", what);
	log_debug("network: %s", e->msg);
	if (!ap->failed && ap->err)
		*ap->err = *e;
	ap->failed = true;
}

/* 127.0.0.1 and ::1, which the kernel gives to a loopback that goes up. */
static bool is_kernels_own(const struct net_link *l, const struct net_address *a)
{
	static const uint8_t v4[4] = {127, 0, 0, 1};
	static const uint8_t v6[16] = {[15] = 1};

	if (!is_loopback(l))
		return false;
	return a->local.ip.family == AF_INET ? memcmp(a->local.ip.bytes, v4, sizeof(v4)) == 0
					     : memcmp(a->local.ip.bytes, v6, sizeof(v6)) == 0;
}

/* ---- what goes */

static bool is_gone(int errnum)
{
	return errnum == ESRCH || errnum == ENOENT || errnum == ENODEV || errnum == ENXIO ||
	       errnum == EADDRNOTAVAIL || errnum == ENETDOWN;
}

static void remove_rules(struct apply *ap)
{
	for (size_t i = 0; i < ap->old->n_rules; i++) {
		const struct net_rule *r = &ap->old->rules[i];
		struct error e = ERROR_INIT;
		char text[NET_WORDS_MAX];
		struct nlmsghdr *m;
		size_t k;

		for (k = 0; k < ap->want->n_rules && !net_rule_equal(r, &ap->want->rules[k]); k++)
			;
		if (k < ap->want->n_rules)
			continue;
		m = rtnl_request(ap->nl, RTM_DELRULE, 0);
		net_put_rule(m, r);
		if (rtnl_talk(ap->nl, m, &e) == 0 || is_gone(e.errnum))
			continue;
		net_rule_words(r, text);
		apply_complain(ap, &e, "remove %s", text);
	}
}

static const struct net_route *find_route(const struct net_config *c, const struct net_route *r,
					  bool (*like)(const struct net_route *,
						       const struct net_route *))
{
	for (size_t i = 0; i < c->n_routes; i++)
		if (like(&c->routes[i], r))
			return &c->routes[i];
	return NULL;
}

/* True for a route that another one will take the place of: of several with one key, the first. */
static bool is_replaced(const struct apply *ap, const struct net_route *r)
{
	const struct net_route *by = find_route(ap->want, r, net_route_same);

	return by && find_route(ap->old, r, net_route_same) == r &&
	       !find_route(ap->old, by, net_route_equal);
}

/* A route all of whose links are gone is gone, too. */
static bool has_links(const struct apply *ap, const struct net_route *r)
{
	for (size_t i = 0; i < r->n_nexthops; i++)
		if (!r->nexthops[i].link || local_index(ap, r->nexthops[i].link))
			return true;
	return r->n_nexthops == 0;
}

static void remove_routes(struct apply *ap)
{
	for (size_t i = 0; i < ap->old->n_routes; i++) {
		const struct net_route *r = &ap->old->routes[i];
		struct error e = ERROR_INIT;
		char text[NET_WORDS_MAX];
		struct nlmsghdr *m;

		if (find_route(ap->want, r, net_route_equal) || is_replaced(ap, r) ||
		    !has_links(ap, r))
			continue;
		m = rtnl_request(ap->nl, RTM_DELROUTE, 0);
		net_put_route(m, r, ap->a->index_of, ap->a->arg);
		if (rtnl_talk(ap->nl, m, &e) == 0 || is_gone(e.errnum))
			continue;
		net_route_words(ap->old, r, text);
		apply_complain(ap, &e, "remove %s", text);
	}
}

static void remove_neighbours(struct apply *ap)
{
	for (size_t i = 0; i < ap->old->n_neighbours; i++) {
		const struct net_neighbour *n = &ap->old->neighbours[i];
		unsigned index = local_index(ap, n->link);
		struct error e = ERROR_INIT;
		char text[NET_TEXT_MAX];
		struct nlmsghdr *m;
		size_t k;

		for (k = 0;
		     k < ap->want->n_neighbours && !net_neighbour_same(n, &ap->want->neighbours[k]);
		     k++)
			;
		if (k < ap->want->n_neighbours || !index)
			continue;
		m = rtnl_request(ap->nl, RTM_DELNEIGH, 0);
		net_put_neighbour(m, n, index);
		if (rtnl_talk(ap->nl, m, &e) < 0 && !is_gone(e.errnum))
			apply_complain(ap, &e, "remove neighbour %s", net_ip_text(&n->ip, text));
	}
}

/* Lifetimes can be changed; whatever else differs makes another address of it. */
static bool differs_in_lifetime_alone(const struct net_address *a, const struct net_address *b)
{
	struct net_address c = *a;

	c.valid_s = b->valid_s;
	c.preferred_s = b->preferred_s;
	c.flags = (c.flags & ~(uint32_t)IFA_F_PERMANENT) | (b->flags & IFA_F_PERMANENT);
	return net_address_equal(&c, b);
}

static bool is_kept(const struct net_link *l, const struct net_address *a)
{
	for (size_t i = 0; l && i < l->n_addresses; i++)
		if (differs_in_lifetime_alone(&l->addresses[i], a))
			return true;
	return false;
}

static void remove_address(struct apply *ap, const struct net_link *l, const struct net_address *a,
			   unsigned index)
{
	struct nlmsghdr *m = rtnl_request(ap->nl, RTM_DELADDR, 0);
	const struct net_link *w = net_config_link(ap->want, l->index);
	struct error e = ERROR_INIT;
	char text[NET_TEXT_MAX];

	net_put_address(m, a, index);
	if (rtnl_talk(ap->nl, m, &e) < 0 && !is_gone(e.errnum))
		apply_complain(ap, &e, "link %s: remove address %s", l->name,
			       net_prefix_text(&a->local, text));
	ap->routes_lost = true;
	if (w)
		ap->fresh[w - ap->want->links] = true;
}

static void remove_addresses(struct apply *ap)
{
	for (size_t i = 0; i < ap->old->n_links; i++) {
		const struct net_link *l = &ap->old->links[i];
		const struct net_link *w = net_config_link(ap->want, l->index);
		unsigned index = local_index(ap, l->index);

		for (size_t k = 0; index && k < l->n_addresses; k++)
			if (!is_kept(w, &l->addresses[k]) && !is_kernels_own(l, &l->addresses[k]))
				remove_address(ap, l, &l->addresses[k], index);
	}
}

/* ---- what comes */

static int put_address(struct apply *ap, const struct net_link *l, const struct net_address *a)
{
	struct nlmsghdr *m = rtnl_request(ap->nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	struct error e = ERROR_INIT;
	char text[NET_TEXT_MAX];

	net_put_address(m, a, local_index(ap, l->index));
	if (rtnl_talk(ap->nl, m, &e) == 0 || e.errnum == EEXIST)
		return 0;
	apply_complain(ap, &e, "link %s: add address %s", l->name,
		       net_prefix_text(&a->local, text));
	return -1;
}

static bool has_address(const struct net_link *l, const struct net_address *a)
{
	for (size_t i = 0; l && i < l->n_addresses; i++)
		if (net_address_equal(&l->addresses[i], a))
			return true;
	return false;
}

static void add_addresses(struct apply *ap)
{
	for (size_t i = 0; i < ap->want->n_links; i++) {
		struct net_link *l = &ap->want->links[i];
		const struct net_link *old =
			ap->fresh[i] ? NULL : net_config_link(ap->old, l->index);

		for (size_t k = 0; k < l->n_addresses;) {
			const struct net_address *a = &l->addresses[k];

			if (is_kernels_own(l, a) || has_address(old, a) ||
			    put_address(ap, l, a) == 0) {
				k++;
				continue;
			}
			l->n_addresses--;
			memmove(&l->addresses[k], &l->addresses[k + 1],
				(l->n_addresses - k) * sizeof(*a));
		}
	}
}

/* Lower comes first: without a gateway before those with one, narrow scopes before wide ones. */
static unsigned route_rank(const struct net_route *r)
{
	bool gateway = false;

	for (size_t i = 0; i < r->n_nexthops; i++)
		gateway |= r->nexthops[i].gateway.family != 0;
	return (gateway ? 256u : 0) + 255u - r->scope;
}

/* The kernel has lists of routes with one key in IPv4; to replace means the first of them. */
static bool is_another(const struct net_config *c, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (net_route_same(&c->routes[k], &c->routes[i]))
			return true;
	return false;
}

static int put_route(struct apply *ap, size_t i, struct error *e)
{
	const struct net_route *r = &ap->want->routes[i];
	uint16_t how = is_another(ap->want, i) ? NLM_F_APPEND : NLM_F_REPLACE;
	struct nlmsghdr *m;

	for (size_t k = 0; k < r->n_nexthops; k++)
		if (r->nexthops[k].link && !local_index(ap, r->nexthops[k].link))
			return error_kind(e, ERR_NOT_FOUND, "its link is not there");
	m = rtnl_request(ap->nl, RTM_NEWROUTE, NLM_F_CREATE | how);
	net_put_route(m, r, ap->a->index_of, ap->a->arg);
	if (rtnl_talk(ap->nl, m, e) == 0 || e->errnum == EEXIST)
		return 0;
	return -1;
}

struct todo {
	size_t route;
	unsigned rank;
};

static int by_rank(const void *a, const void *b)
{
	const struct todo *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return x->route < y->route ? -1 : x->route > y->route;
}

/* Those that could not be made stay in the list. */
static size_t put_routes(struct apply *ap, struct todo *list, size_t n)
{
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		struct error e = ERROR_INIT;

		if (put_route(ap, list[i].route, &e) < 0)
			list[left++] = list[i];
	}
	return left;
}

static void drop_route(struct net_config *c, size_t i)
{
	free(c->routes[i].nexthops);
	c->n_routes--;
	memmove(&c->routes[i], &c->routes[i + 1], (c->n_routes - i) * sizeof(*c->routes));
}

/* From the last to the first: numbers of those that are left stay what they are. */
static void give_up_routes(struct apply *ap, struct todo *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct error e = ERROR_INIT;
		char text[NET_WORDS_MAX];

		if (put_route(ap, list[i].route, &e) == 0) {
			list[i].rank = 0;
			continue;
		}
		list[i].rank = 1;
		net_route_words(ap->want, &ap->want->routes[list[i].route], text);
		apply_complain(ap, &e, "add %s", text);
	}
	qsort(list, n, sizeof(*list), by_rank);
	while (n > 0 && list[n - 1].rank == 1)
		drop_route(ap->want, list[--n].route);
}

static void add_routes(struct apply *ap)
{
	const struct net_config *c = ap->want;
	cleanup_free struct todo *list = xcalloc(c->n_routes + 1, sizeof(*list));
	size_t n = 0, before;

	for (size_t i = 0; i < c->n_routes; i++)
		if (ap->routes_lost || !find_route(ap->old, &c->routes[i], net_route_equal))
			list[n++] = (struct todo){i, route_rank(&c->routes[i])};
	if (n > 0)
		qsort(list, n, sizeof(*list), by_rank);
	do {
		before = n;
		n = put_routes(ap, list, n);
	} while (n > 0 && n < before);
	if (n > 0)
		give_up_routes(ap, list, n);
}

static bool is_neighbour_there(const struct apply *ap, const struct net_neighbour *n)
{
	const struct net_link *l = net_config_link(ap->want, n->link);

	if (l && ap->fresh[l - ap->want->links])
		return false;
	for (size_t i = 0; i < ap->old->n_neighbours; i++)
		if (net_neighbour_equal(&ap->old->neighbours[i], n))
			return true;
	return false;
}

static int put_neighbour(struct apply *ap, const struct net_neighbour *n)
{
	const struct net_link *l = net_config_link(ap->want, n->link);
	unsigned index = local_index(ap, n->link);
	struct error e = ERROR_INIT;
	char text[NET_TEXT_MAX];
	struct nlmsghdr *m;

	if (!index)
		return -1; /* the missing link has been told */
	m = rtnl_request(ap->nl, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
	net_put_neighbour(m, n, index);
	if (rtnl_talk(ap->nl, m, &e) == 0)
		return 0;
	apply_complain(ap, &e, "link %s: add neighbour %s", l ? l->name : "?",
		       net_ip_text(&n->ip, text));
	return -1;
}

static void add_neighbours(struct apply *ap)
{
	struct net_config *c = ap->want;

	for (size_t i = 0; i < c->n_neighbours;) {
		if (is_neighbour_there(ap, &c->neighbours[i]) ||
		    put_neighbour(ap, &c->neighbours[i]) == 0) {
			i++;
			continue;
		}
		c->n_neighbours--;
		memmove(&c->neighbours[i], &c->neighbours[i + 1],
			(c->n_neighbours - i) * sizeof(*c->neighbours));
	}
}

static int put_rule(struct apply *ap, const struct net_rule *r)
{
	struct nlmsghdr *m = rtnl_request(ap->nl, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
	struct error e = ERROR_INIT;
	char text[NET_WORDS_MAX];

	net_put_rule(m, r);
	if (rtnl_talk(ap->nl, m, &e) == 0 || e.errnum == EEXIST)
		return 0;
	net_rule_words(r, text);
	apply_complain(ap, &e, "add %s", text);
	return -1;
}

static void add_rules(struct apply *ap)
{
	struct net_config *c = ap->want;

	for (size_t i = 0; i < c->n_rules;) {
		size_t k;

		for (k = 0;
		     k < ap->old->n_rules && !net_rule_equal(&ap->old->rules[k], &c->rules[i]); k++)
			;
		if (k < ap->old->n_rules || put_rule(ap, &c->rules[i]) == 0) {
			i++;
			continue;
		}
		c->n_rules--;
		memmove(&c->rules[i], &c->rules[i + 1], (c->n_rules - i) * sizeof(*c->rules));
	}
}

int netns_apply(const struct net_config *old, struct net_config *want, const struct net_apply *a,
		struct error *err)
{
	cleanup_free bool *fresh = xcalloc(want->n_links + 1, sizeof(*fresh));
	cleanup_rtnl struct rtnl *nl = rtnl_open(err);
	struct apply ap = {.nl = nl, .old = old, .want = want, .a = a, .err = err, .fresh = fresh};
	struct error e = ERROR_INIT;

	if (!nl || apply_find_links(&ap, err) < 0) {
		free(ap.locals);
		return -1;
	}
	remove_rules(&ap);
	remove_routes(&ap);
	remove_neighbours(&ap);
	remove_addresses(&ap);
	apply_set_links(&ap);
	if (a->named && a->named(a->arg, &e) < 0)
		apply_complain(&ap, &e, "sysctl");
	apply_raise_links(&ap);
	add_addresses(&ap);
	add_routes(&ap);
	add_neighbours(&ap);
	add_rules(&ap);
	free(ap.locals);
	return ap.failed ? -1 : 0;
}
