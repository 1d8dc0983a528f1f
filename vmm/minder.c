/*
 * Theory of operation.
 *
 *	husk-vmm ── minder (PID 1 of a pid namespace) ── program
 *
 * A VMM may die at any time and in any way, and QEMU must not stay behind. PR_SET_PDEATHSIG on
 * QEMU itself would be lost: the kernel clears it when a process changes its uid, as QEMU does
 * with -runas. So there is a process between: the minder asks for SIGKILL at our death, and as
 * it is PID 1 of a pid namespace, its death makes the kernel kill everything in there. A SIGKILL
 * from outside the namespace reaches a PID 1, and so does the one for a parent's death.
 *
 * When the program ends, the minder ends with its status (128 + n for signal n), and we learn it
 * by the minder's pidfd, which is readable only when the whole namespace is empty.
 *
 * PR_SET_PDEATHSIG comes too late if we died between clone and prctl. getppid() cannot tell: our
 * pid is not visible in the new namespace, it is 0 in either case. So the minder looks whether
 * our end of the status socket is still open. (It means the death of the *thread* that made the
 * minder: that is our main thread, which ends last.)
 *
 * Namespaces: pid and mount, new; network, IPC, UTS and cgroup are husk-vmm's, which are empty
 * (vmm/jail.c). A new mount namespace is a copy of
 * ours, and while it lives, no filesystem that it holds can really be unmounted: the rootfs of the
 * container and of all its neighbours. A program needs files until it is up (libraries, firmware,
 * kernel); from minder_seal() on there are none: the minder detaches everything from "/"
 * down. The namespace is made private first, or that would reach the host.
 *
 * The status socket carries: from the child that becomes the program, its pid as the host knows it,
 * and a struct failure if it cannot become the program; from us, one byte for minder_seal() or
 * minder_kill(). husk-vmm may not send the minder a signal: once it is jailed it is another user.
 *
 * The minder and the child run between fork and exec of a process that may have threads: they call
 * nothing but system calls. The minder drops its capabilities; it needs none to wait. The program
 * gets a bounding set of four.
 */
#include "vmm/minder.h"
#include "lib/cleanup.h"
#include "vmm/jail.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* syscalls qemu: sendto recvmsg wait4 */

/* Until its program ends it waits, and is told to seal.
 * jail_set_capabilities() makes two of these calls, and the kernel itself restart_syscall, in a
 * process that was stopped or frozen in poll(). */
/* syscalls minder: poll ppoll restart_syscall recvfrom umount2 wait4 capset
 * prctl(0==PR_CAP_AMBIENT) exit_group rt_sigreturn */

#define NAMESPACES (CLONE_NEWPID | CLONE_NEWNS) /* the others are husk-vmm's, and empty */
#define PROGRAM_FILES 256			/* RLIMIT_NOFILE */
#define FD_ASIDE 512 /* descriptors are moved above this before they get their numbers */

enum { ORDER_SEAL = 's', ORDER_KILL = 'k' };

struct failure {
	int errnum;
	char what[32];
};

/* ---- the child that becomes the program */

static _Noreturn void fail_child(int status, const char *what)
{
	struct failure f = {.errnum = errno};

	strncpy(f.what, what, sizeof(f.what) - 1);
	send(status, &f, sizeof(f), MSG_NOSIGNAL);
	_exit(127);
}

static void limit(int status, int resource, rlim_t value)
{
	struct rlimit r = {value, value};

	if (setrlimit(resource, &r) < 0)
		fail_child(status, "setrlimit");
}

/* Even while it still is root, the program has no more than its way down needs: to change its root
 * and its ids, and to read files that it was given whoever owns them. */
#define PROGRAM_CAPABILITIES                                                                     \
	(UINT64_C(1) << CAP_SYS_CHROOT | UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_SETGID | \
	 UINT64_C(1) << CAP_DAC_READ_SEARCH)

