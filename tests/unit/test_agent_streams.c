/* Relays on their own: a loop, pipes, socket pairs for connections. */
#include "agent/streams.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "tests/unit/turns.h"

#define BOUND_US 60000000

struct fixture {
	struct loop *loop;
	struct streams *set;
	struct stream *s;
	int process; /* the process's end of the pipe */
	int conn;    /* the host's end of the connection */
	int over;    /* how often `done` was called */
};

static void on_done(void *arg)
{
	struct fixture *f = arg;

	f->over++;
	loop_stop(f->loop, 1);
}

static void on_bound(void *arg, uint32_t events UNUSED)
{
	loop_stop(arg, 0);
}

/* Runs the loop until a stream is over or `us` have passed; returns 1 or 0. */
static int run_for(struct fixture *f, uint64_t us)
{
	struct loop_source *t = loop_timer(f->loop, us, on_bound, f->loop, NULL);
	int r = loop_run(f->loop);

	if (r)
		loop_remove(t);
	return r;
}

static int run(struct fixture *f, uint64_t us)
{
	return f->over ? 1 : run_for(f, us);
}

/* Lets the relay do what it can do now. */
static void settle(struct fixture *f)
{
	turns_run(f->loop, 64);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	signal(SIGPIPE, SIG_IGN);
	f->loop = loop_new(NULL);
	f->set = streams_new(f->loop);
	f->process = f->conn = -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stream_free(f->s);
	streams_free(f->set);
	loop_free(f->loop);
	close_fd(&f->process);
	close_fd(&f->conn);
	free(f);
	return 0;
}

static void make(struct fixture *f, enum stream_kind kind)
{
	int fds[2];
	bool in = kind == STREAM_IN;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f->process = fds[!in];
	f->s = stream_new(f->set, kind, fds[in], on_done, f, NULL);
	assert_non_null(f->s);
}

static void dial(struct fixture *f)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	set_nonblock(fds[0], true);
	set_nonblock(fds[1], true);
	streams_accept(f->set, fds[0]);
	f->conn = fds[1];
}

static void put(int fd, const void *data, size_t len)
{
	assert_int_equal(write(fd, data, len), len);
}

static void send_token(struct fixture *f)
{
	char token[PROTO_TOKEN_HEX + 1];

	stream_token(f->s, token);
	put(f->conn, token, PROTO_TOKEN_HEX);
}

static void expect(int fd, const char *text)
{
	char buf[256];
	ssize_t n = read(fd, buf, sizeof(buf));

	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, (size_t)n);
}

static void test_a_token_may_come_in_pieces_and_with_data_behind(void **state)
{
	struct fixture *f = *state;
	char token[PROTO_TOKEN_HEX + 1];

	make(f, STREAM_IN);
	dial(f);
	stream_token(f->s, token);
	for (int i = 0; i < PROTO_TOKEN_HEX - 1; i += 8) {
		put(f->conn, token + i, 8);
		settle(f);
	}
	put(f->conn, "data", 4);
	settle(f);
	expect(f->process, "data");
	assert_int_equal(f->over, 0);
}

static void test_a_wrong_token_closes_the_connection(void **state)
{
	struct fixture *f = *state;
	char c;

	make(f, STREAM_IN);
	dial(f);
	put(f->conn, "00000000000000000000000000000000", PROTO_TOKEN_HEX);
	settle(f);
	assert_int_equal(read(f->conn, &c, 1), 0);
	assert_int_equal(f->over, 0);
}

static void test_a_pipe_ends_with_its_last_writer(void **state)
{
	struct fixture *f = *state;

	make(f, STREAM_OUT);
	dial(f);
	send_token(f);
	put(f->process, "abc", 3);
	close_fd(&f->process);
	assert_int_equal(run(f, BOUND_US), 1);
	assert_int_equal(f->over, 1);
	expect(f->conn, "abc");
	expect(f->conn, "");
}

