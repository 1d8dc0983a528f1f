/*
 * server.c - control connections.
 *
 * One thread, one loop. A connection is read one message at a time. Answers are queued on the
 * connection and written as it takes them; while more than OUT_PAUSE bytes are queued it is not
 * read any further, so that what a client can make the server hold is bounded by what it may still
 * ask with answers to come (WAITERS_MAX). A client that breaks the framing, or asks without a
 * `seq`, is disconnected: there is no way to answer it.
 *
 * A connection may end while one of its requests is being worked on: it is marked then, and freed
 * from the loop, not below the feet of those who work.
 */
#include "agent/server.h"
#include "agent/forward.h"
#include "agent/process.h"
#include "agent/proto.h"
#include "agent/slots.h"
#include "agent/streams.h"
#include "agent/worker.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#define OUT_PAUSE (64u << 10)
#define ACCEPT_ROUND 64
#define ACCEPT_PAUSE_US 100000

struct conn {
	struct server *server;
	struct conn *prev, *next;
	int fd;
	struct loop_source *src;
	struct frame_buf in;
	char *out; /* framed answers: [out_off, out_len) is to be sent */
	size_t out_off, out_len, out_size;
	uint32_t events; /* what `src` watches for */
	bool broken;
};

struct listener {
	struct server *server;
	int fd;
	struct loop_source *src, *pause;
	void (*accept)(struct server *s, int conn);
};

struct server {
	struct loop *loop;
	struct streams *streams;
	struct procs *procs;
	struct forwards *forwards;
	struct listener control, stream, forward;
	server_peer_fn peer;
	struct conn *conns;
	unsigned n_conns;
	uint64_t kernel_us, agent_us;
};

/* ---- output */

static void watch(struct conn *c)
{
	size_t queued = c->out_len - c->out_off;
	uint32_t events = (queued > 0 ? EPOLLOUT : 0) | (queued <= OUT_PAUSE ? EPOLLIN : 0);

	/* A broken one is woken once more, to be freed. */
	if (c->broken)
		events = EPOLLIN | EPOLLOUT;
	if (events == c->events)
		return;
	c->events = events;
	loop_set(c->src, events);
}

static void flush_out(struct conn *c)
{
	while (c->out_off < c->out_len && !c->broken) {
		ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			c->broken = true;
		else
			c->out_off += (size_t)n;
	}
	if (c->out_off == c->out_len) {
		c->out_off = c->out_len = 0;
		if (c->out_size > OUT_PAUSE) {
			free(c->out);
			c->out = NULL;
			c->out_size = 0;
		}
	}
	watch(c);
}

static void queue(struct conn *c, const char *text, size_t len)
{
	unsigned char head[4] = {(unsigned char)(len >> 24), (unsigned char)(len >> 16),
				 (unsigned char)(len >> 8), (unsigned char)len};
	size_t need = c->out_len + sizeof(head) + len;

	if (c->broken)
		return;
	if (need > c->out_size) {
		size_t size = need > 2 * c->out_size ? need : 2 * c->out_size;
		char *p = realloc(c->out, size);

		if (!p) {
			c->broken = true;
			watch(c);
			return;
		}
		c->out = p;
		c->out_size = size;
	}
	memcpy(c->out + c->out_len, head, sizeof(head));
	memcpy(c->out + c->out_len + sizeof(head), text, len);
	c->out_len = need;
	flush_out(c);
}

static void send_reply(void *client, const struct proto_reply *r)
{
	struct conn *c = client;
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;
	size_t len;

	if (proto_reply_text(r, &text, &len, &err) == 0) {
		queue(c, text, len);
	} else if (r->type != REPLY_ERROR) {
		struct proto_reply e = {.type = REPLY_ERROR, .seq = r->seq, .error = &err};

		send_reply(c, &e);
	} else {
		c->broken = true;
		watch(c);
	}
}

static void send_event(void *client, const char *event, const char *container, const char *name)
{
	cleanup_free char *text = NULL;
	size_t len;

	if (proto_event_text(event, container, name, &text, &len, NULL) == 0)
		queue(client, text, len);
}

/* ---- input */

static void conn_free(struct conn *c)
{
	struct server *s = c->server;

	/* Its owner's end kills a process: answers that come of it go nowhere. */
	c->broken = true;
	procs_client_gone(s->procs, c);
	loop_remove(c->src);
	close(c->fd);
	frame_buf_free(&c->in);
	free(c->out);
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	s->n_conns--;
	free(c);
}

static void hello(struct conn *c, const struct proto_request *req)
{
	struct utsname u = {0};
	struct proto_reply r = {.type = REPLY_HELLO,
				.seq = req->seq,
				.kernel = u.release,
				.kernel_us = c->server->kernel_us,
				.agent_us = c->server->agent_us};

	uname(&u);
	send_reply(c, &r);
}

static int on_message(struct conn *c, const char *text, size_t len, struct error *err)
{
	cleanup_proto_request struct proto_request r = {0};

	if (proto_parse(text, len, &r, err) < 0) {
		struct proto_reply reply = {.type = REPLY_ERROR, .seq = r.seq, .error = err};

		if (!r.has_seq)
			return -1;
		send_reply(c, &reply);
		return 0;
	}
	if (r.op == OP_HELLO)
		hello(c, &r);
	else
		procs_request(c->server->procs, c, &r);
	return 0;
}

