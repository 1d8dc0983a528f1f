/*
 * virtqueue.c - device side of split virtqueues.
 *
 * Theory of operation
 *
 * Driver and device share three arrays in guest memory: descriptors and the available ring, which
 * only the driver writes, and the used ring, which only the device writes. There are no locks, only
 * two counters (avail->idx, used->idx) that run freely modulo 2^16, and the order of accesses:
 *
 *	driver: write descriptors and ring entry,  release  -> avail->idx
 *	device: avail->idx -> acquire, read ring entry and descriptors
 *	device: write used entry,                  release  -> used->idx
 *
 * Wake-ups are suppressed both ways, and both ways it is the same race (Dekker's): one side
 * publishes a counter and then reads whether the other wants to be told; the other publishes that
 * it wants to be told and then reads the counter. Each needs a full barrier between its write and
 * its read, or both may miss. They are in vq_notify() (used->idx, then used_event or the
 * NO_INTERRUPT flag) and in vq_kicks_on() (avail_event or the NO_NOTIFY flag, then avail->idx).
 *
 * The driver is hostile. It may change anything at any time, so every index and descriptor is
 * loaded exactly once into a local (the volatile or atomic access and the compiler barrier in
 * copy_once() see to it) and checked there. A walk ends because it counts: a chain in the ring's
 * own table has at most `size` descriptors, one in an indirect table at most as many as the table.
 */
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "vmm/virtqueue.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio is little-endian, and so are we");

#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#define DESC_F_INDIRECT 4
#define AVAIL_F_NO_INTERRUPT 1
#define USED_F_NO_NOTIFY 1

#define WARNINGS_MAX 4 /* of a queue, from its vq_init() on */

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct avail_ring {
	uint16_t flags, idx;
	uint16_t ring[]; /* then used_event */
};

struct used_elem {
	uint32_t id, len;
};

struct used_ring {
	uint16_t flags, idx;
	struct used_elem ring[]; /* then avail_event */
};

/* Where a walk takes its descriptors from. */
struct table {
	const uint8_t *desc;
	uint32_t n;
};

uint64_t vq_desc_bytes(uint16_t size)
{
	return sizeof(struct desc) * (uint64_t)size;
}

uint64_t vq_avail_bytes(uint16_t size)
{
	return sizeof(struct avail_ring) + sizeof(uint16_t) * ((uint64_t)size + 1);
}

uint64_t vq_used_bytes(uint16_t size)
{
	return sizeof(struct used_ring) + sizeof(struct used_elem) * (uint64_t)size +
	       sizeof(uint16_t);
}

static uint16_t load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

static void full_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint16_t avail_idx(const struct virtqueue *q)
{
	const struct avail_ring *a = q->avail;

	return __atomic_load_n(&a->idx, __ATOMIC_ACQUIRE);
}

/* used_event lies behind the available ring, avail_event behind the used ring (§2.7.6, §2.7.8). */
static uint16_t *used_event(const struct virtqueue *q)
{
	struct avail_ring *a = q->avail;

	return &a->ring[q->size];
}

static uint16_t *avail_event(const struct virtqueue *q)
{
	struct used_ring *u = q->used;

	return (uint16_t *)&u->ring[q->size];
}

void vq_init(struct virtqueue *q)
{
	memset(q, 0, sizeof(*q));
	q->kick_fd = q->call_fd = -1;
}

void vq_reset(struct virtqueue *q)
{
	struct virtqueue kept = *q;

	vq_init(q);
	q->name = kept.name;
	q->event_idx = kept.event_idx;
	q->indirect = kept.indirect;
	q->kick_fd = kept.kick_fd;
	q->call_fd = kept.call_fd;
	q->warnings = kept.warnings;
}

