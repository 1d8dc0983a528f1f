/* What QEMU says on its monitor: whole lines, and the client against a stream of bytes. */
#include "lib/cleanup.h"
#include "vmm/qmp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct loop *loop;
	struct qmp *qmp;
	int asked, answered, closed;
};

static void on_done(void *arg, const struct qmp_msg *m, const struct error *err)
{
	((struct fuzz *)arg)->answered++;
	if (!m && !err)
		abort();
}

static void on_ready(void *arg)
{
	struct fuzz *f = arg;

	for (int i = 0; i < 3; i++)
		if (qmp_execute(f->qmp, "stop", on_done, f, NULL) == 0)
			f->asked++;
}

static void on_event(void *arg UNUSED, const struct qmp_msg *m)
{
	if (m->type != QMP_EVENT || strlen(m->event) >= sizeof(m->event))
		abort();
}

static void on_closed(void *arg, const char *why)
{
	struct fuzz *f = arg;

	if (f->closed++ || why[0] == '\0')
		abort();
	loop_stop(f->loop, 0);
}

static void parse_alone(const uint8_t *data, size_t size)
{
	struct error err = ERROR_INIT;
	struct qmp_msg m;

	if (qmp_parse((const char *)data, size, &m, &err) < 0 && !err.msg[0])
		abort();
}

static void whole_socket(const uint8_t *data, size_t size)
{
	struct fuzz f = {.loop = loop_new(NULL)};
	const struct qmp_handler h = {on_ready, on_event, on_closed, &f};
	int sv[2];

	if (!f.loop || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		abort();
	if (send(sv[1], data, size, MSG_DONTWAIT) < 0)
		abort();
	shutdown(sv[1], SHUT_WR);
	f.qmp = qmp_new(f.loop, sv[0], &h, NULL);
	if (!f.qmp)
		abort();
	loop_run(f.loop);
	qmp_free(f.qmp);
	if (f.asked != f.answered)
		abort();
	close(sv[1]);
	loop_free(f.loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > 65536)
		return 0;
	parse_alone(data, size);
	whole_socket(data, size);
	return 0;
}
