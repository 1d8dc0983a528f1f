/*
 * mmio.c - virtio over MMIO: slots, their locks, and what a guest's writes set going.
 *
 * Theory of operation
 *
 * A slot is its register file (mmio_regs.h), the bytes that show it to the guest, and a device or
 * none. Two kinds of threads meet here. vCPU threads write registers; the loop's thread does all
 * that concerns the device. Between them:
 *
 *	lock	the slot's: register file, page, `resetting`, configuration bytes on their way
 *	pending	a bit for each slot that the loop shall look at, with an eventfd to wake it
 *
 * There is no queue of work. settle() looks at the register file and makes the device what it
 * says: started when DRIVER_OK is set, stopped and reset when `resetting` is, out of the slot when
 * it shall leave and no driver has it. A guest may write whatever it likes in between, as often as
 * it likes: it costs one bit.
 *
 * Device functions are called without the lock, since a device may take its time to stop. That is
 * safe: while DRIVER_OK is set the register file does not let the queues change, and once a reset
 * began, all writes to the slot wait until it is over.
 *
 * Only the loop's thread fills or empties a slot, so that it may look at `d` without the lock;
 *vCPUs never look at it: the register file of an empty slot takes no writes.
 *
 * The configuration space changes under the reader: the guest reads it as memory. Aligned eight
 * bytes change at once, the generation after them, and then comes the interrupt. A driver that read
 * half of a change that spans more than eight bytes is thus told to read again, be it when it sets
 * DRIVER_OK. What the guest writes there is shown once the device has taken it.
 *
 * Eventfds and their places in the kernel are a slot's, made for its first device and kept: to take
 * an ioeventfd away costs a grace period, and an unread kick costs nothing.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/mmio.h"
#include "vmm/mmio_regs.h"

/* syscalls loop: eventfd2 read write close */
/* syscalls vcpu: write futex */

#define QUEUE_SIZE 256 /* where a device does not say otherwise */
#define MASK_WORDS (MMIO_CONFIG_BYTES / 64)

typedef void (*unplugged_fn)(void *arg, struct virtio_device *d);

struct slot {
	struct mmio_bus *bus;
	unsigned index;
	uint8_t *page;
	pthread_mutex_t lock;
	pthread_cond_t reset_done;

	/* under the lock */
	struct mmio_regs regs;
	bool resetting;			   /* a started device is on its way to its first state */
	uint8_t config[MMIO_CONFIG_BYTES]; /* written by the guest, not yet given to the device */
	uint64_t config_mask[MASK_WORDS];  /* which of its bytes */

	/* the loop's thread alone; changes of `leaving` are under the lock too */
	struct virtio_device *d;
	bool started;
	bool hidden; /* the guest is not shown the device yet */
	bool leaving;
	unplugged_fn unplugged;
	void *unplugged_arg;

	int call, kick[DEVICE_QUEUES_MAX]; /* set before the guest sees a device */
	unsigned nkicks;		   /* known to the kernel; the call is, if there is one */
	bool warned;
};

struct mmio_bus {
	struct loop *loop;
	struct loop_source *src;
	const struct guest_mem *mem;
	struct mmio_kernel kernel;
	int wake;
	int ack; /* acknowledgements of used buffers end here */
	uint32_t pending;
	bool ending;
	bool paused; /* the loop's thread alone */
	unsigned nslots;
	struct slot slot[MMIO_SLOTS_MAX];
};

_Static_assert(MMIO_SLOTS_MAX <= 32, "a bit each in `pending`");
_Static_assert(MMIO_SLOT_BYTES >= MMIO_CONFIG + MMIO_CONFIG_BYTES, "a slot has all of them");

static void signal_fd(int fd)
{
	uint64_t one = 1;

	/* A full counter (EAGAIN) has been signalled well enough. */
	(void)!write(fd, &one, sizeof(one));
}

static void wake_loop(struct slot *s)
{
	__atomic_fetch_or(&s->bus->pending, UINT32_C(1) << s->index, __ATOMIC_RELEASE);
	signal_fd(s->bus->wake);
}

static bool ending(const struct slot *s)
{
	return __atomic_load_n(&s->bus->ending, __ATOMIC_ACQUIRE);
}

