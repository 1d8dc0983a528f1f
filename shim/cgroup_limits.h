/*
 * cgroup_limits.h - linux.resources as files of the host's cgroups (docs/cgroups.md, "What goes
 * where"). Pure.
 */
#ifndef HUSK_SHIM_CGROUP_LIMITS_H
#define HUSK_SHIM_CGROUP_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "oci/spec.h"

enum limit_controller { LIMIT_CPU, LIMIT_CPUSET, LIMIT_MEMORY, LIMIT_IO, LIMIT_CONTROLLERS };
enum limit_version { LIMIT_NONE, LIMIT_V1, LIMIT_V2 };

/* What the limits are for. */
struct limit_target {
	enum limit_version version[LIMIT_CONTROLLERS]; /* where this host has it */
	uint64_t machine_bytes; /* the guest's memory, which is what is bounded; 0: the limit
				   itself */
	uint64_t overhead_bytes;
};

struct cgroup_limit {
	enum limit_controller controller;
	char file[64];
	char *value;
	char instead[64]; /* where the kernel does not have `file`; "": nothing */
	char *instead_value;
	char *field;   /* below linux.resources: "memory.limit" */
	bool optional; /* the guest's kernel holds to it where the host's cannot */
};

struct cgroup_limits {
	struct cgroup_limit *v;
	size_t n;
};

/* v2's name of a controller. */
const char *limit_controller_name(enum limit_controller c);

/* The settings in the order in which they are to be written. A limit whose controller the host does
 * not have is an error that names it, unless the guest alone can hold to it. */
int cgroup_limits_build(const struct oci_resources *r, const struct limit_target *t,
			struct cgroup_limits *out, struct error *err);
void cgroup_limits_free(struct cgroup_limits *l);
#define cleanup_cgroup_limits __attribute__((cleanup(cgroup_limits_free)))

/* Whether anything is asked for that the host has to hold to. */
bool cgroup_limits_any(const struct oci_resources *r);

/* Whether a key of linux.resources.unified is the host's business; else it is the guest's. */
bool cgroup_limits_host_key(const char *key);

#endif
