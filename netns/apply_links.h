/*
 * apply_links.h - the links' part of netns_apply(), for apply.c alone.
 */
#ifndef HUSK_NETNS_APPLY_LINKS_H
#define HUSK_NETNS_APPLY_LINKS_H

#include <net/if_arp.h>

#include "netns/apply.h"
#include "netns/locals.h"

struct apply {
	struct rtnl *nl;
	const struct net_config *old;
	struct net_config *want;
	const struct net_apply *a;
	struct error *err;
	bool failed;
	bool routes_lost; /* the kernel may have dropped some that are wanted */
	bool *fresh;	  /* by index in want->links: nothing that `old` says about it holds */
	struct net_local *locals;
	size_t n_locals;
};

/* Keeps the first error, with its object before it. */
void apply_complain(struct apply *ap, struct error *e, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static inline unsigned local_index(const struct apply *ap, unsigned index)
{
	return index ? ap->a->index_of(ap->a->arg, index) : 0;
}

static inline bool is_loopback(const struct net_link *l)
{
	return l->type == ARPHRD_LOOPBACK;
}

/* Looks at the namespace's links, and drops those of `want` that are not among them. */
int apply_find_links(struct apply *ap, struct error *err);
/* Names, MAC addresses, MTUs, flags; down. */
void apply_set_links(struct apply *ap);
/* Up, and what follows from what became of the links: ap->fresh, ap->routes_lost. */
void apply_raise_links(struct apply *ap);

#endif
