/*
 * dirs.h - a way down into a directory tree, and what is in a directory.
 *
 * A stack of directories, each one found in the one before by one name that is no link. Only the
 * lowest DIRS_OPEN are kept open, so that depth costs no descriptors: on the way up the others are
 * reopened as "..", and have to be the very directories that they were (device and inode number).
 */
#ifndef HUSK_LIB_CHANGESET_DIRS_H
#define HUSK_LIB_CHANGESET_DIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "lib/error.h"

#define DIRS_OPEN 64

struct dirs {
	struct dirs_level {
		int fd; /* -1: closed meanwhile */
		dev_t dev;
		ino_t ino;
	} * level;
	size_t n, room;
};

/* Pushes a directory; `fd` belongs to the stack from now on, also on error. `st` may be NULL. */
int dirs_push(struct dirs *d, int fd, struct stat *st, struct error *err);
/* Drops the lowest directory; the one above is open afterwards. */
int dirs_pop(struct dirs *d, struct error *err);
/* The lowest directory's descriptor. */
int dirs_fd(const struct dirs *d);
void dirs_free(struct dirs *d);

/* Opens the directory `name` in `dirfd`, which is no link; with `one_fs` it is no mount point
 * either (EXDEV). -1 and errno. */
int dirs_open(int dirfd, const char *name, bool one_fs);

struct dir_names {
	struct dir_name {
		unsigned long ino;
		unsigned char type; /* DT_*, may be DT_UNKNOWN */
		const char *name;
	} * v;
	size_t n;
	char *text;
};

/* Everything in the open directory `fd` but "." and "..", from its beginning. */
int dir_names_read(int fd, struct dir_names *l, struct error *err);
void dir_names_free(struct dir_names *l);

#endif
