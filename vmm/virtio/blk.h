/*
 * blk.h - what a virtio-blk slot counts (see blk.c; the device itself is in vmm/device.h).
 */
#ifndef HUSK_VMM_BLK_H
#define HUSK_VMM_BLK_H

#include "vmm/device.h"
#include "vmm/ratelimit.h"

struct blk_stats {
	uint64_t reads, writes, read_bytes, write_bytes; /* successful IN and OUT requests */
	uint64_t flushes;				 /* FLUSH requests that a source got */
	uint64_t discards; /* ranges of successful DISCARD and WRITE_ZEROES requests */
	uint64_t errors;   /* requests not answered with OK */
	uint64_t throttled, throttled_us; /* times that the limit made the slot wait; how long */
};

/* Limits the source that is attached next, until it is detached: requests beyond it wait in the
 * queue. From the loop's thread. */
void blk_limit(struct virtio_device *d, const struct ratelimit_config *cfg);

/* What the slot did since its source was attached. Any thread may ask. */
void blk_stats(const struct virtio_device *d, struct blk_stats *s);

#endif
