/* The guest's name server: what clients of 127.0.0.11 ask comes to the host as records, and the
 * answers find those who asked. The server is a process of its own, in a network namespace of the
 * test's own; a Unix socket stands for vsock. */
#include "agent/names.h"
#include "lib/cleanup.h"
#include "lib/dns_record.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/netns.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#define BOUND_S 60

/* ---- the server */

struct server {
	struct loop *loop;
	struct streams *streams;
	struct names *r;
	int listener, orders;
};

static void on_listener(void *arg, uint32_t events UNUSED)
{
	struct server *s = arg;
	int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		streams_accept(s->streams, fd);
}

/* 'T': a token, please; '1', '0': serve, or do not. The end of the socket is the server's. */
static void on_order(void *arg, uint32_t events UNUSED)
{
	struct server *s = arg;
	char c, token[PROTO_TOKEN_HEX + 1] = "failed";
	ssize_t n = read(s->orders, &c, 1);

	if (n <= 0)
		loop_stop(s->loop, 0);
	else if (c == 'T')
		names_stream(s->r, token, NULL);
	else if (names_serve(s->r, c == '1' ? NAMES_PORT : 0, NULL) == 0)
		memset(token, 'k', PROTO_TOKEN_HEX);
	if (n > 0 && write(s->orders, token, PROTO_TOKEN_HEX) != PROTO_TOKEN_HEX)
		_exit(97);
}

static void __attribute__((noreturn)) run_server(int listener, int orders)
{
	struct server s = {.loop = loop_new(NULL), .listener = listener, .orders = orders};

	signal(SIGPIPE, SIG_IGN);
	s.streams = streams_new(s.loop);
	s.r = names_new(s.loop, s.streams);
	if (!loop_add(s.loop, listener, EPOLLIN, on_listener, &s, NULL) ||
	    !loop_add(s.loop, orders, EPOLLIN, on_order, &s, NULL))
		_exit(98);
	loop_run(s.loop);
	names_free(s.r);
	streams_free(s.streams);
	loop_free(s.loop);
	close(listener);
	close(orders);
	exit(0); /* the leak checker's turn */
}

/* ---- its clients */

struct fixture {
	pid_t pid;
	int orders;
	struct sockaddr_un stream;
	socklen_t len;
};

static int own_namespace(void **state UNUSED)
{
	static bool own;

	if (!own && netns_new(NULL) == 0)
		own = true;
	if (!own)
		skip();
	return 0;
}

static void order(const struct fixture *f, char c, char answer[PROTO_TOKEN_HEX])
{
	assert_int_equal(write(f->orders, &c, 1), 1);
	assert_int_equal(recv(f->orders, answer, PROTO_TOKEN_HEX, MSG_WAITALL), PROTO_TOKEN_HEX);
}

static int setup(void **state)
{
	struct fixture *f;
	char answer[PROTO_TOKEN_HEX];
	int listener, fds[2];

	own_namespace(state); /* before the socket: its name is one of a namespace, too */
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	f = xcalloc(1, sizeof(*f));
	f->stream.sun_family = AF_UNIX;
	assert_int_equal(bind(listener, (struct sockaddr *)&f->stream, sizeof(sa_family_t)), 0);
	f->len = sizeof(f->stream);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&f->stream, &f->len), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	f->pid = fork();
	if (f->pid == 0) {
		close(fds[0]);
		free(f);
		run_server(listener, fds[1]);
	}
	close(listener);
	close(fds[1]);
	f->orders = fds[0];
	order(f, '1', answer);
	assert_int_equal(answer[0], 'k');
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int status = -1;

	close(f->orders);
	waitpid(f->pid, &status, 0);
	free(f);
	return status == 0 ? 0 : -1;
}

static void bound(int fd)
{
	struct timeval tv = {BOUND_S, 0};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
}

/* The host's end of a new stream. */
static int open_stream(const struct fixture *f)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char token[PROTO_TOKEN_HEX];

	order(f, 'T', token);
	assert_int_equal(connect(fd, (const struct sockaddr *)&f->stream, f->len), 0);
	assert_int_equal(write(fd, token, sizeof(token)), sizeof(token));
	bound(fd);
	return fd;
}

