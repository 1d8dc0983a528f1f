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
 *
 * The tables follow one another without gaps, in this order. Empty files and such as are nothing
 * but a hole have no blocks, and are not among the files.
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
#define TREE_IMAGE_BLOCKS_MAX UINT32_MAX  /* block numbers have 32 bits, and one says "none" */

#define TREE_INODES_UNSTABLE 1u /* header flags: inode numbers of files are not to be compared */

struct tree_header {
	char magic[8];
	uint32_t version;
	uint32_t crc; /* CRC32C of the whole tree, this field 0 */
	uint32_t flags;
	uint32_t meta_blocks;
	uint64_t image_blocks;
	uint64_t bytes;			      /* of the tree */
	uint64_t extents, files, dirs, links; /* entries of each table */
	uint64_t hard_links;		      /* files that `links` is about */
};

/* A name is `len` bytes from byte `name` of the metadata on. */

/* Block `block` behind the metadata is block `file_block` of the file, and so on up to the next
 * extent. */
struct tree_extent {
	uint32_t block;
	uint32_t file;
	uint64_t file_block;
};

struct tree_file {
	uint64_t ino; /* in the source */
	uint64_t size;
	uint32_t dir;
	uint32_t name;
	uint32_t nid;
	uint8_t len;
	uint8_t reserved[3];
};

/* Directory 0 is the root, without a name. A parent comes before its children. */
struct tree_dir {
	uint32_t parent;
	uint32_t name;
	uint8_t len;
	uint8_t reserved[3];
};

/* One name of a file; all names of a file follow one another. */
struct tree_link {
	uint32_t nid;
	uint32_t dir;
	uint32_t name;
	uint8_t len;
	uint8_t reserved[3];
};

_Static_assert(sizeof(struct tree_header) == 80 && sizeof(struct tree_extent) == 16 &&
		       sizeof(struct tree_file) == 32 && sizeof(struct tree_dir) == 12 &&
		       sizeof(struct tree_link) == 16,
	       "tables of a tree have no padding");

#endif
