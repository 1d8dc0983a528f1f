/*
 * The agent's server, processes and streams as a whole, on this host: Unix sockets stand for vsock,
 * and containers are those of agent_stub.h.
 */
#include "agent/server.h"
#include "lib/changeset/apply.h"
#include "lib/changeset/collect.h"
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

#define BOUND_US 20000000 /* of every wait */

/* ---- a server in a process of its own, and clients */

struct fixture {
	pid_t server;
	int stop;
	struct sockaddr_un control, stream;
	socklen_t len;
	struct tmpdir *tmp; /* of the tests that have files */
	const char *dir;
};

static void on_stop(void *arg, uint32_t events UNUSED)
{
	loop_stop(arg, 0);
}

static void __attribute__((noreturn)) run_server(int control, int stream, int stop)
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

static int listen_anywhere(struct sockaddr_un *addr, socklen_t *len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof(sa_family_t)), 0);
	*len = sizeof(*addr);
	assert_int_equal(getsockname(fd, (struct sockaddr *)addr, len), 0);
	assert_int_equal(listen(fd, 512), 0);
	return fd;
}

static int setup(void **state)
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

static int teardown(void **state)
{
	struct fixture *f = *state;
	int status = -1;

	close(f->stop);
	waitpid(f->server, &status, 0);
	free(f);
	return status == 0 ? 0 : -1;
}

/* A container's directory, as root.c makes it, and one that stands for the host's. */
static int setup_dir(void **state)
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

static int teardown_dir(void **state)
{
	struct fixture *f = *state;
	void *dir = f->tmp;
	int r = teardown(state);

	tmpdir_remove(&dir);
	return r;
}

static int dial(const struct fixture *f, const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval bound = {BOUND_US / 1000000, 0};

	assert_int_equal(connect(fd, (const struct sockaddr *)addr, f->len), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
	return fd;
}

static int dial_control(const struct fixture *f)
{
	return dial(f, &f->control);
}

static int dial_stream(const struct fixture *f, const char *token)
{
	int fd = dial(f, &f->stream);

	assert_int_equal(write(fd, token, strlen(token)), strlen(token));
	return fd;
}

static void ask(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void ask(int fd, const char *fmt, ...)
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
static yajl_val hear(int fd)
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

static void hear_ok(int fd, int seq)
{
	cleanup_json yajl_val v = hear(fd);

	assert_int_equal(json_int(v, "seq", -1), seq);
	if (!json_bool(v, "ok", false))
		fail_msg("%s", json_str(json_get(v, "error"), "message"));
}

static void hear_error(int fd, int seq, const char *kind, const char *message)
{
	cleanup_json yajl_val v = hear(fd);
	yajl_val e = json_get(v, "error");

	assert_int_equal(json_int(v, "seq", -1), seq);
	assert_non_null(e);
	assert_string_equal(json_str(e, "kind"), kind);
	if (message)
		assert_non_null(strstr(json_str(e, "message"), message));
}

static void hear_status(int fd, int seq, int status, int signal)
{
	cleanup_json yajl_val v = hear(fd);

	assert_int_equal(json_int(v, "seq", -1), seq);
	assert_int_equal(json_int(v, "status", -1), status);
	assert_int_equal(json_int(v, "signal", -1), signal);
}

static void hear_closed(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, 0), 0);
}

/* The streams of a process that is being made. */
struct io {
	int in, out, err, console, pid;
	char name[16];
};

static int open_stream(const struct fixture *f, yajl_val streams, const char *name)
{
	const char *token = json_str(streams, name);

	return token ? dial_stream(f, token) : -1;
}

static struct io hear_process(const struct fixture *f, int fd, int seq)
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

static void io_close(struct io *io)
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

static struct io create(const struct fixture *f, int fd, const char *request)
{
	ask(fd, "%s", request);
	return hear_process(f, fd, 1);
}

static struct io run(const struct fixture *f, int fd, const char *request, const char *id)
{
	struct io io = create(f, fd, request);

	ask(fd, "{\"seq\":2,\"op\":\"start\",\"container\":\"%s\"}", id);
	hear_ok(fd, 2);
	return io;
}

