/*
 * names.c - a name server in the guest that asks the host's.
 *
 *	process ──UDP, TCP──▶ agent ──records──▶ proxy ──▶ name server
 *	        ◀────────────       ◀──records──       ◀──
 *	  127.0.0.11, port 53   stream      127.0.0.11 of the host's namespace
 *
 * The port that the agent listens on is another one (redirect.h).
 *
 * Nothing is understood of a message beyond its being as long as a DNS header. Each gets an id that
 * names its place in a table of DNS_OPEN_MAX, where the answer finds who asked. The place is free
 * again with the answer, or DNS_TIMEOUT_MS later when somebody needs it. With the table full a
 * request is dropped: clients ask again.
 *
 * One record at a time is on its way to the host. While it is not sent as a whole, and while there
 * is no stream, nothing is read from any socket: UDP requests wait in the socket's buffer, TCP
 * clients in theirs. So the memory of all this is bounded by the table, two records, and
 * NAMES_CONNS_MAX clients of a request and some answers each.
 *
 * A TCP client has its requests answered in whatever order the answers come, at most
 * NAMES_PIPELINE_MAX at a time. One that completes no request and takes no answer for
 * NAMES_IDLE_US is disconnected, however many bytes trickle in.
 *
 * Everything runs in the agent's loop, and no call here can wait.
 */
#include "agent/names.h"
#include "lib/cleanup.h"
#include "lib/dns_record.h"
#include "lib/file.h"
#include "lib/log.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>

#define ROUND 64 /* datagrams, or records, of one turn */
#define ANSWERS_MAX \
	(128u << 10) /* bytes of answers that a client has not taken: no more requests */

struct client {
	struct names *r;
	struct client *prev, *next;
	int fd;
	struct loop_source *src, *timer;
	uint32_t events;
	uint8_t *in; /* one request: its length (2 bytes), and what has come of it */
	size_t in_len, in_size;
	uint8_t *out; /* answers with their lengths: [out_off, out_len) is to be sent */
	size_t out_off, out_len, out_size;
	unsigned open; /* requests without an answer */
	bool eof;      /* it asks no more */
	uint64_t active_us;
};

struct question {
	bool used;
	uint32_t id;
	uint8_t protocol;
	uint64_t since_us;
	struct sockaddr_in from; /* UDP */
	struct client *client;	 /* TCP; NULL once it has gone */
};

struct names {
	struct loop *loop;
	struct streams *streams;
	struct stream *token; /* a stream that the host has not opened yet */
	int udp, tcp;	      /* -1: not served */
	struct loop_source *udp_src, *tcp_src;
	int conn; /* to the host; -1: none */
	struct loop_source *conn_src;
	uint32_t udp_events, tcp_events, conn_events;
	struct client *clients;
	unsigned n_clients;
	bool no_more_fds; /* until a client has gone */
	uint32_t generation;
	struct question open[DNS_OPEN_MAX];
	size_t in_len, out_off, out_len;
	uint8_t in[DNS_RECORD_MAX];
	uint8_t out[DNS_RECORD_MAX];
};

static void arrange(struct names *r);

