/*
 * filesystem.h - a new file system instance, as a mount that is nowhere yet.
 */
#ifndef HUSK_AGENT_FILESYSTEM_H
#define HUSK_AGENT_FILESYSTEM_H

#include <stdbool.h>

#include "lib/error.h"
#include "oci/mount_options.h"

struct filesystem {
	const char *type;   /* as the kernel calls it */
	const char *source; /* device node, tag, or only a name */
	const char *mode;   /* of the root directory unless the options say otherwise; NULL: none */
	bool readonly;	    /* the instance, not only the mount */
	const struct mount_options *o; /* flags of the instance (sync, ...) and its own words */
};

/* An fd of the detached mount, to be given attributes and moved to its place. Errors have the
 * kernel's words where it has any. */
int filesystem_make(const struct filesystem *f, struct error *err);

/* Moves the detached mount `fd` to what `at` (may be O_PATH) is. */
int filesystem_attach(int fd, int at, struct error *err);

#endif
