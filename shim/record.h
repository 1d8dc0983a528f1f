/*
 * record.h - a container's changes on their way to its rootfs: docs/rootfs.md, "Changes".
 *
 * A record is the directory <data>/changes/<name>/ with the scratch disk, journal.json, and a
 * copy of the names of hard-linked lower files. It exists from `create` until the changes are in
 * the rootfs and the container is deleted. The lock is on the scratch: husk-vmm and the proxy share
 * it.
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
	bool mknod; /* the container was allowed to make device nodes */
	bool block; /* the rootfs is a block device: changes come at the end only */
	struct cs_link_group *links;
	size_t n_links;
};

/* Makes a record with a fresh scratch of `bytes` (its template is made at first use) and locks it.
 * `tree`: whose hard links are remembered; -1: none. */
int record_make(const char *data, const char *container, const struct rootfs *rootfs,
		uint64_t bytes, bool mknod, int intr_fd, struct record *r, struct error *err);
/* Opens an existing one; locked: waits at most wait_ms for whoever holds it (ERR_TIMEOUT).
 * ERR_NOT_FOUND: there is none. */
int record_open(const char *data, const char *name, bool locked, unsigned wait_ms, struct record *r,
		struct error *err);
int record_set_state(struct record *r, enum record_state state, struct error *err);
/* Removes it and its scratch. */
int record_remove(const char *data, struct record *r, struct error *err);
void record_close(struct record *r);
#define cleanup_record __attribute__((cleanup(record_close)))

/* Names of the records, NULL-terminated (strv_free). */
char **record_list(const char *data, struct error *err);

#endif