/* ---- the guest's side: any vCPU's thread */

static void await_reset(struct slot *s)
{
	while (s->resetting && !ending(s))
		pthread_cond_wait(&s->reset_done, &s->lock);
}

static void keep_config(struct slot *s, uint32_t off, const void *data, unsigned len)
{
	memcpy(s->config + off, data, len);
	for (unsigned i = off; i < off + len; i++)
		s->config_mask[i / 64] |= UINT64_C(1) << i % 64;
}

static void write_locked(struct slot *s, uint32_t off, const void *data, unsigned len)
{
	enum mmio_action action;
	uint32_t arg = 0;

	await_reset(s);
	if (s->resetting) /* the machine ends */
		return;
	action = mmio_regs_write(&s->regs, off, data, len, &arg);
	mmio_regs_show(&s->regs, s->page);
	switch (action) {
	case MMIO_START:
		wake_loop(s);
		break;
	case MMIO_RESET:
		s->resetting = true;
		wake_loop(s);
		await_reset(s);
		break;
	case MMIO_KICK:
		signal_fd(s->kick[arg]);
		break;
	case MMIO_CONFIG_WRITE:
		keep_config(s, arg, data, len);
		wake_loop(s);
		break;
	case MMIO_NOTHING:
		if (s->leaving && mmio_regs_idle(&s->regs))
			wake_loop(s);
		break;
	}
}

void mmio_write(struct mmio_bus *b, uint64_t off, const void *data, unsigned len)
{
	uint64_t i = off / MMIO_SLOT_BYTES;
	struct slot *s;

	off %= MMIO_SLOT_BYTES;
	if (i >= b->nslots || len > MMIO_SLOT_BYTES - off)
		return;
	s = &b->slot[i];
	pthread_mutex_lock(&s->lock);
	write_locked(s, (uint32_t)off, data, len);
	pthread_mutex_unlock(&s->lock);
}

void mmio_read(struct mmio_bus *b, uint64_t off, void *data, unsigned len)
{
	uint64_t i = off / MMIO_SLOT_BYTES;
	struct slot *s;

	memset(data, 0, len);
	off %= MMIO_SLOT_BYTES;
	if (i >= b->nslots || len > MMIO_SLOT_BYTES - off)
		return;
	s = &b->slot[i];
	pthread_mutex_lock(&s->lock);
	memcpy(data, s->page + off, len);
	pthread_mutex_unlock(&s->lock);
}

void mmio_wake_all(struct mmio_bus *b)
{
	__atomic_store_n(&b->ending, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < b->nslots; i++) {
		struct slot *s = &b->slot[i];

		/* With the lock held nobody is between looking at `ending` and going to sleep. */
		pthread_mutex_lock(&s->lock);
		pthread_cond_broadcast(&s->reset_done);
		pthread_mutex_unlock(&s->lock);
	}
}

/* ---- the configuration space */

/* Shows the device's configuration space as it is now; false if that was shown already. */
static bool show_config(struct slot *s, const uint8_t now[MMIO_CONFIG_BYTES])
{
	uint64_t *shown = (uint64_t *)(void *)(s->page + MMIO_CONFIG);
	bool changed = false;

	for (unsigned i = 0; i < MMIO_CONFIG_BYTES / sizeof(*shown); i++) {
		uint64_t v;

		memcpy(&v, now + i * sizeof(v), sizeof(v));
		if (shown[i] == v)
			continue;
		__atomic_store_n(&shown[i], v, __ATOMIC_RELEASE);
		changed = true;
	}
	return changed;
}

static void read_config(struct slot *s, uint8_t buf[MMIO_CONFIG_BYTES])
{
	memset(buf, 0, MMIO_CONFIG_BYTES);
	if (s->d->ops->read_config)
		s->d->ops->read_config(s->d, 0, buf, MMIO_CONFIG_BYTES);
}

