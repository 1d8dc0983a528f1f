/*
 * tap.c - makes the TAPs of a microVM in its container's network namespace, and has them wired
 * (wire.c, bridge.c).
 *
 * A TAP bears its link's index in its name, so that one is found by the other without any record.
 */
#include "netns/tap.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/attr.h"
#include "netns/wiring.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/pkt_sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#define PATIENCE_US 2000000u
#define PAUSE_NS 2000000

#define ALIAS_PREFIX "husk:"
#define MTU_MIN 68u
#define MTU_MAX 65521u /* of a TAP: 65535 without the Ethernet header */
#define QUEUE 1000     /* packets that the guest has not fetched yet, of each queue */

/* ---- what wire.c and bridge.c need, too */

/* More digits than a name has room for are written in base 36. */
static void name_for(char name[IFNAMSIZ], const char *prefix, unsigned index)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	char text[8] = "x";

	if (index <= 9999999) {
		snprintf(name, IFNAMSIZ, "%s%u", prefix, index);
		return;
	}
	for (unsigned i = 6; i > 0; i--, index /= 36)
		text[i] = digits[index % 36];
	snprintf(name, IFNAMSIZ, "%s%s", prefix, text);
}

void tap_name(char name[IFNAMSIZ], unsigned index)
{
	name_for(name, TAP_PREFIX, index);
}

void bridge_name(char name[IFNAMSIZ], unsigned index)
{
	name_for(name, BRIDGE_PREFIX, index);
}

static bool begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool wlink_is_tap(const struct wlink *l)
{
	return begins(l->name, TAP_PREFIX) && strcmp(l->kind, "tun") == 0;
}

bool wlink_is_bridge(const struct wlink *l)
{
	return begins(l->name, BRIDGE_PREFIX) && strcmp(l->kind, "bridge") == 0;
}

const struct wlink *wlinks_tap(const struct wlinks *w, unsigned index)
{
	char name[IFNAMSIZ];
	const struct wlink *l;

	tap_name(name, index);
	l = wlinks_named(w, name);
	return l && wlink_is_tap(l) ? l : NULL;
}

const struct wlink *wlinks_bridge(const struct wlinks *w, unsigned index)
{
	char name[IFNAMSIZ];
	const struct wlink *l;

	bridge_name(name, index);
	l = wlinks_named(w, name);
	return l && wlink_is_bridge(l) ? l : NULL;
}

int wiring_talk(struct rtnl *r, struct nlmsghdr *m, struct error *err)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	uint64_t end = now_us() + PATIENCE_US;
	struct error e = ERROR_INIT;

	while (rtnl_talk(r, m, &e) < 0) {
		if ((e.errnum == EBUSY || e.errnum == EAGAIN) && now_us() < end) {
			nanosleep(&pause, NULL);
			continue;
		}
		if (err)
			*err = e;
		return -1;
	}
	return 0;
}

struct nlmsghdr *wiring_link(struct rtnl *r, unsigned index, unsigned flags, unsigned change)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, 0);
	struct ifinfomsg *i = rtnl_header(m, sizeof(*i));

	i->ifi_index = (int)index;
	i->ifi_flags = flags;
	i->ifi_change = change;
	return m;
}

int wiring_sysctl(const char *value, struct error *err, const char *fmt, ...)
{
	cleanup_free char *path = NULL, *file = NULL;
	cleanup_close int fd = -1;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&file, fmt, ap);
	va_end(ap);
	if (n < 0)
		return error_set(err, "out of memory");
	path = xasprintf("/proc/sys/net/%s", file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return error_errno(err, "open %s", path);
	if (write(fd, value, strlen(value)) < 0)
		return error_errno(err, "write %s to %s", value, path);
	return 0;
}

/* ---- links */

/* What cannot be read is as if it were not there: these are the kernel's messages. */
static void read_info(struct wlink *l, const struct attr *info)
{
	struct attr a[IFLA_INFO_DATA + 1], d[IFLA_IPVLAN_MODE + 1];

	if (!attrs_nested(info, a, ARRAY_LEN(a)) ||
	    !attr_string(&a[IFLA_INFO_KIND], l->kind, sizeof(l->kind)))
		return;
	if (strcmp(l->kind, "ipvlan") == 0 && attrs_nested(&a[IFLA_INFO_DATA], d, ARRAY_LEN(d)))
		attr_struct(&d[IFLA_IPVLAN_MODE], &l->ipvlan_mode, sizeof(l->ipvlan_mode));
}

