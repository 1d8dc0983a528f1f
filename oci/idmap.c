#include "oci/idmap.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/mount_options.h"

#include <inttypes.h>

char *oci_id_map_text(const struct oci_id_mapping *m, size_t n)
{
	char *text = xstrdup("");

	for (size_t i = 0; i < n; i++) {
		cleanup_free char *before = text;

		text = xasprintf("%s%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", before,
				 m[i].container_id, m[i].host_id, m[i].size);
	}
	return text;
}

bool oci_mount_idmap(const struct oci_spec *spec, const struct oci_mount *m, struct oci_idmap *out)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	const struct oci_linux *l = &spec->lnx;

	mount_options_parse(m->options, m->n_options, &o);
	*out = (struct oci_idmap){.recursive = o.idmap == MOUNT_IDMAP_RECURSIVE};
	if (m->n_uid_mappings) {
		out->uid_map = oci_id_map_text(m->uid_mappings, m->n_uid_mappings);
		out->gid_map = oci_id_map_text(m->gid_mappings, m->n_gid_mappings);
		return true;
	}
	if (o.idmap == MOUNT_IDMAP_NONE)
		return false;
	out->uid_map = oci_id_map_text(l->uid_mappings, l->n_uid_mappings);
	out->gid_map = oci_id_map_text(l->gid_mappings, l->n_gid_mappings);
	return true;
}

void oci_idmap_free(struct oci_idmap *m)
{
	free(m->uid_map);
	free(m->gid_map);
	*m = (struct oci_idmap){0};
}
