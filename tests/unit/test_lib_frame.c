/* Framed messages over a socket pair: in pieces, with descriptors, and broken ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/log.h"

struct pair {
	int a, b;
};

static int setup(void **state)
{
	struct pair *p = xcalloc(1, sizeof(*p));
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -1;
	*p = (struct pair){fds[0], fds[1]};
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	close_fd(&p->a);
	close_fd(&p->b);
	free(p);
	return 0;
}

static uint64_t soon(void)
{
	return now_us() + 60000000;
}

static void message_arrives(void **state)
{
	const struct pair *p = *state;
	cleanup_free char *text = NULL, *empty = NULL;
	size_t len = 99;

	assert_int_equal(frame_send(p->a, "{\"a\":1}", 7, NULL, 0, NULL), 0);
	assert_int_equal(frame_send(p->a, "", 0, NULL, 0, NULL), 0);
	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, -1, soon(), NULL), 1);
	assert_string_equal(text, "{\"a\":1}");
	assert_int_equal(len, 7);
	assert_int_equal(frame_recv(p->b, &empty, &len, NULL, NULL, -1, soon(), NULL), 1);
	assert_string_equal(empty, "");
	assert_int_equal(len, 0);
}

static void ends(void **state)
{
	struct pair *p = *state;
	struct error err = ERROR_INIT;
	char *text = NULL;
	size_t len;

	close_fd(&p->a);
	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, -1, soon(), &err), 0);
	assert_string_equal(err.msg, "");
}

static void ends_inside_a_message(void **state)
{
	struct pair *p = *state;
	struct error err = ERROR_INIT;
	char *text = NULL;
	size_t len;

	assert_int_equal(write_all(p->a, "\0\0\0\5ab", 6, NULL), 0);
	close_fd(&p->a);
	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, -1, soon(), &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
	assert_non_null(strstr(err.msg, "inside a message"));
}

static void too_long_is_refused_before_it_comes(void **state)
{
	const struct pair *p = *state;
	struct error err = ERROR_INIT;
	char *text = NULL;
	size_t len;

	/* FRAME_MAX + 1 */
	assert_int_equal(write_all(p->a, "\0\x40\0\1", 4, NULL), 0);
	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, -1, soon(), &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
	assert_int_equal(frame_send(p->a, "x", (size_t)FRAME_MAX + 1, NULL, 0, &err), -1);
}

static void deadline_and_interruption(void **state)
{
	const struct pair *p = *state;
	struct error err = ERROR_INIT;
	cleanup_close int intr = eventfd(1, EFD_CLOEXEC);
	char *text = NULL;
	size_t len;

	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, -1, now_us() + 1000, &err), -1);
	assert_int_equal(err.kind, ERR_TIMEOUT);
	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, intr, 0, &err), -1);
	assert_int_equal(err.kind, ERR_INTERRUPTED);
}

struct sending {
	int sock;
	char *text;
	size_t len;
};

static void *send_thread(void *arg)
{
	const struct sending *s = arg;

	return frame_send(s->sock, s->text, s->len, NULL, 0, NULL) == 0 ? arg : NULL;
}

/* Larger than any socket buffer: the sender waits for room, on a non-blocking socket too. */
static void largest_message(void **state)
{
	const struct pair *p = *state;
	struct sending s = {p->a, xcalloc(1, FRAME_MAX), FRAME_MAX};
	cleanup_free char *sent = s.text, *text = NULL;
	void *ok = NULL;
	pthread_t t;
	size_t len = 0;

	memset(sent, 'x', FRAME_MAX);
	sent[FRAME_MAX - 1] = 'y';
	set_nonblock(p->a, true);
	assert_int_equal(pthread_create(&t, NULL, send_thread, &s), 0);
	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, -1, soon(), NULL), 1);
	pthread_join(t, &ok);
	assert_non_null(ok);
	assert_int_equal(len, FRAME_MAX);
	assert_memory_equal(text, sent, FRAME_MAX);
	assert_int_equal(text[FRAME_MAX], 0);
}

/* A peer that never reads holds nobody for ever. */
static void sending_has_a_deadline(void **state)
{
	const struct pair *p = *state;
	cleanup_free char *text = xcalloc(1, FRAME_MAX);
	cleanup_close int intr = eventfd(1, EFD_CLOEXEC);
	struct error err = ERROR_INIT;

	memset(text, 'x', FRAME_MAX);
	assert_int_equal(
		frame_send_until(p->a, text, FRAME_MAX, NULL, 0, -1, now_us() + 1000, &err), -1);
	assert_int_equal(err.kind, ERR_TIMEOUT);
	assert_int_equal(frame_send_until(p->a, text, FRAME_MAX, NULL, 0, intr, soon(), &err), -1);
	assert_int_equal(err.kind, ERR_INTERRUPTED);
}