static int on_link(const struct nlmsghdr *m, void *arg, struct error *err)
{
	struct wlinks *w = arg;
	struct attr a[IFLA_LINK_NETNSID + 1];
	const struct ifinfomsg *i;
	struct message msg;
	struct wlink *l;

	if (m->nlmsg_type != RTM_NEWLINK || !message_open(m, m->nlmsg_len, sizeof(*i), &msg) ||
	    !attrs_find(msg.attrs, msg.len, a, ARRAY_LEN(a)))
		return 0;
	l = realloc(w->v, (w->n + 1) * sizeof(*l));
	if (!l)
		return error_set(err, "out of memory");
	w->v = l;
	l += w->n++;
	i = msg.header;
	*l = (struct wlink){.index = (unsigned)i->ifi_index, .flags = i->ifi_flags};
	attr_string(&a[IFLA_IFNAME], l->name, sizeof(l->name));
	attr_string(&a[IFLA_IFALIAS], l->alias, sizeof(l->alias));
	attr_u32(&a[IFLA_MTU], &l->mtu);
	attr_u32(&a[IFLA_MASTER], &l->master);
	attr_u32(&a[IFLA_LINK], &l->lower);
	l->lower_elsewhere = a[IFLA_LINK_NETNSID].data != NULL;
	if (a[IFLA_ADDRESS].len == sizeof(l->mac))
		memcpy(l->mac, a[IFLA_ADDRESS].data, sizeof(l->mac));
	read_info(l, &a[IFLA_LINKINFO]);
	return 0;
}

int wlinks_read(struct rtnl *r, struct wlinks *w, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_GETLINK, 0);

	rtnl_header(m, sizeof(struct ifinfomsg));
	if (rtnl_dump(r, m, on_link, w, err) < 0)
		return error_wrap(err, "list links");
	return 0;
}

void wlinks_free(struct wlinks *w)
{
	free(w->v);
}

const struct wlink *wlinks_find(const struct wlinks *w, unsigned index)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].index == index)
			return &w->v[i];
	return NULL;
}

const struct wlink *wlinks_named(const struct wlinks *w, const char *name)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->v[i].name, name) == 0)
			return &w->v[i];
	return NULL;
}

static const char *owner_in(const char *alias)
{
	const char *p = strstr(alias, ALIAS_PREFIX);

	return p ? p + strlen(ALIAS_PREFIX) : "";
}

bool tap_is_ours(const struct net_link *l, const char **owner)
{
	bool ours = (begins(l->name, TAP_PREFIX) && l->kind == NET_KIND_TAP) ||
		    (begins(l->name, BRIDGE_PREFIX) && l->kind == NET_KIND_BRIDGE);

	if (ours && owner)
		*owner = owner_in(l->alias);
	return ours;
}

/* The bridge of ours that the link is a port of; NULL: none. */
static const struct net_link *our_bridge(const struct net_config *c, const struct net_link *l)
{
	const struct net_link *master = l->master ? net_config_link(c, l->master) : NULL;

	return master && !tap_is_ours(l, NULL) && tap_is_ours(master, NULL) ? master : NULL;
}

bool tap_is_stale(const struct net_config *c, const struct net_link *l)
{
	const struct net_link *bridge = our_bridge(c, l);

	return bridge && memcmp(bridge->mac, l->mac, sizeof(l->mac)) != 0;
}

uint32_t tap_mtu(const struct net_link *l)
{
	return l->mtu < MTU_MIN ? MTU_MIN : l->mtu < MTU_MAX ? l->mtu : MTU_MAX;
}

void tap_hide(struct net_config *c)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->n_links; i++) {
		struct net_link *l = &c->links[i];
		const struct net_link *bridge = our_bridge(c, l);

		if (!bridge)
			continue;
		if (!tap_is_stale(c, l))
			bridge_keeps_mac(bridge->alias, l->mac);
		l->master = 0;
	}
	for (size_t i = 0; i < c->n_links; i++) {
		if (tap_is_ours(&c->links[i], NULL))
			free(c->links[i].addresses);
		else
			c->links[kept++] = c->links[i];
	}
	c->n_links = kept;
}

/* ---- making */

static int held(const char *name, char *holder, size_t size, struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	cleanup_wlinks struct wlinks all = {0};
	const struct wlink *l;

	if (!r || wlinks_read(r, &all, err) < 0)
		return -1;
	l = wlinks_named(&all, name);
	snprintf(holder, size, "%s", l ? owner_in(l->alias) : "");
	return error_kind(err, ERR_EXISTS, "%s is there already%s%s", name,
			  holder[0] ? ": container " : "", holder);
}

