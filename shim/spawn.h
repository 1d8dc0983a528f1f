/*
 * spawn.h - processes that husk starts on the host: husk-vmm, proxies, mkfs, hooks.
 */
#ifndef HUSK_SHIM_SPAWN_H
#define HUSK_SHIM_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"
#include "shim/host_cgroup.h"

struct spawn {
	const char *path; /* absolute */
	char *const *argv;
	char *const *envp; /* NULL: this process's environment */
	/* fd i of the new process is fds[i]; -1 is /dev/null. Every other fd is closed at exec. */
	const int *fds;
	unsigned nfds;
	const char *cwd; /* NULL: as it is */
	bool new_session;
	bool new_pid_namespace;		  /* it is PID 1 there: what it starts ends with it */
	const struct host_cgroup *cgroup; /* that it is in from its start; NULL: ours */
	bool die_with_parent;		  /* SIGKILL when the calling thread ends */
	/* Runs in the child before the exec; its error is spawn_process()'s. It may do anything:
	 * husk has one thread when it spawns. */
	int (*prepare)(void *arg, struct error *err);
	void *arg;
};

/* Starts it with an empty signal mask and default dispositions. Returns the pid once the exec has
 * succeeded; what failed before or at it is the error. */
pid_t spawn_process(const struct spawn *s, struct error *err);

/* Waits for `pid` (a child) until `deadline_us` (0: none) or until intr_fd is readable. Stores the
 * wait status. On timeout or interruption the child is killed, reaped, and the error tells. */
int spawn_wait(pid_t pid, int intr_fd, uint64_t deadline_us, int *status, struct error *err);

/* Blocks SIGINT, SIGTERM and SIGHUP and returns a signalfd for them: what waits on intr_fd stops.
 */
int interrupt_fd(struct error *err);

#endif
