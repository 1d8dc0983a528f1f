/*
 * lifecycle.h - how a container comes to be: design of docs/architecture.md, "Life of a container".
 */
#ifndef HUSK_SHIM_LIFECYCLE_H
#define HUSK_SHIM_LIFECYCLE_H

#include "shim/proxy.h"
#include "shim/state.h"
#include "shim/verbs.h"

struct create_options {
	const char *id;
	const char *bundle;	    /* NULL: the current directory */
	const char *pid_file;	    /* NULL: none */
	const char *console_socket; /* NULL: none */
	int pidfd_sock;		    /* connected --pidfd-socket; -1: none */
	bool foreground;	    /* the container uses this process's terminal */
	bool start;		    /* start it, too (`run`) */
};

/* The container's terminal is the one that this process has on stdin. */
bool uses_own_terminal(const struct create_options *o, const struct oci_spec *spec);

/* A container that exists: created or (by `run`) running, with its proxy committed. */
struct lifecycle {
	struct container_dir dir;
	struct container_state state;
	struct oci_spec *spec;
	struct proxy proxy;
};

/* Does all of `create`. On failure nothing is left: no process, no file. `intr_fd` as in
 * interrupt_fd(). The directory stays locked until lifecycle_free(). */
int lifecycle_create(const struct globals *g, const struct create_options *o, int intr_fd,
		     struct lifecycle *s, struct error *err);

/* Does all of `start` on a created container whose directory is locked. */
int lifecycle_start(const struct container_dir *d, struct container_state *st,
		    const struct oci_spec *spec, int intr_fd, struct error *err);

/* The poststart hooks, which lifecycle_start() runs and `run` has to run itself. */
int lifecycle_poststart(const struct container_state *st, const struct oci_spec *spec, int intr_fd,
			struct error *err);

/* Ends what is left of a container (proxy, VM), brings its changes to its rootfs if they are not
 * there, runs poststop hooks and removes its directory. `force`: changes that cannot be brought
 * there are kept where the next create on the rootfs finds them, and that is no error. */
int lifecycle_destroy(const struct globals *g, struct container_dir *d, struct container_state *st,
		      bool force, struct error *err);

/* ---- parts of these */

/* Runs the hooks of one phase on the host, with the state on their stdin. */
int lifecycle_hooks(enum oci_hook_phase phase, const struct container_state *st,
		    const struct oci_spec *spec, int intr_fd, struct error *err);
/* The guest gets the links of the network namespace (that of the proxy `pid`) as they are now. */
int lifecycle_network(const struct container_dir *d, pid_t pid, int intr_fd, struct error *err);
/* Waits until a process has gone, our child or not; kills it when it takes too long. */
void lifecycle_await_gone(pid_t pid, uint64_t start);

void lifecycle_free(struct lifecycle *s);
#define cleanup_lifecycle __attribute__((cleanup(lifecycle_free)))

/* For verbs on an existing container: opens its directory (locked if `lock`) and loads its state.
 */
int container_open(const struct globals *g, const char *id, bool lock, struct container_dir *d,
		   struct container_state *st, struct error *err);
/* Parses the config text that the state keeps. */
int container_spec(const struct container_state *st, struct oci_spec **spec, struct error *err);
/* Connects to the agent of a container that runs; ERR_NOT_RUNNING otherwise. */
int container_agent(const struct container_dir *d, const struct container_state *st,
		    struct vmm_client *vmm, struct agent_client *a, struct error *err);

#endif
