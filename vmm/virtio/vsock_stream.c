/*
 * Theory of operation
 *
 * A stream is a connection (vsock_conn.c) and our end of a socket pair; the client has the other
 * end. Bytes from the guest go from its memory straight into the socket. What the socket does not
 * take waits in a ring buffer that exists only while something is in it: an idle stream is this
 * struct, a source in the loop and two empty sockets. The ring is as large as the credit that was
 * granted, so that it cannot overflow (vsock_conn_input() refuses more).
 *
 * Bytes to the guest are read from the socket straight into its memory, by vsock_rx.c. EPOLLIN is
 * level-triggered, so it is watched only while we do not know of anything to read: it comes once
 * (`readable`), and is not asked for again before a read came back short. A stream without credit
 * or guest buffers therefore costs no wake-ups. EPOLLHUP cannot be masked: when it comes the
 * source is removed, and the rest, which can only be bytes sent before, is read as credit allows.
 *
 * Ends, and what becomes of them:
 *
 *	client shuts writing   read() says 0, after the last byte: SHUTDOWN(SEND)
 *	client shuts reading   EPIPE: SHUTDOWN(RCV), what the guest still sends is dropped
 *	client closes          EPOLLHUP: SHUTDOWN(RCV) at once, SEND after the last byte; the guest
 *	                       answers RST. If it does not we forget it after VSOCK_CLOSE_US
 *	guest shuts writing    shutdown(SHUT_WR) after the ring is empty: the client reads to
 *	                       the end
 *	guest shuts reading    shutdown(SHUT_RD): the client gets EPIPE
 *	guest closes           both, and RST at once; the stream lives on until the client has
 *	                       taken the rest of the ring, or is gone
 *	guest sends RST        the same without the answer
 *	guest breaks rules     RST, and the client sees the end now
 *
 * Local ports come from a counter over almost all 32 bits, so that a port is used again only after
 * four billion connections, and never while a stream has it.
 */
#include "vmm/virtio/vsock_dev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

/* syscalls loop: socketpair(0==AF_UNIX, 1==SOCK_STREAM|SOCK_CLOEXEC)
 *	setsockopt(1==SOL_SOCKET, 2==SO_SNDBUF) shutdown sendmsg recvmsg read write close
 *	mmap(2!&PROT_EXEC) munmap */

#define PORT_FIRST 0x10000u
#define PORT_LAST 0xfffffffeu /* 0xffffffff is VMADDR_PORT_ANY */

/* A share of the pool for a new connection: a full buffer while there is plenty, then ever less,
 * so that the pool is never overdrawn but by the minimum. */
static uint32_t grant(const struct vsock_dev *d)
{
	uint64_t left = d->granted < VSOCK_POOL_BYTES ? VSOCK_POOL_BYTES - d->granted : 0;
	uint64_t share = left / 8 & ~4095ull;

	if (share > VSOCK_BUF_BYTES)
		share = VSOCK_BUF_BYTES;
	return share < VSOCK_BUF_MIN ? VSOCK_BUF_MIN : (uint32_t)share;
}

static struct vsock_stream **bucket(struct vsock_dev *d, uint32_t local_port)
{
	return &d->hash[local_port & (VSOCK_HASH - 1)];
}

static bool port_in_use(struct vsock_dev *d, uint32_t port)
{
	for (struct vsock_stream *s = *bucket(d, port); s; s = s->hash_next)
		if (s->c.local_port == port)
			return true;
	return false;
}

static uint32_t new_port(struct vsock_dev *d)
{
	uint32_t port;

	do {
		if (d->next_port < PORT_FIRST || d->next_port > PORT_LAST)
			d->next_port = PORT_FIRST;
		port = d->next_port++;
	} while (port_in_use(d, port));
	return port;
}

struct vsock_stream *vsock_stream_new(struct vsock_dev *d, uint32_t peer_port, struct error *err)
{
	struct vsock_stream *s, **b;

