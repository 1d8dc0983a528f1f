/*
 * features.h - what `husk features` says (features.md, features-linux.md of runtime-spec 1.2).
 *
 * It is written from the tables that the parser uses, less what oci/unsupported.c refuses, so that
 * it cannot promise what a config.json would not get.
 */
#ifndef HUSK_OCI_FEATURES_H
#define HUSK_OCI_FEATURES_H

#include "oci/spec.h"

/* What only the caller knows. An absent truth value is left out: "unknown". */
struct oci_features {
	const char *version; /* of husk */
	const char *commit;  /* may be NULL */
	struct oci_opt_bool cgroup_v1;
	struct oci_opt_bool cgroup_v2;
	struct oci_opt_bool cgroup_systemd;
	/* NULL-terminated names of linux.memoryPolicy; NULL: left out. */
	const char *const *memory_modes, *const *memory_flags;
	bool checkpoint; /* are `checkpoint` and `restore` there? */
};

/* The JSON text, pretty, malloc'ed. */
int oci_features_write(const struct oci_features *f, char **text, size_t *len, struct error *err);

#endif
