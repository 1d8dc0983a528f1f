#include "shim/agent_client.h"
#include "lib/cleanup.h"
#include "lib/frame.h"
#include "lib/json.h"
#include "lib/log.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SEND_MS 60000	 /* for a guest to take a request: it may never read */
#define ANSWER_MS 30000	 /* what the agent does at once */
#define CREATE_MS 120000 /* mounts, disks and the set-up of the process */

int agent_connect(struct vmm_client *vmm, unsigned timeout_ms, struct agent_client *a,
		  struct error *err)
{
	*a = (struct agent_client){.intr_fd = vmm->intr_fd};
	a->sock = vmm_vsock_connect(vmm, AGENT_PORT_CONTROL, timeout_ms, err);
	return a->sock < 0 ? -1 : 0;
}

void agent_close(struct agent_client *a)
{
	close_fd(&a->sock);
}

static int begin(struct agent_client *a, struct jsonw *w, const char *op, const char *container,
		 struct error *err)
{
	if (jsonw_init(w, false, err) < 0)
		return -1;
	jsonw_obj(w);
	jsonw_kint(w, "seq", ++a->seq);
	jsonw_kstr(w, "op", op);
	if (container)
		jsonw_kstr(w, "container", container);
	return 0;
}

static int send_request(struct agent_client *a, struct jsonw *w, struct error *err)
{
	const char *text;
	size_t len;

	jsonw_end_obj(w);
	text = jsonw_finish(w, &len, err);
	if (!text || frame_send_until(a->sock, text, len, NULL, 0, a->intr_fd,
				      now_us() + SEND_MS * 1000ull, err) < 0)
		return error_wrap(err, "agent");
	return 0;
}

/* The answer to the last request. */
static int answer(struct agent_client *a, struct agent_msg *m, unsigned timeout_ms,
		  struct error *err)
{
	uint64_t deadline = timeout_ms ? now_us() + (uint64_t)timeout_ms * 1000 : 0;

	for (;;) {
		cleanup_free char *text = NULL;
		size_t len;
		int r = frame_recv(a->sock, &text, &len, NULL, NULL, a->intr_fd, deadline, err);

		if (r == 0)
			return error_kind(err, ERR_PEER, "the VM went away");
		if (r < 0)
			return error_wrap(err, "agent");
		if (agent_msg_parse(text, len, m, err) < 0)
			return -1;
		if (m->seq == a->seq)
			break;
		agent_msg_free(m);
	}
	if (m->failed) {
		if (err)
			*err = m->error;
		agent_msg_free(m);
		return -1;
	}
	return 0;
}

static int call(struct agent_client *a, struct jsonw *w, struct agent_msg *out, unsigned timeout_ms,
		struct error *err)
{
	struct agent_msg m;

	if (send_request(a, w, err) < 0 || answer(a, &m, timeout_ms, err) < 0)
		return -1;
	if (out)
		*out = m;
	else
		agent_msg_free(&m);
	return 0;
}

int agent_hello(struct agent_client *a, struct agent_msg *out, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	return begin(a, &w, "hello", NULL, err) < 0 ? -1 : call(a, &w, out, ANSWER_MS, err);
}

int agent_create(struct agent_client *a, const char *container, const char *config,
		 const char *root_text, const char *mounts_text, const char *devices_text,
		 const char *join_text, bool notify, struct agent_msg *out, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "create", container, err) < 0)
		return -1;
	jsonw_key(&w, "root");
	jsonw_raw(&w, root_text, strlen(root_text));
	if (mounts_text) {
		jsonw_key(&w, "mounts");
		jsonw_raw(&w, mounts_text, strlen(mounts_text));
	}
	if (devices_text) {
		jsonw_key(&w, "devices");
		jsonw_raw(&w, devices_text, strlen(devices_text));
	}
	if (join_text) {
		jsonw_key(&w, "join");
		jsonw_raw(&w, join_text, strlen(join_text));
	}
	jsonw_kbool(&w, "notify", notify);
	jsonw_key(&w, "config");
	jsonw_raw(&w, config, strlen(config));
	return call(a, &w, out, CREATE_MS, err);
}

int agent_start(struct agent_client *a, const char *container, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	/* No limit: startContainer hooks have time limits of their own. */
	return begin(a, &w, "start", container, err) < 0 ? -1 : call(a, &w, NULL, 0, err);
}

