/*
 * changeset.h - what changed in a directory tree, as a stream of records.
 *
 * The one format for both directions: guest to host (the container's upper layer, at exit, live,
 * or after a crash) and host to guest (what an engine wrote, projected files). The sender is
 * collect.h, the receiver apply.h; reader.h is the parser below it. The sender may be hostile, so
 * that the format has nothing to resolve: directories are entered and left, a name is one
 * component.
 *
 * Theory of the format (all numbers little-endian):
 *
 *	"HUSKCS01"  then records: u8 type, u8 flags, u16 zero, u32 length of what follows
 *
 *	DIR, FILE, SYMLINK, FIFO, SOCKET, CHAR, BLOCK	an entry: fixed part, name, target, xattrs
 *	DATA		u64 offset, bytes: of the FILE entry before; ascending; what is not sent is
 *			a hole
 *	LEAVE		back to the parent directory
 *	LINK		u64 id, name: one more name of the entry with that id
 *	WHITEOUT	name: not there (any more)
 *	END		u64 number of records before it, u32 status (0: complete), text of an error
 *
 *	fixed part	u32 mode, uid, gid, nanoseconds; s64 seconds; u32 major, minor;
 *			u64 size, id, origin, origin_fs; u16 length of name, of target; u32 xattrs
 *	xattr		u16 length of its name, u16 zero, u32 length of its value, name, value
 *
 * Names and targets end with a NUL that their length counts. Ids are given in order: 1, 2, 3, ...
 *
 * A DIR named "." is the top directory itself: it comes first if at all, and has no LEAVE.
 * A DIR without CS_ATTRS only leads to what is beneath it: made if missing, otherwise as it is.
 * CS_OPAQUE: what the stream does not name in this directory is not there. In a directory the
 * sender sends symbolic links after everything else (a config map's ..data goes to a directory that
 * is there). A stream without END is not whole, whatever was in it.
 */
#ifndef HUSK_LIB_CHANGESET_CHANGESET_H
#define HUSK_LIB_CHANGESET_CHANGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define CS_MAGIC "HUSKCS01"
#define CS_NAME_MAX 255
#define CS_TARGET_MAX 4095
#define CS_DEPTH_MAX 1024		/* directories that are entered at one time */
#define CS_XATTRS_MAX 256		/* of one entry */
#define CS_XATTR_BYTES_MAX (128u << 10) /* names and values of one entry */
#define CS_DATA_MAX (256u << 10)	/* bytes of one DATA record */
#define CS_ERROR_MAX 1024		/* text in END */
#define CS_ENTRIES_MAX (16u << 20)	/* of a stream; a receiver may set less */

/* The one temporary name that a receiver uses in a directory: never sent, never accepted. */
#define CS_TEMPORARY ".husk-7013425618"

enum cs_type {
	CS_DIR = 1,
	CS_LEAVE,
	CS_FILE,
	CS_DATA,
	CS_SYMLINK,
	CS_FIFO,
	CS_SOCKET,
	CS_CHAR,
	CS_BLOCK,
	CS_LINK,
	CS_WHITEOUT,
	CS_END,
};

#define CS_OPAQUE 1u /* flag of DIR */
#define CS_ATTRS 2u  /* flag of DIR: mode, owner, times and xattrs are to be set */
/* Flag of any entry but DIR: a lower file with several names (`origin` says which) was changed, and
 * the name by which it was is gone. It is meant by those of its names that the stream leaves alone;
 * its own is none. Such entries come last, in the top directory. */
#define CS_NAMELESS 4u

struct cs_xattr {
	const char *name;
	const void *value;
	size_t len;
};

/* One entry; pointers belong to the reader (until its next cs_next) or to the sender. */
struct cs_entry {
	enum cs_type type;
	unsigned flags;
	const char *name;
	mode_t mode; /* permission bits only */
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
	uint32_t major, minor; /* CHAR, BLOCK */
	uint64_t size;	       /* FILE: bytes */
	uint64_t id;	       /* other than 0: LINK records may follow; LINK: the id meant */
	/* Inode number in its tree of the lower file that this is a copy of, or 0; and which tree:
	 * the first eight bytes of its UUID (little-endian), or 0. */
	uint64_t origin, origin_fs;
	const char *target; /* SYMLINK */
	const struct cs_xattr *xattrs;
	size_t n_xattrs;
};

struct cs_counts {
	uint64_t entries, whiteouts, links, data_bytes;
	uint64_t changed; /* apply: what was not like that already */
	uint64_t refused; /* apply: entries left out by policy, each warned of (bounded) */
};

#endif
