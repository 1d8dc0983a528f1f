/*
 * unsupported.h - what the specification allows and husk refuses by name.
 *
 * The rule: never downgrade silently. A field that husk cannot honour is refused with
 * ERR_UNSUPPORTED and a message that names it; it is never dropped. When husk learns to do one of
 * these, its refusal goes from here, in the same change.
 */
#ifndef HUSK_OCI_UNSUPPORTED_H
#define HUSK_OCI_UNSUPPORTED_H

#include "oci/spec.h"

/* For a spec that oci_spec_validate() accepted. */
int oci_spec_supported(const struct oci_spec *spec, struct error *err);
/* For `exec`. */
int oci_process_supported(const struct oci_process *process, struct error *err);
/* For `update`; `path` as in oci_resources_validate(). */
int oci_resources_supported(const struct oci_resources *resources, const char *path,
			    struct error *err);

/* What of a mount is the host's: a bind mount, by type or option, whose source is a path; a volume,
 * whose source is a block device or image file with a file system that the guest can mount. */
bool oci_mount_is_bind(const struct oci_mount *m);
bool oci_mount_is_volume(const struct oci_mount *m);

#endif