int agent_exec(struct agent_client *a, const char *container, const char *process,
	       const char *cgroup, bool patient, struct agent_msg *out, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "exec", container, err) < 0)
		return -1;
	if (cgroup)
		jsonw_kstr(&w, "cgroup", cgroup);
	jsonw_key(&w, "spec");
	jsonw_raw(&w, process, strlen(process));
	return call(a, &w, out, patient ? 0 : CREATE_MS, err);
}

static int begin_kill(struct agent_client *a, struct jsonw *w, const char *container,
		      const char *process, int signal, bool all, struct error *err)
{
	if (begin(a, w, "kill", container, err) < 0)
		return -1;
	jsonw_kstr(w, "process", process);
	jsonw_kint(w, "signal", signal);
	jsonw_kbool(w, "all", all);
	return 0;
}

int agent_kill(struct agent_client *a, const char *container, const char *process, int signal,
	       bool all, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin_kill(a, &w, container, process, signal, all, err) < 0)
		return -1;
	return call(a, &w, NULL, ANSWER_MS, err);
}

int agent_ps(struct agent_client *a, const char *container, struct agent_msg *out,
	     struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	return begin(a, &w, "ps", container, err) < 0 ? -1 : call(a, &w, out, ANSWER_MS, err);
}

static int simple_call(struct agent_client *a, const char *op, const char *container,
		       struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	return begin(a, &w, op, container, err) < 0 ? -1 : call(a, &w, NULL, ANSWER_MS, err);
}

int agent_shutdown(struct agent_client *a, struct error *err)
{
	return simple_call(a, "shutdown", NULL, err);
}

static int freezer_call(struct agent_client *a, const char *op, const char *container,
			const char *by, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, op, container, err) < 0)
		return -1;
	jsonw_kstr(&w, "by", by);
	return call(a, &w, NULL, ANSWER_MS, err);
}

int agent_pause(struct agent_client *a, const char *container, const char *by, struct error *err)
{
	return freezer_call(a, "pause", container, by, err);
}

int agent_resume(struct agent_client *a, const char *container, const char *by, struct error *err)
{
	return freezer_call(a, "resume", container, by, err);
}

int agent_update(struct agent_client *a, const char *container, const char *resources,
		 struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "update", container, err) < 0)
		return -1;
	jsonw_key(&w, "resources");
	jsonw_raw(&w, resources, strlen(resources));
	return call(a, &w, NULL, ANSWER_MS, err);
}

int agent_undo_update(struct agent_client *a, const char *container, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "update", container, err) < 0)
		return -1;
	jsonw_kbool(&w, "undo", true);
	return call(a, &w, NULL, ANSWER_MS, err);
}

int agent_stats(struct agent_client *a, const char *container, struct agent_msg *out,
		struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "stats", container, err) < 0 || call(a, &w, out, ANSWER_MS, err) < 0)
		return -1;
	if (out->stats)
		return 0;
	agent_msg_free(out);
	return error_kind(err, ERR_PEER, "the agent answered without statistics");
}

int agent_delete(struct agent_client *a, const char *container, struct error *err)
{
	return simple_call(a, "delete", container, err);
}

int agent_release(struct agent_client *a, const char *serial, bool detached, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "release", NULL, err) < 0)
		return -1;
	jsonw_kstr(&w, "serial", serial);
	if (detached)
		jsonw_kbool(&w, "detached", true);
	return call(a, &w, NULL, ANSWER_MS, err);
}

int agent_ready(struct agent_client *a, const char *container, struct agent_msg *out,
		struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	return begin(a, &w, "ready", container, err) < 0 ? -1 : call(a, &w, out, 0, err);
}

int agent_release_share(struct agent_client *a, const char *name, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "release", NULL, err) < 0)
		return -1;
	jsonw_kstr(&w, "share", name);
	return call(a, &w, NULL, ANSWER_MS, err);
}

int agent_watch(struct agent_client *a, const char *container, struct error *err)
{
	return simple_call(a, "watch", container, err);
}

