/*
 * The part of libmnl that netns/ uses, for the guest's agent: it is static, and Debian has libmnl
 * as a shared library only. Everything else links the library itself, and its tests hold for both:
 * the functions do what <libmnl/libmnl.h> and its manual say of them.
 */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mnl_socket {
	int fd;
};

/* ---- sockets */

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	struct mnl_socket *nl = malloc(sizeof(*nl));

	if (!nl)
		return NULL;
	nl->fd = socket(AF_NETLINK, SOCK_RAW | flags, bus);
	if (nl->fd >= 0)
		return nl;
	free(nl);
	return NULL;
}

int mnl_socket_close(struct mnl_socket *nl)
{
	int r = close(nl->fd);

	free(nl);
	return r;
}

int mnl_socket_get_fd(const struct mnl_socket *nl)
{
	return nl->fd;
}

/* The kernel chooses the port when nobody else does. */
int mnl_socket_bind(struct mnl_socket *nl, unsigned int groups, pid_t pid)
{
	const struct sockaddr_nl a = {
		.nl_family = AF_NETLINK, .nl_groups = groups, .nl_pid = (unsigned)pid};

	return bind(nl->fd, (const struct sockaddr *)&a, sizeof(a));
}

int mnl_socket_setsockopt(const struct mnl_socket *nl, int type, void *buf, socklen_t len)
{
	return setsockopt(nl->fd, SOL_NETLINK, type, buf, len);
}

ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *req, size_t size)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	return sendto(nl->fd, req, size, 0, (const struct sockaddr *)&kernel, sizeof(kernel));
}

/* ---- messages */

struct nlmsghdr *mnl_nlmsg_put_header(void *buf)
{
	struct nlmsghdr *m = buf;

	*m = (struct nlmsghdr){.nlmsg_len = MNL_NLMSG_HDRLEN};
	return m;
}

void *mnl_nlmsg_get_payload_tail(const struct nlmsghdr *m)
{
	return (char *)(uintptr_t)m + MNL_ALIGN(m->nlmsg_len);
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *m, size_t size)
{
	char *at = (char *)m + m->nlmsg_len;
	size_t padded = MNL_ALIGN(size);

	m->nlmsg_len += (uint32_t)padded;
	return memset(at, 0, padded);
}

bool mnl_nlmsg_ok(const struct nlmsghdr *m, int len)
{
	return len >= (int)sizeof(*m) && m->nlmsg_len >= sizeof(*m) &&
	       m->nlmsg_len <= (unsigned)len;
}

struct nlmsghdr *mnl_nlmsg_next(const struct nlmsghdr *m, int *len)
{
	*len -= (int)MNL_ALIGN(m->nlmsg_len);
	return mnl_nlmsg_get_payload_tail(m);
}

void *mnl_nlmsg_get_payload(const struct nlmsghdr *m)
{
	return (char *)(uintptr_t)m + MNL_NLMSG_HDRLEN;
}

void *mnl_nlmsg_get_payload_offset(const struct nlmsghdr *m, size_t offset)
{
	return (char *)(uintptr_t)m + MNL_NLMSG_HDRLEN + MNL_ALIGN(offset);
}

size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *m)
{
	return m->nlmsg_len - MNL_NLMSG_HDRLEN;
}

/* ---- attributes */

uint16_t mnl_attr_get_type(const struct nlattr *a)
{
	return a->nla_type & NLA_TYPE_MASK;
}

uint16_t mnl_attr_get_len(const struct nlattr *a)
{
	return a->nla_len;
}

uint16_t mnl_attr_get_payload_len(const struct nlattr *a)
{
	return (uint16_t)(a->nla_len - MNL_ATTR_HDRLEN);
}

void *mnl_attr_get_payload(const struct nlattr *a)
{
	return (char *)(uintptr_t)a + MNL_ATTR_HDRLEN;
}

bool mnl_attr_ok(const struct nlattr *a, int len)
{
	return len >= (int)sizeof(*a) && a->nla_len >= sizeof(*a) && (int)a->nla_len <= len;
}

struct nlattr *mnl_attr_next(const struct nlattr *a)
{
	return (void *)((char *)(uintptr_t)a + MNL_ALIGN(a->nla_len));
}

void mnl_attr_put(struct nlmsghdr *m, uint16_t type, size_t len, const void *data)
{
	struct nlattr *a = mnl_nlmsg_get_payload_tail(m);
	size_t padded = MNL_ALIGN(len);

	a->nla_type = type;
	a->nla_len = (uint16_t)(MNL_ATTR_HDRLEN + len);
	memset((char *)a + MNL_ATTR_HDRLEN, 0, padded);
	if (len)
		memcpy((char *)a + MNL_ATTR_HDRLEN, data, len);
	m->nlmsg_len += (uint32_t)(MNL_ATTR_HDRLEN + padded);
}

struct nlattr *mnl_attr_nest_start(struct nlmsghdr *m, uint16_t type)
{
	struct nlattr *a = mnl_nlmsg_get_payload_tail(m);

	a->nla_type = type | NLA_F_NESTED;
	m->nlmsg_len += MNL_ATTR_HDRLEN;
	return a;
}

void mnl_attr_nest_end(struct nlmsghdr *m, struct nlattr *start)
{
	start->nla_len = (uint16_t)((char *)mnl_nlmsg_get_payload_tail(m) - (char *)start);
}
