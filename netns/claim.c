/*
 * The claim is a socket with a name that is the namespace's own (unix(7), "Abstract sockets"): the
 * kernel lets one have it, tells everybody who that is, and takes it away with the process, however
 * that ends. So there is nothing to lock, to look for below some --root, or to be left behind.
 */
#include "netns/claim.h"
#include "lib/cleanup.h"

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char name[] = "\0husk/network"; /* without the NUL at its end */

static socklen_t address(struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(a->sun_path, name, sizeof(name) - 1);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(name) - 1);
}

/* The credentials of a socket that listens are those of the process that let it. Who asks stays in
 * its queue; whom a full one (net.core.somaxconn) has no place for is not told. */
static pid_t holder_of(const struct sockaddr_un *a, socklen_t len)
{
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred cred = {0};
	socklen_t size = sizeof(cred);

	if (s < 0 || connect(s, (const struct sockaddr *)a, len) < 0 ||
	    getsockopt(s, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return 0;
	return cred.pid;
}

int netns_claim(pid_t *holder, struct error *err)
{
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;
	socklen_t len = address(&a);

	*holder = 0;
	if (s < 0)
		return error_errno(err, "socket");
	/* Nobody is ever accepted: who connects learns whose it is, and that is all. */
	if (bind(s, (struct sockaddr *)&a, len) == 0 && listen(s, SOMAXCONN) == 0)
		return steal_fd(&s);
	if (errno != EADDRINUSE)
		return error_errno(err, "claim the network namespace");
	*holder = holder_of(&a, len);
	return error_kind(err, ERR_EXISTS, "the network namespace is claimed already");
}