static void default_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Puts descriptors where the program expects them and marks all others to be closed. */
static int arrange_fds(int status, const struct minder_config *cfg)
{
	int aside[MINDER_FDS_MAX], null, output, st;

	st = fcntl(status, F_DUPFD_CLOEXEC, FD_ASIDE);
	output = fcntl(cfg->output_fd, F_DUPFD_CLOEXEC, FD_ASIDE);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (st < 0 || output < 0 || null < 0)
		fail_child(status, "descriptors");
	for (unsigned i = 0; i < cfg->nfds; i++) {
		aside[i] = fcntl(cfg->fds[i], F_DUPFD_CLOEXEC, FD_ASIDE);
		if (aside[i] < 0)
			fail_child(status, "descriptors");
	}
	if (dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
		fail_child(st, "descriptors");
	for (unsigned i = 0; i < cfg->nfds; i++)
		if (dup2(aside[i], MINDER_FD_FIRST + (int)i) < 0)
			fail_child(st, "descriptors");
	if (close_range(MINDER_FD_FIRST + cfg->nfds, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		fail_child(st, "close_range");
	return st;
}

/* Our pid as husk-vmm's parent knows it: by the mount of proc, which is still the host's. */
static pid_t pid_outside(void)
{
	char text[16];
	ssize_t n = readlink("/proc/self", text, sizeof(text));
	pid_t pid = 0;

	for (ssize_t i = 0; i < n; i++)
		pid = pid * 10 + (text[i] - '0');
	return pid;
}

/* No memory can be had here: it is after a fork. */
static void confine(int status, const struct minder_config *cfg)
{
	char text[5 + 511 + 1];
	int fd;

	if (cfg->apparmor) {
		snprintf(text, sizeof(text), "exec %s", cfg->apparmor);
		fd = jail_open_attribute(true, "exec");
		if (fd < 0 || jail_confine(fd, text) < 0)
			fail_child(status, "process.apparmorProfile");
		close(fd);
	}
	if (cfg->selinux) {
		fd = jail_open_attribute(false, "exec");
		if (fd < 0 || jail_confine(fd, cfg->selinux) < 0)
			fail_child(status, "process.selinuxLabel");
		close(fd);
	}
}

static _Noreturn void become_program(int status, const struct minder_config *cfg)
{
	static char *const env[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
				    (char *)"LC_ALL=C", NULL};
	pid_t pid = pid_outside();

	send(status, &pid, sizeof(pid), MSG_NOSIGNAL);
	default_signals();
	setsid();
	if (chdir("/") < 0)
		fail_child(status, "chdir /");
	status = arrange_fds(status, cfg);
	limit(status, RLIMIT_CORE, 0);
	limit(status, RLIMIT_MEMLOCK, 0);
	limit(status, RLIMIT_MSGQUEUE, 0);
	limit(status, RLIMIT_FSIZE, cfg->file_bytes);
	limit(status, RLIMIT_NOFILE, PROGRAM_FILES);
	if (jail_bound_capabilities(PROGRAM_CAPABILITIES) < 0)
		fail_child(status, "drop capabilities");
	if (cfg->apparmor || cfg->selinux)
		confine(status, cfg);
	/* It reads its libraries, firmware and the kernel before it changes its root. */
	if (jail_restrict_paths(true) < 0)
		fail_child(status, "Landlock");
	execve(cfg->path, cfg->argv, env);
	fail_child(status, "execve");
}

/* ---- the minder */

static bool parent_is_gone(int status)
{
	struct pollfd p = {.fd = status, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && p.revents & POLLHUP;
}

/* One order of husk-vmm; the end of its socket is the order to kill. */
static void obey(void)
{
	char order = 0;

	if (recv(0, &order, 1, 0) != 1 || order != ORDER_SEAL)
		_exit(128 + SIGKILL); /* and with PID 1 everything in the namespace */
	umount2("/", MNT_DETACH);
	jail_set_capabilities(0);
}

static _Noreturn void end_with(pid_t child)
{
	int st = 0;

	while (waitpid(child, &st, 0) < 0)
		if (errno != EINTR)
			_exit(127);
	_exit(WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st));
}

static _Noreturn void mind(int status, int parent_end, const struct minder_config *cfg)
{
	struct pollfd p[2] = {{.fd = 0, .events = POLLIN}, {.fd = 1, .events = POLLIN}};
	int pidfd = -1;
	pid_t child;

	close(parent_end);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || parent_is_gone(status))
		_exit(127);
	prctl(PR_SET_NAME, "husk-minder");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail_child(status, "no_new_privs");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail_child(status, "make mounts private");
	child = (pid_t)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0);
	if (child < 0)
		fail_child(status, "fork");
	if (child == 0)
		become_program(status, cfg);

	/* Whoever waits for the end of a socket or pipe must not wait for us. */
	if (dup2(status, 0) < 0 || dup2(pidfd, 1) < 0 || close_range(2, ~0u, 0) < 0 ||
	    jail_filter_minder() < 0)
		_exit(127);
	for (;;) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			end_with(child);
		if (p[0].revents)
			obey();
	}
}

int minder_start(struct minder *m, const struct minder_config *cfg, struct error *err)
{
	int sv[2], pidfd = -1;
	pid_t pid;

	*m = (struct minder){.pidfd = -1, .status_fd = -1};
	if (cfg->nfds > MINDER_FDS_MAX)
		return error_set(err, "too many descriptors for %s", cfg->path);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return error_errno(err, "socketpair");
	pid = (pid_t)syscall(SYS_clone, NAMESPACES | CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0);
	if (pid == 0)
		mind(sv[1], sv[0], cfg);
	if (pid < 0)
		error_errno(err, "clone with new namespaces");
	close(sv[1]);
	if (pid < 0) {
		close(sv[0]);
		return -1;
	}
	m->pid = pid;
	m->pidfd = pidfd;
	m->status_fd = sv[0];
	return 0;
}

int minder_status(struct minder *m, struct error *err)
{
	union {
		pid_t pid;
		struct failure failure;
	} news;
	ssize_t n;

	if (m->status_fd < 0)
		return 0;
	n = recv(m->status_fd, &news, sizeof(news), MSG_DONTWAIT);
	if (n == sizeof(news.failure)) {
		errno = news.failure.errnum;
		return error_errno(err, "%.*s", (int)sizeof(news.failure.what), news.failure.what);
	}
	if (n != sizeof(news.pid))
		return 0;
	m->program = news.pid;
	return 1;
}

static void give_order(struct minder *m, char order)
{
	if (m->status_fd >= 0)
		send(m->status_fd, &order, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void minder_seal(struct minder *m)
{
	give_order(m, ORDER_SEAL);
}

void minder_kill(struct minder *m)
{
	give_order(m, ORDER_KILL);
}

int minder_wait(struct minder *m)
{
	int st;

	while (waitpid(m->pid, &st, 0) < 0)
		if (errno != EINTR)
			return 127;
	m->pid = 0;
	return WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
}

void minder_free(struct minder *m)
{
	close_fd(&m->pidfd);
	close_fd(&m->status_fd);
}

int minder_empty_root(struct error *err)
{
	cleanup_close int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", "4096", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, "make an empty tmpfs");
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (fd < 0)
		return error_errno(err, "mount an empty tmpfs");
	return fd;
}
