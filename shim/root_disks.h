/*
 * root_disks.h - the disks that a container's root is made of, and the record of its changes, while
 * a container is made.
 */
#ifndef HUSK_SHIM_ROOT_DISKS_H
#define HUSK_SHIM_ROOT_DISKS_H

#include "oci/spec.h"
#include "shim/record.h"
#include "shim/rootfs.h"
#include "shim/vmm_client.h"

struct root_disks {
	const char *data;		/* the data directory; the caller's */
	const struct choice_wish *wish; /* for VMs that recover changes */
	int intr_fd;
	const char *
		tag; /* ends the serials of the disks, with a dot before it; NULL: they have none */
	bool writable; /* wanted; not if the rootfs is mounted read-only */
	struct rootfs rootfs;
	struct record record; /* if writable */
};

/* Looks at the rootfs, and brings there what crashed containers left behind. Sets rootfs.n_disks,
 * the number of read-only slots that it will take at most. Fields above `rootfs` are set. */
int root_disks_open(struct root_disks *d, const char *path, bool hooks, struct error *err);
/* Makes the record with a scratch disk of `bytes` (none for a read-only root). */
int root_disks_make_record(struct root_disks *d, const char *name, const char *container,
			   const struct oci_spec *spec, uint64_t bytes, struct error *err);
/* Reads the rootfs: after hooks ran. */
int root_disks_build(struct root_disks *d, struct error *err);
int root_disks_attach(const struct root_disks *d, struct vmm_client *vmm, struct error *err);
/* The member `root` of the agent's `create`, malloc'ed. */
char *root_disks_text(const struct root_disks *d, struct error *err);
void root_disks_free(struct root_disks *d);

/* When a container that has stopped is deleted: brings the changes of its record (NULL: none) to
 * the rootfs if they are not there, and removes the record. `started`: something may have run on
 * it. `force`: what cannot be brought there is kept, with a warning, and that is no error. */
int root_changes_settle(const char *record, const char *container, bool started, bool force,
			const struct choice_wish *wish, int intr_fd, struct error *err);
/* The same, with force, for a container whose state is lost: for all records of that name which
 * nobody holds. */
int root_changes_settle_unknown(const char *container, const struct choice_wish *wish, int intr_fd,
				struct error *err);

#endif
