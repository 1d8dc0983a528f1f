#include "shim/project_push.h"
#include "lib/changeset/collect.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define STALL_S 30 /* how long the guest may take nothing */
#define RESULT_MS 60000
#define RESULT_MAX 1024

int push_result_parse(const char *text, size_t len, struct error *err)
{
	const char *end = memchr(text, '\n', len);
	cleanup_free char *line = NULL;
	const char *why;

	if (!end)
		return error_kind(err, ERR_PEER, "the guest did not say how it went");
	if (memchr(text, '\0', (size_t)(end - text)))
		return error_kind(err, ERR_PEER, "the guest's answer has a NUL byte");
	line = xasprintf("%.*s", (int)(end - text), text);
	if (strcmp(line, "ok") == 0)
		return 0;
	replace_controls(line, '?');
	why = strncmp(line, "error: ", 7) == 0 ? line + 7 : line;
	return error_kind(err, ERR_PEER, "the guest: %s", why[0] ? why : "no reason given");
}

/* Reads the one line of the result. */
static int await_result(int fd, int intr_fd, struct error *err)
{
	uint64_t end = now_us() + RESULT_MS * 1000ull;
	char buf[RESULT_MAX] = "";
	size_t len = 0;

	while (len < sizeof(buf) && !memchr(buf, '\n', len)) {
		struct pollfd p[2] = {{.fd = fd, .events = POLLIN},
				      {.fd = intr_fd, .events = POLLIN}};
		uint64_t now = now_us();
		ssize_t n;

		if (now >= end)
			return error_kind(err, ERR_TIMEOUT, "the guest did not finish in time");
		if (poll(p, intr_fd >= 0 ? 2 : 1, (int)((end - now) / 1000) + 1) <= 0)
			continue;
		if (p[1].revents)
			return error_kind(err, ERR_INTERRUPTED, "interrupted by a signal");
		n = recv(fd, buf + len, sizeof(buf) - len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	return push_result_parse(buf, len, err);
}

/* Changesets are written with write(2): a guest that hangs up must not end husk by SIGPIPE. */
static int send_changeset(push_fn send, void *arg, int out, struct error *err)
{
	static const struct timespec now = {0};
	sigset_t pipe_set, old;
	int r;

	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
	r = send(arg, out, err);
	if (!sigismember(&old, SIGPIPE))
		sigtimedwait(&pipe_set, NULL, &now);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int push_changeset(struct vmm_client *vmm, struct agent_client *a, const char *container,
		   const char *what, push_fn send, void *arg, struct error *err)
{
	char stream[AGENT_TOKEN_LEN + 1], result[AGENT_TOKEN_LEN + 1];
	cleanup_close int out = -1, in = -1;
	struct timeval stall = {.tv_sec = STALL_S};
	struct error sent = ERROR_INIT;
	int r;

	if (agent_push(a, container, what, stream, result, err) < 0)
		return -1;
	out = agent_open_stream(vmm, stream, err);
	in = out < 0 ? -1 : agent_open_stream(vmm, result, err);
	if (in < 0)
		return -1;
	setsockopt(out, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall));
	r = send_changeset(send, arg, out, &sent);
	shutdown(out, SHUT_WR);
	/* When the guest gave up, its reason says more than our broken pipe. */
	if (r < 0 && sent.errnum != EPIPE && sent.errnum != ECONNRESET) {
		if (err)
			*err = sent;
		return -1;
	}
	return await_result(in, a->intr_fd, err);
}

struct members {
	char *const *names;
	const int *fds;
	size_t n;
};

static int send_members(void *arg, int out, struct error *err)
{
	const struct members *m = arg;
	struct cs_counts counts = {0};

	return cs_collect_members(m->names, m->fds, m->n, out, &counts, err);
}

int projects_push(struct vmm_client *vmm, struct agent_client *a, const char *container,
		  char *const *names, const int *fds, size_t n, struct error *err)
{
	struct members m = {.names = names, .fds = fds, .n = n};

	if (n == 0)
		return 0;
	if (push_changeset(vmm, a, container, "projects", send_members, &m, err) < 0)
		return error_wrap(err, "push files to the guest");
	return 0;
}

int mount_plan_push(const struct mount_plan *p, const char *container, struct vmm_client *vmm,
		    struct agent_client *a, struct error *err)
{
	cleanup_free char **names = xcalloc(p->n + 1, sizeof(*names));
	cleanup_free int *fds = xcalloc(p->n + 1, sizeof(*fds));
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		if (p->v[i].from != MOUNT_FROM_PROJECT)
			continue;
		names[n] = p->v[i].name;
		fds[n++] = p->v[i].fd;
	}
	return projects_push(vmm, a, container, names, fds, n, err);
}
