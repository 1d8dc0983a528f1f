/*
 * Theory of operation.
 *
 * A client is a stream socket with framed messages. Nothing here waits for a client: answers go
 * into its queue and leave as the socket takes them. A client may have CONTROL_CALLS_MAX requests
 * without an answer, and as many messages in its queue; while either is full we do not read from
 * it, so that it meets its own back-pressure and memory stays bounded.
 *
 * A call belongs to its client's list until it is finished. When the client goes, its calls stay
 * alive without a client: whoever finishes one later finds nobody to answer, and a descriptor
 * that was to be sent is closed.
 *
 * A client may go while its own request is being handled (an answer that cannot be sent). It is
 * then marked dead, and freed by the function that is at work for it (`busy`).
 */
#include "vmm/control.h"
#include "lib/cleanup.h"
#include "lib/fds.h"
#include "lib/file.h"
#include "lib/frame.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* syscalls loop: accept4 getsockopt(1==SOL_SOCKET, 2==SO_PEERCRED) sendmsg close ppoll */

#define MESSAGES_PER_TURN 16  /* before other sources get their turn */
#define ACCEPT_REST_US 100000 /* after accept(2) failed for want of something */

struct message {
	struct message *next;
	size_t len, off;
	int fd; /* rides on the first byte; -1: none */
	unsigned char data[];
};

struct client {
	struct control *c;
	struct client *prev, *next;
	int fd;
	struct loop_source *src;
	bool boot, busy, dead;
	struct frame_buf in;
	struct message *head, **tail;
	unsigned nout, ncalls;
	struct control_call *calls;
};

struct control_call {
	struct client *client; /* NULL: gone */
	struct control *c;
	struct control_call *prev, *next; /* of the client, or of control's orphans */
	int64_t seq;
};

struct control {
	struct loop *loop;
	struct control_handler h;
	int listen_fd;
	uid_t owner; /* who started us */
	struct loop_source *listen_src, *rest;
	struct client *clients;
	unsigned nclients;
	struct control_call *orphans;
};

static struct control_call **list_of(struct control_call *k)
{
	return k->client ? &k->client->calls : &k->c->orphans;
}

static void call_link(struct control_call *k)
{
	struct control_call **list = list_of(k);

	k->prev = NULL;
	k->next = *list;
	if (k->next)
		k->next->prev = k;
	*list = k;
}

static void call_free(struct control_call *k)
{
	if (k->prev)
		k->prev->next = k->next;
	else
		*list_of(k) = k->next;
	if (k->next)
		k->next->prev = k->prev;
	if (k->client)
		k->client->ncalls--;
	free(k);
}

/* ---- clients */

/* A full house leaves further clients in the queue of the socket, where they wait for a place. */
static void watch_listener(struct control *c)
{
	if (c->listen_src)
		loop_set(c->listen_src,
			 c->rest || c->nclients >= CONTROL_CLIENTS_MAX ? 0 : EPOLLIN);
}

static void drop_message(struct client *cl)
{
	struct message *m = cl->head;

	cl->head = m->next;
	if (!cl->head)
		cl->tail = &cl->head;
	cl->nout--;
	close_fd(&m->fd);
	free(m);
}

static void drop_queue(struct client *cl)
{
	while (cl->head)
		drop_message(cl);
}

static void client_free(struct client *cl)
{
	if (cl->prev)
		cl->prev->next = cl->next;
	else
		cl->c->clients = cl->next;
	if (cl->next)
		cl->next->prev = cl->prev;
	cl->c->nclients--;
	watch_listener(cl->c);
	drop_queue(cl);
	frame_buf_free(&cl->in);
	free(cl);
}

/* Ends the connection. The memory goes when nobody works with it any more. */
static void client_end(struct client *cl)
{
	struct control *c = cl->c;

	if (!cl->dead) {
		cl->dead = true;
		loop_remove(cl->src);
		close_fd(&cl->fd);
		while (cl->calls) {
			struct control_call *k = cl->calls;

			cl->calls = k->next;
			k->client = NULL;
			call_link(k);
		}
		cl->ncalls = 0;
		if (cl->boot)
			c->h.boot_closed(c->h.arg);
	}
	if (!cl->busy)
		client_free(cl);
}

static bool is_full(const struct client *cl)
{
	return cl->nout >= CONTROL_CALLS_MAX || cl->ncalls >= CONTROL_CALLS_MAX;
}

static void watch(struct client *cl)
{
	if (!cl->dead)
		loop_set(cl->src, (is_full(cl) ? 0 : EPOLLIN) | (cl->head ? EPOLLOUT : 0));
}

