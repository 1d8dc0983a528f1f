/* Requests from JSON, and the control socket with a handler that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "tests/unit/turns.h"
#include "vmm/control.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

/* ---- requests */

static struct request parse(const char *text)
{
	struct error err = ERROR_INIT;
	struct request r;

	if (request_parse(text, strlen(text), &r, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	return r;
}

static void parses_start(void **state)
{
	struct request r = parse("{\"seq\":1,\"op\":\"start\",\"engine\":\"qemu\",\"qemu\":\"/q\","
				 "\"memory\":536870912,\"vcpus\":2,\"cmdline\":\"a=b\","
				 "\"log_level\":\"debug\"}");

	(void)state;
	assert_int_equal(r.op, REQUEST_START);
	assert_int_equal(r.nfds, 3);
	assert_string_equal(r.start.qemu, "/q");
	assert_string_equal(r.start.cmdline, "a=b");
	assert_int_equal(r.start.memory, 512u << 20);
	assert_int_equal(r.start.vcpus, 2);
	assert_int_equal(r.start.log_level, LOG_LVL_DEBUG);
	assert_false(r.start.fs);
	request_free(&r);
	r = parse("{\"seq\":1,\"op\":\"start\",\"engine\":\"qemu\",\"qemu\":\"/q\","
		  "\"memory\":536870912,\"vcpus\":2,\"fs\":true}");
	assert_true(r.start.fs);
	assert_int_equal(r.nfds, 4);
	assert_int_equal(r.start.engine, REQUEST_ENGINE_QEMU);
	assert_false(r.start.console);
	request_free(&r);
	r = parse("{\"seq\":1,\"op\":\"start\",\"engine\":\"kvm\",\"memory\":67108864,"
		  "\"vcpus\":64,\"console\":true}");
	assert_int_equal(r.start.engine, REQUEST_ENGINE_KVM);
	assert_null(r.start.qemu);
	assert_true(r.start.console);
	request_free(&r);
}

static void parses_paths(void **state)
{
	static const struct {
		const char *text, *path;
	} cases[] = {
		{"a", "a"},
		{"etc/passwd", "etc/passwd"},
		{"..a/.b/...", "..a/.b/..."},
		{"%25", "%"},
		{"a%2fb", "a/b"},
		{"new%0Aline/%ff%FE", "new\nline/\xff\xfe"},
		{"%252e", "%2e"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[128];
		struct request r;

		snprintf(text, sizeof(text),
			 "{\"seq\":1,\"op\":\"hold\",\"serial\":\"root\",\"path\":\"%s\"}",
			 cases[i].text);
		r = parse(text);
		assert_int_equal(r.op, REQUEST_HOLD);
		assert_int_equal(r.nfds, 0);
		assert_string_equal(r.serial, "root");
		assert_string_equal(r.path, cases[i].path);
		request_free(&r);
	}
}

/* A request to hold a path of `len` times 'a'. */
static int parse_long_path(size_t len, struct error *err)
{
	cleanup_free char *text = xcalloc(1, len + 128);
	struct request r;
	size_t n;
	int ret;

	n = (size_t)sprintf(text, "{\"seq\":1,\"op\":\"hold\",\"serial\":\"root\",\"path\":\"");
	memset(text + n, 'a', len);
	strcpy(text + n + len, "\"}");
	ret = request_parse(text, strlen(text), &r, err);
	request_free(&r);
	return ret;
}

static void paths_have_a_limit(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(parse_long_path(REQUEST_PATH_MAX, &err), 0);
	assert_int_equal(parse_long_path(REQUEST_PATH_MAX + 1, &err), -1);
	assert_string_equal(err.msg, "path: not 1 to 4095 bytes");
}

static void parses_the_others(void **state)
{
	struct request r;

	(void)state;
	r = parse("{\"seq\":-3,\"op\":\"attach-block\",\"serial\":\"a.B_c-9\",\"readonly\":true}");
	assert_int_equal(r.seq, -3);
	assert_int_equal(r.nfds, 1);
	assert_string_equal(r.serial, "a.B_c-9");
	assert_true(r.readonly);
	assert_false(r.discardable);
	r = parse("{\"seq\":1,\"op\":\"vsock-connect\",\"port\":1024,\"timeout_ms\":1500}");
	assert_int_equal(r.port, 1024);
	assert_int_equal(r.timeout_us, 1500000);
	r = parse("{\"seq\":1,\"op\":\"balloon\",\"target_bytes\":1048576}");
	assert_int_equal(r.op, REQUEST_BALLOON);
	assert_int_equal(r.target_bytes, 1 << 20);
	assert_int_equal(parse("{\"seq\":1,\"op\":\"detach\",\"serial\":\"x\"}").op,
			 REQUEST_DETACH);
	r = parse("{\"seq\":1,\"op\":\"attach-tree\",\"serial\":\"root\"}");
	assert_int_equal(r.op, REQUEST_ATTACH_TREE);
	assert_int_equal(r.nfds, 2);
	assert_string_equal(r.serial, "root");
	assert_int_equal(parse("{\"seq\":1,\"op\":\"shutdown\"}").op, REQUEST_SHUTDOWN);
	r = parse("{\"seq\":1,\"op\":\"attach-net\",\"id\":\"eth0\",\"mac\":\"02:0a:Ff:00:00:01\","
		  "\"rate_tx\":{\"bytes_per_s\":7},\"rate_rx\":{\"ops_per_s\":8}}");
	assert_int_equal(r.nfds, 1);
	assert_string_equal(r.nic.id, "eth0");
	assert_memory_equal(r.nic.mac, "\x02\x0a\xff\x00\x00\x01", 6);
	assert_int_equal(r.nic.tx.bytes_per_s, 7);
	assert_int_equal(r.nic.rx.ops_per_s, 8);
	assert_int_equal(r.nic.queues, 1);
	r = parse("{\"seq\":1,\"op\":\"attach-net\",\"id\":\"a\",\"mac\":\"02:00:00:00:00:01\","
		  "\"queues\":8,\"vhost\":true}");
	assert_int_equal(r.nfds, 16);
	assert_true(r.nic.vhost);
	r = parse("{\"seq\":1,\"op\":\"net-link\",\"id\":\"eth0\",\"up\":true}");
	assert_true(r.nic.up);
	assert_int_equal(r.nfds, 0);
	assert_int_equal(parse("{\"seq\":1,\"op\":\"detach-net\",\"id\":\"a\"}").op,
			 REQUEST_DETACH_NET);
}

static void parses_limits(void **state)
{
	struct request r;

	(void)state;
	r = parse("{\"seq\":1,\"op\":\"attach-block\",\"serial\":\"a\",\"rate\":{"
		  "\"bytes_per_s\":1048576,\"bytes_burst\":0,\"ops_per_s\":1125899906842624}}");
	assert_int_equal(r.rate.bytes_per_s, 1 << 20);
	assert_int_equal(r.rate.bytes_burst, 0);
	assert_int_equal(r.rate.ops_per_s, REQUEST_RATE_MAX);
	assert_int_equal(r.rate.ops_burst, 0);
	r = parse("{\"seq\":1,\"op\":\"attach-tree\",\"serial\":\"a\",\"rate\":{"
		  "\"ops_burst\":7}}");
	assert_int_equal(r.rate.ops_burst, 7);
}

#define START "\"op\":\"start\",\"engine\":\"qemu\",\"qemu\":\"/q\","

#define NET "{\"seq\":1,\"op\":\"attach-net\",\"id\":\"a\""

#define HOLD "{\"seq\":1,\"op\":\"hold\",\"serial\":\"a\",\"path\":"

static void names_what_is_wrong(void **state)
{
	static const struct {
		const char *text, *message;
		enum error_kind kind;
	} cases[] = {
		{"", "line 1", ERR_INVALID},
		{"[]", "a request is an object", ERR_INVALID},
		{"{\"op\":\"status\"}", "seq: missing", ERR_INVALID},
		{"{\"seq\":\"1\",\"op\":\"status\"}", "seq: not an integer", ERR_INVALID},
		{"{\"seq\":1}", "op: missing", ERR_INVALID},
		{"{\"seq\":1,\"op\":1}", "op: not a string", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"fly\"}", "op: \"fly\"", ERR_UNSUPPORTED},
		{"{\"seq\":1,\"op\":\"detach\"}", "serial: missing", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"detach\",\"serial\":\"\"}", "serial: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"detach\",\"serial\":\"a b\"}", "serial: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"detach\",\"serial\":\"123456789012345678901\"}",
		 "serial: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"attach-block\",\"serial\":\"a\",\"readonly\":1}",
		 "readonly: not a boolean", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"attach-tree\"}", "serial: missing", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"detach-net\"}", "id: missing", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"detach-net\",\"id\":\"1234567890123456\"}", "id: not 1 to 15",
		 ERR_INVALID},
		{"{\"seq\":1,\"op\":\"net-link\",\"id\":\"a\"}", "up: missing", ERR_INVALID},
		{NET "}", "mac: missing", ERR_INVALID},
		{NET ",\"mac\":\"02:00:00:00:00\"}", "mac: not a station", ERR_INVALID},
		{NET ",\"mac\":\"02:00:00:00:00:0g\"}", "mac: not a station", ERR_INVALID},
		{NET ",\"mac\":\"02:00:00:00:00-01\"}", "mac: not a station", ERR_INVALID},
		{NET ",\"mac\":\"01:00:00:00:00:01\"}", "mac: not a station", ERR_INVALID},
		{NET ",\"mac\":\"02:00:00:00:00:01\",\"queues\":9}", "queues: 9", ERR_INVALID},
		{NET ",\"mac\":\"02:00:00:00:00:01\",\"vhost\":1}", "vhost: ", ERR_INVALID},
		{NET ",\"mac\":\"02:00:00:00:00:01\",\"rate_rx\":1}", "rate_rx: ", ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108864,\"vcpus\":1,\"nics\":9}", "nics: 9",
		 ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108864,\"vcpus\":1,\"nics\":5,\"fs\":true,"
		 "\"writable_disks\":14}",
		 "nics: 5 with 16 disks and virtio-fs are more than the 21 slots", ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108864,\"vcpus\":1,\"writable_disks\":15}",
		 "readonly_disks, writable_disks: more than 16", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"attach-block\",\"serial\":\"a\",\"rate\":1}",
		 "rate: not an object", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"attach-tree\",\"serial\":\"a\",\"rate\":{"
		 "\"bytes_burst\":1125899906842625}}",
		 "rate: bytes_burst: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"hold\",\"serial\":\"a\"}", "path: missing", ERR_INVALID},
		{HOLD "1}", "path: not a string", ERR_INVALID},
		{HOLD "\"\"}", "path: not 1 to 4095", ERR_INVALID},
		{HOLD "\"/etc\"}", "path: not relative", ERR_INVALID},
		{HOLD "\"a//b\"}", "path: not relative", ERR_INVALID},
		{HOLD "\"a/\"}", "path: not relative", ERR_INVALID},
		{HOLD "\".\"}", "path: not relative", ERR_INVALID},
		{HOLD "\"a/../b\"}", "path: not relative", ERR_INVALID},
		{HOLD "\"a/%2e%2E\"}", "path: not relative", ERR_INVALID},
		{HOLD "\"%2fa\"}", "path: not relative", ERR_INVALID},
		{HOLD "\"a%\"}", "path: '%'", ERR_INVALID},
		{HOLD "\"a%4\"}", "path: '%'", ERR_INVALID},
		{HOLD "\"a%g0\"}", "path: '%'", ERR_INVALID},
		{HOLD "\"a%00b\"}", "path: has a NUL", ERR_INVALID},
		{HOLD "\"\xc3\xa4\"}", "path: a byte", ERR_INVALID},
		{HOLD "\"a\\n\"}", "path: a byte", ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108864,\"vcpus\":1,\"fs\":1}",
		 "fs: not a boolean", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"vsock-connect\"}", "port: missing", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"balloon\"}", "target_bytes: missing", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"vsock-connect\",\"port\":4294967295}", "port: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"vsock-connect\",\"port\":-1}", "port: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"vsock-connect\",\"port\":1,\"timeout_ms\":-1}",
		 "timeout_ms: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"start\"}", "engine: missing", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"start\",\"engine\":\"xen\"}", "engine: \"xen\"",
		 ERR_UNSUPPORTED},
		{"{\"seq\":1," START "\"memory\":1048576,\"vcpus\":1}", "memory: ", ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108865,\"vcpus\":1}", "memory: not a multiple",
		 ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108864,\"vcpus\":0}", "vcpus: ", ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108864,\"vcpus\":1,\"cmdline\":\"a\\nb\"}",
		 "cmdline: ", ERR_INVALID},
		{"{\"seq\":1," START "\"memory\":67108864,\"vcpus\":1,\"log_level\":\"x\"}",
		 "log_level: ", ERR_INVALID},
		{"{\"seq\":1,\"op\":\"start\",\"engine\":\"qemu\",\"qemu\":\"q\","
		 "\"memory\":67108864,\"vcpus\":1}",
		 "qemu: not an absolute path", ERR_INVALID},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct error err = ERROR_INIT;
		struct request r;

		if (request_parse(cases[i].text, strlen(cases[i].text), &r, &err) == 0)
			fail_msg("accepted: %s", cases[i].text);
		if (!strstr(err.msg, cases[i].message) || err.kind != cases[i].kind)
			fail_msg("%s: %s", cases[i].text, err.msg);
		request_free(&r);
	}
}

static void tells_seq_of_a_bad_request(void **state)
{
	const char *text = "{\"seq\":42,\"op\":\"fly\"}";
	struct request r;

	(void)state;
	assert_int_equal(request_parse(text, strlen(text), &r, NULL), -1);
	assert_true(r.has_seq);
	assert_int_equal(r.seq, 42);
	request_free(&r);
}

/* ---- the socket */

struct fixture {
	struct loop *loop;
	struct control *control;
	int peer;
	bool hold; /* keep calls instead of answering */
	struct control_call *held[CONTROL_CALLS_MAX * 2];
	unsigned nheld;
	int boot_closed;
};

static void on_request(void *arg, struct control_call *call, struct request *r, int *fds)
{
	struct fixture *f = arg;
	struct jsonw w;

	if (f->hold) {
		f->held[f->nheld++] = call;
	} else if (r->op == REQUEST_ATTACH_BLOCK) {
		assert_int_equal(control_begin(call, &w), 0);
		control_answer(call, &w, steal_fd(&fds[0]));
	} else {
		control_ok(call);
	}
}

static void on_boot_closed(void *arg)
{
	((struct fixture *)arg)->boot_closed++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct control_handler h = {on_request, on_boot_closed, f};
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	f->loop = loop_new(NULL);
	f->control = control_new(f->loop, sv[0], &h, NULL);
	f->peer = sv[1];
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	control_free(f->control);
	loop_free(f->loop);
	close_fd(&f->peer);
	free(f);
	return 0;
}

/* As many turns as there are messages in a test, and more. */
static void settle(struct fixture *f)
{
	turns_run(f->loop, 4 * CONTROL_CALLS_MAX);
}

static void ask(struct fixture *f, const char *text, const int *fds, unsigned nfds)
{
	assert_int_equal(frame_send(f->peer, text, strlen(text), fds, nfds, NULL), 0);
}

/* The next message, which must be there already. */
static void expect_message(struct fixture *f, const char *want, int *fd)
{
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;
	unsigned nfds = 1;
	int fds[1];
	size_t len;

	if (frame_recv(f->peer, &text, &len, fds, &nfds, -1, now_us() + 20000000, &err) != 1)
		fail_msg("no message: %s", err.msg);
	assert_string_equal(text, want);
	assert_int_equal(nfds, fd ? 1 : 0);
	if (fd)
		*fd = fds[0];
}

static void answers_by_seq(void **state)
{
	struct fixture *f = *state;

	ask(f, "{\"seq\":5,\"op\":\"status\"}", NULL, 0);
	settle(f);
	expect_message(f, "{\"seq\":5,\"ok\":true}", NULL);
	ask(f, "{\"seq\":6,\"op\":\"fly\"}", NULL, 0);
	ask(f, "nonsense", NULL, 0);
	settle(f);
	expect_message(f,
		       "{\"seq\":6,\"error\":{\"kind\":\"unsupported\",\"message\":\"op: "
		       "\\\"fly\\\" is not known\"}}",
		       NULL);
	control_event(f->control, "ended", "because", "last\n");
	settle(f);
	expect_message(f,
		       "{\"seq\":null,\"error\":{\"kind\":\"invalid\",\"message\":\"line 1, column "
		       "1: lexical error: invalid string in json text.\"}}",
		       NULL);
	expect_message(f, "{\"event\":\"ended\",\"why\":\"because\",\"console\":\"last\\n\"}",
		       NULL);
}

static void passes_descriptors_both_ways(void **state)
{
	struct fixture *f = *state;
	int p[2], back;
	char c = 0;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	ask(f, "{\"seq\":1,\"op\":\"attach-block\",\"serial\":\"a\"}", &p[1], 1);
	close(p[1]);
	settle(f);
	expect_message(f, "{\"seq\":1,\"ok\":true}", &back);
	assert_int_equal(write(back, "x", 1), 1);
	close(back);
	assert_int_equal(read(p[0], &c, 1), 1);
	/* Nobody else holds it. */
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
}

static void refuses_a_wrong_number_of_descriptors(void **state)
{
	struct fixture *f = *state;
	int p[2];
	char c;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	ask(f, "{\"seq\":1,\"op\":\"status\"}", &p[1], 1);
	close(p[1]);
	settle(f);
	expect_message(f,
		       "{\"seq\":1,\"error\":{\"kind\":\"invalid\",\"message\":\"status: 1 "
		       "descriptors came with it, not 0\"}}",
		       NULL);
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
}

static void closes_what_nobody_waits_for(void **state)
{
	struct fixture *f = *state;
	struct jsonw w;
	int p[2];
	char c;

	f->hold = true;
	ask(f, "{\"seq\":1,\"op\":\"vsock-connect\",\"port\":1}", NULL, 0);
	ask(f, "{\"seq\":2,\"op\":\"status\"}", NULL, 0);
	settle(f);
	assert_int_equal(f->nheld, 2);
	close_fd(&f->peer);
	settle(f);
	assert_int_equal(f->boot_closed, 1);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(control_begin(f->held[0], &w), 0);
	control_answer(f->held[0], &w, p[1]);
	assert_int_equal(read(p[0], &c, 1), 0);
	close(p[0]);
	/* held[1] is never answered: control_free() takes it. */
}

static void holds_back_a_busy_client(void **state)
{
	struct fixture *f = *state;

	f->hold = true;
	for (unsigned i = 0; i < CONTROL_CALLS_MAX + 2; i++)
		ask(f, "{\"seq\":1,\"op\":\"status\"}", NULL, 0);
	settle(f);
	assert_int_equal(f->nheld, CONTROL_CALLS_MAX);
	control_ok(f->held[0]);
	settle(f);
	expect_message(f, "{\"seq\":1,\"ok\":true}", NULL);
	control_ok(f->held[1]);
	settle(f);
	assert_int_equal(f->nheld, CONTROL_CALLS_MAX + 2);
}

static void ends_a_client_that_breaks_the_framing(void **state)
{
	struct fixture *f = *state;
	char c;

	assert_int_equal(send(f->peer, "\xff\xff\xff\xff", 4, 0), 4);
	settle(f);
	assert_int_equal(f->boot_closed, 1);
	assert_int_equal(recv(f->peer, &c, 1, 0), 0);
}

static void flush_is_bounded(void **state)
{
	struct fixture *f = *state;
	uint64_t from;

	for (int i = 0; i < 2000; i++)
		control_event(f->control, "ready", NULL, NULL);
	from = now_us();
	control_flush(f->control, 50);
	assert_true(now_us() - from >= 50000);
}

static void listens_on_listening_sockets_alone(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(control_listen(f->control, fd, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

#define SOCKET_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_start),
		cmocka_unit_test(parses_the_others),
		cmocka_unit_test(parses_paths),
		cmocka_unit_test(paths_have_a_limit),
		cmocka_unit_test(names_what_is_wrong),
		cmocka_unit_test(parses_limits),
		cmocka_unit_test(tells_seq_of_a_bad_request),
		SOCKET_TEST(answers_by_seq),
		SOCKET_TEST(passes_descriptors_both_ways),
		SOCKET_TEST(refuses_a_wrong_number_of_descriptors),
		SOCKET_TEST(closes_what_nobody_waits_for),
		SOCKET_TEST(holds_back_a_busy_client),
		SOCKET_TEST(ends_a_client_that_breaks_the_framing),
		SOCKET_TEST(flush_is_bounded),
		SOCKET_TEST(listens_on_listening_sockets_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
