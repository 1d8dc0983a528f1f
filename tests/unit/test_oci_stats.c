/* The figures of a container as JSON, and back. */
#include "lib/cleanup.h"
#include "oci/stats.h"
#include "tests/unit/oci_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static char *text_of(const struct stats *s)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	assert_int_equal(jsonw_init(&w, false, NULL), 0);
	stats_write(s, &w);
	text = jsonw_finish(&w, NULL, NULL);
	assert_non_null(text);
	return xstrdup(text);
}

static int read_text(const char *text, struct stats *s, struct error *err)
{
	cleanup_free char *q = quoted(text);
	cleanup_json yajl_val v = json_parse(q, strlen(q), err);

	assert_non_null(v);
	return stats_read(v, s, err);
}

/* Every number another one. */
static struct stats *full(void)
{
	struct stats *s = xcalloc(1, sizeof(*s));

	*s = (struct stats){.cpu_ns = 1,
			    .cpu_kernel_ns = 2,
			    .cpu_user_ns = 3,
			    .periods = 4,
			    .throttled_periods = 5,
			    .throttled_ns = 6,
			    .cpu_psi = {true, {7, 1234, 10000, 8}, {9, 10, 11, 12}},
			    .memory_psi = {true, {0}, {0}},
			    .cpus = {0, 1, 65535},
			    .n_cpus = 3,
			    .mems = {0},
			    .n_mems = 1,
			    .cache = 13,
			    .memory = {STATS_NONE, 14, 15, 16},
			    .swap = {17, 18, 19, 20},
			    .kernel = {STATS_NONE, 21, 22, 23},
			    .raw = {{"anon", 24}, {"file", UINT64_MAX - 1}},
			    .n_raw = 2,
			    .pids = 25,
			    .pids_limit = 26,
			    .disks = {{254, 0, 27, 28, 29, 30}, {254, 16, 31, 32, 33, 34}},
			    .n_disks = 2,
			    .hugetlb = {{"2MB", 35, 36, 37}},
			    .n_hugetlb = 1,
			    .interfaces = {{"eth0", 38, 39, 40, 41, 42, 43, 44, 45}},
			    .n_interfaces = 1};
	return s;
}

static void what_is_written_is_read(void **state)
{
	cleanup_free struct stats *s = full(), *back = xcalloc(1, sizeof(*back));
	cleanup_free char *text = text_of(s), *again = NULL;
	cleanup_json yajl_val v = json_parse(text, strlen(text), NULL);
	struct error err = ERROR_INIT;

	(void)state;
	if (stats_read(v, back, &err) < 0)
		fail_msg("%s", err.msg);
	assert_memory_equal(s, back, sizeof(*s));
	again = text_of(back);
	assert_string_equal(text, again);
}

/* Nothing is known: what is left is what runc writes then. */
static void empty_ones_look_as_runcs(void **state)
{
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s));
	cleanup_free char *text = text_of(s);
	cleanup_free char *wanted = quoted(
		"{'cpu':{'usage':{'kernel':0,'user':0},'throttling':{}},'cpuset':{'cpu_exclusive':"
		"0,"
		"'mem_hardwall':0,'mem_exclusive':0,'memory_migrate':0,'memory_spread_page':0,"
		"'memory_spread_slab':0,'memory_pressure':0,'sched_load_balance':0,"
		"'sched_relax_domain_level':0},'memory':{'usage':{'limit':0,'failcnt':0},"
		"'swap':{'limit':0,'failcnt':0},'kernel':{'limit':0,'failcnt':0},"
		"'kernelTCP':{'limit':0,'failcnt':0}},'pids':{},'blkio':{},'hugetlb':{},"
		"'intel_rdt':{},'network_interfaces':null}");

	(void)state;
	assert_string_equal(text, wanted);
}

static void what_a_guest_must_not_send(void **state)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"1", "stats"},
		{"{'cpu':1}", "stats.cpu"},
		{"{'cpu':{'usage':{'total':-1}}}", "stats.cpu.usage.total"},
		{"{'cpu':{'usage':{'total':1.5}}}", "stats.cpu.usage.total"},
		{"{'cpu':{'usage':{'total':18446744073709551616}}}", "stats.cpu.usage.total"},
		{"{'cpu':{'psi':{'some':{'avg10':101}}}}", "avg10"},
		{"{'cpu':{'psi':{'some':{'avg10':'1'}}}}", "avg10"},
		{"{'cpuset':{'cpus':[65536]}}", "stats.cpuset.cpus[0]"},
		{"{'cpuset':{'cpus':{}}}", "stats.cpuset.cpus"},
		{"{'memory':{'raw':{'a b':1}}}", "raw"},
		{"{'memory':{'raw':{'':1}}}", "raw"},
		{"{'memory':{'raw':{'a':1,'a':2}}}", "a"},
		{"{'hugetlb':{'../x':{}}}", "hugetlb"},
		{"{'hugetlb':{'2MB':1}}", "hugetlb"},
		{"{'blkio':{'ioServicedRecursive':[1]}}", "ioServicedRecursive[0]"},
		{"{'network_interfaces':[{'Name':'a b'}]}", "Name"},
		{"{'network_interfaces':[{'Name':'0123456789012345'}]}", "Name"},
		{"{'network_interfaces':[{}]}", "Name"},
		{"{'network_interfaces':[{'Name':'e','RxBytes':'1'}]}", "RxBytes"},
	};
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s));

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct error err = ERROR_INIT;

		if (read_text(cases[i].text, s, &err) == 0)
			fail_msg("accepted: %s", cases[i].text);
		assert_int_equal(err.kind, ERR_INVALID);
		if (!strstr(err.msg, cases[i].message))
			fail_msg("%s: %s", cases[i].text, err.msg);
	}
}

static void lists_are_bounded(void **state)
{
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s));
	cleanup_free char *text = xcalloc(1, 1 << 20);
	struct error err = ERROR_INIT;
	size_t n = 0;

	(void)state;
	n += (size_t)sprintf(text, "{'blkio':{'ioServiceBytesRecursive':[{'major':1}");
	for (int i = 0; i < STATS_LIST_MAX; i++)
		n += (size_t)sprintf(text + n, ",{'minor':%d}", i);
	sprintf(text + n, "]}}");
	assert_int_equal(read_text(text, s, &err), -1);
	assert_non_null(strstr(err.msg, "too many disks"));
	n = (size_t)sprintf(text, "{'memory':{'raw':{'a':1");
	for (int i = 0; i < STATS_KEYS_MAX; i++)
		n += (size_t)sprintf(text + n, ",'k%d':1", i);
	sprintf(text + n, "}}}");
	assert_int_equal(read_text(text, s, &err), -1);
	assert_non_null(strstr(err.msg, "more than 256 members"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(empty_ones_look_as_runcs),
		cmocka_unit_test(what_a_guest_must_not_send),
		cmocka_unit_test(lists_are_bounded),
	};

	return cmocka_run_group_tests_name("oci stats", tests, NULL, NULL);
}
