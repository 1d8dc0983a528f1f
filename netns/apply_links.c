#include "netns/apply_links.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>

#define TEMPORARY_NAME "husk-name" /* and a number: a link whose name another one gets */

/* What `old` says about a link; NULL if nothing that holds (spoil()). */
static const struct net_link *old_link(const struct apply *ap, unsigned index)
{
	const struct net_link *l = net_config_link(ap->old, index);

	return l && l->mtu > 0 ? l : NULL;
}

/* ---- what is there */

static struct net_local *local_of(const struct apply *ap, unsigned index)
{
	for (size_t i = 0; i < ap->n_locals; i++)
		if (ap->locals[i].index == index)
			return &ap->locals[i];
	return NULL;
}

static struct net_local *local_named(const struct apply *ap, const char *name)
{
	for (size_t i = 0; i < ap->n_locals; i++)
		if (strcmp(ap->locals[i].name, name) == 0)
			return &ap->locals[i];
	return NULL;
}

/* ---- one request each; errors have no object yet */

static int change_flags(struct apply *ap, struct net_local *l, unsigned flags, unsigned mask,
			struct error *e)
{
	struct nlmsghdr *m = rtnl_request(ap->nl, RTM_NEWLINK, 0);
	struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));

	ifi->ifi_index = (int)l->index;
	ifi->ifi_flags = flags & mask;
	ifi->ifi_change = mask;
	if (rtnl_talk(ap->nl, m, e) < 0)
		return -1;
	l->flags = (l->flags & ~mask) | (flags & mask);
	return 0;
}

static int set_attribute(struct apply *ap, const struct net_local *l, uint16_t type,
			 const void *data, size_t len, struct error *e)
{
	struct nlmsghdr *m = rtnl_request(ap->nl, RTM_NEWLINK, 0);
	struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));

	ifi->ifi_index = (int)l->index;
	rtnl_put(m, type, data, len);
	return rtnl_talk(ap->nl, m, e);
}

/* Some drivers and kernels change a name or a MAC address only while the link is down; it goes up
 * again later, if it is to. */
static int set_even_if_down(struct apply *ap, struct net_local *l, uint16_t type, const void *data,
			    size_t len, struct error *e)
{
	struct error first = ERROR_INIT;

	if (set_attribute(ap, l, type, data, len, &first) == 0)
		return 0;
	if (first.errnum != EBUSY || !(l->flags & IFF_UP)) {
		*e = first;
		return -1;
	}
	if (change_flags(ap, l, 0, IFF_UP, e) < 0)
		return -1;
	return set_attribute(ap, l, type, data, len, e);
}

static int rename_to(struct apply *ap, struct net_local *l, const char *name, struct error *e)
{
	if (set_even_if_down(ap, l, IFLA_IFNAME, name, strlen(name) + 1, e) < 0)
		return -1;
	snprintf(l->name, sizeof(l->name), "%s", name);
	return 0;
}

/* No IPv6 address but those that are wanted; a link-local one is among these. */
static void stop_generating(struct apply *ap, const struct net_local *l)
{
	struct nlmsghdr *m = rtnl_request(ap->nl, RTM_NEWLINK, 0);
	struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));
	struct nlattr *spec, *inet6;
	struct error e = ERROR_INIT;

	ifi->ifi_index = (int)l->index;
	spec = rtnl_nest(m, IFLA_AF_SPEC);
	inet6 = rtnl_nest(m, AF_INET6);
	rtnl_put_u8(m, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	rtnl_nest_end(m, inet6);
	rtnl_nest_end(m, spec);
	/* A link without IPv6 (its MTU is too small) generates none. */
	if (rtnl_talk(ap->nl, m, &e) < 0)
		log_debug("network: %s: no mode of address generation: %s", l->name, e.msg);
}

/* ---- which are wanted */

/* Drops a link that is not there, so that nobody takes it for done. */
static void drop_link(struct apply *ap, size_t i)
{
	struct net_config *c = ap->want;

	free(c->links[i].addresses);
	c->n_links--;
	memmove(&c->links[i], &c->links[i + 1], (c->n_links - i) * sizeof(*c->links));
	memmove(&ap->fresh[i], &ap->fresh[i + 1], (c->n_links - i) * sizeof(*ap->fresh));
}

int apply_find_links(struct apply *ap, struct error *err)
{
	if (net_locals(ap->nl, &ap->locals, &ap->n_locals, err) < 0)
		return -1;
	for (size_t i = 0; i < ap->want->n_links;) {
		const struct net_link *l = &ap->want->links[i];
		struct error e = ERROR_INIT;

		if (local_of(ap, local_index(ap, l->index))) {
			ap->fresh[i] = !old_link(ap, l->index);
			i++;
			continue;
		}
		error_kind(&e, ERR_NOT_FOUND, "there is no interface for it");
		apply_complain(ap, &e, "link %s", l->name);
		drop_link(ap, i);
	}
	return 0;
}

/* A link that could not be made is another one than any that will be wanted: it is tried again. */
static void spoil(struct net_link *l)
{
	l->mtu = 0;
}

/* One that somebody else has renamed keeps its name. */
static bool is_to_rename(const struct apply *ap, const struct net_link *l,
			 const struct net_local *here)
{
	const struct net_link *old = old_link(ap, l->index);

	if (is_loopback(l) || strcmp(here->name, l->name) == 0)
		return false;
	return !old || strcmp(old->name, l->name) != 0 ||
	       strncmp(here->name, TEMPORARY_NAME, strlen(TEMPORARY_NAME)) == 0;
}

