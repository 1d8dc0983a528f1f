/*
 * network.h - the guest's network: which card is which link, and what each is to be like
 * (docs/agent-protocol.md, `network`).
 */
#ifndef HUSK_AGENT_NETWORK_H
#define HUSK_AGENT_NETWORK_H

#include "agent/proto.h"
#include "lib/error.h"

#define CARD_WAIT_US 2000000 /* how long a card may take to appear */

/* What the host has told so far. */
struct network;

struct network *network_new(void);
void network_free(struct network *n); /* NULL is allowed */

/* Before the first `network`: cards that are there already lose their drivers, in a process of its
 * own since that takes a while; once. */
void network_begin(struct network *n);

/* True if the cards of `want` are there, and nothing has to be waited for. */
bool network_is_there(const struct network *n, const struct proto_network *want);
/* In a worker that has *network_hiding(): waits (bounded) for that. */
int network_await(const struct network *n, const struct proto_network *want, struct error *err);
/* A descriptor that tells when network_begin()'s process is over; -1: it is. */
int *network_hiding(struct network *n);

/* Makes the guest's network like `want`, whose parts are taken over, with the cards that are there.
 * `named` is called when the interfaces are there and have their names and the host's sysctls,
 * before they have addresses. The error is the first one, names the object, and does not keep the
 * rest from being done. */
int network_apply(struct network *n, struct proto_network *want,
		  int (*named)(void *arg, struct error *err), void *arg, struct error *err);

/* Takes the drivers of cards away that no `network` has made a link's. Before a process begins: a
 * container has the interfaces that were given to it, and no others. */
void network_hide_spares(struct network *n);

#endif
