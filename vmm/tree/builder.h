/*
 * builder.h - what the steps of tree_build() share: the walk (build.c), the inodes of a directory's
 * members (member.c), directories (dir.c), and the end (finish.c).
 */
#ifndef HUSK_VMM_TREE_BUILDER_H
#define HUSK_VMM_TREE_BUILDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lib/error.h"
#include "vmm/tree/build.h"
#include "vmm/tree/erofs.h"
#include "vmm/tree/format.h"
#include "vmm/tree/meta.h"
#include "vmm/tree/xattr.h"

#define NONE UINT32_MAX
#define DENTS_BYTES 65536u /* what getdents64() gets at once */

/* A name in a directory that is being read. "." and ".." are members like others. */
struct member {
	uint64_t key;  /* the first 8 bytes of the name, for the order */
	uint32_t name; /* in builder.names */
	uint32_t nid;
	uint32_t file; /* in the table of files, or NONE */
	uint32_t link; /* in builder.inodes, or NONE */
	uint32_t dir;  /* in the table of directories, or NONE */
	uint8_t len;
	uint8_t type; /* enum erofs_type; 0: it is gone */
};

/* An inode of the source with several names, of which some have been seen. */
struct linked {
	uint64_t dev, ino;
	uint32_t nid;
	uint32_t names;
	uint32_t next; /* with the same hash */
	uint8_t type;
	bool whiteout; /* overlayfs links them for its own reasons */
};

/* A directory that was entered and not yet written. Its members, and their names, are the tops of
 * the builder's stacks when it is the deepest. */
struct level {
	int fd; /* -1: closed, to have fewer open (reopened by way of "..") */
	uint32_t dir;
	uint32_t first, members; /* range of builder.members */
	uint32_t next;		 /* where the walk is */
	uint32_t names;		 /* where its names begin */
	uint32_t subdirs;
	bool pseudo; /* the root of a kernel file system: shown as empty */
	struct statx st;
};

struct builder {
	struct tree_build_options o;
	struct tree_stats stats;
	struct meta meta;
	struct xattrs xattrs;
	struct level *level;			 /* TREE_DEPTH_MAX + 1 of them */
	unsigned depth;				 /* levels in use */
	struct tbuf members, names;		 /* stacks */
	struct tbuf files, extents, dirs, links; /* the tables of the tree */
	struct tbuf dir_nids;			 /* of each directory: uint32_t nid */
	struct tbuf dotdots; /* of each directory: uint32_t, where its ".." is in the metadata */
	struct tbuf inodes;  /* struct linked */
	uint32_t *hash;	     /* heads of lists of them */
	uint32_t hash_size;
	struct tbuf chunks; /* of the file at hand: uint32_t each */
	uint64_t data_blocks;
	uint64_t inode_count;
	uint32_t root_at;     /* offset of the root's inode */
	uint32_t root_xattrs; /* bytes of xattrs behind it */
	bool chunked;	      /* some file is */
	bool warned_device;
	char *dents;
};

static inline struct member *member_at(const struct builder *b, uint32_t i)
{
	return (struct member *)(void *)b->members.p + i;
}

static inline const char *member_name(const struct builder *b, const struct member *m)
{
	return (const char *)b->names.p + m->name;
}

/* "a/b/c" of a member of the deepest level, or of that level itself (name NULL), malloc'ed and fit
 * for a message. */
char *builder_path(const struct builder *b, const char *name);
/* Puts that path before the message. */
int builder_wrap(const struct builder *b, const char *name, struct error *err);
int builder_oom(struct error *err);

/* member.c: looks at member i of the deepest level, and writes its inode unless it is a directory,
 * is gone, or has been written under another name. */
int member_read(struct builder *b, uint32_t i, struct error *err);
/* Whether statx failed because the name is not there any more. */
bool is_gone(int errnum);
void inode_fill(struct erofs_inode *in, const struct statx *st, enum erofs_layout layout,
		uint32_t xattrs);

/* dir.c */
int dir_read_names(struct builder *b, struct error *err); /* of the deepest level */
int dir_reserve_root(struct builder *b, struct error *err);
int dir_write(struct builder *b, uint32_t *nid, struct error *err); /* the deepest level */

/* finish.c: what needs to know all; then writes everything to `out`. */
int tree_finish(struct builder *b, int out, struct error *err);

#endif
