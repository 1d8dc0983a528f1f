/* The host's end of the guest's name server: a server of the test's own at 127.0.0.11 in a new
 * network namespace, and the agent's end of the stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/cleanup.h"
#include "lib/dns_record.h"
#include "lib/file.h"
#include "netns/netns.h"
#include "shim/resolver.h"

#define PATIENCE_MS 5000

struct world {
	struct resolver *r;
	int stream, udp, tcp;
	uint8_t buf[DNS_RECORD_MAX + 2];
};

static struct sockaddr_in server(void)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons(53),
				    .sin_addr.s_addr = inet_addr("127.0.0.11")};
}

static int setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	struct sockaddr_in a = server();
	int s[2], on = 1;

	*state = w;
	w->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	w->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(w->tcp, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(w->udp, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    bind(w->tcp, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(w->tcp, 8) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		return -1;
	w->stream = s[0];
	w->r = resolver_new(s[1], NULL);
	return w->r ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	resolver_free(w->r);
	close_fd(&w->stream);
	close_fd(&w->udp);
	close_fd(&w->tcp);
	free(w);
	return 0;
}

/* Lets the resolver work until `fd` can be read. */
static void run_until(struct world *w, int fd)
{
	for (;;) {
		struct pollfd p[2] = {{.fd = fd, .events = POLLIN},
				      {.fd = resolver_fd(w->r), .events = POLLIN}};

		assert_true(poll(p, 2, PATIENCE_MS) > 0);
		if (p[0].revents)
			return;
		assert_int_equal(resolver_step(w->r, NULL), 0);
	}
}

static void question(struct world *w, uint32_t id, uint8_t protocol, size_t len)
{
	dns_record_head(w->buf, id, protocol, (uint16_t)len);
	memset(w->buf + DNS_RECORD_HEAD, (int)id, len);
	assert_int_equal(write_all(w->stream, w->buf, DNS_RECORD_HEAD + len, NULL), 0);
}

static void read_whole(int fd, uint8_t *buf, size_t len)
{
	assert_int_equal(recv(fd, buf, len, MSG_WAITALL), len);
}

static void answered(struct world *w, uint32_t id, uint8_t protocol, size_t len, uint8_t fill)
{
	struct dns_record d;

	run_until(w, w->stream);
	read_whole(w->stream, w->buf, DNS_RECORD_HEAD);
	assert_int_equal(w->buf[6] << 8 | w->buf[7], len);
	read_whole(w->stream, w->buf + DNS_RECORD_HEAD, len);
	assert_int_equal(dns_record_parse(w->buf, DNS_RECORD_HEAD + len, &d, NULL),
			 DNS_RECORD_HEAD + len);
	assert_int_equal(d.id, id);
	assert_int_equal(d.protocol, protocol);
	assert_int_equal(d.message[0], fill);
	assert_int_equal(d.message[len - 1], fill);
}

static ssize_t udp_question(struct world *w, struct sockaddr_in *from)
{
	socklen_t alen = sizeof(*from);

	run_until(w, w->udp);
	return recvfrom(w->udp, w->buf, sizeof(w->buf), 0, (struct sockaddr *)from, &alen);
}

static void a_datagram_is_asked_and_answered(void **state)
{
	struct world *w = *state;
	struct sockaddr_in from;
	uint8_t reply[600];

	question(w, 7, DNS_UDP, 40);
	assert_int_equal(udp_question(w, &from), 40);
	assert_int_equal(w->buf[39], 7);
	memset(reply, 'r', sizeof(reply));
	assert_int_equal(sendto(w->udp, reply, sizeof(reply), 0, (struct sockaddr *)&from,
				sizeof(from)),
			 sizeof(reply));
	answered(w, 7, DNS_UDP, sizeof(reply), 'r');
}

static void answers_find_their_questions_in_any_order(void **state)
{
	struct world *w = *state;
	struct sockaddr_in from[3];

	for (uint32_t i = 0; i < 3; i++) {
		question(w, 100 + i, DNS_UDP, 20);
		assert_int_equal(udp_question(w, &from[i]), 20);
	}
	for (int i = 2; i >= 0; i--) {
		uint8_t reply[20];

		memset(reply, 'a' + i, sizeof(reply));
		sendto(w->udp, reply, sizeof(reply), 0, (struct sockaddr *)&from[i],
		       sizeof(from[i]));
		answered(w, 100 + (uint32_t)i, DNS_UDP, 20, (uint8_t)('a' + i));
	}
}

