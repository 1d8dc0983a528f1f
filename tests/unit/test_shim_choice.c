/* Which engine and kernel: who says it, who comes first, what is refused; and the configuration
 * file. What the host itself would choose depends on the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/annotations.h"
#include "shim/choice.h"
#include "shim/config_file.h"
#include "shim/kvm_probe.h"
#include "tests/unit/tmpdir.h"

static int setup(void **state)
{
	static const char *const names[] = {"HUSK_ENGINE", "HUSK_KERNEL", "HUSK_QEMU", NULL};
	const struct tmpdir *t;
	char path[128];

	if (tmpdir_make(state) < 0)
		return -1;
	t = *state;
	for (const char *const *n = names; *n; n++)
		unsetenv(*n);
	snprintf(path, sizeof(path), "%s/config.json", t->path);
	setenv("HUSK_CONFIG", path, 1);
	return file_write_atomic(t->fd, "config.json", "{}", 2, 0644, NULL);
}

static void write_config(const struct tmpdir *t, const char *text)
{
	assert_int_equal(file_write_atomic(t->fd, "config.json", text, strlen(text), 0644, NULL),
			 0);
}

static const char *engine_of(const char *option, const char *annotation, const char **said_by)
{
	struct choice_wish wish = {.engine = option};
	struct choice_ask ask = {.engine = annotation};
	struct choice c;

	if (choice_engine(&wish, &ask, &c, NULL) < 0)
		return NULL;
	if (said_by)
		*said_by = c.said_by;
	return c.engine;
}

static void the_command_line_comes_before_all_others(void **state)
{
	const char *by = NULL;

	setenv("HUSK_ENGINE", "kvm", 1);
	write_config(*state, "{\"engine\": \"kvm\"}");
	assert_string_equal(engine_of("qemu", "kvm", &by), "qemu");
	assert_string_equal(by, "--engine");
}

static void then_the_annotation_the_environment_and_the_file(void **state)
{
	const char *by = NULL;

	setenv("HUSK_ENGINE", "qemu", 1);
	write_config(*state, "{\"engine\": \"qemu\"}");
	assert_string_equal(engine_of(NULL, "qemu", &by), "qemu");
	assert_string_equal(by, "annotations[\"io.husk.engine\"]");
	assert_string_equal(engine_of(NULL, NULL, &by), "qemu");
	assert_string_equal(by, "HUSK_ENGINE");
	unsetenv("HUSK_ENGINE");
	assert_string_equal(engine_of(NULL, NULL, &by), "qemu");
	assert_string_equal(by, "the configuration file");
}

static void auto_is_what_the_host_does(void **state)
{
	struct choice_wish none = {0}, automatic = {.engine = "auto"};
	struct choice_ask ask = {.engine = "qemu"};
	struct choice a, b;

	(void)state;
	setenv("HUSK_ENGINE", "auto", 1);
	assert_int_equal(choice_engine(&none, NULL, &a, NULL), 0);
	assert_int_equal(choice_engine(&automatic, &ask, &b, NULL), 0);
	assert_string_equal(a.engine, b.engine);
	assert_true(a.automatic && b.automatic);
	assert_true(choice_is_kvm(&a) == (a.why_not_kvm[0] == '\0'));
	if (!choice_cpu_extension()) {
		assert_string_equal(a.engine, "qemu");
		assert_string_equal(a.why_not_kvm, "the CPU has neither vmx nor svm");
	}
}

static void a_word_that_is_none_is_refused_with_its_place(void **state)
{
	struct choice_wish wish = {.engine = "xen"}, none = {0};
	struct choice_ask ask = {.engine = "KVM"};
	struct error err = ERROR_INIT;
	struct choice c;

	assert_int_equal(choice_engine(&wish, NULL, &c, &err), -1);
	assert_string_equal(err.msg, "--engine: \"xen\": must be auto, kvm or qemu");
	assert_int_equal(choice_engine(&none, &ask, &c, &err), -1);
	assert_string_equal(err.msg, "annotations[\"io.husk.engine\"]: \"KVM\": must be auto, kvm "
				     "or qemu");
	setenv("HUSK_ENGINE", "x", 1);
	assert_int_equal(choice_engine(&none, NULL, &c, &err), -1);
	assert_string_equal(err.msg, "HUSK_ENGINE: \"x\": must be auto, kvm or qemu");
	/* Also where nobody needs it. */
	write_config(*state, "{\"engine\": \"xen\"}");
	wish.engine = "qemu";
	assert_int_equal(choice_engine(&wish, NULL, &c, &err), -1);
	assert_non_null(strstr(err.msg, "/config.json: engine: \"xen\": must be auto, kvm or "
					"qemu"));
}