/* Takes the tokens of an answer; `result` NULL: it has one only. */
static int take_tokens(struct agent_msg *m, char stream[AGENT_TOKEN_LEN + 1],
		       char result[AGENT_TOKEN_LEN + 1], struct error *err)
{
	bool ok = m->stream[0] && (!result || m->result[0]);

	memcpy(stream, m->stream, sizeof(m->stream));
	if (result)
		memcpy(result, m->result, sizeof(m->result));
	agent_msg_free(m);
	return ok ? 0 : error_kind(err, ERR_PEER, "the agent answered without a stream");
}

int agent_changes(struct agent_client *a, const char *container, const char *what,
		  const char *serial, char token[AGENT_TOKEN_LEN + 1], struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	struct agent_msg m;

	if (begin(a, &w, "changes", container, err) < 0)
		return -1;
	jsonw_kstr(&w, "what", what);
	if (serial)
		jsonw_kstr(&w, "serial", serial);
	if (call(a, &w, &m, CREATE_MS, err) < 0)
		return -1;
	return take_tokens(&m, token, NULL, err);
}

int agent_push(struct agent_client *a, const char *container, const char *what,
	       char stream[AGENT_TOKEN_LEN + 1], char result[AGENT_TOKEN_LEN + 1],
	       struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	struct agent_msg m;

	if (begin(a, &w, "push", container, err) < 0)
		return -1;
	jsonw_kstr(&w, "what", what);
	if (call(a, &w, &m, CREATE_MS, err) < 0)
		return -1;
	return take_tokens(&m, stream, result, err);
}

int agent_network(struct agent_client *a, void (*members)(struct jsonw *w, const void *arg),
		  const void *arg, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "network", NULL, err) < 0)
		return -1;
	members(&w, arg);
	return call(a, &w, NULL, ANSWER_MS, err);
}

int agent_resolver(struct agent_client *a, char token[AGENT_TOKEN_LEN + 1], struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	struct agent_msg m;

	if (begin(a, &w, "resolver", NULL, err) < 0 || call(a, &w, &m, ANSWER_MS, err) < 0)
		return -1;
	return take_tokens(&m, token, NULL, err);
}

int agent_open_stream(struct vmm_client *vmm, const char *token, struct error *err)
{
	int fd = vmm_vsock_connect(vmm, AGENT_PORT_STREAM, ANSWER_MS, err);

	if (fd < 0 || send(fd, token, AGENT_TOKEN_LEN, MSG_NOSIGNAL) == AGENT_TOKEN_LEN)
		return fd;
	error_errno(err, "open a stream of the agent");
	close(fd);
	return -1;
}

int agent_open_streams(struct vmm_client *vmm, const struct agent_msg *m, int fds[STREAMS],
		       struct error *err)
{
	for (unsigned i = 0; i < STREAMS; i++)
		fds[i] = -1;
	for (unsigned i = 0; i < STREAMS; i++) {
		if (!m->token[i][0])
			continue;
		fds[i] = agent_open_stream(vmm, m->token[i], err);
		if (fds[i] >= 0)
			continue;
		for (unsigned k = 0; k <= i; k++)
			close_fd(&fds[k]);
		return -1;
	}
	return 0;
}

int agent_send_wait(struct agent_client *a, const char *container, const char *process,
		    int64_t *seq, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "wait", container, err) < 0)
		return -1;
	*seq = a->seq;
	jsonw_kstr(&w, "process", process);
	return send_request(a, &w, err);
}

int agent_send_stats(struct agent_client *a, const char *container, int64_t *seq, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "stats", container, err) < 0)
		return -1;
	*seq = a->seq;
	return send_request(a, &w, err);
}

int agent_send_kill(struct agent_client *a, const char *container, const char *process, int signal,
		    struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin_kill(a, &w, container, process, signal, false, err) < 0)
		return -1;
	return send_request(a, &w, err);
}

int agent_send_resize(struct agent_client *a, const char *container, const char *process,
		      unsigned width, unsigned height, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (begin(a, &w, "resize", container, err) < 0)
		return -1;
	jsonw_kstr(&w, "process", process);
	jsonw_kint(&w, "width", width);
	jsonw_kint(&w, "height", height);
	return send_request(a, &w, err);
}

void agent_send_size(struct agent_client *a, const char *container, const char *process, int tty)
{
	struct winsize ws;

	if (tty >= 0 && ioctl(tty, TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row)
		agent_send_resize(a, container, process, ws.ws_col, ws.ws_row, NULL);
}