static int client(int type)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(NAMES_PORT)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, NAMES_ADDRESS, &at.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	bound(fd);
	return fd;
}

/* A message of `len` bytes that all are `c`. */
static void ask_udp(int fd, char c, size_t len)
{
	char text[512];

	memset(text, c, len);
	assert_int_equal(send(fd, text, len, 0), len);
}

static void put_all(int fd, const void *data, size_t len)
{
	struct error err = ERROR_INIT;

	if (write_all(fd, data, len, &err) < 0)
		fail_msg("%s", err.msg);
}

static void ask_tcp(int fd, char c, size_t len)
{
	cleanup_free uint8_t *text = xcalloc(1, len + 2);

	text[0] = (uint8_t)(len >> 8);
	text[1] = (uint8_t)len;
	memset(text + 2, c, len);
	put_all(fd, text, len + 2);
}

struct heard {
	uint32_t id;
	uint8_t protocol;
	char c;
	size_t len;
};

static struct heard hear(int stream)
{
	static uint8_t buf[DNS_RECORD_MAX];
	struct error err = ERROR_INIT;
	struct dns_record r;
	size_t len;

	assert_int_equal(recv(stream, buf, DNS_RECORD_HEAD, MSG_WAITALL), DNS_RECORD_HEAD);
	len = (size_t)buf[6] << 8 | buf[7];
	assert_int_equal(recv(stream, buf + DNS_RECORD_HEAD, len, MSG_WAITALL), len);
	assert_int_equal(dns_record_parse(buf, DNS_RECORD_HEAD + len, &r, &err),
			 DNS_RECORD_HEAD + len);
	return (struct heard){r.id, r.protocol, (char)r.message[0], r.len};
}

static void answer(int stream, const struct heard *h, char c, size_t len)
{
	cleanup_free uint8_t *text = xcalloc(1, DNS_RECORD_HEAD + len);

	dns_record_head(text, h->id, h->protocol, (uint16_t)len);
	memset(text + DNS_RECORD_HEAD, c, len);
	put_all(stream, text, DNS_RECORD_HEAD + len);
}

static void expect_udp(int fd, char c, size_t len)
{
	char buf[65536];

	assert_int_equal(recv(fd, buf, sizeof(buf), 0), len);
	assert_int_equal(buf[0], c);
	assert_int_equal(buf[len - 1], c);
}

static void expect_tcp(int fd, char c, size_t len)
{
	static uint8_t buf[65537];

	assert_int_equal(recv(fd, buf, len + 2, MSG_WAITALL), len + 2);
	assert_int_equal((size_t)buf[0] << 8 | buf[1], len);
	assert_int_equal(buf[2], c);
	assert_int_equal(buf[len + 1], c);
}

static void expect_end(int fd)
{
	char c;

	assert_true(recv(fd, &c, 1, 0) <= 0);
	assert_true(errno != EAGAIN);
}

/* ---- tests */

static void test_a_datagram_is_answered(void **state)
{
	int stream = open_stream(*state), a = client(SOCK_DGRAM), b = client(SOCK_DGRAM);
	struct heard ha, hb;

	ask_udp(a, 'a', 30);
	ha = hear(stream);
	assert_int_equal(ha.protocol, DNS_UDP);
	assert_int_equal(ha.c, 'a');
	assert_int_equal(ha.len, 30);
	ask_udp(b, 'b', 12);
	hb = hear(stream);
	answer(stream, &hb, 'B', 4096);
	answer(stream, &ha, 'A', 512);
	expect_udp(b, 'B', 4096);
	expect_udp(a, 'A', 512);
	close(a);
	close(b);
	close(stream);
}

static void test_questions_wait_for_the_stream(void **state)
{
	int u = client(SOCK_DGRAM), t = client(SOCK_STREAM), stream;
	struct heard one, two;

	ask_udp(u, 'u', 40);
	ask_tcp(t, 't', 40);
	stream = open_stream(*state);
	one = hear(stream);
	two = hear(stream);
	assert_int_equal(one.protocol + two.protocol, DNS_UDP + DNS_TCP);
	answer(stream, &one, 'x', 20);
	answer(stream, &two, 'x', 20);
	expect_udp(u, 'x', 20);
	expect_tcp(t, 'x', 20);
	close(u);
	close(t);
	close(stream);
}

