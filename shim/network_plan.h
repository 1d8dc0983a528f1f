/*
 * network_plan.h - what has to be done so that a machine's network cards are those links of the
 * container's namespace that a guest is to have (docs/network.md, "Links"). Pure.
 */
#ifndef HUSK_SHIM_NETWORK_PLAN_H
#define HUSK_SHIM_NETWORK_PLAN_H

#include "lib/error.h"
#include "netns/config.h"
#include "shim/vmm_client.h"

enum network_fit {
	NETWORK_FIT_NOT,      /* nothing of the guest's: down and without address, a port, ours */
	NETWORK_FIT_LOOPBACK, /* the guest has its own */
	NETWORK_FIT_CARD,
	NETWORK_FIT_REFUSED, /* `why` (ERR_UNSUPPORTED) names it and says what to do */
};

enum network_fit network_fit(const struct net_config *c, const struct net_link *l,
			     struct error *why);

enum network_act {
	NETWORK_ATTACH,	  /* make a TAP, wire it, give it to the machine */
	NETWORK_REATTACH, /* its TAP is gone, or its wiring of no use: the card is taken away, then
			     as above */
	NETWORK_DETACH,	  /* the link is gone, or is no card any more */
	NETWORK_CABLE,	  /* put in (`up`), or pull out */
	NETWORK_MTU,	  /* of the TAP */
};

struct network_action {
	enum network_act act;
	unsigned link; /* index */
	bool up;       /* of NETWORK_CABLE; of an attached card: whether its cable is in */
};

struct network_plan {
	struct network_action *v;
	size_t n;
	/* Links that the guest cannot have: they get no card. */
	struct error *refused;
	size_t n_refused;
};

/* `have`: the machine's cards, `owner`: the name that its TAPs have. A link whose TAP is another
 * container's is refused by that container's name. */
void network_plan_make(const struct net_config *c, const struct vmm_nics *have, const char *owner,
		       struct network_plan *p);
void network_plan_free(struct network_plan *p);
#define cleanup_network_plan __attribute__((cleanup(network_plan_free)))

/* Whose TAP the link has, a container's id; NULL: it has none. */
const char *network_tap_owner(const struct net_config *c, unsigned link);
bool network_owns(const char *whose, const char *container);

/* A card's id in the machine, and the link's index in it (0: it is none of ours). */
void network_card_id(unsigned link, char id[VMM_NIC_ID_MAX + 1]);
unsigned network_card_link(const char *id);

/* Takes everything out of `c` that is not about loopback and the links that `kept` says, so that
 * the rest can be the guest's. */
void network_reduce(struct net_config *c, bool (*kept)(const void *arg, unsigned link),
		    const void *arg);
/* True if there is nothing in it but what a namespace has that nobody configured. */
bool network_is_bare(const struct net_config *c);

#endif