static bool again(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static void watch(struct loop_source *src, uint32_t *now, uint32_t events)
{
	if (!src || *now == events)
		return;
	*now = events;
	loop_set(src, events);
}

/* ---- questions */

static struct question *new_question(struct names *r, uint8_t protocol)
{
	uint64_t now = now_us();

	for (uint32_t i = 0; i < DNS_OPEN_MAX; i++) {
		struct question *q = &r->open[i];

		if (q->used && now - q->since_us < DNS_TIMEOUT_MS * 1000u)
			continue;
		if (q->used && q->client)
			q->client->open--;
		*q = (struct question){.used = true,
				       .id = ++r->generation << 8 | i,
				       .protocol = protocol,
				       .since_us = now};
		return q;
	}
	return NULL;
}

static void forget_questions(struct names *r, const struct client *of)
{
	for (size_t i = 0; i < DNS_OPEN_MAX; i++) {
		struct question *q = &r->open[i];

		if (!q->used || (of && q->client != of))
			continue;
		if (q->client)
			q->client->open--;
		q->used = false;
	}
}

/* ---- to the host */

static void end_stream(struct names *r)
{
	if (r->conn < 0)
		return;
	loop_remove(r->conn_src);
	r->conn_src = NULL;
	close_fd(&r->conn);
	r->in_len = r->out_off = r->out_len = 0;
	forget_questions(r, NULL);
}

static void flush_record(struct names *r)
{
	while (r->out_off < r->out_len) {
		ssize_t n = send(r->conn, r->out + r->out_off, r->out_len - r->out_off,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && again())
			return;
		if (n < 0) {
			log_debug("name server's stream: %s", strerror(errno));
			end_stream(r);
			return;
		}
		r->out_off += (size_t)n;
	}
	r->out_off = r->out_len = 0;
}

static bool can_ask(const struct names *r)
{
	return r->conn >= 0 && r->out_len == 0;
}

/* Where the next request is to be put, and it is sent from: behind the place of a record's head. */
static uint8_t *message_place(struct names *r)
{
	return r->out + DNS_RECORD_HEAD;
}

static void send_question(struct names *r, const struct question *q, size_t len)
{
	dns_record_head(r->out, q->id, q->protocol, (uint16_t)len);
	r->out_len = DNS_RECORD_HEAD + len;
	flush_record(r);
}

/* ---- UDP */

static void on_udp(void *arg, uint32_t events UNUSED)
{
	struct names *r = arg;

	for (int i = 0; i < ROUND && can_ask(r); i++) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(r->udp, message_place(r), DNS_MESSAGE_MAX, MSG_DONTWAIT,
				     (struct sockaddr *)&from, &len);
		struct question *q;

		if (n < 0 && again())
			break;
		if (n < DNS_MESSAGE_MIN || len != sizeof(from))
			continue;
		q = new_question(r, DNS_UDP);
		if (!q)
			continue;
		q->from = from;
		send_question(r, q, (size_t)n);
	}
	arrange(r);
}

/* ---- TCP */

static void client_free(struct client *c)
{
	struct names *r = c->r;

	forget_questions(r, c);
	loop_remove(c->src);
	loop_remove(c->timer);
	close(c->fd);
	if (c->prev)
		c->prev->next = c->next;
	else
		r->clients = c->next;
	if (c->next)
		c->next->prev = c->prev;
	r->n_clients--;
	r->no_more_fds = false;
	free(c->in);
	free(c->out);
	free(c);
}

static void on_idle(void *arg, uint32_t events UNUSED)
{
	struct client *c = arg;
	struct names *r = c->r;
	uint64_t idle = now_us() - c->active_us;

	c->timer = NULL;
	if (idle < NAMES_IDLE_US)
		c->timer = loop_timer(r->loop, NAMES_IDLE_US - idle, on_idle, c, NULL);
	if (!c->timer)
		client_free(c);
	arrange(r);
}

/* Bytes that the request begun in c->in has altogether, as far as that is known. */
static size_t request_size(const struct client *c)
{
	return c->in_len < 2 ? 2 : 2 + ((size_t)c->in[0] << 8 | c->in[1]);
}

/* Buffers grow with the bytes that came, not with lengths that were told. */
static void reserve(uint8_t **buf, size_t *size, size_t need)
{
	size_t more = *size ? *size : 512;
	uint8_t *p;

	while (more < need)
		more *= 2;
	if (more == *size)
		return;
	p = realloc(*buf, more);
	if (!p)
		abort(); /* as xcalloc(): a few KiB that PID 1 does not get */
	*buf = p;
	*size = more;
}

/* Reads no further than to the end of one request. Returns 1 when it is whole, 0 if not yet, -1
 * when the client is through. */
static int read_request(struct client *c)
{
	for (;;) {
		size_t want = request_size(c);
		ssize_t n;

		if (c->in_len >= 2 && want < 2 + DNS_MESSAGE_MIN)
			return -1;
		if (c->in_len >= 2 && c->in_len == want)
			return 1;
		reserve(&c->in, &c->in_size, c->in_len + 1);
		want -= c->in_len;
		if (want > c->in_size - c->in_len)
			want = c->in_size - c->in_len;
		n = recv(c->fd, c->in + c->in_len, want, MSG_DONTWAIT);
		if (n < 0 && again())
			return 0;
		if (n <= 0)
			return -1;
		c->in_len += (size_t)n;
	}
}

static bool may_ask(const struct client *c)
{
	return !c->eof && c->open < NAMES_PIPELINE_MAX && c->out_len - c->out_off < ANSWERS_MAX;
}

