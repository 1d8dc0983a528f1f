/*
 * The host's end of the guest's name server.
 *
 * The stream brings questions (lib/dns_record.h). Each gets a socket of its own to the server, UDP
 * or TCP as it was asked, so that answers cannot be confused, and a place in a table of
 * DNS_OPEN_MAX; without a free place it is dropped. The answer goes back with the question's id.
 * All descriptors are in one epoll. Nothing waits: what the stream does not take yet is kept up to
 * OUT_MAX, more answers are dropped. The guest is hostile: what it sends is bytes to be passed on,
 * nothing here looks into a message.
 */
#include "shim/resolver.h"
#include "lib/cleanup.h"
#include "lib/dns_record.h"
#include "lib/file.h"
#include "lib/log.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define SERVER 0x7f00000b /* 127.0.0.11 */
#define SERVER_PORT 53
#define OUT_MAX (1u << 20)
#define EVENTS 32
#define STREAM_KEY DNS_OPEN_MAX

struct question {
	int fd; /* -1: the place is free */
	uint32_t id;
	uint8_t protocol;
	bool sent;
	uint64_t deadline_us;
	/* TCP, each with the two bytes of its length before it */
	uint8_t *buf;
	size_t len, done;
};

struct resolver {
	int epoll, stream;
	bool out_armed;
	struct question q[DNS_OPEN_MAX];
	size_t in_len, out_len;
	uint8_t in[DNS_RECORD_MAX];
	uint8_t answer[DNS_MESSAGE_MAX]; /* one that comes by UDP */
	uint8_t *out;
};

static void forget(struct question *q)
{
	close_fd(&q->fd);
	free(q->buf);
	*q = (struct question){.fd = -1};
}

static int arm(struct resolver *r, int op, int fd, uint32_t events, uint32_t key)
{
	struct epoll_event e = {.events = events, .data.u32 = key};

	return epoll_ctl(r->epoll, op, fd, &e);
}

/* ---- answers */

static void arm_stream(struct resolver *r)
{
	bool want = r->out_len > 0;

	if (want != r->out_armed)
		arm(r, EPOLL_CTL_MOD, r->stream, EPOLLIN | (want ? EPOLLOUT : 0), STREAM_KEY);
	r->out_armed = want;
}