static int read_message(struct conn *c, struct error *err)
{
	char *text;
	size_t len;
	int r;

	if (frame_buf_fill(&c->in, c->fd, err) < 0)
		return -1;
	r = frame_buf_next(&c->in, &text, &len, err);
	if (r <= 0)
		return r;
	r = on_message(c, text, len, err);
	frame_buf_done(&c->in);
	return r;
}

static void on_conn(void *arg, uint32_t events)
{
	struct conn *c = arg;
	struct error err = ERROR_INIT;

	if (events & EPOLLOUT)
		flush_out(c);
	if ((events & ~(uint32_t)EPOLLOUT) && !c->broken &&
	    ((c->events & EPOLLIN) || (events & (EPOLLHUP | EPOLLERR))) &&
	    read_message(c, &err) < 0) {
		log_debug("control connection: %s", err.msg);
		c->broken = true;
	}
	if (c->broken)
		conn_free(c);
}

/* ---- accepting */

static void accept_control(struct server *s, int fd)
{
	struct error err = ERROR_INIT;
	struct conn *c;

	if (s->n_conns >= SERVER_CONNS_MAX) {
		log_error("too many control connections");
		close(fd);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->server = s;
	c->fd = fd;
	c->events = EPOLLIN;
	c->src = loop_add(s->loop, fd, c->events, on_conn, c, &err);
	if (!c->src) {
		log_error("control connection: %s", err.msg);
		close(fd);
		free(c);
		return;
	}
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	s->n_conns++;
}

static void accept_stream(struct server *s, int fd)
{
	streams_accept(s->streams, fd);
}

static void accept_forward(struct server *s, int fd)
{
	forwards_accept(s->forwards, fd);
}

static void on_listener(void *arg, uint32_t events);

static void on_pause_over(void *arg, uint32_t events UNUSED)
{
	struct listener *l = arg;

	l->pause = NULL;
	l->src = loop_add(l->server->loop, l->fd, EPOLLIN, on_listener, l, NULL);
}

/* Out of descriptors or memory: the connection stays in the backlog, and so does the event. */
static void pause_listener(struct listener *l)
{
	log_error("accept: %s", strerror(errno));
	l->pause = loop_timer(l->server->loop, ACCEPT_PAUSE_US, on_pause_over, l, NULL);
	if (!l->pause)
		return;
	loop_remove(l->src);
	l->src = NULL;
}

static void on_listener(void *arg, uint32_t events UNUSED)
{
	struct listener *l = arg;

	for (int i = 0; i < ACCEPT_ROUND; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			    errno == ENOBUFS)
				pause_listener(l);
			return;
		}
		if (l->server->peer && !l->server->peer(fd))
			close(fd);
		else
			l->accept(l->server, fd);
	}
}

/* ---- the server */

static const struct proc_ops proc_ops = {.reply = send_reply, .event = send_event};

struct server *server_new(struct loop *loop, struct error *err)
{
	struct server *s = xcalloc(1, sizeof(*s));

	s->loop = loop;
	s->control = (struct listener){.server = s, .fd = -1, .accept = accept_control};
	s->stream = (struct listener){.server = s, .fd = -1, .accept = accept_stream};
	s->forward = (struct listener){.server = s, .fd = -1, .accept = accept_forward};
	s->forwards = forwards_new(loop);
	s->streams = streams_new(loop);
	s->procs = procs_new(loop, s->streams, &proc_ops, err);
	if (!s->procs) {
		streams_free(s->streams);
		forwards_free(s->forwards);
		free(s);
		return NULL;
	}
	return s;
}

int server_listen(struct server *s, int control, int stream, server_peer_fn peer, struct error *err)
{
	s->peer = peer;
	s->control.fd = control;
	s->stream.fd = stream;
	s->control.src = loop_add(s->loop, control, EPOLLIN, on_listener, &s->control, err);
	s->stream.src = loop_add(s->loop, stream, EPOLLIN, on_listener, &s->stream, err);
	return s->control.src && s->stream.src ? 0 : -1;
}

int server_forward(struct server *s, int forward, struct error *err)
{
	s->forward.fd = forward;
	s->forward.src = loop_add(s->loop, forward, EPOLLIN, on_listener, &s->forward, err);
	return s->forward.src ? 0 : -1;
}

void server_set_times(struct server *s, uint64_t kernel_us, uint64_t agent_us)
{
	s->kernel_us = kernel_us;
	s->agent_us = agent_us;
}

static int probe_slots(void *arg UNUSED, struct error *err UNUSED)
{
	slots_probe();
	return 0;
}

static void on_probed(void *arg UNUSED, const struct error *failure)
{
	if (failure)
		log_error("probe slots: %s", failure->msg);
}

int server_probe_slots(struct server *s, struct error *err)
{
	const struct worker_job job = {.name = "slots", .work = probe_slots, .done = on_probed};

	return worker_start(s->procs, NULL, &job, err);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	while (s->conns)
		conn_free(s->conns);
	procs_free(s->procs);
	streams_free(s->streams);
	forwards_free(s->forwards);
	loop_remove(s->control.src);
	loop_remove(s->control.pause);
	loop_remove(s->stream.src);
	loop_remove(s->stream.pause);
	loop_remove(s->forward.src);
	loop_remove(s->forward.pause);
	close_fd(&s->control.fd);
	close_fd(&s->stream.fd);
	close_fd(&s->forward.fd);
	free(s);
}
