/*
 * dump.c - a whole configuration, asked of the kernel.
 *
 * One socket and seven dumps, each of a round trip or two. They are not one snapshot: a link may go
 * between the dump of the links and that of the routes, which then names a link that nobody knows.
 * Such a view is thrown away, and everything asked again. What changes without leaving a trace like
 * that is told by the watch (watch.h) afterwards.
 */
#include "netns/dump.h"
#include "lib/cleanup.h"
#include "netns/parse.h"
#include "netns/rtnl.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>

#define TRIES 16

struct dump {
	struct net_config config;
	struct nexthop_objects objects;
};

static int on_message(const struct nlmsghdr *m, void *arg, struct error *err)
{
	struct dump *d = arg;

	return parse_message(m, m->nlmsg_len, &d->config, &d->objects, err);
}

static int on_nexthop(const struct nlmsghdr *m, void *arg, struct error *err)
{
	struct dump *d = arg;

	return parse_nexthop(m, m->nlmsg_len, &d->objects, err);
}

static int dump_links(struct rtnl *r, struct dump *d, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_GETLINK, 0);

	rtnl_header(m, sizeof(struct ifinfomsg));
	rtnl_put_u32(m, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return rtnl_dump(r, m, on_message, d, err);
}

/* Kernels before 5.3, and small ones, have none. */
static int dump_nexthops(struct rtnl *r, struct dump *d, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_GETNEXTHOP, 0);
	struct error e = ERROR_INIT;

	rtnl_header(m, sizeof(struct nhmsg));
	if (rtnl_dump(r, m, on_nexthop, d, &e) == 0 || e.errnum == EOPNOTSUPP)
		return 0;
	if (err)
		*err = e;
	return -1;
}

static int dump_neighbours(struct rtnl *r, struct dump *d, uint8_t flags, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_GETNEIGH, 0);
	struct ndmsg *nd = rtnl_header(m, sizeof(*nd));

	nd->ndm_flags = flags;
	return rtnl_dump(r, m, on_message, d, err);
}

static int dump_all(struct rtnl *r, struct dump *d, struct error *err)
{
	static const struct {
		const char *what;
		uint16_t type;
		size_t header;
	} plain[] = {
		{"addresses", RTM_GETADDR, sizeof(struct ifaddrmsg)},
		{"routes", RTM_GETROUTE, sizeof(struct rtmsg)},
		{"rules", RTM_GETRULE, sizeof(struct fib_rule_hdr)},
	};

	if (dump_links(r, d, err) < 0)
		return error_wrap(err, "list links");
	if (dump_nexthops(r, d, err) < 0)
		return error_wrap(err, "list next hops");
	for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
		struct nlmsghdr *m = rtnl_request(r, plain[i].type, 0);

		rtnl_header(m, plain[i].header);
		if (rtnl_dump(r, m, on_message, d, err) < 0)
			return error_wrap(err, "list %s", plain[i].what);
	}
	if (dump_neighbours(r, d, 0, err) < 0 || dump_neighbours(r, d, NTF_PROXY, err) < 0)
		return error_wrap(err, "list neighbours");
	return 0;
}

/* IPv6 has the latest of a scope first, and prefers it as a source where nothing else decides. */
static void in_order_of_making(struct net_link *l)
{
	size_t i = 0, j = l->n_addresses;

	for (;;) {
		struct net_address a;

		while (i < j && l->addresses[i].local.ip.family != AF_INET6)
			i++;
		while (i < j && l->addresses[j - 1].local.ip.family != AF_INET6)
			j--;
		if (j - i < 2)
			return;
		a = l->addresses[i];
		l->addresses[i++] = l->addresses[--j];
		l->addresses[j] = a;
	}
}

int netns_dump(struct net_config *c, struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	struct error e = ERROR_INIT;

	if (!r)
		return -1;
	for (unsigned i = 0; i < TRIES; i++) {
		struct dump d = {0};
		int result = dump_all(r, &d, &e);

		nexthop_objects_free(&d.objects);
		if (result == 0) {
			for (size_t k = 0; k < d.config.n_links; k++)
				in_order_of_making(&d.config.links[k]);
			*c = d.config;
			return 0;
		}
		net_config_free(&d.config);
		if (e.kind != ERR_NOT_FOUND)
			break;
	}
	if (err)
		*err = e;
	return -1;
}