static void ask_for(struct client *c)
{
	struct names *r = c->r;
	size_t len = c->in_len - 2;
	struct question *q = new_question(r, DNS_TCP);

	c->in_len = 0;
	c->active_us = now_us();
	if (!q)
		return;
	q->client = c;
	c->open++;
	memcpy(message_place(r), c->in + 2, len);
	send_question(r, q, len);
}

static int flush_answers(struct client *c)
{
	while (c->out_off < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return again() ? 0 : -1;
		c->out_off += (size_t)n;
		c->active_us = now_us();
	}
	free(c->out);
	c->out = NULL;
	c->out_off = c->out_len = c->out_size = 0;
	return 0;
}

/* Returns false when there is nothing left to do for the client. */
static bool serve_client(struct client *c, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP) || flush_answers(c) < 0)
		return false;
	while (can_ask(c->r) && may_ask(c)) {
		int n = read_request(c);

		if (n == 0)
			break;
		if (n > 0)
			ask_for(c);
		else
			c->eof = true;
	}
	/* What was asked before is answered even so. */
	return !c->eof || c->open > 0 || c->out_len > 0;
}

static void on_client(void *arg, uint32_t events)
{
	struct client *c = arg;
	struct names *r = c->r;

	if (!serve_client(c, events))
		client_free(c);
	arrange(r);
}

static void add_client(struct names *r, int fd)
{
	struct client *c = xcalloc(1, sizeof(*c));

	c->r = r;
	c->fd = fd;
	c->events = EPOLLIN;
	c->active_us = now_us();
	c->next = r->clients;
	if (c->next)
		c->next->prev = c;
	r->clients = c;
	r->n_clients++;
	c->src = loop_add(r->loop, fd, c->events, on_client, c, NULL);
	c->timer = loop_timer(r->loop, NAMES_IDLE_US, on_idle, c, NULL);
	if (!c->src || !c->timer)
		client_free(c);
}

static void on_tcp(void *arg, uint32_t events UNUSED)
{
	struct names *r = arg;

	while (r->n_clients < NAMES_CONNS_MAX) {
		int fd = accept4(r->tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			r->no_more_fds = !again() && errno != ECONNABORTED;
			break;
		}
		add_client(r, fd);
	}
	arrange(r);
}

static void answer_client(struct client *c, const struct dns_record *a)
{
	size_t need = c->out_len + 2 + a->len;

	c->open--;
	reserve(&c->out, &c->out_size, need);
	c->out[c->out_len] = (uint8_t)(a->len >> 8);
	c->out[c->out_len + 1] = (uint8_t)a->len;
	memcpy(c->out + c->out_len + 2, a->message, a->len);
	c->out_len = need;
	c->active_us = now_us();
	if (!serve_client(c, 0))
		client_free(c);
}

/* ---- from the host */

static void answer(struct names *r, const struct dns_record *a)
{
	struct question *q = &r->open[a->id % DNS_OPEN_MAX];

	if (!q->used || q->id != a->id || q->protocol != a->protocol)
		return; /* too late */
	q->used = false;
	if (q->protocol == DNS_TCP)
		answer_client(q->client, a);
	else if (r->udp >= 0)
		sendto(r->udp, a->message, a->len, MSG_DONTWAIT, (const struct sockaddr *)&q->from,
		       sizeof(q->from));
}

/* Answers all records that are there as a whole. Returns -1 when the stream is none. */
static int take_records(struct names *r)
{
	struct error err = ERROR_INIT;
	size_t at = 0;

	while (at < r->in_len) {
		struct dns_record a;
		int n = dns_record_parse(r->in + at, r->in_len - at, &a, &err);

		if (n < 0) {
			log_error("%s", err.msg);
			return -1;
		}
		if (n == 0)
			break;
		at += (size_t)n;
		answer(r, &a);
		if (r->conn < 0)
			return -1; /* ended meanwhile, and r->in with it */
	}
	memmove(r->in, r->in + at, r->in_len - at);
	r->in_len -= at;
	return 0;
}

