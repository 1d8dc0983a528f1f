/*
 * rtnl.c - requests to the kernel's route socket, and what comes back.
 *
 * Theory of operation. The kernel works on a request inside sendto(2): when that returns, the
 * acknowledgement (NLMSG_ERROR, with error 0 when all is well) waits in the socket's buffer, after
 * messages that answer the request. A dump is longer than a buffer: the kernel makes the next part
 * while one is read, as large as the largest read was (32 KiB at most), and ends it with
 * NLMSG_DONE. So reads offer 32 KiB from the beginning; a message that is larger all the same (a
 * link with hundreds of names) is seen by peeking at its length first.
 *
 * Everything is collected first and handed out afterwards. A dump that was interrupted
 * (NLM_F_DUMP_INTR: the table changed between two parts, entries may be there twice or not at all)
 * then costs nobody an undo: it is thrown away, and taken again.
 *
 * Answers are told from leftovers by their sequence number. Nobody but the kernel (port 0) is
 * heard.
 */
#include "netns/rtnl.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/attr.h"

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

/* linux/netlink.h has them since 4.12 and 4.20; the header may be older than the kernel. */
#ifndef NETLINK_EXT_ACK
#define NETLINK_EXT_ACK 11
#endif
#ifndef NETLINK_GET_STRICT_CHK
#define NETLINK_GET_STRICT_CHK 12
#endif

#define PART 32768	/* what the kernel makes of a dump at once */
#define DUMP_TRIES 32	/* a table that changes all the time */
#define WAIT_SECONDS 10 /* the answer is there at once; this bounds a kernel that is wrong */

struct rtnl {
	struct mnl_socket *nl;
	uint32_t seq;
	char *in; /* what came: whole messages, one behind the other, each at a multiple of 4 */
	size_t len, size;
	bool interrupted;
	char request[RTNL_REQUEST_MAX] __attribute__((aligned(8)));
};

struct rtnl *rtnl_open(struct error *err)
{
	cleanup_rtnl struct rtnl *r = xcalloc(1, sizeof(*r));
	struct timeval wait = {.tv_sec = WAIT_SECONDS};
	int on = 1;