static void the_kernel_is_the_first_that_is_named(void **state)
{
	const struct tmpdir *t = *state;
	struct choice_wish wish = {.kernel = "/none/kernel"}, none = {0};
	cleanup_free char *from_env = NULL, *from_file = NULL;
	struct error err = ERROR_INIT;
	char a[128], b[128], text[256];

	snprintf(a, sizeof(a), "%s/a", t->path);
	snprintf(b, sizeof(b), "%s/b", t->path);
	snprintf(text, sizeof(text), "{\"kernel\": \"%s\"}", b);
	write_config(t, text);
	assert_int_equal(file_write_atomic(t->fd, "a", "", 0, 0644, NULL), 0);
	assert_null(choice_kernel(&none, &err));
	assert_non_null(strstr(err.msg, "/b (from the configuration file): No such file"));
	assert_int_equal(file_write_atomic(t->fd, "b", "", 0, 0644, NULL), 0);
	from_file = choice_kernel(&none, NULL);
	assert_string_equal(from_file, b);
	setenv("HUSK_KERNEL", a, 1);
	from_env = choice_kernel(&none, NULL);
	assert_string_equal(from_env, a);
	assert_null(choice_kernel(&wish, &err));
	assert_string_equal(err.msg, "/none/kernel (from --kernel): No such file or directory");
}

static void only_an_automatic_kvm_that_fails_is_told_of_qemu(void **state)
{
	struct choice named = {.engine = "kvm", .said_by = "--engine"};
	struct choice automatic = {.engine = "kvm", .automatic = true};
	struct error err = ERROR_INIT;

	(void)state;
	error_set(&err, "create the VM: Device or resource busy");
	assert_int_equal(choice_blame(&named, &err), -1);
	assert_null(strstr(err.msg, "--engine qemu"));
	assert_int_equal(choice_blame(&automatic, &err), -1);
	assert_non_null(strstr(err.msg, "busy: "));
	assert_non_null(strstr(err.msg, "--engine qemu"));
}

/* ---- the file */

static void refuses(const char *text, const char *why)
{
	struct config_file c = {0};
	struct error err = ERROR_INIT;

	assert_int_equal(config_file_parse(text, strlen(text), &c, &err), -1);
	assert_string_equal(err.msg, why);
	assert_int_equal(err.kind, ERR_INVALID);
}

static void the_file_is_strict(void **state)
{
	(void)state;
	refuses("[]", "must be an object");
	refuses("{\"engin\": \"kvm\"}",
		"\"engin\": no such key: there are engine, kernel, qemu, memory, vcpus, scratch, "
		"console, annotations, vm and network");
	refuses("{\"engine\": true}", "engine: true: must be auto, kvm or qemu");
	refuses("{\"engine\": \"\"}", "engine: \"\": must be auto, kvm or qemu");
	refuses("{\"kernel\": \"vmlinux\"}", "kernel: \"vmlinux\": must be an absolute path");
	refuses("{\"qemu\": \"\"}", "qemu: \"\": must be an absolute path");
	refuses("{\"qemu\": \"/a\", \"qemu\": \"/b\"}", "qemu: is there twice");
	refuses("{\"network\": true}", "network: true: must be an object");
	refuses("{\"network\": {}, \"network\": {}}", "network: is there twice");
	refuses("{\"network\": {\"wiring\": \"ovs\"}}",
		"network.wiring: \"ovs\": must be \"auto\", \"tc\" or \"bridge\"");
	refuses("{\"network\": {\"wiring\": 1}}",
		"network.wiring: 1: must be \"auto\", \"tc\" or \"bridge\"");
	refuses("{\"network\": {\"vhost_net\": \"yes\"}}",
		"network.vhost_net: \"yes\": must be true or false");
	refuses("{\"network\": {\"vhost\": true}}",
		"network: \"vhost\": no such key: there are wiring and vhost_net");
}

