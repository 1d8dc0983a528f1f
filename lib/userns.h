/* userns.h - user namespaces that nobody is in: what mount_setattr(2) takes a mapping from. */
#ifndef HUSK_LIB_USERNS_H
#define HUSK_LIB_USERNS_H

#include "lib/error.h"

/* A new user namespace whose uid_map and gid_map have these texts ("0 100000 65536\n", several
 * lines); the descriptor keeps it. */
int userns_make(const char *uid_map, const char *gid_map, struct error *err);

#endif
