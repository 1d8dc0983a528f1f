/*
 * ratelimit.h - token buckets: how many operations and bytes a second a device may move.
 *
 * Pure: the caller says what time it is. A bucket holds at most `burst` tokens and fills at `rate`
 * a second. An operation larger than the bucket is let through when the bucket is full, and leaves
 * it in debt, so that no operation is refused for ever.
 */
#ifndef HUSK_VMM_RATELIMIT_H
#define HUSK_VMM_RATELIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct ratelimit_config {
	uint64_t bytes_per_s, bytes_burst; /* 0 a second: no limit; burst 0: a tenth of a second */
	uint64_t ops_per_s, ops_burst;
};

struct ratelimit_bucket {
	uint64_t rate, burst;
	int64_t tokens; /* negative: debt */
	uint64_t at_us; /* when `tokens` was right */
	uint64_t rest;	/* parts of a token, in 1/1,000,000 */
};

struct ratelimit {
	struct ratelimit_bucket bytes, ops;
};

/* Full buckets at `now_us`. */
void ratelimit_init(struct ratelimit *r, const struct ratelimit_config *cfg, uint64_t now_us);
/* Whether it limits anything: otherwise nobody need ask for the time. */
bool ratelimit_limits(const struct ratelimit *r);
/* Takes an operation of `bytes` if both buckets allow it: 0. Otherwise nothing is taken, and the
 * result is after how many microseconds to ask again (at least 1). */
uint64_t ratelimit_take(struct ratelimit *r, uint64_t bytes, uint64_t now_us);
/* Pays for bytes that were moved already, into debt if need be. */
void ratelimit_charge(struct ratelimit *r, uint64_t bytes);

#endif