static void test_at_the_end_of_a_process_what_it_wrote_is_sent(void **state)
{
	struct fixture *f = *state;

	make(f, STREAM_OUT);
	put(f->process, "before", 6);
	stream_process_ended(f->s, BOUND_US);
	put(f->process, "after", 5); /* another process has the pipe, too */
	dial(f);
	send_token(f);
	assert_int_equal(run(f, BOUND_US), 1);
	expect(f->conn, "before");
	expect(f->conn, "");
	assert_int_equal(write(f->process, "x", 1), -1);
}

static void test_unfetched_output_is_dropped_after_its_grace(void **state)
{
	struct fixture *f = *state;

	make(f, STREAM_OUT);
	put(f->process, "x", 1);
	stream_process_ended(f->s, 30000);
	assert_int_equal(f->over, 0);
	assert_int_equal(run(f, BOUND_US), 1);
	dial(f);
	send_token(f);
	settle(f);
	expect(f->conn, "");
}

static void test_no_output_needs_no_grace(void **state)
{
	struct fixture *f = *state;

	make(f, STREAM_OUT);
	stream_process_ended(f->s, BOUND_US);
	assert_int_equal(f->over, 1);
}

static void test_a_grace_can_be_ended(void **state)
{
	struct fixture *f = *state;

	make(f, STREAM_OUT);
	put(f->process, "x", 1);
	stream_process_ended(f->s, BOUND_US);
	assert_int_equal(f->over, 0);
	stream_process_ended(f->s, 0);
	assert_int_equal(f->over, 1);
}

static void test_a_limit_ends_output_that_nobody_takes(void **state)
{
	struct fixture *f = *state;
	char block[4096] = {0};

	make(f, STREAM_OUT);
	set_nonblock(f->process, true);
	dial(f);
	send_token(f);
	for (int quiet = 0; quiet < 3;)
		if (write(f->process, block, sizeof(block)) > 0) {
			quiet = 0;
		} else {
			settle(f);
			quiet++;
		}
	stream_process_ended(f->s, BOUND_US);
	assert_int_equal(f->over, 0);
	stream_limit(f->s, 30000);
	stream_limit(f->s, BOUND_US); /* the first one holds */
	assert_int_equal(run(f, BOUND_US), 1);
}

static void test_an_unread_connection_fills_the_pipe(void **state)
{
	struct fixture *f = *state;
	char block[4096] = {0};
	size_t total = 0, got = 0;
	ssize_t n;

	make(f, STREAM_OUT);
	set_nonblock(f->process, true);
	dial(f);
	send_token(f);
	for (int quiet = 0; quiet < 3;) {
		n = write(f->process, block, sizeof(block));
		total += n > 0 ? (size_t)n : 0;
		quiet = n > 0 ? 0 : quiet + 1;
		if (n < 0)
			settle(f);
	}
	assert_true(total < 4u << 20);
	stream_process_ended(f->s, 0); /* and nothing of it is lost */
	while (!f->over || got < total) {
		n = read(f->conn, block, sizeof(block));
		if (n > 0)
			got += (size_t)n;
		else if (f->over)
			break;
		else
			settle(f);
	}
	assert_int_equal(got, total);
}

static void test_stdin_closes_when_the_process_has_closed_it(void **state)
{
	struct fixture *f = *state;

	make(f, STREAM_IN);
	dial(f);
	send_token(f);
	settle(f);
	close_fd(&f->process);
	assert_int_equal(run(f, BOUND_US), 1);
	expect(f->conn, "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_token_may_come_in_pieces_and_with_data_behind),
		TEST(test_a_wrong_token_closes_the_connection),
		TEST(test_a_pipe_ends_with_its_last_writer),
		TEST(test_at_the_end_of_a_process_what_it_wrote_is_sent),
		TEST(test_unfetched_output_is_dropped_after_its_grace),
		TEST(test_no_output_needs_no_grace),
		TEST(test_a_grace_can_be_ended),
		TEST(test_a_limit_ends_output_that_nobody_takes),
		TEST(test_an_unread_connection_fills_the_pipe),
		TEST(test_stdin_closes_when_the_process_has_closed_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
