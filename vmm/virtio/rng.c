/*
 * rng.c - virtio-rng (virtio 1.2 §5.4): the host's getrandom(2), in the loop's thread, rationed.
 *
 * A guest may ask as fast as it can. Each wake-up and each request costs tokens, requests by their
 * bytes; a bucket refills at a fixed rate. While it is empty the kick is not watched, so that a
 * spinning guest costs the host nothing, and a timer resumes the queue. The burst is ample for a
 * boot, where the kernel wants some hundred bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtio/rng.h"

/* syscalls loop: getrandom */

#define REQUEST_MAX 4096      /* bytes given to one request; the driver asks again for more */
#define COST_MIN 64	      /* tokens of a wake-up, and the least of a request */
#define BURST (64 << 10)      /* tokens a full bucket holds */
#define RATE (512 << 10)      /* tokens a second */
#define RESUME_AT (RATE / 64) /* tokens to wait for once it was empty: 1/64 s */

struct rng {
	struct virtio_device d;
	struct rng_bucket bucket;
	struct loop_source *kick, *timer;
};

static struct rng *rng_of(struct virtio_device *d)
{
	return (struct rng *)d;
}

void rng_bucket_init(struct rng_bucket *b, uint64_t now)
{
	*b = (struct rng_bucket){.tokens = BURST, .at_us = now};
}

void rng_bucket_refill(struct rng_bucket *b, uint64_t now)
{
	uint64_t us = now > b->at_us ? now - b->at_us : 0;

	/* More than fills it from any debt; also keeps the product below small. */
	if (us > 1000000)
		us = 1000000;
	b->tokens += (int64_t)(us * RATE / 1000000);
	if (b->tokens > BURST)
		b->tokens = BURST;
	b->at_us = now;
}

bool rng_bucket_take(struct rng_bucket *b, uint64_t bytes)
{
	b->tokens -= bytes > COST_MIN ? (int64_t)bytes : COST_MIN;
	return b->tokens > 0;
}

uint64_t rng_bucket_wait_us(const struct rng_bucket *b)
{
	int64_t lack = RESUME_AT - b->tokens;

	return lack > 0 ? (uint64_t)lack * 1000000 / RATE : 0;
}

static uint64_t fill(const struct vq_chain *c)
{
	uint8_t buf[REQUEST_MAX];
	uint64_t want = c->write_bytes < sizeof(buf) ? c->write_bytes : sizeof(buf), have = 0;

	while (have < want) {
		ssize_t r = getrandom(buf + have, want - have, 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		have += (uint64_t)r;
	}
	have = vq_write(c, 0, buf, have);
	explicit_bzero(buf, sizeof(buf));
	return have;
}

/* Returns false when the bucket ran dry first. */
static bool serve(struct rng *r)
{
	struct virtqueue *q = &r->d.vq[0];
	bool more = rng_bucket_take(&r->bucket, 0);
	struct vq_chain c;

	do {
		vq_kicks_off(q);
		while (more && vq_pop(q, &c) > 0) {
			uint64_t n = fill(&c);

			vq_push(q, c.head, (uint32_t)n);
			more = rng_bucket_take(&r->bucket, n);
		}
	} while (vq_kicks_on(q) && more);
	vq_notify(q);
	return more;
}

static void on_timer(void *arg, uint32_t events);

static void run(struct rng *r)
{
	rng_bucket_refill(&r->bucket, now_us());
	if (serve(r)) {
		loop_set(r->kick, EPOLLIN);
		return;
	}
	loop_set(r->kick, 0);
	r->timer = loop_timer(r->d.loop, rng_bucket_wait_us(&r->bucket), on_timer, r, NULL);
	if (!r->timer) /* out of descriptors: better unrationed than dead */
		loop_set(r->kick, EPOLLIN);
}

static void on_timer(void *arg, UNUSED uint32_t events)
{
	struct rng *r = arg;

	r->timer = NULL;
	run(r);
}

static void on_kick(void *arg, UNUSED uint32_t events)
{
	struct rng *r = arg;
	uint64_t n;

	if (r->timer)
		return;
	(void)!read(r->d.vq[0].kick_fd, &n, sizeof(n));
	run(r);
}

static int rng_start(struct virtio_device *d, UNUSED unsigned q, struct error *err)
{
	struct rng *r = rng_of(d);

	r->kick = loop_add(d->loop, d->vq[0].kick_fd, EPOLLIN, on_kick, r, err);
	if (!r->kick)
		return error_wrap(err, "rng");
	run(r);
	return 0;
}

static void rng_stop(struct virtio_device *d, UNUSED unsigned q)
{
	struct rng *r = rng_of(d);

	loop_remove(r->kick);
	loop_remove(r->timer);
	r->kick = r->timer = NULL;
}

static uint64_t rng_features(UNUSED struct virtio_device *d)
{
	return 0;
}

static void rng_destroy(struct virtio_device *d)
{
	if (!d)
		return;
	rng_stop(d, 0);
	free(rng_of(d));
}

static const struct virtio_device_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.nqueues = 1,
	.features = rng_features,
	.start_queue = rng_start,
	.stop_queue = rng_stop,
	.destroy = rng_destroy,
};

struct virtio_device *rng_new(struct loop *l, struct error *err)
{
	struct rng *r = calloc(1, sizeof(*r));

	if (!r) {
		error_set(err, "out of memory");
		return NULL;
	}
	r->d.ops = &rng_ops;
	r->d.loop = l;
	vq_init(&r->d.vq[0]);
	rng_bucket_init(&r->bucket, now_us());
	return &r->d;
}
