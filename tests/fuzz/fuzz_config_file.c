/* husk's configuration file: what is taken is what may be said, and nothing of it is lost. */
#include "lib/cleanup.h"
#include "shim/choice.h"
#include "shim/config_file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of the exact size: a byte read behind it is seen. */
	cleanup_free char *text = malloc(size ? size : 1);
	cleanup_config_file struct config_file c = {0};
	struct error err = ERROR_INIT;

	memcpy(text, data, size);
	if (config_file_parse(text, size, &c, &err) < 0) {
		expect(err.kind == ERR_INVALID && err.msg[0]);
		expect(!c.engine && !c.kernel && !c.qemu && !c.console && !c.annotations.v);
		return 0;
	}
	expect(!c.engine || choice_is_word(c.engine));
	expect(!c.kernel || c.kernel[0] == '/');
	expect(!c.qemu || c.qemu[0] == '/');
	expect(!c.console || c.console[0] == '/');
	expect(c.memory.def <= MACHINE_MEM_MAX && c.memory.max <= MACHINE_MEM_MAX &&
	       c.memory.pod <= MACHINE_MEM_MAX && c.memory.def % (1 << 20) == 0);
	expect(!c.memory.max || (c.memory.def <= c.memory.max && c.memory.pod <= c.memory.max));
	expect(c.vcpus.def <= MACHINE_VCPUS_MAX && c.vcpus.pod <= MACHINE_VCPUS_MAX);
	for (size_t i = 0; i < c.annotations.n; i++)
		config_list_has(&c.annotations, c.annotations.v[i]);
	for (size_t i = 0; i < c.kernels.n; i++)
		expect(c.kernels.v[i][0] == '/');
	return 0;
}