int vq_setup(struct virtqueue *q, const struct guest_mem *mem, uint16_t size, void *desc,
	     void *avail, void *used, uint16_t last_avail, struct error *err)
{
	if (size == 0 || size > VQ_SIZE_MAX || (size & (size - 1)))
		return error_kind(err, ERR_PEER, "virtqueue: size %u is not a power of two <= %d",
				  size, VQ_SIZE_MAX);
	if (!desc || !avail || !used || ((uintptr_t)desc & 15) || ((uintptr_t)avail & 1) ||
	    ((uintptr_t)used & 3))
		return error_kind(err, ERR_PEER, "virtqueue: misaligned ring");
	vq_reset(q);
	q->mem = mem;
	q->size = size;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->last_avail = last_avail;
	/* Zero in a new ring; where we left it in one that was stopped. */
	q->used_idx = q->signalled = load16(&((struct used_ring *)used)->idx);
	return 0;
}

/* ---- taking chains */

static int broken(struct virtqueue *q, const char *why)
{
	/* A guest can reset and break it again as often as it likes: the log is the host's. */
	if (!q->broken && q->warnings < WARNINGS_MAX) {
		q->warnings++;
		log_warn("virtqueue %s: %s; the queue is stopped%s", q->name ? q->name : "?", why,
			 q->warnings == WARNINGS_MAX ? " (further ones are not logged)" : "");
	}
	q->broken = true;
	return -1;
}

/* The driver may be writing what is copied here. The barrier keeps the compiler from reading it
 * a second time when the copy is used. */
static void copy_once(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
	__asm__ volatile("" ::: "memory");
}

static int add_segment(struct virtqueue *q, struct vq_chain *c, const struct desc *d)
{
	struct iovec iov = {.iov_base = mem_at(q->mem, d->addr, d->len), .iov_len = d->len};

	if (d->len == 0)
		return broken(q, "empty descriptor");
	if (!iov.iov_base)
		return broken(q, "descriptor outside of guest memory");
	if (c->read_bytes + c->write_bytes + d->len > VQ_CHAIN_BYTES_MAX)
		return broken(q, "chain is too long");
	if (d->flags & DESC_F_WRITE) {
		if (c->nwrite == VQ_SEGS_MAX)
			return broken(q, "chain has too many segments");
		c->write[c->nwrite++] = iov;
		c->write_bytes += d->len;
		return 0;
	}
	if (c->nwrite)
		return broken(q, "readable descriptor after a writable one");
	if (c->nread == VQ_SEGS_MAX)
		return broken(q, "chain has too many segments");
	c->read[c->nread++] = iov;
	c->read_bytes += d->len;
	return 0;
}

/* §2.7.5.3: a table of descriptors elsewhere in memory, as the last descriptor of a chain. */
static int enter_indirect(struct virtqueue *q, const struct desc *d, struct table *t)
{
	if (!q->indirect)
		return broken(q, "indirect descriptor was not negotiated");
	if (d->flags & DESC_F_NEXT)
		return broken(q, "indirect descriptor has a next one");
	if (d->len == 0 || d->len % sizeof(struct desc))
		return broken(q, "bad length of an indirect table");
	t->n = d->len / sizeof(struct desc);
	if (t->n > 65536) /* `next` could not name the rest */
		return broken(q, "indirect table is too long");
	t->desc = mem_at(q->mem, d->addr, d->len);
	if (!t->desc)
		return broken(q, "indirect table outside of guest memory");
	return 0;
}

