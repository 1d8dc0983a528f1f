/*
 * agent_msg.h - messages of the guest's agent, parsed into one typed form (docs/agent-protocol.md).
 *
 * The guest is hostile: these bytes go nowhere unparsed, strings and lists are bounded, and the
 * parser has a fuzz target (tests/fuzz/fuzz_agent_msg.c).
 */
#ifndef HUSK_SHIM_AGENT_MSG_H
#define HUSK_SHIM_AGENT_MSG_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "oci/stats.h"

#define AGENT_TOKEN_LEN 32
#define AGENT_PS_MAX 65536 /* processes in one answer */

enum agent_stream { STREAM_STDIN, STREAM_STDOUT, STREAM_STDERR, STREAM_CONSOLE, STREAMS };

struct agent_process {
	int64_t pid, ppid, uid;
	char *user, *stime, *time, *tty, *cmd;
	char *process; /* proxied name ("" is the init), or NULL */
};

struct agent_msg {
	int64_t seq; /* -1: an event */
	char event[16];
	char container[256], name[65]; /* of an event; name: of a project */
	bool failed;
	struct error error; /* when failed */
	/* results; zero or empty when the message has none */
	int64_t pid;
	char process[32];
	char token[STREAMS][AGENT_TOKEN_LEN + 1];
	char stream[AGENT_TOKEN_LEN + 1], result[AGENT_TOKEN_LEN + 1]; /* of changes and push */
	bool has_status;
	int status, signal;
	bool oom;
	bool killed; /* by the host */
	bool clean;  /* the container has changed nothing in its root */
	char kernel[128];
	char ready[65]; /* what a container said: printable */
	uint64_t boot_kernel_us, boot_agent_us;
	struct agent_process *ps;
	size_t n_ps;
	struct stats *stats;		   /* NULL: none */
	uint64_t guest_cpus, guest_memory; /* of stats: of the whole guest; memory in bytes */
};

/* Parses one message. 0, or -1 with ERR_PEER for anything that is no message of the protocol. */
int agent_msg_parse(const char *text, size_t len, struct agent_msg *m, struct error *err);
void agent_msg_free(struct agent_msg *m);
#define cleanup_agent_msg __attribute__((cleanup(agent_msg_free)))

#endif
