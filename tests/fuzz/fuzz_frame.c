/* Framed messages from a peer that sends what it likes, in pieces that it likes: the first byte
 * of the input chooses the size of the pieces and whether descriptors ride with them. */
#include "lib/cleanup.h"
#include "lib/frame.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static bool send_piece(int sock, const uint8_t *p, size_t n, unsigned nfds)
{
	static const int fds[8];
	union {
		char buf[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} ctl = {0};
	struct iovec iov = {(void *)p, n};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		struct cmsghdr *c = &ctl.align;

		msg.msg_control = ctl.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)n;
}

/* Takes every message that is whole. False when the peer is to be dropped. */
static bool drain(struct frame_buf *b, int sock, unsigned *messages)
{
	struct error err = ERROR_INIT;

	for (;;) {
		char *text = NULL;
		size_t len = 0;
		int fd, filled = frame_buf_fill(b, sock, &err);
		int r = frame_buf_next(b, &text, &len, &err);

		expect(b->nfds <= FRAME_FDS_MAX);
		if (r < 0) {
			expect(err.kind == ERR_PEER);
			return false;
		}
		if (r == 0)
			return filled >= 0;
		expect(len <= FRAME_MAX && text[len] == '\0');
		if (*messages % 2 == 0 && (fd = frame_buf_take_fd(b)) >= 0)
			close(fd);
		frame_buf_done(b);
		++*messages;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_buf b = {0};
	unsigned messages = 0, nfds;
	size_t piece;
	int s[2];

	if (size < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		return 0;
	piece = (data[0] & 63) + 1;
	nfds = data[0] >> 6;
	for (size_t i = 1; i < size; i += piece) {
		size_t n = size - i < piece ? size - i : piece;

		if (!send_piece(s[0], data + i, n, nfds ? nfds * 2 : 0) ||
		    !drain(&b, s[1], &messages))
			break;
	}
	close(s[0]);
	drain(&b, s[1], &messages);
	frame_buf_free(&b);
	close(s[1]);
	return 0;
}
