/*
 * image.h - looking into a tree, for those that serve its image. Everything is checked when it is
 * followed: -EIO (or false) for a tree that contradicts itself.
 */
#ifndef HUSK_VMM_TREE_IMAGE_H
#define HUSK_VMM_TREE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/tree/format.h"
#include "vmm/tree/read.h"

/* The metadata: the image's first *len bytes. */
const uint8_t *tree_meta(const struct tree *t, uint64_t *len);
bool tree_inodes_unstable(const struct tree *t);

/* Whose data is at byte `off` of the image (not below the metadata's end). */
struct tree_piece {
	uint32_t file;
	uint64_t file_off; /* of the byte at `off` */
	uint64_t bytes;	   /* of the image that belong to the file from there on */
	uint64_t size;	   /* of the file, when the tree was made */
};
int tree_piece(const struct tree *t, uint64_t off, struct tree_piece *p);

uint32_t tree_files(const struct tree *t);
/* The inode number that the file had in the source. */
uint64_t tree_file_ino(const struct tree *t, uint32_t file);

/* A file's name and those of the directories above it, the root's child first. Valid as long as
 * the tree is. */
struct tree_name {
	const char *p; /* not NUL-terminated; no "/", NUL, "." or ".." */
	uint8_t len;
};
struct tree_path {
	unsigned n;
	struct tree_name name[TREE_DEPTH_MAX + 1];
};
int tree_file_path(const struct tree *t, uint32_t file, struct tree_path *p);
/* As one string, malloc'ed; NULL if the tree is corrupt. */
char *tree_file_text(const struct tree *t, uint32_t file);

/* Which file of the table `path` leads to in the image's directories. 1: found; 0: there is none,
 * or it has no data; -EIO. */
int tree_lookup(const struct tree *t, const char *path, uint32_t *file);

#endif