static void test_pipelined_questions_are_answered_in_any_order(void **state)
{
	int stream = open_stream(*state), t = client(SOCK_STREAM);
	struct heard one, two;

	ask_tcp(t, '1', 100);
	ask_tcp(t, '2', 200);
	one = hear(stream);
	two = hear(stream);
	assert_int_equal(one.c, '1');
	assert_int_equal(two.len, 200);
	answer(stream, &two, 'B', 300);
	expect_tcp(t, 'B', 300);
	answer(stream, &one, 'A', 65535);
	expect_tcp(t, 'A', 65535);
	ask_tcp(t, '3', 65535);
	one = hear(stream);
	assert_int_equal(one.len, 65535);
	answer(stream, &one, 'C', 12);
	expect_tcp(t, 'C', 12);
	close(t);
	close(stream);
}

static void test_a_question_comes_in_pieces(void **state)
{
	int stream = open_stream(*state), t = client(SOCK_STREAM), u = client(SOCK_DGRAM);
	struct heard h;

	put_all(t, "\0", 1);
	put_all(t,
		"\x10"
		"abc",
		4);
	/* Others are not kept waiting by it. */
	ask_udp(u, 'u', 12);
	h = hear(stream);
	assert_int_equal(h.c, 'u');
	put_all(t, "defghijklmnop", 13);
	shutdown(t, SHUT_WR);
	h = hear(stream);
	assert_int_equal(h.len, 16);
	assert_int_equal(h.c, 'a');
	answer(stream, &h, 'A', 50);
	expect_tcp(t, 'A', 50);
	expect_end(t);
	close(t);
	close(u);
	close(stream);
}

static void test_what_is_no_message_is_dropped(void **state)
{
	int stream = open_stream(*state), t = client(SOCK_STREAM), u = client(SOCK_DGRAM);
	int empty = client(SOCK_STREAM);

	put_all(empty, "\0\0", 2);
	expect_end(empty);
	close(empty);
	ask_udp(u, 's', 11);
	ask_udp(u, 'l', 12);
	assert_int_equal(hear(stream).c, 'l');
	put_all(t,
		"\0\x0b"
		"0123456789a",
		13);
	expect_end(t);
	close(t);
	close(u);
	close(stream);
}

static void test_the_table_is_bounded(void **state)
{
	int stream = open_stream(*state), u = client(SOCK_DGRAM), other = client(SOCK_DGRAM);
	struct heard h[DNS_OPEN_MAX];

	for (size_t i = 0; i < DNS_OPEN_MAX; i++) {
		ask_udp(u, 'u', 12);
		h[i] = hear(stream);
	}
	ask_udp(other, 'x', 12); /* dropped */
	answer(stream, &h[7], 'A', 12);
	expect_udp(u, 'A', 12);
	ask_udp(other, 'y', 12);
	assert_int_equal(hear(stream).c, 'y');
	close(u);
	close(other);
	close(stream);
}

static void test_wrong_answers_are_nobodys(void **state)
{
	int stream = open_stream(*state), u = client(SOCK_DGRAM);
	struct heard h, wrong;

	ask_udp(u, 'u', 12);
	h = hear(stream);
	wrong = h;
	wrong.protocol = DNS_TCP;
	answer(stream, &wrong, 'w', 12);
	wrong = h;
	wrong.id += 256;
	answer(stream, &wrong, 'w', 12);
	answer(stream, &h, 'A', 12);
	answer(stream, &h, 'w', 12); /* twice */
	expect_udp(u, 'A', 12);
	ask_udp(u, 'v', 12);
	h = hear(stream);
	answer(stream, &h, 'B', 12);
	expect_udp(u, 'B', 12);
	close(u);
	close(stream);
}

