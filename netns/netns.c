#include "netns/netns.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int netns_join(const char *path, struct error *err)
{
	/* Whatever is there: opening it must not wait, as a fifo does. */
	cleanup_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "open network namespace %s", path);
	if (setns(fd, CLONE_NEWNET) < 0)
		return error_errno(err, "%s: not a network namespace to join", path);
	return 0;
}

static int loopback_up(struct error *err)
{
	cleanup_close int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		return error_errno(err, "bring loopback up");
	return 0;
}

int netns_new(struct error *err)
{
	if (unshare(CLONE_NEWNET) < 0)
		return error_errno(err, "make a network namespace");
	return loopback_up(err);
}

int netns_enter(const char *path, int *home, struct error *err)
{
	cleanup_close int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (here < 0)
		return error_errno(err, "open /proc/thread-self/ns/net");
	if (netns_join(path, err) < 0)
		return -1;
	*home = steal_fd(&here);
	return 0;
}

void netns_leave(int *home)
{
	int saved = errno;

	if (*home < 0)
		return;
	if (setns(*home, CLONE_NEWNET) < 0) {
		log_error("cannot go back to the network namespace: %s", strerror(errno));
		_exit(1);
	}
	close_fd(home);
	errno = saved;
}

struct found {
	bool any;
	char *name;
};

static int on_link(const struct nlmsghdr *nlh, void *arg)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct found *f = arg;
	struct nlattr *a;

	if (f->any || !(ifi->ifi_flags & IFF_UP) || ifi->ifi_flags & IFF_LOOPBACK)
		return MNL_CB_OK;
	mnl_attr_for_each(a, nlh, sizeof(*ifi))
	{
		if (mnl_attr_get_type(a) != IFLA_IFNAME ||
		    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0)
			continue;
		snprintf(f->name, IF_NAMESIZE, "%s", mnl_attr_get_str(a));
		f->any = true;
	}
	return MNL_CB_OK;
}

static int dump_links(struct mnl_socket *nl, struct found *f, struct error *err)
{
	char buf[32768] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct rtgenmsg *g;
	int r = MNL_CB_OK;

	nlh->nlmsg_type = RTM_GETLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = 1;
	g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));
	g->rtgen_family = AF_UNSPEC;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return error_errno(err, "list links");
	while (r == MNL_CB_OK) {
		ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));

		if (n < 0)
			return error_errno(err, "list links");
		r = mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(nl), on_link, f);
	}
	return r < 0 ? error_errno(err, "list links") : 0;
}

int netns_first_link_up(const char *path, char name[16], struct error *err)
{
	cleanup_netns int home = -1;
	struct found f = {.name = name};
	struct mnl_socket *nl;
	int r;

	if (netns_enter(path, &home, err) < 0)
		return -1;
	/* A netlink socket belongs to the namespace that it was made in. */
	nl = mnl_socket_open(NETLINK_ROUTE);
	netns_leave(&home);
	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
		r = error_errno(err, "netlink socket");
	else
		r = dump_links(nl, &f, err);
	if (nl)
		mnl_socket_close(nl);
	return r < 0 ? -1 : f.any;
}
