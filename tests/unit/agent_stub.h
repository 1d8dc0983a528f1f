/*
 * agent_stub.h - containers without any isolation: children of the test's server. These
 * container_*() take the place of agent/container.c, which the linker then leaves in its archive.
 */
#ifndef HUSK_TESTS_AGENT_STUB_H
#define HUSK_TESTS_AGENT_STUB_H

#include "agent/container.h"
#include "agent/sync.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* Where the next container has its root and its upper layer. */
static const char *stub_dir;

struct container *container_new(const char *id, struct oci_spec *spec,
				const struct proto_root *root, struct proto_mount *mounts,
				size_t n_mounts, struct proto_device *devices,
				size_t n_devices UNUSED, bool notify UNUSED,
				struct error *err UNUSED)
{
	struct container *c = xcalloc(1, sizeof(*c));

	c->id = xstrdup(id);
	c->notify_fd = -1;
	c->spec = spec;
	c->root = *root;
	c->mounts = mounts;
	c->n_mounts = n_mounts;
	free(devices);
	c->dir = stub_dir ? xstrdup(stub_dir) : NULL;
	c->cgroup_fd = c->init_pidfd = -1;
	return c;
}

const struct proto_mount *container_mount(const struct container *c UNUSED, size_t index UNUSED)
{
	return NULL;
}

int container_join(struct container *c UNUSED, enum oci_ns_type type UNUSED,
		   const struct container *other UNUSED, struct error *err UNUSED)
{
	return 0;
}

/* One of these ids, and what is named after it, takes its time or fails. */
int container_prepare(struct container *c, struct error *err)
{
	if (strncmp(c->id, "hangs", 5) == 0)
		for (;;)
			pause();
	if (strncmp(c->id, "no-disk", 7) == 0)
		return error_kind(err, ERR_TIMEOUT, "disk \"l\" did not appear");
	return 0;
}

int container_ready(struct container *c UNUSED, struct error *err UNUSED)
{
	return 0;
}

static int send_master(int sock, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl = {0};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = ctl.buf,
			     .msg_controllen = sizeof(ctl.buf)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

static void __attribute__((noreturn))
child(const struct oci_process *p, const struct child_io *io, int sync, bool wait)
{
	struct error err = ERROR_INIT;
	const int keep = 3;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (p->terminal) {
		struct winsize ws = {.ws_row = p->console_height, .ws_col = p->console_width};
		int master, slave;

		if (openpty(&master, &slave, NULL, NULL, &ws) < 0 ||
		    send_master(io->console_sock, master) < 0)
			_exit(99);
		setsid();
		ioctl(slave, TIOCSCTTY, 0);
		for (int i = 0; i < 3; i++)
			dup2(slave, i);
	} else {
		dup2(io->in, 0);
		dup2(io->out, 1);
		dup2(io->err, 2);
	}
	if (sync != keep)
		dup3(sync, keep, O_CLOEXEC);
	close_range(keep + 1, ~0u, 0);
	if (strcmp(p->args[0], "/nonexistent") == 0) {
		error_kind(&err, ERR_CMD_NOT_FOUND, "exec: \"/nonexistent\": no such file");
		sync_failed(keep, &err);
		_exit(127);
	}
	if (wait)
		sync_ready(keep, NULL);
	if (wait && sync_await(keep, SYNC_START, NULL) < 0)
		_exit(1);
	if (strcmp(p->args[0], "/killed-in-a-hook") == 0)
		raise(SIGKILL);
	sync_exec(keep, NULL);
	execvp(p->args[0], p->args);
	_exit(127);
}

static int fork_child(const struct oci_process *p, const struct child_io *io, pid_t *pid, bool wait)
{
	int mine, its;

	if (sync_pair(&mine, &its, NULL) < 0)
		return -1;
	*pid = fork();
	if (*pid == 0)
		child(p, io, its, wait);
	close(its);
	return mine;
}

int container_create(struct container *c, const struct child_io *io, struct error *err UNUSED)
{
	return fork_child(c->spec->process, io, &c->init, true);
}

int container_start(struct container *c UNUSED, int sync_fd, struct error *err)
{
	return sync_order(sync_fd, SYNC_START, err);
}

int container_exec(struct container *c UNUSED, const struct oci_process *p,
		   const char *cgroup UNUSED, const struct child_io *io, pid_t *pid,
		   struct error *err UNUSED)
{
	return fork_child(p, io, pid, false);
}

int container_kill_all(struct container *c, int signal, struct error *err UNUSED)
{
	return c->init > 0 ? kill(c->init, signal) : 0;
}

int container_await_empty(const struct container *c UNUSED, struct error *err UNUSED)
{
	return 0;
}

int container_freeze(struct container *c, enum proto_freezer by UNUSED, bool frozen,
		     struct error *err UNUSED)
{
	return kill(c->init, frozen ? SIGSTOP : SIGCONT);
}

bool container_has_frozen(const struct container *c UNUSED)
{
	return false;
}

int container_await_frozen(const struct container *c, struct error *err UNUSED)
{
	if (strcmp(c->id, "never-freezes") == 0)
		for (;;)
			pause();
	return 0;
}

int container_update_begin(struct container *c UNUSED, const struct oci_resources *r UNUSED,
			   struct error *err UNUSED)
{
	return 0;
}

int container_update(const struct container *c UNUSED, const struct oci_resources *r UNUSED,
		     struct error *err UNUSED)
{
	return 0;
}

void container_update_end(struct container *c UNUSED, bool nothing_to_undo UNUSED)
{
}

unsigned long container_oom_kills(struct container *c UNUSED)
{
	return 0;
}

void container_close(struct container *c UNUSED)
{
}

int container_dismantle(struct container *c, struct error *err)
{
	return strcmp(c->id, "stays-mounted") == 0 ? error_set(err, "umount: busy") : 0;
}

void container_free(struct container *c)
{
	oci_spec_free(c->spec);
	free(c->id);
	free(c->mounts);
	free(c->dir);
	free(c);
}

#endif
