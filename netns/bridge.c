/*
 * bridge.c - a link and its TAP are joined by a bridge, where a kernel has no traffic control.
 *
 * Theory of operation. The link and the TAP are the two ports of a bridge of ours. A bridge gives
 * frames for the address of one of its ports to the namespace's stack, so the link cannot keep the
 * address that the guest has: it gets the bridge's, and its own is kept in the bridge's alias,
 * where whoever undoes this finds it (a veth has no permanent address that the kernel would know).
 * The alias is written before the address is changed, and goes with the bridge, last. A link that
 * has another address than the bridge was given it by somebody else meanwhile, and keeps it.
 *
 * The namespace's stack must not answer in the guest's place. All that comes to it comes by the
 * bridge, since a port's frames never get there: the bridge has no IPv6 and no ARP (IFF_NOARP).
 * Nor must it ask: an ARP request with the guest's address and another Ethernet address makes
 * neighbours lose the guest. So the link has no probes of neighbours: sockets of the namespace find
 * the host unreachable. With tc they work; this is what the bridge way costs.
 *
 * Everything is forwarded that a bridge can be told to forward: no snooping, no spanning tree, and
 * link-local groups but the three that the kernel keeps for itself (spanning tree, pause, LACP).
 */
#include "netns/wiring.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <string.h>
#include <sys/random.h>

#define GROUPS 0xfff8u
#define MAC_PREFIX "husk-mac:"
#define MAC_FORMAT "%02hhx:%02hhx:%02hhx:%02hhx:%02hhx:%02hhx"

const char *bridge_unfit(const struct wlink *l)
{
	if (strcmp(l->kind, "macvlan") == 0 || strcmp(l->kind, "ipvlan") == 0)
		return "it takes frames for its own address alone";
	if (strcmp(l->kind, "bridge") == 0)
		return "a bridge is no port of another one";
	if (l->master != 0)
		return "it is a port of another link";
	return NULL;
}

