/*
 * validate.h - does a config.json that parsed make sense?
 *
 * What runtime-spec demands of the values together, what runc refuses before it starts anything,
 * and nothing that needs a look at the host. Refusals name the field and have kind ERR_INVALID;
 * what the specification allows and husk does not do is in oci/unsupported.h.
 */
#ifndef HUSK_OCI_VALIDATE_H
#define HUSK_OCI_VALIDATE_H

#include "oci/spec.h"

/* For `create` and `run`: process and root must be there. */
int oci_spec_validate(const struct oci_spec *spec, struct error *err);
/* For `exec`; fields are named `process.args`. */
int oci_process_validate(const struct oci_process *process, struct error *err);
/* For `update`; `path` is what to call the object in errors, such as "linux.resources". */
int oci_resources_validate(const struct oci_resources *resources, const char *path,
			   struct error *err);

/* Logs a warning for each thing that is accepted and has no effect, as runc does: unknown
 * capabilities, mount destinations that are not absolute (they are taken as below /), kernel
 * memory limits. Call it once, on the host. */
void oci_spec_warn(const struct oci_spec *spec);

/* True for "1.<minor>.<patch>" with an optional "-pre-release" and "+build" (semver 2.0). */
bool oci_version_supported(const char *version);

/* The file below /proc/sys of a sysctl in either notation ("net.ipv4.conf.eth0/1.forwarding",
 * "net/ipv4/conf/eth0.1/forwarding"), malloc'ed, or NULL if it is no such name: empty parts,
 * ".", "..", a leading or trailing separator. */
char *oci_sysctl_path(const char *name);

/* True for a list of numbers as cpusets have it: "0-3,7". */
bool oci_is_cpu_list(const char *s);

#endif
