/*
 * balloon.c - virtio-balloon (virtio 1.2 §5.5), in the loop's thread: what the guest does not use
 * goes back to the host.
 *
 * Theory of operation
 *
 * Guest memory is one file without a name; a page of it that was ever touched stays allocated until
 *a hole is punched into the file there. The guest names such pages in two ways:
 *
 *	inflateq	arrays of page frame numbers: pages it gave up because the host asked for
 *			them (num_pages in the configuration space). It gets them back by deflateq
 *			whenever it likes: DEFLATE_ON_OOM
 *	reporting_vq	device-writable buffers: pages that are free at the moment. It may use them
 *			again as soon as the buffer is returned
 *
 * Either way the hole is there before the buffer goes back, and a page that is used again reads as
 * zeros. There is nothing to do for deflateq: a touch brings the page back.
 *
 * Queues are numbered as every driver and device does it, those that exist one after another (the
 * specification's numbers leave gaps for queues whose feature is not offered): reporting_vq is 2.
 *
 * A hostile guest may name any page, used or not, any number of times. Holes are punched into the
 * file, by its descriptor, and never by an address of ours (MADV_REMOVE, MADV_DONTNEED): where the
 * kernel's own file is mapped over guest memory, privately (arch.h), what is punched is the file
 * beneath, which holds nothing there; the kernel's file, which other machines share, cannot be
 * reached. So all that a guest can lose is its own memory: pages outside of it are left out, its
 * rings read as zeros when it gives them away.
 *
 * What is in reporting_vq is nobody's in the guest to use, and how much that may be is the guest's
 * to say: Linux takes up to 32 free blocks of up to 4 MiB at a time, and only where 64 MiB are free
 * above the low watermark. A shorter queue is no way to make it less: Linux drives no balloon at
 * all then. What this device can do is to be quick: a report, once begun, is done without a pause.
 *
 * Work is bounded: a chain's ranges are sorted and merged, a chain of page numbers counts only to
 * PFNS_MAX, and after PUNCHES_PER_ROUND holes the loop sees to others for PAUSE_US.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtio/balloon.h"

/* syscalls loop: read fallocate(1==FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE) */

#define PAGE UINT64_C(4096) /* of a page frame number, and of a hole */
#define PFNS_MAX 1024	    /* page frame numbers of one chain; Linux sends 256 at most */
#define RANGES_MAX PFNS_MAX
#define PUNCHES_PER_ROUND 64
#define PAUSE_US 1000

_Static_assert(RANGES_MAX >= VQ_SEGS_MAX, "a chain of reported pages must fit");

enum { INFLATE, DEFLATE, REPORTING, QUEUES };

/* A piece of guest memory in its file. */
struct range {
	uint64_t off, len;
	int fd;
};

struct balloon {
	struct virtio_device d;
	uint32_t num_pages, actual; /* the configuration space */
	uint64_t reported;
	bool warned;
	struct loop_source *kick[QUEUES], *pause;
	struct range ranges[RANGES_MAX];
	unsigned n;
	unsigned punches; /* in this round */
};

static struct balloon *balloon_of(const struct virtio_device *d)
{
	return (struct balloon *)(uintptr_t)d;
}

/* ---- ranges */

/* Whole pages of `len` bytes from byte `at` of region `r`. */
static void add_range(struct balloon *b, const struct mem_region *r, uint64_t at, uint64_t len)
{
	uint64_t off = r->offset + at, end = (off + len) & ~(PAGE - 1);

	off = (off + PAGE - 1) & ~(PAGE - 1);
	if (r->fd < 0 || off >= end || b->n == RANGES_MAX)
		return;
	b->ranges[b->n++] = (struct range){.off = off, .len = end - off, .fd = r->fd};
}

/* A segment of a chain: vq_pop() has checked that it lies in one region. */
static void add_segment(struct balloon *b, const struct guest_mem *m, const struct iovec *iov)
{
	uintptr_t at = (uintptr_t)iov->iov_base;

	for (unsigned i = 0; i < m->n; i++) {
		uintptr_t base = (uintptr_t)m->r[i].hva;

		if (at >= base && at - base < m->r[i].size) {
			add_range(b, &m->r[i], at - base, iov->iov_len);
			return;
		}
	}
}

