#include "netns/attr.h"

#include <libmnl/libmnl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <string.h>

/* mnl_nlmsg_ok() takes lengths of 2 GiB and more for negative ones. */
bool message_ok(const struct nlmsghdr *h, int len)
{
	return len >= (int)sizeof(*h) && h->nlmsg_len <= (unsigned)len && mnl_nlmsg_ok(h, len);
}

bool message_open(const void *msg, size_t len, size_t size, struct message *m)
{
	const struct nlmsghdr *h = msg;

	if (len > INT_MAX || !message_ok(h, (int)len) ||
	    mnl_nlmsg_get_payload_len(h) < MNL_ALIGN(size))
		return false;
	m->type = h->nlmsg_type;
	m->header = mnl_nlmsg_get_payload(h);
	m->attrs = mnl_nlmsg_get_payload_offset(h, size);
	m->len = mnl_nlmsg_get_payload_len(h) - MNL_ALIGN(size);
	return true;
}

bool attrs_find(const uint8_t *data, size_t len, struct attr *found, unsigned n)
{
	const struct nlattr *a = (const void *)data;

	memset(found, 0, n * sizeof(*found));
	while (len > 0) {
		size_t whole;

		if (len > INT_MAX || !mnl_attr_ok(a, (int)len))
			return false;
		if (mnl_attr_get_type(a) < n)
			found[mnl_attr_get_type(a)] =
				(struct attr){mnl_attr_get_payload(a), mnl_attr_get_payload_len(a)};
		/* The last one need not be padded. */
		whole = MNL_ALIGN(mnl_attr_get_len(a));
		len -= whole < len ? whole : len;
		a = mnl_attr_next(a);
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
