/*
 * blk.c - virtio-blk (virtio 1.2 §5.2): a slot that a block source can be plugged into at any time.
 *
 * Theory of operation
 *
 * A slot has one request queue. Its features are fixed when the machine starts, long before any
 * source is known: RO says what kind of slot it is, and the limits below suit every source.
 *
 * The queue is served in one of two places, never in both:
 *
 *   no source    the loop's thread answers (IOERR; GET_ID: an empty string), a few requests at a
 *                time, because a guest has no reason to ask much of a disk of no size;
 *   a source     a thread of the slot, with preadv2/pwritev2 in place. It sleeps in ppoll() on the
 *                kick and on `wake`, an eventfd that says "stop".
 *
 * move_queue() is the only way between the places: it stops the old one, which for the thread means
 * that it finishes the request in hand and is joined, and starts the right one. So attach, detach,
 * start_queue and stop_queue need no locks: the thread sees a slot that does not change in its
 * life, and afterwards nothing is in flight. The thread's only shared state are the counters.
 * An empty or unused slot costs no thread.
 *
 * A limit (ratelimit.h) belongs to a source. The thread pays for a request when it takes it, with
 * all bytes of its chain; if it cannot, it puts the request back and sleeps until it can, or until
 * it is told to stop. What waits, waits in the guest's queue: nothing is buffered here.
 *
 * A request may be cut into descriptors in any way (§2.7.4.1): the header is the first 16 readable
 * bytes, the status the last writable byte. What lies between goes from guest memory to the source
 * without a copy.
 */
#include <linux/virtio_blk.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/jail.h"
#include "vmm/source.h"
#include "vmm/virtio/blk.h"

/* syscalls block: read ppoll */
/* syscalls loop: eventfd2 read write close */

#define SECTOR 512u
#define SEG_MAX 126u		     /* 128 with header and status: VQ_SEGS_MAX allows it */
#define SIZE_MAX_BYTES (512u << 10)  /* SEG_MAX of these stay below VQ_CHAIN_BYTES_MAX */
#define RANGES_MAX 32u		     /* segments of a DISCARD or WRITE_ZEROES request */
#define RANGE_SECTORS_MAX (1u << 21) /* 1 GiB in one of them */
#define NOTIFY_REQUESTS 8	     /* tell the driver at the latest after so many requests */
#define NOTIFY_BYTES (256u << 10)    /* or so many bytes */
#define EMPTY_BATCH 64		     /* requests answered for an empty slot in one go */
#define EMPTY_PAUSE_US 1000
#define STACK_BYTES (256u << 10)
#define THROTTLE_US_MAX 60000000 /* of one sleep */

_Static_assert((uint64_t)SEG_MAX *SIZE_MAX_BYTES <= VQ_CHAIN_BYTES_MAX, "limits must fit");

struct blk {
	struct virtio_device d;
	bool readonly;
	char serial[VIRTIO_BLK_ID_BYTES + 1];
	struct block_source *src;
	struct blk_stats stats; /* written by the serving thread, atomically */
	struct ratelimit_config limit_config;
	struct ratelimit limit; /* the thread's */

	struct loop_source *kick, *pause; /* served by the loop */
	bool threaded;			  /* served by `thread` */
	bool stop;
	pthread_t thread;
	int wake;
};

/* A request that was taken from the queue. */
struct request {
	uint32_t type;
	uint64_t sector;
	struct iovec data[VQ_SEGS_MAX];
	unsigned n;
	uint64_t bytes; /* of data */
};

static struct blk *blk_of(const struct virtio_device *d)
{
	return (struct blk *)(uintptr_t)d;
}

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* ---- requests */

/* `iov` without its first `skip` bytes, and no more than `len` of the rest. */
static void slice(struct request *r, const struct iovec *iov, unsigned n, uint64_t skip,
		  uint64_t len)
{
	r->n = 0;
	r->bytes = 0;
	for (unsigned i = 0; i < n && r->bytes < len; i++) {
		uint64_t have = iov[i].iov_len;

		if (skip >= have) {
			skip -= have;
			continue;
		}
		have -= skip;
		if (have > len - r->bytes)
			have = len - r->bytes;
		r->data[r->n++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, have};
		r->bytes += have;
		skip = 0;
	}
}

static bool in_range(const struct blk *b, uint64_t sector, uint64_t sectors)
{
	uint64_t capacity = b->src->bytes / SECTOR;

	return sector <= capacity && sectors <= capacity - sector;
}

static bool writable(const struct blk *b)
{
	return b->src && !b->readonly && !b->src->readonly;
}

