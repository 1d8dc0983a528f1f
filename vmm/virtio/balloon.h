/*
 * balloon.h - what a virtio-balloon is told and tells (balloon.c; made by balloon_new(), device.h).
 */
#ifndef HUSK_VMM_VIRTIO_BALLOON_H
#define HUSK_VMM_VIRTIO_BALLOON_H

#include "vmm/device.h"

struct balloon_stats {
	uint64_t target, actual; /* bytes */
	uint64_t reported;	 /* bytes given back by free-page reporting, ever */
};

/* The guest is asked to give up `bytes` (rounded down to 4 KiB); it takes back what it needs when
 * it would run out of memory otherwise. From the loop's thread. */
void balloon_set_target(struct virtio_device *d, uint64_t bytes);
void balloon_stats(const struct virtio_device *d, struct balloon_stats *s);

#endif
