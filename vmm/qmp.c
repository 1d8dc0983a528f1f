#include "vmm/qmp.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* syscalls qemu: recvfrom sendto */

struct pending {
	int64_t id;
	qmp_done_fn done;
	void *arg;
};

struct qmp {
	int sock;
	struct loop_source *src;
	struct qmp_handler h;
	int64_t next_id;
	bool ready, dead;
	struct pending pending[QMP_PENDING_MAX];
	unsigned npending;
	char *buf;
	size_t len, size;
};

/* ---- parsing */

static void copy(char *to, size_t size, const char *from)
{
	snprintf(to, size, "%s", from ? from : "");
}

int qmp_parse(const char *line, size_t len, struct qmp_msg *m, struct error *err)
{
	cleanup_json yajl_val v = json_parse(line, len, err);
	yajl_val sub;

	if (!v)
		return -1;
	if (!YAJL_IS_OBJECT(v))
		return error_kind(err, ERR_PEER, "not an object");
	*m = (struct qmp_msg){.id = json_int(v, "id", -1)};
	if (json_get(v, "QMP")) {
		m->type = QMP_GREETING;
	} else if (json_str(v, "event")) {
		m->type = QMP_EVENT;
		copy(m->event, sizeof(m->event), json_str(v, "event"));
		copy(m->reason, sizeof(m->reason), json_str(json_get(v, "data"), "reason"));
	} else if ((sub = json_get(v, "error"))) {
		m->type = QMP_ERROR;
		copy(m->class_, sizeof(m->class_), json_str(sub, "class"));
		copy(m->desc, sizeof(m->desc), json_str(sub, "desc"));
	} else if ((sub = json_get(v, "return"))) {
		m->type = QMP_RETURN;
		copy(m->status, sizeof(m->status), json_str(sub, "status"));
	} else {
		return error_kind(err, ERR_PEER, "neither greeting, answer nor event");
	}
	return 0;
}

/* ---- the connection */

static void fail_pending(struct qmp *q, const char *why)
{
	struct error e = ERROR_INIT;

	error_kind(&e, ERR_PEER, "%s", why);
	while (q->npending > 0) {
		struct pending p = q->pending[--q->npending];

		p.done(p.arg, NULL, &e);
	}
}

static void hang_up(struct qmp *q, const char *why)
{
	if (q->dead)
		return;
	q->dead = true;
	loop_remove(q->src);
	q->src = NULL;
	fail_pending(q, why);
	q->h.closed(q->h.arg, why);
}

static void answered(struct qmp *q, const struct qmp_msg *m)
{
	struct error e = ERROR_INIT;

	for (unsigned i = 0; i < q->npending; i++) {
		struct pending p = q->pending[i];

		if (p.id != m->id)
			continue;
		q->npending--;
		memmove(q->pending + i, q->pending + i + 1,
			(q->npending - i) * sizeof(q->pending[0]));
		if (m->type == QMP_ERROR)
			error_kind(&e, ERR_PEER, "QEMU: %s", m->desc[0] ? m->desc : m->class_);
		p.done(p.arg, m, m->type == QMP_ERROR ? &e : NULL);
		return;
	}
	log_debug("qmp: answer to nothing that was asked");
}

static void in_command_mode(void *arg, const struct qmp_msg *m UNUSED, const struct error *err)
{
	struct qmp *q = arg;

	if (err)
		return;
	q->ready = true;
	q->h.ready(q->h.arg);
}

static void handle(struct qmp *q, const struct qmp_msg *m)
{
	struct error e = ERROR_INIT;

	switch (m->type) {
	case QMP_GREETING:
		if (q->next_id == 0 &&
		    qmp_execute(q, "qmp_capabilities", in_command_mode, q, &e) < 0)
			hang_up(q, e.msg);
		break;
	case QMP_RETURN:
	case QMP_ERROR:
		answered(q, m);
		break;
	case QMP_EVENT:
		q->h.event(q->h.arg, m);
		break;
	}
}

static void take_lines(struct qmp *q)
{
	size_t from = 0;
	char *nl;

	while (!q->dead && (nl = memchr(q->buf + from, '\n', q->len - from))) {
		size_t len = (size_t)(nl - (q->buf + from));
		struct error e = ERROR_INIT;
		struct qmp_msg m;

		if (len > 0 && nl[-1] == '\r')
			len--;
		if (len > 0 && qmp_parse(q->buf + from, len, &m, &e) < 0) {
			error_wrap(&e, "QEMU's monitor");
			hang_up(q, e.msg);
			return;
		}
		from = (size_t)(nl + 1 - q->buf);
		if (len > 0)
			handle(q, &m);
	}
	q->len -= from;
	memmove(q->buf, q->buf + from, q->len);
}

static void readable(void *arg, uint32_t events UNUSED)
{
	struct qmp *q = arg;
	ssize_t n;

	if (q->len == q->size) {
		if (q->size >= QMP_LINE_MAX) {
			hang_up(q, "QEMU's monitor: line too long");
			return;
		}
		q->size = q->size ? q->size * 2 : 1024;
		q->buf = realloc(q->buf, q->size);
		if (!q->buf) {
			q->len = q->size = 0;
			hang_up(q, "out of memory");
			return;
		}
	}
	n = recv(q->sock, q->buf + q->len, q->size - q->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		hang_up(q, "QEMU closed its monitor");
		return;
	}
	q->len += (size_t)n;
	take_lines(q);
}

struct qmp *qmp_new(struct loop *l, int sock, const struct qmp_handler *h, struct error *err)
{
	struct qmp *q = xcalloc(1, sizeof(*q));

	*q = (struct qmp){.sock = sock, .h = *h};
	q->src = loop_add(l, sock, EPOLLIN, readable, q, err);
	if (!q->src) {
		qmp_free(q);
		return NULL;
	}
	return q;
}

void qmp_free(struct qmp *q)
{
	if (!q)
		return;
	q->dead = true;
	fail_pending(q, "the machine is gone");
	loop_remove(q->src);
	close(q->sock);
	free(q->buf);
	free(q);
}

int qmp_execute(struct qmp *q, const char *command, qmp_done_fn done, void *arg, struct error *err)
{
	return qmp_execute_with(q, command, "", done, arg, err);
}

int qmp_execute_with(struct qmp *q, const char *command, const char *arguments, qmp_done_fn done,
		     void *arg, struct error *err)
{
	char line[128 + QMP_ARGUMENTS_MAX];
	int len;
	ssize_t n;

	if (q->dead)
		return error_kind(err, ERR_PEER, "QEMU closed its monitor");
	if (!q->ready && q->next_id > 0)
		return error_kind(err, ERR_NOT_RUNNING, "QEMU's monitor is not ready");
	if (q->npending == QMP_PENDING_MAX)
		return error_set(err, "QEMU's monitor does not answer");
	len = snprintf(line, sizeof(line), "{\"execute\":\"%.64s\",%s%.128s%s\"id\":%lld}\n",
		       command, arguments[0] ? "\"arguments\":{" : "", arguments,
		       arguments[0] ? "}," : "", (long long)q->next_id);
	/* A few commands of this size always fit into a socket's buffer; if not, QEMU hangs. */
	n = send(q->sock, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return error_errno(err, "QEMU's monitor: %s", command);
	if (n != len)
		return error_set(err, "QEMU's monitor takes no commands");
	q->pending[q->npending++] = (struct pending){q->next_id++, done, arg};
	return 0;
}