/* All that comes until the end. */
static char *slurp(int fd, size_t *total)
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

static void expect_output(int fd, const char *text)
{
	cleanup_free char *got = slurp(fd, NULL);

	assert_string_equal(got, text);
}

/* ---- tests */

static void test_hello(void **state)
{
	int fd = dial_control(*state);
	yajl_val v;

	ask(fd, "{\"seq\":7,\"op\":\"hello\"}");
	v = hear(fd);
	assert_int_equal(json_int(v, "seq", -1), 7);
	assert_int_equal(json_int(v, "version", -1), 1);
	assert_int_equal(json_int(json_get(v, "times_us"), "agent", -1), 2000);
	yajl_tree_free(v);
	close(fd);
}

static void test_run_gives_output_and_status(void **state)
{
	int fd = dial_control(*state);
	struct io io =
		run(*state, fd, CREATE(1, "c", PROCESS("", "echo out; echo err >&2; exit 3")), "c");

	expect_output(io.out, "out\n");
	expect_output(io.err, "err\n");
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 3, 0);
	ask(fd, OP(4, "wait", "c")); /* and again */
	hear_status(fd, 4, 3, 0);
	ask(fd, OP(5, "delete", "c"));
	hear_ok(fd, 5);
	ask(fd, OP(6, "wait", "c"));
	hear_error(fd, 6, "not_found", "does not exist");
	io_close(&io);
	close(fd);
}

static void test_nothing_runs_before_start(void **state)
{
	int fd = dial_control(*state);
	struct io io = create(*state, fd, CREATE(1, "c", PROCESS("", "echo x")));
	struct pollfd p = {.fd = io.out, .events = POLLIN};

	assert_int_equal(poll(&p, 1, 50), 0);
	ask(fd, OP(2, "start", "c"));
	hear_ok(fd, 2);
	expect_output(io.out, "x\n");
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 0, 0);
	ask(fd, OP(4, "start", "c"));
	hear_error(fd, 4, "not_running", "has stopped");
	io_close(&io);
	close(fd);
}

static void test_stdin_ends_when_the_host_shuts_it(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "cat; echo end")), "c");

	assert_int_equal(write(io.in, "abc\n", 4), 4);
	shutdown(io.in, SHUT_WR);
	expect_output(io.out, "abc\nend\n");
	io_close(&io);
	close(fd);
}

static void test_megabytes_pass_unchanged(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "cat")), "c");
	size_t total = 32u << 20, n;
	cleanup_free char *sent = malloc(total), *got = NULL;
	pid_t writer;

	for (size_t i = 0; i < total; i++)
		sent[i] = (char)(i * 2654435761u >> 13);
	writer = fork();
	if (writer == 0) {
		write_all(io.in, sent, total, NULL);
		_exit(0);
	}
	close_fd(&io.in);
	got = slurp(io.out, &n);
	assert_int_equal(n, total);
	assert_memory_equal(got, sent, total);
	waitpid(writer, NULL, 0);
	io_close(&io);
	close(fd);
}

static void test_an_unread_stream_stalls_no_other(void **state)
{
	int fd = dial_control(*state);
	struct io slow = run(*state, fd, CREATE(1, "slow", PROCESS("", "yes")), "slow"), io;

	for (int i = 0; i < 20; i++) {
		ask(fd, EXEC(5, "slow", PROCESS("", "head -c 300000 /dev/zero | tr '\\\\0' a")));
		io = hear_process(*state, fd, 5);
		size_t n;
		char *got = slurp(io.out, &n);

		assert_int_equal(n, 300000);
		free(got);
		ask(fd, "{\"seq\":6,\"op\":\"wait\",\"container\":\"slow\",\"process\":\"%s\"}",
		    io.name);
		hear_status(fd, 6, 0, 0);
		io_close(&io);
	}
	io_close(&slow);
	close(fd);
}

