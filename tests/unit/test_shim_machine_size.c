/* How large a machine is: who says so, who comes first, what is too much. The host has 8 GiB and 4
 * processors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "lib/cleanup.h"
#include "shim/machine_size.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static const struct host_size host = {.mem_bytes = 8 * GIB, .cpus = 4};

/* `members` of a config.json; `file` a configuration file. */
static int size_of(const char *members, const char *file, enum oci_pod_role role,
		   struct machine_size *s, struct error *err)
{
	cleanup_config_file struct config_file c = {0};
	struct oci_pod pod = {.role = role};
	struct oci_spec *spec = NULL;
	char text[2048];
	int r;

	snprintf(text, sizeof(text), "{\"ociVersion\": \"1.2.0\", \"root\": {\"path\": \"r\"}%s%s}",
		 members[0] ? ", " : "", members);
	assert_int_equal(oci_spec_parse(text, strlen(text), &spec, NULL), 0);
	assert_int_equal(config_file_parse(file, strlen(file), &c, NULL), 0);
	r = machine_size(spec, &pod, &c, &host, s, err);
	if (r == 0) /* what names who said it may be the spec's */
		assert_true(s->memory_by[0] && s->vcpus_by[0]);
	oci_spec_free(spec);
	return r;
}

static void is_as(const char *members, const char *file, enum oci_pod_role role, uint64_t mib,
		  unsigned vcpus)
{
	struct error err = ERROR_INIT;
	struct machine_size s;

	if (size_of(members, file, role, &s, &err) < 0)
		fail_msg("%s: %s", members, err.msg);
	if (s.mem_bytes != mib * MIB || s.vcpus != vcpus)
		fail_msg("%s with %s: %llu MiB, %u vCPUs", members, file,
			 (unsigned long long)(s.mem_bytes / MIB), s.vcpus);
}

static void is(const char *members, uint64_t mib, unsigned vcpus)
{
	is_as(members, "{}", OCI_POD_SINGLE, mib, vcpus);
}

static void refuses_as(const char *members, const char *file, enum oci_pod_role role,
		       const char *why)
{
	struct error err = ERROR_INIT;
	struct machine_size s;

	if (size_of(members, file, role, &s, &err) == 0)
		fail_msg("taken: %s", members);
	assert_string_equal(err.msg, why);
}

static void refuses(const char *members, const char *why)
{
	refuses_as(members, "{}", OCI_POD_SINGLE, why);
}

#define MEMORY(n) "\"linux\": {\"resources\": {\"memory\": {\"limit\": " #n "}}}"
#define CPU(members) "\"linux\": {\"resources\": {\"cpu\": {" members "}}}"
#define NOTE(key, value) "\"annotations\": {\"" key "\": \"" value "\"}"
#define HW(members) "\"vm\": {\"hwConfig\": {" members "}}"

static void who_says_nothing_gets_the_default(void **state)
{
	(void)state;
	is("", 512, 1);
	is(MEMORY(-1), 512, 1);
	is(CPU("\"quota\": -1, \"period\": 100000"), 512, 1);
	is_as("", "{\"memory\": {\"default\": \"1G\"}, \"vcpus\": {\"default\": 3}}",
	      OCI_POD_SINGLE, 1024, 3);
	is_as("", "{\"memory\": {\"maximum\": \"256M\"}}", OCI_POD_SINGLE, 256, 1);
	is_as("", "{\"vcpus\": {\"default\": 64}}", OCI_POD_SINGLE, 512, 4);
}

static void limits_make_a_machine_with_room_for_its_kernel(void **state)
{
	(void)state;
	is(MEMORY(1073741824), 1024 + 64 + 128, 1);
	is(MEMORY(4194304), 4 + 1 + 128, 1);
	is(MEMORY(9223372036854775807), 8192 + 512 + 128, 1); /* none: the host's */
	is(CPU("\"quota\": 150000, \"period\": 100000"), 512, 2);
	is(CPU("\"quota\": 10000"), 512, 1);
	is(CPU("\"quota\": 9000000, \"period\": 100000"), 512, 4);
}

static void cpusets_count(void **state)
{
	(void)state;
	is(CPU("\"cpus\": \"0-2\""), 512, 3);
	is(CPU("\"cpus\": \"1,3,1\""), 512, 2);
	is(CPU("\"cpus\": \"0-63\""), 512, 4);
	is(CPU("\"cpus\": \"0\", \"quota\": 300000, \"period\": 100000"), 512, 1);
	is(CPU("\"cpus\": \"0-3\", \"quota\": 200000, \"period\": 100000"), 512, 2);
}

static void words_come_before_limits(void **state)
{
	(void)state;
	is(NOTE("io.husk.memory", "300M") ", " MEMORY(1073741824), 300, 1);
	is(NOTE("io.husk.memory", "268435457"), 257, 1);
	is(NOTE("io.husk.vcpus", "3") ", " CPU("\"quota\": 100000"), 512, 3);
	is(HW("\"memory\": 1073741824, \"vcpus\": 2") ", " MEMORY(4194304), 1024, 2);
	is(HW("\"memory\": 1073741824, \"vcpus\": 2") ", \"annotations\": {\"io.husk.memory\": "
						      "\"2G\", \"io.husk.vcpus\": \"4\"}",
	   2048, 4);
}

