/*
 * idmap.h - mappings of ids: as the kernel takes them, and which one a mount has (config.md,
 * "Mounts"; config-linux.md, "User namespace mappings").
 */
#ifndef HUSK_OCI_IDMAP_H
#define HUSK_OCI_IDMAP_H

#include "oci/spec.h"

/* The text of a uid_map or gid_map, malloc'ed. */
char *oci_id_map_text(const struct oci_id_mapping *m, size_t n);

struct oci_idmap {
	char *uid_map, *gid_map; /* texts; owned */
	bool recursive;		 /* with the mounts beneath it (ridmap) */
};

/* True if the mount is to be id-mapped, and then what with: its own mappings, or with idmap and
 * ridmap alone those of the container's user namespace. `spec` is one that oci_spec_validate()
 * accepted. */
bool oci_mount_idmap(const struct oci_spec *spec, const struct oci_mount *m, struct oci_idmap *out);
void oci_idmap_free(struct oci_idmap *m);
#define cleanup_idmap __attribute__((cleanup(oci_idmap_free)))

#endif