static uint8_t status_of(int r)
{
	if (r == 0)
		return VIRTIO_BLK_S_OK;
	return r == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
}

static uint8_t do_rw(struct blk *b, const struct request *r, bool out)
{
	int rc;

	if (!b->src || (out && !writable(b)) || r->bytes % SECTOR ||
	    !in_range(b, r->sector, r->bytes / SECTOR))
		return VIRTIO_BLK_S_IOERR;
	rc = (out ? b->src->ops->writev : b->src->ops->readv)(b->src, r->data, r->n,
							      r->sector * SECTOR);
	if (rc < 0)
		return VIRTIO_BLK_S_IOERR;
	count(out ? &b->stats.writes : &b->stats.reads, 1);
	count(out ? &b->stats.write_bytes : &b->stats.read_bytes, r->bytes);
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_flush(struct blk *b)
{
	if (!b->src)
		return VIRTIO_BLK_S_IOERR;
	count(&b->stats.flushes, 1);
	return writable(b) ? status_of(b->src->ops->flush(b->src)) : VIRTIO_BLK_S_OK;
}

/* §5.2.6.1: 20 bytes, no NUL when the string fills them. */
static uint8_t do_get_id(const struct blk *b, const struct request *r)
{
	char id[VIRTIO_BLK_ID_BYTES] = {0};
	uint64_t done = 0;

	if (b->src)
		memcpy(id, b->serial, strlen(b->serial));
	for (unsigned i = 0; i < r->n && done < sizeof(id); i++) {
		uint64_t take = r->data[i].iov_len;

		if (take > sizeof(id) - done)
			take = sizeof(id) - done;
		memcpy(r->data[i].iov_base, id + done, take);
		done += take;
	}
	return VIRTIO_BLK_S_OK;
}

static bool stopping(const struct blk *b)
{
	return __atomic_load_n(&b->stop, __ATOMIC_ACQUIRE);
}

/* For sources that cannot make holes. Few bytes of a request can ask for many here: they are paid
 * for afterwards, and not all written when the slot shall stop. */
static int write_zeros(struct blk *b, uint64_t off, uint64_t len)
{
	static uint8_t zeros[64 << 10];

	while (len) {
		uint64_t take = len < sizeof(zeros) ? len : sizeof(zeros);
		struct iovec iov = {zeros, take};
		int r = stopping(b) ? -EINTR : b->src->ops->writev(b->src, &iov, 1, off);

		if (r < 0)
			return r;
		ratelimit_charge(&b->limit, take);
		off += take;
		len -= take;
	}
	return 0;
}

static uint8_t do_range(struct blk *b, const struct virtio_blk_discard_write_zeroes *g, bool zero)
{
	uint32_t allowed = zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	uint64_t off, len;
	int r = -EOPNOTSUPP;

	if (g->flags & ~allowed)
		return VIRTIO_BLK_S_UNSUPP;
	if (g->num_sectors > RANGE_SECTORS_MAX || !in_range(b, g->sector, g->num_sectors))
		return VIRTIO_BLK_S_IOERR;
	if (g->num_sectors == 0)
		return VIRTIO_BLK_S_OK;
	off = g->sector * SECTOR;
	len = (uint64_t)g->num_sectors * SECTOR;
	if (b->src->ops->discard)
		r = b->src->ops->discard(b->src, off, len, zero);
	if (r == -EOPNOTSUPP && zero)
		r = write_zeros(b, off, len);
	return status_of(r);
}

static uint8_t do_ranges(struct blk *b, const struct vq_chain *c, const struct request *r,
			 bool zero)
{
	struct virtio_blk_discard_write_zeroes g[RANGES_MAX];

	if (!writable(b))
		return VIRTIO_BLK_S_IOERR;
	if (r->bytes == 0 || r->bytes % sizeof(g[0]) || r->bytes > sizeof(g))
		return VIRTIO_BLK_S_IOERR;
	vq_read(c, sizeof(struct virtio_blk_outhdr), g, r->bytes);
	for (unsigned i = 0; i < r->bytes / sizeof(g[0]); i++) {
		uint8_t status = do_range(b, &g[i], zero);

		if (status != VIRTIO_BLK_S_OK)
			return status;
		count(&b->stats.discards, 1);
	}
	return VIRTIO_BLK_S_OK;
}

static uint8_t do_request(struct blk *b, const struct vq_chain *c, struct request *r)
{
	const uint64_t header = sizeof(struct virtio_blk_outhdr);

	switch (r->type) {
	case VIRTIO_BLK_T_IN:
	case VIRTIO_BLK_T_GET_ID:
		slice(r, c->write, c->nwrite, 0, c->write_bytes - 1);
		return r->type == VIRTIO_BLK_T_IN ? do_rw(b, r, false) : do_get_id(b, r);
	case VIRTIO_BLK_T_OUT:
		slice(r, c->read, c->nread, header, c->read_bytes - header);
		return do_rw(b, r, true);
	case VIRTIO_BLK_T_FLUSH:
		return do_flush(b);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		slice(r, c->read, c->nread, header, c->read_bytes - header);
		return do_ranges(b, c, r, r->type == VIRTIO_BLK_T_WRITE_ZEROES);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* Serves one chain and returns it. Bytes moved, for pacing the calls. */
static uint64_t serve(struct blk *b, struct virtqueue *q, const struct vq_chain *c)
{
	struct virtio_blk_outhdr h = {0};
	struct request r = {.n = 0};
	uint8_t status = VIRTIO_BLK_S_IOERR;
	uint64_t used;

	if (c->write_bytes == 0) { /* no room to say that this is no request */
		count(&b->stats.errors, 1);
		vq_push(q, c->head, 0);
		return 0;
	}
	if (vq_read(c, 0, &h, sizeof(h)) == sizeof(h)) {
		r.type = h.type;
		r.sector = h.sector;
		status = do_request(b, c, &r);
	}
	if (status != VIRTIO_BLK_S_OK)
		count(&b->stats.errors, 1);
	vq_write(c, c->write_bytes - 1, &status, 1);
	/* The used length promises that so many bytes from the first one on were written. */
	used = status == VIRTIO_BLK_S_OK || c->write_bytes == 1 ? c->write_bytes : 0;
	vq_push(q, c->head, (uint32_t)used);
	return r.bytes;
}

/* ---- a queue with a source: the thread */

static void throttle(struct blk *b, uint64_t us)
{
	struct pollfd p = {.fd = b->wake, .events = POLLIN};
	uint64_t before = now_us();
	struct timespec t;

	us = us < THROTTLE_US_MAX ? us : THROTTLE_US_MAX;
	t = (struct timespec){.tv_sec = (time_t)(us / 1000000),
			      .tv_nsec = (long)(us % 1000000) * 1000};

	count(&b->stats.throttled, 1);
	ppoll(&p, 1, &t, NULL);
	count(&b->stats.throttled_us, now_us() - before);
}

/* Takes the next request that the limit allows, and waits for it if need be, with the driver told
 * of all that is done. False: there is none, or the slot shall stop. */
static bool next_request(struct blk *b, struct virtqueue *q, struct vq_chain *c)
{
	uint64_t us;

	while (!stopping(b) && vq_pop(q, c) > 0) {
		if (!ratelimit_limits(&b->limit))
			return true;
		us = ratelimit_take(&b->limit, c->read_bytes + c->write_bytes, now_us());
		if (us == 0)
			return true;
		vq_unpop(q);
		vq_notify(q);
		throttle(b, us);
	}
	return false;
}

/* Everything that is available, until there is nothing or the slot shall stop. */
static void drain(struct blk *b, struct virtqueue *q, struct vq_chain *c)
{
	unsigned requests = 0;
	uint64_t bytes = 0;

	do {
		vq_kicks_off(q);
		while (next_request(b, q, c)) {
			bytes += serve(b, q, c);
			if (++requests < NOTIFY_REQUESTS && bytes < NOTIFY_BYTES)
				continue;
			vq_notify(q);
			requests = 0;
			bytes = 0;
		}
		vq_notify(q);
	} while (vq_kicks_on(q) && !stopping(b));
}

static void *blk_thread(void *arg)
{
	struct blk *b = arg;
	struct virtqueue *q = &b->d.vq[0];
	struct pollfd p[2] = {{.fd = q->kick_fd, .events = POLLIN},
			      {.fd = b->wake, .events = POLLIN}};
	struct vq_chain c;
	uint64_t n;

	pthread_setname_np(pthread_self(), "blk");
	jail_thread(JAIL_BLOCK);
	while (!stopping(b)) {
		drain(b, q, &c);
		if (ppoll(p, 2, NULL, NULL) > 0 && p[0].revents)
			(void)!read(q->kick_fd, &n, sizeof(n));
	}
	return NULL;
}

static int start_thread(struct blk *b, struct error *err)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	b->stop = false;
	b->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->wake < 0)
		return error_errno(err, "block: eventfd");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* Signals are the main thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&b->thread, &attr, blk_thread, b);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r) {
		close_fd(&b->wake);
		errno = r;
		return error_errno(err, "block: start a thread");
	}
	b->threaded = true;
	return 0;
}

