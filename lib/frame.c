#include "lib/frame.h"
#include "lib/cleanup.h"
#include "lib/fds.h"
#include "lib/log.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

/* syscalls loop: recvmsg */

static void put_be32(unsigned char *p, uint32_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

static uint32_t get_be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Waits until `sock` can be read from or written to. */
static int wait_ready(int sock, short events, int intr_fd, uint64_t deadline_us, struct error *err)
{
	for (;;) {
		struct pollfd p[2] = {{.fd = sock, .events = events},
				      {.fd = intr_fd, .events = POLLIN}};
		uint64_t now = deadline_us ? now_us() : 0;
		int ms = -1, r;

		if (deadline_us) {
			if (now >= deadline_us)
				return error_kind(err, ERR_TIMEOUT, "no answer in time");
			ms = (int)((deadline_us - now + 999) / 1000);
		}
		r = poll(p, intr_fd >= 0 ? 2 : 1, ms);
		if (r < 0 && errno != EINTR)
			return error_errno(err, "poll");
		if (r > 0 && intr_fd >= 0 && p[1].revents)
			return error_kind(err, ERR_INTERRUPTED, "interrupted by a signal");
		if (r > 0 && p[0].revents)
			return 0;
	}
}

int frame_send(int sock, const char *text, size_t len, const int *fds, unsigned nfds,
	       struct error *err)
{
	return frame_send_until(sock, text, len, fds, nfds, -1, 0, err);
}

int frame_send_until(int sock, const char *text, size_t len, const int *fds, unsigned nfds,
		     int intr_fd, uint64_t deadline_us, struct error *err)
{
	unsigned char head[4];
	struct iovec iov[2] = {{head, sizeof(head)}, {(char *)text, len}};

	if (len > FRAME_MAX || nfds > FRAME_FDS_MAX)
		return error_set(err, "message of %zu bytes with %u fds is too large", len, nfds);
	put_be32(head, (uint32_t)len);
	while (iov[0].iov_len + iov[1].iov_len > 0) {
		ssize_t n = fds_send(sock, iov, 2, fds, nfds, MSG_DONTWAIT);
		size_t left;

		if (n < 0) {
			if (errno == EAGAIN) {
				if (wait_ready(sock, POLLOUT, intr_fd, deadline_us, err) < 0)
					return -1;
				continue;
			}
			error_errno(err, "send");
			if (err && (errno == EPIPE || errno == ECONNRESET))
				err->kind = ERR_PEER;
			return -1;
		}
		nfds = 0; /* they are gone */
		left = (size_t)n;
		for (int i = 0; i < 2; i++) {
			size_t k = left < iov[i].iov_len ? left : iov[i].iov_len;

			iov[i].iov_base = (char *)iov[i].iov_base + k;
			iov[i].iov_len -= k;
			left -= k;
		}
	}
	return 0;
}

/* ---- event-loop side */

void frame_buf_free(struct frame_buf *b)
{
	for (unsigned i = 0; i < b->nfds; i++)
		close(b->fds[i]);
	free(b->data);
	*b = (struct frame_buf){0};
}

/* Bytes that are wanted now: the length first, then the rest of that message and nothing more, so
 * that fds always belong to the message in the buffer. */
static size_t wanted(const struct frame_buf *b)
{
	uint32_t len;

	if (b->len < 4)
		return 4 - b->len;
	len = get_be32((const unsigned char *)b->data);
	if (len > FRAME_MAX)
		return 0;
	return 4 + (size_t)len - b->len;
}

int frame_buf_fill(struct frame_buf *b, int sock, struct error *err)
{
	int got = 0;

	for (;;) {
		unsigned nfds = FRAME_FDS_MAX - b->nfds;
		size_t want = wanted(b);
		ssize_t n;

		if (want == 0)
			return got;
		/* A length alone allocates little: memory grows with the bytes that came. */
		if (want > 65536)
			want = 65536;
		if (b->len + want + 1 > b->size) {
			size_t size =
				b->len + want + 1 > 2 * b->size ? b->len + want + 1 : 2 * b->size;
			char *p = realloc(b->data, size);

			if (!p)
				return error_set(err, "out of memory");
			b->data = p;
			b->size = size;
		}
		n = fds_receive(sock, b->data + b->len, want, b->fds + b->nfds, &nfds, MSG_DONTWAIT,
				NULL);
		if (n < 0 && errno == EAGAIN)
			return got;
		/* A peer that ended, and had not read all that it was sent. */
		if (n < 0 && errno == ECONNRESET)
			n = 0;
		if (n < 0) {
			error_errno(err, "receive");
			if (err)
				err->kind = ERR_PEER;
			return -1;
		}
		if (n == 0)
			return error_kind(err, ERR_PEER, "%s",
					  b->len ? "connection closed inside a message"
						 : "connection closed");
		b->nfds += nfds;
		b->len += (size_t)n;
		got = 1;
	}
}

int frame_buf_next(struct frame_buf *b, char **text, size_t *len, struct error *err)
{
	uint32_t n;

	if (b->len < 4)
		return 0;
	n = get_be32((const unsigned char *)b->data);
	if (n > FRAME_MAX)
		return error_kind(err, ERR_PEER, "message of %u bytes is too large", n);
	if (b->len < 4 + (size_t)n)
		return 0;
	if (b->size < 4 + (size_t)n + 1) {
		char *p = realloc(b->data, 4 + (size_t)n + 1);

		if (!p)
			return error_set(err, "out of memory");
		b->data = p;
		b->size = 4 + (size_t)n + 1;
	}
	b->data[4 + n] = '\0';
	*text = b->data + 4;
	*len = n;
	return 1;
}

void frame_buf_done(struct frame_buf *b)
{
	/* Never more than one message is read ahead: what is in the buffer is this message. */
	for (unsigned i = 0; i < b->nfds; i++)
		close(b->fds[i]);
	b->nfds = 0;
	b->len = 0;
	if (b->size > 65536) {
		free(b->data);
		b->data = NULL;
		b->size = 0;
	}
}

int frame_buf_take_fd(struct frame_buf *b)
{
	int fd;

	if (b->nfds == 0)
		return -1;
	fd = b->fds[0];
	b->nfds--;
	memmove(b->fds, b->fds + 1, b->nfds * sizeof(int));
	return fd;
}

/* ---- blocking side, on top of it */

int frame_recv(int sock, char **text, size_t *len, int *fds, unsigned *nfds, int intr_fd,
	       uint64_t deadline_us, struct error *err)
{
	struct frame_buf b = {0};
	unsigned room = nfds ? *nfds : 0;
	char *msg;
	int r;

	if (nfds)
		*nfds = 0;
	while ((r = frame_buf_next(&b, &msg, len, err)) == 0) {
		struct error e = ERROR_INIT;

		if (wait_ready(sock, POLLIN, intr_fd, deadline_us, err) < 0 ||
		    frame_buf_fill(&b, sock, &e) < 0) {
			bool clean_end = b.len == 0 && e.kind == ERR_PEER && e.errnum == 0;

			frame_buf_free(&b);
			if (clean_end)
				return 0;
			if (e.msg[0] && err)
				*err = e;
			return -1;
		}
	}
	if (r > 0) {
		*text = malloc(*len + 1);
		if (*text)
			memcpy(*text, msg, *len + 1);
		else
			r = error_set(err, "out of memory");
		for (unsigned i = 0; r > 0 && i < room && b.nfds > 0; i++) {
			fds[i] = frame_buf_take_fd(&b);
			(*nfds)++;
		}
	}
	frame_buf_free(&b);
	return r;
}
