/*
 * rng.h - the token bucket of the virtio-rng device (see rng.c; the device is in vmm/device.h).
 */
#ifndef HUSK_VMM_RNG_H
#define HUSK_VMM_RNG_H

#include "vmm/device.h"

struct rng_bucket {
	int64_t tokens; /* a token is a byte of randomness; may be in debt by one request */
	uint64_t at_us; /* last refill */
};

void rng_bucket_init(struct rng_bucket *b, uint64_t now); /* full */
void rng_bucket_refill(struct rng_bucket *b, uint64_t now);
/* Pays for a wake-up (0) or a request of `bytes`. False when the bucket is empty now. */
bool rng_bucket_take(struct rng_bucket *b, uint64_t bytes);
/* Microseconds until going on makes sense. */
uint64_t rng_bucket_wait_us(const struct rng_bucket *b);

#endif