	r->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!r->nl || setsockopt(mnl_socket_get_fd(r->nl), SOL_SOCKET, SO_RCVTIMEO, &wait,
				 sizeof(wait)) < 0) {
		error_errno(err, "route socket");
		return NULL;
	}
	/* The kernel's own words; without the request behind each error. Kernels that do not know
	 * one of these do well without. */
	mnl_socket_setsockopt(r->nl, NETLINK_EXT_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(r->nl, NETLINK_CAP_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(r->nl, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	return steal_ptr(&r);
}

void rtnl_close(struct rtnl *r)
{
	if (!r)
		return;
	if (r->nl)
		mnl_socket_close(r->nl);
	free(r->in);
	free(r);
}

/* ---- requests */

struct nlmsghdr *rtnl_request(struct rtnl *r, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *m = mnl_nlmsg_put_header(r->request);

	m->nlmsg_type = type;
	m->nlmsg_flags = flags | NLM_F_REQUEST | NLM_F_ACK;
	return m;
}

/* A message of more than RTNL_REQUEST_MAX is one that had no room. */
static bool has_room(struct nlmsghdr *m, size_t len)
{
	if (m->nlmsg_len <= RTNL_REQUEST_MAX && len <= RTNL_REQUEST_MAX &&
	    NLMSG_ALIGN(len) <= RTNL_REQUEST_MAX - m->nlmsg_len)
		return true;
	m->nlmsg_len = RTNL_REQUEST_MAX + 1;
	return false;
}

void *rtnl_header(struct nlmsghdr *m, size_t size)
{
	return mnl_nlmsg_put_extra_header(m, size);
}

void *rtnl_put_raw(struct nlmsghdr *m, size_t len)
{
	return has_room(m, len) ? mnl_nlmsg_put_extra_header(m, len) : NULL;
}

void rtnl_put(struct nlmsghdr *m, uint16_t type, const void *data, size_t len)
{
	if (has_room(m, MNL_ATTR_HDRLEN + len))
		mnl_attr_put(m, type, len, data);
}

void rtnl_put_u8(struct nlmsghdr *m, uint16_t type, uint8_t v)
{
	rtnl_put(m, type, &v, sizeof(v));
}

void rtnl_put_u16(struct nlmsghdr *m, uint16_t type, uint16_t v)
{
	rtnl_put(m, type, &v, sizeof(v));
}

void rtnl_put_u32(struct nlmsghdr *m, uint16_t type, uint32_t v)
{
	rtnl_put(m, type, &v, sizeof(v));
}

void rtnl_put_str(struct nlmsghdr *m, uint16_t type, const char *s)
{
	rtnl_put(m, type, s, strlen(s) + 1);
}

void rtnl_put_ip(struct nlmsghdr *m, uint16_t type, const struct net_ip *ip)
{
	if (ip->family != 0)
		rtnl_put(m, type, ip->bytes, net_ip_size(ip->family));
}

struct nlattr *rtnl_nest(struct nlmsghdr *m, uint16_t type)
{
	return has_room(m, MNL_ATTR_HDRLEN) ? mnl_attr_nest_start(m, type) : NULL;
}

void rtnl_nest_end(struct nlmsghdr *m, struct nlattr *nest)
{
	if (nest && m->nlmsg_len <= RTNL_REQUEST_MAX)
		mnl_attr_nest_end(m, nest);
}

/* ---- what comes */

static int reserve(struct rtnl *r, size_t room, struct error *err)
{
	size_t size = r->size ? r->size : PART;
	char *in;

	while (size - r->len < room)
		size *= 2;
	if (size > RTNL_DUMP_MAX)
		return error_kind(err, ERR_UNSUPPORTED, "more than %u bytes of it", RTNL_DUMP_MAX);
	if (size == r->size)
		return 0;
	in = realloc(r->in, size);
	if (!in)
		return error_set(err, "out of memory");
	r->in = in;
	r->size = size;
	return 0;
}

static ssize_t receive(const struct rtnl *r, int flags, struct sockaddr_nl *from)
{
	socklen_t len = sizeof(*from);
	ssize_t n;

	do
		n = recvfrom(mnl_socket_get_fd(r->nl), r->in + r->len, r->size - r->len,
			     flags | MSG_TRUNC, (struct sockaddr *)from, &len);
	while (n < 0 && errno == EINTR);
	return n;
}

/* One more datagram, whole, behind those that are there. Its length. */
static ssize_t receive_part(struct rtnl *r, struct error *err)
{
	struct sockaddr_nl from = {0};
	ssize_t n;

	do {
		if (reserve(r, PART, err) < 0)
			return -1;
		n = receive(r, MSG_PEEK, &from);
		if (n >= 0 && (size_t)n > r->size - r->len && reserve(r, (size_t)n, err) < 0)
			return -1;
		if (n >= 0)
			n = receive(r, 0, &from);
		if (n < 0)
			return error_errno(err, "route socket");
	} while (from.nl_pid != 0);
	return n;
}

/* The kernel's own words for an error, if it has any: attributes behind the error, which follow the
 * request's header (all of the request where the kernel does not know NETLINK_CAP_ACK). */
static const char *words(const struct nlmsghdr *m, size_t before)
{
	const char *at = (const char *)m + before;
	size_t left = m->nlmsg_len > before ? m->nlmsg_len - before : 0;
	const struct nlattr *a = (const void *)at;

	for (; mnl_attr_ok(a, (int)left); a = mnl_attr_next(a)) {
		size_t len = mnl_attr_get_payload_len(a), whole = MNL_ALIGN(mnl_attr_get_len(a));
		const char *text = mnl_attr_get_payload(a);

		if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG)
			return memchr(text, '\0', len) ? text : NULL;
		left -= whole < left ? whole : left;
	}
	return NULL;
}

static int refused(const struct nlmsghdr *m, int error, size_t before, struct error *err)
{
	const char *text = m->nlmsg_flags & NLM_F_ACK_TLVS ? words(m, before) : NULL;

	errno = -error;
	if (text && text[0])
		return error_errno(err, "%s", text);
	/* The kernel's error has no words before it: nor has this. */
	error_set(err, "%s", strerror(-error));
	if (err)
		err->errnum = -error;
	return -1;
}

/* NLMSG_ERROR: 1 when it is an acknowledgement. */
static int acknowledged(const struct nlmsghdr *m, struct error *err)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(m);
	size_t before = NLMSG_HDRLEN + sizeof(*e);

	if (m->nlmsg_len < before)
		return error_set(err, "route socket: the kernel's answer is too short");
	if (e->error == 0)
		return 1;
	if (!(m->nlmsg_flags & NLM_F_CAPPED) && e->msg.nlmsg_len > NLMSG_HDRLEN)
		before += NLMSG_ALIGN(e->msg.nlmsg_len) - NLMSG_HDRLEN;
	return refused(m, e->error, before, err);
}

