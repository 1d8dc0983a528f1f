/*
 * streams.c - relays between pipes or ptys and stream connections.
 *
 * Pipes. Bytes go from pipe to socket and back by splice(2), which leaves what the far side has no
 * room for where it was: the relay holds no buffer, a full pipe stays a full pipe to the process,
 * and an unread connection stays unread to the host. Only the agent's own end of a pipe is
 * non-blocking; the two ends are separate open files, the process sees an ordinary one.
 *
 * A relay is woken by either of its two descriptors, edge-triggered, and then moves bytes until one
 * of the two says EAGAIN. It need not know which: whichever it was, that descriptor's next edge
 * comes. After BUDGET bytes it stops and re-arms its source, which puts it at the end of epoll's
 * ready list if there is more: a fast stream gets its turns, and no more. Nothing waits for a slow
 * one. A stream that the host has not opened is not watched at all: the pipe fills, the process
 * blocks.
 *
 * Consoles. splice(2) needs a pipe at one side, so a pty goes through two small buffers, one for
 * each direction, filled only when empty.
 *
 * The end. A pipe ends at the end of file, when its last writer is gone. When the process itself
 * ends, others may still hold the pipe (an exec'd process may leave a child behind): what is
 * in the pipe then is what the process could have written, FIONREAD counts it, and the stream
 * is over when that much was sent. Only this relay reads the pipe, so the count holds. A host that
 * does not read may keep a process "running" in that way, but not one that it has killed. For a
 * pid namespace's init the same count is the rest of all there is. A pty is read until it is
 * empty, at most TTY_REST bytes.
 *
 * A host that goes away. Its connection then is shut down for both directions, which epoll
 * reports like a half-close (EPOLLRDHUP); an empty send() tells the two apart without moving a
 * byte.
 */
#include "agent/streams.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <termios.h>

#define CHUNK (64u << 10)     /* bytes of one splice: it allocates pages for as much */
#define BUDGET (1u << 20)     /* bytes of one turn */
#define TTY_BUF (8u << 10)    /* a tty never gives more than a page or two at once */
#define TTY_REST (128u << 10) /* twice what a pty can hold */

struct buf {
	size_t off, len;
	char data[TTY_BUF];
};

struct console {
	struct buf up, down; /* to the host, to the process */
	bool host_eof;
};

struct stream {
	struct streams *set;
	struct stream *prev, *next;
	enum stream_kind kind;
	unsigned char token[16];
	bool opened;
	bool over;
	bool ended;    /* the process has ended: */
	uint64_t left; /* ... so many bytes are still to be sent */
	int fd;
	int conn;
	struct loop_source *fd_src, *conn_src, *grace, *limit;
	struct console *console;
	stream_take_fn take; /* STREAM_HANDED */
	stream_done_fn done;
	void *arg;
};

/* A connection whose token is not here yet. */
struct opener {
	struct streams *set;
	struct opener *prev, *next;
	int conn;
	struct loop_source *src, *timer;
	char text[PROTO_TOKEN_HEX];
	size_t len;
};

struct streams {
	struct loop *loop;
	struct stream *streams;
	struct opener *openers;
	unsigned n_streams, n_openers;
};

/* ---- the end of a stream */

static void stop(struct stream *s)
{
	loop_remove(s->fd_src);
	loop_remove(s->conn_src);
	loop_remove(s->grace);
	loop_remove(s->limit);
	s->fd_src = s->conn_src = s->grace = s->limit = NULL;
	close_fd(&s->fd);
	close_fd(&s->conn);
	free(s->console);
	s->console = NULL;
	s->over = true;
}

static void finish(struct stream *s)
{
	if (s->over)
		return;
	stop(s);
	s->done(s->arg);
}

static void on_grace(void *arg, uint32_t events UNUSED)
{
	struct stream *s = arg;

	s->grace = NULL;
	log_debug("stream: output that nobody fetched is dropped");
	finish(s);
}

static void on_limit(void *arg, uint32_t events UNUSED)
{
	struct stream *s = arg;

	s->limit = NULL;
	log_debug("stream: output of a killed process that nobody took is dropped");
	finish(s);
}