static void sizes_are_checked(void **state)
{
	(void)state;
	refuses("{\"memory\": 1}", "memory: 1: must be an object");
	refuses("{\"memory\": {\"max\": 1}}",
		"memory: \"max\": no such key: there are default, maximum and pod");
	refuses("{\"memory\": {\"default\": \"1X\"}}",
		"memory.default: \"1X\": must be a number of bytes, or one with K, M, G or T in "
		"quotation "
		"marks");
	refuses("{\"memory\": {\"default\": \"63M\"}}",
		"memory.default: 66060288 bytes: must be from 64M to 1T");
	refuses("{\"memory\": {\"pod\": \"2T\"}}",
		"memory.pod: 2199023255552 bytes: must be from 64M to 1T");
	refuses("{\"memory\": {\"default\": \"2G\", \"maximum\": \"1G\"}}",
		"memory.default: 2147483648: is more than memory.maximum, 1073741824");
	refuses("{\"vcpus\": {\"default\": 0}}", "vcpus.default: 0: must be a number from 1 to 64");
	refuses("{\"vcpus\": {\"pod\": \"2\"}}", "vcpus.pod: \"2\": must be a number from 1 to 64");
	refuses("{\"vcpus\": {\"pod\": 3, \"maximum\": 2}}",
		"vcpus.pod: 3: is more than vcpus.maximum, 2");
	refuses("{\"scratch\": {\"pod\": \"1G\"}}",
		"scratch: \"pod\": no such key: there are default and maximum");
	refuses("{\"scratch\": {\"default\": \"8M\"}}",
		"scratch.default: 8388608 bytes: must be from 16M to 1T");
	refuses("{\"console\": \"log\"}", "console: \"log\": must be an absolute path");
}

static void lists_are_checked(void **state)
{
	(void)state;
	refuses("{\"annotations\": \"io.husk.*\"}",
		"annotations: \"io.husk.*\": must be a list of at most 256");
	refuses("{\"annotations\": [\"io.husk.a\", \"*\"]}",
		"annotations[1]: \"*\": must be a string that begins with io.husk.");
	refuses("{\"vm\": {\"kernels\": [1]}}",
		"vm.kernels[0]: 1: must be a string that begins with /");
	refuses("{\"vm\": {\"images\": []}}",
		"vm: \"images\": no such key: there are kernels, initrds and hypervisors");
}

static void all_of_it_is_taken(void **state)
{
	static const char text[] =
		"{\"memory\": {\"default\": 268435457, \"maximum\": \"8G\", \"pod\": \"1g\"},"
		"\"vcpus\": {\"default\": 2, \"maximum\": 4, \"pod\": 3},"
		"\"scratch\": {\"default\": \"1G\", \"maximum\": \"20G\"}, \"console\": \"/c\","
		"\"annotations\": [\"io.husk.m*\", \"io.husk.engine\"],"
		"\"vm\": {\"kernels\": [\"/boot/*\"], \"initrds\": [], \"hypervisors\": [\"/q\"]}}";
	cleanup_config_file struct config_file c = {0};

	(void)state;
	assert_int_equal(config_file_parse(text, sizeof(text) - 1, &c, NULL), 0);
	assert_int_equal(c.memory.def, 257 << 20); /* whole MiB */
	assert_int_equal(c.memory.max, UINT64_C(8) << 30);
	assert_int_equal(c.memory.pod, 1 << 30);
	assert_int_equal(c.vcpus.def, 2);
	assert_int_equal(c.vcpus.max, 4);
	assert_int_equal(c.vcpus.pod, 3);
	assert_int_equal(c.scratch.def, 1 << 30);
	assert_int_equal(c.scratch.max, UINT64_C(20) << 30);
	assert_string_equal(c.console, "/c");
	assert_true(config_list_has(&c.annotations, "io.husk.memory"));
	assert_true(config_list_has(&c.annotations, "io.husk.engine"));
	assert_false(config_list_has(&c.annotations, "io.husk.vcpus"));
	assert_true(config_list_has(&c.kernels, "/boot/vmlinux"));
	assert_false(config_list_has(&c.kernels, "/boot/a/vmlinux"));
	assert_false(config_list_has(&c.kernels, "/boot/../etc/shadow"));
	assert_true(c.initrds.given && c.initrds.n == 0);
	assert_true(config_list_has(&c.hypervisors, "/q"));
}

/* ---- what config.json may say */

static int check_annotation(const char *config, const char *key, struct error *err)
{
	cleanup_config_file struct config_file c = {0};
	char value[] = "1", name[64];
	struct oci_kv kv = {.key = name, .value = value};
	struct oci_spec spec = {.annotations = &kv, .n_annotations = 1};

	snprintf(name, sizeof(name), "%s", key);
	assert_int_equal(config_file_parse(config, strlen(config), &c, NULL), 0);
	return annotations_check(&spec, &c, err);
}

