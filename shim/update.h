/*
 * update.h - new limits for a container that is there: what the command line and config.json make
 * of them together. Pure: JSON in, JSON out.
 */
#ifndef HUSK_SHIM_UPDATE_H
#define HUSK_SHIM_UPDATE_H

#include "lib/error.h"

/* The flags of `update`; NULL: not given. */
struct update_flags {
	const char *blkio_weight, *cpu_period, *cpu_quota, *cpu_burst, *cpu_share, *cpu_idle;
	const char *rt_period, *rt_runtime, *cpuset_cpus, *cpuset_mems;
	const char *memory, *memory_reservation, *memory_swap, *pids_limit;
};

/* The flags as the text of a linux.resources object. Errors (ERR_USAGE) name the flag. */
int update_from_flags(const struct update_flags *f, char **text, struct error *err);

/* What is to change, from the text of a linux.resources object that a caller gave, and the
 * container's config.json: members that are zero, which is how runc's callers say "as it is", are
 * left out, and where one is of use only with another (quota and period, swap and limit) the other
 * one is there. Device rules must be the container's own: they cannot be changed, and are left out.
 */
int update_complete(const char *given, const char *config, char **text, struct error *err);

/* config.json with what changed. */
int update_config(const char *config, const char *resources, char **text, struct error *err);

#endif
