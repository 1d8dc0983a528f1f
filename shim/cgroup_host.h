/*
 * cgroup_host.h - which cgroup hierarchies this host has, and where a container's directory is in
 * them.
 */
#ifndef HUSK_SHIM_CGROUP_HOST_H
#define HUSK_SHIM_CGROUP_HOST_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/error.h"

struct cgroup_hierarchy {
	char *mount; /* where it is mounted */
	char *names; /* its controllers, by commas ("cpu,cpuacct", "name=systemd"); of v2: those of
			its root, by blanks */
	char *own;   /* this process's cgroup, from the mount's root: "/", "/a/b" */
	bool v2;
	bool writable;
};

struct cgroup_host {
	struct cgroup_hierarchy *v;
	size_t n;
};

/* The hierarchies in texts of /proc/self/mountinfo and /proc/self/cgroup; the controllers of v2
 * are not in them (names ""). */
void cgroup_host_parse(const char *mountinfo, const char *self, struct cgroup_host *h);
/* Those of this host, as this process sees it. */
int cgroup_host_read(struct cgroup_host *h, struct error *err);
void cgroup_host_free(struct cgroup_host *h);
#define cleanup_cgroup_host __attribute__((cleanup(cgroup_host_free)))

/* Whether `word` is one of those in `list`, which `sep` divides. */
bool cgroup_names_have(const char *list, char sep, const char *word);

/* Some of v2, none of v1. */
bool cgroup_host_is_v2(const struct cgroup_host *h);
/* Whether the hierarchy has the controller, by v2's name: "io" is also v1's blkio. */
bool cgroup_hierarchy_has(const struct cgroup_hierarchy *h, const char *controller);
/* The one that has it; NULL: none. */
const struct cgroup_hierarchy *cgroup_host_find(const struct cgroup_host *h,
						const char *controller);
/* The one that a path is in; NULL: none. */
const struct cgroup_hierarchy *cgroup_host_of(const struct cgroup_host *h, const char *path);

/* linux.cgroupsPath without "", "." and "..", which lead nowhere above the root. It begins with a
 * slash; malloc'ed. */
char *cgroup_path_clean(const char *path);
/* The container's directory (cgroupfs), malloc'ed. `path` as in config.json: absolute, below the
 * hierarchy's root; else below our own cgroup, or (where that could not have any below it) beside
 * it. */
char *cgroup_path_in(const struct cgroup_hierarchy *h, const char *path, bool beside);

/* "slice:prefix:name" of --systemd-cgroup; NULL: husk's own. Both malloc'ed. */
int cgroup_path_systemd(const char *path, const char *id, char **slice, char **unit,
			struct error *err);

#endif
