/* What of a container's notifications is passed on. */
#include "agent/ready.h"
#include "lib/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_the_ready_line_alone(void **state UNUSED)
{
	static const struct {
		const char *datagram, *line; /* NULL: none */
	} cases[] = {
		{"READY=1", "READY=1"},
		{"READY=1\n", "READY=1"},
		{"STATUS=x\nREADY=1\nMAINPID=1\n", "READY=1"},
		{"READY=\n", "READY="},
		{"READY=1\nREADY=2", "READY=1"},
		{"", NULL},
		{"\n\n", NULL},
		{"READY", NULL},
		{"ALREADY=1", NULL},
		{"STATUS=READY=1", NULL},
		{"READY=\x1b[1m", NULL},
		{"READY=\xc3\xa4", NULL},
		{"READY=1\r\nREADY=0", "READY=0"},
	};
	char line[PROTO_READY_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool found = ready_line(cases[i].datagram, strlen(cases[i].datagram), line);

		assert_int_equal(found, cases[i].line != NULL);
		if (found)
			assert_string_equal(line, cases[i].line);
	}
}

static void test_no_line_of_any_length(void **state UNUSED)
{
	char text[PROTO_READY_MAX + 8], line[PROTO_READY_MAX + 1];

	memset(text, 'x', sizeof(text));
	for (size_t i = 0; i < 6; i++)
		text[i] = "READY="[i];
	assert_true(ready_line(text, PROTO_READY_MAX, line));
	assert_int_equal(strlen(line), PROTO_READY_MAX);
	assert_false(ready_line(text, PROTO_READY_MAX + 1, line));
	assert_false(ready_line("READY=\0", 7, line));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_ready_line_alone),
		cmocka_unit_test(test_no_line_of_any_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
