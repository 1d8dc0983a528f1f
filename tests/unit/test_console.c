/* The ring of console bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/console.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(struct console *c, const char *s)
{
	console_put(c, s, strlen(s));
}

static void starts_empty(void **state)
{
	struct console c;
	char buf[16];

	(void)state;
	console_init(&c, 8);
	assert_string_equal(console_text(&c), "");
	console_last_lines(&c, 2, buf, sizeof(buf));
	assert_string_equal(buf, "");
	console_free(&c);
}

static void keeps_the_last_bytes(void **state)
{
	struct console c;

	(void)state;
	console_init(&c, 8);
	put(&c, "abc");
	assert_string_equal(console_text(&c), "abc");
	put(&c, "defgh");
	assert_string_equal(console_text(&c), "abcdefgh");
	put(&c, "ij");
	assert_string_equal(console_text(&c), "cdefghij");
	put(&c, "0123456789ABCDEF");
	assert_string_equal(console_text(&c), "89ABCDEF");
	put(&c, "");
	assert_string_equal(console_text(&c), "89ABCDEF");
	console_free(&c);
	assert_string_equal(console_text(&c), "");
	console_free(&c);
}

static void holds_what_a_plain_buffer_would(void **state)
{
	struct console c;
	char all[4096];
	size_t n = 0;
	unsigned seed = 1;

	(void)state;
	console_init(&c, 100);
	while (n < sizeof(all) - 300) {
		size_t len;

		seed = seed * 1103515245 + 12345;
		len = seed >> 16 & 0xff;
		for (size_t i = 0; i < len; i++)
			all[n + i] = (char)('a' + (n + i) % 26);
		console_put(&c, all + n, len);
		n += len;
		all[n] = '\0';
		assert_string_equal(console_text(&c), all + (n > 100 ? n - 100 : 0));
	}
	console_free(&c);
}

static void cleans_control_characters(void **state)
{
	struct console c;

	(void)state;
	console_init(&c, 64);
	console_put(&c, "a\r\n\tb\0\033[1m", 10);
	assert_string_equal(console_text(&c), "a\n\tb??[1m");
	console_free(&c);
}

static void gives_last_lines(void **state)
{
	struct console c;
	char buf[64], small[6];

	(void)state;
	console_init(&c, 64);
	put(&c, "one\ntwo\r\n\nthree\n");
	console_last_lines(&c, 2, buf, sizeof(buf));
	assert_string_equal(buf, "two; three");
	console_last_lines(&c, 1, buf, sizeof(buf));
	assert_string_equal(buf, "three");
	console_last_lines(&c, 9, buf, sizeof(buf));
	assert_string_equal(buf, "one; two; three");
	console_last_lines(&c, 9, small, sizeof(small));
	assert_string_equal(small, "one; ");
	put(&c, "rest");
	console_last_lines(&c, 1, buf, sizeof(buf));
	assert_string_equal(buf, "rest");
	console_free(&c);
}

static void keeps_all_in_a_file_up_to_its_bound(void **state)
{
	struct console c;
	int fd = memfd_create("log", 0);
	static const char line[] = "0123456789 and so on, to a line of fifty bytes....\n";
	char text[128] = "";
	struct stat st;

	(void)state;
	console_init(&c, 16);
	console_log_to(&c, fd);
	put(&c, "first\r\n\x1b[31mred");
	assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), 6); /* line by line */
	put(&c, "\x7f!\nlast words");
	for (size_t i = 0; i < CONSOLE_LOG_MAX / strlen(line) + 100; i++)
		put(&c, line);
	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	assert_memory_equal(text, "first\n?[31mred?!\nlast words0123", 30);
	assert_int_equal(fstat(fd, &st), 0);
	assert_in_range(st.st_size, CONSOLE_LOG_MAX - 100, CONSOLE_LOG_MAX + 30);
	assert_int_equal(pread(fd, text, 21, st.st_size - 21), 21);
	assert_memory_equal(text, "\n(this file is full)\n", 21);
	console_free(&c);
	close(fd);

	/* What has no end of line comes with the console's end. */
	fd = memfd_create("log", 0);
	console_init(&c, 16);
	console_log_to(&c, fd);
	put(&c, "no newline");
	console_free(&c);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 10);
	close(fd);
}

static void finds_a_panic(void **state)
{
	struct console c;
	char buf[16];

	(void)state;
	console_init(&c, 256);
	assert_false(console_panic(&c, buf, sizeof(buf)));
	put(&c, "[ 1.0] Kernel panic - not synced\n");
	assert_false(console_panic(&c, buf, sizeof(buf)));
	put(&c, "[ 1.0] Kernel panic - not syncing: why\r\n[ 1.0] CPU: 0\n");
	assert_true(console_panic(&c, buf, sizeof(buf)));
	assert_string_equal(buf, "why");
	put(&c, "Kernel panic - not syncing: ");
	assert_true(console_panic(&c, buf, sizeof(buf)));
	console_free(&c);
}

static void finds_the_agents_last_words(void **state)
{
	struct console c;
	char buf[16];

	(void)state;
	console_init(&c, 256);
	put(&c, "husk-agent: error: of a container\n");
	assert_false(console_agent(&c, buf, sizeof(buf)));
	put(&c, "[ 1.0] husk-agent: fatal: why\r\n[ 1.0] reboot: Restarting\n");
	assert_true(console_agent(&c, buf, sizeof(buf)));
	assert_string_equal(buf, "why");
	console_free(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_empty),
		cmocka_unit_test(keeps_the_last_bytes),
		cmocka_unit_test(holds_what_a_plain_buffer_would),
		cmocka_unit_test(cleans_control_characters),
		cmocka_unit_test(gives_last_lines),
		cmocka_unit_test(keeps_all_in_a_file_up_to_its_bound),
		cmocka_unit_test(finds_a_panic),
		cmocka_unit_test(finds_the_agents_last_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
