/* Connections of the host's to the guest's localhost: the head, both families, nobody there, and
 * how the host's side gets there (netns/steer.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/forward.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/steer.h"
#include "tests/unit/turns.h"

#define BOUND_US 20000000

struct fixture {
	struct loop *loop;
	struct forwards *set;
	int listener;
	uint16_t port;
};

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct error err = ERROR_INIT;

	f->loop = loop_new(&err);
	assert_non_null(f->loop);
	f->set = forwards_new(f->loop);
	f->listener = -1;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	forwards_free(f->set);
	loop_free(f->loop);
	close_fd(&f->listener);
	free(f);
	return 0;
}

static bool listen_at(struct fixture *f, int family)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	struct sockaddr *a = family == AF_INET ? (void *)&v4 : (void *)&v6;

	f->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->listener < 0 || bind(f->listener, a, len) < 0)
		return false;
	assert_int_equal(listen(f->listener, 8), 0);
	assert_int_equal(getsockname(f->listener, a, &len), 0);
	f->port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return true;
}

static void turn(struct fixture *f)
{
	turns_run(f->loop, 16);
}

/* What comes next: TCP's part may be done by the kernel some time later. */
static ssize_t await_bytes(struct fixture *f, int fd, void *buf, size_t len)
{
	uint64_t end = now_us() + BOUND_US;
	ssize_t n;

	do {
		turn(f);
		n = recv(fd, buf, len, MSG_DONTWAIT);
	} while (n < 0 && errno == EAGAIN && now_us() < end);
	return n;
}

/* The host's end of a new one. */
static int open_forward(struct fixture *f)
{
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	forwards_accept(f->set, s[1]);
	return s[0];
}

static void send_head(struct fixture *f, int fd, uint16_t port)
{
	const uint8_t head[2] = {(uint8_t)(port >> 8), (uint8_t)port};

	/* A byte at a time: it is a stream. */
	assert_int_equal(send(fd, head, 1, 0), 1);
	turn(f);
	assert_int_equal(send(fd, head + 1, 1, 0), 1);
	turn(f);
}

static void is_connected(struct fixture *f)
{
	cleanup_close int fd = open_forward(f), tcp = -1;
	char buf[8] = {0};

	send_head(f, fd, f->port);
	tcp = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(tcp >= 0);
	assert_int_equal(await_bytes(f, fd, buf, sizeof(buf)), 1);
	assert_int_equal(buf[0], 0);
	assert_int_equal(send(fd, "hello", 5, 0), 5);
	assert_int_equal(await_bytes(f, tcp, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
}

static void the_port_of_127_0_0_1(void **state)
{
	assert_true(listen_at(*state, AF_INET));
	is_connected(*state);
}

static void or_that_of_the_same_number_of_ipv6(void **state)
{
	if (!listen_at(*state, AF_INET6))
		skip();
	is_connected(*state);
}

static void nobody_there_is_an_end_without_an_answer(void **state)
{
	struct fixture *f = *state;
	cleanup_close int fd = open_forward(f);
	char c;

	assert_true(listen_at(f, AF_INET));
	close_fd(&f->listener);
	send_head(f, fd, f->port);
	assert_int_equal(await_bytes(f, fd, &c, 1), 0);
}

static void too_many_are_not_taken(void **state)
{
	struct fixture *f = *state;
	int fd[FORWARDS_MAX + 1];
	char c;

	for (unsigned i = 0; i <= FORWARDS_MAX; i++)
		fd[i] = open_forward(f);
	assert_int_equal(recv(fd[FORWARDS_MAX], &c, 1, MSG_DONTWAIT), 0);
	assert_int_equal(recv(fd[0], &c, 1, MSG_DONTWAIT), -1);
	for (unsigned i = 0; i <= FORWARDS_MAX; i++)
		close(fd[i]);
	turn(f);
	close(open_forward(f));
}

/* ---- the way there */

static int connect_to(uint32_t address, uint16_t port)
{
	const struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void localhost_is_steered_to_one_socket_and_nothing_else_is(void **state)
{
	struct fixture *f = *state;
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	struct sockaddr_in local = {0};
	socklen_t len = sizeof(local);
	struct error err = ERROR_INIT;
	cleanup_close int link = -1;
	int fd, got;

	if (unshare(CLONE_NEWNET) < 0)
		skip();
	assert_true(listen_at(f, AF_INET));
	assert_int_equal(ioctl(f->listener, SIOCSIFFLAGS, &up), 0);
	assert_int_equal(connect_to(INADDR_LOOPBACK, 4711), -1);
	link = netns_steer_localhost(f->listener, &err);
	if (link < 0 && err.kind == ERR_UNSUPPORTED)
		skip();
	assert_true(link >= 0);
	fd = connect_to(INADDR_LOOPBACK, 4711);
	assert_true(fd >= 0);
	got = accept4(f->listener, (struct sockaddr *)&local, &len, SOCK_CLOEXEC);
	len = sizeof(local);
	assert_int_equal(getsockname(got, (struct sockaddr *)&local, &len), 0);
	assert_int_equal(ntohs(local.sin_port), 4711);
	close(fd);
	close(got);
	assert_int_equal(connect_to(INADDR_LOOPBACK + 10, 4711), -1); /* 127.0.0.11 */
	close_fd(&link);
	assert_int_equal(connect_to(INADDR_LOOPBACK, 4711), -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_port_of_127_0_0_1),
		TEST(or_that_of_the_same_number_of_ipv6),
		TEST(nobody_there_is_an_end_without_an_answer),
		TEST(too_many_are_not_taken),
		TEST(localhost_is_steered_to_one_socket_and_nothing_else_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
