/*
 * agent_server.h - the agent's server in a process of its own, and clients of it: Unix sockets
 * stand for vsock, and containers are those of agent_stub.h.
 */
#ifndef HUSK_TESTS_AGENT_SERVER_H
#define HUSK_TESTS_AGENT_SERVER_H

#include "agent/server.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/json.h"
#include "lib/log.h"
#include "tests/unit/agent_stub.h"
#include "tests/unit/tmpdir.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#define BOUND_US 60000000 /* of every wait */

/* ---- a server in a process of its own, and clients */

struct fixture {
	pid_t server;
	int stop;
	struct sockaddr_un control, stream;
	socklen_t len;
	struct tmpdir *tmp; /* of the tests that have files */
	const char *dir;
};

static inline void on_stop(void *arg, uint32_t events UNUSED)
{
	loop_stop(arg, 0);
}

static inline void __attribute__((noreturn)) run_server(int control, int stream, int stop)
{
	struct error err = ERROR_INIT;
	struct loop *loop = loop_new(&err);
	struct server *s = server_new(loop, &err);

	log_setup(2, LOG_FMT_TEXT, getenv("DEBUG") ? LOG_LVL_DEBUG : LOG_LVL_ERROR, "server");
	signal(SIGPIPE, SIG_IGN);
	if (!s || server_listen(s, control, stream, NULL, &err) < 0 ||
	    !loop_add(loop, stop, EPOLLIN, on_stop, loop, &err))
		_exit(98);
	server_set_times(s, 1000, 2000);
	loop_run(loop);
	server_free(s);
	loop_free(loop);
	close(stop);
	exit(0); /* the leak checker's turn */
}

static inline int listen_anywhere(struct sockaddr_un *addr, socklen_t *len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof(sa_family_t)), 0);
	*len = sizeof(*addr);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(fd, 512), 0);
	return fd;
}

static inline int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	int control = listen_anywhere(&f->control, &f->len);
	int stream = listen_anywhere(&f->stream, &f->len), fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f->server = fork();
	if (f->server == 0) {
		close(fds[1]);
		free(f);
		run_server(control, stream, fds[0]);
	}
	close(control);
	close(stream);
	close(fds[0]);
	f->stop = fds[1];
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;
	int status = -1;

	close(f->stop);
	waitpid(f->server, &status, 0);
	free(f);
	return status == 0 ? 0 : -1;
}

