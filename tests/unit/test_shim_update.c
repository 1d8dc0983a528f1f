/* New limits: from flags and from what callers send, with config.json. Durations and sizes. */
#include "lib/cleanup.h"
#include "shim/quantity.h"
#include "shim/update.h"
#include "tests/unit/oci_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t us;
	} good[] = {
		{"5s", 5000000},  {"300ms", 300000}, {"1.5h", 5400000000}, {"2h45m", 9900000000},
		{"1us", 1},	  {"1\u00b5s", 1},   {"1500ns", 1},	   {"0", 0},
		{"+.5s", 500000}, {"1m", 60000000},  {"1m1ms", 60001000},  {"1.s", 1000000}};
	static const char *const bad[] = {
		"", "5", "s", "-1s", "5 s", "1.2.3s", "5sec", ".s", "9999999999999h", "+", "1e3s"};
	uint64_t us;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (!quantity_duration(good[i].text, &us))
			fail_msg("refused: %s", good[i].text);
		assert_int_equal(us, good[i].us);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (quantity_duration(bad[i], &us))
			fail_msg("accepted: %s", bad[i]);
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} good[] = {{"0", 0},	       {"1024", 1024},	  {"1k", 1024},	       {"1K", 1024},
		    {"1kb", 1024},     {"1KiB", 1024},	  {"512m", 512 << 20}, {"1.5g", 1610612736},
		    {"2 MB", 2 << 20}, {"1t", 1ll << 40}, {"10b", 10}};
	static const char *const bad[] = {"", "-1", "k", "1x", "1kk", "1 k k", "1.2.3", "9999999p"};
	int64_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (!quantity_bytes(good[i].text, &bytes))
			fail_msg("refused: %s", good[i].text);
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (quantity_bytes(bad[i], &bytes))
			fail_msg("accepted: %s", bad[i]);
	assert_true(quantity_integer("-5", -10, 10, &bytes) && bytes == -5);
	assert_false(quantity_integer("-5", 0, 10, &bytes));
	assert_false(quantity_integer("11", 0, 10, &bytes));
	assert_false(quantity_integer("", 0, 10, &bytes));
	assert_false(quantity_integer("99999999999999999999", 0, INT64_MAX, &bytes));
}

static void flags(void **state)
{
	struct update_flags f = {.memory = "64m",
				 .memory_swap = "-1",
				 .cpu_quota = "-1",
				 .cpuset_cpus = "0-1",
				 .pids_limit = "20",
				 .blkio_weight = "",
				 .cpu_idle = "1"};
	cleanup_free char *text = NULL, *wanted = quoted("{'memory':{'limit':67108864,'swap':-1},"
							 "'cpu':{'quota':-1,'idle':1,'cpus':'0-1'},"
							 "'pids':{'limit':20},'blockIO':{}}");
	static const struct {
		struct update_flags f;
		const char *message;
	} bad[] = {
		{{.memory = "much"}, "--memory: \"much\": must be a size"},
		{{.memory = "-2"}, "--memory: \"-2\": must be a size"},
		{{.cpu_period = "-1"}, "--cpu-period: \"-1\": must be a number from 0"},
		{{.cpu_quota = "x"}, "--cpu-quota: \"x\": must be a number from -1"},
		{{.cpu_idle = "2"}, "--cpu-idle: \"2\": must be a number from 0 to 1"},
		{{.blkio_weight = "70000"}, "--blkio-weight: "},
		{{.pids_limit = "1.5"}, "--pids-limit: "},
	};

	(void)state;
	assert_int_equal(update_from_flags(&f, &text, NULL), 0);
	assert_string_equal(text, wanted);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct error err = ERROR_INIT;
		char *none = NULL;

		assert_int_equal(update_from_flags(&bad[i].f, &none, &err), -1);
		assert_int_equal(err.kind, ERR_USAGE);
		if (!strstr(err.msg, bad[i].message))
			fail_msg("%s", err.msg);
	}
}

static void expect_complete(const char *given, const char *resources, const char *wanted)
{
	cleanup_free char *g = quoted(given), *w = quoted(wanted), *text = NULL;
	cleanup_free char *single = xasprintf("{'linux':{'resources':%s}}", resources);
	cleanup_free char *config = quoted(single);
	struct error err = ERROR_INIT;

	if (update_complete(g, config, &text, &err) < 0)
		fail_msg("%s: %s", given, err.msg);
	assert_string_equal(text, w);
}

