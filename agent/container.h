/*
 * container.h - containers in the guest: what the server (PID 1's loop) asks of the set-up code.
 *
 * Creating a process takes three steps that a single-threaded server must not block on:
 *	container_create() / container_exec() fork the child and return at once, with a *sync fd*;
 *	the child reports on it; whenever it is readable the server calls child_report();
 *	after CHILD_READY, container_start() lets the init go on to execve.
 *
 * Who sees what: an init reports CHILD_READY (all is done up to the point before execve), and a
 * second time when it is about to execve, as an exec'd process does once; after it CHILD_STARTED
 * (execve succeeded: the sync fd closed by CLOEXEC with nothing more said) or CHILD_FAILED (with
 * the error of the step that failed, kind included: an unknown command is ERR_CMD_NOT_FOUND in
 * runc's words). A child that dies before that is CHILD_FAILED, too: also one that is killed in a
 * startContainer hook. After STARTED and FAILED the server closes the fd; the pid is to be reaped
 * in any case.
 *
 * What PID 1 has to be for this to work: single-threaded; /proc, /sys, /dev (devtmpfs),
 * /sys/fs/cgroup (cgroup2, its controllers enabled for children) and /run mounted; its root a mount
 * of its own and not the initramfs (agent_leave_initramfs() in agent/root.h does that: call it
 * before mounting anything).
 */
#ifndef HUSK_AGENT_CONTAINER_H
#define HUSK_AGENT_CONTAINER_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/proto.h"
#include "lib/error.h"
#include "oci/spec.h"

struct seccomp_prog;
struct disk_number;
struct cgroup_plan;

struct container {
	char *id;
	struct oci_spec *spec;	    /* owned */
	struct proto_root root;	    /* its disks */
	struct proto_mount *mounts; /* mounts of config.json whose data is the host's */
	size_t n_mounts;
	struct proto_device *devices; /* block devices of linux.devices, and their disks */
	size_t n_devices;
	char *dir;	/* /run/husk/<id>: mount points of disks and of the merged root */
	char *cgroup;	/* path below /sys/fs/cgroup */
	int cgroup_fd;	/* O_DIRECTORY fd of it */
	pid_t init;	/* 0: none (not made yet, or reaped: the server sets it to 0) */
	int init_pidfd; /* for setns of exec'd processes */
	bool started;
	int mnt_ns, ipc_ns; /* keep the namespaces until the delete, see container_start() */
	/* private to the set-up code */
	int device_prog;	      /* the cgroup's device filter */
	struct seccomp_prog *seccomp; /* compiled linux.seccomp, NULL: none */
	unsigned disk_major;	      /* of virtio-blk: what the device filter keeps away */
	struct disk_number *numbers;  /* of `devices`, in their order, when they were found */
	bool root_mounted;
	unsigned frozen_by;	     /* a bit for each enum proto_freezer */
	struct cgroup_plan *undo;    /* what the last update changed, as it was; NULL: none */
	struct timespec upper_ctime; /* of the upper directory when the root was mounted */
};

/* The child's side of its stdio. With a terminal (process.terminal) only `console_sock` is used:
 * the child makes the pty in the container's own devpts and sends the master over it (SCM_RIGHTS,
 * one byte) before it reports READY. Without one: three fds, which the child dups to 0, 1, 2. */
struct child_io {
	int in, out, err;
	int console_sock;
};

enum child_state { CHILD_READY, CHILD_STARTED, CHILD_FAILED };

/* What a child has said so far: begins as STAGE_SETUP, belongs to the sync fd. */
enum child_stage { STAGE_SETUP, STAGE_READY, STAGE_EXEC };

/* Prepares what outlives the child: finds the disks by serial (bounded wait), mounts the root below
 * c->dir in the agent's own mount namespace, makes the cgroup with its limits and device filter,
 * compiles linux.seccomp. `spec`, `mounts` and `devices` are taken over, also on failure. */
struct container *container_new(const char *id, struct oci_spec *spec,
				const struct proto_root *root, struct proto_mount *mounts,
				size_t n_mounts, struct proto_device *devices, size_t n_devices,
				struct error *err);
/* Where the data of member `index` of config.mounts comes from; NULL: nothing of the host's. */
const struct proto_mount *container_mount(const struct container *c, size_t index);

/* Forks the init. Stores its pid in c->init; returns the sync fd (CLOEXEC) or -1. `io` fds stay the
 * caller's (close them after the call). */
int container_create(struct container *c, const struct child_io *io, struct error *err);
/* Lets a READY init go on (startContainer hooks, then execve). Network interfaces exist by now:
 * per-interface sysctls are set here. */
int container_start(struct container *c, int sync_fd, struct error *err);

/* Forks a process that joins the running container, in the cgroup `cgroup` below the container's
 * (NULL: in that one). Returns the sync fd; *pid is the process to
 * wait for (in the agent's pid namespace; a child of the agent). `p` stays the caller's, and is
 * used only during the call. ERR_NOT_RUNNING: the container has no init. */
int container_exec(struct container *c, const struct oci_process *p, const char *cgroup,
		   const struct child_io *io, pid_t *pid, struct error *err);

/* Reads one report from a readable sync fd. CHILD_FAILED fills *err. */
enum child_state child_report(int sync_fd, enum child_stage *stage, struct error *err);

/* Signals every process of the container (cgroup.kill for SIGKILL). */
int container_kill_all(struct container *c, int signal, struct error *err);
/* Waits (bounded) until no process of the container is left. */
int container_await_empty(const struct container *c, struct error *err);
/* Stops every process of the container on behalf of `by`, and returns when they have stopped; or
 * lets them go on, unless somebody else wants them to stand still. */
int container_freeze(struct container *c, enum proto_freezer by, bool frozen, struct error *err);
/* Sets the limits of `r` that are given: all of them or, when one is refused, none. `r` NULL: the
 * last update is undone. */
int container_update(struct container *c, const struct oci_resources *r, struct error *err);
/* How many processes the kernel has killed for memory so far (memory.events oom_kill). */
unsigned long container_oom_kills(struct container *c);
/* Kills what is left, unmounts, removes the cgroup, and waits (bounded) until the disks are not in
 * use any more. Frees `c`, also on failure, when an error tells what is left. The caller has reaped
 * the init, and must not have exec'd processes of the container left to reap. */
int container_delete(struct container *c, struct error *err);

#endif
