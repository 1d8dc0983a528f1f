/*
 * tree_cache.h - trees of what does not change, kept between containers: docs/rootfs.md, "The
 * cache".
 */
#ifndef HUSK_SHIM_TREE_CACHE_H
#define HUSK_SHIM_TREE_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"

#define TREE_CACHE_FILES 256
#define TREE_CACHE_BYTES (UINT64_C(1) << 30)
#define TREE_CACHE_AGE_S 60 /* younger ones stay: another create is about to use them */

/* Writes a tree to the empty file `out`. */
typedef int (*tree_make_fn)(void *arg, int out, struct error *err);

/* The tree that `identity` (any bytes) stands for: from the cache in `data`, or made and put there.
 * Returns a descriptor open for reading only, the caller's. A cache that cannot be used, or a full
 * disk, is no error: then the tree is in memory. Errors are those of `make`. */
int tree_cache_get(const char *data, const void *identity, size_t len, tree_make_fn make, void *arg,
		   struct error *err);

/* A tree in memory. */
int tree_in_memory(tree_make_fn make, void *arg, struct error *err);

/* Removes the longest unused trees until there are at most so many files and bytes; none of the
 * last `age_s` seconds. */
void tree_cache_trim(const char *data, unsigned files, uint64_t bytes, unsigned age_s);

#endif
