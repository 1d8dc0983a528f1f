/* What oci/ writes: state, features, the default spec; and names of capabilities and signals. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "oci/caps.h"
#include "oci/default_spec.h"
#include "oci/features.h"
#include "oci/signal.h"
#include "oci/spec.h"
#include "oci/state.h"
#include "oci/validate.h"
#include "tests/unit/oci_text.h"

/* ---- state */

static struct oci_kv annotations[] = {{(char[]){"a"}, (char[]){"1"}},
				      {(char[]){"b"}, (char[]){""}}};

static struct oci_state running(void)
{
	return (struct oci_state){
		.id = "c1",
		.status = OCI_STATUS_RUNNING,
		.pid = 4711,
		.bundle = "/b",
		.annotations = annotations,
		.n_annotations = 2,
		.rootfs = "/b/rootfs",
		.created = {.tv_sec = 1767366245, .tv_nsec = 250000000},
		.owner = "root",
	};
}

static void assert_text(const char *text, const char *wanted)
{
	cleanup_free char *q = quoted(wanted);

	assert_string_equal(text, q);
}

static void state_for_hooks(void **state)
{
	struct oci_state s = running();
	cleanup_free char *with_pid = NULL, *without = NULL;
	size_t len;

	(void)state;
	assert_int_equal(oci_state_for_hook(&s, &with_pid, &len, NULL), 0);
	assert_text(with_pid, "{'ociVersion':'1.2.0','id':'c1','status':'running','pid':4711,"
			      "'bundle':'/b','annotations':{'a':'1','b':''}}");
	assert_int_equal(len, strlen(with_pid));
	s.pid = 0;
	s.n_annotations = 0;
	s.status = OCI_STATUS_STOPPED;
	assert_int_equal(oci_state_for_hook(&s, &without, NULL, NULL), 0);
	assert_text(without, "{'ociVersion':'1.2.0','id':'c1','status':'stopped','bundle':'/b'}");
}

static void state_for_users(void **state)
{
	struct oci_state s = running();
	cleanup_free char *text = NULL;
	size_t len;
	cleanup_json yajl_val v = NULL;

	(void)state;
	assert_int_equal(oci_state_for_user(&s, &text, &len, NULL), 0);
	assert_true(strncmp(text, "{\n  \"ociVersion\"", 16) == 0);
	v = json_parse(text, len, NULL);
	assert_string_equal(json_str(v, "id"), "c1");
	assert_int_equal(json_int(v, "pid", 0), 4711);
	assert_string_equal(json_str(v, "status"), "running");
	assert_string_equal(json_str(v, "bundle"), "/b");
	assert_string_equal(json_str(v, "rootfs"), "/b/rootfs");
	assert_string_equal(json_str(v, "created"), "2026-01-02T15:04:05.25Z");
	assert_string_equal(json_str(v, "owner"), "root");
	assert_string_equal(json_str(json_get(v, "annotations"), "a"), "1");
}

static void stopped_state_has_pid_0(void **state)
{
	struct oci_state s = {.id = "x", .status = OCI_STATUS_STOPPED, .bundle = "/"};
	cleanup_free char *text = NULL;
	size_t len;
	cleanup_json yajl_val v = NULL;

	(void)state;
	assert_int_equal(oci_state_for_user(&s, &text, &len, NULL), 0);
	v = json_parse(text, len, NULL);
	assert_int_equal(json_int(v, "pid", -1), 0);
	assert_string_equal(json_str(v, "owner"), "");
	assert_null(json_get(v, "annotations"));
}

