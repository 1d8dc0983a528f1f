/*
 * Theory of operation.
 *
 *	container ──datagrams──▶ agent ──answer to `ready`──▶ husk ──datagrams──▶ the host's socket
 *
 * A socket of the host cannot be in the guest. The container gets one of the guest's, at
 * /run/notify/notify.sock, and NOTIFY_SOCKET with that name, as with runc. Of what it sends there
 * the agent passes on lines that begin with "READY=", and nothing else, as runc does: a container
 * is not to say which process its service is, or to move its watchdog. husk then tells the host's
 * socket that line, its own choice of MAINPID, and waits until that has been taken (BARRIER), so
 * that it does not end before who asked knows who sent it.
 *
 * podman has another way: conmon listens on a socket of its own, which is in a directory that is
 * mounted on /run/notify. The guest's socket takes its place, and the container's proxy passes
 *READY on to conmon's: it was connected while that could still be named.
 *
 * `start` and a detached `run` wait for it, a foreground `run` has a thread: it is the main process
 * itself.
 */
#include "shim/notify.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/unsupported.h"
#include "shim/agent_client.h"
#include "shim/console.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ANSWER_MS 10000
#define MOUNT_DIR "/run/notify"
#define MOUNT_NAME "/notify.sock"
#define BARRIER_MS 30000 /* as runc waits */

const char *notify_host(void)
{
	const char *s = getenv("NOTIFY_SOCKET");

	return s && *s ? s : NULL;
}

/* ---- to the host */

static int connect_to(const char *name, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	size_t n = strlen(name);

	if (n >= sizeof(addr.sun_path))
		return error_kind(err, ERR_INVALID, "NOTIFY_SOCKET: longer than a socket's name");
	memcpy(addr.sun_path, name, n);
	if (name[0] == '@')
		addr.sun_path[0] = '\0';
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		return error_errno(err, "NOTIFY_SOCKET: %s", name);
	return steal_fd(&fd);
}

static int tell(int fd, const char *text, struct error *err)
{
	if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0)
		return error_errno(err, "NOTIFY_SOCKET");
	return 0;
}

/* The receiver closes the pipe's end when it has come to this message. */
static int barrier(int fd, struct error *err)
{
	cleanup_close int rd = -1;
	struct pollfd p;
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	rd = ends[0];
	r = socket_send_fd(fd, ends[1], "BARRIER=1", err);
	close(ends[1]);
	if (r < 0)
		return error_wrap(err, "NOTIFY_SOCKET: barrier");
	p = (struct pollfd){.fd = rd};
	if (poll(&p, 1, BARRIER_MS) == 0)
		return error_kind(err, ERR_TIMEOUT, "NOTIFY_SOCKET: was not read within %d s",
				  BARRIER_MS / 1000);
	return 0;
}

static int pass_on(const char *line, pid_t main_pid, struct error *err)
{
	cleanup_close int fd = connect_to(notify_host(), err);
	cleanup_free char *ready = xasprintf("%s\n", line);
	cleanup_free char *main = xasprintf("MAINPID=%d\n", (int)main_pid);

	if (fd < 0 || tell(fd, ready, err) < 0 || tell(fd, main, err) < 0)
		return -1;
	return barrier(fd, err);
}

/* ---- from the guest */

/* m->ready is what the container has said; "": nothing that could be passed on. */
static int await_ready(const char *container, int dirfd, int intr_fd, struct agent_msg *m,
		       struct error *err)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1, .intr_fd = intr_fd};
	cleanup_agent struct agent_client a = {.sock = -1, .intr_fd = intr_fd};

	if (vmm_connect(dirfd, &vmm, err) < 0 || agent_connect(&vmm, ANSWER_MS, &a, err) < 0)
		return -1;
	a.intr_fd = intr_fd;
	return agent_ready(&a, container, m, err);
}

static int wait_ready(const struct container_dir *d, pid_t main_pid, int intr_fd, struct error *err)
{
	cleanup_agent_msg struct agent_msg m = {0};

	if (await_ready(d->id, d->fd, intr_fd, &m, err) < 0)
		return -1;
	return m.ready[0] ? pass_on(m.ready, main_pid, err) : 0;
}

void notify_wait(const struct container_dir *d, const struct container_state *st, pid_t main_pid,
		 int intr_fd)
{
	struct error err = ERROR_INIT;

	/* A container that has ended, with its VM or in it, is not the caller's concern: its proxy
	 * may still be at its changes. */
	if (notify_host() && wait_ready(d, main_pid, intr_fd, &err) < 0 &&
	    err.kind != ERR_INTERRUPTED && err.kind != ERR_NOT_RUNNING &&
	    process_alive(st->pid, st->pid_start))
		log_warn("container \"%s\": %s", d->id, err.msg);
}

/* ---- beside others */

/* Signals are the main thread's. */
static bool start_thread(void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	pthread_t t;
	bool started;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	started = pthread_create(&t, NULL, run, arg) == 0;
	if (started)
		pthread_detach(t);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

struct follower {
	const struct container_dir *d;
	const struct container_state *st;
};

static void *follow(void *arg)
{
	cleanup_free struct follower *f = arg;

	notify_wait(f->d, f->st, getpid(), -1);
	return NULL;
}

void notify_follow(const struct container_dir *d, const struct container_state *st)
{
	struct follower *f;

	if (!notify_host())
		return;
	f = xcalloc(1, sizeof(*f));
	*f = (struct follower){d, st};
	if (!start_thread(follow, f))
		free(f);
}

/* ---- a socket that is mounted */

static const char *variable(const struct oci_process *p, const char *name)
{
	size_t n = strlen(name);
	const char *value = NULL;

	for (size_t i = 0; i < p->n_env; i++)
		if (strncmp(p->env[i], name, n) == 0 && p->env[i][n] == '=')
			value = p->env[i] + n + 1;
	return value;
}

int notify_open_mounted(const struct oci_spec *spec)
{
	const char *value = variable(spec->process, "NOTIFY_SOCKET");

	if (!value || strcmp(value, MOUNT_DIR MOUNT_NAME) != 0)
		return -1;
	for (size_t i = 0; i < spec->n_mounts; i++) {
		const struct oci_mount *m = &spec->mounts[i];
		cleanup_free char *path = NULL;
		cleanup_close int dir = -1;

		if (strcmp(m->destination, MOUNT_DIR) != 0 || !oci_mount_is_bind(m) || !m->source)
			continue;
		/* By the descriptor: the directory's name may be longer than a socket's. */
		dir = open(m->source, O_PATH | O_DIRECTORY | O_CLOEXEC);
		path = xasprintf("/proc/self/fd/%d" MOUNT_NAME, dir);
		return dir < 0 ? -1 : connect_to(path, NULL);
	}
	return -1;
}

struct server {
	const char *container;
	int dirfd, sock;
};

static void *serve(void *arg)
{
	cleanup_free struct server *s = arg;
	cleanup_close int sock = s->sock;
	cleanup_agent_msg struct agent_msg m = {0};
	struct error err = ERROR_INIT;

	if (await_ready(s->container, s->dirfd, -1, &m, &err) < 0 || !m.ready[0])
		return NULL; /* it has ended */
	if (tell(sock, m.ready, &err) < 0)
		log_warn("container \"%s\": %s", s->container, err.msg);
	return NULL;
}

void notify_serve(const char *container, int dirfd, int sock)
{
	struct server *s = xcalloc(1, sizeof(*s));

	*s = (struct server){container, dirfd, sock};
	if (start_thread(serve, s))
		return;
	close(sock);
	free(s);
}
