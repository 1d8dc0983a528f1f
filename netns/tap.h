/*
 * tap.h - TAPs of a microVM, and their wiring to a link of the container's network namespace.
 * docs/network.md has the picture.
 */
#ifndef HUSK_NETNS_TAP_H
#define HUSK_NETNS_TAP_H

#include "lib/error.h"
#include "netns/config.h"

/* How frames get from a link to its TAP and back. */
enum net_wiring {
	NET_WIRING_AUTO,   /* tc; bridge where the kernel has no tc and the link's kind allows it */
	NET_WIRING_TC,	   /* ingress qdiscs, u32 and mirred both ways */
	NET_WIRING_BRIDGE, /* a bridge with both as ports; the link gets another MAC address */
};

/* Prefix of the names of our TAPs and bridges; the link's index follows. */
#define TAP_PREFIX "husk-tap"
#define BRIDGE_PREFIX "husk-br"

struct tap_options {
	const char *owner; /* kept in the TAP's alias as "husk:OWNER": the container's id, as much
			    * of it as fits in 255 bytes */
	unsigned queues;   /* 1: no IFF_MULTI_QUEUE */
	enum net_wiring wiring;
};

/* Local ports of the namespace's own sockets while a TAP is wired: their answers are not the
 * guest's (an engine's name server asks others from inside the namespace). 1024 of them. */
#define NET_PORTS_FIRST 61440
#define NET_PORTS_LAST 62463

/* All of these work in the namespace of the calling thread. The caller opens /dev/net/tun (`tun`:
 * one descriptor for each queue, not attached yet) in this namespace: the TAP will be in the one
 * that the descriptor was opened in. */

/* Attaches tun[0..queues) to a new TAP for the link, with vnet header, without IFF_PERSIST: it goes
 * when the last descriptor is closed. It has the link's MTU, is up, and no address; IPv6 is off on
 * it. ERR_EXISTS: there is one already: `holder` (size bytes) gets its owner. */
int tap_make(const int *tun, const struct net_link *l, const struct tap_options *o, char *holder,
	     size_t size, struct error *err);
/* Redirects both ways. Leftovers are replaced; what was made when it fails is undone. EBUSY is
 * tried again for a while. ERR_UNSUPPORTED: the kernel cannot, or not with this kind of link. */
int tap_wire(const struct net_link *l, const struct tap_options *o, struct error *err);
/* What a TAP's MTU should be: the link's, as far as a TAP goes (68 to 65521). */
uint32_t tap_mtu(const struct net_link *l);
/* The TAP follows the link's MTU. */
int tap_set_mtu(const struct net_link *l, struct error *err);
/* Takes our filters, qdiscs, bridge, MAC address and port range away from the link, if they are
 * there; the TAP's own go with it. Nothing to do is no error, nor is a link that is gone. */
int tap_unwire(const struct net_link *l, struct error *err);
/* The same for every link of the namespace that has something of ours and no TAP (any more). */
int tap_unwire_dead(struct error *err);

/* True if the link is one of ours (a TAP, a bridge), which no guest gets. `owner` may be NULL. */
bool tap_is_ours(const struct net_link *l, const char **owner);
/* Makes a dump what it would be without us: TAPs and bridges of ours go, and a port of such a
 * bridge is no port, and has its own MAC address. */
void tap_hide(struct net_config *c);
/* True if a link of the dump (not hidden yet) has to be unwired and wired again: it was given
 * another MAC address, which a bridge of ours would take for its own. */
bool tap_is_stale(const struct net_config *c, const struct net_link *l);

#endif