static void stop_thread(struct blk *b)
{
	uint64_t one = 1;

	__atomic_store_n(&b->stop, true, __ATOMIC_RELEASE);
	(void)!write(b->wake, &one, sizeof(one));
	pthread_join(b->thread, NULL);
	close_fd(&b->wake);
	b->threaded = false;
}

/* ---- a queue without a source: the loop */

static void on_pause_end(void *arg, uint32_t events);

static void serve_empty(struct blk *b)
{
	struct virtqueue *q = &b->d.vq[0];
	struct vq_chain c;
	unsigned n = 0;

	do {
		while (n < EMPTY_BATCH && vq_pop(q, &c) > 0) {
			serve(b, q, &c);
			n++;
		}
	} while (vq_kicks_on(q) && n < EMPTY_BATCH);
	vq_notify(q);
	if (n < EMPTY_BATCH)
		return;
	b->pause = loop_timer(b->d.loop, EMPTY_PAUSE_US, on_pause_end, b, NULL);
	if (b->pause)
		loop_set(b->kick, 0);
}

static void on_pause_end(void *arg, UNUSED uint32_t events)
{
	struct blk *b = arg;

	b->pause = NULL;
	loop_set(b->kick, EPOLLIN);
	serve_empty(b);
}

static void on_kick(void *arg, UNUSED uint32_t events)
{
	struct blk *b = arg;
	uint64_t n;

	if (b->pause)
		return;
	(void)!read(b->d.vq[0].kick_fd, &n, sizeof(n));
	serve_empty(b);
}

