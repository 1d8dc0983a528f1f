#include "shim/network_plan.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/wiring.h"

#include <net/if_arp.h>
#include <string.h>
#include <sys/socket.h>

#define OWNER_WHOLE 200 /* bytes of a name that a TAP keeps in any case */
#define RUNC "or run this container with runc"

/* ---- links */

static bool is_ours(const struct net_link *l)
{
	return tap_is_ours(l, NULL);
}

/* A port of somebody's bridge or bond: its master has the frames. One of ours is a wiring. */
static bool is_port(const struct net_config *c, const struct net_link *l)
{
	const struct net_link *m = l->master ? net_config_link(c, l->master) : NULL;

	return l->master && !(m && is_ours(m));
}

static enum network_fit refuse(const struct net_link *l, struct error *why)
{
	switch (l->kind) {
	case NET_KIND_PHYSICAL:
		error_kind(why, ERR_UNSUPPORTED,
			   "network interface %s: it is hardware, or a virtual function of it, and "
			   "husk does not move that into a microVM: give the container a veth, "
			   "macvlan or ipvlan interface, " RUNC,
			   l->name);
		break;
	case NET_KIND_TUN:
	case NET_KIND_WIREGUARD:
		error_kind(why, ERR_UNSUPPORTED,
			   "network interface %s: a %s interface has no Ethernet frames, which are "
			   "what a microVM's network card carries: make it outside of the "
			   "container's network namespace, or inside the container, " RUNC,
			   l->name, l->kind == NET_KIND_TUN ? "tun" : "wireguard");
		break;
	default:
		error_kind(why, ERR_UNSUPPORTED,
			   "network interface %s: husk cannot give one of kind \"%s\" to a "
			   "microVM: take veth, macvlan, ipvlan, vlan or bridge, " RUNC,
			   l->name, l->kind_name);
	}
	return NETWORK_FIT_REFUSED;
}

enum network_fit network_fit(const struct net_config *c, const struct net_link *l,
			     struct error *why)
{
	if (l->kind == NET_KIND_LOOPBACK)
		return NETWORK_FIT_LOOPBACK;
	if (is_ours(l) || is_port(c, l) || (!l->up && l->n_addresses == 0))
		return NETWORK_FIT_NOT;
	switch (l->kind) {
	case NET_KIND_VETH:
	case NET_KIND_MACVLAN:
	case NET_KIND_IPVLAN:
	case NET_KIND_BRIDGE:
	case NET_KIND_TAP:
	case NET_KIND_DUMMY:
	case NET_KIND_VLAN:
	case NET_KIND_VXLAN:
		return l->type == ARPHRD_ETHER ? NETWORK_FIT_CARD : refuse(l, why);
	default:
		return refuse(l, why);
	}
}

void network_card_id(unsigned link, char id[VMM_NIC_ID_MAX + 1])
{
	snprintf(id, VMM_NIC_ID_MAX + 1, "n%u", link);
}

unsigned network_card_link(const char *id)
{
	char again[VMM_NIC_ID_MAX + 1];
	unsigned link = 0;

	if (id[0] != 'n')
		return 0;
	for (const char *p = id + 1; *p >= '0' && *p <= '9'; p++)
		link = link * 10 + (unsigned)(*p - '0');
	network_card_id(link, again);
	return strcmp(again, id) == 0 ? link : 0;
}

/* ---- the plan */

static void add(struct network_plan *p, enum network_act act, unsigned link, bool up)
{
	p->v = realloc(p->v, (p->n + 1) * sizeof(*p->v));
	if (!p->v)
		abort();
	p->v[p->n++] = (struct network_action){.act = act, .link = link, .up = up};
}

static void add_refusal(struct network_plan *p, const struct error *why)
{
	p->refused = realloc(p->refused, (p->n_refused + 1) * sizeof(*p->refused));
	if (!p->refused)
		abort();
	p->refused[p->n_refused++] = *why;
}

static int card_of(const struct vmm_nics *have, unsigned link)
{
	for (unsigned i = 0; i < have->n; i++)
		if (network_card_link(have->v[i].id) == link)
			return (int)i;
	return -1;
}

static const struct net_link *tap_of(const struct net_config *c, unsigned link)
{
	char name[IFNAMSIZ];
	const struct net_link *l;

	tap_name(name, link);
	l = net_config_link_named(c, name);
	return l && is_ours(l) ? l : NULL;
}

const char *network_tap_owner(const struct net_config *c, unsigned link)
{
	const struct net_link *tap = tap_of(c, link);
	const char *owner = NULL;

	return tap && tap_is_ours(tap, &owner) ? owner : NULL;
}

bool network_owns(const char *whose, const char *container)
{
	size_t n = strlen(whose);

	/* A longer name than a TAP can bear was cut. */
	return strcmp(whose, container) == 0 ||
	       (n >= OWNER_WHOLE && strncmp(whose, container, n) == 0);
}

/* Returns false if the link's TAP is somebody else's. */
static bool check_owner(const struct net_config *c, const struct net_link *l, const char *owner,
			struct network_plan *p)
{
	struct error why = ERROR_INIT;
	const char *whose = network_tap_owner(c, l->index);

	if (!whose || network_owns(whose, owner))
		return true;
	if (whose[0])
		error_kind(&why, ERR_UNSUPPORTED,
			   "network interface %s: container \"%s\" of husk has it already, and two "
			   "microVMs cannot share one: give this container a network of its "
			   "own, " RUNC,
			   l->name, whose);
	else
		error_kind(&why, ERR_UNSUPPORTED,
			   "network interface %s: %s is there already, and no container's of husk: "
			   "remove it: ip link del %s",
			   l->name, tap_of(c, l->index)->name, tap_of(c, l->index)->name);
	add_refusal(p, &why);
	return false;
}

