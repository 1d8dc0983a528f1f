/*
 * writeback.h - brings a container's changes from the guest, or from its scratch, to its rootfs.
 */
#ifndef HUSK_SHIM_WRITEBACK_H
#define HUSK_SHIM_WRITEBACK_H

#include "shim/agent_client.h"
#include "shim/record.h"

/* For live syncs: what an apply must tell others. */
struct writeback_hooks {
	int (*before_replace)(void *arg, const char *path, struct error *err);
	void (*changed)(void *arg, const char *path, const struct stat *st);
	void *arg;
};

/* Streams the root's changes of a running guest's container and applies them. The record's rootfs
 * must be what it was (ERR_NOT_FOUND otherwise). `hooks` may be NULL. Does not change the record's
 * state. */
int writeback_live(struct vmm_client *vmm, struct agent_client *a, struct record *r,
		   const struct writeback_hooks *hooks, struct cs_counts *n, struct error *err);

/* Boots a guest for nothing but reading the record's scratch, applies, marks it applied. The record
 * is locked by the caller. `wish`: which engine and kernel. */
int writeback_recover(struct record *r, const struct choice_wish *wish, int intr_fd,
		      struct error *err);
/* The same, and tells how much it was. */
int writeback_recover_counted(struct record *r, const struct choice_wish *wish, int intr_fd,
			      struct cs_counts *n, struct error *err);

/* Recovers every record of the rootfs `id` that nobody runs, and removes it; drops records whose
 * rootfs is gone for good. For `create`. */
int writeback_recover_rootfs(const char *data, const struct rootfs_id *id,
			     const struct choice_wish *wish, int intr_fd, struct error *err);

#endif
