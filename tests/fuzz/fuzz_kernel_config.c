/* A kernel's configuration, of any bytes. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shim/kernel_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);

	free(kernel_config_lacks(text, true));
	free(kernel_config_lacks(text, false));
	free(text);
	return 0;
}
