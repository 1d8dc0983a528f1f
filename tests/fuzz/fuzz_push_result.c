/* The guest's answer to a push of files. */
#include "lib/cleanup.h"
#include "shim/project_push.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of the exact size: a byte read behind it is seen. */
	cleanup_free char *text = malloc(size ? size : 1);
	struct error err = ERROR_INIT;

	memcpy(text, data, size);
	if (push_result_parse(text, size, &err) < 0 && (!err.msg[0] || strpbrk(err.msg, "\n\033")))
		abort();
	return 0;
}
