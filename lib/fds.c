#include "lib/fds.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

union control {
	char buf[CMSG_SPACE(sizeof(int) * FDS_MAX)];
	struct cmsghdr align;
};

ssize_t fds_send(int sock, const struct iovec *iov, unsigned niov, const int *fds, unsigned nfds,
		 int flags)
{
	union control ctl = {{0}};
	struct msghdr msg = {.msg_iov = (struct iovec *)iov, .msg_iovlen = niov};
	ssize_t n;

	if (nfds > FDS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (nfds > 0) {
		struct cmsghdr *c;

		msg.msg_control = ctl.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	do
		n = sendmsg(sock, &msg, flags | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n;
}

/* The kernel puts all descriptors of a message into one header, and into the room that it is told
 * of: without the padding behind the last one, which may have room for another. */
ssize_t fds_receive(int sock, void *data, size_t size, int *fds, unsigned *nfds, int flags,
		    bool *lost)
{
	union control ctl = {{0}};
	unsigned room = *nfds < FDS_MAX ? *nfds : FDS_MAX;
	struct iovec iov = {data, size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t n;

	*nfds = 0;
	if (room > 0) {
		msg.msg_control = ctl.buf;
		msg.msg_controllen = CMSG_LEN(sizeof(int) * room);
	}
	do
		n = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return n;
	if (lost)
		*lost = msg.msg_flags & MSG_CTRUNC;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		*nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), sizeof(int) * *nfds);
	}
	return n;
}
