/* Mount tables and overlayfs's options: any text gives layers with absolute paths, or none. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/mountinfo.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct overlay_layers l;
	struct mount_entry m;

	for (uint64_t id = 36; id < 39; id++) {
		if (mountinfo_find(text, size, id, &m, NULL) <= 0)
			continue;
		if (!m.root || !m.point || !m.type || !m.source || !m.options)
			abort();
		mount_has_option(m.options, "ro", NULL);
		if (overlay_parse(m.options, &l)) {
			if (l.n == 0 || l.n > OVERLAY_LAYERS_MAX || (l.upper && l.upper[0] != '/'))
				abort();
			for (size_t i = 0; i < l.n; i++)
				if (l.lowers[i][0] != '/')
					abort();
			overlay_layers_free(&l);
		}
		mount_entry_free(&m);
	}
	return 0;
}
