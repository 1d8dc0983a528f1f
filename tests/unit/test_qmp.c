/* QEMU's monitor: lines to typed messages, and the client against a QEMU that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "tests/unit/turns.h"
#include "vmm/qmp.h"

#include <string.h>
#include <sys/socket.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"

static struct qmp_msg parse(const char *line)
{
	struct error err = ERROR_INIT;
	struct qmp_msg m;

	if (qmp_parse(line, strlen(line), &m, &err) < 0)
		fail_msg("%s: %s", line, err.msg);
	return m;
}

static void parses_every_kind(void **state)
{
	struct qmp_msg m;

	(void)state;
	assert_int_equal(parse(GREETING).type, QMP_GREETING);
	m = parse("{\"return\": {}, \"id\": 7}");
	assert_int_equal(m.type, QMP_RETURN);
	assert_int_equal(m.id, 7);
	m = parse("{\"return\": {\"status\": \"paused\", \"running\": false}, \"id\": 0}");
	assert_string_equal(m.status, "paused");
	m = parse("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}");
	assert_int_equal(m.type, QMP_ERROR);
	assert_string_equal(m.class_, "GenericError");
	assert_string_equal(m.desc, "no");
	m = parse("{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": "
		  "\"guest-reset\"}}");
	assert_int_equal(m.type, QMP_EVENT);
	assert_string_equal(m.event, "SHUTDOWN");
	assert_string_equal(m.reason, "guest-reset");
	assert_int_equal(m.id, -1);
}

static void refuses_the_rest(void **state)
{
	static const char *const lines[] = {
		"", "[]", "{}", "{\"return\": {}", "{\"id\": 1}", "null", "1", "{\"event\": 1}"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct error err = ERROR_INIT;
		struct qmp_msg m;

		assert_int_equal(qmp_parse(lines[i], strlen(lines[i]), &m, &err), -1);
		assert_true(err.msg[0] != '\0');
	}
}

static void cuts_long_strings(void **state)
{
	char line[400] = "{\"event\":\"";
	struct qmp_msg m;

	(void)state;
	memset(line + 10, 'A', 300);
	strcpy(line + 310, "\"}");
	m = parse(line);
	assert_int_equal(strlen(m.event), sizeof(m.event) - 1);
}

/* ---- the client */

struct fixture {
	struct loop *loop;
	struct qmp *qmp;
	int peer;
	int ready, closed, done, failed;
	char event[64], why[128], error[ERROR_MSG_MAX];
};

static void on_ready(void *arg)
{
	struct fixture *f = arg;

	f->ready++;
	loop_stop(f->loop, 0);
}

static void on_event(void *arg, const struct qmp_msg *m)
{
	struct fixture *f = arg;

	strcpy(f->event, m->event);
	loop_stop(f->loop, 0);
}

static void on_closed(void *arg, const char *why)
{
	struct fixture *f = arg;

	f->closed++;
	snprintf(f->why, sizeof(f->why), "%s", why);
	loop_stop(f->loop, 0);
}