/* The host has closed the connection, and not just its sending side. */
static bool host_gone(int conn)
{
	return send(conn, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN &&
	       errno != EINTR;
}

static bool again(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* ---- pipes */

/* Returns false when the stream is over. */
static bool relay_pipe(struct stream *s, int from, int to)
{
	size_t budget = BUDGET;

	while (budget > 0) {
		size_t want = s->ended && s->left < CHUNK ? (size_t)s->left : CHUNK;
		ssize_t n;

		if (want == 0)
			return false;
		n = splice(from, NULL, to, NULL, want, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0)
			return false;
		if (s->ended)
			s->left -= (uint64_t)n;
		budget = (size_t)n < budget ? budget - (size_t)n : 0;
	}
	loop_set(s->fd_src, (s->kind == STREAM_IN ? EPOLLOUT : EPOLLIN) | EPOLLET);
	loop_set(s->conn_src, (s->kind == STREAM_IN ? EPOLLIN : EPOLLOUT) | EPOLLRDHUP | EPOLLET);
	return true;
}

/* ---- consoles */

/* Reads into an empty buffer. Returns 1 if bytes came, 0 if there are none now, -1 at the end. */
static int fill(struct buf *b, int fd, size_t max)
{
	ssize_t n = read(fd, b->data, max < TTY_BUF ? max : TTY_BUF);

	if (n < 0 && again())
		return 0;
	if (n <= 0)
		return -1;
	b->off = 0;
	b->len = (size_t)n;
	return 1;
}

/* Writes what the buffer holds. Returns 1 if it is empty now, 0 if there is no room, -1 on error.
 */
static int drain(struct buf *b, int fd, bool is_socket)
{
	while (b->len > 0) {
		ssize_t n =
			is_socket ? send(fd, b->data + b->off, b->len, MSG_NOSIGNAL | MSG_DONTWAIT)
				  : write(fd, b->data + b->off, b->len);

		if (n < 0)
			return again() ? 0 : -1;
		b->off += (size_t)n;
		b->len -= (size_t)n;
	}
	return 1;
}

/* Returns -1 when the console is over, 1 if bytes moved, 0 if none could. */
static int console_up(struct stream *s)
{
	struct buf *b = &s->console->up;
	int r;

	if (b->len == 0) {
		size_t max = s->ended && s->left < TTY_BUF ? (size_t)s->left : TTY_BUF;

		r = max ? fill(b, s->fd, max) : -1;
		if (r < 0 || (r == 0 && s->ended))
			return -1;
		if (r == 0)
			return 0;
		if (s->ended)
			s->left -= b->len;
	}
	r = drain(b, s->conn, true);
	return r;
}

static int console_down(struct stream *s)
{
	struct buf *b = &s->console->down;

	if (s->console->host_eof || s->ended)
		return 0;
	if (b->len == 0) {
		int r = fill(b, s->conn, TTY_BUF);

		if (r < 0) {
			s->console->host_eof = true;
			return host_gone(s->conn) ? -1 : 0;
		}
		if (r == 0)
			return 0;
	}
	if (drain(b, s->fd, false) < 0)
		b->len = 0; /* no slave is open: reading tells when that is the end */
	return b->len == 0;
}

static bool relay_console(struct stream *s)
{
	for (size_t turns = BUDGET / TTY_BUF; turns > 0; turns--) {
		int up = console_up(s), down = up < 0 ? 0 : console_down(s);

		if (up < 0 || down < 0)
			return false;
		if (up == 0 && down == 0)
			return true;
	}
	loop_set(s->fd_src, EPOLLIN | EPOLLOUT | EPOLLET);
	loop_set(s->conn_src, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
	return true;
}

static void relay(struct stream *s)
{
	bool go_on = false;

	switch (s->kind) {
	case STREAM_IN:
		go_on = relay_pipe(s, s->conn, s->fd);
		break;
	case STREAM_OUT:
		go_on = relay_pipe(s, s->fd, s->conn);
		break;
	case STREAM_CONSOLE:
		go_on = relay_console(s);
		break;
	case STREAM_HANDED: /* has no relay */
		break;
	}
	if (!go_on)
		finish(s);
}

static void on_fd(void *arg, uint32_t events)
{
	struct stream *s = arg;

	/* The process has closed its stdin. */
	if (s->kind == STREAM_IN && (events & EPOLLERR))
		finish(s);
	else
		relay(s);
}

static void on_conn(void *arg, uint32_t events)
{
	struct stream *s = arg;

	if (s->kind != STREAM_IN && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) &&
	    host_gone(s->conn))
		finish(s);
	else
		relay(s);
}

/* Starts the relay once both of its ends are there. */
static void begin(struct stream *s)
{
	uint32_t fd_events = s->kind == STREAM_IN    ? EPOLLOUT
			     : s->kind == STREAM_OUT ? EPOLLIN
						     : EPOLLIN | EPOLLOUT;
	uint32_t conn_events = s->kind == STREAM_IN    ? EPOLLIN
			       : s->kind == STREAM_OUT ? EPOLLOUT
						       : EPOLLIN | EPOLLOUT;
	struct error err = ERROR_INIT;

	if (s->fd < 0 || s->conn < 0)
		return;
	if (s->kind == STREAM_CONSOLE) {
		s->console = calloc(1, sizeof(*s->console));
		if (!s->console) {
			finish(s);
			return;
		}
	}
	s->fd_src = loop_add(s->set->loop, s->fd, fd_events | EPOLLET, on_fd, s, &err);
	if (s->fd_src)
		s->conn_src = loop_add(s->set->loop, s->conn, conn_events | EPOLLRDHUP | EPOLLET,
				       on_conn, s, &err);
	if (!s->conn_src) {
		log_error("stream: %s", err.msg);
		finish(s);
	}
}

/* ---- tokens */

static struct stream *find_token(struct streams *set, const unsigned char token[16])
{
	for (struct stream *s = set->streams; s; s = s->next)
		if (!s->opened && memcmp(s->token, token, sizeof(s->token)) == 0)
			return s;
	return NULL;
}

static void attach(struct streams *set, const char *text, int conn)
{
	unsigned char token[16];
	struct stream *s = proto_token_parse(text, token) < 0 ? NULL : find_token(set, token);

	if (!s || s->over) {
		/* Also what comes too late: the output was empty or has been dropped. */
		log_debug("stream: no stream has this token");
		close(conn);
		return;
	}
	s->opened = true;
	if (s->kind == STREAM_HANDED) {
		s->take(s->arg, conn);
		return;
	}
	s->conn = conn;
	loop_remove(s->grace);
	s->grace = NULL;
	begin(s);
}

static void opener_free(struct opener *o)
{
	loop_remove(o->src);
	loop_remove(o->timer);
	if (o->prev)
		o->prev->next = o->next;
	else
		o->set->openers = o->next;
	if (o->next)
		o->next->prev = o->prev;
	o->set->n_openers--;
	free(o);
}

/* Reads the token and not a byte more: the rest is the stream. Returns 1 when it is whole, 0 if
 * not yet, -1 if the connection ended. */
static int read_token(struct opener *o)
{
	while (o->len < sizeof(o->text)) {
		ssize_t n = recv(o->conn, o->text + o->len, sizeof(o->text) - o->len, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return -1;
		o->len += (size_t)n;
	}
	return 1;
}

static void on_opener(void *arg, uint32_t events UNUSED)
{
	struct opener *o = arg;
	struct streams *set = o->set;
	int r = read_token(o), conn = o->conn;
	char text[PROTO_TOKEN_HEX];

	if (r == 0)
		return;
	memcpy(text, o->text, sizeof(text));
	opener_free(o);
	if (r > 0)
		attach(set, text, conn);
	else
		close(conn);
}

static void on_opener_timeout(void *arg, uint32_t events UNUSED)
{
	struct opener *o = arg;
	int conn = o->conn;

	o->timer = NULL;
	opener_free(o);
	close(conn);
}

/* The token has mostly come with the connection: it is awaited only if it has not. */
static int await_token(struct opener *o, struct error *err)
{
	o->timer = loop_timer(o->set->loop, STREAM_TOKEN_US, on_opener_timeout, o, err);
	if (!o->timer)
		return -1;
	o->src = loop_add(o->set->loop, o->conn, EPOLLIN, on_opener, o, err);
	return o->src ? 0 : -1;
}

void streams_accept(struct streams *set, int conn)
{
	struct error err = ERROR_INIT;
	struct opener *o;
	int r;

	if (set->n_openers >= STREAM_OPENERS_MAX) {
		log_error("stream: too many connections without a token");
		close(conn);
		return;
	}
	o = xcalloc(1, sizeof(*o));
	o->set = set;
	o->conn = conn;
	o->next = set->openers;
	if (o->next)
		o->next->prev = o;
	set->openers = o;
	set->n_openers++;
	r = read_token(o);
	if (r == 0 && await_token(o, &err) == 0)
		return;
	if (r > 0) {
		char text[PROTO_TOKEN_HEX];

		memcpy(text, o->text, sizeof(text));
		opener_free(o);
		attach(set, text, conn);
		return;
	}
	opener_free(o);
	close(conn);
}

/* ---- streams */

struct streams *streams_new(struct loop *loop)
{
	struct streams *set = xcalloc(1, sizeof(*set));

	set->loop = loop;
	return set;
}

void streams_free(struct streams *set)
{
	if (!set)
		return;
	while (set->openers) {
		close(set->openers->conn);
		opener_free(set->openers);
	}
	free(set);
}

/* Only the host can connect here: a token is a name rather than a secret, and must not wait for
 * the kernel to have gathered entropy. */
static int make_token(unsigned char token[16], struct error *err)
{
	if (getrandom(token, 16, GRND_NONBLOCK) == 16 || getrandom(token, 16, GRND_INSECURE) == 16)
		return 0;
	return error_errno(err, "getrandom");
}

struct stream *stream_new(struct streams *set, enum stream_kind kind, int fd, stream_done_fn done,
			  void *arg, struct error *err)
{
	struct stream *s;
	unsigned char token[16];

	if (set->n_streams >= STREAMS_MAX) {
		error_set(err, "too many streams (%u)", set->n_streams);
		close_fd(&fd);
		return NULL;
	}
	if ((fd >= 0 && set_nonblock(fd, true) < 0) || make_token(token, err) < 0) {
		close_fd(&fd);
		return NULL;
	}
	s = xcalloc(1, sizeof(*s));
	s->set = set;
	s->kind = kind;
	memcpy(s->token, token, sizeof(token));
	s->fd = fd;
	s->conn = -1;
	s->done = done;
	s->arg = arg;
	s->next = set->streams;
	if (s->next)
		s->next->prev = s;
	set->streams = s;
	set->n_streams++;
	return s;
}

struct stream *stream_new_handed(struct streams *set, stream_take_fn take, void *arg,
				 struct error *err)
{
	struct stream *s = stream_new(set, STREAM_HANDED, -1, NULL, arg, err);

	if (s)
		s->take = take;
	return s;
}

void stream_set_master(struct stream *s, int fd)
{
	if (s->fd >= 0 || s->over) {
		close(fd);
		return;
	}
	set_nonblock(fd, true);
	s->fd = fd;
	begin(s);
}

void stream_token(const struct stream *s, char text[PROTO_TOKEN_HEX + 1])
{
	proto_token_text(s->token, text);
}

int stream_resize(struct stream *s, uint16_t width, uint16_t height, struct error *err)
{
	struct winsize ws = {.ws_col = width, .ws_row = height};

	if (s->kind != STREAM_CONSOLE || s->fd < 0)
		return error_kind(err, ERR_NOT_RUNNING, "the console is closed");
	if (ioctl(s->fd, TIOCSWINSZ, &ws) < 0)
		return error_errno(err, "set the console's size");
	return 0;
}

/* Bytes that the process has left behind. A poll() makes a pty's kernel worker hand over what was
 * written to the slave. */
static uint64_t rest_of(const struct stream *s)
{
	struct pollfd p = {.fd = s->fd, .events = POLLIN};
	int n = 0;

	if (s->fd < 0)
		return 0;
	if (s->kind == STREAM_CONSOLE)
		return poll(&p, 1, 0) > 0 && (p.revents & POLLIN) ? TTY_REST : 0;
	return ioctl(s->fd, FIONREAD, &n) < 0 || n < 0 ? 0 : (uint64_t)n;
}

void stream_process_ended(struct stream *s, uint64_t grace_us)
{
	if (s->over)
		return;
	if (s->ended) {
		if (s->grace && grace_us == 0)
			finish(s);
		return;
	}
	s->ended = true;
	if (s->kind == STREAM_IN) {
		finish(s);
		return;
	}
	s->left = rest_of(s);
	if (s->conn >= 0 && s->fd >= 0) {
		relay(s);
		return;
	}
	if (s->left > 0 && grace_us > 0)
		s->grace = loop_timer(s->set->loop, grace_us, on_grace, s, NULL);
	if (!s->grace)
		finish(s);
}

void stream_limit(struct stream *s, uint64_t us)
{
	if (!s->over && !s->limit)
		s->limit = loop_timer(s->set->loop, us, on_limit, s, NULL);
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	stop(s);
	if (s->prev)
		s->prev->next = s->next;
	else
		s->set->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	s->set->n_streams--;
	free(s);
}
