/*
 * device.h - what a virtio device is to its transport: vhost-user or virtio-mmio.
 *
 * A device is a set of functions over guest memory, virtqueues and kick/call eventfds. The
 * transport owns feature negotiation, ring addresses and the eventfds; the device owns what a
 * request means. The life of a device as the transport drives it:
 *
 *	features -> set_features -> start_queue(q) ... stop_queue(q) -> (again)
 *
 * stop_queue() returns only when no request of that queue is in flight: afterwards guest memory
 * may be unmapped. A reset is stop_queue() of every queue. A device serves its queues in the
 * loop's thread or in a thread of its own, but never one queue in two.
 */
#ifndef HUSK_VMM_DEVICE_H
#define HUSK_VMM_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/loop.h"
#include "vmm/virtqueue.h"

#define VIRTIO_ID_NET 1
#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_RNG 4
#define VIRTIO_ID_BALLOON 5
#define VIRTIO_ID_VSOCK 19
#define VIRTIO_ID_FS 26

#define VIRTIO_F_INDIRECT_DESC 28
#define VIRTIO_F_EVENT_IDX 29
#define VIRTIO_F_VERSION_1 32

#define DEVICE_QUEUES_MAX 17 /* a network card's: 8 pairs and the control queue */

struct virtio_device;

struct virtio_device_ops {
	const char *name; /* "block", "vsock", ... for logs */
	uint32_t id;	  /* VIRTIO_ID_* */
	unsigned nqueues;
	uint16_t queue_size; /* the most entries of a queue, a power of two; 0: 256 (virtio-mmio) */
	/* Bits offered (without the transport's own). */
	uint64_t (*features)(struct virtio_device *d);
	/* Configuration space (§2.5): fills buf with bytes [off, off + len); zeros past its end. */
	void (*read_config)(struct virtio_device *d, uint32_t off, void *buf, uint32_t len);
	void (*write_config)(struct virtio_device *d, uint32_t off, const void *buf, uint32_t len);
	/* d->vq[q] is set up and has its eventfds: serve it. Queues that the driver did not set up
	 * are not started. */
	int (*start_queue)(struct virtio_device *d, unsigned q, struct error *err);
	void (*stop_queue)(struct virtio_device *d, unsigned q);
	void (*destroy)(struct virtio_device *d);
};

struct virtio_device {
	const struct virtio_device_ops *ops;
	struct loop *loop;
	uint64_t acked; /* features that the driver accepted */
	struct virtqueue vq[DEVICE_QUEUES_MAX];
	bool running[DEVICE_QUEUES_MAX];
	/* Set by the transport: tells the driver that the configuration space changed. */
	void (*config_changed)(struct virtio_device *d, void *arg);
	void *transport;
};

static inline bool virtio_has(const struct virtio_device *d, unsigned bit)
{
	return d->acked >> bit & 1;
}

/* ---- the devices. Each function returns a device that its `destroy` frees. */

struct block_source; /* vmm/source.h */

/* virtio-blk (§5.2) slot. It starts empty: capacity 0, every request but GET_ID fails. The serial
 * is the slot's as long as a source is attached (20 bytes at most, §5.2.6.1). A `readonly` slot
 * offers VIRTIO_BLK_F_RO for ever and takes read-only sources; writes to a read-only source fail
 * in any slot. */
struct virtio_device *blk_new(struct loop *l, bool readonly, struct error *err);
bool blk_readonly(const struct virtio_device *d);
bool blk_attached(const struct virtio_device *d);
const char *blk_serial(const struct virtio_device *d);
/* Gives the slot a source and announces the new capacity. The source is the slot's from now on,
 * also on failure; it is freed at detach. ERR_EXISTS: not empty; ERR_INVALID: bad serial, or a
 * writable source for a read-only slot. */
int blk_attach(struct virtio_device *d, const char *serial, struct block_source *src,
	       struct error *err);
/* Takes it away: waits for requests in flight, then capacity 0. */
void blk_detach(struct virtio_device *d);

/* virtio-rng (§5.4), from getrandom(2), rate-limited. */
struct virtio_device *rng_new(struct loop *l, struct error *err);

/* virtio-balloon (§5.5) with DEFLATE_ON_OOM and free-page reporting: what the guest does not use
 * goes back to the host. `mem` is the memory that is punched (the machine's, set before the queues
 * start). Its target is set by balloon_set_target() (vmm/virtio/balloon.h), at first 0. */
struct virtio_device *balloon_new(struct loop *l, struct error *err);

/* virtio-fs (§5.11) with tag "husk": the queues are served by a virtiofsd at the other end of the
 * vhost-user socket `sock` (taken, also on failure); this is the front end. `lost` is called from
 * the loop, once, when the connection ends or virtiofsd breaks the protocol. Guest memory's
 * descriptors are in its regions (mem.h). Engine kvm only: QEMU has its own front end. */
struct virtio_device *fs_new(struct loop *l, int sock, void (*lost)(void *arg, const char *why),
			     void *arg, struct error *err);

/* virtio-net (§5.1) on a TAP with a vnet header (taken, also on failure); vmm/virtio/net.h. */

/* virtio-vsock (§5.10), guest CID 3. See vmm/virtio/vsock.h for its host side. */
struct virtio_device *vsock_new(struct loop *l, struct error *err);

#endif