static void on_config_changed(UNUSED struct virtio_device *d, void *arg)
{
	uint8_t now[MMIO_CONFIG_BYTES];
	struct slot *s = arg;

	read_config(s, now);
	pthread_mutex_lock(&s->lock);
	show_config(s, now);
	s->regs.config_generation++;
	if (s->regs.status)
		s->regs.interrupt_status |= MMIO_INT_CONFIG;
	mmio_regs_show(&s->regs, s->page);
	if (s->regs.status & VIRTIO_S_DRIVER_OK)
		signal_fd(s->call);
	pthread_mutex_unlock(&s->lock);
}

static bool masked(const uint64_t mask[MASK_WORDS], unsigned i)
{
	return mask[i / 64] >> i % 64 & 1;
}

/* Gives the device what the guest wrote, in pieces of at most four aligned bytes. Several writes to
 * one place since the last time are one. */
static void pass_config(struct slot *s)
{
	uint8_t buf[MMIO_CONFIG_BYTES];
	uint64_t mask[MASK_WORDS];

	pthread_mutex_lock(&s->lock);
	memcpy(buf, s->config, sizeof(buf));
	memcpy(mask, s->config_mask, sizeof(mask));
	memset(s->config_mask, 0, sizeof(mask));
	pthread_mutex_unlock(&s->lock);
	if (!(mask[0] | mask[1] | mask[2] | mask[3]) || !s->d->ops->write_config)
		return;
	for (unsigned i = 0, n; i < MMIO_CONFIG_BYTES; i += n ? n : 1) {
		for (n = 0; n < 4 - i % 4 && masked(mask, i + n); n++)
			;
		if (n)
			s->d->ops->write_config(s->d, i, buf + i, n);
	}
	read_config(s, buf);
	pthread_mutex_lock(&s->lock);
	if (show_config(s, buf))
		s->regs.config_generation++;
	mmio_regs_show(&s->regs, s->page);
	pthread_mutex_unlock(&s->lock);
}

/* ---- queues: the loop's thread, without the lock */

static void stop_queues(struct slot *s, uint16_t next[DEVICE_QUEUES_MAX])
{
	struct virtio_device *d = s->d;

	for (unsigned i = 0; i < d->ops->nqueues; i++) {
		if (!d->running[i])
			continue;
		d->ops->stop_queue(d, i);
		d->running[i] = false;
		if (next)
			next[i] = d->vq[i].last_avail;
		vq_reset(&d->vq[i]);
	}
	s->started = false;
}

/* Stops them, so that they can go on where they are. */
static void park_queues(struct slot *s)
{
	uint16_t next[DEVICE_QUEUES_MAX];

	pthread_mutex_lock(&s->lock);
	for (unsigned q = 0; q < s->regs.nqueues; q++)
		next[q] = s->regs.q[q].next;
	pthread_mutex_unlock(&s->lock);
	stop_queues(s, next);
	pthread_mutex_lock(&s->lock);
	for (unsigned q = 0; q < s->regs.nqueues; q++)
		s->regs.q[q].next = next[q];
	pthread_mutex_unlock(&s->lock);
}

static int start_queue(struct slot *s, const struct mmio_queue_regs *r, unsigned i,
		       struct error *err)
{
	const struct guest_mem *mem = s->bus->mem;
	struct virtio_device *d = s->d;
	struct virtqueue *q = &d->vq[i];
	void *desc = mem_at(mem, r->desc, vq_desc_bytes(r->num));
	void *avail = mem_at(mem, r->driver, vq_avail_bytes(r->num));
	void *used = mem_at(mem, r->device, vq_used_bytes(r->num));

	if (!desc || !avail || !used)
		return error_kind(err, ERR_PEER, "ring %u: outside of guest memory", i);
	q->name = d->ops->name;
	q->event_idx = virtio_has(d, VIRTIO_F_EVENT_IDX);
	q->indirect = virtio_has(d, VIRTIO_F_INDIRECT_DESC);
	if (vq_setup(q, mem, r->num, desc, avail, used, r->next, err) < 0 ||
	    d->ops->start_queue(d, i, err) < 0) {
		vq_reset(q);
		return error_wrap(err, "ring %u", i);
	}
	d->running[i] = true;
	return 0;
}