static void test_closing_a_connection_kills_its_processes(void **state)
{
	int owner = dial_control(*state), other = dial_control(*state);
	struct io io = run(*state, owner, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");
	struct io sub;

	ask(owner, EXEC(3, "c", PROCESS("", "exec sleep 1000")));
	sub = hear_process(*state, owner, 3);
	ask(other, OP(1, "wait", "c"));
	ask(other, "{\"seq\":2,\"op\":\"wait\",\"container\":\"c\",\"process\":\"%s\"}", sub.name);
	close(owner);
	for (int i = 0; i < 2; i++) {
		yajl_val v = hear(other);

		assert_int_equal(json_int(v, "status", -1), 137);
		yajl_tree_free(v);
	}
	/* The container's record stays, the exec'd process's does not. */
	ask(other, OP(3, "wait", "c"));
	hear_status(other, 3, 137, 9);
	ask(other, "{\"seq\":4,\"op\":\"wait\",\"container\":\"c\",\"process\":\"%s\"}", sub.name);
	hear_error(other, 4, "not_found", NULL);
	ask(other, OP(5, "kill\",\"signal\":15,\"x\":\"", "c"));
	hear_error(other, 5, "not_running", "container not running");
	ask(other, OP(6, "delete", "c"));
	hear_ok(other, 6);
	io_close(&io);
	io_close(&sub);
	close(other);
}

static void test_closing_a_connection_kills_what_was_only_created(void **state)
{
	int owner = dial_control(*state), other = dial_control(*state);
	struct io io = create(*state, owner, CREATE(1, "c", PROCESS("", "true")));

	ask(other, OP(1, "wait", "c"));
	close(owner);
	hear_status(other, 1, 137, 9);
	io_close(&io);
	close(other);
}

static void test_sigterm_ends_what_was_only_created(void **state)
{
	int fd = dial_control(*state);
	struct io io = create(*state, fd, CREATE(1, "c", PROCESS("", "true")));

	ask(fd, OP(2, "kill\",\"signal\":15,\"x\":\"", "c"));
	hear_ok(fd, 2);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 137, 9);
	ask(fd, OP(4, "start", "c"));
	hear_error(fd, 4, "not_running", "has stopped");
	io_close(&io);
	close(fd);
}

static void test_signals_reach_the_process(void **state)
{
	int fd = dial_control(*state);
	struct io io =
		run(*state, fd,
		    CREATE(1, "c",
			   PROCESS("", "trap 'exit 5' USR1; echo up; while :; do sleep 0.01; "
				       "done")),
		    "c");
	char up[3];

	assert_int_equal(recv(io.out, up, 3, MSG_WAITALL), 3);
	ask(fd, OP(3, "wait", "c"));
	ask(fd, OP(4, "kill\",\"signal\":10,\"x\":\"", "c"));
	hear_ok(fd, 4);
	hear_status(fd, 3, 5, 0);
	io_close(&io);
	close(fd);
}

static void test_failed_create_and_exec(void **state)
{
	int fd = dial_control(*state);
	struct io io;

	for (int i = 0; i < 2; i++) {
		ask(fd, CREATE(1, "c",
			       "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0},\"args\":["
			       "\"/nonexistent\"]}"));
		hear_error(fd, 1, "cmd_not_found", "/nonexistent");
	}
	io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");
	ask(fd, EXEC(3, "c",
		     "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0},\"args\":[\"/nonexistent\"]}"));
	hear_error(fd, 3, "cmd_not_found", "/nonexistent");
	ask(fd, CREATE(4, "c", PROCESS("", "true")));
	hear_error(fd, 4, "exists", NULL);
	io_close(&io);
	close(fd);
}

