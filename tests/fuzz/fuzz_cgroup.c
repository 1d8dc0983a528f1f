/* A container's place in the host's cgroups: mount tables, our own place, and linux.cgroupsPath, of
 * any bytes. Input: the three texts, divided by NUL. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/cgroup_host.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

/* No component leads anywhere else. */
static bool is_clean(const char *path)
{
	return path[0] == '/' && !strstr(path, "/../") && !strstr(path, "//") &&
	       (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0);
}

static void check_unit(const char *path)
{
	cleanup_free char *slice = NULL, *unit = NULL;

	if (cgroup_path_systemd(path, "id", &slice, &unit, NULL) == 0)
		expect(!strchr(slice, '/') && !strchr(unit, '/') && unit[0] && slice[0]);
	else
		expect(!slice && !unit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *text = xcalloc(1, size + 3);
	cleanup_cgroup_host struct cgroup_host h = {0};
	cleanup_free char *clean = NULL;
	const char *self, *path;

	memcpy(text, data, size);
	self = text + strlen(text) + 1;
	path = self < text + size ? self + strlen(self) + 1 : "";
	if (path > text + size || self > text + size)
		return 0;
	cgroup_host_parse(text, self, &h);
	clean = cgroup_path_clean(path);
	expect(is_clean(clean));
	check_unit(path);
	for (size_t i = 0; i < h.n; i++) {
		cleanup_free char *in = cgroup_path_in(&h.v[i], path, h.v[i].v2);

		expect(strncmp(in, h.v[i].mount, strlen(h.v[i].mount)) == 0);
		cgroup_host_of(&h, in);
		cgroup_hierarchy_has(&h.v[i], "memory");
	}
	cgroup_host_is_v2(&h);
	return 0;
}
