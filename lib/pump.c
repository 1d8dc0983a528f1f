/*
 * A way is a buffer between two sockets: filled when it is empty, drained as the other takes it. A
 * socket is watched for what could move something: for input while its way's buffer is empty, for
 * room while the other way's is not. One turn reads each socket once, so that a fast pair does not
 * keep the loop from others.
 *
 * A socket whose both directions are shut is reported by epoll whatever it is watched for. It is
 * not watched any more then: nothing can be written to it, and reading it never says EAGAIN, so
 * that the other socket's turns are enough to empty it.
 */
#include "lib/pump.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <string.h>
#include <sys/socket.h>

#define BUF (32u << 10)

struct way {
	size_t off, len;
	bool eof;  /* nothing more comes */
	bool shut; /* ... and that was handed on, or nobody is there to take it */
	char data[BUF];
};

struct pump {
	struct loop *loop;
	int fd[2];
	struct loop_source *src[2];
	struct way way[2]; /* way[i] is from fd[i] to the other */
	pump_end_fn end;
	void *arg;
};

void pump_free(struct pump *p)
{
	if (!p)
		return;
	for (int i = 0; i < 2; i++) {
		loop_remove(p->src[i]);
		close_fd(&p->fd[i]);
	}
	free(p);
}

static bool again(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* False: the socket has failed. */
static bool fill(struct way *w, int from)
{
	ssize_t n;

	if (w->eof || w->len > 0)
		return true;
	n = recv(from, w->data, sizeof(w->data), MSG_DONTWAIT);
	if (n < 0)
		return again();
	w->off = 0;
	w->len = (size_t)n;
	w->eof = n == 0;
	return true;
}

static bool drain(struct way *w, int to)
{
	while (w->len > 0) {
		ssize_t n = send(to, w->data + w->off, w->len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return again();
		w->off += (size_t)n;
		w->len -= (size_t)n;
	}
	if (w->eof && !w->shut) {
		shutdown(to, SHUT_WR);
		w->shut = true;
	}
	return true;
}

static void watch(struct pump *p, int i)
{
	const struct way *in = &p->way[i], *out = &p->way[1 - i];

	if (in->eof && out->shut) {
		loop_remove(p->src[i]);
		p->src[i] = NULL;
	}
	if (p->src[i])
		loop_set(p->src[i],
			 (!in->eof && in->len == 0 ? EPOLLIN : 0) | (out->len > 0 ? EPOLLOUT : 0));
}

/* What a socket that has no turns of its own any more has left is in its buffer, and so bounded. */
static bool move(struct pump *p, int i)
{
	struct way *w = &p->way[i];

	do {
		if (!fill(w, p->fd[i]) || !drain(w, p->fd[1 - i]))
			return false;
	} while (!p->src[i] && !w->eof && w->len == 0);
	return true;
}

static void step(struct pump *p)
{
	bool ok = move(p, 0) && move(p, 1);

	if (ok && !(p->way[0].shut && p->way[1].shut)) {
		watch(p, 0);
		watch(p, 1);
		return;
	}
	p->end(p->arg);
	pump_free(p);
}

/* Nothing can be sent to fd[i] any more. */
static void hung_up(struct pump *p, int i)
{
	struct way *to = &p->way[1 - i];

	loop_remove(p->src[i]);
	p->src[i] = NULL;
	to->len = 0;
	to->eof = to->shut = true;
}

static void on_event(struct pump *p, int i, uint32_t events)
{
	if (events & (EPOLLHUP | EPOLLERR))
		hung_up(p, i);
	step(p);
}

static void on_a(void *arg, uint32_t events)
{
	on_event(arg, 0, events);
}

static void on_b(void *arg, uint32_t events)
{
	on_event(arg, 1, events);
}

struct pump *pump_new(struct loop *loop, int a, int b, pump_end_fn end, void *arg,
		      struct error *err)
{
	struct pump *p = xcalloc(1, sizeof(*p));

	p->loop = loop;
	p->fd[0] = a;
	p->fd[1] = b;
	p->end = end;
	p->arg = arg;
	p->src[0] = loop_add(loop, a, EPOLLIN, on_a, p, err);
	p->src[1] = p->src[0] ? loop_add(loop, b, EPOLLIN, on_b, p, err) : NULL;
	if (p->src[1])
		return p;
	pump_free(p);
	return NULL;
}
