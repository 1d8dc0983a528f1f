#include "netns/netns.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int netns_join(const char *path, struct error *err)
{
	/* Whatever is there: opening it must not wait, as a fifo does. */
	cleanup_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "open network namespace %s", path);
	if (setns(fd, CLONE_NEWNET) < 0)
		return error_errno(err, "%s: not a network namespace to join", path);
	return 0;
}

static int loopback_up(struct error *err)
{
	cleanup_close int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		return error_errno(err, "bring loopback up");
	return 0;
}

int netns_new(struct error *err)
{
	if (unshare(CLONE_NEWNET) < 0)
		return error_errno(err, "make a network namespace");
	return loopback_up(err);
}

int netns_enter(const char *path, int *home, struct error *err)
{
	cleanup_close int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (here < 0)
		return error_errno(err, "open /proc/thread-self/ns/net");
	if (netns_join(path, err) < 0)
		return -1;
	*home = steal_fd(&here);
	return 0;
}

void netns_leave(int *home)
{
	int saved = errno;

	if (*home < 0)
		return;
	if (setns(*home, CLONE_NEWNET) < 0) {
		log_error("cannot go back to the network namespace: %s", strerror(errno));
		_exit(1);
	}
	close_fd(home);
	errno = saved;
}