static void test_a_new_stream_takes_over(void **state)
{
	int first = open_stream(*state), u = client(SOCK_DGRAM), second, third;
	struct heard h;

	ask_udp(u, 'a', 12);
	hear(first);
	second = open_stream(*state);
	expect_end(first);
	ask_udp(u, 'b', 12);
	h = hear(second);
	assert_int_equal(h.c, 'b');
	put_all(second, "this is no record", 17);
	expect_end(second);
	ask_udp(u, 'c', 12);
	third = open_stream(*state);
	h = hear(third);
	assert_int_equal(h.c, 'c');
	answer(third, &h, 'C', 12);
	expect_udp(u, 'C', 12);
	close(u);
	close(first);
	close(second);
	close(third);
}

static void test_too_many_clients_wait_for_their_turn(void **state)
{
	int stream = open_stream(*state), fds[NAMES_CONNS_MAX + 1];
	struct heard h;

	for (size_t i = 0; i <= NAMES_CONNS_MAX; i++) {
		fds[i] = client(SOCK_STREAM);
		ask_tcp(fds[i], (char)('!' + i), 12);
	}
	for (size_t i = 0; i < NAMES_CONNS_MAX; i++)
		assert_int_not_equal(hear(stream).c, '!' + NAMES_CONNS_MAX);
	close(fds[3]);
	h = hear(stream);
	assert_int_equal(h.c, '!' + NAMES_CONNS_MAX);
	answer(stream, &h, 'A', 12);
	expect_tcp(fds[NAMES_CONNS_MAX], 'A', 12);
	for (size_t i = 0; i <= NAMES_CONNS_MAX; i++)
		if (i != 3)
			close(fds[i]);
	close(stream);
}

/* A host that does not read is no reason to grow: clients get no more turns. */
static void test_a_host_that_does_not_read_stops_clients(void **state)
{
	static uint8_t text[65537];
	int stream = open_stream(*state), t = client(SOCK_STREAM), u = client(SOCK_DGRAM);
	const size_t too_much = 64u << 20; /* more than the sockets hold */
	const size_t share = NAMES_PIPELINE_MAX * sizeof(text);
	struct pollfd p = {.fd = t, .events = POLLOUT};
	uint64_t end = now_us() + BOUND_S * UINT64_C(1000000);
	size_t sent = 0;

	memset(text, 'x', sizeof(text));
	text[0] = text[1] = 0xff;
	/* Until the server has stopped reading, and not merely had no processor to begin. */
	while (sent < too_much && (poll(&p, 1, 200) > 0 || (sent < share && now_us() < end))) {
		ssize_t n = send(t, text + sent % sizeof(text), sizeof(text) - sent % sizeof(text),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		assert_true(n > 0 || errno == EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
	}
	assert_true(sent < too_much);
	for (size_t i = 0; i < NAMES_PIPELINE_MAX; i++)
		assert_int_equal(hear(stream).len, 65535);
	/* It has its share; now it is somebody else's turn. */
	ask_udp(u, 'u', 12);
	assert_int_equal(hear(stream).c, 'u');
	close(t);
	close(u);
	close(stream);
}

static void test_it_stops_and_begins_again(void **state)
{
	const struct fixture *f = *state;
	int stream = open_stream(f), t = client(SOCK_STREAM), u;
	char text[PROTO_TOKEN_HEX];
	struct heard h;

	order(f, '0', text);
	expect_end(t);
	u = client(SOCK_DGRAM);
	send(u, "0123456789ab", 12, 0);
	assert_int_equal(recv(u, text, sizeof(text), 0), -1);
	assert_int_equal(errno, ECONNREFUSED);
	order(f, '1', text);
	order(f, '1', text); /* twice is once */
	ask_udp(u, 'u', 12);
	h = hear(stream);
	answer(stream, &h, 'A', 12);
	expect_udp(u, 'A', 12);
	close(t);
	close(u);
	close(stream);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_datagram_is_answered),
		TEST(test_questions_wait_for_the_stream),
		TEST(test_pipelined_questions_are_answered_in_any_order),
		TEST(test_a_question_comes_in_pieces),
		TEST(test_what_is_no_message_is_dropped),
		TEST(test_the_table_is_bounded),
		TEST(test_wrong_answers_are_nobodys),
		TEST(test_a_new_stream_takes_over),
		TEST(test_too_many_clients_wait_for_their_turn),
		TEST(test_a_host_that_does_not_read_stops_clients),
		TEST(test_it_stops_and_begins_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
