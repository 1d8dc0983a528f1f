/*
 * container.h - containers in the guest: what the server (PID 1's loop) asks of the set-up code.
 *
 * What may take its time (disks that have not come yet, mounts, unmounting, limits that have to
 * push memory out) is not for a single-threaded server with other containers to serve: functions
 * below that say "in a worker" are called in a process of their own (worker.h), which has the
 * agent's namespaces, and can leave nothing in memory. All others return at once.
 *
 * A container: container_new(), container_prepare() in a worker, container_ready(), then its
 * processes; at the end container_close(), container_dismantle() in a worker, container_free().
 *
 * Creating a process takes three steps:
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

/* A namespace that is another container's: that of its init. */
struct container_join {
	bool on;
	int pidfd;
};

struct container {
	char *id;
	struct oci_spec *spec;			  /* owned */
	struct container_join join[OCI_NS_TYPES]; /* ipc, uts, pid, user */
	struct proto_root root;			  /* its disks */
	struct proto_mount *mounts; /* mounts of config.json whose data is the host's */
	size_t n_mounts;
	struct proto_device *devices; /* block devices of linux.devices, and their disks */
	size_t n_devices;
	bool notify;	/* it has a notification socket: ready.h */
	int notify_fd;	/* that socket, -1 if there is none */
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
	unsigned frozen_by;	      /* a bit for each enum proto_freezer */
	struct cgroup_plan *undo;     /* what the last update changed, as it was; NULL: none */
	struct timespec upper_ctime;  /* of the upper directory when the root was mounted */
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

/* A container of which nothing is there yet. `spec`, `mounts` and
 * `devices` are taken over, also on failure. */
struct container *container_new(const char *id, struct oci_spec *spec,
				const struct proto_root *root, struct proto_mount *mounts,
				size_t n_mounts, struct proto_device *devices, size_t n_devices,
				bool notify, struct error *err);
/* Its namespace of that type, which its config.json has, is to be that of `other`'s init.
 * ERR_NOT_RUNNING: that one has none. In a user namespace its mappings are those of `other`. */
int container_join(struct container *c, enum oci_ns_type type, const struct container *other,
		   struct error *err);
/* In a worker: finds the disks by serial (bounded wait), mounts the root and volumes below c->dir
 * in the agent's own mount namespace. What was done when it fails, or is killed, is
 * container_dismantle()'s to undo. */
int container_prepare(struct container *c, struct error *err);
/* The rest that outlives processes: the cgroup with its limits and device filter, linux.seccomp,
 * sysctls of the network. */
int container_ready(struct container *c, struct error *err);
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
/* Has every process of the container stop on behalf of `by`, or lets them go on, unless somebody
 * else wants them to stand still. */
int container_freeze(struct container *c, enum proto_freezer by, bool frozen, struct error *err);
/* True if they have, or do. */
bool container_has_frozen(const struct container *c);
/* In a worker that has c->cgroup_fd: waits (bounded) for that. */
int container_await_frozen(const struct container *c, struct error *err);
/* Sets the limits of `r` that are given: all of them or, when one is refused, none. `r` NULL: the
 * last update is undone. Of the three calls the second is for a worker that has c->cgroup_fd. */
int container_update_begin(struct container *c, const struct oci_resources *r, struct error *err);
int container_update(const struct container *c, const struct oci_resources *r, struct error *err);
void container_update_end(struct container *c, bool nothing_to_undo);
/* How many processes the kernel has killed for memory so far (memory.events oom_kill). */
unsigned long container_oom_kills(struct container *c);
/* Closes what keeps namespaces and mounts of the container in being. The caller has reaped the
 * init, and must not have exec'd processes of the container left to reap. */
void container_close(struct container *c);
/* In a worker that has c->cgroup_fd, when both have closed that: kills what is left, unmounts,
 * removes the cgroup, and waits (bounded) until the disks are not in use any more. An error tells
 * what is left. */
int container_dismantle(struct container *c, struct error *err);
void container_free(struct container *c);

#endif
