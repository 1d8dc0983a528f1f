/* The control socket: a client's bytes as they come, descriptors aside. Requests are parsed,
 * answered at once, late or never, and the client hangs up. Nothing is leaked, and no answer is
 * invalid. */
#include "lib/cleanup.h"
#include "vmm/control.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct loop *loop;
	struct control_call *late;
};

/* Relative, and nothing in it to be resolved. */
static void require_path(const char *path)
{
	size_t len = strlen(path);

	if (len < 1 || len > REQUEST_PATH_MAX || path[0] == '/' || path[len - 1] == '/' ||
	    strstr(path, "//") || strcmp(path, "..") == 0 || strncmp(path, "../", 3) == 0 ||
	    strstr(path, "/../") || (len > 2 && strcmp(path + len - 3, "/..") == 0))
		abort();
}

static void on_request(void *arg, struct control_call *call, struct request *r, int *fds UNUSED)
{
	struct fuzz *f = arg;
	struct error e = ERROR_INIT;

	switch (r->op) {
	case REQUEST_START:
		if (r->start.vcpus < 1 || r->start.memory % (1 << 20) || r->start.qemu[0] != '/')
			abort();
		control_ok(call);
		break;
	case REQUEST_DETACH:
		if (r->serial[0] == '\0' || strlen(r->serial) > REQUEST_SERIAL_MAX)
			abort();
		error_kind(&e, ERR_NOT_FOUND, "disk %s: not attached", r->serial);
		control_fail(call, &e);
		break;
	case REQUEST_HOLD:
		require_path(r->path);
		control_ok(call);
		break;
	case REQUEST_VSOCK_CONNECT:
		if (f->late)
			control_ok(f->late);
		f->late = call;
		break;
	case REQUEST_PAUSE: /* never answered */
		break;
	default:
		control_ok(call);
	}
}

static void on_boot_closed(void *arg)
{
	loop_stop(((struct fuzz *)arg)->loop, 0);
}

static void on_timeout(void *arg, uint32_t events UNUSED)
{
	on_boot_closed(arg);
}

static void parse_alone(const uint8_t *data, size_t size)
{
	struct error err = ERROR_INIT;
	struct request r;

	if (request_parse((const char *)data, size, &r, &err) < 0 && !err.msg[0])
		abort();
	if (err.msg[0] == '\0' && r.op == REQUEST_HOLD)
		require_path(r.path);
	request_free(&r);
}

static void whole_socket(const uint8_t *data, size_t size)
{
	struct fuzz f = {.loop = loop_new(NULL)};
	const struct control_handler h = {on_request, on_boot_closed, &f};
	struct control *c;
	int sv[2];

	if (!f.loop || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		abort();
	if (send(sv[1], data, size, MSG_DONTWAIT) < 0 && size > 0)
		abort();
	shutdown(sv[1], SHUT_WR);
	c = control_new(f.loop, sv[0], &h, NULL);
	if (!c)
		abort();
	/* A client with 64 requests that nobody answers is not read to its end. */
	loop_timer(f.loop, 50000, on_timeout, &f, NULL);
	loop_run(f.loop);
	close(sv[1]);
	control_free(c);
	loop_free(f.loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > 65536)
		return 0;
	if (data[0] == 0)
		whole_socket(data, size);
	else
		parse_alone(data, size);
	return 0;
}