static int start_empty(struct blk *b, struct error *err)
{
	b->kick = loop_add(b->d.loop, b->d.vq[0].kick_fd, EPOLLIN, on_kick, b, err);
	if (!b->kick)
		return error_wrap(err, "block");
	serve_empty(b); /* a kick may have come before anybody watched */
	return 0;
}

static void stop_empty(struct blk *b)
{
	loop_remove(b->kick);
	loop_remove(b->pause);
	b->kick = b->pause = NULL;
}

/* ---- between the two */

static void stop_serving(struct blk *b)
{
	if (b->threaded)
		stop_thread(b);
	else
		stop_empty(b);
}

static int start_serving(struct blk *b, struct error *err)
{
	return b->src ? start_thread(b, err) : start_empty(b, err);
}

/* Gives the slot `src` (or none), and its queue, if it runs, to who serves it then. Afterwards the
 * old source, which is returned in *old, is not in use. */
static int move_queue(struct blk *b, struct block_source *src, struct block_source **old,
		      struct error *err)
{
	bool serving = b->threaded || b->kick;

	if (serving)
		stop_serving(b);
	*old = b->src;
	b->src = src;
	if (!serving || start_serving(b, err) == 0)
		return 0;
	b->src = *old;
	*old = src;
	start_serving(b, NULL); /* an empty slot needs nothing but what it just gave up */
	return -1;
}

static void announce(struct blk *b)
{
	if (b->d.config_changed)
		b->d.config_changed(&b->d, b->d.transport);
}

static int check_attach(const struct blk *b, const char *serial, const struct block_source *src,
			struct error *err)
{
	size_t len = strlen(serial);

	if (b->src)
		return error_kind(err, ERR_EXISTS, "the slot has \"%s\" already", b->serial);
	if (len == 0 || len > VIRTIO_BLK_ID_BYTES)
		return error_kind(err, ERR_INVALID, "serial: not 1 to %d bytes",
				  VIRTIO_BLK_ID_BYTES);
	if (b->readonly && !src->readonly)
		return error_kind(err, ERR_INVALID, "writable source for a read-only slot");
	return 0;
}

int blk_attach(struct virtio_device *d, const char *serial, struct block_source *src,
	       struct error *err)
{
	struct blk *b = blk_of(d);
	struct block_source *old = src; /* who is left over */
	int r = check_attach(b, serial, src, err);

	if (r == 0) {
		memcpy(b->serial, serial, strlen(serial) + 1);
		b->stats = (struct blk_stats){0};
		ratelimit_init(&b->limit, &b->limit_config, now_us());
		r = move_queue(b, src, &old, err);
		if (r < 0)
			b->serial[0] = '\0';
	}
	if (r < 0) {
		old->ops->destroy(old);
		return error_wrap(err, "block %s", serial);
	}
	announce(b);
	return 0;
}

