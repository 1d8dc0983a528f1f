/* What a container sends to its notification socket. */
#include "agent/ready.h"
#include "lib/cleanup.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of the exact size: a byte read behind it is seen. */
	cleanup_free char *text = malloc(size ? size : 1);
	char line[PROTO_READY_MAX + 1];

	memcpy(text, data, size);
	if (ready_line(text, size, line) && (strncmp(line, "READY=", 6) != 0 || strchr(line, '\n')))
		abort();
	return 0;
}
