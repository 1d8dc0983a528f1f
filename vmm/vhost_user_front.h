/*
 * vhost_user_front.h - the vhost-user protocol, front-end side: another process serves a device's
 * queues, out of guest memory that it maps itself.
 *
 * For a back end that knows the split ring with EVENT_IDX and INDIRECT_DESC, as every one does that
 * is built on QEMU's or rust-vmm's library. It is not trusted: it gets guest memory and eventfds,
 * and may break what the guest keeps there; it gets no address of ours, and what it answers is
 * checked.
 */
#ifndef HUSK_VMM_VHOST_USER_FRONT_H
#define HUSK_VMM_VHOST_USER_FRONT_H

#include "lib/loop.h"
#include "vmm/virtqueue.h"

struct vhost_front;

/* Takes the connected socket `sock`, also on failure; the other end may accept the connection
 * later. `peer` is its name in messages; it must outlive the front end. `lost` is called from the
 * loop, once, when the connection ends or the back end breaks the protocol or keeps us waiting; the
 * front end must not be freed in there. From then on it starts nothing. */
struct vhost_front *vhost_front_new(struct loop *l, int sock, const char *peer,
				    void (*lost)(void *arg, const char *why), void *arg,
				    struct error *err);
void vhost_front_free(struct vhost_front *f);

/* Hands queue `i` over, which is set up and has its eventfds, beginning at its `last_avail`.
 * `features` are those that the driver accepted, the same for all queues that run at a time. Does
 * not wait. */
int vhost_front_start(struct vhost_front *f, uint64_t features, unsigned i,
		      const struct virtqueue *q, struct error *err);
/* Takes it back: when this returns no request of it is in flight, and the queue's `last_avail` says
 * how far the back end came. Waits for its answer, for a bounded time; if there is none, the
 * connection is ended and `lost` follows. */
void vhost_front_stop(struct vhost_front *f, unsigned i, struct virtqueue *q);

#endif