static void annotations_are_those_that_the_host_allows(void **state)
{
	static const char all[] = "{\"annotations\": [\"io.husk.*\"]}";
	static const char none[] = "{\"annotations\": []}";
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(check_annotation("{}", "io.husk.memory", NULL), 0);
	assert_int_equal(check_annotation("{}", "io.husk.vcpus", NULL), 0);
	assert_int_equal(check_annotation("{}", "io.husk.scratch-size", NULL), 0);
	assert_int_equal(check_annotation("{}", "io.husk.sync-interval", NULL), 0);
	assert_int_equal(check_annotation("{}", "org.example.engine", NULL), 0);
	assert_int_equal(check_annotation(all, "io.husk.engine", NULL), 0);
	assert_int_equal(check_annotation(all, "io.husk.kernel", NULL), 0);
	assert_int_equal(check_annotation("{}", "io.husk.kernel", NULL), -1);
	assert_int_equal(check_annotation("{}", "io.husk.engine", &err), -1);
	assert_non_null(strstr(err.msg, "annotations[\"io.husk.engine\"]: this host does not let "
					"config.json set it: its administrator can, with "
					"\"annotations\" in /"));
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	assert_int_equal(check_annotation(none, "io.husk.memory", NULL), -1);
	assert_int_equal(check_annotation(all, "io.husk.memori", &err), -1);
	assert_string_equal(err.msg,
			    "annotations[\"io.husk.memori\"]: husk knows no such annotation");
}

static void refuses_vm(const struct choice_wish *wish, const struct choice_ask *ask,
		       const char *why)
{
	struct error err = ERROR_INIT;
	cleanup_choice struct choice c = {0};

	assert_int_equal(choice_make(wish, ask, &c, &err), -1);
	if (!strstr(err.msg, why))
		fail_msg("'%s' does not say '%s'", err.msg, why);
}

static void the_vm_section_names_what_is_listed(void **state)
{
	const struct tmpdir *t = *state;
	struct choice_wish none = {0}, kvm = {.engine = "kvm"};
	char a[128], b[128], text[512], quiet[] = "quiet", two[] = "a b=c", bad[] = "a\nb";
	char *parameters[] = {quiet, two};
	struct oci_vm vm = {.kernel_path = a, .hypervisor_path = a};
	struct choice_ask ask = {.vm = &vm};
	cleanup_choice struct choice c = {0};

	snprintf(a, sizeof(a), "%s/a", t->path);
	snprintf(b, sizeof(b), "%s/b", t->path);
	assert_int_equal(file_write_atomic(t->fd, "a", "", 0, 0755, NULL), 0);
	assert_int_equal(file_write_atomic(t->fd, "b", "", 0, 0755, NULL), 0);
	refuses_vm(&none, &ask, "vm.kernel.path: \"");
	refuses_vm(&none, &ask,
		   "does not let config.json name it: its administrator can, with "
		   "\"vm\": {\"kernels\": [...]}");
	snprintf(text, sizeof(text), "{\"kernel\": \"%s\"}", a);
	write_config(t, text); /* it is the host's own */
	refuses_vm(&none, &ask, "vm.hypervisor.path: ");
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		refuses_vm(&kvm, &ask, "--engine asks for engine kvm, which has no hypervisor but");
	snprintf(text, sizeof(text),
		 "{\"engine\": \"auto\", \"vm\": {\"kernels\": [\"%s/?\"], \"hypervisors\": "
		 "[\"%s\"], \"initrds\": [\"%s\"]}}",
		 t->path, a, b);
	write_config(t, text);
	vm.kernel_initrd = a;
	refuses_vm(&none, &ask, "vm.kernel.initrd: ");
	vm.kernel_initrd = b;
	vm.kernel_parameters = (char *[]){bad};
	vm.n_kernel_parameters = 1;
	refuses_vm(&none, &ask, "vm.kernel.parameters[0]: not printable ASCII");
	vm.kernel_parameters = parameters;
	vm.n_kernel_parameters = 2;
	assert_int_equal(choice_make(&none, &ask, &c, NULL), 0);
	assert_string_equal(c.engine, "qemu");
	assert_string_equal(c.qemu, a);
	assert_string_equal(c.kernel, a);
	assert_string_equal(c.initrd, b);
	assert_string_equal(c.parameters, "quiet a b=c");
	choice_free(&c);
	ask.kernel = b; /* the annotation comes first, and the command line before it */
	assert_int_equal(choice_make(&none, &ask, &c, NULL), 0);
	assert_string_equal(c.kernel, b);
	choice_free(&c);
	none.kernel = "/proc/self/exe";
	assert_int_equal(choice_make(&none, &ask, &c, NULL), 0);
	assert_string_equal(c.kernel, "/proc/self/exe");
	none.kernel = NULL;
	ask.kernel = "/etc/passwd";
	refuses_vm(&none, &ask,
		   "annotations[\"io.husk.kernel\"]: \"/etc/passwd\": this host does not");
}

