/*
 * plan.h - what a container is to be, from its config.json, the command line, and the host's
 * settings, before anything of it is made.
 */
#ifndef HUSK_SHIM_PLAN_H
#define HUSK_SHIM_PLAN_H

#include "oci/pod.h"
#include "shim/mount_plan.h"
#include "shim/verbs.h"

struct plan {
	char *bundle, *config, *rootfs, *data;
	struct oci_spec *spec; /* not freed by plan_free(): it outlives the plan */
	struct oci_pod pod;
	struct mount_plan mounts;
	struct choice choice;
	char *console_log;		   /* file for what the guest says; NULL: none */
	uint64_t mem_bytes, scratch_bytes; /* of the machine; of its scratch disk */
	unsigned vcpus;
};

/* Parses and checks all that can be checked beforehand; errors name the file and its field.
 * `bundle` NULL: the current directory. To be freed, spec included, whatever this returns. */
int plan_load(const struct globals *g, const char *bundle, const char *id, struct plan *p,
	      struct error *err);
void plan_free(struct plan *p);

/* The network namespace that config.json names; NULL: the container has a new one. */
const char *plan_netns(const struct oci_spec *spec);
/* Names that field before an error about it. */
int plan_blame_netns(const struct oci_spec *spec, struct error *err);

#endif