static int start_queues(struct slot *s, const struct mmio_regs *r, struct error *err)
{
	s->d->acked = r->driver_features;
	s->started = true;
	for (unsigned i = 0; i < r->nqueues; i++) {
		if (r->q[i].ready && start_queue(s, &r->q[i], i, err) < 0) {
			park_queues(s);
			return -1;
		}
	}
	return 0;
}

/* ---- what the register file wants: the loop's thread */

static void settle_start(struct slot *s)
{
	struct error err = ERROR_INIT;
	struct mmio_regs r;
	int result;

	pthread_mutex_lock(&s->lock);
	r = s->regs;
	pthread_mutex_unlock(&s->lock);
	if (!mmio_regs_live(&r) || s->started)
		return;
	result = start_queues(s, &r, &err);
	if (result < 0 && !s->warned) {
		/* Once: a guest can do it as often as it likes. */
		log_warn("virtio-mmio slot %u: %s: %s", s->index, s->d->ops->name, err.msg);
		s->warned = true;
	}
	pthread_mutex_lock(&s->lock);
	if (result < 0)
		mmio_regs_needs_reset(&s->regs);
	mmio_regs_show(&s->regs, s->page);
	/* Also a change of before DRIVER_OK, that nobody could be told. */
	if (s->regs.interrupt_status & MMIO_INT_CONFIG)
		signal_fd(s->call);
	pthread_mutex_unlock(&s->lock);
}

static void settle_reset(struct slot *s)
{
	bool resetting;

	pthread_mutex_lock(&s->lock);
	resetting = s->resetting;
	pthread_mutex_unlock(&s->lock);
	if (!resetting)
		return;
	stop_queues(s, NULL);
	s->d->acked = 0;
	pthread_mutex_lock(&s->lock);
	memset(s->config_mask, 0, sizeof(s->config_mask));
	mmio_regs_reset(&s->regs);
	mmio_regs_show(&s->regs, s->page);
	s->resetting = false;
	pthread_cond_broadcast(&s->reset_done);
	pthread_mutex_unlock(&s->lock);
}

/* Back to what a device is before it meets a transport. */
static void release_device(struct virtio_device *d)
{
	for (unsigned i = 0; i < d->ops->nqueues; i++)
		vq_init(&d->vq[i]);
	d->acked = 0;
	d->config_changed = NULL;
	d->transport = NULL;
}