static int flush(struct resolver *r, struct error *err)
{
	size_t done = 0;

	while (done < r->out_len) {
		ssize_t n = send(r->stream, r->out + done, r->out_len - done,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return error_kind(err, ERR_PEER, "name server's stream: %s",
					  strerror(errno));
		done += (size_t)n;
	}
	memmove(r->out, r->out + done, r->out_len - done);
	r->out_len -= done;
	if (r->out_len == 0) {
		free(r->out);
		r->out = NULL;
	}
	arm_stream(r);
	return 0;
}

static void answer(struct resolver *r, const struct question *q, const uint8_t *message, size_t len)
{
	size_t whole = DNS_RECORD_HEAD + len;
	uint8_t *out;

	if (len < DNS_MESSAGE_MIN || r->out_len + whole > OUT_MAX)
		return;
	out = realloc(r->out, r->out_len + whole);
	if (!out)
		return;
	r->out = out;
	dns_record_head(out + r->out_len, q->id, q->protocol, (uint16_t)len);
	memcpy(out + r->out_len + DNS_RECORD_HEAD, message, len);
	r->out_len += whole;
}

static void udp_answer(struct resolver *r, struct question *q)
{
	ssize_t n = recv(q->fd, r->answer, sizeof(r->answer), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		answer(r, q, r->answer, (size_t)n);
	forget(q);
}

/* Sends what is left of the question. */
static bool tcp_ask(struct resolver *r, struct question *q, uint32_t key)
{
	while (q->done < q->len) {
		ssize_t n = send(q->fd, q->buf + q->done, q->len - q->done,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		q->done += (size_t)n;
	}
	q->sent = true;
	q->len = 2; /* the answer's length is first */
	q->done = 0;
	return arm(r, EPOLL_CTL_MOD, q->fd, EPOLLIN, key) == 0;
}

/* For as much as the answer's two bytes of length say. */
static bool tcp_make_room(struct question *q)
{
	size_t len = (size_t)q->buf[0] << 8 | q->buf[1];
	uint8_t *buf = len < DNS_MESSAGE_MIN ? NULL : realloc(q->buf, 2 + len);

	if (!buf)
		return false;
	q->buf = buf;
	q->len = 2 + len;
	return true;
}

/* Takes what has come of the answer. False when the question is over. */
static bool tcp_answer(struct resolver *r, struct question *q)
{
	for (;;) {
		ssize_t n = recv(q->fd, q->buf + q->done, q->len - q->done, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return true;
		if (n <= 0)
			return false;
		q->done += (size_t)n;
		if (q->done < q->len)
			continue;
		if (q->len > 2) {
			answer(r, q, q->buf + 2, q->len - 2);
			return false;
		}
		if (!tcp_make_room(q))
			return false;
	}
}

static void step_question(struct resolver *r, uint32_t key)
{
	struct question *q = &r->q[key];
	bool on;

	if (q->fd < 0)
		return;
	if (q->protocol == DNS_UDP) {
		udp_answer(r, q);
		return;
	}
	on = q->sent ? tcp_answer(r, q) : tcp_ask(r, q, key);
	if (!on)
		forget(q);
}

/* ---- questions */

static bool begin_tcp(struct question *q, const struct dns_record *d)
{
	q->len = 2 + (size_t)d->len;
	q->buf = malloc(q->len);
	if (!q->buf)
		return false;
	q->buf[0] = (uint8_t)(d->len >> 8);
	q->buf[1] = (uint8_t)d->len;
	memcpy(q->buf + 2, d->message, d->len);
	return true;
}

static bool begin(struct resolver *r, uint32_t key, const struct dns_record *d)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(SERVER_PORT),
				       .sin_addr.s_addr = htonl(SERVER)};
	struct question *q = &r->q[key];
	bool udp = d->protocol == DNS_UDP;

	*q = (struct question){.id = d->id,
			       .protocol = d->protocol,
			       .deadline_us = now_us() + DNS_TIMEOUT_MS * 1000ull};
	q->fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (q->fd < 0)
		return false;
	if (connect(q->fd, (const struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		return false;
	if (udp && send(q->fd, d->message, d->len, MSG_NOSIGNAL) != d->len)
		return false;
	if (!udp && !begin_tcp(q, d))
		return false;
	return arm(r, EPOLL_CTL_ADD, q->fd, udp ? EPOLLIN : EPOLLOUT, key) == 0;
}

static void ask(struct resolver *r, const struct dns_record *d)
{
	for (uint32_t i = 0; i < DNS_OPEN_MAX; i++) {
		if (r->q[i].fd >= 0)
			continue;
		if (!begin(r, i, d))
			forget(&r->q[i]);
		return;
	}
}

/* One buffer's worth, so that a guest that floods does not keep us from the answers. */
static int take_stream(struct resolver *r, struct error *err)
{
	ssize_t n = recv(r->stream, r->in + r->in_len, sizeof(r->in) - r->in_len, MSG_DONTWAIT);
	size_t at = 0;
	int used;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return error_kind(err, ERR_PEER, "name server's stream: %s", strerror(errno));
	if (n == 0)
		return error_kind(err, ERR_PEER, "name server's stream: over");
	r->in_len += (size_t)n;
	for (;;) {
		struct dns_record d;

		used = dns_record_parse(r->in + at, r->in_len - at, &d, err);
		if (used <= 0)
			break;
		ask(r, &d);
		at += (size_t)used;
	}
	memmove(r->in, r->in + at, r->in_len - at);
	r->in_len -= at;
	return used;
}

/* ---- the whole */

static void give_up_old(struct resolver *r)
{
	uint64_t now = now_us();

	for (unsigned i = 0; i < DNS_OPEN_MAX; i++)
		if (r->q[i].fd >= 0 && r->q[i].deadline_us <= now)
			forget(&r->q[i]);
}

int resolver_step(struct resolver *r, struct error *err)
{
	struct epoll_event e[EVENTS];
	int n = epoll_wait(r->epoll, e, EVENTS, 0);

	for (int i = 0; i < n; i++) {
		if (e[i].data.u32 != STREAM_KEY)
			step_question(r, e[i].data.u32);
		else if (e[i].events & ~(uint32_t)EPOLLOUT && take_stream(r, err) < 0)
			return -1;
	}
	give_up_old(r);
	return r->out_len > 0 ? flush(r, err) : 0;
}

int resolver_wait_ms(const struct resolver *r)
{
	uint64_t now = now_us(), first = UINT64_MAX;

	for (unsigned i = 0; i < DNS_OPEN_MAX; i++)
		if (r->q[i].fd >= 0 && r->q[i].deadline_us < first)
			first = r->q[i].deadline_us;
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int)((first - now) / 1000) + 1;
}

int resolver_fd(const struct resolver *r)
{
	return r->epoll;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < DNS_OPEN_MAX; i++)
		forget(&r->q[i]);
	close_fd(&r->epoll);
	close_fd(&r->stream);
	free(r->out);
	free(r);
}

struct resolver *resolver_new(int stream, struct error *err)
{
	struct resolver *r = xcalloc(1, sizeof(*r));

	r->stream = stream;
	for (unsigned i = 0; i < DNS_OPEN_MAX; i++)
		r->q[i].fd = -1;
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (r->epoll < 0 || arm(r, EPOLL_CTL_ADD, stream, EPOLLIN, STREAM_KEY) < 0) {
		error_errno(err, "epoll");
		resolver_free(r);
		return NULL;
	}
	return r;
}
