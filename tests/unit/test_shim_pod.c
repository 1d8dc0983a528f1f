/* Who may join whom, and what of the pod a joiner names. This process stands for the proxies. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/pod.h"
#include "tests/unit/oci_text.h"
#include "tests/unit/tmpdir.h"

#define JOINS "'io.kubernetes.cri.container-type':'container','io.kubernetes.cri.sandbox-id':'s'"

static const char sandbox_config[] =
	"{\"ociVersion\":\"1.2.0\",\"linux\":{\"namespaces\":[{\"type\":\"network\"},"
	"{\"type\":\"ipc\",\"path\":\"/run/ipcns/s\"},{\"type\":\"uts\"}]}}";

/* A container's directory with its state; `sandbox` NULL: it joined nobody. */
static void put(const char *root, const char *id, pid_t pid, const char *sandbox, bool is_sandbox)
{
	cleanup_container_dir struct container_dir d = {.fd = -1};
	struct container_state s = {.id = (char *)id,
				    .bundle = (char *)"/b",
				    .rootfs = (char *)"/b/rootfs",
				    .status = OCI_STATUS_RUNNING,
				    .pid = pid,
				    .pid_start = proc_start_time(pid),
				    .sandbox = (char *)sandbox,
				    .tag = sandbox ? (char *)"01234567" : NULL,
				    .is_sandbox = is_sandbox,
				    .config = (char *)sandbox_config};

	assert_int_equal(dir_make(root, id, &d, NULL), 0);
	assert_int_equal(state_save(&d, &s, NULL), 0);
	if (sandbox)
		assert_int_equal(pod_link(&d, sandbox, NULL), 0);
}

static int open_of(const char *root, const char *id, struct sandbox *s, struct error *err)
{
	const struct oci_pod pod = {.role = OCI_POD_JOINS, .sandbox = id, .key = "the-key"};

	return sandbox_open(root, &pod, s, err);
}

static void refused(const char *root, const char *id, enum error_kind kind, const char *message)
{
	cleanup_sandbox struct sandbox s = {.dir = {.fd = -1}};
	struct error err = ERROR_INIT;

	assert_int_equal(open_of(root, id, &s, &err), -1);
	assert_string_equal(err.msg, message);
	assert_int_equal(err.kind, kind);
	sandbox_close(&s);
}