static void the_network_is_as_it_says(void **state)
{
	static const char text[] = "{\"network\": {\"wiring\": \"bridge\", \"vhost_net\": true}}";
	struct config_file c = {0};

	(void)state;
	assert_int_equal(config_file_parse("{}", 2, &c, NULL), 0);
	assert_int_equal(c.wiring, NET_WIRING_AUTO);
	assert_false(c.vhost_net);
	assert_int_equal(config_file_parse(text, sizeof(text) - 1, &c, NULL), 0);
	assert_int_equal(c.wiring, NET_WIRING_BRIDGE);
	assert_true(c.vhost_net);
}

static void the_file_may_be_absent_unless_it_is_named(void **state)
{
	struct config_file c;
	struct error err = ERROR_INIT;

	(void)state;
	setenv("HUSK_CONFIG", "/none/config.json", 1);
	assert_int_equal(config_file_load(&c, &err), -1);
	assert_string_equal(err.msg,
			    "/none/config.json (from HUSK_CONFIG): No such file or directory");
}

static void a_file_that_others_may_write_is_refused(void **state)
{
	const struct tmpdir *t = *state;
	struct config_file c;
	struct error err = ERROR_INIT;

	if (geteuid() != 0)
		skip();
	assert_int_equal(config_file_load(&c, NULL), 0);
	config_file_free(&c);
	assert_int_equal(fchmodat(t->fd, "config.json", 0664, 0), 0);
	assert_int_equal(config_file_load(&c, &err), -1);
	assert_non_null(strstr(err.msg, "/config.json: others than root may write it (mode 0664)"));
	assert_int_equal(fchmodat(t->fd, "config.json", 0644, 0), 0);
	assert_int_equal(fchownat(t->fd, "config.json", 1000, 0, 0), 0);
	assert_int_equal(config_file_load(&c, &err), -1);
	assert_non_null(strstr(err.msg, "/config.json: belongs to user 1000: refused"));
	assert_int_equal(unlinkat(t->fd, "config.json", 0), 0);
	assert_int_equal(mkfifoat(t->fd, "config.json", 0644), 0);
	assert_int_equal(config_file_load(&c, &err), -1);
	assert_non_null(strstr(err.msg, "/config.json: not a regular file"));
}

/* What it finds depends on the host; that it finds it, and says why not, does not. */
static void the_probe_of_kvm_has_a_verdict(void **state)
{
	struct error err = ERROR_INIT;
	enum kvm_verdict v = kvm_probe(&err);

	(void)state;
	assert_true(v == KVM_ABSENT || v == KVM_EMULATES || v == KVM_RUNS);
	assert_true((v == KVM_ABSENT) == (err.msg[0] != '\0'));
	assert_int_equal(kvm_probe(NULL), v);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, tmpdir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_command_line_comes_before_all_others),
		TEST(then_the_annotation_the_environment_and_the_file),
		TEST(auto_is_what_the_host_does),
		TEST(a_word_that_is_none_is_refused_with_its_place),
		TEST(the_kernel_is_the_first_that_is_named),
		TEST(only_an_automatic_kvm_that_fails_is_told_of_qemu),
		TEST(the_file_is_strict),
		TEST(sizes_are_checked),
		TEST(lists_are_checked),
		TEST(all_of_it_is_taken),
		TEST(annotations_are_those_that_the_host_allows),
		TEST(the_vm_section_names_what_is_listed),
		TEST(the_network_is_as_it_says),
		TEST(the_file_may_be_absent_unless_it_is_named),
		TEST(a_file_that_others_may_write_is_refused),
		TEST(the_probe_of_kvm_has_a_verdict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
