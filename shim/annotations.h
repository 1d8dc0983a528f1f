/*
 * annotations.h - the annotations io.husk.* of config.json: which there are, and which ones whoever
 * writes a config.json may use on this host.
 *
 * With Kubernetes annotations come from users of the cluster, who are no administrators of its
 * hosts. So the configuration file says what they may set (`annotations`); without it they may size
 * a machine within the host's bounds, and choose how often changes are brought to the rootfs, but
 * neither engine nor kernel.
 */
#ifndef HUSK_SHIM_ANNOTATIONS_H
#define HUSK_SHIM_ANNOTATIONS_H

#include "oci/spec.h"
#include "shim/config_file.h"

#define ANNOTATION_PREFIX "io.husk."
#define ENGINE_ANNOTATION "io.husk.engine"
#define KERNEL_ANNOTATION "io.husk.kernel"
#define MEMORY_ANNOTATION "io.husk.memory"
#define VCPUS_ANNOTATION "io.husk.vcpus"

/* Those of which nobody knows, or that the host does not allow, are errors: ERR_INVALID,
 * ERR_UNSUPPORTED; they name the annotation. */
int annotations_check(const struct oci_spec *spec, const struct config_file *file,
		      struct error *err);
/* Whether the host lets config.json set it. */
bool annotation_allowed(const struct config_file *file, const char *name);
/* The names, NULL-terminated. */
extern const char *const annotation_names[];

#endif