static void times(void **state)
{
	static const struct {
		struct timespec t;
		const char *text;
	} cases[] = {
		{{0, 0}, "1970-01-01T00:00:00Z"},
		{{0, 1}, "1970-01-01T00:00:00.000000001Z"},
		{{951782400, 120000000}, "2000-02-29T00:00:00.12Z"},
		{{1767366245, 999999999}, "2026-01-02T15:04:05.999999999Z"},
	};
	char buf[OCI_TIME_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_string_equal(oci_time(&cases[i].t, buf), cases[i].text);
}

static void status_names(void **state)
{
	(void)state;
	for (int i = OCI_STATUS_CREATING; i <= OCI_STATUS_PAUSED; i++)
		assert_int_equal(oci_status_from_name(oci_status_name((enum oci_status)i)), i);
	assert_int_equal(oci_status_from_name("dead"), -1);
	assert_null(oci_status_name(OCI_STATUS_PAUSED + 1));
}

/* ---- features */

static bool holds(yajl_val list, const char *word)
{
	assert_true(YAJL_IS_ARRAY(list));
	for (size_t i = 0; i < list->u.array.len; i++) {
		const char *s = YAJL_GET_STRING(list->u.array.values[i]);

		if (s && strcmp(s, word) == 0)
			return true;
	}
	return false;
}

static yajl_val features(void)
{
	const struct oci_features f = {
		.version = "0.1.0", .commit = "abc", .cgroup_v2 = {.has = true, .v = true}};
	cleanup_free char *text = NULL;
	size_t len;
	yajl_val v;

	assert_int_equal(oci_features_write(&f, &text, &len, NULL), 0);
	v = json_parse(text, len, NULL);
	assert_non_null(v);
	return v;
}

static void features_promise_what_is_there(void **state)
{
	cleanup_json yajl_val v = features();
	yajl_val lnx = json_get(v, "linux"), seccomp = json_get(lnx, "seccomp");

	(void)state;
	assert_true(oci_version_supported(json_str(v, "ociVersionMin")));
	assert_true(oci_version_supported(json_str(v, "ociVersionMax")));
	assert_int_equal(json_get(v, "hooks")->u.array.len, 6);
	assert_true(holds(json_get(v, "mountOptions"), "rro"));
	assert_true(holds(json_get(v, "mountOptions"), "tmpcopyup"));
	assert_true(holds(json_get(lnx, "namespaces"), "time"));
	assert_int_equal(json_get(lnx, "capabilities")->u.array.len, 41);
	assert_true(json_bool(seccomp, "enabled", false));
	assert_true(holds(json_get(seccomp, "actions"), "SCMP_ACT_KILL_PROCESS"));
	assert_true(holds(json_get(seccomp, "operators"), "SCMP_CMP_MASKED_EQ"));
	assert_true(holds(json_get(seccomp, "archs"), "SCMP_ARCH_X86_64"));
	assert_true(holds(json_get(seccomp, "knownFlags"), "SECCOMP_FILTER_FLAG_LOG"));
	assert_true(json_bool(json_get(lnx, "cgroup"), "v2", false));
	assert_null(json_get(json_get(lnx, "cgroup"), "v1"));
	assert_string_equal(json_str(json_get(v, "annotations"), "io.husk.version"), "0.1.0");
	assert_true(holds(json_get(v, "potentiallyUnsafeConfigAnnotations"), "io.husk."));
}

static void features_do_not_promise_what_is_refused(void **state)
{
	static const char *const on[] = {"apparmor", "selinux", "intelRdt"};
	cleanup_json yajl_val v = features();
	yajl_val lnx = json_get(v, "linux");

	(void)state;
	assert_true(holds(json_get(v, "mountOptions"), "bind"));
	assert_true(holds(json_get(v, "mountOptions"), "idmap"));
	assert_false(holds(json_get(json_get(lnx, "seccomp"), "actions"), "SCMP_ACT_NOTIFY"));
	for (size_t i = 0; i < ARRAY_LEN(on); i++)
		assert_true(json_bool(json_get(lnx, on[i]), "enabled", false));
	assert_true(
		json_bool(json_get(json_get(lnx, "mountExtensions"), "idmap"), "enabled", false));
	assert_string_equal(json_str(json_get(v, "annotations"),
				     "org.opencontainers.runc.checkpoint.enabled"),
			    "false");
}

/* ---- the default spec */

static void default_spec(void **state)
{
	cleanup_oci_spec struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;
	uint64_t three = UINT64_C(1) << 29 | UINT64_C(1) << 5 | UINT64_C(1) << 10;

	(void)state;
	if (oci_spec_parse(oci_default_spec, oci_default_spec_len, &s, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(s->oci_version, OCI_VERSION);
	assert_string_equal(s->process->args[0], "sh");
	assert_true(s->process->terminal && s->process->no_new_privileges);
	assert_int_equal(s->process->n_env, 2);
	assert_true(s->process->capabilities->bounding == three);
	/* without inheritable ones an ambient set would have no effect */
	assert_true(s->process->capabilities->ambient == 0);
	assert_int_equal(s->process->rlimits[0].hard, 1024);
	assert_string_equal(s->hostname, "husk");
	assert_string_equal(s->root_path, "rootfs");
	assert_true(s->root_readonly);
	assert_int_equal(s->n_mounts, 7);
	assert_int_equal(s->lnx.n_namespaces, 6);
	assert_int_equal(s->lnx.n_masked_paths, 10);
	assert_int_equal(s->lnx.n_readonly_paths, 5);
	assert_false(s->lnx.resources->devices[0].allow);
}

/* ---- names */

static void capabilities(void **state)
{
	(void)state;
	for (int i = 0; i < OCI_CAPS; i++) {
		assert_int_equal(oci_cap_from_name(oci_cap_name(i)), i);
		assert_int_equal(oci_cap_from_user(oci_cap_name(i) + 4), i);
	}
	assert_int_equal(oci_cap_from_name("CAP_SYS_ADMIN"), 21);
	assert_int_equal(oci_cap_from_name("cap_sys_admin"), -1);
	assert_int_equal(oci_cap_from_user("cap_sys_admin"), 21);
	assert_int_equal(oci_cap_from_user("net_raw"), 13);
	assert_int_equal(oci_cap_from_user("CAP_"), -1);
	assert_null(oci_cap_name(41));
	assert_null(oci_cap_name(-1));
}

static void signals(void **state)
{
	static const struct {
		const char *text;
		int number;
	} cases[] = {
		{"15", SIGTERM},    {"TERM", SIGTERM},	 {"SIGTERM", SIGTERM}, {"sigterm", SIGTERM},
		{"0", 0},	    {"64", 64},		 {"KILL", SIGKILL},    {"SIGIOT", SIGABRT},
		{"poll", SIGIO},    {"SIGRTMIN", 34},	 {"RTMIN+3", 37},      {"SIGRTMIN+30", 64},
		{"RTMAX", 64},	    {"RTMAX-1", 63},	 {"sigrtmax-30", 34},  {"CHLD", SIGCHLD},
		{"SIGSYS", SIGSYS}, {"WINCH", SIGWINCH},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(oci_signal_parse(cases[i].text, NULL), cases[i].number);
}

static void unknown_signals(void **state)
{
	static const char *const bad[] = {"",	     "65",	     "-1",	 "15x",
					  "SIG",     "TERMS",	     "RTMIN+31", "RTMIN+",
					  "RTMIN-1", "RTMAX+1",	     "RTMAX-31", "SIG15",
					  "+9",	     "999999999999", " TERM"};
	struct error err = ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (oci_signal_parse(bad[i], NULL) != -1)
			fail_msg("accepted: %s", bad[i]);
	assert_int_equal(oci_signal_parse("FOO", &err), -1);
	assert_string_equal(err.msg, "unknown signal \"FOO\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(state_for_hooks),
		cmocka_unit_test(state_for_users),
		cmocka_unit_test(stopped_state_has_pid_0),
		cmocka_unit_test(times),
		cmocka_unit_test(status_names),
		cmocka_unit_test(features_promise_what_is_there),
		cmocka_unit_test(features_do_not_promise_what_is_refused),
		cmocka_unit_test(default_spec),
		cmocka_unit_test(capabilities),
		cmocka_unit_test(signals),
		cmocka_unit_test(unknown_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
