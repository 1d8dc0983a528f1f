/*
 * A move takes an interface down, and its addresses with it: the permanent ones are noted before,
 * as the messages in which the kernel tells them, and sent to the other namespace afterwards.
 */
#include "shim/net_devices.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/netns.h"
#include "netns/rtnl.h"

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>

#define ADDRESSES_MAX 1024 /* of one interface */
#define SELF_NETNS "/proc/thread-self/ns/net"

/* ---- names */

static const char *inner_name(const struct oci_net_device *d)
{
	return d->name ? d->name : d->host_name;
}

/* dev_valid_name() of the kernel. */
static bool is_name(const char *s)
{
	return *s && strlen(s) < IFNAMSIZ && strcmp(s, ".") != 0 && strcmp(s, "..") != 0 &&
	       !strpbrk(s, "/: \t\n\v\f\r%");
}

int net_devices_check(const struct oci_spec *spec, struct error *err)
{
	const struct oci_linux *l = &spec->lnx;

	for (size_t i = 0; i < l->n_net_devices; i++) {
		const struct oci_net_device *d = &l->net_devices[i];

		if (!is_name(d->host_name) || strcmp(d->host_name, "lo") == 0)
			return error_kind(err, ERR_INVALID,
					  "linux.netDevices[\"%s\"]: not the name of an interface "
					  "that can be moved",
					  d->host_name);
		if (!is_name(inner_name(d)) || strcmp(inner_name(d), "lo") == 0)
			return error_kind(err, ERR_INVALID,
					  "linux.netDevices[\"%s\"].name: \"%s\": not a name of an "
					  "interface",
					  d->host_name, d->name);
		for (size_t k = 0; k < i; k++)
			if (strcmp(inner_name(d), inner_name(&l->net_devices[k])) == 0)
				return error_kind(err, ERR_INVALID,
						  "linux.netDevices[\"%s\"].name: \"%s\" is there "
						  "twice",
						  d->host_name, inner_name(d));
	}
	return 0;
}

/* ---- addresses */

struct address {
	struct ifaddrmsg head;
	struct nlattr *attrs; /* malloc'ed copy of all of them */
	size_t len;
};

struct addresses {
	unsigned index;
	struct address v[ADDRESSES_MAX];
	size_t n;
};

static void addresses_free(struct addresses **a)
{
	for (size_t i = 0; *a && i < (*a)->n; i++)
		free((*a)->v[i].attrs);
	free(*a);
}

/* Those that somebody gave it: link-local ones and those of router advertisements come anew. */
static int note_address(const struct nlmsghdr *m, void *arg, struct error *err)
{
	const struct ifaddrmsg *head = mnl_nlmsg_get_payload(m);
	struct addresses *a = arg;
	struct address *to;

	if (m->nlmsg_type != RTM_NEWADDR || m->nlmsg_len < NLMSG_LENGTH(sizeof(*head)) ||
	    head->ifa_index != a->index || !(head->ifa_flags & IFA_F_PERMANENT) ||
	    head->ifa_scope != RT_SCOPE_UNIVERSE)
		return 0;
	if (a->n == ADDRESSES_MAX)
		return error_set(err, "more than %d addresses", ADDRESSES_MAX);
	to = &a->v[a->n++];
	to->head = *head;
	to->len = m->nlmsg_len - NLMSG_LENGTH(sizeof(*head));
	to->attrs = xcalloc(1, to->len + 1);
	memcpy(to->attrs, (const char *)head + NLMSG_ALIGN(sizeof(*head)), to->len);
	return 0;
}

static int note_addresses(struct rtnl *r, struct addresses *a, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_GETADDR, 0);

	rtnl_header(m, sizeof(struct ifaddrmsg));
	return rtnl_dump(r, m, note_address, a, err);
}

static int give_address(struct rtnl *r, unsigned index, const struct address *a, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	struct ifaddrmsg *head = rtnl_header(m, sizeof(*head));
	const struct nlattr *at = a->attrs;
	int left = (int)a->len;

	*head = a->head;
	head->ifa_index = index;
	for (; mnl_attr_ok(at, left); left -= MNL_ALIGN(at->nla_len), at = mnl_attr_next(at))
		if (mnl_attr_get_type(at) != IFA_CACHEINFO)
			rtnl_put(m, mnl_attr_get_type(at), mnl_attr_get_payload(at),
				 mnl_attr_get_payload_len(at));
	/* It is there already: an address that the kernel gave. */
	return rtnl_talk(r, m, err);
}