bool bridge_keeps_mac(const char *alias, uint8_t mac[6])
{
	uint8_t m[6];

	if (sscanf(alias, MAC_PREFIX MAC_FORMAT, &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6)
		return false;
	memcpy(mac, m, sizeof(m));
	return true;
}

static int random_mac(uint8_t mac[6], struct error *err)
{
	if (getrandom(mac, 6, 0) != 6)
		return error_errno(err, "random address");
	mac[0] = (uint8_t)((mac[0] & ~1u) | 2); /* one station's, locally administered */
	return 0;
}

static int make_bridge(struct rtnl *r, const char *name, const uint8_t mac[6], struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *data;

	rtnl_header(m, sizeof(struct ifinfomsg));
	rtnl_put_str(m, IFLA_IFNAME, name);
	rtnl_put(m, IFLA_ADDRESS, mac, 6);
	info = rtnl_nest(m, IFLA_LINKINFO);
	rtnl_put_str(m, IFLA_INFO_KIND, "bridge");
	data = rtnl_nest(m, IFLA_INFO_DATA);
	rtnl_put_u32(m, IFLA_BR_FORWARD_DELAY, 0);
	rtnl_put_u32(m, IFLA_BR_STP_STATE, 0);
	rtnl_put_u16(m, IFLA_BR_GROUP_FWD_MASK, GROUPS);
	rtnl_nest_end(m, data);
	rtnl_nest_end(m, info);
	if (wiring_talk(r, m, err) < 0)
		return error_wrap(err, "make bridge %s", name);
	return 0;
}

/* A kernel without snooping has none to turn off. */
static void no_snooping(struct rtnl *r, unsigned index)
{
	struct nlmsghdr *m = wiring_link(r, index, 0, 0);
	struct nlattr *info = rtnl_nest(m, IFLA_LINKINFO), *data;

	rtnl_put_str(m, IFLA_INFO_KIND, "bridge");
	data = rtnl_nest(m, IFLA_INFO_DATA);
	rtnl_put_u8(m, IFLA_BR_MCAST_SNOOPING, 0);
	rtnl_nest_end(m, data);
	rtnl_nest_end(m, info);
	(void)wiring_talk(r, m, NULL);
}

static int set_alias(struct rtnl *r, unsigned index, const struct wiring *w, struct error *err)
{
	struct nlmsghdr *m = wiring_link(r, index, 0, 0);
	const uint8_t *a = w->link->mac;
	char alias[256];

	snprintf(alias, sizeof(alias), MAC_PREFIX MAC_FORMAT " husk:%s", a[0], a[1], a[2], a[3],
		 a[4], a[5], w->owner);
	rtnl_put(m, IFLA_IFALIAS, alias, strlen(alias));
	return wiring_talk(r, m, err);
}

static int set_master(struct rtnl *r, unsigned port, unsigned bridge, struct error *err)
{
	struct nlmsghdr *m = wiring_link(r, port, 0, 0);

	rtnl_put_u32(m, IFLA_MASTER, bridge);
	return wiring_talk(r, m, err);
}

static int set_mac(struct rtnl *r, unsigned index, const uint8_t mac[6], struct error *err)
{
	struct nlmsghdr *m = wiring_link(r, index, 0, 0);

	rtnl_put(m, IFLA_ADDRESS, mac, 6);
	if (wiring_talk(r, m, err) < 0)
		return error_wrap(err, "change its Ethernet address");
	return 0;
}

/* Whether the namespace's stack looks for neighbours on the link. */
static int set_probes(const char *link, bool on, struct error *err)
{
	const char *n = on ? "3" : "0"; /* the kernel's default */

	if (wiring_sysctl(n, err, "ipv4/neigh/%s/mcast_solicit", link) < 0 ||
	    wiring_sysctl(n, err, "ipv4/neigh/%s/ucast_solicit", link) < 0 ||
	    wiring_sysctl(n, err, "ipv6/neigh/%s/mcast_solicit", link) < 0 ||
	    wiring_sysctl(n, err, "ipv6/neigh/%s/ucast_solicit", link) < 0)
		return -1;
	return 0;
}

static int bridge_up(struct rtnl *r, const char *name, unsigned index, unsigned mtu,
		     struct error *err)
{
	struct nlmsghdr *m;

	if (wiring_sysctl("1", err, "ipv6/conf/%s/disable_ipv6", name) < 0)
		return -1;
	m = wiring_link(r, index, IFF_UP | IFF_NOARP, IFF_UP | IFF_NOARP);
	rtnl_put_u32(m, IFLA_MTU, mtu);
	return wiring_talk(r, m, err);
}

int wire_bridge(const struct wiring *w, struct error *err)
{
	const char *unfit = bridge_unfit(w->link);
	char name[IFNAMSIZ];
	unsigned index;
	uint8_t mac[6];

	if (unfit)
		return error_kind(err, ERR_UNSUPPORTED, "a bridge cannot wire this link: %s",
				  unfit);
	bridge_name(name, w->link->index);
	if (random_mac(mac, err) < 0 || make_bridge(w->r, name, mac, err) < 0)
		return -1;
	index = if_nametoindex(name);
	if (index == 0)
		return error_errno(err, "bridge %s", name);
	no_snooping(w->r, index);
	if (set_alias(w->r, index, w, err) < 0 ||
	    bridge_up(w->r, name, index, w->link->mtu, err) < 0 ||
	    set_master(w->r, w->tap->index, index, err) < 0)
		return error_wrap(err, "bridge %s", name);
	if (set_probes(w->link->name, false, err) < 0 ||
	    set_mac(w->r, w->link->index, mac, err) < 0 ||
	    set_master(w->r, w->link->index, index, err) < 0)
		return -1;
	return 0;
}

/* Gives the link back what it had. */
static int release(struct rtnl *r, const struct wlink *l, const struct wlink *bridge,
		   struct error *err)
{
	uint8_t mac[6];

	if (l->master == bridge->index && set_master(r, l->index, 0, err) < 0)
		return -1;
	if (!bridge_keeps_mac(bridge->alias, mac))
		return 0; /* it came no further than that */
	if (memcmp(l->mac, bridge->mac, sizeof(mac)) == 0 && set_mac(r, l->index, mac, err) < 0)
		return -1;
	return set_probes(l->name, true, err);
}

int unwire_bridge(struct rtnl *r, const struct wlinks *links, unsigned index, struct error *err)
{
	const struct wlink *bridge = wlinks_bridge(links, index), *l = wlinks_find(links, index);
	struct error e = ERROR_INIT;
	struct nlmsghdr *m;

	if (!bridge)
		return 0;
	if (l && release(r, l, bridge, &e) < 0 && e.errnum != ENODEV) {
		if (err)
			*err = e;
		return -1;
	}
	m = rtnl_request(r, RTM_DELLINK, 0);
	((struct ifinfomsg *)rtnl_header(m, sizeof(struct ifinfomsg)))->ifi_index =
		(int)bridge->index;
	if (wiring_talk(r, m, &e) == 0 || e.errnum == ENODEV)
		return 0;
	if (err)
		*err = e;
	return error_wrap(err, "remove bridge %s", bridge->name);
}
