/* What `update --resources` reads, from a file or standard input, and a container's config.json:
 * the two, with a NUL between them. What comes out is JSON, and once more the same. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "shim/quantity.h"
#include "shim/update.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void try_words(const char *text)
{
	struct update_flags f = {.memory = text, .cpu_quota = text, .pids_limit = text};
	cleanup_free char *out = NULL;
	struct error err = ERROR_INIT;
	uint64_t us;

	quantity_duration(text, &us);
	expect(update_from_flags(&f, &out, &err) == 0 || err.kind == ERR_USAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *text = xcalloc(1, size + 2), *complete = NULL, *merged = NULL;
	cleanup_free char *again = NULL;
	const char *config;
	struct error err = ERROR_INIT;

	memcpy(text, data, size);
	config = text + strlen(text) + 1;
	try_words(text);
	if (update_complete(text, config, &complete, &err) < 0) {
		expect(err.msg[0]);
		return 0;
	}
	if (update_config(config, complete, &merged, &err) < 0)
		return 0;
	expect(update_complete(complete, merged, &again, &err) == 0);
	expect(strcmp(complete, again) == 0);
	return 0;
}
