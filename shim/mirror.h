/*
 * mirror.h - keeps what host and guest both have alike while a container runs: a thread of the
 * proxy. Host to guest: what others write into the rootfs directory, and projected files. Guest to
 * host: projected files that the container writes. And `husk sync`, on sync.sock in the
 * container's directory. docs/rootfs.md.
 */
#ifndef HUSK_SHIM_MIRROR_H
#define HUSK_SHIM_MIRROR_H

#include "shim/record.h"

struct mirror;

/* Begins in a thread of its own, a moment from now (short-lived containers never pay for it). What
 * it needs is read from the container's directory. */
struct mirror *mirror_start(const char *container, int dirfd, struct error *err);
/* Ends the thread; a push under way is finished, a sync is answered. NULL is allowed. */
void mirror_stop(struct mirror *m);

/* The other end: asks the proxy of a running container for a sync; waits for it. */
int mirror_ask_sync(int dirfd, int intr_fd, struct cs_counts *n, struct error *err);

#endif
