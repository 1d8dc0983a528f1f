#include "agent/sync.h"
#include "lib/cleanup.h"

#include <string.h>
#include <sys/socket.h>

enum report_type { REPORT_READY = 'R', REPORT_EXEC = 'X', REPORT_FAILED = 'F' };

struct report {
	int type;
	int kind;
	int errnum;
	char msg[ERROR_MSG_MAX];
};

int sync_pair(int *agent_end, int *child_end, struct error *err)
{
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return error_errno(err, "socketpair");
	*agent_end = sv[0];
	*child_end = sv[1];
	return 0;
}

int sync_order(int sock, enum sync_order order, struct error *err)
{
	char c = (char)order;

	if (send(sock, &c, 1, MSG_NOSIGNAL) == 1)
		return 0;
	if (errno == EPIPE) /* it has been killed, and is not reaped yet */
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	return error_errno(err, "tell the container's process to go on");
}

int sync_await(int sock, enum sync_order order, struct error *err)
{
	char c = 0;
	ssize_t n;

	do
		n = read(sock, &c, 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_errno(err, "wait for the agent");
	if (n == 0 || c != (char)order)
		return error_set(err, "the agent gave up");
	return 0;
}

/* The child may be under its seccomp filter by now: plain write(2), which every filter allows that
 * leaves a program any use. The agent reads what comes, so that EPIPE cannot be. */
static int report(int sock, enum report_type type, struct error *err)
{
	struct report r = {.type = (int)type};

	if (write(sock, &r, offsetof(struct report, msg)) < 0)
		return error_errno(err, "report to the agent");
	return 0;
}

int sync_ready(int sock, struct error *err)
{
	return report(sock, REPORT_READY, err);
}

int sync_exec(int sock, struct error *err)
{
	return report(sock, REPORT_EXEC, err);
}

void sync_failed(int sock, const struct error *why)
{
	struct report r = {.type = REPORT_FAILED, .kind = (int)why->kind, .errnum = why->errnum};
	size_t n = strnlen(why->msg, sizeof(r.msg) - 1);

	memcpy(r.msg, why->msg, n);
	if (write(sock, &r, offsetof(struct report, msg) + n + 1) < 0)
		return; /* the agent is gone, and the guest with it */
}

enum child_state child_report(int sync_fd, enum child_stage *stage, struct error *err)
{
	struct report r = {0};
	ssize_t n;

	do
		n = recv(sync_fd, &r, sizeof(r), 0);
	while (n < 0 && errno == EINTR);
	if (n == 0 && *stage == STAGE_EXEC)
		return CHILD_STARTED;
	if (n >= (ssize_t)offsetof(struct report, msg) &&
	    (r.type == REPORT_READY || r.type == REPORT_EXEC)) {
		*stage = r.type == REPORT_READY ? STAGE_READY : STAGE_EXEC;
		return CHILD_READY;
	}
	if (n > (ssize_t)offsetof(struct report, msg) && r.type == REPORT_FAILED) {
		r.msg[sizeof(r.msg) - 1] = '\0';
		error_kind(err, (enum error_kind)r.kind, "%s", r.msg);
		if (err)
			err->errnum = r.errnum;
		return CHILD_FAILED;
	}
	error_set(err, *stage == STAGE_READY ? "the process died before its command was executed"
					     : "the process died while it was being set up");
	return CHILD_FAILED;
}
