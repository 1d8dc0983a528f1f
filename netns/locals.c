#include "netns/locals.h"
#include "lib/cleanup.h"

#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <string.h>

struct taken {
	struct net_local *list;
	size_t n;
};

static void take_attribute(struct net_local *l, unsigned type, const char *data, size_t len)
{
	if (type == IFLA_IFNAME && len > 0 && len <= IFNAMSIZ)
		snprintf(l->name, sizeof(l->name), "%.*s", (int)len, data);
	else if (type == IFLA_ADDRESS && len == sizeof(l->mac))
		memcpy(l->mac, data, len);
	else if (type == IFLA_MTU && len == sizeof(l->mtu))
		memcpy(&l->mtu, data, len);
	else if (type == IFLA_PERM_ADDRESS && len == sizeof(l->own_mac)) {
		memcpy(l->own_mac, data, len);
		l->has_own_mac = true;
	}
}

static int on_link(const struct nlmsghdr *m, void *arg, struct error *err)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(m);
	struct taken *t = arg;
	struct net_local *more;
	const struct nlattr *a;

	if (m->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(m) < sizeof(*ifi))
		return 0;
	more = reallocarray(t->list, t->n + 1, sizeof(*more));
	if (!more)
		return error_set(err, "out of memory");
	t->list = more;
	more[t->n] = (struct net_local){
		.index = (unsigned)ifi->ifi_index, .type = ifi->ifi_type, .flags = ifi->ifi_flags};
	mnl_attr_for_each(a, m, sizeof(*ifi))
	{
		take_attribute(&more[t->n], mnl_attr_get_type(a), mnl_attr_get_payload(a),
			       mnl_attr_get_payload_len(a));
	}
	t->n++;
	return 0;
}

int net_locals(struct rtnl *nl, struct net_local **list, size_t *n, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(nl, RTM_GETLINK, 0);
	struct taken t = {0};

	rtnl_header(m, sizeof(struct ifinfomsg));
	if (rtnl_dump(nl, m, on_link, &t, err) < 0) {
		free(t.list);
		return error_wrap(err, "list links");
	}
	*list = t.list;
	*n = t.n;
	return 0;
}