static void test_streams_end_with_an_execd_process(void **state)
{
	int fd = dial_control(*state);
	struct io init = run(*state, fd, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c"), io;

	ask(fd, EXEC(3, "c", PROCESS("", "echo first; sleep 1000 & exit 4")));
	io = hear_process(*state, fd, 3);
	expect_output(io.out, "first\n");
	ask(fd, OP(4, "wait\",\"process\":\"1", "c"));
	hear_status(fd, 4, 4, 0);
	io_close(&io);
	io_close(&init);
	close(fd);
}

static void test_output_waits_to_be_fetched(void **state)
{
	int fd = dial_control(*state), out;
	yajl_val v;
	char token[64];

	ask(fd, CREATE(1, "c", PROCESS("", "echo late")));
	v = hear(fd);
	snprintf(token, sizeof(token), "%s", json_str(json_get(v, "streams"), "stdout"));
	yajl_tree_free(v);
	ask(fd, OP(2, "start", "c"));
	hear_ok(fd, 2);
	ask(fd, OP(3, "wait", "c"));
	/* Its end is known when signals do not reach it any more. */
	for (bool ended = false; !ended;) {
		ask(fd, OP(4, "kill\",\"signal\":18,\"x\":\"", "c"));
		v = hear(fd);
		assert_int_equal(json_int(v, "seq", -1), 4);
		ended = !json_bool(v, "ok", false);
		yajl_tree_free(v);
	}
	out = dial_stream(*state, token);
	expect_output(out, "late\n");
	hear_status(fd, 3, 0, 0);
	close(out);
	out = dial_stream(*state, token); /* valid once */
	hear_closed(out);
	close(out);
	close(fd);
}

static void test_wait_needs_no_stream_without_output(void **state)
{
	int fd = dial_control(*state);

	ask(fd, CREATE(1, "c", PROCESS("", "exit 6")));
	yajl_tree_free(hear(fd));
	ask(fd, OP(2, "start", "c"));
	hear_ok(fd, 2);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 6, 0);
	close(fd);
}

static void test_a_closed_stream_is_a_broken_pipe(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec yes")), "c");
	char c;

	assert_int_equal(recv(io.out, &c, 1, 0), 1);
	close_fd(&io.out);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 141, SIGPIPE);
	io_close(&io);
	close(fd);
}

static void test_a_half_closed_stream_still_delivers(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "sleep 0.1; echo x")), "c");

	shutdown(io.out, SHUT_WR);
	expect_output(io.out, "x\n");
	io_close(&io);
	close(fd);
}

static void test_console(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd,
			   CREATE(1, "c",
				  PROCESS("\"terminal\":true,\"consoleSize\":{\"height\":11,"
					  "\"width\":22},",
					  "stty -echo; stty size; read a; stty size; echo got $a")),
			   "c");
	char first[7];

	assert_int_equal(io.out, -1);
	assert_int_equal(recv(io.console, first, sizeof(first), MSG_WAITALL), sizeof(first));
	assert_memory_equal(first, "11 22\r\n", sizeof(first));
	ask(fd, OP(3, "resize\",\"width\":100,\"height\":50,\"x\":\"", "c"));
	hear_ok(fd, 3);
	assert_int_equal(write(io.console, "word\n", 5), 5);
	expect_output(io.console, "50 100\r\ngot word\r\n");
	ask(fd, OP(4, "wait", "c"));
	hear_status(fd, 4, 0, 0);
	io_close(&io);
	close(fd);
}

static void test_console_passes_much(void **state)
{
	int fd = dial_control(*state);
	struct io io =
		run(*state, fd,
		    CREATE(1, "c", PROCESS("\"terminal\":true,", "stty raw; seq 1 100000")), "c");
	size_t n;
	char *got = slurp(io.console, &n);

	assert_int_equal(n, 588895);
	free(got);
	io_close(&io);
	close(fd);
}

static void test_a_closed_console_hangs_up(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd,
			   CREATE(1, "c", PROCESS("\"terminal\":true,", "exec sleep 1000")), "c");

	close_fd(&io.console);
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 129, SIGHUP);
	close(fd);
}

static void test_shutdown_ends_everything(void **state)
{
	int fd = dial_control(*state), other = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "a", PROCESS("", "exec sleep 1000")), "a");
	struct io sub = create(*state, fd, CREATE(1, "b", PROCESS("", "exec sleep 1000")));

	ask(fd, OP(5, "wait", "a"));
	ask(other, "{\"seq\":1,\"op\":\"shutdown\"}");
	hear_ok(other, 1);
	hear_status(fd, 5, 137, 9);
	ask(fd, CREATE(6, "c", PROCESS("", "true")));
	hear_error(fd, 6, "not_running", "shutting down");
	io_close(&io);
	io_close(&sub);
	close(other);
	close(fd);
}