	if (d->nstreams >= VSOCK_CONNS_MAX) {
		error_set(err, "vsock port %u: %d connections are open already", peer_port,
			  VSOCK_CONNS_MAX);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		error_set(err, "vsock port %u: out of memory", peer_port);
		return NULL;
	}
	vsock_conn_init(&s->c, VSOCK_GUEST_CID, new_port(d), peer_port, grant(d));
	s->d = d;
	s->sock = -1;
	s->batch = 1;
	b = bucket(d, s->c.local_port);
	s->hash_next = *b;
	*b = s;
	s->next = d->streams;
	if (s->next)
		s->next->prev = s;
	d->streams = s;
	d->nstreams++;
	d->granted += s->c.buf_alloc;
	return s;
}

struct vsock_stream *vsock_stream_find(struct vsock_dev *d, uint32_t local_port, uint32_t peer_port)
{
	struct vsock_stream *s = *bucket(d, local_port);

	while (s && !(s->c.local_port == local_port && s->c.peer_port == peer_port &&
		      (s->c.state == VSOCK_CONNECTING || s->c.state == VSOCK_OPEN)))
		s = s->hash_next;
	return s;
}

/* ---- the ring buffer */

static bool buf_make(struct vsock_stream *s)
{
	if (s->d->spare && s->c.buf_alloc == VSOCK_BUF_BYTES) {
		s->buf = s->d->spare;
		s->d->spare = NULL;
		return true;
	}
	s->buf = mmap(NULL, s->c.buf_alloc, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (s->buf == MAP_FAILED)
		s->buf = NULL;
	return s->buf;
}

static void buf_free(struct vsock_stream *s)
{
	if (!s->buf)
		return;
	if (!s->d->spare && s->c.buf_alloc == VSOCK_BUF_BYTES)
		s->d->spare = s->buf;
	else
		munmap(s->buf, s->c.buf_alloc);
	s->buf = NULL;
	s->buf_head = s->buf_len = 0;
}

static void buf_append(struct vsock_stream *s, const uint8_t *p, uint32_t len)
{
	uint32_t size = s->c.buf_alloc, tail = (s->buf_head + s->buf_len) % size;
	uint32_t first = len < size - tail ? len : size - tail;

	memcpy(s->buf + tail, p, first);
	memcpy(s->buf, p + first, len - first);
	s->buf_len += len;
}

/* What is in it, as one or two pieces. */
static unsigned buf_pieces(const struct vsock_stream *s, struct iovec iov[2])
{
	uint32_t first = s->c.buf_alloc - s->buf_head;

	if (first > s->buf_len)
		first = s->buf_len;
	iov[0] = (struct iovec){s->buf + s->buf_head, first};
	iov[1] = (struct iovec){s->buf, s->buf_len - first};
	return first == s->buf_len ? 1 : 2;
}

/* ---- the client's socket */

static void remove_source(struct vsock_stream *s)
{
	loop_remove(s->src);
	s->src = NULL;
}

/* The client takes nothing more. What it did not take counts as taken. */
static void client_takes_no_more(struct vsock_stream *s)
{
	s->gone = true;
	if (s->buf_len)
		vsock_conn_forwarded(&s->c, s->buf_len);
	buf_free(s);
	vsock_conn_shutdown(&s->c, VSOCK_SHUT_RCV);
}

/* Closing a socket with unread bytes in it would be ECONNRESET for a client that still reads. */
static void drain(int sock)
{
	char junk[16 << 10];
	unsigned rounds = 0;

	shutdown(sock, SHUT_RD);
	while (read(sock, junk, sizeof(junk)) > 0 && rounds++ < 256)
		;
}

void vsock_stream_drop_client(struct vsock_stream *s)
{
	remove_source(s);
	if (s->sock >= 0) {
		if (!s->eof && !s->gone)
			drain(s->sock);
		close_fd(&s->sock);
	}
	s->eof = s->gone = true;
	s->readable = false;
	buf_free(s);
}

/* Writes to the client; returns the bytes it took, which may be all when it wants none any more. */
static uint32_t to_client(struct vsock_stream *s, struct iovec *iov, unsigned n, uint32_t len)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t r;

	do {
		r = sendmsg(s->sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (r < 0 && errno == EINTR);
	if (r >= 0)
		return (uint32_t)r;
	if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
		return 0;
	client_takes_no_more(s);
	return len;
}

void vsock_stream_deliver(struct vsock_stream *s, struct iovec *iov, unsigned n, uint32_t len)
{
	uint32_t took = 0;

	s->d->tx_bytes += len;
	if (s->gone)
		took = len;
	else if (!s->buf_len)
		took = to_client(s, iov, n, len);
	vsock_conn_forwarded(&s->c, took);
	if (took == len)
		return;
	if (!s->buf && !buf_make(s)) {
		log_warn("vsock port %u: out of memory", s->c.peer_port);
		vsock_conn_abort(&s->c);
		vsock_stream_drop_client(s);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		if (took >= iov[i].iov_len) {
			took -= (uint32_t)iov[i].iov_len;
			continue;
		}
		buf_append(s, (uint8_t *)iov[i].iov_base + took, (uint32_t)iov[i].iov_len - took);
		took = 0;
	}
}

static void flush(struct vsock_stream *s)
{
	struct iovec iov[2];
	uint32_t took;

	if (!s->buf_len)
		return;
	took = to_client(s, iov, buf_pieces(s, iov), s->buf_len);
	if (s->gone)
		return; /* all was dropped and accounted for */
	s->buf_head = (s->buf_head + took) % s->c.buf_alloc;
	s->buf_len -= took;
	if (!s->buf_len)
		buf_free(s);
	vsock_conn_forwarded(&s->c, took);
}

/* Both directions are shut: the client is gone, or has shut what the guest had left open. */
static void hangup(struct vsock_stream *s)
{
	remove_source(s);
	client_takes_no_more(s);
	s->readable = true; /* at least the end of the stream */
}

static void on_socket(void *arg, uint32_t events)
{
	struct vsock_stream *s = arg;
	struct vsock_dev *d = s->d;

	if (events & EPOLLIN)
		s->readable = true;
	if (events & (EPOLLHUP | EPOLLERR))
		hangup(s);
	else if (events & EPOLLOUT)
		flush(s);
	if (events == EPOLLIN)
		vsock_stream_queue(s); /* the pump settles it after the read */
	else
		vsock_stream_settle(s);
	vsock_pump(d);
}

/* The kernel's buffer of what is written to `sock`. It decides how many bytes move per wake-up, and
 * an unused one costs nothing. As large as the stream's share of the pool, so that the pool bounds
 * the kernel's memory too. The kernel may grant less (net.core.wmem_max). */
static void set_buffer(int sock, uint32_t bytes)
{
	int n = (int)bytes;

	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &n, sizeof(n));
}

void vsock_stream_open(struct vsock_stream *s)
{
	cleanup_close int theirs = -1;
	vsock_done_fn done = s->done;
	struct error err = ERROR_INIT;
	int pair[2];

	s->deadline = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		vsock_conn_abort(&s->c);
		vsock_stream_fail(s, ERR_OTHER, strerror(errno));
		return;
	}
	s->sock = pair[0];
	theirs = pair[1];
	set_buffer(pair[0], s->c.buf_alloc);
	set_buffer(pair[1], s->c.buf_alloc);
	set_nonblock(s->sock, true);
	s->events = EPOLLIN;
	s->src = loop_add(s->d->vd.loop, s->sock, s->events, on_socket, s, &err);
	if (!s->src) {
		vsock_conn_abort(&s->c);
		vsock_stream_fail(s, ERR_OTHER, err.msg);
		vsock_stream_drop_client(s);
		return;
	}
	s->done = NULL;
	done(s->arg, steal_fd(&theirs), NULL);
}

