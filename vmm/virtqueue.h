/*
 * virtqueue.h - split virtqueues (virtio 1.2 §2.7) with VIRTIO_F_INDIRECT_DESC and
 * VIRTIO_F_EVENT_IDX, device side.
 *
 * A queue belongs to one thread at a time. All indices, addresses and lengths in it come from the
 * guest: a chain that breaks the specification (loops, lengths over VQ_CHAIN_BYTES_MAX, addresses
 * outside memory, too many descriptors) makes the queue `broken`: it gives nothing more until the
 * device is reset, and a warning is logged, at most a few times. Descriptors are copied once before
 * they are checked.
 */
#ifndef HUSK_VMM_VIRTQUEUE_H
#define HUSK_VMM_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vmm/mem.h"

#define VQ_SIZE_MAX 1024 /* entries; a power of two */
#define VQ_SEGS_MAX 130	 /* data segments in one chain: 128 + header + status */
/* Bytes of one chain: Linux reports 32 free blocks of 4 MiB in one (balloon.c). */
#define VQ_CHAIN_BYTES_MAX (128u << 20)

struct virtqueue {
	const char *name; /* for logs; may be NULL */
	const struct guest_mem *mem;
	uint16_t size; /* entries; 0: not set up */
	bool event_idx, indirect;
	bool broken;
	uint8_t warnings;	   /* how often the log was told; kept by vq_reset() */
	void *desc, *avail, *used; /* checked when set: the whole ring lies in memory */
	uint16_t last_avail;	   /* next entry of the available ring to take */
	uint16_t used_idx;
	uint16_t signalled; /* used_idx at the last call, for EVENT_IDX */
	bool signalled_valid;
	int kick_fd, call_fd; /* eventfds; -1: none. Owned by the transport */
};

/* One descriptor chain: device-readable segments first, then device-writable ones. */
struct vq_chain {
	uint16_t head;
	unsigned nread, nwrite;
	uint64_t read_bytes, write_bytes;
	struct iovec read[VQ_SEGS_MAX]; /* guest memory: read once, trust nothing twice */
	struct iovec write[VQ_SEGS_MAX];
};

/* A queue that is not set up and has no eventfds: a transport does this to each queue first. */
void vq_init(struct virtqueue *q);
/* Sets the ring up at host addresses that the caller took from mem_at*() with the lengths that
 * vq_*_bytes() give. `size` must be a power of two <= VQ_SIZE_MAX. The fds, `name`, `event_idx` and
 * `indirect` are the transport's to set and are kept. ERR_PEER on a bad size or misaligned rings
 * (§2.7). */
int vq_setup(struct virtqueue *q, const struct guest_mem *mem, uint16_t size, void *desc,
	     void *avail, void *used, uint16_t last_avail, struct error *err);
void vq_reset(struct virtqueue *q); /* not set up any more; keeps what vq_setup() keeps */
uint64_t vq_desc_bytes(uint16_t size);
uint64_t vq_avail_bytes(uint16_t size);
uint64_t vq_used_bytes(uint16_t size);

/* Takes the next available chain. 1: *c is filled; 0: none; -1: the queue is broken. */
int vq_pop(struct virtqueue *q, struct vq_chain *c);
/* Puts the chain popped last back, as if it had not been popped. */
void vq_unpop(struct virtqueue *q);
bool vq_empty(struct virtqueue *q);
/* Returns a chain to the driver; `written` bytes of its writable part were filled. */
void vq_push(struct virtqueue *q, uint16_t head, uint32_t written);
/* The same in two steps, for chains that the driver must see together (§5.1.6.4): any number of
 * vq_fill(), then vq_flush(). */
void vq_fill(struct virtqueue *q, uint16_t head, uint32_t written);
void vq_flush(struct virtqueue *q);
/* Calls the driver if it wants to hear of the pushes since the last call (§2.7.7). */
void vq_notify(struct virtqueue *q);
/* Kicks off while the device polls, on before it sleeps. vq_kicks_on() returns true if entries
 * became available meanwhile: go round once more (§2.7.10). */
void vq_kicks_off(struct virtqueue *q);
bool vq_kicks_on(struct virtqueue *q);

/* Copies between a chain's segments and a buffer, from byte `off` of the readable (writable) part.
 * Returns the bytes copied. */
uint64_t vq_read(const struct vq_chain *c, uint64_t off, void *buf, uint64_t len);
uint64_t vq_write(const struct vq_chain *c, uint64_t off, const void *buf, uint64_t len);

#endif
