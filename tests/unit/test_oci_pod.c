/* A container's part in a pod, by the annotations of containerd, CRI-O and podman. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "oci/pod.h"
#include "oci/unsupported.h"
#include "tests/unit/oci_text.h"

#define CRI "io.kubernetes.cri"
#define POD_ID "ed5d3b33b62c14d54107db7a4ae0313566b2c6994784a9831628c403b59c5cc2"

static struct oci_spec *spec_of(const char *annotations, const char *lnx)
{
	cleanup_free char *raw = xasprintf("{'ociVersion':'1.2.0','annotations':{%s},"
					   "'linux':{'namespaces':[{'type':'network'}%s}}",
					   annotations, lnx);
	cleanup_free char *text = quoted(raw);
	struct oci_spec *spec = NULL;
	struct error err = ERROR_INIT;

	if (oci_spec_parse(text, strlen(text), &spec, &err) < 0)
		fail_msg("%s", err.msg);
	return spec;
}

static void role_is(const char *annotations, const char *lnx, enum oci_pod_role role,
		    const char *sandbox)
{
	cleanup_oci_spec struct oci_spec *spec = spec_of(annotations, lnx);
	struct error err = ERROR_INIT;
	struct oci_pod pod;

	if (oci_pod_role(spec, &pod, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(pod.role, role);
	if (sandbox)
		assert_string_equal(pod.sandbox, sandbox);
	else
		assert_null(pod.sandbox);
}

static void refused(const char *annotations, const char *message)
{
	cleanup_oci_spec struct oci_spec *spec = spec_of(annotations, "]");
	struct error err = ERROR_INIT;
	struct oci_pod pod;

	assert_int_equal(oci_pod_role(spec, &pod, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_string_equal(err.msg, message);
	/* Nor does it get by the check that comes first. */
	assert_int_equal(oci_spec_supported(spec, NULL), -1);
}

static void engines_say_who_is_what(void **state)
{
	(void)state;
	role_is("", "]", OCI_POD_SINGLE, NULL);
	role_is("'" CRI ".sandbox-id':'s','" CRI ".container-name':'c'", "]", OCI_POD_SINGLE, NULL);
	role_is("'" CRI ".container-type':'sandbox','" CRI ".sandbox-id':'me'", "]",
		OCI_POD_SANDBOX, NULL);
	role_is("'" CRI ".container-type':'container','" CRI ".sandbox-id':'s1'", "]",
		OCI_POD_JOINS, "s1");
	role_is("'" CRI "-o.ContainerType':'sandbox'", "]", OCI_POD_SANDBOX, NULL);
	role_is("'" CRI "-o.ContainerType':'container','" CRI "-o.SandboxID':'s2'", "]",
		OCI_POD_JOINS, "s2");
	/* Both, where one runtime class serves two engines. */
	role_is("'" CRI "-o.ContainerType':'container','" CRI "-o.SandboxID':'s','" CRI
		".container-type':'container','" CRI ".sandbox-id':'s'",
		"]", OCI_POD_JOINS, "s");
}

static void podman_infra_is_a_sandbox(void **state)
{
	static const char libpod[] = "'io.container.manager':'libpod'";

	(void)state;
	role_is(libpod, "],'cgroupsPath':'/libpod_parent/" POD_ID "/libpod-" POD_ID "'",
		OCI_POD_SANDBOX, NULL);
	role_is(libpod, "],'cgroupsPath':'" POD_ID "/libpod-x'", OCI_POD_SINGLE, NULL);
	role_is(libpod, "],'cgroupsPath':'machine-libpod_pod_" POD_ID ".slice:libpod:" POD_ID "'",
		OCI_POD_SANDBOX, NULL);
	role_is(libpod, "],'cgroupsPath':'/libpod_parent/libpod-" POD_ID "'", OCI_POD_SINGLE, NULL);
	role_is(libpod, "],'cgroupsPath':'/" POD_ID "'", OCI_POD_SINGLE, NULL);
	role_is(libpod, "],'cgroupsPath':'/libpod-'", OCI_POD_SINGLE, NULL);
	role_is(libpod, "]", OCI_POD_SINGLE, NULL);
	/* Another's cgroup says nothing. */
	role_is("", "],'cgroupsPath':'/p/" POD_ID "/libpod-" POD_ID "'", OCI_POD_SINGLE, NULL);
}

static void errors_name_the_annotation(void **state)
{
	(void)state;
	refused("'" CRI ".container-type':'podsandbox'",
		"annotations[\"" CRI ".container-type\"]: \"podsandbox\": must be \"sandbox\" or "
		"\"container\"");
	refused("'" CRI ".container-type':'container'",
		"annotations[\"" CRI ".sandbox-id\"]: is missing: " CRI
		".container-type says that the container joins a sandbox");
	refused("'" CRI "-o.ContainerType':'container','" CRI "-o.SandboxID':''",
		"annotations[\"" CRI "-o.SandboxID\"]: is missing: " CRI
		"-o.ContainerType says that the container joins a sandbox");
	refused("'" CRI ".container-type':'sandbox','" CRI "-o.ContainerType':'container','" CRI
		"-o.SandboxID':'s'",
		"annotations[\"" CRI "-o.SandboxID\"]: contradicts " CRI ".container-type");
}

/* Which namespaces may have a path. */
static void paths_are_for_pods(void **state)
{
	static const char single[] = "'a':'b'";
	static const char sandbox[] = "'" CRI ".container-type':'sandbox'";
	static const char joins[] = "'" CRI ".container-type':'container','" CRI ".sandbox-id':'s'";
	static const struct {
		const char *who, *type;
		bool ok;
	} cases[] = {
		{single, "ipc", false},	  {single, "pid", false}, {single, "uts", false},
		{sandbox, "ipc", true},	  {sandbox, "uts", true}, {sandbox, "pid", false},
		{joins, "ipc", true},	  {joins, "uts", true},	  {joins, "pid", true},
		{joins, "mount", false},  {joins, "user", true},  {joins, "cgroup", false},
		{sandbox, "user", false}, {joins, "time", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		/* the first two are needed in a pod */
		cleanup_free char *lnx =
			xasprintf(",{'type':'%s','path':'/proc/1/ns/x'}%s%s]", cases[i].type,
				  strcmp(cases[i].type, "pid") ? ",{'type':'pid'}" : "",
				  strcmp(cases[i].type, "ipc") ? ",{'type':'ipc'}" : "");
		cleanup_oci_spec struct oci_spec *spec = spec_of(cases[i].who, lnx);
		struct error err = ERROR_INIT;
		int r = oci_spec_supported(spec, &err);

		if ((r == 0) != cases[i].ok)
			fail_msg("%s of %s: %s", cases[i].type, cases[i].who, err.msg);
		if (r < 0)
			assert_ptr_equal(strstr(err.msg, "linux.namespaces[1].path: "), err.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(engines_say_who_is_what),
		cmocka_unit_test(podman_infra_is_a_sandbox),
		cmocka_unit_test(errors_name_the_annotation),
		cmocka_unit_test(paths_are_for_pods),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