/* 1: sent whole; 0: the socket is full; -1: the client is gone. */
static int send_message(struct client *cl, struct message *m)
{
	while (m->off < m->len) {
		struct iovec iov = {m->data + m->off, m->len - m->off};
		ssize_t n = fds_send(cl->fd, &iov, 1, &m->fd, m->fd >= 0 ? 1 : 0, MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		close_fd(&m->fd);
		m->off += (size_t)n;
	}
	return 1;
}

/* Sends what the socket takes. False when the client is gone; it is not ended yet. */
static bool send_queue(struct client *cl)
{
	while (cl->head) {
		int r = send_message(cl, cl->head);

		if (r <= 0)
			return r == 0;
		drop_message(cl);
	}
	return true;
}

/* Takes `fd` over. */
static void queue(struct client *cl, const char *text, size_t len, int fd)
{
	struct message *m = xcalloc(1, sizeof(*m) + 4 + len);

	m->len = 4 + len;
	m->fd = fd;
	for (unsigned i = 0; i < 4; i++)
		m->data[i] = (unsigned char)(len >> (24 - 8 * i));
	memcpy(m->data + 4, text, len);
	*cl->tail = m;
	cl->tail = &m->next;
	cl->nout++;
	if (!send_queue(cl))
		client_end(cl);
	else
		watch(cl);
}

/* ---- answers */

static void begin(struct jsonw *w, const struct control_call *k)
{
	jsonw_obj(w);
	jsonw_kint(w, "seq", k->seq);
}

int control_begin(struct control_call *call, struct jsonw *w)
{
	if (jsonw_init(w, false, NULL) < 0)
		return -1;
	begin(w, call);
	jsonw_kbool(w, "ok", true);
	return 0;
}

void control_answer(struct control_call *call, struct jsonw *w, int fd)
{
	struct client *cl = call->client;
	const char *text;
	size_t len;

	jsonw_end_obj(w);
	call_free(call);
	text = jsonw_finish(w, &len, NULL);
	if (!cl)
		close_fd(&fd);
	else if (text)
		queue(cl, text, len, fd);
	else
		client_end(cl); /* out of memory: better no answer than half of one */
	jsonw_free(w);
}

void control_ok(struct control_call *call)
{
	struct jsonw w;

	if (control_begin(call, &w) == 0)
		control_answer(call, &w, -1);
}

static void write_error(struct jsonw *w, const struct error *e)
{
	jsonw_key(w, "error");
	jsonw_obj(w);
	jsonw_kstr(w, "kind", error_kind_name(e->kind));
	jsonw_kstr(w, "message", e->msg);
	jsonw_end_obj(w);
}

void control_fail(struct control_call *call, const struct error *e)
{
	struct jsonw w;

	if (jsonw_init(&w, false, NULL) < 0)
		return;
	begin(&w, call);
	write_error(&w, e);
	control_answer(call, &w, -1);
}

bool control_event(struct control *c, const char *name, const char *why, const char *console)
{
	cleanup_jsonw struct jsonw w = {0};
	struct client *cl = c->clients;
	const char *text;
	size_t len;

	while (cl && !(cl->boot && !cl->dead))
		cl = cl->next;
	if (!cl || jsonw_init(&w, false, NULL) < 0)
		return false;
	jsonw_obj(&w);
	jsonw_kstr(&w, "event", name);
	if (why)
		jsonw_kstr(&w, "why", why);
	if (console)
		jsonw_kstr(&w, "console", console);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, NULL);
	if (text)
		queue(cl, text, len, -1);
	return text != NULL;
}

/* ---- requests */

static void answer_parse_error(struct client *cl, const struct request *r, const struct error *e)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;
	size_t len;

	if (jsonw_init(&w, false, NULL) < 0)
		return;
	jsonw_obj(&w);
	jsonw_key(&w, "seq");
	if (r->has_seq)
		jsonw_int(&w, r->seq);
	else
		jsonw_null(&w);
	write_error(&w, e);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, NULL);
	if (text)
		queue(cl, text, len, -1);
}

static void handle_message(struct client *cl, const char *text, size_t len)
{
	struct control *c = cl->c;
	struct error e = ERROR_INIT;
	struct control_call *k;
	struct request r;
	int fds[FRAME_FDS_MAX];
	unsigned nfds = 0;

	if (request_parse(text, len, &r, &e) < 0) {
		answer_parse_error(cl, &r, &e);
		request_free(&r);
		return;
	}
	if (cl->in.nfds != r.nfds) {
		error_kind(&e, ERR_INVALID, "%s: %u descriptors came with it, not %u",
			   request_op_name(r.op), cl->in.nfds, r.nfds);
		answer_parse_error(cl, &r, &e);
		request_free(&r);
		return;
	}
	while (nfds < r.nfds)
		fds[nfds++] = frame_buf_take_fd(&cl->in);
	k = xcalloc(1, sizeof(*k));
	*k = (struct control_call){.client = cl, .c = c, .seq = r.seq};
	call_link(k);
	cl->ncalls++;
	c->h.request(c->h.arg, k, &r, fds);
	while (nfds > 0)
		close_fd(&fds[--nfds]);
	request_free(&r);
}