static void settle_leave(struct slot *s)
{
	static const uint8_t none[MMIO_CONFIG_BYTES];
	struct virtio_device *d = s->d;
	bool idle;

	if (!s->leaving)
		return;
	pthread_mutex_lock(&s->lock);
	idle = mmio_regs_idle(&s->regs);
	if (idle) {
		s->leaving = s->hidden = false;
		mmio_regs_empty(&s->regs);
		mmio_regs_show(&s->regs, s->page);
		show_config(s, none);
		memset(s->config_mask, 0, sizeof(s->config_mask));
		s->d = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (!idle)
		return;
	release_device(d);
	log_debug("virtio-mmio slot %u: %s: out", s->index, d->ops->name);
	s->unplugged(s->unplugged_arg, d);
}

static void settle(struct slot *s)
{
	if (!s->d)
		return;
	settle_reset(s);
	settle_start(s);
	pass_config(s);
	settle_leave(s);
}

static void settle_pending(struct mmio_bus *b)
{
	uint32_t pending = __atomic_exchange_n(&b->pending, 0, __ATOMIC_ACQUIRE);

	for (unsigned i = 0; i < b->nslots; i++)
		if (pending >> i & 1)
			settle(&b->slot[i]);
}

static void on_wake(void *arg, UNUSED uint32_t events)
{
	struct mmio_bus *b = arg;
	uint64_t n;

	(void)!read(b->wake, &n, sizeof(n));
	if (!b->paused) /* else mmio_resume() does it */
		settle_pending(b);
}

static void park_all(struct mmio_bus *b)
{
	for (unsigned i = 0; i < b->nslots; i++)
		if (b->slot[i].d && b->slot[i].started)
			park_queues(&b->slot[i]);
}

void mmio_pause(struct mmio_bus *b)
{
	if (b->paused)
		return;
	settle_pending(b);
	b->paused = true;
	park_all(b);
}

/* The queues of a device that ran when it was stopped. */
static int unpark(struct slot *s, struct error *err)
{
	struct mmio_regs r;

	if (!s->d || s->started)
		return 0;
	pthread_mutex_lock(&s->lock);
	r = s->regs;
	pthread_mutex_unlock(&s->lock);
	if (!mmio_regs_live(&r) || start_queues(s, &r, err) == 0)
		return 0;
	return error_wrap(err, "virtio-mmio slot %u: %s", s->index, s->d->ops->name);
}

int mmio_resume(struct mmio_bus *b, struct error *err)
{
	if (!b->paused)
		return 0;
	for (unsigned i = 0; i < b->nslots; i++)
		if (unpark(&b->slot[i], err) < 0) {
			park_all(b);
			return -1;
		}
	b->paused = false;
	__atomic_store_n(&b->pending, 0, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < b->nslots; i++)
		settle(&b->slot[i]);
	return 0;
}

/* ---- plugging: the loop's thread */

static int make_eventfd(int *fd, struct error *err)
{
	if (*fd < 0)
		*fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return *fd < 0 ? error_errno(err, "eventfd") : 0;
}

static int wire_call(struct slot *s, struct error *err)
{
	const struct mmio_kernel *k = &s->bus->kernel;

	if (s->call >= 0)
		return 0;
	if (make_eventfd(&s->call, err) < 0)
		return -1;
	if (k->irq(k->arg, s->index, s->call, err) == 0 &&
	    k->io(k->arg, s->index, MMIO_INTERRUPT_ACK, MMIO_INT_USED, s->bus->ack, err) == 0)
		return 0;
	close_fd(&s->call);
	return -1;
}

static int wire_kick(struct slot *s, unsigned q, struct error *err)
{
	const struct mmio_kernel *k = &s->bus->kernel;
	uint64_t n;

	if (make_eventfd(&s->kick[q], err) < 0)
		return -1;
	if (q < s->nkicks) {
		/* Kicks of the device that was here before. */
		(void)!read(s->kick[q], &n, sizeof(n));
		return 0;
	}
	if (k->io(k->arg, s->index, MMIO_QUEUE_NOTIFY, q, s->kick[q], err) < 0)
		return -1;
	s->nkicks = q + 1;
	return 0;
}

static int wire(struct slot *s, unsigned nqueues, struct error *err)
{
	if (wire_call(s, err) < 0)
		return -1;
	for (unsigned q = 0; q < nqueues; q++)
		if (wire_kick(s, q, err) < 0)
			return -1;
	return 0;
}

static void fill(struct slot *s, struct virtio_device *d)
{
	for (unsigned i = 0; i < d->ops->nqueues; i++) {
		vq_init(&d->vq[i]);
		d->vq[i].kick_fd = s->kick[i];
		d->vq[i].call_fd = s->call;
		d->running[i] = false;
	}
	d->acked = 0;
	d->transport = s;
	s->d = d;
	s->started = s->warned = false;
}

static void show_device(struct slot *s)
{
	struct virtio_device *d = s->d;
	const struct virtio_device_ops *o = d->ops;
	uint64_t features = o->features(d) | UINT64_C(1) << VIRTIO_F_VERSION_1 |
			    UINT64_C(1) << VIRTIO_F_INDIRECT_DESC |
			    UINT64_C(1) << VIRTIO_F_EVENT_IDX;
	uint8_t config[MMIO_CONFIG_BYTES];

	d->config_changed = on_config_changed;
	s->hidden = false;
	read_config(s, config);
	pthread_mutex_lock(&s->lock);
	show_config(s, config);
	mmio_regs_fill(&s->regs, o->id, features, o->nqueues,
		       o->queue_size ? o->queue_size : QUEUE_SIZE);
	s->regs.config_generation++;
	mmio_regs_show(&s->regs, s->page);
	pthread_mutex_unlock(&s->lock);
}

static int plug(struct mmio_bus *b, struct virtio_device *d, bool hidden, struct error *err)
{
	for (unsigned i = 0; i < b->nslots; i++) {
		struct slot *s = &b->slot[i];

		if (s->d)
			continue;
		if (wire(s, d->ops->nqueues, err) < 0)
			return error_wrap(err, "virtio-mmio slot %u: %s", i, d->ops->name);
		fill(s, d);
		s->hidden = hidden;
		if (!hidden)
			show_device(s);
		log_debug("virtio-mmio slot %u: %s%s", i, d->ops->name, hidden ? ", hidden" : "");
		return (int)i;
	}
	return error_kind(err, ERR_NO_ROOM, "%s: all %u slots are in use", d->ops->name, b->nslots);
}

int mmio_plug(struct mmio_bus *b, struct virtio_device *d, struct error *err)
{
	return plug(b, d, false, err);
}

int mmio_plug_hidden(struct mmio_bus *b, struct virtio_device *d, struct error *err)
{
	return plug(b, d, true, err);
}

void mmio_reveal(struct mmio_bus *b)
{
	for (unsigned i = 0; i < b->nslots; i++)
		if (b->slot[i].hidden)
			show_device(&b->slot[i]);
}

void mmio_unplug(struct mmio_bus *b, struct virtio_device *d, unplugged_fn done, void *arg)
{
	for (unsigned i = 0; i < b->nslots; i++) {
		struct slot *s = &b->slot[i];

		if (s->d != d)
			continue;
		s->unplugged = done;
		s->unplugged_arg = arg;
		pthread_mutex_lock(&s->lock);
		s->leaving = true;
		pthread_mutex_unlock(&s->lock);
		wake_loop(s);
	}
}

/* ---- life */

unsigned mmio_lazy_ranges(struct mmio_range out[4])
{
	static const struct mmio_range lazy[] = {
		{MMIO_DRIVER_FEATURES, 8}, /* and their selector */
		{MMIO_QUEUE_NUM, 4},
		{MMIO_QUEUE_DESC_LOW, MMIO_QUEUE_DEVICE_HIGH + 4 - MMIO_QUEUE_DESC_LOW},
	};

	memcpy(out, lazy, sizeof(lazy));
	return ARRAY_LEN(lazy);
}

static void init_slot(struct mmio_bus *b, unsigned i, void *pages)
{
	struct slot *s = &b->slot[i];

	s->bus = b;
	s->index = i;
	s->page = (uint8_t *)pages + (size_t)i * MMIO_SLOT_BYTES;
	s->call = -1;
	for (unsigned q = 0; q < DEVICE_QUEUES_MAX; q++)
		s->kick[q] = -1;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->reset_done, NULL);
	mmio_regs_empty(&s->regs);
	mmio_regs_show(&s->regs, s->page);
}