static void plan_card(const struct net_config *c, const struct net_link *l,
		      const struct vmm_nics *have, const char *owner, struct network_plan *p)
{
	const struct net_link *tap = tap_of(c, l->index);
	bool up = l->up && l->carrier;
	int i = card_of(have, l->index);

	if (!check_owner(c, l, owner, p))
		return;
	if (i < 0 || !tap || tap_is_stale(c, l)) {
		add(p, i < 0 ? NETWORK_ATTACH : NETWORK_REATTACH, l->index, up);
		return;
	}
	if (tap->mtu != tap_mtu(l))
		add(p, NETWORK_MTU, l->index, up);
	if (have->v[i].up != up)
		add(p, NETWORK_CABLE, l->index, up);
}

void network_plan_make(const struct net_config *c, const struct vmm_nics *have, const char *owner,
		       struct network_plan *p)
{
	*p = (struct network_plan){0};
	/* Those that go make room for those that come. */
	for (unsigned i = 0; i < have->n; i++) {
		unsigned link = network_card_link(have->v[i].id);
		const struct net_link *l = link ? net_config_link(c, link) : NULL;

		if (link && (!l || network_fit(c, l, NULL) != NETWORK_FIT_CARD))
			add(p, NETWORK_DETACH, link, false);
	}
	for (size_t i = 0; i < c->n_links; i++) {
		struct error why = ERROR_INIT;

		switch (network_fit(c, &c->links[i], &why)) {
		case NETWORK_FIT_CARD:
			plan_card(c, &c->links[i], have, owner, p);
			break;
		case NETWORK_FIT_REFUSED:
			add_refusal(p, &why);
			break;
		case NETWORK_FIT_NOT:
		case NETWORK_FIT_LOOPBACK:
			break;
		}
	}
}

void network_plan_free(struct network_plan *p)
{
	free(p->v);
	free(p->refused);
	*p = (struct network_plan){0};
}

/* ---- the guest's share of a configuration */

struct keep {
	const struct net_config *c;
	bool (*kept)(const void *arg, unsigned link);
	const void *arg;
};

static bool keeps(const struct keep *k, unsigned link)
{
	const struct net_link *l = net_config_link(k->c, link);

	return l && (l->kind == NET_KIND_LOOPBACK || k->kept(k->arg, link));
}

/* A route of several ways loses those by a link that is not kept. */
static bool reduce_route(const struct keep *k, struct net_route *r)
{
	size_t n = 0;

	if (r->n_nexthops == 0)
		return true;
	for (size_t i = 0; i < r->n_nexthops; i++)
		if (r->nexthops[i].link == 0 || keeps(k, r->nexthops[i].link))
			r->nexthops[n++] = r->nexthops[i];
	r->n_nexthops = n;
	return n > 0;
}

/* Whether it was looked for already matters to the namespace's stack alone; one that was found to
 * be another machine's is not usable there either. */
static void reduce_addresses(struct net_link *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n_addresses; i++) {
		struct net_address a = l->addresses[i];

		if (a.flags & IFA_F_DADFAILED)
			continue;
		a.flags &= ~(uint32_t)(IFA_F_TENTATIVE | IFA_F_OPTIMISTIC);
		l->addresses[n++] = a;
	}
	l->n_addresses = n;
}

void network_reduce(struct net_config *c, bool (*kept)(const void *arg, unsigned link),
		    const void *arg)
{
	const struct keep k = {.c = c, .kept = kept, .arg = arg};
	size_t n = 0;

	for (size_t i = 0; i < c->n_routes; i++) {
		if (reduce_route(&k, &c->routes[i]))
			c->routes[n++] = c->routes[i];
		else
			free(c->routes[i].nexthops);
	}
	c->n_routes = n;
	n = 0;
	for (size_t i = 0; i < c->n_neighbours; i++)
		if (keeps(&k, c->neighbours[i].link))
			c->neighbours[n++] = c->neighbours[i];
	c->n_neighbours = n;
	n = 0;
	for (size_t i = 0; i < c->n_links; i++) {
		struct net_link l = c->links[i];

		if (l.kind == NET_KIND_LOOPBACK || kept(arg, l.index)) {
			l.master = 0;
			/* Wiring makes them take all groups, since the guest's are not theirs. */
			if (l.kind == NET_KIND_MACVLAN || l.kind == NET_KIND_IPVLAN)
				l.allmulti = false;
			reduce_addresses(&l);
			c->links[n++] = l;
		} else {
			free(l.addresses);
		}
	}
	c->n_links = n;
}

static bool is_localhost(const struct net_address *a)
{
	static const uint8_t v4[4] = {127, 0, 0, 1}, v6[16] = {[15] = 1};
	const struct net_prefix *p = &a->local;

	if (p->ip.family == AF_INET)
		return p->len == 8 && memcmp(p->ip.bytes, v4, 4) == 0;
	return p->len == 128 && memcmp(p->ip.bytes, v6, 16) == 0;
}

bool network_is_bare(const struct net_config *c)
{
	if (c->n_routes || c->n_rules || c->n_neighbours || c->n_links > 1)
		return false;
	for (size_t i = 0; c->n_links && i < c->links[0].n_addresses; i++)
		if (!is_localhost(&c->links[0].addresses[i]))
			return false;
	return c->n_links == 0 || c->links[0].kind == NET_KIND_LOOPBACK;
}