static bool read_requests(struct client *cl)
{
	for (unsigned i = 0; i < MESSAGES_PER_TURN && !is_full(cl); i++) {
		char *text;
		size_t len;
		int r = frame_buf_fill(&cl->in, cl->fd, NULL);

		if (r < 0)
			return false;
		r = frame_buf_next(&cl->in, &text, &len, NULL);
		if (r < 0)
			return false;
		if (r == 0)
			return true;
		handle_message(cl, text, len);
		frame_buf_done(&cl->in);
		if (cl->dead)
			return false;
	}
	return true;
}

static void client_event(void *arg, uint32_t events)
{
	struct client *cl = arg;
	bool alive = true;

	cl->busy = true;
	if (events & EPOLLOUT)
		alive = send_queue(cl);
	if (alive && events & EPOLLIN)
		alive = read_requests(cl);
	else if (events & (EPOLLHUP | EPOLLERR))
		alive = false;
	cl->busy = false;
	if (!alive || cl->dead)
		client_end(cl);
	else
		watch(cl);
}

/* Takes `fd` over, also on failure. */
static int client_new(struct control *c, int fd, bool boot, struct error *err)
{
	struct client *cl = xcalloc(1, sizeof(*cl));

	*cl = (struct client){.c = c, .next = c->clients, .fd = fd, .boot = boot};
	cl->tail = &cl->head;
	cl->src = loop_add(c->loop, fd, EPOLLIN, client_event, cl, err);
	if (!cl->src) {
		close(fd);
		free(cl);
		return -1;
	}
	if (cl->next)
		cl->next->prev = cl;
	c->clients = cl;
	c->nclients++;
	return 0;
}

/* The socket's directory decides who may connect; this is a second bolt. */
static bool is_permitted(const struct control *c, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       (cred.uid == 0 || cred.uid == c->owner);
}

static void listen_again(void *arg, uint32_t events UNUSED)
{
	struct control *c = arg;

	c->rest = NULL;
	watch_listener(c);
}

static void accept_client(void *arg, uint32_t events UNUSED)
{
	struct control *c = arg;
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		/* Out of descriptors or memory: the client still waits. Do not spin on it. */
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			c->rest = loop_timer(c->loop, ACCEPT_REST_US, listen_again, c, NULL);
			watch_listener(c);
		}
		return;
	}
	if (!is_permitted(c, fd)) {
		log_warn("control socket: client refused: neither root nor us");
		close(fd);
		return;
	}
	client_new(c, fd, false, NULL);
	watch_listener(c);
}

/* ---- life */

struct control *control_new(struct loop *l, int boot, const struct control_handler *h,
			    struct error *err)
{
	struct control *c = xcalloc(1, sizeof(*c));

	*c = (struct control){.loop = l, .h = *h, .listen_fd = -1, .owner = geteuid()};
	if (client_new(c, boot, true, err) < 0) {
		free(c);
		return NULL;
	}
	return c;
}

int control_listen(struct control *c, int fd, struct error *err)
{
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens) {
		close(fd);
		return error_kind(err, ERR_INVALID, "start: the first descriptor does not listen");
	}
	set_nonblock(fd, true);
	c->listen_src = loop_add(c->loop, fd, EPOLLIN, accept_client, c, err);
	if (!c->listen_src) {
		close(fd);
		return -1;
	}
	c->listen_fd = fd;
	return 0;
}

void control_free(struct control *c)
{
	if (!c)
		return;
	loop_remove(c->rest);
	loop_remove(c->listen_src);
	c->listen_src = NULL;
	close_fd(&c->listen_fd);
	for (struct client *cl = c->clients, *next; cl; cl = next) {
		next = cl->next;
		cl->boot = false;
		client_end(cl);
	}
	for (struct control_call *k = c->orphans, *next; k; k = next) {
		next = k->next;
		free(k);
	}
	free(c);
}

void control_flush(struct control *c, unsigned ms)
{
	uint64_t deadline = now_us() + (uint64_t)ms * 1000;

	for (;;) {
		struct pollfd p[CONTROL_CLIENTS_MAX + 1];
		struct client *of[CONTROL_CLIENTS_MAX + 1];
		uint64_t now = now_us();
		struct timespec left;
		nfds_t n = 0;

		for (struct client *cl = c->clients; cl && n < ARRAY_LEN(p); cl = cl->next) {
			if (cl->dead || !cl->head)
				continue;
			p[n] = (struct pollfd){.fd = cl->fd, .events = POLLOUT};
			of[n++] = cl;
		}
		if (n == 0 || now >= deadline)
			return;
		left = (struct timespec){.tv_sec = (time_t)((deadline - now) / 1000000),
					 .tv_nsec = (long)((deadline - now) % 1000000) * 1000};
		if (ppoll(p, n, &left, NULL) < 0 && errno != EINTR)
			return;
		for (nfds_t i = 0; i < n; i++)
			if (p[i].revents && !send_queue(of[i]))
				drop_queue(of[i]); /* it is gone; control_free() ends it */
	}
}
