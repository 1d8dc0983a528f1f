/*
 * proxy.h - the host stand-in for one guest process.
 */
#ifndef HUSK_SHIM_PROXY_H
#define HUSK_SHIM_PROXY_H

#include <stdbool.h>
#include <sys/types.h>

#include "oci/pod.h"
#include "shim/agent_client.h"

/* What a proxy has to do, once its guest process exists. Fds are taken over by proxy_run(). */
struct proxy_job {
	const char *container;
	const char *process; /* "" for the init */
	int agent_sock;	     /* the control connection that owns the process */
	int streams[STREAMS];
	bool init;
	enum oci_pod_role role; /* of an init: unless it joined a pod, its end is its VM's */
	int dirfd;		/* the container's directory */
	int scratch;		/* of the container's record of changes: holds its lock; -1: none */
	int notify_sock;	/* of an init: the host's, that it has mounted; -1: none */
	int tty_fd;		/* terminal whose size is the process's; -1: none. Not taken over */
};

/* Signals that the process is to get wait from now on, until proxy_run() passes them on. */
void proxy_hold_signals(void);

/* Relays and waits. Returns the exit status of the process (128 + n by signal). */
int proxy_run(struct proxy_job *job);

/* ---- a proxy in a process of its own */

struct proxy_spawn {
	char *const *argv;  /* what ps shows: the guest process's */
	const char *netns;  /* path to join, or NULL */
	bool new_netns;	    /* make one */
	bool claims_netns;  /* it is the one whose microVM has the namespace */
	int lifeline;	    /* write end that it holds for its life; -1: none */
	int dirfd;	    /* the container's directory */
	int console_sock;   /* connected --console-socket; -1: none */
	bool own_session;   /* false: it reads the caller's terminal */
	int join_netns_pid; /* netns of this process; 0: none */
	int log_fd;	    /* where its own messages go; -1: nowhere */
	int scratch;	 /* open scratch disk of the container's record, for its lock; -1: none */
	int notify_sock; /* notify_open_mounted(); -1: none */
};

struct proxy {
	pid_t pid;
	int link; /* dies with us until proxy_commit() */
};

/* Starts one, in its network namespace, with this process's stdio. It waits for proxy_go(), and
 * ends when the link closes before proxy_commit(). ERR_UNSUPPORTED: another container has claimed
 * the network namespace. */
int proxy_start(const struct proxy_spawn *s, struct proxy *p, struct error *err);
/* Hands it the guest process. The fds of `job` are duplicated to it and stay the caller's. */
int proxy_go(struct proxy *p, const struct proxy_job *job, bool terminal, unsigned width,
	     unsigned height, int intr_fd, struct error *err);
/* From now on it lives on without us. */
int proxy_commit(struct proxy *p, struct error *err);
/* Ends it (and with it the sandbox) and reaps it. */
void proxy_abort(struct proxy *p);

/* Notes this process as the proxy of an exec'ed one, for `husk ps`; the file's name, malloc'ed, to
 * be removed from the directory when it ends. NULL for other names. */
char *proxy_note(int dirfd, const char *process);

/* True in a process that proxy_start() made: main() calls proxy_main() at once. */
bool proxy_requested(void);
int proxy_main(void);

#endif
