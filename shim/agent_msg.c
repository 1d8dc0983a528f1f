#include "shim/agent_msg.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"

#include <string.h>

static const char *const stream_names[STREAMS] = {"stdin", "stdout", "stderr", "console"};

static int bad(struct error *err, const char *what)
{
	return error_kind(err, ERR_PEER, "the agent sent a bad message: %s", what);
}

static int copy_bounded(char *dst, size_t size, const char *s, const char *what, struct error *err)
{
	if (!s)
		return 0;
	if (strlen(s) >= size)
		return bad(err, what);
	memcpy(dst, s, strlen(s) + 1);
	return 0;
}

static int parse_token(yajl_val v, const char *key, char token[AGENT_TOKEN_LEN + 1],
		       struct error *err)
{
	const char *t = json_str(v, key);

	if (!t)
		return 0;
	if (strlen(t) != AGENT_TOKEN_LEN || strspn(t, "0123456789abcdef") != AGENT_TOKEN_LEN)
		return bad(err, "stream token");
	memcpy(token, t, AGENT_TOKEN_LEN + 1);
	return 0;
}

static int parse_streams(yajl_val v, struct agent_msg *m, struct error *err)
{
	yajl_val stdio = json_get(v, "streams");

	for (unsigned i = 0; i < STREAMS; i++)
		if (parse_token(stdio, stream_names[i], m->token[i], err) < 0)
			return -1;
	if (parse_token(v, "stream", m->stream, err) < 0)
		return -1;
	return parse_token(v, "result", m->result, err);
}

/* A name that becomes a path's component here: nothing but what we would have given it. */
static int parse_event(yajl_val v, struct agent_msg *m, struct error *err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";

	if (copy_bounded(m->event, sizeof(m->event), json_str(v, "event"), "event", err) < 0 ||
	    copy_bounded(m->container, sizeof(m->container), json_str(v, "container"), "container",
			 err) < 0 ||
	    copy_bounded(m->name, sizeof(m->name), json_str(v, "name"), "name", err) < 0)
		return -1;
	if (m->name[strspn(m->name, letters)] || strcmp(m->name, ".") == 0 ||
	    strcmp(m->name, "..") == 0)
		return bad(err, "name");
	return 0;
}

static int parse_status(yajl_val v, struct agent_msg *m, struct error *err)
{
	int64_t status, sig = json_int(v, "signal", 0);

	if (!json_get(v, "status"))
		return 0;
	if (!json_get_int(v, "status", &status) || status < 0 || status > 255 || sig < 0 ||
	    sig > 127)
		return bad(err, "exit status");
	m->has_status = true;
	m->status = (int)status;
	m->signal = (int)sig;
	m->oom = json_bool(v, "oom", false);
	m->killed = json_bool(v, "killed", false);
	m->clean = json_bool(v, "clean", false);
	return 0;
}

static char *dup_str(yajl_val v, const char *key)
{
	const char *s = json_str(v, key);

	return xstrdup(s ? s : "");
}

static int parse_ps(yajl_val v, struct agent_msg *m, struct error *err)
{
	yajl_val list = json_get(v, "processes");

	if (!list)
		return 0;
	if (!YAJL_IS_ARRAY(list) || list->u.array.len > AGENT_PS_MAX)
		return bad(err, "process list");
	m->ps = xcalloc(list->u.array.len, sizeof(*m->ps));
	for (size_t i = 0; i < list->u.array.len; i++) {
		yajl_val e = list->u.array.values[i];
		struct agent_process *p = &m->ps[m->n_ps++];
		const char *name = json_str(e, "process");

		p->pid = json_int(e, "pid", 0);
		p->ppid = json_int(e, "ppid", 0);
		p->uid = json_int(e, "uid", 0);
		p->user = dup_str(e, "user");
		p->stime = dup_str(e, "stime");
		p->time = dup_str(e, "time");
		p->tty = dup_str(e, "tty");
		p->cmd = dup_str(e, "cmd");
		p->process = name ? xstrdup(name) : NULL;
	}
	return 0;
}

static int parse_stats(yajl_val v, struct agent_msg *m, struct error *err)
{
	struct error why = ERROR_INIT;

	if (!json_get(v, "stats"))
		return 0;
	m->guest_cpus = (uint64_t)json_int(v, "cpus", 0);
	m->guest_memory = (uint64_t)json_int(v, "memory", 0);
	m->stats = xcalloc(1, sizeof(*m->stats));
	return stats_read(json_get(v, "stats"), m->stats, &why) == 0 ? 0 : bad(err, why.msg);
}

/* A line for the host's service manager. */
static int parse_ready(yajl_val v, struct agent_msg *m, struct error *err)
{
	if (copy_bounded(m->ready, sizeof(m->ready), json_str(v, "ready"), "ready", err) < 0)
		return -1;
	for (const char *s = m->ready; *s; s++)
		if (*s < ' ' || *s > '~')
			return bad(err, "ready");
	return !m->ready[0] || strncmp(m->ready, "READY=", 6) == 0 ? 0 : bad(err, "ready");
}

static int parse_error(yajl_val v, struct agent_msg *m)
{
	yajl_val e = json_get(v, "error");
	const char *text = json_str(e, "message");

	if (!e)
		return 0;
	m->failed = true;
	error_kind(&m->error, error_kind_from_name(json_str(e, "kind")), "%s",
		   text && text[0] ? text : "refused by the agent");
	return 0;
}

int agent_msg_parse(const char *text, size_t len, struct agent_msg *m, struct error *err)
{
	struct error why = ERROR_INIT;
	cleanup_json yajl_val v = json_parse(text, len, &why);
	yajl_val times;

	*m = (struct agent_msg){.seq = -1};
	if (!v)
		return bad(err, why.msg);
	if (!YAJL_IS_OBJECT(v))
		return bad(err, "not an object");
	times = json_get(v, "times_us");
	m->seq = json_int(v, "seq", -1);
	m->pid = json_int(v, "pid", 0);
	m->boot_kernel_us = (uint64_t)json_int(times, "kernel", 0);
	m->boot_agent_us = (uint64_t)json_int(times, "agent", 0);
	if (parse_event(v, m, err) < 0 ||
	    copy_bounded(m->process, sizeof(m->process), json_str(v, "process"), "process", err) <
		    0 ||
	    copy_bounded(m->kernel, sizeof(m->kernel), json_str(v, "kernel"), "kernel", err) < 0 ||
	    parse_ready(v, m, err) < 0 || parse_streams(v, m, err) < 0 ||
	    parse_status(v, m, err) < 0 || parse_ps(v, m, err) < 0 || parse_stats(v, m, err) < 0 ||
	    parse_error(v, m) < 0) {
		agent_msg_free(m);
		return -1;
	}
	return 0;
}

void agent_msg_free(struct agent_msg *m)
{
	for (size_t i = 0; i < m->n_ps; i++) {
		free(m->ps[i].user);
		free(m->ps[i].stime);
		free(m->ps[i].time);
		free(m->ps[i].tty);
		free(m->ps[i].cmd);
		free(m->ps[i].process);
	}
	free(m->stats);
	m->stats = NULL;
	free(m->ps);
	m->ps = NULL;
	m->n_ps = 0;
}