/* A container's directory, as root.c makes it, and one that stands for the host's. */
static inline int setup_dir(void **state)
{
	static const char *const names[] = {"scratch", "scratch/upper", "root", "host"};
	void *dir = NULL;
	struct fixture *f;

	assert_int_equal(tmpdir_make(&dir), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(mkdirat(((struct tmpdir *)dir)->fd, names[i], 0755), 0);
	stub_dir = ((struct tmpdir *)dir)->path;
	setup(state);
	f = *state;
	f->tmp = dir;
	f->dir = stub_dir;
	stub_dir = NULL;
	return 0;
}

static inline int teardown_dir(void **state)
{
	struct fixture *f = *state;
	void *dir = f->tmp;
	int r = teardown(state);

	tmpdir_remove(&dir);
	return r;
}

static inline int dial(const struct fixture *f, const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval bound = {BOUND_US / 1000000, 0};

	assert_int_equal(connect(fd, (const struct sockaddr *)addr, f->len), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
	return fd;
}

static inline int dial_control(const struct fixture *f)
{
	return dial(f, &f->control);
}

static inline int dial_stream(const struct fixture *f, const char *token)
{
	int fd = dial(f, &f->stream);

	assert_int_equal(write(fd, token, strlen(token)), strlen(token));
	return fd;
}

static inline void ask(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void ask(int fd, const char *fmt, ...)
{
	char text[4096];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	assert_int_equal(frame_send(fd, text, (size_t)n, NULL, 0, NULL), 0);
}

/* The next message. */
static inline yajl_val hear(int fd)
{
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;
	size_t len;
	yajl_val v;

	if (frame_recv(fd, &text, &len, NULL, NULL, -1, now_us() + BOUND_US, &err) != 1)
		fail_msg("no answer: %s", err.msg);
	v = json_parse(text, len, &err);
	assert_non_null(v);
	return v;
}

static inline void hear_ok(int fd, int seq)
{
	cleanup_json yajl_val v = hear(fd);

	assert_int_equal(json_int(v, "seq", -1), seq);
	if (!json_bool(v, "ok", false))
		fail_msg("%s", json_str(json_get(v, "error"), "message"));
}

static inline void hear_error(int fd, int seq, const char *kind, const char *message)
{
	cleanup_json yajl_val v = hear(fd);
	yajl_val e = json_get(v, "error");

	assert_int_equal(json_int(v, "seq", -1), seq);
	assert_non_null(e);
	assert_string_equal(json_str(e, "kind"), kind);
	if (message)
		assert_non_null(strstr(json_str(e, "message"), message));
}

static inline void hear_status(int fd, int seq, int status, int signal)
{
	cleanup_json yajl_val v = hear(fd);

	assert_int_equal(json_int(v, "seq", -1), seq);
	assert_int_equal(json_int(v, "status", -1), status);
	assert_int_equal(json_int(v, "signal", -1), signal);
}

static inline void hear_closed(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), 0);
}

/* The streams of a process that is being made. */
struct io {
	int in, out, err, console, pid;
	char name[16];
};

static inline int open_stream(const struct fixture *f, yajl_val streams, const char *name)
{
	const char *token = json_str(streams, name);

	return token ? dial_stream(f, token) : -1;
}

static inline struct io hear_process(const struct fixture *f, int fd, int seq)
{
	cleanup_json yajl_val v = hear(fd);
	yajl_val s = json_get(v, "streams");
	struct io io;

	assert_int_equal(json_int(v, "seq", -1), seq);
	if (!json_bool(v, "ok", false))
		fail_msg("%s", json_str(json_get(v, "error"), "message"));
	io.in = open_stream(f, s, "stdin");
	io.out = open_stream(f, s, "stdout");
	io.err = open_stream(f, s, "stderr");
	io.console = open_stream(f, s, "console");
	io.pid = (int)json_int(v, "pid", 0);
	snprintf(io.name, sizeof(io.name), "%s", json_str(v, "process"));
	return io;
}

static inline void io_close(struct io *io)
{
	close_fd(&io->in);
	close_fd(&io->out);
	close_fd(&io->err);
	close_fd(&io->console);
}

#define PROCESS(more, script)                                 \
	"{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0}," more \
	"\"args\":[\"/bin/sh\",\"-c\",\"" script "\"]}"
#define CREATE(seq, id, process)                                                              \
	"{\"seq\":" #seq ",\"op\":\"create\",\"container\":\"" id "\",\"root\":{\"lower\":[{" \
	"\"serial\":\"l\",\"type\":\"erofs\"}]},"                                             \
	"\"config\":{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"rootfs\"},\"linux\":{"     \
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"}]},\"process\":" process "}}"
#define CREATE_WRITABLE(seq, id, process)                                                     \
	"{\"seq\":" #seq ",\"op\":\"create\",\"container\":\"" id "\",\"root\":{\"lower\":[{" \
	"\"serial\":\"l\",\"type\":\"erofs\"}],\"upper\":\"s\"},"                             \
	"\"config\":{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"rootfs\"},\"linux\":{"     \
	"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"}]},\"process\":" process "}}"
#define WHAT(seq, op, id, what) \
	"{\"seq\":" #seq ",\"op\":\"" op "\",\"container\":\"" id "\",\"what\":\"" what "\"}"
#define EXEC(seq, id, process) \
	"{\"seq\":" #seq ",\"op\":\"exec\",\"container\":\"" id "\",\"spec\":" process "}"
#define OP(seq, op, id) "{\"seq\":" #seq ",\"op\":\"" op "\",\"container\":\"" id "\"}"

static inline struct io create(const struct fixture *f, int fd, const char *request)
{
	ask(fd, "%s", request);
	return hear_process(f, fd, 1);
}

static inline struct io run(const struct fixture *f, int fd, const char *request, const char *id)
{
	struct io io = create(f, fd, request);

	ask(fd, "{\"seq\":2,\"op\":\"start\",\"container\":\"%s\"}", id);
	hear_ok(fd, 2);
	return io;
}

/* All that comes until the end. */
static inline char *slurp(int fd, size_t *total)
{
	char *buf = NULL;
	size_t n = 0, size = 0;

	for (;;) {
		ssize_t r;

		if (n + 65537 > size) {
			char *more = realloc(buf, 2 * size + 65537);

			assert_non_null(more);
			buf = more;
			size = 2 * size + 65537;
		}
		r = recv(fd, buf + n, 65536, 0);
		assert_true(r >= 0);
		if (r == 0)
			break;
		n += (size_t)r;
	}
	buf[n] = '\0';
	if (total)
		*total = n;
	return buf;
}

static inline void expect_output(int fd, const char *text)
{
	cleanup_free char *got = slurp(fd, NULL);

	assert_string_equal(got, text);
}

/* ---- tests */

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, setup_dir, teardown_dir)

#endif