static void a_sandbox_that_runs_may_be_joined(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_sandbox struct sandbox s = {.dir = {.fd = -1}};
	struct error err = ERROR_INIT;
	pid_t gone = fork();

	if (gone == 0)
		_exit(0);
	put(t->path, "s", getpid(), NULL, true);
	put(t->path, "single", getpid(), NULL, false);
	put(t->path, "joiner", getpid(), "s", false);
	put(t->path, "old", gone, NULL, true);
	waitpid(gone, NULL, 0);
	if (open_of(t->path, "s", &s, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(s.state.pid, getpid());
	refused(t->path, "none", ERR_NOT_FOUND,
		"annotations[\"the-key\"]: sandbox: container \"none\" does not exist");
	refused(t->path, "single", ERR_INVALID,
		"annotations[\"the-key\"]: container \"single\" is no sandbox: its VM is its own");
	refused(t->path, "joiner", ERR_INVALID,
		"annotations[\"the-key\"]: container \"joiner\" is no sandbox: its VM is its own");
	refused(t->path, "old", ERR_NOT_RUNNING,
		"annotations[\"the-key\"]: sandbox \"old\" has stopped");
	/* Its proxy lives, but is about to end the VM. */
	pod_close(s.dir.fd);
	refused(t->path, "s", ERR_NOT_RUNNING,
		"annotations[\"the-key\"]: sandbox \"s\" has stopped");
}

/* The join text, or the error's, of namespaces beside the network. */
static char *join_of(const struct tmpdir *t, const char *namespaces)
{
	cleanup_free char *raw = xasprintf("{'ociVersion':'1.2.0','annotations':{" JOINS "},"
					   "'linux':{'namespaces':[{'type':'network'},%s]}}",
					   namespaces);
	cleanup_free char *text = quoted(raw);
	cleanup_oci_spec struct oci_spec *spec = NULL;
	cleanup_sandbox struct sandbox s = {.dir = {.fd = -1}};
	struct error err = ERROR_INIT;
	char *join;

	assert_int_equal(oci_spec_parse(text, strlen(text), &spec, NULL), 0);
	assert_int_equal(open_of(t->path, "s", &s, NULL), 0);
	join = pod_join_text(t->path, &s, spec, &err);
	return join ? join : xstrdup(err.msg);
}

static void joins(const struct tmpdir *t, const char *namespaces, const char *wanted)
{
	cleanup_free char *got = join_of(t, namespaces);
	cleanup_free char *want = quoted(wanted);

	assert_string_equal(got, want);
}

static void paths_lead_to_containers_of_the_pod(void **state)
{
	const struct tmpdir *t = *state;
	pid_t other = fork();
	char text[256], wanted[256];

	if (other == 0) {
		pause();
		_exit(0);
	}
	put(t->path, "s", getpid(), NULL, true);
	put(t->path, "a", other, "s", false);
	put(t->path, "elsewhere", getppid(), "another", false);
	joins(t, "{'type':'ipc'},{'type':'uts'}", "{}");
	snprintf(text, sizeof(text),
		 "{'type':'ipc','path':'/proc/%d/ns/ipc'},{'type':'pid','path':'/proc/%d/ns/pid'}",
		 (int)getpid(), (int)other);
	joins(t, text, "{'ipc':'s','pid':'a'}");
	joins(t, "{'type':'uts'},{'type':'ipc','path':'/run/ipcns/s'}", "{'ipc':'s'}");
	/* Not the sandbox's path of that type, another pod's container, another type's file. */
	joins(t, "{'type':'uts','path':'/run/ipcns/s'}",
	      "linux.namespaces[1].path: /run/ipcns/s: is of no container of the pod 's'");
	snprintf(text, sizeof(text), "{'type':'ipc','path':'/proc/%d/ns/ipc'}", (int)getppid());
	snprintf(wanted, sizeof(wanted),
		 "linux.namespaces[1].path: /proc/%d/ns/ipc: is of no container of the pod 's'",
		 (int)getppid());
	joins(t, text, wanted);
	snprintf(text, sizeof(text), "{'type':'ipc','path':'/proc/%d/ns/uts'}", (int)getpid());
	snprintf(wanted, sizeof(wanted),
		 "linux.namespaces[1].path: /proc/%d/ns/uts: is of no container of the pod 's'",
		 (int)getpid());
	joins(t, text, wanted);
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
}

static void the_network_is_the_sandboxes(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *raw = xasprintf(
		"{'ociVersion':'1.2.0','linux':{'namespaces':[{'type':'network','path':'/proc/%d/"
		"task/%d/ns/net'}]}}",
		(int)getpid(), (int)getpid());
	cleanup_free char *same = quoted(raw);
	cleanup_free char *other = edited(same, "ns/net", "ns/ipc");
	cleanup_oci_spec struct oci_spec *good = NULL, *bad = NULL;
	cleanup_sandbox struct sandbox s = {.dir = {.fd = -1}};
	struct error err = ERROR_INIT;

	put(t->path, "s", getpid(), NULL, true);
	assert_int_equal(open_of(t->path, "s", &s, NULL), 0);
	assert_int_equal(oci_spec_parse(same, strlen(same), &good, NULL), 0);
	assert_int_equal(oci_spec_parse(other, strlen(other), &bad, NULL), 0);
	assert_int_equal(pod_check_network(&s, good, NULL), 0);
	assert_int_equal(pod_check_network(&s, bad, &err), -1);
	assert_non_null(strstr(err.msg, "is not the network namespace of the sandbox \"s\""));
}

static void members_are_those_that_joined_and_run(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_sandbox struct sandbox s = {.dir = {.fd = -1}};
	struct pod_members *list;

	put(t->path, "s", getpid(), NULL, true);
	put(t->path, "a", getpid(), "s", false);
	put(t->path, "b", getpid(), "other", false);
	put(t->path, "c", 0, "s", false);
	put(t->path, "d", getpid(), NULL, false);
	assert_int_equal(open_of(t->path, "s", &s, NULL), 0);
	assert_true(sandbox_runs(&s.dir, "s"));
	assert_false(sandbox_runs(&s.dir, "none"));
	assert_false(sandbox_runs(&s.dir, "../s"));
	list = pod_members(s.dir.fd, "s");
	assert_int_equal(list->n, 1);
	assert_string_equal(list->v[0].id, "a");
	assert_int_equal(list->v[0].pid, getpid());
	assert_true(pod_members_ticks(list) <= process_ticks(getpid()));
	pod_members_free(list);
}

#define POD_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		POD_TEST(a_sandbox_that_runs_may_be_joined),
		POD_TEST(paths_lead_to_containers_of_the_pod),
		POD_TEST(the_network_is_the_sandboxes),
		POD_TEST(members_are_those_that_joined_and_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