/* Takes the question's connection and its message of `len` bytes. */
static int tcp_question(struct world *w, size_t len)
{
	uint8_t head[2];
	int fd;

	run_until(w, w->tcp);
	fd = accept(w->tcp, NULL, NULL);
	assert_true(fd >= 0);
	for (size_t got = 0; got < 2 + len;) {
		ssize_t n;

		run_until(w, fd);
		n = got < 2 ? recv(fd, head + got, 2 - got, 0)
			    : recv(fd, w->buf + got - 2, len + 2 - got, 0);
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_int_equal(head[0] << 8 | head[1], len);
	return fd;
}

static void a_question_by_tcp_gets_an_answer_of_any_length(void **state)
{
	struct world *w = *state;
	cleanup_close int fd = -1;
	uint8_t head[2] = {0xff, 0xff};

	question(w, 9, DNS_TCP, 30000);
	fd = tcp_question(w, 30000);
	assert_int_equal(write_all(fd, head, 1, NULL), 0);
	assert_int_equal(resolver_step(w->r, NULL), 0);
	assert_int_equal(write_all(fd, head + 1, 1, NULL), 0);
	memset(w->buf, 't', DNS_MESSAGE_MAX);
	assert_int_equal(write_all(fd, w->buf, DNS_MESSAGE_MAX, NULL), 0);
	answered(w, 9, DNS_TCP, DNS_MESSAGE_MAX, 't');
}

static void no_server_is_no_answer(void **state)
{
	struct world *w = *state;
	struct sockaddr_in from;
	cleanup_close int fd = -1;

	close_fd(&w->tcp);
	question(w, 1, DNS_TCP, 20);
	/* The stream goes on. */
	question(w, 2, DNS_UDP, 20);
	assert_int_equal(udp_question(w, &from), 20);
	sendto(w->udp, w->buf, 20, 0, (struct sockaddr *)&from, sizeof(from));
	answered(w, 2, DNS_UDP, 20, 2);
}

static void an_answer_of_a_length_that_is_none_is_dropped(void **state)
{
	struct world *w = *state;
	uint8_t head[2] = {0, 3}, end;
	cleanup_close int fd = -1;

	question(w, 1, DNS_TCP, 20);
	fd = tcp_question(w, 20);
	assert_int_equal(write_all(fd, head, 2, NULL), 0);
	run_until(w, fd);
	assert_int_equal(recv(fd, &end, 1, 0), 0);
}

static void more_than_the_table_holds_are_dropped(void **state)
{
	struct world *w = *state;
	struct sockaddr_in from;
	int size = 8 << 20;
	unsigned n = 0;

	setsockopt(w->udp, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	for (uint32_t i = 0; i < DNS_OPEN_MAX + 40; i++) {
		question(w, i, DNS_UDP, 12);
		assert_int_equal(resolver_step(w->r, NULL), 0);
	}
	while (n < DNS_OPEN_MAX) {
		assert_int_equal(udp_question(w, &from), 12);
		n++;
	}
	assert_int_equal(recv(w->udp, w->buf, sizeof(w->buf), MSG_DONTWAIT), -1);
	/* A free place is used again. */
	sendto(w->udp, w->buf, 12, 0, (struct sockaddr *)&from, sizeof(from));
	run_until(w, w->stream);
	question(w, 9999, DNS_UDP, 12);
	assert_int_equal(udp_question(w, &from), 12);
	assert_true(resolver_wait_ms(w->r) > 0);
}

static void a_stream_that_is_none_is_over(void **state)
{
	struct world *w = *state;
	struct error err = ERROR_INIT;

	assert_int_equal(resolver_wait_ms(w->r), -1);
	question(w, 1, 99, 20);
	assert_int_equal(resolver_step(w->r, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
}

static void the_end_of_the_stream_is_told(void **state)
{
	struct world *w = *state;
	struct error err = ERROR_INIT;

	close_fd(&w->stream);
	assert_int_equal(resolver_step(w->r, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_datagram_is_asked_and_answered),
		TEST(answers_find_their_questions_in_any_order),
		TEST(a_question_by_tcp_gets_an_answer_of_any_length),
		TEST(no_server_is_no_answer),
		TEST(an_answer_of_a_length_that_is_none_is_dropped),
		TEST(more_than_the_table_holds_are_dropped),
		TEST(a_stream_that_is_none_is_over),
		TEST(the_end_of_the_stream_is_told),
	};
	struct error err = ERROR_INIT;

	if (netns_new(&err) < 0) {
		print_message("skipped: %s\n", err.msg);
		return 0;
	}
	return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