static int same_file(int a, int b)
{
	uint64_t v = 5, got = 0;

	return write(a, &v, sizeof(v)) == sizeof(v) && read(b, &got, sizeof(got)) == sizeof(got) &&
	       got == 5;
}

static void descriptors_ride_along(void **state)
{
	const struct pair *p = *state;
	cleanup_close int e1 = eventfd(0, EFD_CLOEXEC), e2 = eventfd(0, EFD_CLOEXEC);
	cleanup_free char *text = NULL;
	int fds[FRAME_FDS_MAX] = {-1, -1, -1, -1};
	unsigned n = FRAME_FDS_MAX;
	size_t len;

	assert_int_equal(frame_send(p->a, "two", 3, (int[]){e1, e2}, 2, NULL), 0);
	assert_int_equal(frame_recv(p->b, &text, &len, fds, &n, -1, soon(), NULL), 1);
	assert_int_equal(n, 2);
	assert_true(same_file(e1, fds[0]) && same_file(e2, fds[1]));
	assert_true(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
	close(fds[0]);
	close(fds[1]);
}

static int open_fds(void)
{
	cleanup_dir DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	return n;
}

/* Nothing leaks when a peer sends descriptors that nobody wants. */
static void surplus_descriptors_are_closed(void **state)
{
	const struct pair *p = *state;
	int before = open_fds();
	char *text = NULL;
	unsigned n = 1;
	size_t len;
	int fd = -1;

	frame_send(p->a, "a", 1, (int[]){0, 0, 0, 0}, 4, NULL);
	assert_int_equal(frame_recv(p->b, &text, &len, &fd, &n, -1, soon(), NULL), 1);
	assert_int_equal(n, 1);
	free(text);
	close(fd);
	frame_send(p->a, "b", 1, (int[]){0, 0}, 2, NULL);
	assert_int_equal(frame_recv(p->b, &text, &len, NULL, NULL, -1, soon(), NULL), 1);
	free(text);
	assert_int_equal(open_fds(), before);
}

/* ---- for event loops */

static void byte_by_byte(void **state)
{
	static const char wire[] = "\0\0\0\3abc\0\0\0\2de";
	const struct pair *p = *state;
	struct frame_buf b = {0};
	char got[16] = "";
	char *text;
	size_t len;

	set_nonblock(p->b, true);
	assert_int_equal(frame_buf_fill(&b, p->b, NULL), 0);
	for (size_t i = 0; i < sizeof(wire) - 1; i++) {
		assert_int_equal(write_all(p->a, wire + i, 1, NULL), 0);
		assert_int_equal(frame_buf_fill(&b, p->b, NULL), 1);
		if (frame_buf_next(&b, &text, &len, NULL) > 0) {
			strcat(got, text);
			strcat(got, "|");
			frame_buf_done(&b);
		}
	}
	assert_string_equal(got, "abc|de|");
	frame_buf_free(&b);
}

/* Several messages at once come out one by one, each with its own descriptors. */
static void one_at_a_time(void **state)
{
	const struct pair *p = *state;
	struct frame_buf b = {0};
	char *text;
	size_t len;
	int fd;

	frame_send(p->a, "first", 5, NULL, 0, NULL);
	frame_send(p->a, "second", 6, (int[]){0}, 1, NULL);
	assert_int_equal(frame_buf_fill(&b, p->b, NULL), 1);
	assert_int_equal(frame_buf_next(&b, &text, &len, NULL), 1);
	assert_string_equal(text, "first");
	assert_int_equal(frame_buf_take_fd(&b), -1);
	frame_buf_done(&b);
	assert_int_equal(frame_buf_fill(&b, p->b, NULL), 1);
	assert_int_equal(frame_buf_next(&b, &text, &len, NULL), 1);
	assert_string_equal(text, "second");
	fd = frame_buf_take_fd(&b);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(frame_buf_take_fd(&b), -1);
	frame_buf_done(&b);
	frame_buf_free(&b);
}

static void end_is_an_error_for_a_loop(void **state)
{
	struct pair *p = *state;
	struct error err = ERROR_INIT;
	struct frame_buf b = {0};

	close_fd(&p->a);
	assert_int_equal(frame_buf_fill(&b, p->b, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
	assert_int_equal(err.errnum, 0);
	frame_buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(message_arrives, setup, teardown),
		cmocka_unit_test_setup_teardown(ends, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_inside_a_message, setup, teardown),
		cmocka_unit_test_setup_teardown(too_long_is_refused_before_it_comes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(deadline_and_interruption, setup, teardown),
		cmocka_unit_test_setup_teardown(largest_message, setup, teardown),
		cmocka_unit_test_setup_teardown(sending_has_a_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(descriptors_ride_along, setup, teardown),
		cmocka_unit_test_setup_teardown(surplus_descriptors_are_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(byte_by_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(one_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(end_is_an_error_for_a_loop, setup, teardown),
	};

	return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
