#include "shim/spawn.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ull
#endif

#define WAIT_US 3600000000u /* of one poll(2), whose milliseconds are an int */

/* Moves the wanted fds to 0..n-1. Sources are first lifted above every target. */
static int place_fds(const struct spawn *s, struct error *err)
{
	int tmp[16];

	if (s->nfds > ARRAY_LEN(tmp))
		return error_set(err, "too many descriptors for %s", s->path);
	for (unsigned i = 0; i < s->nfds; i++) {
		int fd = s->fds[i] >= 0 ? s->fds[i] : open("/dev/null", O_RDWR | O_CLOEXEC);

		tmp[i] = fcntl(fd, F_DUPFD_CLOEXEC, 64);
		if (tmp[i] < 0)
			return error_errno(err, "descriptors for %s", s->path);
	}
	for (unsigned i = 0; i < s->nfds; i++)
		if (dup2(tmp[i], (int)i) < 0)
			return error_errno(err, "descriptors for %s", s->path);
	if (syscall(SYS_close_range, s->nfds, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return error_errno(err, "close_range");
	return 0;
}

static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Ends in execve, or returns with the error. */
static void become(const struct spawn *s, bool born_there, struct error *err)
{
	if (!born_there && s->cgroup && host_cgroup_enter(s->cgroup, err) < 0)
		return;
	if (s->new_session)
		setsid();
	if (s->cwd && chdir(s->cwd) < 0) {
		error_errno(err, "chdir %s", s->cwd);
		return;
	}
	if ((s->prepare && s->prepare(s->arg, err) < 0) || place_fds(s, err) < 0)
		return;
	reset_signals();
	execve(s->path, s->argv, s->envp ? s->envp : environ);
	error_errno(err, "exec %s", s->path);
}

/* In the child: never returns. Writes the error to `report` (CLOEXEC) on failure. */
static void run_child(const struct spawn *s, bool born_there, int report, pid_t parent)
{
	struct error err = ERROR_INIT;

	if (s->die_with_parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(127);
	}
	/* Out of the way of 0..n-1; CLOEXEC closes it at a successful exec. */
	report = fcntl(report, F_DUPFD_CLOEXEC, 128);
	become(s, born_there, &err);
	/* Less than PIPE_BUF: written and read in one piece. */
	if (write(report, &err, sizeof(err)) < 0)
		_exit(127);
	_exit(127);
}

/* struct clone_args of <linux/sched.h>, which does not go together with <sched.h>. */
struct clone3_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
		set_tid_size, cgroup;
};

/* In v2's hierarchy a process can be born in its cgroup, which costs nothing; to move it there
 * waits for a grace period of RCU. */
static pid_t clone_process(const struct spawn *s, bool *born_there)
{
	cleanup_close int cgroup = s->cgroup ? host_cgroup_clone_fd(s->cgroup) : -1;
	struct clone3_args a = {.flags = s->new_pid_namespace ? CLONE_NEWPID : 0,
				.exit_signal = SIGCHLD};
	pid_t pid;

	if (cgroup >= 0) {
		a.flags |= CLONE_INTO_CGROUP;
		a.cgroup = (uint64_t)cgroup;
		*born_there = true;
		pid = (pid_t)syscall(SYS_clone3, &a, sizeof(a));
		if (pid >= 0)
			return pid;
	}
	*born_there = false;
	return s->new_pid_namespace ? (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0)
				    : fork();
}

pid_t spawn_process(const struct spawn *s, struct error *err)
{
	cleanup_close int rd = -1;
	pid_t pid, self = getpid();
	bool born_there;
	struct error why;
	int p[2];
	ssize_t n;

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	rd = p[0];
	pid = clone_process(s, &born_there);
	if (pid == 0)
		run_child(s, born_there, p[1], self);
	close(p[1]);
	if (pid < 0)
		return error_errno(err, "fork");
	do
		n = read(rd, &why, sizeof(why));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(why))
		return pid;
	waitpid(pid, NULL, 0);
	if (err)
		*err = why;
	return -1;
}

int spawn_wait(pid_t pid, int intr_fd, uint64_t deadline_us, int *status, struct error *err)
{
	cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int r = 0;

	if (pidfd < 0)
		return error_errno(err, "pidfd_open");
	while (r == 0) {
		struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN},
				      {.fd = intr_fd, .events = POLLIN}};
		uint64_t now = now_us();
		uint64_t us =
			deadline_us && deadline_us - now < WAIT_US ? deadline_us - now : WAIT_US;

		if (deadline_us && now >= deadline_us)
			r = error_kind(err, ERR_TIMEOUT, "not finished in time");
		else if (poll(p, intr_fd >= 0 ? 2 : 1, (int)((us + 999) / 1000)) <= 0)
			continue;
		else if (p[0].revents)
			break;
		else
			r = error_kind(err, ERR_INTERRUPTED, "interrupted by a signal");
	}
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return r;
}

int interrupt_fd(struct error *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? error_errno(err, "signalfd") : fd;
}
