/*
 * A container in another one's user namespace.
 *
 * Its other namespaces have to belong to that one, or its root could do nothing in them: so whoever
 * makes them has to be there before, and from a user namespace there is no way back. The agent has
 * a helper go there, which makes the container's process (CLONE_PARENT: as the agent's child),
 * sends its pidfd, and ends.
 */
#include "agent/namespaces.h"
#include "agent/sync.h"
#include "lib/cleanup.h"
#include "lib/fds.h"
#include "lib/file.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What the helper says: how it went, with the pidfd if it went well. */
struct said {
	int errnum;
	bool joined; /* the user namespace, before it failed */
};

/* ---- the helper */

static void __attribute__((noreturn)) say(int sock, bool joined, int errnum, int pidfd)
{
	struct said said = {errnum, joined};
	struct iovec iov = {&said, sizeof(said)};

	fds_send(sock, &iov, 1, &pidfd, pidfd >= 0 ? 1 : 0, 0);
	_exit(0);
}

/* Returns in the container's process only. */
static void make_process(const struct container *c, uint64_t flags, int sock)
{
	int pidfd = -1;
	struct clone_args args = {
		.flags = flags | CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_PARENT,
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.cgroup = (uint64_t)c->cgroup_fd,
	};
	long pid;

	if (setns(c->join[OCI_NS_USER].pidfd, CLONE_NEWUSER) < 0)
		say(sock, false, errno, -1);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid != 0)
		say(sock, true, pid < 0 ? errno : 0, pid < 0 ? -1 : pidfd);
}

/* ---- the agent */

static int hear(int sock, struct said *said)
{
	unsigned nfds = 1;
	int pidfd = -1;
	ssize_t n = fds_receive(sock, said, sizeof(*said), &pidfd, &nfds, 0, NULL);

	if (n != sizeof(*said)) {
		*said = (struct said){.errnum = ECHILD, .joined = true}; /* it was killed */
		return -1;
	}
	return pidfd;
}

/* The number by which the agent knows the process. */
static pid_t pid_of(int pidfd)
{
	cleanup_free char *path = xasprintf("/proc/self/fdinfo/%d", pidfd);
	cleanup_free char *text = NULL;
	const char *at;

	if (file_read(AT_FDCWD, path, 4096, &text, NULL, NULL) < 0)
		return -1;
	at = strstr(text, "Pid:");
	return at ? (pid_t)strtol(at + 4, NULL, 10) : -1;
}

pid_t ns_fork_in_user(const struct container *c, uint64_t flags, int *pidfd, struct error *err)
{
	cleanup_close int ours = -1;
	cleanup_close int theirs = -1;
	struct said said;
	pid_t helper;

	if (sync_pair(&ours, &theirs, err) < 0)
		return -1;
	helper = fork();
	if (helper < 0)
		return error_errno(err, "fork");
	if (helper == 0) {
		make_process(c, flags, theirs);
		return 0;
	}
	close_fd(&theirs);
	*pidfd = hear(ours, &said);
	while (waitpid(helper, NULL, 0) < 0 && errno == EINTR)
		;
	if (*pidfd >= 0)
		return pid_of(*pidfd);
	if (!said.joined && said.errnum == ESRCH)
		return error_kind(err, ERR_NOT_RUNNING, "join.user: the container has ended");
	errno = said.errnum;
	return error_errno(err, said.joined ? "clone the container's process"
					    : "join.user: join the user namespace");
}
