#include "netns/attr.h"

#include <linux/netlink.h>
#include <string.h>

bool message_open(const void *msg, size_t len, size_t size, struct message *m)
{
	const struct nlmsghdr *h = msg;
	size_t before = NLMSG_HDRLEN + NLMSG_ALIGN(size);

	if (len < before || h->nlmsg_len < before || h->nlmsg_len > len)
		return false;
	m->type = h->nlmsg_type;
	m->header = (const uint8_t *)msg + NLMSG_HDRLEN;
	m->attrs = (const uint8_t *)msg + before;
	m->len = h->nlmsg_len - before;
	return true;
}

bool attrs_find(const uint8_t *data, size_t len, struct attr *found, unsigned n)
{
	memset(found, 0, n * sizeof(*found));
	while (len > 0) {
		struct nlattr a;
		size_t whole;

		if (len < sizeof(a))
			return false;
		memcpy(&a, data, sizeof(a));
		if (a.nla_len < sizeof(a) || a.nla_len > len)
			return false;
		a.nla_type &= NLA_TYPE_MASK;
		if (a.nla_type < n)
			found[a.nla_type] = (struct attr){data + sizeof(a), a.nla_len - sizeof(a)};
		/* The last one need not be padded. */
		whole = NLA_ALIGN(a.nla_len);
		if (whole >= len)
			return true;
		data += whole;
		len -= whole;
	}
	return true;
}

bool attrs_nested(const struct attr *a, struct attr *found, unsigned n)
{
	return attrs_find(a->data, a->len, found, n);
}

bool attr_u8(const struct attr *a, uint8_t *v)
{
	if (!a->data)
		return true;
	if (a->len != sizeof(*v))
		return false;
	*v = *a->data;
	return true;
}

bool attr_u32(const struct attr *a, uint32_t *v)
{
	if (!a->data)
		return true;
	if (a->len != sizeof(*v))
		return false;
	memcpy(v, a->data, sizeof(*v));
	return true;
}

bool attr_ip(const struct attr *a, uint8_t family, struct net_ip *ip)
{
	size_t size = net_ip_size(family);

	if (!a->data)
		return true;
	if (size == 0 || a->len != size)
		return false;
	*ip = (struct net_ip){.family = family};
	memcpy(ip->bytes, a->data, size);
	return true;
}

bool attr_struct(const struct attr *a, void *v, size_t size)
{
	if (!a->data)
		return true;
	if (a->len < size)
		return false;
	memcpy(v, a->data, size);
	return true;
}

bool attr_string(const struct attr *a, char *s, size_t size)
{
	size_t len;

	if (!a->data)
		return true;
	len = strnlen((const char *)a->data, a->len);
	if (len >= size)
		return false;
	memcpy(s, a->data, len);
	memset(s + len, 0, size - len);
	return true;
}

bool attr_prefix(const struct attr *a, uint8_t family, uint8_t len, struct net_prefix *p)
{
	size_t size = net_ip_size(family);

	if (len == 0)
		return true;
	if (!a->data || len > size * 8 || !attr_ip(a, family, &p->ip))
		return false;
	p->len = len;
	net_prefix_mask(p);
	return true;
}
