/*
 * husk-vmm: runs one sandbox. Started by husk with everything it needs as descriptors; see
 * docs/control-socket.md.
 *
 * One thread runs one loop; disks have threads of their own (vmm/virtio/blk.c).
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/jail.h"
#include "vmm/opener.h"
#include "vmm/sandbox.h"

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

/* syscalls loop: read */

#define BOOT_FD 3
#define LIFELINE_FD 4

/* Descriptors that our parent had open and did not mean for us would keep its callers waiting for
 * the end of a pipe: the standard output of a container's engine among them. */
static int arrange_fds(struct error *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return error_errno(err, "open /dev/null");
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return error_errno(err, "dup2");
	if (fcntl(STDERR_FILENO, F_GETFD) < 0)
		dup2(null, STDERR_FILENO);
	close_range(LIFELINE_FD + 1, ~0u, 0);
	return 0;
}

static int check_fds(struct error *err)
{
	int type = 0;
	socklen_t len = sizeof(type);

	if (getsockopt(BOOT_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM ||
	    fcntl(LIFELINE_FD, F_GETFD) < 0)
		return error_kind(err, ERR_USAGE,
				  "husk-vmm is started by husk: descriptor %d is its boot socket, "
				  "%d its lifeline",
				  BOOT_FD, LIFELINE_FD);
	set_cloexec(BOOT_FD, true);
	set_cloexec(LIFELINE_FD, true);
	return 0;
}

/* SIGTERM becomes a descriptor; returns it. */
static int arrange_signals(struct error *err)
{
	sigset_t term;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* the log is at the limit of its size */
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	/* Before any thread exists: they inherit the mask. */
	sigprocmask(SIG_BLOCK, &term, NULL);
	fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return error_errno(err, "signalfd");
	return fd;
}

/* A stream of the guest costs two descriptors, and there may be thousands. */
static void raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static void on_sigterm(void *arg, uint32_t events UNUSED)
{
	sandbox_end(arg, "SIGTERM");
}

static void on_lifeline(void *arg, uint32_t events UNUSED)
{
	char buf[64];
	ssize_t n = read(LIFELINE_FD, buf, sizeof(buf));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		sandbox_end(arg, "its last container is gone");
}

/* The guest's files would turn unreadable one by one. */
static void on_opener(void *arg, uint32_t events UNUSED)
{
	sandbox_lost(arg, "the process that opens files for it has ended");
}

static int run(uint64_t exec_us, struct error *err)
{
	struct loop *l;
	struct sandbox *s;
	struct opener *o;
	int term, code = -1;

	if (check_fds(err) < 0 || arrange_fds(err) < 0 || jail_begin(err) < 0)
		return -1;
	o = opener_start(err);
	if (!o)
		return -1;
	term = arrange_signals(err);
	if (term < 0)
		return -1;
	raise_limits();
	l = loop_new(err);
	if (!l)
		return -1;
	s = sandbox_new(l, o, exec_us);
	set_nonblock(LIFELINE_FD, true);
	if (loop_add(l, term, EPOLLIN, on_sigterm, s, err) &&
	    loop_add(l, LIFELINE_FD, EPOLLIN, on_lifeline, s, err) &&
	    loop_add(l, opener_fd(o), 0, on_opener, s, err) && sandbox_serve(s, BOOT_FD, err) == 0)
		code = loop_run(l);
	sandbox_free(s);
	loop_free(l);
	opener_free(o);
	return code;
}

int main(void)
{
	uint64_t exec_us = now_us();
	struct error err = ERROR_INIT;
	int code;

	/* One arena, given back early: many of us share a host. */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TRIM_THRESHOLD, 65536);
	mallopt(M_TOP_PAD, 0);
	log_setup(STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_INFO, "husk-vmm");
	code = run(exec_us, &err);
	if (code < 0) {
		log_error("%s", err.msg);
		return 1;
	}
	return code;
}
