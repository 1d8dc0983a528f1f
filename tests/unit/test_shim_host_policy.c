/* Fields that hold for the machine's processes on the host: memory policy, resctrl, profiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/host_policy.h"
#include "tests/unit/tmpdir.h"

static struct oci_memory_policy policy(const char *mode, const char *nodes, const char *flag)
{
	static char *flags[2];

	flags[0] = (char *)(uintptr_t)flag;
	return (struct oci_memory_policy){.mode = (char *)(uintptr_t)mode,
					  .nodes = (char *)(uintptr_t)nodes,
					  .flags = flags,
					  .n_flags = flag != NULL};
}

static void memory_policies(void **state)
{
	struct oci_memory_policy m = policy("MPOL_BIND", "0-1,64", "MPOL_F_STATIC_NODES");
	struct memory_policy p;

	(void)state;
	assert_int_equal(memory_policy_parse(&m, &p, NULL), 0);
	assert_int_equal(p.mode, 2 | 1 << 15);
	assert_int_equal(p.nodes[0], 3);
	assert_int_equal(p.nodes[1], 1);
	m = policy("MPOL_LOCAL", NULL, NULL);
	assert_int_equal(memory_policy_parse(&m, &p, NULL), 0);
	assert_int_equal(p.mode, 4);
}

static void wrong_memory_policies(void **state)
{
	static const struct {
		const char *mode, *nodes, *flag, *message;
	} bad[] = {
		{"BIND", NULL, NULL, "linux.memoryPolicy.mode: \"BIND\": unknown mode"},
		{"MPOL_BIND", "0", "MPOL_F_X",
		 "linux.memoryPolicy.flags[0]: \"MPOL_F_X\": unknown flag"},
		{"MPOL_BIND", "x", NULL,
		 "linux.memoryPolicy.nodes: \"x\": not a list of memory nodes"},
		{"MPOL_BIND", "1024", NULL, "linux.memoryPolicy.nodes: \"1024\": out of range"},
		{"MPOL_BIND", "3-2", NULL, "linux.memoryPolicy.nodes: \"3-2\": out of range"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct oci_memory_policy m = policy(bad[i].mode, bad[i].nodes, bad[i].flag);
		struct error err = ERROR_INIT;
		struct memory_policy p;

		assert_int_equal(memory_policy_parse(&m, &p, &err), -1);
		assert_string_equal(err.msg, bad[i].message);
	}
}

/* ---- resctrl, a directory that looks like it */

static void make_group(const struct tmpdir *t, const char *name)
{
	static const char *const files[] = {"tasks", "schemata"};

	if (*name)
		assert_int_equal(mkdirat(t->fd, name, 0755), 0);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		cleanup_free char *path = xasprintf("%s%s%s", name, *name ? "/" : "", files[i]);
		cleanup_close int fd = openat(t->fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		assert_true(fd >= 0);
	}
}

static void holds(const struct tmpdir *t, const char *path, const char *text)
{
	cleanup_free char *got = NULL;

	assert_int_equal(file_read(t->fd, path, 4096, &got, NULL, NULL), 0);
	assert_string_equal(got, text);
}

static void a_named_group_that_exists(void **state)
{
	const struct tmpdir *t = *state;
	struct oci_intel_rdt r = {.clos_id = (char *)(uintptr_t) "gold"};
	cleanup_free char *pid = xasprintf("%d\n", (int)getpid());

	make_group(t, "gold");
	assert_int_equal(rdt_enter(t->path, &r, "c", NULL), 0);
	holds(t, "gold/tasks", pid);
	holds(t, "gold/schemata", "");
	rdt_leave(t->path, &r, "c");
	assert_int_equal(faccessat(t->fd, "gold", F_OK, 0), 0);
}

static void a_group_of_its_own_with_a_schema(void **state)
{
	const struct tmpdir *t = *state;
	struct oci_intel_rdt r = {.l3_cache_schema = (char *)(uintptr_t) "L3:0=f"};

	make_group(t, "c");
	assert_int_equal(rdt_enter(t->path, &r, "c", NULL), 0);
	holds(t, "c/schemata", "L3:0=f\n");
	unlinkat(t->fd, "c/tasks", 0);
	unlinkat(t->fd, "c/schemata", 0);
	rdt_leave(t->path, &r, "c");
	assert_int_not_equal(faccessat(t->fd, "c", F_OK, 0), 0);
}

static void the_whole_machines_group(void **state)
{
	const struct tmpdir *t = *state;
	struct oci_intel_rdt r = {.clos_id = (char *)(uintptr_t) "/"};
	cleanup_free char *pid = xasprintf("%d\n", (int)getpid());

	make_group(t, "");
	assert_int_equal(rdt_enter(t->path, &r, "c", NULL), 0);
	holds(t, "tasks", pid);
}

static void a_named_group_that_is_missing(void **state)
{
	const struct tmpdir *t = *state;
	struct oci_intel_rdt r = {.clos_id = (char *)(uintptr_t) "gold"};
	struct error err = ERROR_INIT;

	assert_int_equal(rdt_enter(t->path, &r, "c", &err), -1);
	assert_string_equal(err.msg, "linux.intelRdt.closID: \"gold\": there is no such group, and "
				     "no schema to make it with");
	assert_int_not_equal(faccessat(t->fd, "gold", F_OK, 0), 0);
}

/* ---- an exec'ed process's profile */

static void a_machine_has_one_profile(void **state)
{
	struct oci_process init = {0}, p = {0};
	struct oci_spec spec = {.process = &init};

	(void)state;
	assert_null(host_policy_apparmor(&p));
	p.apparmor_profile = (char *)(uintptr_t) "unconfined";
	assert_null(host_policy_apparmor(&p));
	assert_int_equal(host_policy_check_exec(&spec, &p, NULL), 0);
	p.apparmor_profile = (char *)(uintptr_t) "other";
	assert_string_equal(host_policy_apparmor(&p), "other");
	/* refused on every host: with AppArmor as another one, without as unknown */
	assert_int_equal(host_policy_check_exec(&spec, &p, NULL), -1);
}

#define WITH_DIR(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_policies),
		cmocka_unit_test(wrong_memory_policies),
		WITH_DIR(a_named_group_that_exists),
		WITH_DIR(a_group_of_its_own_with_a_schema),
		WITH_DIR(the_whole_machines_group),
		WITH_DIR(a_named_group_that_is_missing),
		cmocka_unit_test(a_machine_has_one_profile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
