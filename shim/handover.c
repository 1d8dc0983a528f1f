#include "shim/handover.h"
#include "lib/cleanup.h"
#include "shim/console.h"
#include "shim/quantity.h"

#include <string.h>
#include <sys/syscall.h>

#define FDS_MAX (1 << 20)

static bool is_for_us(const char *pid)
{
	int64_t v;

	return pid && quantity_integer(pid, 0, INT32_MAX, &v) && v == getpid();
}

int handover_check(const char *preserve, struct error *err)
{
	const char *listen = getenv("LISTEN_FDS");
	int64_t n = 0;

	if (preserve && !quantity_integer(preserve, 0, FDS_MAX, &n))
		return error_kind(err, ERR_USAGE, "--preserve-fds: \"%s\": must be a number",
				  preserve);
	if (n > 0)
		return error_kind(err, ERR_UNSUPPORTED,
				  "--preserve-fds: %s: a microVM cannot be given open descriptors "
				  "of the host besides standard input, output and error",
				  preserve);
	if (listen && is_for_us(getenv("LISTEN_PID")) && strcmp(listen, "0") != 0)
		return error_kind(err, ERR_UNSUPPORTED,
				  "LISTEN_FDS=%s: a microVM cannot be given listening sockets of "
				  "the host: start husk without socket activation",
				  listen);
	return 0;
}

int handover_connect(const char *path, int *sock, struct error *err)
{
	*sock = path && path[0] ? socket_connect(path, "--pidfd-socket", err) : -1;
	return *sock < 0 && path && path[0] ? -1 : 0;
}

int handover_pidfd(int sock, pid_t pid, struct error *err)
{
	cleanup_close int fd = -1;

	if (sock < 0)
		return 0;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return error_errno(err, "--pidfd-socket: pidfd of process %d", (int)pid);
	return socket_send_fd(sock, fd, "pidfd", err) < 0 ? error_wrap(err, "--pidfd-socket") : 0;
}
