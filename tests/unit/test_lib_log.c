/* The logger's two forms: text for people, runc's JSON lines for engines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

static int log_fd = -1;

static int setup(void **state)
{
	(void)state;
	log_fd = memfd_create("log", MFD_CLOEXEC);
	return log_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	log_setup(STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_INFO, "husk");
	close_fd(&log_fd);
	return 0;
}

static const char *logged(void)
{
	static char text[16384];
	ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void text_lines(void **state)
{
	(void)state;
	log_setup(log_fd, LOG_FMT_TEXT, LOG_LVL_INFO, "husk-vmm");
	log_error("no %s", "disk");
	log_warn("slow");
	log_info("ready");
	log_debug("not shown");
	assert_string_equal(logged(),
			    "husk-vmm: error: no disk\nhusk-vmm: warning: slow\nhusk-vmm: ready\n");
}

static void levels(void **state)
{
	(void)state;
	log_setup(log_fd, LOG_FMT_TEXT, LOG_LVL_DEBUG, "h");
	assert_true(log_enabled(LOG_LVL_DEBUG));
	log_debug("x");
	log_setup(log_fd, LOG_FMT_TEXT, LOG_LVL_ERROR, "h");
	assert_false(log_enabled(LOG_LVL_WARN));
	log_warn("y");
	assert_string_equal(logged(), "h: debug: x\n");
}

/* Engines parse every line; whatever the message holds must not break it. */
static void json_lines(void **state)
{
	cleanup_json yajl_val v = NULL;
	const char *when;

	(void)state;
	log_setup(log_fd, LOG_FMT_JSON, LOG_LVL_INFO, "husk");
	assert_true(log_is_json());
	log_error("open \"%s\": a\\b\nc\td", "/x");
	assert_int_equal(strcspn(logged(), "\n") + 1, strlen(logged()));
	v = json_parse(logged(), strlen(logged()), NULL);
	assert_non_null(v);
	assert_string_equal(json_str(v, "level"), "error");
	assert_string_equal(json_str(v, "msg"), "open \"/x\": a\\b\nc\td");
	when = json_str(v, "time");
	assert_int_equal(strlen(when), strlen("2026-01-02T15:04:05Z"));
	assert_int_equal(when[10], 'T');
}

static void long_json_message_stays_whole(void **state)
{
	static char text[8000];
	cleanup_json yajl_val v = NULL;

	(void)state;
	memset(text, '\1', sizeof(text) - 1); /* each becomes six bytes */
	log_setup(log_fd, LOG_FMT_JSON, LOG_LVL_INFO, "husk");
	log_error("%s", text);
	v = json_parse(logged(), strlen(logged()), NULL);
	assert_non_null(v);
	assert_non_null(json_str(v, "time"));
}

static void long_text_message_is_one_line(void **state)
{
	static char text[8000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	log_setup(log_fd, LOG_FMT_TEXT, LOG_LVL_INFO, "husk");
	log_info("%s", text);
	assert_int_equal(strcspn(logged(), "\n") + 1, strlen(logged()));
}

static void times(void **state)
{
	uint64_t t = now_us(), then, took;
	cleanup_free char *wanted = NULL;

	(void)state;
	log_setup(log_fd, LOG_FMT_TEXT, LOG_LVL_DEBUG, "husk");
	then = log_elapsed("mkfs", t - 1234567);
	assert_true(then >= t);
	took = then - t + 1234567;
	wanted = xasprintf("husk: debug: time: mkfs: %" PRIu64 ".%03" PRIu64 " ms\n", took / 1000,
			   took % 1000);
	assert_string_equal(logged(), wanted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(text_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(levels, setup, teardown),
		cmocka_unit_test_setup_teardown(json_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(long_json_message_stays_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(long_text_message_is_one_line, setup, teardown),
		cmocka_unit_test_setup_teardown(times, setup, teardown),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