static void words_that_are_none_are_refused(void **state)
{
	(void)state;
	refuses(NOTE("io.husk.memory", "lots"),
		"annotations[\"io.husk.memory\"]: \"lots\": give a size such as 500M or 2G");
	refuses(NOTE("io.husk.memory", "1M"),
		"annotations[\"io.husk.memory\"]: 1048576 bytes: a machine has 64M at least");
	refuses(NOTE("io.husk.vcpus", "two"),
		"annotations[\"io.husk.vcpus\"]: \"two\": must be a number");
	refuses(NOTE("io.husk.vcpus", "-1"),
		"annotations[\"io.husk.vcpus\"]: \"-1\": must be a number");
	refuses(NOTE("io.husk.vcpus", "0"), "annotations[\"io.husk.vcpus\"]: must be 1 at least");
	refuses(HW("\"memory\": 1"), "vm.hwConfig.memory: 1 bytes: a machine has 64M at least");
}

static void too_much_is_refused_with_who_asks(void **state)
{
	static const char file[] =
		"{\"memory\": {\"maximum\": \"1G\"}, \"vcpus\": {\"maximum\": 2}}";

	(void)state;
	refuses(NOTE("io.husk.memory", "9G"),
		"annotations[\"io.husk.memory\"]: 9663676416 bytes: more than this host has (8G)");
	refuses(HW("\"vcpus\": 5"), "vm.hwConfig.vcpus: 5: more than this host has (4)");
	refuses_as(NOTE("io.husk.memory", "2G"), file, OCI_POD_SINGLE,
		   "annotations[\"io.husk.memory\"]: 2147483648 bytes: more than memory.maximum of "
		   "the configuration file (1G)");
	refuses_as(
		NOTE("io.husk.vcpus", "3"), file, OCI_POD_SINGLE,
		"annotations[\"io.husk.vcpus\"]: 3: more than vcpus.maximum of the configuration "
		"file (2)");
	refuses_as(MEMORY(1073741824), file, OCI_POD_SINGLE,
		   "linux.resources.memory.limit: 1073741824 bytes take a machine of 1216 MiB, and "
		   "memory.maximum of the configuration file is 1024 MiB");
	refuses_as(CPU("\"quota\": 300000"), file, OCI_POD_SINGLE,
		   "linux.resources.cpu.quota: takes 3 processors, and vcpus.maximum of the "
		   "configuration file is 2");
	refuses_as(CPU("\"cpus\": \"0-3\""), file, OCI_POD_SINGLE,
		   "linux.resources.cpu.cpus: takes 4 processors, and vcpus.maximum of the "
		   "configuration file is 2");
	is_as(CPU("\"quota\": 200000"), file, OCI_POD_SINGLE, 512, 2);
	/* More processors than the host has, if its administrator says so. */
	is_as(NOTE("io.husk.vcpus", "8"), "{\"vcpus\": {\"maximum\": 8}}", OCI_POD_SINGLE, 512, 8);
}

#define CRI "io.kubernetes.cri.sandbox-"

static void a_pod_is_as_large_as_its_hints_say(void **state)
{
	static const char hints[] = "\"annotations\": {\"" CRI "memory\": \"1073741824\", \"" CRI
				    "cpu-quota\": \"250000\", \"" CRI
				    "cpu-period\": \"100000\", \"" CRI "cpu-shares\": \"100\"}";

	(void)state;
	is_as(hints, "{}", OCI_POD_SANDBOX, 1024 + 64 + 128, 3);
	is(hints, 512, 1); /* it is no pod's */
	is_as("", "{}", OCI_POD_SANDBOX, 2048, 2);
	is_as(NOTE(CRI "memory", "0"), "{}", OCI_POD_SANDBOX, 2048, 2);
	is_as(NOTE(CRI "cpu-shares", "3072"), "{}", OCI_POD_SANDBOX, 2048, 3);
	is_as(NOTE(CRI "cpu-shares", "2"), "{}", OCI_POD_SANDBOX, 2048, 2);
	is_as("", "{\"memory\": {\"pod\": \"3G\"}, \"vcpus\": {\"pod\": 1}}", OCI_POD_SANDBOX, 3072,
	      1);
	is_as(NOTE("io.husk.memory", "1G"), "{}", OCI_POD_SANDBOX, 1024, 2);
	is_as(MEMORY(1073741824), "{}", OCI_POD_SANDBOX, 1024 + 64 + 128, 2);
	refuses_as(NOTE(CRI "memory", "1G"), "{}", OCI_POD_SANDBOX,
		   "annotations[\"" CRI "memory\"]: \"1G\": must be a number");
	refuses_as(NOTE(CRI "cpu-quota", "x"), "{}", OCI_POD_SANDBOX,
		   "annotations[\"" CRI "cpu-quota\"]: \"x\": must be a number");
	refuses_as(hints, "{\"memory\": {\"maximum\": \"1G\"}}", OCI_POD_SANDBOX,
		   "annotations[\"" CRI
		   "memory\"]: 1073741824 bytes take a machine of 1216 MiB, and "
		   "memory.maximum of the configuration file is 1024 MiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_says_nothing_gets_the_default),
		cmocka_unit_test(limits_make_a_machine_with_room_for_its_kernel),
		cmocka_unit_test(cpusets_count),
		cmocka_unit_test(words_come_before_limits),
		cmocka_unit_test(words_that_are_none_are_refused),
		cmocka_unit_test(too_much_is_refused_with_who_asks),
		cmocka_unit_test(a_pod_is_as_large_as_its_hints_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