void blk_detach(struct virtio_device *d)
{
	struct blk *b = blk_of(d);
	struct block_source *old = NULL;

	if (!b->src)
		return;
	if (move_queue(b, NULL, &old, NULL) < 0)
		return; /* cannot happen: no fd and no thread is needed */
	b->serial[0] = '\0';
	b->limit_config = (struct ratelimit_config){0};
	old->ops->destroy(old);
	announce(b);
}

void blk_limit(struct virtio_device *d, const struct ratelimit_config *cfg)
{
	blk_of(d)->limit_config = *cfg;
}

/* ---- the device */

static uint64_t blk_features(struct virtio_device *d)
{
	uint64_t f = UINT64_C(1) << VIRTIO_BLK_F_SIZE_MAX | UINT64_C(1) << VIRTIO_BLK_F_SEG_MAX |
		     UINT64_C(1) << VIRTIO_BLK_F_FLUSH;

	if (blk_of(d)->readonly)
		return f | UINT64_C(1) << VIRTIO_BLK_F_RO;
	return f | UINT64_C(1) << VIRTIO_BLK_F_DISCARD | UINT64_C(1) << VIRTIO_BLK_F_WRITE_ZEROES;
}

static void blk_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct blk *b = blk_of(d);
	struct virtio_blk_config c = {
		.capacity = b->src ? b->src->bytes / SECTOR : 0,
		.size_max = SIZE_MAX_BYTES,
		.seg_max = SEG_MAX,
		.blk_size = SECTOR,
		.num_queues = 1,
	};

	if (!b->readonly) {
		c.max_discard_sectors = c.max_write_zeroes_sectors = RANGE_SECTORS_MAX;
		c.max_discard_seg = c.max_write_zeroes_seg = RANGES_MAX;
		c.discard_sector_alignment = 4096 / SECTOR;
		c.write_zeroes_may_unmap = 1;
	}
	memset(buf, 0, len);
	if (off < sizeof(c))
		memcpy(buf, (uint8_t *)&c + off, len < sizeof(c) - off ? len : sizeof(c) - off);
}

static int blk_start_queue(struct virtio_device *d, UNUSED unsigned q, struct error *err)
{
	return start_serving(blk_of(d), err);
}

static void blk_stop_queue(struct virtio_device *d, UNUSED unsigned q)
{
	stop_serving(blk_of(d));
}

static void blk_destroy(struct virtio_device *d)
{
	struct blk *b;

	if (!d)
		return;
	b = blk_of(d);
	stop_serving(b);
	if (b->src)
		b->src->ops->destroy(b->src);
	free(b);
}

static const struct virtio_device_ops blk_ops = {
	.name = "block",
	.id = VIRTIO_ID_BLOCK,
	.nqueues = 1,
	.features = blk_features,
	.read_config = blk_read_config,
	.start_queue = blk_start_queue,
	.stop_queue = blk_stop_queue,
	.destroy = blk_destroy,
};

struct virtio_device *blk_new(struct loop *l, bool readonly, struct error *err)
{
	struct blk *b = calloc(1, sizeof(*b));

	if (!b) {
		error_set(err, "out of memory");
		return NULL;
	}
	b->d.ops = &blk_ops;
	b->d.loop = l;
	b->readonly = readonly;
	b->wake = -1;
	vq_init(&b->d.vq[0]);
	return &b->d;
}

bool blk_readonly(const struct virtio_device *d)
{
	return blk_of(d)->readonly;
}

bool blk_attached(const struct virtio_device *d)
{
	return blk_of(d)->src != NULL;
}

const char *blk_serial(const struct virtio_device *d)
{
	return blk_of(d)->serial;
}

void blk_stats(const struct virtio_device *d, struct blk_stats *s)
{
	const struct blk *b = blk_of(d);

	s->reads = __atomic_load_n(&b->stats.reads, __ATOMIC_RELAXED);
	s->writes = __atomic_load_n(&b->stats.writes, __ATOMIC_RELAXED);
	s->read_bytes = __atomic_load_n(&b->stats.read_bytes, __ATOMIC_RELAXED);
	s->write_bytes = __atomic_load_n(&b->stats.write_bytes, __ATOMIC_RELAXED);
	s->flushes = __atomic_load_n(&b->stats.flushes, __ATOMIC_RELAXED);
	s->discards = __atomic_load_n(&b->stats.discards, __ATOMIC_RELAXED);
	s->errors = __atomic_load_n(&b->stats.errors, __ATOMIC_RELAXED);
	s->throttled = __atomic_load_n(&b->stats.throttled, __ATOMIC_RELAXED);
	s->throttled_us = __atomic_load_n(&b->stats.throttled_us, __ATOMIC_RELAXED);
}