static void add_page(struct balloon *b, const struct guest_mem *m, uint64_t gpa)
{
	for (unsigned i = 0; i < m->n; i++) {
		const struct mem_region *r = &m->r[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->size && r->size - (gpa - r->gpa) >= PAGE) {
			add_range(b, r, gpa - r->gpa, PAGE);
			return;
		}
	}
}

static bool before(const struct range *a, const struct range *b)
{
	return a->fd != b->fd ? a->fd < b->fd : a->off < b->off;
}

/* Shell's sort. qsort() asks for the system's memory, which the jail denies. */
static void sort(struct range *r, unsigned n)
{
	static const unsigned gaps[] = {301, 132, 57, 23, 10, 4, 1};

	for (unsigned g = 0; g < ARRAY_LEN(gaps); g++) {
		for (unsigned i = gaps[g]; i < n; i++) {
			struct range x = r[i];
			unsigned j = i;

			for (; j >= gaps[g] && before(&x, &r[j - gaps[g]]); j -= gaps[g])
				r[j] = r[j - gaps[g]];
			r[j] = x;
		}
	}
}

static void merge(struct balloon *b)
{
	unsigned n = 0;

	sort(b->ranges, b->n);
	for (unsigned i = 1; i < b->n; i++) {
		struct range *last = &b->ranges[n];
		const struct range *r = &b->ranges[i];

		if (r->fd == last->fd && r->off <= last->off + last->len) {
			if (r->off + r->len > last->off + last->len)
				last->len = r->off + r->len - last->off;
		} else {
			b->ranges[++n] = *r;
		}
	}
	if (b->n)
		b->n = n + 1;
}

/* Gives the collected ranges back to the host. Returns how many bytes. */
static uint64_t punch(struct balloon *b)
{
	uint64_t bytes = 0;

	merge(b);
	for (unsigned i = 0; i < b->n; i++) {
		const struct range *r = &b->ranges[i];

		b->punches++;
		if (fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)r->off,
			      (off_t)r->len) == 0) {
			bytes += r->len;
			continue;
		}
		if (!b->warned)
			log_warn("balloon: guest memory is not given back: %s", strerror(errno));
		b->warned = true;
	}
	b->n = 0;
	return bytes;
}

/* ---- queues */

static void inflate(struct balloon *b, const struct virtqueue *q, const struct vq_chain *c)
{
	uint32_t pfns[PFNS_MAX];
	uint64_t n = vq_read(c, 0, pfns, sizeof(pfns)) / sizeof(pfns[0]);

	for (uint64_t i = 0; i < n; i++)
		add_page(b, q->mem, (uint64_t)pfns[i] << VIRTIO_BALLOON_PFN_SHIFT);
	punch(b);
}

static void report(struct balloon *b, const struct virtqueue *q, const struct vq_chain *c)
{
	for (unsigned i = 0; i < c->nwrite; i++)
		add_segment(b, q->mem, &c->write[i]);
	b->reported += punch(b);
}

/* Returns false when the round's work is done before the queue is empty. */
static bool serve(struct balloon *b, unsigned i)
{
	struct virtqueue *q = &b->d.vq[i];
	struct vq_chain c;

	do {
		vq_kicks_off(q);
		while (b->punches < PUNCHES_PER_ROUND && vq_pop(q, &c) > 0) {
			b->punches++; /* a chain is work, too */
			if (i == INFLATE)
				inflate(b, q, &c);
			else if (i == REPORTING)
				report(b, q, &c);
			vq_push(q, c.head, 0);
		}
	} while (vq_kicks_on(q) && b->punches < PUNCHES_PER_ROUND);
	vq_notify(q);
	return b->punches < PUNCHES_PER_ROUND;
}

static void watch(struct balloon *b, uint32_t events)
{
	for (unsigned i = 0; i < QUEUES; i++)
		if (b->kick[i])
			loop_set(b->kick[i], events);
}

static void on_pause_end(void *arg, uint32_t events);

