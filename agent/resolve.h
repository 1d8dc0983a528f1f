/*
 * resolve.h - paths beneath a container's root.
 *
 * An image may hold any symbolic link, and the agent works in the container's root before it is
 * anybody's root: every path of config.json goes through here. Resolution is openat2(2) with
 * RESOLVE_IN_ROOT, so that absolute links and ".." mean what they will mean inside.
 */
#ifndef HUSK_AGENT_RESOLVE_H
#define HUSK_AGENT_RESOLVE_H

#include <linux/openat2.h>
#include <stdbool.h>
#include <sys/types.h>

#include "lib/error.h"

/* openat2(2) with RESOLVE_IN_ROOT and O_CLOEXEC: an fd, or -1 with errno. */
int resolve_open(int root_fd, const char *path, int flags);

/* openat2(2) as it is. */
int resolve_how(int dir_fd, const char *path, const struct open_how *how);

enum resolve_want { RESOLVE_DIR, RESOLVE_FILE };

/* An O_PATH fd of `path`, which is made if it does not exist: missing directories with mode 0755,
 * and as the last part a directory (0755) or an empty file (0644). Symbolic links are followed,
 * also those whose target is missing: then the target is made. *created (may be NULL) tells. */
int resolve_make(int root_fd, const char *path, enum resolve_want want, bool *created,
		 struct error *err);

/* An O_PATH fd of the directory that holds `path`'s last part, made if missing. *name points into
 * `path`. For what is created by name (device nodes, links): the last part is not followed. */
int resolve_parent(int root_fd, const char *path, const char **name, struct error *err);

#endif
