/*
 * run: create with start, and (unless detached) wait. The waiting process passes signals on to the
 * proxy and restores the terminal's settings; the proxy does the rest.
 */
#include "lib/cleanup.h"
#include "lib/log.h"
#include "shim/notify.h"
#include "shim/console.h"
#include "shim/handover.h"
#include "shim/lifecycle.h"
#include "shim/spawn.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* All signals that can be waited for, but those that our own running makes. */
static int all_signals_fd(void)
{
	sigset_t set;

	sigfillset(&set);
	sigdelset(&set, SIGCHLD);
	sigdelset(&set, SIGPIPE);
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGILL);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void pass_signals(int sfd, pid_t pid, bool shared_terminal)
{
	struct signalfd_siginfo si;

	while (read(sfd, &si, sizeof(si)) == sizeof(si)) {
		/* The terminal tells the whole foreground group of a new size, the proxy too. */
		if (si.ssi_signo == SIGWINCH && shared_terminal)
			continue;
		kill(pid, (int)si.ssi_signo);
	}
}

/* Waits for the proxy. Its exit status is the container's. */
static int await_proxy(pid_t pid, bool shared_terminal, struct error *err)
{
	cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	cleanup_close int sfd = all_signals_fd();
	int status = 0;

	if (pidfd < 0 || sfd < 0)
		return error_errno(err, "watch the container");
	for (;;) {
		struct pollfd p[2] = {{.fd = pidfd, .events = POLLIN},
				      {.fd = sfd, .events = POLLIN}};

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			pass_signals(sfd, pid, shared_terminal);
		if (p[0].revents)
			break;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Takes the container away again, and keeps the first error. */
static int give_up(const struct globals *g, struct lifecycle *s)
{
	struct error why = ERROR_INIT;

	if (lifecycle_destroy(g, &s->dir, &s->state, true, &why) < 0)
		log_warn("%s", why.msg);
	kill(s->proxy.pid, SIGKILL);
	while (waitpid(s->proxy.pid, NULL, 0) < 0 && errno == EINTR)
		;
	return -1;
}

int cmd_run(const struct globals *g, int argc, char **argv, struct error *err)
{
	cleanup_lifecycle struct lifecycle s = {.dir = {.fd = -1}, .proxy = {.link = -1}};
	struct create_options o = {.pidfd_sock = -1, .foreground = true, .start = true};
	const char *preserve = NULL, *pidfd_socket = NULL;
	cleanup_close int pidfd_sock = -1;
	bool detach = false, keep = false, terminal;
	const struct option_def defs[] = {
		{"bundle", "b", OPT_STR, &o.bundle, "DIR",
		 "directory with config.json (default: .)"},
		{"console-socket", NULL, OPT_STR, &o.console_socket, "PATH",
		 "Unix socket that gets the terminal's master"},
		{"detach", "d", OPT_FLAG, &detach, NULL, "do not wait for the container"},
		{"keep", NULL, OPT_FLAG, &keep, NULL, "do not delete the container when it ends"},
		{"pid-file", NULL, OPT_STR, &o.pid_file, "FILE",
		 "write the pid of the container to FILE"},
		{"pidfd-socket", NULL, OPT_STR, &pidfd_socket, "PATH",
		 "Unix socket that gets a pidfd of the container"},
		{"preserve-fds", NULL, OPT_STR, &preserve, "N",
		 "descriptors besides stdio: none can be given"},
		{"no-subreaper", NULL, OPT_IGNORE_FLAG, NULL, NULL,
		 "accepted as runc's, without effect"},
		{"no-pivot", NULL, OPT_IGNORE_FLAG, NULL, NULL,
		 "accepted as runc's, without effect"},
		{"no-new-keyring", NULL, OPT_IGNORE_FLAG, NULL, NULL,
		 "accepted as runc's: the guest's keyring is the container's"},
		{0}};
	int first = verb_options(argc, argv, defs, "run", "ID", 1, 1, err);
	cleanup_close int intr = -1;
	struct error later = ERROR_INIT;
	int status;
	uint64_t t;

	if (first < 0 || handover_check(preserve, err) < 0 ||
	    handover_connect(pidfd_socket, &pidfd_sock, err) < 0)
		return -1;
	o.pidfd_sock = pidfd_sock;
	o.id = argv[first];
	o.foreground = !detach;
	intr = interrupt_fd(err);
	if (intr < 0)
		return -1;
	if (lifecycle_create(g, &o, intr, &s, err) < 0) {
		tty_restore();
		return -1;
	}
	terminal = uses_own_terminal(&o, s.spec);
	if (lifecycle_poststart(&s.state, s.spec, intr, err) < 0) {
		tty_restore();
		return give_up(g, &s);
	}
	dir_unlock(&s.dir);
	if (detach) {
		notify_wait(&s.dir, &s.state, s.state.pid, intr);
		return 0;
	}
	notify_follow(&s.dir, &s.state);
	status = await_proxy(s.proxy.pid, terminal, err);
	tty_restore();
	if (status < 0)
		return give_up(g, &s);
	if (keep)
		return status;
	s.state.pid = 0;
	t = now_us();
	/* Somebody else may have deleted it meanwhile. */
	if (dir_lock(&s.dir, 10000, &later) == 0 &&
	    lifecycle_destroy(g, &s.dir, &s.state, false, &later) < 0)
		log_warn("%s", later.msg);
	log_elapsed("delete", t);
	return status;
}