static void on_stream(void *arg, uint32_t events)
{
	struct names *r = arg;
	ssize_t n;

	if (events & EPOLLOUT)
		flush_record(r);
	if (r->conn >= 0 && events & ~(uint32_t)EPOLLOUT) {
		n = recv(r->conn, r->in + r->in_len, sizeof(r->in) - r->in_len, MSG_DONTWAIT);
		if (n > 0)
			r->in_len += (size_t)n;
		if (n > 0 ? take_records(r) < 0 : n == 0 || !again())
			end_stream(r);
	}
	arrange(r);
}

/* Says what each descriptor is watched for, as things are now. */
static void arrange(struct names *r)
{
	bool ask = can_ask(r);

	watch(r->conn_src, &r->conn_events, EPOLLIN | (r->out_len > 0 ? EPOLLOUT : 0));
	watch(r->udp_src, &r->udp_events, ask ? EPOLLIN : 0);
	watch(r->tcp_src, &r->tcp_events,
	      r->n_clients < NAMES_CONNS_MAX && !r->no_more_fds ? EPOLLIN : 0);
	for (struct client *c = r->clients; c; c = c->next)
		watch(c->src, &c->events,
		      (ask && may_ask(c) ? EPOLLIN : 0) | (c->out_len > 0 ? EPOLLOUT : 0));
}

/* ---- all of it */

static void on_token(void *arg, int conn)
{
	struct names *r = arg;
	struct error err = ERROR_INIT;

	stream_free(r->token);
	r->token = NULL;
	end_stream(r);
	r->conn = conn;
	r->conn_events = EPOLLIN;
	r->conn_src = loop_add(r->loop, conn, EPOLLIN, on_stream, r, &err);
	if (!r->conn_src) {
		log_error("name server's stream: %s", err.msg);
		end_stream(r);
	}
	arrange(r);
}

int names_stream(struct names *r, char token[PROTO_TOKEN_HEX + 1], struct error *err)
{
	struct stream *s = stream_new_handed(r->streams, on_token, r, err);

	if (!s)
		return -1;
	stream_free(r->token);
	r->token = s;
	end_stream(r);
	arrange(r);
	stream_token(s, token);
	return 0;
}

static void stop_listening(struct names *r)
{
	while (r->clients)
		client_free(r->clients);
	loop_remove(r->udp_src);
	loop_remove(r->tcp_src);
	r->udp_src = r->tcp_src = NULL;
	close_fd(&r->udp);
	close_fd(&r->tcp);
}

static int bound_socket(int type, const struct sockaddr_in *at, struct error *err)
{
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
	char text[INET_ADDRSTRLEN];

	if (fd < 0)
		return error_errno(err, "name server's socket");
	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)at, sizeof(*at)) == 0 &&
	    (type != SOCK_STREAM || listen(fd, 64) == 0))
		return fd;
	error_errno(err, "serve names at %s port %u (%s)",
		    inet_ntop(AF_INET, &at->sin_addr, text, sizeof(text)), ntohs(at->sin_port),
		    type == SOCK_STREAM ? "TCP" : "UDP");
	close(fd);
	return -1;
}

static int listen_at(struct names *r, const struct sockaddr_in *at, struct error *err)
{
	r->udp_events = r->tcp_events = EPOLLIN;
	r->udp = bound_socket(SOCK_DGRAM, at, err);
	r->tcp = r->udp < 0 ? -1 : bound_socket(SOCK_STREAM, at, err);
	if (r->tcp >= 0)
		r->udp_src = loop_add(r->loop, r->udp, EPOLLIN, on_udp, r, err);
	if (r->udp_src)
		r->tcp_src = loop_add(r->loop, r->tcp, EPOLLIN, on_tcp, r, err);
	if (!r->tcp_src) {
		stop_listening(r);
		return -1;
	}
	arrange(r);
	return 0;
}

int names_serve(struct names *r, uint16_t port, struct error *err)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};

	if ((port != 0) == (r->udp >= 0))
		return 0;
	if (port == 0) {
		stop_listening(r);
		return 0;
	}
	inet_pton(AF_INET, NAMES_ADDRESS, &at.sin_addr);
	return listen_at(r, &at, err);
}

struct names *names_new(struct loop *loop, struct streams *streams)
{
	struct names *r = xcalloc(1, sizeof(*r));

	r->loop = loop;
	r->streams = streams;
	r->udp = r->tcp = r->conn = -1;
	return r;
}

void names_free(struct names *r)
{
	if (!r)
		return;
	stream_free(r->token);
	end_stream(r);
	stop_listening(r);
	free(r);
}
