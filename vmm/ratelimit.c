/* Token buckets. Exact: a token's fractions are kept, so that no rounding adds up over time. */
#include "vmm/ratelimit.h"

#define US_PER_S 1000000u

typedef unsigned __int128 wide;

static void bucket_init(struct ratelimit_bucket *b, uint64_t rate, uint64_t burst, uint64_t now)
{
	if (burst == 0)
		burst = rate / 10 ? rate / 10 : 1;
	if (burst > INT64_MAX)
		burst = INT64_MAX;
	*b = (struct ratelimit_bucket){
		.rate = rate, .burst = burst, .tokens = (int64_t)burst, .at_us = now};
}

static void bucket_fill(struct ratelimit_bucket *b, uint64_t now)
{
	uint64_t us = now > b->at_us ? now - b->at_us : 0;
	uint64_t room = b->burst - (uint64_t)b->tokens; /* right for debts too: modulo 2^64 */
	wide parts = (wide)us * b->rate + b->rest;

	b->at_us += us;
	if (parts / US_PER_S >= room) { /* full: what is more is lost */
		b->tokens = (int64_t)b->burst;
		b->rest = 0;
		return;
	}
	b->tokens += (int64_t)(parts / US_PER_S);
	b->rest = (uint64_t)(parts % US_PER_S);
}

/* Microseconds until the bucket allows an operation of `cost`; 0: now. */
static uint64_t bucket_wait(struct ratelimit_bucket *b, uint64_t cost, uint64_t now)
{
	uint64_t need = cost < b->burst ? cost : b->burst;
	wide us;

	if (b->rate == 0)
		return 0;
	bucket_fill(b, now);
	if (b->tokens >= (int64_t)need)
		return 0;
	us = (wide)(need - (uint64_t)b->tokens) * US_PER_S - b->rest;
	us = (us + b->rate - 1) / b->rate;
	return us < UINT64_MAX ? (uint64_t)us : UINT64_MAX;
}

static void bucket_pay(struct ratelimit_bucket *b, uint64_t cost)
{
	if (b->rate == 0)
		return;
	if (cost > INT64_MAX)
		cost = INT64_MAX;
	if (__builtin_sub_overflow(b->tokens, (int64_t)cost, &b->tokens))
		b->tokens = INT64_MIN;
}

void ratelimit_init(struct ratelimit *r, const struct ratelimit_config *cfg, uint64_t now_us)
{
	bucket_init(&r->bytes, cfg->bytes_per_s, cfg->bytes_burst, now_us);
	bucket_init(&r->ops, cfg->ops_per_s, cfg->ops_burst, now_us);
}

bool ratelimit_limits(const struct ratelimit *r)
{
	return r->bytes.rate || r->ops.rate;
}

uint64_t ratelimit_take(struct ratelimit *r, uint64_t bytes, uint64_t now_us)
{
	uint64_t for_bytes = bucket_wait(&r->bytes, bytes, now_us);
	uint64_t for_ops = bucket_wait(&r->ops, 1, now_us);

	if (for_bytes || for_ops)
		return for_bytes > for_ops ? for_bytes : for_ops;
	bucket_pay(&r->bytes, bytes);
	bucket_pay(&r->ops, 1);
	return 0;
}

void ratelimit_charge(struct ratelimit *r, uint64_t bytes)
{
	bucket_pay(&r->bytes, bytes);
}
