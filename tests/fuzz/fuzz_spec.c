/* config.json, a process file and a resources file: parse, validate, look for what is refused,
 * free. Whatever the bytes, a failure names its cause and nothing is leaked. */
#include "oci/mount_options.h"
#include "oci/signal.h"
#include "oci/spec.h"
#include "oci/unsupported.h"
#include "oci/validate.h"
#include "lib/cleanup.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void expect_result(int r, const struct error *err)
{
	expect(r == 0 || (r == -1 && err->msg[0]));
}

static void try_spec(const char *text, size_t len)
{
	cleanup_oci_spec struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;
	int r = oci_spec_parse(text, len, &s, &err);

	expect_result(r, &err);
	expect((r == 0) == (s != NULL));
	if (!s)
		return;
	r = oci_spec_validate(s, &err);
	expect_result(r, &err);
	/* The agent sorts the options of every mount, refused by the host or not. */
	for (size_t i = 0; i < s->n_mounts; i++) {
		cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;

		mount_options_parse(s->mounts[i].options, s->mounts[i].n_options, &o);
		expect(o.n_propagation <= s->mounts[i].n_options);
		expect(!(o.flags & o.clear_flags));
	}
	expect_result(oci_spec_supported(s, &err), &err);
	if (r == 0)
		expect(oci_spec_annotation(s, "") == NULL && s->process->args[0][0]);
}

static void try_process(const char *text, size_t len)
{
	cleanup_oci_process struct oci_process *p = NULL;
	struct error err = ERROR_INIT;

	expect_result(oci_process_parse(text, len, &p, &err), &err);
	if (!p)
		return;
	expect_result(oci_process_validate(p, &err), &err);
	expect_result(oci_process_supported(p, &err), &err);
}

static void try_resources(const char *text, size_t len)
{
	cleanup_oci_resources struct oci_resources *r = NULL;
	struct error err = ERROR_INIT;

	expect_result(oci_resources_parse(text, len, &r, &err), &err);
	if (!r)
		return;
	expect_result(oci_resources_validate(r, "resources", &err), &err);
	expect_result(oci_resources_supported(r, "resources", &err), &err);
}

static void try_words(const char *text, size_t len)
{
	cleanup_free char *word = strndup(text, len < 64 ? len : 64);
	cleanup_free char *path = oci_sysctl_path(word);
	int sig = oci_signal_parse(word, NULL);

	expect(sig >= -1 && sig <= 64);
	expect(!path || (path[0] != '/' && !strstr(path, "//")));
	oci_version_supported(word);
	oci_is_cpu_list(word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of the exact size: a byte read behind it is seen. */
	cleanup_free char *text = malloc(size ? size : 1);

	memcpy(text, data, size);
	try_spec(text, size);
	try_process(text, size);
	try_resources(text, size);
	try_words(text, size);
	return 0;
}
