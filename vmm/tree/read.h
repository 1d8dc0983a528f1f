/*
 * read.h - a tree that was built: checked, mapped, looked up.
 */
#ifndef HUSK_VMM_TREE_READ_H
#define HUSK_VMM_TREE_READ_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

struct tree;

/* Maps it. Takes `fd` over, also on failure. `verify`: checks the CRC32C over all of it, too. What
 * is no tree, or is cut off, is ERR_INVALID. */
struct tree *tree_open(int fd, bool verify, struct error *err);
void tree_free(struct tree *t);

uint64_t tree_image_bytes(const struct tree *t);
uint64_t tree_hard_links(const struct tree *t);

/* Calls fn for each name of each file that has several; grouped by `ino`, the inode number in the
 * image. `path` is relative to the root. A non-zero return ends it and is returned. */
int tree_each_link(const struct tree *t, int (*fn)(void *arg, uint64_t ino, const char *path),
		   void *arg);

#endif