static int attach(const int *tun, unsigned queues, const char *name, struct error *err)
{
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

	if (queues > 1)
		flags |= IFF_MULTI_QUEUE;
	for (unsigned i = 0; i < queues; i++) {
		struct ifreq r = {.ifr_flags = flags};

		/* The first one makes it: another's TAP of this name is not to be joined. */
		if (i == 0)
			r.ifr_flags = (short)((unsigned short)flags | IFF_TUN_EXCL);
		snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
		if (ioctl(tun[i], TUNSETIFF, &r) < 0)
			return error_errno(err, "make TAP %s (queue %u of %u)", name, i + 1,
					   queues);
	}
	return 0;
}

/* A TAP never says that it is full, so a queue before its own is work for nothing. */
static void no_queue(struct rtnl *r, unsigned index)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE);
	struct tcmsg *tc = rtnl_header(m, sizeof(*tc));

	tc->tcm_ifindex = (int)index;
	tc->tcm_parent = TC_H_ROOT;
	rtnl_put_str(m, TCA_KIND, "noqueue");
	(void)wiring_talk(r, m, NULL);
}

static int set_up(struct rtnl *r, const char *name, const struct net_link *l, const char *owner,
		  struct error *err)
{
	unsigned index = if_nametoindex(name);
	char alias[sizeof(((struct wlink *)0)->alias)];
	struct nlmsghdr *m = wiring_link(r, index, 0, 0);

	if (index == 0)
		return error_errno(err, "TAP %s", name);
	snprintf(alias, sizeof(alias), ALIAS_PREFIX "%s", owner);
	rtnl_put(m, IFLA_IFALIAS, alias, strlen(alias));
	rtnl_put_u32(m, IFLA_MTU, tap_mtu(l));
	rtnl_put_u32(m, IFLA_TXQLEN, QUEUE);
	/* Without IPv6 before it is up: the guest's first frame shall be its own. */
	if (wiring_talk(r, m, err) < 0 ||
	    wiring_sysctl("1", err, "ipv6/conf/%s/disable_ipv6", name) < 0 ||
	    wiring_talk(r, wiring_link(r, index, IFF_UP, IFF_UP), err) < 0)
		return error_wrap(err, "TAP %s", name);
	no_queue(r, index);
	return 0;
}

static void remove_link(struct rtnl *r, const char *name)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_DELLINK, 0);

	rtnl_header(m, sizeof(struct ifinfomsg));
	rtnl_put_str(m, IFLA_IFNAME, name);
	(void)wiring_talk(r, m, NULL);
}

int tap_make(const int *tun, const struct net_link *l, const struct tap_options *o, char *holder,
	     size_t size, struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	struct error e = ERROR_INIT;
	char name[IFNAMSIZ];

	if (!r)
		return -1;
	tap_name(name, l->index);
	if (attach(tun, o->queues, name, &e) < 0) {
		if (e.errnum == EBUSY)
			return held(name, holder, size, err);
		if (err)
			*err = e;
		return error_wrap(err, "link %s", l->name);
	}
	if (set_up(r, name, l, o->owner, err) == 0)
		return 0;
	remove_link(r, name);
	return error_wrap(err, "link %s", l->name);
}

int tap_set_mtu(const struct net_link *l, struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	cleanup_wlinks struct wlinks all = {0};
	const struct wlink *ours[2];

	if (!r || wlinks_read(r, &all, err) < 0)
		return -1;
	ours[0] = wlinks_tap(&all, l->index);
	ours[1] = wlinks_bridge(&all, l->index);
	for (unsigned i = 0; i < ARRAY_LEN(ours); i++) {
		struct nlmsghdr *m;

		if (!ours[i])
			continue;
		m = wiring_link(r, ours[i]->index, 0, 0);
		rtnl_put_u32(m, IFLA_MTU, i == 0 ? tap_mtu(l) : l->mtu);
		if (wiring_talk(r, m, err) < 0)
			return error_wrap(err, "link %s: MTU %u of %s", l->name, l->mtu,
					  ours[i]->name);
	}
	return 0;
}

/* ---- wiring */

static int unwire(struct rtnl *r, const struct wlinks *all, unsigned index, struct error *err)
{
	int bridge = unwire_bridge(r, all, index, err);

	return unwire_tc(r, all, index, err) < 0 ? -1 : bridge;
}