static void test_delete_kills(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");

	ask(fd, OP(3, "wait", "c"));
	ask(fd, OP(4, "delete", "c"));
	hear_status(fd, 3, 137, 9);
	hear_ok(fd, 4);
	io_close(&io);
	io = run(*state, fd, CREATE(1, "c", PROCESS("", "true")), "c");
	io_close(&io);
	close(fd);
}

static void test_pause_and_resume(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec cat")), "c");
	struct pollfd p = {.fd = io.out, .events = POLLIN};

	ask(fd, OP(3, "pause", "c"));
	hear_ok(fd, 3);
	assert_int_equal(write(io.in, "x", 1), 1);
	assert_int_equal(poll(&p, 1, 50), 0);
	ask(fd, OP(4, "resume", "c"));
	hear_ok(fd, 4);
	close_fd(&io.in);
	expect_output(io.out, "x");
	io_close(&io);
	close(fd);
}

static void test_sigkill_ends_a_process_whose_output_nobody_reads(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "exec yes")), "c");
	char c;

	assert_int_equal(recv(io.out, &c, 1, 0), 1);
	ask(fd, OP(3, "wait", "c"));
	ask(fd, OP(4, "kill\",\"signal\":9,\"x\":\"", "c"));
	hear_ok(fd, 4);
	hear_status(fd, 3, 137, 9);
	io_close(&io);
	close(fd);
}

static void test_a_death_in_a_start_hook_is_a_failed_start(void **state)
{
	int fd = dial_control(*state);
	struct io io = create(*state, fd,
			      CREATE(1, "c",
				     "{\"cwd\":\"/\",\"user\":{\"uid\":0,\"gid\":0},\"args\":["
				     "\"/killed-in-a-hook\"]}"));

	ask(fd, OP(2, "start", "c"));
	hear_error(fd, 2, "other", "died before its command was executed");
	ask(fd, OP(3, "wait", "c"));
	hear_status(fd, 3, 137, 9);
	io_close(&io);
	close(fd);
}

/* ---- changes and pushes */

/* Takes the answer of `changes`, applies the stream to the directory `to`. */
static int take_changes(const struct fixture *f, int fd, int seq, const char *to)
{
	cleanup_json yajl_val v = hear(fd);
	cleanup_close int dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct cs_apply_options o = {0};
	struct cs_counts n = {0};
	struct error err = ERROR_INIT;
	int stream, r;

	assert_int_equal(json_int(v, "seq", -1), seq);
	if (!json_bool(v, "ok", false))
		fail_msg("%s", json_str(json_get(v, "error"), "message"));
	stream = dial_stream(f, json_str(v, "stream"));
	r = cs_apply(stream, dir, &o, &n, &err);
	if (r == 0)
		hear_closed(stream);
	close(stream);
	return r;
}

/* Opens the two streams of a push. */
static int hear_push(const struct fixture *f, int fd, int seq, int *result)
{
	cleanup_json yajl_val v = hear(fd);

	assert_int_equal(json_int(v, "seq", -1), seq);
	if (!json_bool(v, "ok", false))
		fail_msg("%s", json_str(json_get(v, "error"), "message"));
	*result = dial_stream(f, json_str(v, "result"));
	return dial_stream(f, json_str(v, "stream"));
}

static void put_file(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(write_all(fd, text, strlen(text), NULL), 0);
}

static void expect_file(const char *dir, const char *name, const char *text)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);
	cleanup_free char *got = NULL;
	struct error err = ERROR_INIT;

	if (file_read(AT_FDCWD, path, 1 << 20, &got, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(got, text);
}

static void test_changes_of_a_running_and_of_an_ended_container(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f);
	cleanup_free char *upper = xasprintf("%s/scratch/upper", f->dir);
	cleanup_free char *to = xasprintf("%s/host", f->dir);
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	put_file(upper, "one", "1");
	ask(fd, WHAT(3, "changes", "c", "root"));
	assert_int_equal(take_changes(f, fd, 3, to), 0);
	expect_file(to, "one", "1");
	put_file(upper, "two", "2");
	close_fd(&io.in);
	ask(fd, OP(4, "wait", "c"));
	hear_status(fd, 4, 1, 0);
	ask(fd, WHAT(5, "changes", "c", "root"));
	assert_int_equal(take_changes(f, fd, 5, to), 0);
	expect_file(to, "two", "2");
	ask(fd, OP(6, "delete", "c"));
	hear_ok(fd, 6);
	io_close(&io);
	close(fd);
}

