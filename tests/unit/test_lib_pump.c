/* Bytes between two sockets: ends of files, back-pressure, sockets that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/pump.h"
#include "tests/unit/turns.h"

#define MUCH (4u << 20)

struct fixture {
	struct loop *loop;
	struct pump *pump;
	int a, b; /* our ends */
	int ended;
};

static void on_end(void *arg)
{
	struct fixture *f = arg;

	f->ended++;
	f->pump = NULL;
}

static int set_up(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct error err = ERROR_INIT;
	int a[2], b[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, b), 0);
	f->loop = loop_new(&err);
	assert_non_null(f->loop);
	f->a = a[0];
	f->b = b[0];
	f->pump = pump_new(f->loop, a[1], b[1], on_end, f, &err);
	assert_non_null(f->pump);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	pump_free(f->pump);
	loop_free(f->loop);
	close_fd(&f->a);
	close_fd(&f->b);
	free(f);
	return 0;
}

/* Lets the pump do what it can. */
static void turn(struct fixture *f)
{
	turns_run(f->loop, 64);
}

static void gets(struct fixture *f, int fd, const char *text)
{
	char buf[64] = {0};

	turn(f);
	assert_int_equal(recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT), strlen(text));
	assert_string_equal(buf, text);
}

static void is_open(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void both_ways(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send(f->a, "there", 5, 0), 5);
	gets(f, f->b, "there");
	assert_int_equal(send(f->b, "back", 4, 0), 4);
	gets(f, f->a, "back");
	assert_int_equal(f->ended, 0);
}

static void an_end_of_file_is_handed_on_and_the_other_way_goes_on(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(send(f->a, "last", 4, 0), 4);
	shutdown(f->a, SHUT_WR);
	gets(f, f->b, "last");
	gets(f, f->b, "");
	assert_int_equal(send(f->b, "answer", 6, 0), 6);
	gets(f, f->a, "answer");
	assert_int_equal(f->ended, 0);
	shutdown(f->b, SHUT_WR);
	gets(f, f->a, "");
	assert_int_equal(f->ended, 1);
}

static void what_is_not_taken_stays_with_the_sender(void **state)
{
	static char data[MUCH];
	struct fixture *f = *state;
	size_t sent = 0, got = 0;
	ssize_t n;

	for (int i = 0; i < 8; i++) {
		while ((n = send(f->a, data, sizeof(data) - sent, MSG_DONTWAIT)) > 0)
			sent += (size_t)n;
		turn(f);
	}
	assert_true(sent < MUCH / 2);
	shutdown(f->a, SHUT_WR);
	while (got < sent) {
		turn(f);
		while ((n = recv(f->b, data, sizeof(data), MSG_DONTWAIT)) > 0)
			got += (size_t)n;
	}
	assert_int_equal(got, sent);
	is_open(f->a);
}

/* The sender is gone as a whole; what it had sent is not lost. */
static void one_that_closed_had_its_bytes_delivered(void **state)
{
	static char data[MUCH];
	struct fixture *f = *state;
	size_t sent = 0, got = 0;
	ssize_t n;

	for (int i = 0; i < 4; i++) {
		while ((n = send(f->a, data, sizeof(data), MSG_DONTWAIT)) > 0)
			sent += (size_t)n;
		turn(f);
	}
	close_fd(&f->a);
	for (int i = 0; i < 100 && got < sent; i++) {
		turn(f);
		while ((n = recv(f->b, data, sizeof(data), MSG_DONTWAIT)) > 0)
			got += (size_t)n;
	}
	assert_int_equal(got, sent);
	turn(f);
	assert_int_equal(f->ended, 1);
}

static void nobody_to_send_to_ends_it(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->b);
	assert_int_equal(send(f->a, "x", 1, MSG_NOSIGNAL), 1);
	turn(f);
	turn(f);
	assert_int_equal(f->ended, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(both_ways),
		TEST(an_end_of_file_is_handed_on_and_the_other_way_goes_on),
		TEST(what_is_not_taken_stays_with_the_sender),
		TEST(one_that_closed_had_its_bytes_delivered),
		TEST(nobody_to_send_to_ends_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
