/* mounts.json, which the proxy reads. */
#include "lib/cleanup.h"
#include "shim/mount_plan.h"

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
	cleanup_mount_plan struct mount_plan p = {0};
	struct error err = ERROR_INIT;

	memcpy(text, data, size);
	if (mount_plan_parse(text, size, &p, &err) < 0) {
		expect(err.msg[0] && p.n == 0 && !p.v);
		return 0;
	}
	expect(p.projects == p.n && p.shares == 0);
	for (size_t i = 0; i < p.n; i++)
		expect(p.v[i].from == MOUNT_FROM_PROJECT && p.v[i].name[0] &&
		       !strchr(p.v[i].name, '/') && p.v[i].source[0] == '/' && p.v[i].fd == -1);
	return 0;
}
