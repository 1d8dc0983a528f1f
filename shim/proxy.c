/*
 * The proxy's work, in its own process (proxy_process.c) or in a foreground `husk exec`.
 *
 * The main thread waits on three things: signals, which become `kill` requests (SIGWINCH becomes
 * `resize`); the agent's connection, where the answer to `wait` is the end of the process and the
 * end of the connection is the end of the VM; and `intr`. Each stdio stream is moved by a relay
 * thread. At the end the output relays are joined, so that everything the process wrote has been
 * handed on before the status is known to anybody.
 */
#include "shim/proxy.h"
#include "lib/cleanup.h"
#include "lib/frame.h"
#include "lib/log.h"
#include "shim/relay.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#define STATUS_VM_GONE (128 + SIGKILL)

/* Signals that mean something else to this process than to the guest's. */
static bool forwarded(int sig)
{
	switch (sig) {
	case SIGKILL:
	case SIGSTOP:
	case SIGCHLD:
	case SIGPIPE:
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGURG: /* runc forwards none of its own runtime's preemption signals */
		return false;
	default:
		return true;
	}
}

static int signal_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (int s = 1; s <= SIGRTMAX; s++)
		if (forwarded(s))
			sigaddset(&set, s);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void send_size(struct agent_client *a, const struct proxy_job *job)
{
	struct winsize ws;

	if (job->tty_fd >= 0 && ioctl(job->tty_fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row)
		agent_send_resize(a, job->container, job->process, ws.ws_col, ws.ws_row, NULL);
}

static void handle_signals(int sfd, struct agent_client *a, const struct proxy_job *job)
{
	struct signalfd_siginfo si;

	while (read(sfd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGWINCH && job->tty_fd >= 0)
			send_size(a, job);
		else
			agent_send_kill(a, job->container, job->process, (int)si.ssi_signo, NULL);
	}
}

/* Takes what the agent sent. True when the process (or the VM) has ended: *status is set. */
static bool handle_agent(struct frame_buf *in, int sock, int64_t wait_seq, int *status)
{
	struct error err = ERROR_INIT;
	char *text;
	size_t len;

	*status = STATUS_VM_GONE;
	if (frame_buf_fill(in, sock, &err) < 0) {
		log_error("the VM ended: %s", err.msg);
		return true;
	}
	while (frame_buf_next(in, &text, &len, &err) > 0) {
		struct agent_msg m;
		bool mine;

		if (agent_msg_parse(text, len, &m, &err) < 0) {
			log_error("%s", err.msg);
			return true;
		}
		frame_buf_done(in);
		mine = m.seq == wait_seq;
		if (mine && m.failed)
			log_error("%s", m.error.msg);
		else if (mine && m.has_status)
			*status = m.status;
		agent_msg_free(&m);
		if (mine)
			return true;
	}
	return err.msg[0] != '\0';
}

/* Waits for the end of the process. */
static int watch(struct agent_client *a, const struct proxy_job *job, int sfd)
{
	struct frame_buf in = {0};
	struct error err = ERROR_INIT;
	int64_t wait_seq;
	int status = STATUS_VM_GONE;

	if (agent_send_wait(a, job->container, job->process, &wait_seq, &err) < 0) {
		log_error("%s", err.msg);
		return status;
	}
	send_size(a, job);
	for (;;) {
		struct pollfd p[3] = {{.fd = a->sock, .events = POLLIN},
				      {.fd = sfd, .events = POLLIN},
				      {.fd = job->intr, .events = POLLIN}};

		if (poll(p, job->intr >= 0 ? 3 : 2, -1) < 0)
			continue;
		if (p[1].revents)
			handle_signals(sfd, a, job);
		if (p[0].revents && handle_agent(&in, a->sock, wait_seq, &status))
			break;
		if (job->intr >= 0 && p[2].revents)
			break;
	}
	frame_buf_free(&in);
	return status;
}

static int start_relays(struct proxy_job *job, struct relay *in, struct relay out[2],
			struct error *err)
{
	int console = job->streams[STREAM_CONSOLE];

	if (console >= 0) {
		int tty_in = job->tty_fd >= 0 ? job->tty_fd : STDIN_FILENO;
		int tty_out = job->tty_fd > STDERR_FILENO ? job->tty_fd : STDOUT_FILENO;

		if (relay_start(in, tty_in, console, true, err) < 0 ||
		    relay_start(&out[0], console, tty_out, false, err) < 0)
			return -1;
		return 0;
	}
	if (job->streams[STREAM_STDIN] >= 0 &&
	    relay_start(in, STDIN_FILENO, job->streams[STREAM_STDIN], true, err) < 0)
		return -1;
	if (job->streams[STREAM_STDOUT] >= 0 &&
	    relay_start(&out[0], job->streams[STREAM_STDOUT], STDOUT_FILENO, false, err) < 0)
		return -1;
	if (job->streams[STREAM_STDERR] >= 0 &&
	    relay_start(&out[1], job->streams[STREAM_STDERR], STDERR_FILENO, false, err) < 0)
		return -1;
	return 0;
}

static void end_vm(const struct proxy_job *job)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};

	if (vmm_connect(job->dirfd, &vmm, NULL) == 0)
		vmm_shutdown(&vmm, NULL);
}

int proxy_run(struct proxy_job *job)
{
	cleanup_agent struct agent_client a = {.sock = job->agent_sock, .intr_fd = -1};
	struct relay in = {0}, out[2] = {{0}, {0}};
	struct error err = ERROR_INIT;
	cleanup_close int sfd = signal_fd();
	int status = STATUS_VM_GONE;
	uint64_t t = now_us();

	if (start_relays(job, &in, out, &err) < 0)
		log_error("%s", err.msg);
	else
		status = watch(&a, job, sfd);
	t = log_elapsed("process (as the proxy saw it)", t);
	/* The connection stays open until the output is over: its end would kill the process. */
	relay_join(&out[0]);
	relay_join(&out[1]);
	t = log_elapsed("rest of the output", t);
	/* The input relay may sit in a read of our stdin for ever; the exit ends it. */
	if (job->init) {
		end_vm(job);
		log_elapsed("end of the VM", t);
	}
	return status;
}