void vsock_stream_fail(struct vsock_stream *s, enum error_kind kind, const char *why)
{
	vsock_done_fn done = s->done;
	struct error err = ERROR_INIT;

	if (!done)
		return;
	s->done = NULL;
	error_kind(&err, kind, "vsock port %u: %s", s->c.peer_port, why);
	done(s->arg, -1, &err);
}

/* ---- life */

void vsock_stream_queue(struct vsock_stream *s)
{
	struct vsock_dev *d = s->d;

	if (s->queued)
		return;
	s->queued = true;
	s->ready_next = NULL;
	s->ready_prev = d->ready_tail;
	if (d->ready_tail)
		d->ready_tail->ready_next = s;
	else
		d->ready_head = s;
	d->ready_tail = s;
}

void vsock_stream_unqueue(struct vsock_stream *s)
{
	struct vsock_dev *d = s->d;

	if (!s->queued)
		return;
	s->queued = false;
	if (s->ready_prev)
		s->ready_prev->ready_next = s->ready_next;
	else
		d->ready_head = s->ready_next;
	if (s->ready_next)
		s->ready_next->ready_prev = s->ready_prev;
	else
		d->ready_tail = s->ready_prev;
}

void vsock_stream_free(struct vsock_stream *s)
{
	struct vsock_dev *d = s->d;
	struct vsock_stream **b = bucket(d, s->c.local_port);

	vsock_stream_unqueue(s);
	vsock_stream_drop_client(s);
	while (*b != s)
		b = &(*b)->hash_next;
	*b = s->hash_next;
	if (s->prev)
		s->prev->next = s->next;
	else
		d->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	d->nstreams--;
	d->granted -= s->c.buf_alloc;
	free(s);
}

