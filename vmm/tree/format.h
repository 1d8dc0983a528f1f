/*
 * format.h - a tree: an EROFS image whose metadata is here and whose file data is elsewhere.
 *
 * husk writes it (build.h), husk-vmm maps it read-only and checks every reference before it
 * follows it (read.h): a tree comes from a cache on disk, and a bit of it may have changed.
 *
 *	header		one block
 *	metadata	the image's first blocks, as they are
 *	extents		sorted by image block: which file's which block begins there
 *	files		parent directory, name (a range of the metadata: a dirent's), size, inode
 *	dirs		parent directory, name, in the same way
 *	links		hard-linked files: inode number in the image, and all names
 */
#ifndef HUSK_VMM_TREE_FORMAT_H
#define HUSK_VMM_TREE_FORMAT_H

#include <stdint.h>

#define TREE_MAGIC "HUSKTREE"
#define TREE_VERSION 1
#define TREE_BLOCK 4096u

/* Limits of what becomes a tree; each has an error that names it and the path. */
#define TREE_FILES_MAX (16u << 20)	  /* members of all kinds */
#define TREE_DEPTH_MAX 1024		  /* directories below one another */
#define TREE_META_MAX (UINT64_C(2) << 30) /* bytes of metadata */
#define TREE_XATTR_MAX (64u << 10)	  /* bytes of one file's xattrs */

#endif