static int walk(struct virtqueue *q, struct vq_chain *c)
{
	struct table t = {.desc = q->desc, .n = q->size};
	bool indirect = false;
	uint32_t i = c->head, seen = 0;
	struct desc d;

	for (;;) {
		if (i >= t.n)
			return broken(q, "descriptor index out of range");
		if (seen++ == t.n)
			return broken(q, "chain loops");
		copy_once(&d, t.desc + i * sizeof(d), sizeof(d));
		if (d.flags & DESC_F_INDIRECT) {
			if (indirect)
				return broken(q, "indirect descriptor in an indirect table");
			if (enter_indirect(q, &d, &t) < 0)
				return -1;
			indirect = true;
			i = seen = 0;
			continue;
		}
		if (add_segment(q, c, &d) < 0)
			return -1;
		if (!(d.flags & DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

int vq_pop(struct virtqueue *q, struct vq_chain *c)
{
	uint16_t ahead;

	if (q->broken)
		return -1;
	if (!q->size)
		return 0;
	ahead = (uint16_t)(avail_idx(q) - q->last_avail);
	if (ahead == 0)
		return 0;
	if (ahead > q->size)
		return broken(q, "available index jumped");
	c->head =
		load16(&((const struct avail_ring *)q->avail)->ring[q->last_avail & (q->size - 1)]);
	c->nread = c->nwrite = 0;
	c->read_bytes = c->write_bytes = 0;
	if (walk(q, c) < 0)
		return -1;
	q->last_avail++;
	return 1;
}

void vq_unpop(struct virtqueue *q)
{
	q->last_avail--;
}

bool vq_empty(struct virtqueue *q)
{
	return q->broken || !q->size || avail_idx(q) == q->last_avail;
}

/* ---- giving them back */

void vq_fill(struct virtqueue *q, uint16_t head, uint32_t written)
{
	struct used_ring *u = q->used;
	struct used_elem *e;

	if (!q->size)
		return;
	e = &u->ring[q->used_idx & (q->size - 1)];
	__atomic_store_n(&e->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&e->len, written, __ATOMIC_RELAXED);
	q->used_idx++;
}

void vq_flush(struct virtqueue *q)
{
	struct used_ring *u = q->used;

	if (q->size)
		__atomic_store_n(&u->idx, q->used_idx, __ATOMIC_RELEASE);
}

void vq_push(struct virtqueue *q, uint16_t head, uint32_t written)
{
	vq_fill(q, head, written);
	vq_flush(q);
}

/* Whether the pushes (old, new] passed the entry that the driver waits for (§2.7.7.2). In a ring
 * that was only just set up `old` is not what the driver knows: then it hears of any push. */
static bool wants_call(struct virtqueue *q)
{
	uint16_t old = q->signalled, new = q->used_idx;

	if (old == new)
		return false;
	if (!q->event_idx)
		return !(load16(&((const struct avail_ring *)q->avail)->flags) &
			 AVAIL_F_NO_INTERRUPT);
	if (!q->signalled_valid)
		return true;
	return (uint16_t)(new - load16(used_event(q)) - 1) < (uint16_t)(new - old);
}

void vq_notify(struct virtqueue *q)
{
	uint64_t one = 1;
	bool call;

	if (!q->size)
		return;
	full_barrier();
	call = wants_call(q);
	if (call)
		q->signalled_valid = true;
	q->signalled = q->used_idx;
	if (call && q->call_fd >= 0)
		/* A full counter (EAGAIN) is a call that is already on its way. */
		(void)!write(q->call_fd, &one, sizeof(one));
}

void vq_kicks_off(struct virtqueue *q)
{
	/* With EVENT_IDX an avail_event that lies behind does the same without a write. */
	if (q->size && !q->event_idx)
		store16(&((struct used_ring *)q->used)->flags, USED_F_NO_NOTIFY);
}

bool vq_kicks_on(struct virtqueue *q)
{
	if (!q->size)
		return false;
	if (q->event_idx)
		store16(avail_event(q), q->last_avail);
	else
		store16(&((struct used_ring *)q->used)->flags, 0);
	full_barrier();
	return !vq_empty(q);
}

/* ---- bytes */

static uint64_t copy(const struct iovec *iov, unsigned n, uint64_t off, void *buf, uint64_t len,
		     bool to_guest)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint64_t take = iov[i].iov_len;
		uint8_t *guest, *host = (uint8_t *)buf + done;

		if (off >= take) {
			off -= take;
			continue;
		}
		guest = (uint8_t *)iov[i].iov_base + off;
		take -= off;
		off = 0;
		if (take > len - done)
			take = len - done;
		if (to_guest)
			memcpy(guest, host, take);
		else
			copy_once(host, guest, take);
		done += take;
	}
	return done;
}

uint64_t vq_read(const struct vq_chain *c, uint64_t off, void *buf, uint64_t len)
{
	return copy(c->read, c->nread, off, buf, len, false);
}

uint64_t vq_write(const struct vq_chain *c, uint64_t off, const void *buf, uint64_t len)
{
	return copy(c->write, c->nwrite, off, (void *)(uintptr_t)buf, len, true);
}