static void on_done(void *arg, const struct qmp_msg *m UNUSED, const struct error *err)
{
	struct fixture *f = arg;

	f->done++;
	if (err) {
		f->failed++;
		snprintf(f->error, sizeof(f->error), "%s", err->msg);
	}
	loop_stop(f->loop, 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct qmp_handler h = {on_ready, on_event, on_closed, f};
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	f->loop = loop_new(NULL);
	f->qmp = qmp_new(f->loop, sv[0], &h, NULL);
	f->peer = sv[1];
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	qmp_free(f->qmp);
	loop_free(f->loop);
	close_fd(&f->peer);
	free(f);
	return 0;
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(send(f->peer, text, strlen(text), 0), strlen(text));
}

static void expect_command(struct fixture *f, const char *text)
{
	char buf[256];
	ssize_t n = recv(f->peer, buf, sizeof(buf) - 1, MSG_DONTWAIT);

	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(buf, text);
}

/* Lets the client work on all that was said; each of its calls ends the loop. */
static void settle(struct fixture *f)
{
	for (unsigned i = 0; i < 8; i++)
		turns_run(f->loop, 8);
}

static void make_ready(struct fixture *f)
{
	say(f, GREETING);
	settle(f);
	expect_command(f, "{\"execute\":\"qmp_capabilities\",\"id\":0}\n");
	assert_int_equal(f->ready, 0);
	say(f, "{\"return\": {}, \"id\": 0}\r\n");
	loop_run(f->loop);
	assert_int_equal(f->ready, 1);
}

static void is_ready_after_capabilities(void **state)
{
	make_ready(*state);
}

static void takes_no_command_before(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	say(f, GREETING);
	settle(f);
	assert_int_equal(qmp_execute(f->qmp, "stop", on_done, f, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_RUNNING);
}

static void matches_answers_by_id(void **state)
{
	struct fixture *f = *state;

	make_ready(f);
	assert_int_equal(qmp_execute(f->qmp, "stop", on_done, f, NULL), 0);
	assert_int_equal(qmp_execute(f->qmp, "cont", on_done, f, NULL), 0);
	expect_command(f, "{\"execute\":\"stop\",\"id\":1}\n{\"execute\":\"cont\",\"id\":2}\n");
	say(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"cannot\"}, \"id\": 2}\n");
	loop_run(f->loop);
	assert_int_equal(f->failed, 1);
	assert_string_equal(f->error, "QEMU: cannot");
	say(f, "{\"return\": {}, \"id\": 9}\n{\"return\": {}, \"id\": 1}\n");
	settle(f);
	assert_int_equal(f->done, 2);
	assert_int_equal(f->failed, 1);
}

static void commands_may_have_arguments(void **state)
{
	struct fixture *f = *state;

	make_ready(f);
	assert_int_equal(qmp_execute_with(f->qmp, "set_link", "\"name\":\"net2\",\"up\":false",
					  on_done, f, NULL),
			 0);
	expect_command(f,
		       "{\"execute\":\"set_link\",\"arguments\":{\"name\":\"net2\",\"up\":false},"
		       "\"id\":1}\n");
}

static void joins_pieces(void **state)
{
	struct fixture *f = *state;
	const char *text = "{\"event\": \"RESET\"}\r\n{\"event\": \"STOP\"}\r\n";

	make_ready(f);
	for (const char *p = text; *p; p++) {
		char one[2] = {*p, '\0'};

		say(f, one);
		settle(f);
	}
	assert_string_equal(f->event, "STOP");
}

static void ends_on_nonsense(void **state)
{
	struct fixture *f = *state;

	make_ready(f);
	assert_int_equal(qmp_execute(f->qmp, "stop", on_done, f, NULL), 0);
	say(f, "hello\n{\"event\": \"STOP\"}\n");
	loop_run(f->loop);
	assert_int_equal(f->closed, 1);
	assert_int_equal(f->failed, 1);
	assert_non_null(strstr(f->why, "QEMU's monitor"));
	assert_string_equal(f->event, "");
	assert_int_equal(qmp_execute(f->qmp, "stop", on_done, f, NULL), -1);
}

static void ends_on_a_long_line(void **state)
{
	struct fixture *f = *state;
	char junk[1024];

	memset(junk, ' ', sizeof(junk));
	for (unsigned i = 0; i <= QMP_LINE_MAX / sizeof(junk) && !f->closed; i++) {
		assert_int_equal(send(f->peer, junk, sizeof(junk), MSG_NOSIGNAL), sizeof(junk));
		settle(f);
	}
	assert_int_equal(f->closed, 1);
	assert_non_null(strstr(f->why, "too long"));
}

static void ends_with_the_connection(void **state)
{
	struct fixture *f = *state;

	make_ready(f);
	assert_int_equal(qmp_execute(f->qmp, "stop", on_done, f, NULL), 0);
	close_fd(&f->peer);
	loop_run(f->loop);
	assert_int_equal(f->closed, 1);
	assert_int_equal(f->failed, 1);
}

static void free_fails_what_waits(void **state)
{
	struct fixture *f = *state;

	make_ready(f);
	for (unsigned i = 0; i < QMP_PENDING_MAX; i++)
		assert_int_equal(qmp_execute(f->qmp, "stop", on_done, f, NULL), 0);
	assert_int_equal(qmp_execute(f->qmp, "stop", on_done, f, NULL), -1);
	qmp_free(f->qmp);
	f->qmp = NULL;
	assert_int_equal(f->failed, QMP_PENDING_MAX);
	assert_int_equal(f->closed, 0);
}

#define CLIENT_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_every_kind),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(cuts_long_strings),
		CLIENT_TEST(is_ready_after_capabilities),
		CLIENT_TEST(takes_no_command_before),
		CLIENT_TEST(matches_answers_by_id),
		CLIENT_TEST(commands_may_have_arguments),
		CLIENT_TEST(joins_pieces),
		CLIENT_TEST(ends_on_nonsense),
		CLIENT_TEST(ends_on_a_long_line),
		CLIENT_TEST(ends_with_the_connection),
		CLIENT_TEST(free_fails_what_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
