/*
 * apply_priv.h - what the files of the receiver share: apply.c (the stream, directories, links),
 * apply_file.c (regular files), apply_make.c (attributes, other kinds, removal).
 */
#ifndef HUSK_LIB_CHANGESET_APPLY_PRIV_H
#define HUSK_LIB_CHANGESET_APPLY_PRIV_H

#include "lib/changeset/apply.h"
#include "lib/changeset/dirs.h"
#include "lib/changeset/reader.h"
#include "lib/changeset/xattrs.h"

#define COPY_SIZE (256u << 10)

/* A directory that is entered. */
struct level {
	size_t path_len;
	bool fresh;	   /* made by us: nothing was in it */
	bool default_acl;  /* what is made in it inherits attributes */
	struct cs_entry e; /* its own; xattrs are copies in `keep` */
	void *keep;
	uint64_t *named; /* hashes of the names that the stream has, if others are to go */
	size_t n_named, named_room;
};

/* What an entry with an id became. */
struct id_file {
	char *path; /* NULL: it was refused */
	dev_t dev;
	ino_t ino;
	mode_t type;
	size_t group; /* 1 + index in options.links; 0: none */
};

/* A name of a group, found by its path's hash. */
struct group_name {
	uint64_t hash;
	size_t group; /* 1 + index; 0: free */
	bool named;   /* the stream says what it is */
};

struct hash_set {
	uint64_t *v;
	size_t n, room; /* room: a power of two, or 0 */
};

struct apply {
	const struct cs_apply_options *o;
	struct cs_reader *r;
	struct cs_counts *n;
	struct error *err;
	bool overlay; /* the directory is an overlay's: a copy-up breaks links */
	int root;     /* the caller's */
	char *path;   /* of what the current record is about, relative to the root */
	size_t path_len, path_room;
	struct dirs dirs;
	struct level *level;
	size_t n_levels, levels_room;
	size_t skip; /* refused directories that are entered */
	unsigned warned;
	struct id_file *ids;
	size_t n_ids, ids_room, id_bytes;
	uint64_t link_id; /* whose descriptor link_fd is */
	int link_fd;
	struct group_name *group_names; /* open addressing */
	size_t group_room;		/* a power of two, or 0 */
	struct hash_set kept;		/* files with several names that were there and stay */
	size_t *groups;			/* indexes of options.links by inode number */
	struct xattr_list there;
	unsigned char *buf; /* COPY_SIZE */
};

/* apply.c */
uint64_t apply_hash(const char *s);
/* Makes a->path the path of `name` in the directory whose path has `dir_len` bytes. */
int apply_path_set(struct apply *a, size_t dir_len, const char *name);
const char *apply_path(const struct apply *a); /* "." for the root directory */
void apply_refuse(struct apply *a, const char *why);
void apply_note_changed(struct apply *a, const struct stat *st);
struct level *apply_level(struct apply *a);
/* True if content in the entry's place may stay: its other names are not of another file. */
bool apply_may_keep(struct apply *a, const struct cs_entry *e, const struct stat *st);
bool apply_same_time(const struct timespec *x, const struct timespec *y);

/* apply_file.c: a FILE entry in the directory `dirfd`. *st: what is there afterwards. */
int apply_file(struct apply *a, int dirfd, const struct cs_entry *e, struct stat *st);

/* apply_make.c */
/* Sets what differs from `have`. `clean`: a new file that has no attributes but those it was made
 * with. *changed is set if anything was; *have is not brought up to date. */
int apply_attrs(struct apply *a, const struct xattr_at *at, const struct cs_entry *e,
		const struct stat *have, bool clean, bool *changed);
/* SYMLINK, FIFO, SOCKET, CHAR, BLOCK. 1: applied; 0: refused. */
int apply_special(struct apply *a, int dirfd, const struct cs_entry *e, struct stat *st);
/* Removes `name` and all beneath it; not there is fine. a->path is its path. 1: was there. */
int apply_remove(struct apply *a, int dirfd, const char *name);
/* Puts CS_TEMPORARY in the place of `name`, which is there as `st` says. */
int apply_replace(struct apply *a, int dirfd, const char *name, const struct stat *st);
/* Removes a temporary name that an interrupted apply left. */
int apply_remove_temporary(struct apply *a, int dirfd);

#endif
