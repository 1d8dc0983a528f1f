/*
 * container.h - containers in the guest: what the server (PID 1's loop) asks of the set-up code.
 *
 * Creating a process takes three steps that a single-threaded server must not block on:
 *	container_create() / container_exec() fork the child and return at once, with a *sync fd*;
 *	the child reports on it; when it is readable the server calls child_report();
 *	after CHILD_READY, container_start() lets the init go on to execve.
 *
 * Who sees what: the child reports CHILD_READY (init only: everything is done up to the point
 * before execve), CHILD_STARTED (execve succeeded: the sync fd closed by CLOEXEC with nothing more
 * said) or CHILD_FAILED (with the error of the step that failed, kind included: an unknown command
 * is ERR_CMD_NOT_FOUND in runc's words).
 */
#ifndef HUSK_AGENT_CONTAINER_H
#define HUSK_AGENT_CONTAINER_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/error.h"
#include "oci/spec.h"

struct container {
	char *id;
	struct oci_spec *spec; /* owned */
	char *lower, *upper;   /* disk serials; upper NULL: no scratch */
	char *dir;	/* /run/husk/<id>: mount points of lower, scratch and the merged root */
	char *cgroup;	/* path below /sys/fs/cgroup */
	int cgroup_fd;	/* O_DIRECTORY fd of it */
	pid_t init;	/* 0: none (not made yet, or reaped) */
	int init_pidfd; /* for setns of exec'd processes */
	bool started;
};

/* The child's side of its stdio. With a terminal only `console_slave`... is absent: the child makes
 * the pty in the container's own devpts and sends the master over `console_sock` (SCM_RIGHTS, one
 * byte), before it reports READY or STARTED. Without one: three fds, which the child dups to 0,
 * 1, 2. */
struct child_io {
	int in, out, err;
	int console_sock;
};

enum child_state { CHILD_READY, CHILD_STARTED, CHILD_FAILED };

/* Prepares what outlives the child: finds the disks by serial (bounded wait), the directories and
 * mounts of the root in the agent's own mount namespace if that is the design, the cgroup with its
 * limits and device filter. `spec` is taken over, also on failure. */
struct container *container_new(const char *id, struct oci_spec *spec, const char *lower,
				const char *upper, struct error *err);

/* Forks the init. Stores its pid in c->init; returns the sync fd (CLOEXEC) or -1. `io` fds stay the
 * caller's (close them after the call). */
int container_create(struct container *c, const struct child_io *io, struct error *err);
/* Lets a READY init go on (startContainer hooks, then execve). */
int container_start(struct container *c, int sync_fd, struct error *err);

/* Forks a process that joins the running container. Returns the sync fd; *pid is the process to
 * wait for (in the agent's pid namespace; a child of the agent). `p` stays the caller's, and is
 * used only during the call. */
int container_exec(struct container *c, const struct oci_process *p, const struct child_io *io,
		   pid_t *pid, struct error *err);

/* Reads one report from a readable sync fd. CHILD_FAILED fills *err. */
enum child_state child_report(int sync_fd, struct error *err);

/* Signals every process of the container (cgroup.kill for SIGKILL). */
int container_kill_all(struct container *c, int signal, struct error *err);
/* How many processes the kernel has killed for memory so far (memory.events oom_kill). */
unsigned long container_oom_kills(struct container *c);
/* Kills what is left, unmounts, removes the cgroup, frees `c`. The caller has reaped the init. */
int container_delete(struct container *c, struct error *err);

#endif