bool vsock_stream_has_work(const struct vsock_stream *s)
{
	if (s->c.state == VSOCK_WAITING)
		return s->d->ready;
	if (vsock_conn_due(&s->c) != VSOCK_OP_INVALID)
		return true;
	return s->readable && !s->eof && vsock_conn_window(&s->c);
}

void vsock_stream_set_events(struct vsock_stream *s)
{
	uint32_t events = 0;

	if (!s->src)
		return;
	if (s->c.state == VSOCK_OPEN && !s->eof && !s->readable)
		events |= EPOLLIN;
	if (s->buf_len)
		events |= EPOLLOUT;
	if (events != s->events)
		loop_set(s->src, events);
	s->events = events;
}

/* The guest's word on shutdown, passed on to the client. */
static void shut_client(struct vsock_stream *s)
{
	bool finished = s->c.state == VSOCK_FINISHED;

	if (s->sock < 0)
		return;
	if (((s->c.peer_shut & VSOCK_SHUT_RCV) || finished) && !s->eof) {
		drain(s->sock);
		s->eof = true;
		s->readable = false;
		vsock_conn_shutdown(&s->c, VSOCK_SHUT_SEND);
	}
	if (((s->c.peer_shut & VSOCK_SHUT_SEND) || finished) && !s->buf_len && !s->shut_wr) {
		shutdown(s->sock, SHUT_WR);
		s->shut_wr = true;
	}
}

void vsock_stream_settle(struct vsock_stream *s)
{
	shut_client(s);
	if (s->c.state == VSOCK_FINISHED && !s->buf_len) {
		vsock_stream_fail(s, ERR_PEER, "connection reset by the guest");
		vsock_stream_free(s);
		return;
	}
	if (s->c.sent_shut == VSOCK_SHUT_BOTH && !s->deadline && s->c.state == VSOCK_OPEN) {
		s->deadline = now_us() + VSOCK_CLOSE_US;
		if (vsock_arm(s->d, s->deadline, NULL) < 0)
			s->deadline = 0; /* it is up to the guest then */
	}
	if (vsock_stream_has_work(s))
		vsock_stream_queue(s);
	else
		vsock_stream_unqueue(s);
	vsock_stream_set_events(s);
}
