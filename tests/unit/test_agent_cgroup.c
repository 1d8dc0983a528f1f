/* linux.resources as settings of cgroup v2. */
#include "agent/cgroup.h"
#include "lib/cleanup.h"
#include "oci/weights.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void plan_of(const char *json, struct cgroup_plan *plan)
{
	cleanup_oci_resources struct oci_resources *r = NULL;
	struct error err = ERROR_INIT;

	if (oci_resources_parse(json, strlen(json), &r, &err) < 0 ||
	    cgroup_plan_build(r, plan, &err) < 0)
		fail_msg("%s", err.msg);
}

static const char *value(const struct cgroup_plan *plan, const char *file)
{
	const char *v = NULL;

	for (size_t i = 0; i < plan->n; i++)
		if (strcmp(plan->v[i].file, file) == 0)
			v = plan->v[i].value;
	return v ? v : "(none)";
}

static void expect(const char *json, const char *file, const char *want)
{
	cleanup_plan struct cgroup_plan plan = {0};

	plan_of(json, &plan);
	if (strcmp(value(&plan, file), want) != 0)
		fail_msg("%s: %s is %s, not %s", json, file, value(&plan, file), want);
}

static void expect_refusal(const char *json, const char *words)
{
	cleanup_oci_resources struct oci_resources *r = NULL;
	cleanup_plan struct cgroup_plan plan = {0};
	struct error err = ERROR_INIT;

	assert_int_equal(oci_resources_parse(json, strlen(json), &r, &err), 0);
	assert_int_equal(cgroup_plan_build(r, &plan, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" instead of \"%s\"", err.msg, words);
}

/* What runc's own curve gives. */
static void test_cpu_weight(void **state UNUSED)
{
	static const struct {
		uint64_t shares;
		unsigned weight;
	} v[] = {{0, 1},	{2, 1},		 {3, 2},	  {10, 4},
		 {100, 17},	{128, 21},	 {256, 35},	  {512, 59},
		 {1023, 100},	{1024, 100},	 {2048, 174},	  {8192, 532},
		 {65536, 3023}, {262143, 10000}, {262144, 10000}, {1u << 30, 10000}};

	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		assert_int_equal(oci_cpu_weight(v[i].shares), v[i].weight);
	for (uint64_t s = 2; s < 262144; s += 7)
		assert_true(oci_cpu_weight(s) <= oci_cpu_weight(s + 7));
}

static void test_io_weight(void **state UNUSED)
{
	assert_int_equal(oci_io_weight(10), 1);
	assert_int_equal(oci_io_weight(500), 4950);
	assert_int_equal(oci_io_weight(1000), 10000);
	expect("{\"blockIO\":{\"weight\":500}}", "io.weight", "4950");
}

static void test_cpu(void **state UNUSED)
{
	expect("{\"cpu\":{\"shares\":1024}}", "cpu.weight", "100");
	expect("{\"cpu\":{\"shares\":0}}", "cpu.weight", "(none)");
	expect("{\"cpu\":{\"quota\":50000}}", "cpu.max", "50000 100000");
	expect("{\"cpu\":{\"quota\":50000,\"period\":20000}}", "cpu.max", "50000 20000");
	expect("{\"cpu\":{\"quota\":-1}}", "cpu.max", "max 100000");
	expect("{\"cpu\":{\"period\":20000}}", "cpu.max", "max 20000");
	/* numbers of the host */
	expect("{\"cpu\":{\"cpus\":\"0-1,3\",\"mems\":\"0\"}}", "cpuset.cpus", "(none)");
	expect("{\"cpu\":{\"cpus\":\"0-1,3\",\"mems\":\"0\"}}", "cpuset.mems", "(none)");
	expect("{\"unified\":{\"cpuset.cpus\":\"3\"}}", "cpuset.cpus", "(none)");
	expect("{\"cpu\":{\"idle\":1}}", "cpu.idle", "1");
	expect("{\"cpu\":{\"burst\":700}}", "cpu.max.burst", "700");
}

static void test_memory(void **state UNUSED)
{
	expect("{\"memory\":{\"limit\":1048576}}", "memory.max", "1048576");
	expect("{\"memory\":{\"limit\":1048576}}", "memory.swap.max", "(none)");
	expect("{\"memory\":{\"limit\":-1}}", "memory.max", "max");
	expect("{\"memory\":{\"limit\":-1}}", "memory.swap.max", "max");
	expect("{\"memory\":{\"limit\":100,\"swap\":300}}", "memory.swap.max", "200");
	expect("{\"memory\":{\"limit\":100,\"swap\":100}}", "memory.swap.max", "0");
	expect("{\"memory\":{\"limit\":100,\"swap\":-1}}", "memory.swap.max", "max");
	expect("{\"memory\":{\"reservation\":77}}", "memory.low", "77");
	expect_refusal("{\"memory\":{\"swap\":300}}", "without memory limit");
	expect_refusal("{\"memory\":{\"limit\":400,\"swap\":300}}", ">= memory limit");
}

static void test_swap_is_set_before_memory(void **state UNUSED)
{
	cleanup_plan struct cgroup_plan plan = {0};

	plan_of("{\"memory\":{\"limit\":100,\"swap\":300}}", &plan);
	assert_int_equal(plan.n, 2);
	assert_string_equal(plan.v[0].file, "memory.swap.max");
	assert_string_equal(plan.v[1].file, "memory.max");
}

static void test_pids(void **state UNUSED)
{
	expect("{\"pids\":{\"limit\":10}}", "pids.max", "10");
	expect("{\"pids\":{\"limit\":-1}}", "pids.max", "max");
	expect("{\"pids\":{\"limit\":0}}", "pids.max", "max");
	expect("{}", "pids.max", "(none)");
}

static void test_hugepages(void **state UNUSED)
{
	expect("{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}]}", "hugetlb.2MB.max",
	       "4194304");
	expect_refusal("{\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":1}]}",
		       "not a page size");
}

static void test_unified(void **state UNUSED)
{
	expect("{\"memory\":{\"limit\":100},\"unified\":{\"memory.max\":\"max\"}}", "memory.max",
	       "max"); /* the last word */
	expect("{\"unified\":{\"io.max\":\"8:0 rbps=1\"}}", "io.max", "(none)");
	expect_refusal("{\"unified\":{\"../cgroup.procs\":\"1\"}}", "name of a file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpu_weight), cmocka_unit_test(test_io_weight),
		cmocka_unit_test(test_cpu),	   cmocka_unit_test(test_memory),
		cmocka_unit_test(test_pids),	   cmocka_unit_test(test_hugepages),
		cmocka_unit_test(test_unified),	   cmocka_unit_test(test_swap_is_set_before_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