/* What is there now, not what was read before something was made. */
static void unwire_again(struct rtnl *r, unsigned index)
{
	cleanup_wlinks struct wlinks all = {0};

	if (wlinks_read(r, &all, NULL) == 0)
		(void)unwire(r, &all, index, NULL);
}

static int wire_auto(const struct wiring *w, struct error *err)
{
	struct error e = ERROR_INIT;
	const char *lacks;

	if (wire_tc(w, &lacks, &e) == 0)
		return 0;
	unwire_again(w->r, w->link->index);
	if (err)
		*err = e;
	if (!lacks)
		return -1;
	if (bridge_unfit(w->link))
		return error_kind(err, ERR_UNSUPPORTED,
				  "this kernel has no %s, and a bridge cannot take its place: %s",
				  lacks, bridge_unfit(w->link));
	log_info("link %s: this kernel has no %s: a bridge takes its place", w->link->name, lacks);
	return wire_bridge(w, err);
}

static int wire(const struct wiring *w, enum net_wiring how, struct error *err)
{
	const char *lacks;

	switch (how) {
	case NET_WIRING_AUTO:
		return wire_auto(w, err);
	case NET_WIRING_BRIDGE:
		return wire_bridge(w, err);
	case NET_WIRING_TC:
		break;
	}
	if (wire_tc(w, &lacks, err) == 0)
		return 0;
	if (!lacks)
		return -1;
	return error_kind(err, ERR_UNSUPPORTED, "this kernel has no %s", lacks);
}

/* NULL, or why frames for the link do not pass its ingress. */
static const char *refusal(const struct wlink *l)
{
	if (strcmp(l->kind, "ipvlan") == 0 && l->ipvlan_mode == IPVLAN_MODE_L3S)
		return "an ipvlan in mode l3s has no frames to give to a guest: use mode l2 or l3";
	return NULL;
}

int tap_wire(const struct net_link *l, const struct tap_options *o, struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	cleanup_wlinks struct wlinks before = {0}, all = {0};
	struct wiring w = {.r = r, .all = &all, .owner = o->owner};

	/* Leftovers first: links are what they were then. */
	if (!r || wlinks_read(r, &before, err) < 0)
		return -1;
	if (unwire(r, &before, l->index, err) < 0)
		return error_wrap(err, "link %s", l->name);
	if (wlinks_read(r, &all, err) < 0)
		return -1;
	w.link = wlinks_find(&all, l->index);
	w.tap = wlinks_tap(&all, l->index);
	if (!w.link)
		return error_kind(err, ERR_NOT_FOUND, "link %s is gone", l->name);
	if (!w.tap)
		return error_kind(err, ERR_NOT_FOUND, "link %s has no TAP", l->name);
	if (refusal(w.link))
		return error_kind(err, ERR_UNSUPPORTED, "link %s: %s", l->name, refusal(w.link));
	if (wire(&w, o->wiring, err) == 0)
		return 0;
	unwire_again(r, l->index);
	return error_wrap(err, "wire link %s", l->name);
}

int tap_unwire(const struct net_link *l, struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	cleanup_wlinks struct wlinks all = {0};

	if (!r || wlinks_read(r, &all, err) < 0)
		return -1;
	if (unwire(r, &all, l->index, err) < 0)
		return error_wrap(err, "unwire link %s", l->name);
	return 0;
}

/* The link whose bridge this is, by its name; 0: it is gone. */
static unsigned bridged(const struct wlinks *all, const struct wlink *bridge)
{
	for (size_t i = 0; i < all->n; i++)
		if (wlinks_bridge(all, all->v[i].index) == bridge)
			return all->v[i].index;
	return 0;
}

int tap_unwire_dead(struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	cleanup_wlinks struct wlinks all = {0};
	int result = 0;

	if (!r || wlinks_read(r, &all, err) < 0)
		return -1;
	for (size_t i = 0; i < all.n; i++) {
		const struct wlink *l = &all.v[i];
		unsigned index;

		if (!wlink_is_bridge(l))
			continue;
		index = bridged(&all, l);
		if (index == 0)
			remove_link(r, l->name);
		else if (!wlinks_tap(&all, index) && unwire_bridge(r, &all, index, err) < 0)
			result = -1;
	}
	return unwire_tc_dead(r, &all, err) < 0 ? -1 : result;
}