/* Links that have a name which one of the others wants step aside. */
static void free_names(struct apply *ap)
{
	for (size_t i = 0; i < ap->want->n_links; i++) {
		const struct net_link *l = &ap->want->links[i];
		struct net_local *holder = local_named(ap, l->name);
		struct error e = ERROR_INIT;
		char name[IFNAMSIZ];
		bool ours = false;

		if (!holder || !is_to_rename(ap, l, local_of(ap, local_index(ap, l->index))))
			continue;
		for (size_t k = 0; k < ap->want->n_links; k++)
			ours |= local_index(ap, ap->want->links[k].index) == holder->index;
		if (!ours)
			continue; /* somebody else's: the renaming tells */
		snprintf(name, sizeof(name), TEMPORARY_NAME "%u", holder->index % 100000);
		if (rename_to(ap, holder, name, &e) < 0)
			apply_complain(ap, &e, "rename link %s", holder->name);
	}
}

static void give_names(struct apply *ap)
{
	free_names(ap);
	for (size_t i = 0; i < ap->want->n_links; i++) {
		struct net_link *l = &ap->want->links[i];
		struct net_local *here = local_of(ap, local_index(ap, l->index));
		struct error e = ERROR_INIT;

		if (!is_to_rename(ap, l, here) || rename_to(ap, here, l->name, &e) == 0)
			continue;
		if (e.errnum == EEXIST)
			error_kind(&e, ERR_EXISTS, "the guest has another interface of this name");
		apply_complain(ap, &e, "link %s", l->name);
		spoil(l);
	}
}

static unsigned flags_of(const struct net_link *l)
{
	return (l->noarp ? IFF_NOARP : 0) | (l->allmulti ? IFF_ALLMULTI : 0) |
	       (l->promisc ? IFF_PROMISC : 0) | (l->no_multicast ? 0 : IFF_MULTICAST);
}

/* IPv6 leaves a link whose MTU is less than 1280. When it comes back it has forgotten that it is to
 * generate no addresses, and does so at once if the link is up. */
static bool gets_ipv6(const struct net_link *old, const struct net_link *l)
{
	return old && old->mtu < 1280 && l->mtu >= 1280;
}

static int set_up_link(struct apply *ap, const struct net_link *old, const struct net_link *l,
		       struct net_local *here, struct error *e)
{
	const unsigned mask = IFF_NOARP | IFF_ALLMULTI | IFF_PROMISC | IFF_MULTICAST;

	if (l->type == ARPHRD_ETHER && (!old || memcmp(old->mac, l->mac, 6) != 0) &&
	    memcmp(here->mac, l->mac, 6) != 0 &&
	    set_even_if_down(ap, here, IFLA_ADDRESS, l->mac, 6, e) < 0)
		return error_wrap(e, "set its MAC address");
	if (gets_ipv6(old, l) && here->flags & IFF_UP && change_flags(ap, here, 0, IFF_UP, e) < 0)
		return error_wrap(e, "take it down");
	if ((!old || old->mtu != l->mtu) && here->mtu != l->mtu &&
	    set_attribute(ap, here, IFLA_MTU, &l->mtu, sizeof(l->mtu), e) < 0)
		return error_wrap(e, "set its MTU to %u", l->mtu);
	if ((!old || flags_of(old) != flags_of(l)) && (here->flags & mask) != flags_of(l) &&
	    change_flags(ap, here, flags_of(l), mask, e) < 0)
		return error_wrap(e, "set its flags");
	if (!old || gets_ipv6(old, l))
		stop_generating(ap, here);
	if ((!old || old->up) && !l->up && here->flags & IFF_UP &&
	    change_flags(ap, here, 0, IFF_UP, e) < 0)
		return error_wrap(e, "take it down");
	return 0;
}

void apply_set_links(struct apply *ap)
{
	give_names(ap);
	for (size_t i = 0; i < ap->want->n_links; i++) {
		struct net_link *l = &ap->want->links[i];
		const struct net_link *old = old_link(ap, l->index);
		struct net_local *here = local_of(ap, local_index(ap, l->index));
		bool was_up = here->flags & IFF_UP;
		struct error e = ERROR_INIT;

		if (is_loopback(l))
			continue;
		if (set_up_link(ap, old, l, here, &e) < 0) {
			apply_complain(ap, &e, "link %s", l->name);
			spoil(l);
		}
		if (was_up && !(here->flags & IFF_UP))
			ap->fresh[i] = true;
	}
}

void apply_raise_links(struct apply *ap)
{
	for (size_t i = 0; i < ap->want->n_links; i++) {
		struct net_link *l = &ap->want->links[i];
		const struct net_link *old = old_link(ap, l->index);
		struct net_local *here = local_of(ap, local_index(ap, l->index));
		struct error e = ERROR_INIT;

		/* One that was up, and that somebody else has taken down, stays down. */
		if (is_loopback(l) || !l->up || here->flags & IFF_UP ||
		    (old && old->up && !ap->fresh[i]))
			continue;
		ap->fresh[i] = true;
		if (change_flags(ap, here, IFF_UP, IFF_UP, &e) < 0) {
			apply_complain(ap, &e, "link %s: bring it up", l->name);
			spoil(l);
		}
	}
	for (size_t i = 0; i < ap->want->n_links; i++)
		ap->routes_lost |= ap->fresh[i];
}
