#include "netns/watch.h"
#include "lib/cleanup.h"
#include "netns/attr.h"

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

/* What waits to be read; when it is full, messages are lost, and netns_watch_take() says so. */
#define BUFFER (512 << 10)
/* Somebody who changes things without end is not followed without end: the rest is there next time.
 */
#define TAKEN_AT_ONCE 16384

int netns_watch(struct error *err)
{
	static const int groups[] = {
		RTNLGRP_LINK,	     RTNLGRP_NEIGH,	 RTNLGRP_IPV4_IFADDR,
		RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
		RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,	 RTNLGRP_IPV6_IFINFO,
	};
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cleanup_close int fd = -1;
	const int nexthops = RTNLGRP_NEXTHOP, size = BUFFER;

	if (nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) == 0)
		fd = fcntl(mnl_socket_get_fd(nl), F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		error_errno(err, "watch the network namespace");
	if (nl)
		mnl_socket_close(nl);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	for (size_t i = 0; i < ARRAY_LEN(groups); i++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i],
			       sizeof(groups[i])) < 0)
			return error_errno(err, "watch the network namespace");
	/* Kernels before 5.3 have no such objects, nor news of them. */
	setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &nexthops, sizeof(nexthops));
	return steal_fd(&fd);
}

/* What the kernel makes for each address is told with the address. */
static bool is_route(const struct message *m)
{
	const struct rtmsg *rtm = m->header;

	return !(rtm->rtm_flags & RTM_F_CLONED) &&
	       !(rtm->rtm_table == RT_TABLE_LOCAL && rtm->rtm_protocol == RTPROT_KERNEL);
}

/* A permanent neighbour has become NUD_FAILED when it is deleted. So has a learned one that does
 * not answer, which is news of nothing, but seldom. */
static bool is_neighbour(const struct message *m)
{
	const struct ndmsg *nd = m->header;
	uint16_t states = NUD_PERMANENT;

	if (nd->ndm_family != AF_INET && nd->ndm_family != AF_INET6)
		return false;
	if (m->type == RTM_DELNEIGH)
		states |= NUD_FAILED;
	return nd->ndm_flags & NTF_PROXY || nd->ndm_state & states;
}

static bool is_news(const struct nlmsghdr *h, size_t len)
{
	struct message m;

	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		/* Bridges tell of their ports' states. */
		return message_open(h, len, sizeof(struct ifinfomsg), &m) &&
		       ((const struct ifinfomsg *)m.header)->ifi_family != AF_BRIDGE;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		return message_open(h, len, sizeof(struct rtmsg), &m) && is_route(&m);
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		return message_open(h, len, sizeof(struct ndmsg), &m) && is_neighbour(&m);
	case RTM_NEWADDR:
	case RTM_DELADDR:
	case RTM_NEWRULE:
	case RTM_DELRULE:
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		return true;
	default:
		return false;
	}
}

/* One datagram, which may have been cut: then what is behind is lost, and may have been news. */
static bool has_news(const char *buf, size_t whole, size_t room)
{
	const struct nlmsghdr *h = (const void *)buf;
	int left = (int)(whole < room ? whole : room);

	for (; message_ok(h, left); h = mnl_nlmsg_next(h, &left))
		if (is_news(h, (size_t)left))
			return true;
	return left > 0 || whole > room;
}

bool netns_watch_take(int fd, bool *gone)
{
	char buf[16384] __attribute__((aligned(8)));
	bool news = false;

	if (gone)
		*gone = false;
	for (unsigned i = 0; i < TAKEN_AT_ONCE; i++) {
		struct sockaddr_nl from = {0};
		socklen_t size = sizeof(from);
		ssize_t n =
			recvfrom(fd, buf, sizeof(buf), MSG_TRUNC, (struct sockaddr *)&from, &size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == ENOBUFS) {
			news = true;
			continue;
		}
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return news;
		if (n <= 0) {
			if (gone)
				*gone = true;
			return news;
		}
		if (from.nl_pid == 0 && !news)
			news = has_news(buf, (size_t)n, sizeof(buf));
	}
	return news;
}