/* NLMSG_DONE: 1, unless it brings an error. */
static int done(const struct nlmsghdr *m, struct error *err)
{
	int error = 0;

	if (m->nlmsg_len >= NLMSG_HDRLEN + sizeof(error))
		memcpy(&error, mnl_nlmsg_get_payload(m), sizeof(error));
	if (error >= 0)
		return 1;
	return refused(m, error, NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(error)), err);
}

/* Keeps what belongs to the request of the `n` bytes that came last. 1 when it was the last of it.
 */
static int take(struct rtnl *r, size_t n, struct error *err)
{
	const struct nlmsghdr *m = (const void *)(r->in + r->len), *next;
	int left = (int)n;

	for (; message_ok(m, left); m = next) {
		next = mnl_nlmsg_next(m, &left);
		if (m->nlmsg_seq != r->seq)
			continue;
		r->interrupted |= (m->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
		if (m->nlmsg_type == NLMSG_ERROR)
			return acknowledged(m, err);
		if (m->nlmsg_type == NLMSG_DONE)
			return done(m, err);
		if (m->nlmsg_type < NLMSG_MIN_TYPE)
			continue;
		memmove(r->in + r->len, m, m->nlmsg_len);
		r->len += NLMSG_ALIGN(m->nlmsg_len);
	}
	return left > 0 ? error_set(err, "route socket: a message's length is wrong") : 0;
}

/* One request, and all that answers it in r->in. */
static int exchange(struct rtnl *r, struct nlmsghdr *m, struct error *err)
{
	int end = 0;

	if (m->nlmsg_len > RTNL_REQUEST_MAX)
		return error_kind(err, ERR_UNSUPPORTED, "more than fits in one request");
	m->nlmsg_seq = ++r->seq;
	r->len = 0;
	r->interrupted = false;
	if (mnl_socket_sendto(r->nl, m, m->nlmsg_len) < 0)
		return error_errno(err, "route socket");
	while (end == 0) {
		ssize_t n = receive_part(r, err);

		if (n < 0)
			return -1;
		end = take(r, (size_t)n, err);
	}
	return end < 0 ? -1 : 0;
}

int rtnl_talk(struct rtnl *r, struct nlmsghdr *m, struct error *err)
{
	return exchange(r, m, err);
}

/* Hands out what was collected. It is the caller's while `fn` runs, who may use the socket. */
static int hand_out(struct rtnl *r, rtnl_fn fn, void *arg, struct error *err)
{
	cleanup_free char *in = steal_ptr(&r->in);
	size_t len = r->len;
	int result = 0;

	r->len = 0;
	r->size = 0;
	for (size_t at = 0; at < len && result == 0;) {
		const struct nlmsghdr *m = (const void *)(in + at);

		result = fn(m, arg, err) < 0 ? -1 : 0;
		at += NLMSG_ALIGN(m->nlmsg_len);
	}
	return result;
}

int rtnl_ask(struct rtnl *r, struct nlmsghdr *m, rtnl_fn fn, void *arg, struct error *err)
{
	if (exchange(r, m, err) < 0)
		return -1;
	return hand_out(r, fn, arg, err);
}

int rtnl_dump(struct rtnl *r, struct nlmsghdr *m, rtnl_fn fn, void *arg, struct error *err)
{
	m->nlmsg_flags = (uint16_t)((m->nlmsg_flags & ~NLM_F_ACK) | NLM_F_DUMP);
	for (unsigned i = 0; i < DUMP_TRIES; i++) {
		if (exchange(r, m, err) < 0)
			return -1;
		if (!r->interrupted)
			return hand_out(r, fn, arg, err);
	}
	return error_set(err, "it keeps changing");
}
