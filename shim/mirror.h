/*
 * mirror.h - keeps what host and guest both have alike while a container runs: a thread of the
 * proxy. Host to guest: what others write into the rootfs directory, and projected files. Guest to
 * host: projected files that the container writes. And `husk sync`, on sync.sock in the
 * container's directory. docs/rootfs.md.
 */
#ifndef HUSK_SHIM_MIRROR_H
#define HUSK_SHIM_MIRROR_H

#include "shim/agent_client.h"
#include "shim/record.h"

/* Annotation of a container: seconds between two syncs that nobody asks for. */
#define SYNC_ANNOTATION "io.husk.sync-interval"
/* Its value: 1 to 86400; NULL: none, *seconds is 0. ERR_INVALID names the annotation. */
int sync_interval(const char *text, unsigned *seconds, struct error *err);

struct mirror;

/* Begins in a thread of its own, a moment from now (short-lived containers never pay for it). What
 * it needs is read from the container's directory. */
struct mirror *mirror_start(const char *container, int dirfd, struct error *err);
/* Ends the thread; a push under way is finished, a sync is answered. Then, with the connections of
 * a guest that is still there (the container's processes are not): what changed last goes over.
 * Both NULL: the guest is gone. NULL for `m` is allowed. */
void mirror_stop(struct mirror *m, struct vmm_client *vmm, struct agent_client *a);

/* The other end: asks the proxy of a running container for a sync; waits for it.
 * ERR_NOT_RUNNING: nobody is there to ask. */
int mirror_ask_sync(int dirfd, int intr_fd, struct cs_counts *n, struct error *err);

#endif