/* ---- a move */

static int set_up(struct rtnl *r, unsigned index, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, 0);
	struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));

	ifi->ifi_index = (int)index;
	ifi->ifi_flags = ifi->ifi_change = IFF_UP;
	return rtnl_talk(r, m, err);
}

/* The name goes along: another interface there may have this one's. */
static int change_namespace(struct rtnl *r, unsigned index, int netns, const char *name,
			    struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, 0);
	struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));

	ifi->ifi_index = (int)index;
	rtnl_put_u32(m, IFLA_NET_NS_FD, (uint32_t)netns);
	rtnl_put_str(m, IFLA_IFNAME, name);
	return rtnl_talk(r, m, err);
}

/* From the calling thread's namespace; `to` and `path` are the other one. */
static int move_one(const char *from_name, const char *to_name, int to, const char *path,
		    struct error *err)
{
	cleanup_rtnl struct rtnl *here = rtnl_open(err);
	cleanup_rtnl struct rtnl *there = NULL;
	__attribute__((cleanup(addresses_free))) struct addresses *a = xcalloc(1, sizeof(*a));
	cleanup_netns int home = -1;
	unsigned index;

	if (!here)
		return -1;
	a->index = if_nametoindex(from_name);
	if (!a->index)
		return error_errno(err, "there is no such interface");
	if (note_addresses(here, a, err) < 0 ||
	    change_namespace(here, a->index, to, to_name, err) < 0)
		return -1;
	if (netns_enter(path, &home, err) < 0)
		return -1;
	there = rtnl_open(err);
	index = if_nametoindex(to_name);
	if (!there || !index)
		return error_errno(err, "after the move");
	for (size_t i = 0; i < a->n; i++)
		if (give_address(there, index, &a->v[i], err) < 0)
			return error_wrap(err, "address %zu", i);
	return set_up(there, index, err);
}

static int move(const struct oci_net_device *d, bool back, int to, const char *path,
		struct error *err)
{
	const char *from_name = back ? inner_name(d) : d->host_name;
	const char *to_name = back ? d->host_name : inner_name(d);

	if (move_one(from_name, to_name, to, path, err) < 0)
		return error_wrap(err, "linux.netDevices[\"%s\"]", d->host_name);
	return 0;
}

/* The first `n` devices, from the namespace at `netns` to ours. */
static void bring_back(const struct oci_spec *spec, size_t n, const char *netns, bool all)
{
	cleanup_close int ours = open(SELF_NETNS, O_RDONLY | O_CLOEXEC);
	cleanup_free char *path = xasprintf("/proc/self/fd/%d", ours);
	struct error err = ERROR_INIT;
	cleanup_netns int home = -1;

	if (ours < 0 || netns_enter(netns, &home, &err) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		const struct oci_net_device *d = &spec->lnx.net_devices[i];

		if (if_nametoindex(inner_name(d)) && move(d, true, ours, path, &err) < 0 && all)
			log_warn("%s", err.msg);
		err = (struct error)ERROR_INIT;
	}
}

int net_devices_move(const struct oci_spec *spec, const char *netns, struct error *err)
{
	cleanup_close int to = -1;

	if (spec->lnx.n_net_devices == 0)
		return 0;
	to = open(netns, O_RDONLY | O_CLOEXEC);
	if (to < 0)
		return error_errno(err, "linux.netDevices: open %s", netns);
	for (size_t i = 0; i < spec->lnx.n_net_devices; i++) {
		if (move(&spec->lnx.net_devices[i], false, to, netns, err) == 0)
			continue;
		bring_back(spec, i + 1, netns, false);
		return -1;
	}
	return 0;
}

void net_devices_return(const struct oci_spec *spec, const char *netns)
{
	if (spec->lnx.n_net_devices > 0)
		bring_back(spec, spec->lnx.n_net_devices, netns, true);
}
