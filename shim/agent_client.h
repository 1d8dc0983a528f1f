/*
 * agent_client.h - husk's side of the agent protocol (docs/agent-protocol.md).
 */
#ifndef HUSK_SHIM_AGENT_CLIENT_H
#define HUSK_SHIM_AGENT_CLIENT_H

#include "lib/json.h"
#include "shim/agent_msg.h"
#include "shim/vmm_client.h"

#define AGENT_PORT_CONTROL 1024
#define AGENT_PORT_STREAM 1025

struct agent_client {
	int sock;
	int intr_fd; /* as in struct vmm_client */
	int64_t seq;
};

/* Connects through the VM's control socket; waits for the guest at most timeout_ms. */
int agent_connect(struct vmm_client *vmm, unsigned timeout_ms, struct agent_client *a,
		  struct error *err);
void agent_close(struct agent_client *a);
#define cleanup_agent __attribute__((cleanup(agent_close)))

/* Each sends a request and waits for its answer, at most `timeout_ms` (0: no limit). */
int agent_hello(struct agent_client *a, struct agent_msg *out, struct error *err);
/* `config`: the text of config.json; `root_text`, `mounts_text`, `devices_text`, `join_text`: of
 * the members `root`, `mounts`, `devices` and `join` of the request (NULL: none of the last three).
 * `notify`: it is to have a notification socket. */
int agent_create(struct agent_client *a, const char *container, const char *config,
		 const char *root_text, const char *mounts_text, const char *devices_text,
		 const char *join_text, bool notify, struct agent_msg *out, struct error *err);
int agent_start(struct agent_client *a, const char *container, struct error *err);
/* `process`: the text of a runtime-spec process object; `cgroup`: below the container's, or NULL;
 * `patient`: without a time limit, since the container may be paused. */
int agent_exec(struct agent_client *a, const char *container, const char *process,
	       const char *cgroup, bool patient, struct agent_msg *out, struct error *err);
int agent_kill(struct agent_client *a, const char *container, const char *process, int signal,
	       bool all, struct error *err);
int agent_ps(struct agent_client *a, const char *container, struct agent_msg *out,
	     struct error *err);
/* Every process of the container has stopped; or goes on, unless it stands still for somebody else.
 * `by`: "user" or "sync". */
int agent_pause(struct agent_client *a, const char *container, const char *by, struct error *err);
int agent_resume(struct agent_client *a, const char *container, const char *by, struct error *err);
/* `resources`: the text of a linux.resources object. What is refused changes nothing. */
int agent_update(struct agent_client *a, const char *container, const char *resources,
		 struct error *err);
/* The limits are again as they were before the last agent_update(). */
int agent_undo_update(struct agent_client *a, const char *container, struct error *err);
/* out->stats is there. */
int agent_stats(struct agent_client *a, const char *container, struct agent_msg *out,
		struct error *err);
/* Takes a container away; ERR_NOT_FOUND if there is none. */
int agent_delete(struct agent_client *a, const char *container, struct error *err);
/* Gives a disk back that no container uses; `detached`: the VM has taken it out. ERR_NOT_FOUND: the
 * guest has no such disk. */
int agent_release(struct agent_client *a, const char *serial, bool detached, struct error *err);
/* The host has taken a member of the share away: the guest forgets its files. */
int agent_release_share(struct agent_client *a, const char *name, struct error *err);
/* Ends what runs in the guest and brings its disks in order; the VM is to be ended then. */
int agent_shutdown(struct agent_client *a, struct error *err);

/* Asks for a changeset: `what` is "root", "projects", or "disk" with a `serial` (container NULL).
 * It comes on the stream with the token, and ends when this connection does. */
int agent_changes(struct agent_client *a, const char *container, const char *what,
		  const char *serial, char token[AGENT_TOKEN_LEN + 1], struct error *err);
/* The other direction: a changeset is to be written to `stream` ("root", or "projects", also of a
 * container that is yet to be made); then `result` gives "ok\n" or "error: ...\n". */
int agent_push(struct agent_client *a, const char *container, const char *what,
	       char stream[AGENT_TOKEN_LEN + 1], char result[AGENT_TOKEN_LEN + 1],
	       struct error *err);
/* Waits until the container has said that it is ready: out->ready. ERR_NOT_RUNNING when it has
 * ended without. */
int agent_ready(struct agent_client *a, const char *container, struct agent_msg *out,
		struct error *err);
/* From now on this connection gets the events "changed", for the container's projects, and "oom".
 */
int agent_watch(struct agent_client *a, const char *container, struct error *err);
/* How the guest's network is to be: `members` writes the request's into the open object. */
int agent_network(struct agent_client *a, void (*members)(struct jsonw *w, const void *arg),
		  const void *arg, struct error *err);
/* A new stream for the requests to the guest's name server. */
int agent_resolver(struct agent_client *a, char token[AGENT_TOKEN_LEN + 1], struct error *err);
/* A connection of its own for a stream; the token has been sent. */
int agent_open_stream(struct vmm_client *vmm, const char *token, struct error *err);

/* Opens the streams of a create or exec answer. fds[STREAM_*] is -1 for those it does not have. */
int agent_open_streams(struct vmm_client *vmm, const struct agent_msg *m, int fds[STREAMS],
		       struct error *err);

/* ---- without waiting, for the proxy's loop: the answer comes with *seq */
int agent_send_wait(struct agent_client *a, const char *container, const char *process,
		    int64_t *seq, struct error *err);
int agent_send_stats(struct agent_client *a, const char *container, int64_t *seq,
		     struct error *err);
int agent_send_kill(struct agent_client *a, const char *container, const char *process, int signal,
		    struct error *err);
int agent_send_resize(struct agent_client *a, const char *container, const char *process,
		      unsigned width, unsigned height, struct error *err);
/* The size of the terminal `tty`, if that is one that has a size. */
void agent_send_size(struct agent_client *a, const char *container, const char *process, int tty);

#endif