struct mmio_bus *mmio_new(struct loop *l, const struct guest_mem *mem, void *pages, unsigned nslots,
			  const struct mmio_kernel *k, struct error *err)
{
	struct mmio_bus *b = calloc(1, sizeof(*b));

	if (!b) {
		error_set(err, "out of memory");
		return NULL;
	}
	b->loop = l;
	b->mem = mem;
	b->kernel = *k;
	b->wake = b->ack = -1;
	b->nslots = nslots < MMIO_SLOTS_MAX ? nslots : MMIO_SLOTS_MAX;
	for (unsigned i = 0; i < b->nslots; i++)
		init_slot(b, i, pages);
	if (make_eventfd(&b->wake, err) < 0 || make_eventfd(&b->ack, err) < 0 ||
	    !(b->src = loop_add(l, b->wake, EPOLLIN, on_wake, b, err))) {
		error_wrap(err, "virtio-mmio");
		mmio_free(b);
		return NULL;
	}
	return b;
}

static void free_slot(struct slot *s)
{
	if (s->d) {
		stop_queues(s, NULL);
		release_device(s->d);
	}
	close_fd(&s->call);
	for (unsigned q = 0; q < DEVICE_QUEUES_MAX; q++)
		close_fd(&s->kick[q]);
	pthread_cond_destroy(&s->reset_done);
	pthread_mutex_destroy(&s->lock);
}

void mmio_free(struct mmio_bus *b)
{
	if (!b)
		return;
	loop_remove(b->src);
	for (unsigned i = 0; i < b->nslots; i++)
		free_slot(&b->slot[i]);
	close_fd(&b->wake);
	close_fd(&b->ack);
	free(b);
}
