/*
 * record.h - a container's changes on their way to its rootfs: docs/rootfs.md, "Changes".
 *
 * A record is the directory <data>/changes/<name>/ with the scratch disk, journal.json, and a
 * copy of the names of hard-linked lower files. It exists from `create` until the changes are in
 * the rootfs and the container is deleted. The lock (flock) is on the scratch's open file
 * description, which husk-vmm and the proxy share.
 */
#ifndef HUSK_SHIM_RECORD_H
#define HUSK_SHIM_RECORD_H

#include "lib/changeset/apply.h"
#include "shim/rootfs.h"

enum record_state {
	RECORD_ACTIVE,	/* the scratch may hold changes that the rootfs has not */
	RECORD_APPLIED, /* the rootfs has them all */
};

struct record {
	char *name; /* in <data>/changes/ */
	char *container;
	int dirfd;
	int scratch; /* open and locked, or -1 */
	enum record_state state;
	struct rootfs_id rootfs;
	bool unchanged; /* with RECORD_APPLIED: nothing had to be written to the rootfs */
	bool mknod;	/* the container was allowed to make device nodes */
	bool block;	/* the rootfs is a block device: changes come at the end only */
	char held[21];	/* serial of the disk that shows files which an apply may replace; "": none
			 */
	uint64_t read;	/* CLOCK_REALTIME in nanoseconds when the guest's view of the rootfs was
			 * taken; 0: not known */
	struct cs_link_group *links;
	size_t n_links;
};

/* A new name for a record of `container`; malloc'ed. */
char *record_name(const char *container);

/* Makes the record `name` with a fresh scratch of `bytes` (its template is made at first use) and
 * locks it. After a loss of power the record is sure to be there once record_sync() was called. */
int record_make(const char *data, const char *name, const char *container,
		const struct rootfs *rootfs, uint64_t bytes, bool mknod, int intr_fd,
		struct record *r, struct error *err);
/* Remembers what is known of a rootfs when it is built: `held` and `links`; before anything runs.
 */
int record_keep_rootfs(struct record *r, const struct rootfs *rootfs, struct error *err);
/* Brings what the record consists of to the disk: takes milliseconds, so that it is for later than
 * `create`. */
int record_sync(const struct record *r, struct error *err);
/* Opens an existing one; locked: waits at most wait_ms for whoever holds it (ERR_TIMEOUT).
 * ERR_NOT_FOUND: there is none. */
int record_open(const char *data, const char *name, bool locked, unsigned wait_ms, struct record *r,
		struct error *err);
/* With RECORD_APPLIED, r->unchanged is kept, too. That a record is applied is true until the host
 * starts again: what was applied may have got lost with the power, and is applied once more. */
int record_set_state(struct record *r, enum record_state state, struct error *err);
/* Something was applied while the container ran: r->unchanged is false from now on. */
int record_note_written(struct record *r, struct error *err);
/* Notes whose it is: the proxy of the container's first process. */
int record_note_proxy(const struct record *r, pid_t pid, uint64_t start, struct error *err);
/* False if that proxy has gone: who holds the lock then is on the way out, or recovers it. */
bool record_is_used(const struct record *r);
/* Removes one that nothing ever ran on, whole or not; nothing happens if there is none. */
int record_discard(const char *data, const char *name, struct error *err);
/* Removes it and its scratch; before that, what was applied to the rootfs is brought to its disk.
 */
int record_remove(const char *data, struct record *r, struct error *err);
void record_close(struct record *r);
#define cleanup_record __attribute__((cleanup(record_close)))

/* Names of the records, sorted, NULL-terminated (strv_free). */
char **record_list(const char *data, struct error *err);

#endif