static void test_a_push_to_the_root(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), stream, result, dir;
	cleanup_free char *root = xasprintf("%s/root", f->dir);
	cleanup_free char *from = xasprintf("%s/host", f->dir);
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");
	struct cs_counts n = {0};

	put_file(from, "pushed", "text");
	ask(fd, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, fd, 3, &result);
	dir = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(cs_collect_paths(dir, (char *[]){(char *)"pushed"}, 1, stream, &n, NULL),
			 0);
	expect_output(result, "ok\n");
	expect_file(root, "pushed", "text");
	close(dir);
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_a_bad_push_says_why(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), stream, result;
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");
	cleanup_free char *said = NULL;

	ask(fd, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, fd, 3, &result);
	assert_int_equal(write(stream, "HUSKCS01", 8), 8);
	shutdown(stream, SHUT_WR);
	said = slurp(result, NULL);
	assert_memory_equal(said, "error: ", 7);
	assert_string_equal(strchr(said, '\n'), "\n");
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_a_delete_ends_a_push_that_waits(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), stream, result;
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	ask(fd, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, fd, 3, &result);
	ask(fd, OP(4, "delete", "c"));
	hear_ok(fd, 4);
	expect_output(result, "");
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_a_client_that_goes_takes_its_push_along(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), other = dial_control(f), stream, result;
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	ask(other, WHAT(3, "push", "c", "root"));
	stream = hear_push(f, other, 3, &result);
	close(other);
	expect_output(result, "");
	close(stream);
	close(result);
	io_close(&io);
	close(fd);
}

static void test_changes_that_cannot_be(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f);
	cleanup_free char *upper = xasprintf("%s/scratch/upper", f->dir);
	struct io ro = run(f, fd, CREATE(1, "ro", PROCESS("", "read a")), "ro");
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	ask(fd, WHAT(2, "changes", "none", "root"));
	hear_error(fd, 2, "not_found", "none");
	ask(fd, WHAT(3, "changes", "ro", "root"));
	hear_error(fd, 3, "invalid", "read-only root");
	ask(fd, WHAT(4, "push", "ro", "root"));
	hear_error(fd, 4, "invalid", "read-only root");
	rmdir(upper);
	ask(fd, WHAT(5, "changes", "c", "root"));
	hear_error(fd, 5, "other", "upper");
	io_close(&ro);
	io_close(&io);
	close(fd);
}

static void test_no_more_changes_at_one_time_than_allowed(void **state)
{
	const struct fixture *f = *state;
	int fd = dial_control(f), extra = dial_control(f);
	struct io io = run(f, fd, CREATE_WRITABLE(1, "c", PROCESS("", "read a")), "c");

	/* Those that nobody feeds wait, and are many. */
	for (int i = 0; i < 64; i++) {
		ask(extra, WHAT(3, "push", "c", "root"));
		yajl_tree_free(hear(extra));
	}
	ask(fd, WHAT(4, "changes", "c", "root"));
	hear_error(fd, 4, "other", "too many changesets");
	close(extra);
	ask(fd, "{\"seq\":5,\"op\":\"shutdown\"}");
	hear_ok(fd, 5);
	io_close(&io);
	close(fd);
}

static void test_watch(void **state)
{
	int fd = dial_control(*state);
	struct io io = run(*state, fd, CREATE(1, "c", PROCESS("", "read a")), "c");

	ask(fd, OP(3, "watch", "c"));
	hear_ok(fd, 3);
	ask(fd, OP(4, "watch", "c"));
	hear_ok(fd, 4);
	ask(fd, OP(5, "watch", "none"));
	hear_error(fd, 5, "not_found", "none");
	ask(fd, OP(6, "delete", "c"));
	hear_ok(fd, 6);
	io_close(&io);
	close(fd);
}

