/*
 * fds.h - descriptors that ride on messages of Unix sockets (unix(7), SCM_RIGHTS).
 *
 * Both retry what a signal interrupts, and fail as sendmsg(2) and recvmsg(2) do: -1, with errno.
 * They ask for no other system call, nor for memory.
 */
#ifndef HUSK_LIB_FDS_H
#define HUSK_LIB_FDS_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#define FDS_MAX 16 /* on one message */

/* Sends once, with MSG_NOSIGNAL and `flags`; maybe a part of it, with all descriptors. They are
 * duplicated into the message and stay the caller's. EINVAL: more than FDS_MAX. */
ssize_t fds_send(int sock, const struct iovec *iov, unsigned niov, const int *fds, unsigned nfds,
		 int flags);

/* Receives once, with MSG_CMSG_CLOEXEC and `flags`. At most *nfds descriptors are stored (FDS_MAX
 * of them, if there is room for more), and *nfds says how many; this process never has further
 * ones: the kernel drops them, as those for which it has no number left, and *lost (may be NULL)
 * says so. */
ssize_t fds_receive(int sock, void *data, size_t size, int *fds, unsigned *nfds, int flags,
		    bool *lost);

#endif
