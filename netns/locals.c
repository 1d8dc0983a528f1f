#include "netns/locals.h"
#include "lib/cleanup.h"

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

static void take_attributes(struct net_local *l, const char *at, size_t left)
{
	while (left >= NLA_HDRLEN) {
		const struct nlattr *a = (const void *)at;
		size_t len = NLA_ALIGN(a->nla_len);

		if (a->nla_len < NLA_HDRLEN || a->nla_len > left)
			return;
		take_attribute(l, a->nla_type & NLA_TYPE_MASK, at + NLA_HDRLEN,
			       a->nla_len - (size_t)NLA_HDRLEN);
		if (len >= left)
			return;
		at += len;
		left -= len;
	}
}

static int on_link(const struct nlmsghdr *m, void *arg, struct error *err)
{
	const struct ifinfomsg *ifi = NLMSG_DATA(m);
	const size_t head = NLMSG_SPACE(sizeof(*ifi));
	struct taken *t = arg;
	struct net_local *more;

	if (m->nlmsg_type != RTM_NEWLINK || m->nlmsg_len < head)
		return 0;
	more = reallocarray(t->list, t->n + 1, sizeof(*more));
	if (!more)
		return error_set(err, "out of memory");
	t->list = more;
	more[t->n] = (struct net_local){
		.index = (unsigned)ifi->ifi_index, .type = ifi->ifi_type, .flags = ifi->ifi_flags};
	take_attributes(&more[t->n++], (const char *)m + head, m->nlmsg_len - head);
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