static void serve_all(struct balloon *b)
{
	b->punches = 0;
	for (unsigned i = 0; i < QUEUES; i++) {
		if (!b->kick[i] || serve(b, i))
			continue;
		b->pause = loop_timer(b->d.loop, PAUSE_US, on_pause_end, b, NULL);
		watch(b, b->pause ? 0 : EPOLLIN);
		return;
	}
}

static void on_pause_end(void *arg, UNUSED uint32_t events)
{
	struct balloon *b = arg;

	b->pause = NULL;
	watch(b, EPOLLIN);
	serve_all(b);
}

static void on_kick(void *arg, UNUSED uint32_t events)
{
	struct balloon *b = arg;
	uint64_t n;

	for (unsigned i = 0; i < QUEUES; i++)
		if (b->kick[i])
			(void)!read(b->d.vq[i].kick_fd, &n, sizeof(n));
	if (!b->pause)
		serve_all(b);
}

static int balloon_start(struct virtio_device *d, unsigned q, struct error *err)
{
	struct balloon *b = balloon_of(d);

	b->kick[q] = loop_add(d->loop, d->vq[q].kick_fd, EPOLLIN, on_kick, b, err);
	if (!b->kick[q])
		return error_wrap(err, "balloon");
	if (b->pause)
		loop_set(b->kick[q], 0);
	else
		serve_all(b);
	return 0;
}

static void balloon_stop(struct virtio_device *d, unsigned q)
{
	struct balloon *b = balloon_of(d);

	loop_remove(b->kick[q]);
	b->kick[q] = NULL;
	for (unsigned i = 0; i < QUEUES; i++)
		if (b->kick[i])
			return;
	loop_remove(b->pause);
	b->pause = NULL;
}

/* ---- the device */

static uint64_t balloon_features(UNUSED struct virtio_device *d)
{
	return UINT64_C(1) << VIRTIO_BALLOON_F_DEFLATE_ON_OOM |
	       UINT64_C(1) << VIRTIO_BALLOON_F_REPORTING;
}

static void balloon_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct balloon *b = balloon_of(d);
	const uint32_t c[] = {b->num_pages, b->actual};

	memset(buf, 0, len);
	if (off < sizeof(c))
		memcpy(buf, (const uint8_t *)c + off,
		       len < sizeof(c) - off ? len : sizeof(c) - off);
}

/* The driver may write `actual`, in pieces if it likes. */
static void balloon_write_config(struct virtio_device *d, uint32_t off, const void *buf,
				 uint32_t len)
{
	struct balloon *b = balloon_of(d);
	uint32_t c[] = {b->num_pages, b->actual};

	if (off >= sizeof(c))
		return;
	memcpy((uint8_t *)c + off, buf, len < sizeof(c) - off ? len : sizeof(c) - off);
	b->actual = c[1];
}

static void balloon_destroy(struct virtio_device *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < QUEUES; i++)
		balloon_stop(d, i);
	free(balloon_of(d));
}

static const struct virtio_device_ops balloon_ops = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.nqueues = QUEUES,
	.features = balloon_features,
	.read_config = balloon_read_config,
	.write_config = balloon_write_config,
	.start_queue = balloon_start,
	.stop_queue = balloon_stop,
	.destroy = balloon_destroy,
};

struct virtio_device *balloon_new(struct loop *l, struct error *err)
{
	struct balloon *b = calloc(1, sizeof(*b));

	if (!b) {
		error_set(err, "out of memory");
		return NULL;
	}
	b->d.ops = &balloon_ops;
	b->d.loop = l;
	for (unsigned i = 0; i < DEVICE_QUEUES_MAX; i++)
		vq_init(&b->d.vq[i]);
	return &b->d;
}

void balloon_set_target(struct virtio_device *d, uint64_t bytes)
{
	struct balloon *b = balloon_of(d);
	uint64_t pages = bytes / PAGE;

	b->num_pages = pages < UINT32_MAX ? (uint32_t)pages : UINT32_MAX;
	if (d->config_changed)
		d->config_changed(d, d->transport);
}

void balloon_stats(const struct virtio_device *d, struct balloon_stats *s)
{
	const struct balloon *b = balloon_of(d);

	*s = (struct balloon_stats){
		.target = b->num_pages * PAGE, .actual = b->actual * PAGE, .reported = b->reported};
}