/* What runc's callers send: everything, and zero where nothing is to change. */
static void zeros_are_no_wish(void **state)
{
	(void)state;
	expect_complete("{'memory':{'limit':0,'swap':0,'reservation':null},'cpu':{'shares':0,"
			"'quota':0,'cpus':''},'pids':{'limit':0},'blockIO':{'weight':0},"
			"'unified':{},'hugepageLimits':[]}",
			"{}", "{}");
	expect_complete("{'cpu':{'burst':0,'idle':0,'shares':0}}", "{}",
			"{'cpu':{'burst':0,'idle':0}}");
	expect_complete("{}", "{}", "{}");
}

static void what_goes_together_is_complete(void **state)
{
	(void)state;
	expect_complete("{'cpu':{'quota':5000}}", "{'cpu':{'period':20000,'quota':10000}}",
			"{'cpu':{'quota':5000,'period':20000}}");
	expect_complete("{'cpu':{'period':5000}}", "{'cpu':{'period':20000,'quota':10000}}",
			"{'cpu':{'period':5000,'quota':10000}}");
	expect_complete("{'cpu':{'quota':5000}}", "{}", "{'cpu':{'quota':5000}}");
	expect_complete("{'cpu':{'shares':5}}", "{'cpu':{'period':20000}}", "{'cpu':{'shares':5}}");
	expect_complete("{'memory':{'swap':5000}}", "{'memory':{'limit':4000}}",
			"{'memory':{'swap':5000,'limit':4000}}");
	expect_complete("{'memory':{'limit':-1}}", "{'memory':{'swap':4000}}",
			"{'memory':{'limit':-1,'swap':-1}}");
	expect_complete("{'memory':{'limit':-1,'swap':0}}", "{}",
			"{'memory':{'limit':-1,'swap':-1}}");
}

static void device_rules_stay_as_they_are(void **state)
{
	cleanup_free char *config = quoted("{'linux':{'resources':{'devices':[{'allow':false}]}}}");
	struct error err = ERROR_INIT;
	char *text = NULL;

	(void)state;
	expect_complete("{'devices':[{'allow':false}],'pids':{'limit':3}}",
			"{'devices':[{'allow':false}]}", "{'pids':{'limit':3}}");
	assert_int_equal(update_complete("{\"devices\":[{\"allow\":true}]}", config, &text, &err),
			 -1);
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	assert_string_equal(err.msg, "linux.resources.devices: device rules cannot be changed");
	assert_int_equal(update_complete("[]", config, &text, &err), -1);
	assert_string_equal(err.msg, "linux.resources: must be an object");
	assert_int_equal(update_complete("{", config, &text, &err), -1);
}

static void config_has_what_changed(void **state)
{
	cleanup_free char *config =
		quoted("{'a':[1,2],'linux':{'resources':{'cpu':{'shares':5,'quota':7}},'x':true}}");
	cleanup_free char *over = quoted("{'cpu':{'quota':9},'pids':{'limit':3}}");
	cleanup_free char *wanted =
		quoted("{'a':[1,2],'linux':{'resources':{'cpu':{'shares':5,'quota':9},'pids':"
		       "{'limit':3}},'x':true}}");
	cleanup_free char *text = NULL, *added = NULL;
	cleanup_free char *fresh = quoted("{'linux':{'resources':{'pids':{'limit':3}}}}");

	(void)state;
	assert_int_equal(update_config(config, over, &text, NULL), 0);
	assert_string_equal(text, wanted);
	assert_int_equal(update_config("{}", "{\"pids\":{\"limit\":3}}", &added, NULL), 0);
	assert_string_equal(added, fresh);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations),
		cmocka_unit_test(sizes),
		cmocka_unit_test(flags),
		cmocka_unit_test(zeros_are_no_wish),
		cmocka_unit_test(what_goes_together_is_complete),
		cmocka_unit_test(device_rules_stay_as_they_are),
		cmocka_unit_test(config_has_what_changed),
	};

	return cmocka_run_group_tests_name("update", tests, NULL, NULL);
}
