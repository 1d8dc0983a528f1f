/*
 * wiring.h - what tap.c, wire.c (tc) and bridge.c share. tap.h is what others use.
 */
#ifndef HUSK_NETNS_WIRING_H
#define HUSK_NETNS_WIRING_H

#include "netns/rtnl.h"
#include "netns/tap.h"

/* Of a link, what wiring needs to know. */
struct wlink {
	unsigned index, master;
	unsigned lower;	      /* the link that it sits on (vlan, macvlan) */
	bool lower_elsewhere; /* in another namespace */
	unsigned flags;	      /* IFF_* */
	unsigned mtu;
	uint16_t ipvlan_mode; /* IPVLAN_MODE_* */
	char name[IFNAMSIZ], kind[16], alias[256];
	uint8_t mac[6];
};

struct wlinks {
	struct wlink *v;
	size_t n;
};

int wlinks_read(struct rtnl *r, struct wlinks *w, struct error *err);
void wlinks_free(struct wlinks *w);
#define cleanup_wlinks __attribute__((cleanup(wlinks_free)))
const struct wlink *wlinks_find(const struct wlinks *w, unsigned index);
const struct wlink *wlinks_named(const struct wlinks *w, const char *name);

/* Names of ours for the link with this index. */
void tap_name(char name[IFNAMSIZ], unsigned index);
void bridge_name(char name[IFNAMSIZ], unsigned index);

bool wlink_is_tap(const struct wlink *l);    /* one of ours */
bool wlink_is_bridge(const struct wlink *l); /* one of ours */
/* Of this link; NULL if there is none. */
const struct wlink *wlinks_tap(const struct wlinks *w, unsigned index);
const struct wlink *wlinks_bridge(const struct wlinks *w, unsigned index);

/* rtnl_talk(), again and again for two seconds while the kernel says EBUSY or EAGAIN. */
int wiring_talk(struct rtnl *r, struct nlmsghdr *m, struct error *err);
/* A request that changes the link, which attributes may be put in. `change`: those of `flags` that
 * are meant. */
struct nlmsghdr *wiring_link(struct rtnl *r, unsigned index, unsigned flags, unsigned change);
/* Of /proc/sys/net, in the calling thread's namespace. A file that is not there is no error: the
 * kernel has not got what it is for. */
int wiring_sysctl(const char *value, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

struct wiring {
	struct rtnl *r;
	const struct wlinks *all;
	const struct wlink *link, *tap;
	const char *owner;
};

/* ---- wire.c */

/* `lacks` is the piece that this kernel has not got, when that is why it failed. What was made by
 * then stays, for unwire_tc(). */
int wire_tc(const struct wiring *w, const char **lacks, struct error *err);
/* What wire_tc() made for the link that has this index, or had it. */
int unwire_tc(struct rtnl *r, const struct wlinks *all, unsigned index, struct error *err);
/* The same for all links that have no TAP. */
int unwire_tc_dead(struct rtnl *r, const struct wlinks *all, struct error *err);

/* ---- bridge.c */
int wire_bridge(const struct wiring *w, struct error *err);
int unwire_bridge(struct rtnl *r, const struct wlinks *all, unsigned index, struct error *err);
/* The link's own address, as the bridge's alias keeps it. */
bool bridge_keeps_mac(const char *alias, uint8_t mac[6]);
/* NULL, or why a bridge does not do for this link. */
const char *bridge_unfit(const struct wlink *l);

#endif