static void test_bad_requests(void **state)
{
	static const char *const no_answer[] = {"", "{}", "[1]", "{\"op\":\"hello\"}", "nonsense"};
	int fd = dial_control(*state);

	ask(fd, "{\"seq\":1,\"op\":\"dance\"}");
	hear_error(fd, 1, "invalid", "op: unknown: dance");
	ask(fd, "{\"seq\":2,\"op\":\"start\",\"container\":\"../x\"}");
	hear_error(fd, 2, "invalid", "container: ");
	ask(fd, OP(3, "start", "none"));
	hear_error(fd, 3, "not_found", "none");
	ask(fd, OP(4, "kill", "none"));
	hear_error(fd, 4, "invalid", "signal: ");
	close(fd);
	for (size_t i = 0; i < ARRAY_LEN(no_answer); i++) {
		fd = dial_control(*state);
		ask(fd, "%s", no_answer[i]);
		hear_closed(fd);
		close(fd);
	}
	fd = dial_control(*state);
	assert_int_equal(write(fd, "\xff\xff\xff\xff", 4), 4);
	hear_closed(fd);
	close(fd);
	fd = dial_stream(*state, "0123456789abcdef0123456789abcdef");
	hear_closed(fd);
	close(fd);
}

static void test_hundreds_of_connections(void **state)
{
	enum { N = 300 };
	int fds[N];
	struct io io[N];

	fds[0] = dial_control(*state);
	io[0] = run(*state, fds[0], CREATE(1, "c", PROCESS("", "exec sleep 1000")), "c");
	for (int i = 1; i < N; i++) {
		fds[i] = dial_control(*state);
		ask(fds[i], EXEC(1, "c", PROCESS("", "read a; echo $a")));
	}
	for (int i = 1; i < N; i++)
		io[i] = hear_process(*state, fds[i], 1);
	for (int i = 1; i < N; i++) {
		assert_int_equal(write(io[i].in, "z\n", 2), 2);
		expect_output(io[i].out, "z\n");
	}
	for (int i = 0; i < N; i++) {
		io_close(&io[i]);
		close(fds[i]);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, setup_dir, teardown_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hello),
		TEST(test_run_gives_output_and_status),
		TEST(test_nothing_runs_before_start),
		TEST(test_stdin_ends_when_the_host_shuts_it),
		TEST(test_megabytes_pass_unchanged),
		TEST(test_an_unread_stream_stalls_no_other),
		TEST(test_closing_a_connection_kills_its_processes),
		TEST(test_closing_a_connection_kills_what_was_only_created),
		TEST(test_sigterm_ends_what_was_only_created),
		TEST(test_signals_reach_the_process),
		TEST(test_failed_create_and_exec),
		TEST(test_streams_end_with_an_execd_process),
		TEST(test_output_waits_to_be_fetched),
		TEST(test_wait_needs_no_stream_without_output),
		TEST(test_a_closed_stream_is_a_broken_pipe),
		TEST(test_a_half_closed_stream_still_delivers),
		TEST(test_console),
		TEST(test_console_passes_much),
		TEST(test_a_closed_console_hangs_up),
		TEST(test_shutdown_ends_everything),
		TEST(test_delete_kills),
		TEST(test_pause_and_resume),
		TEST(test_sigkill_ends_a_process_whose_output_nobody_reads),
		TEST(test_a_death_in_a_start_hook_is_a_failed_start),
		DIR_TEST(test_changes_of_a_running_and_of_an_ended_container),
		DIR_TEST(test_a_push_to_the_root),
		DIR_TEST(test_a_bad_push_says_why),
		DIR_TEST(test_a_delete_ends_a_push_that_waits),
		DIR_TEST(test_a_client_that_goes_takes_its_push_along),
		DIR_TEST(test_changes_that_cannot_be),
		DIR_TEST(test_no_more_changes_at_one_time_than_allowed),
		TEST(test_watch),
		TEST(test_bad_requests),
		TEST(test_hundreds_of_connections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
