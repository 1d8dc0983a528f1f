/*
 * mmio_guest.h - a machine without vCPUs for tests of the virtio-mmio transport: the loop runs in a
 * thread of its own, the test plays the guest's driver, and the kernel's part (irqfd, ioeventfd) is
 * noted down. Also a device that checks what its transport does to it.
 */
#ifndef HUSK_TESTS_MMIO_GUEST_H
#define HUSK_TESTS_MMIO_GUEST_H

#include <pthread.h>

#include "lib/log.h"
#include "tests/unit/ring.h"
#include "vmm/mmio.h"
#include "vmm/mmio_regs.h"

#define SLOTS 4
#define FAKE_QUEUES 2
#define FAKE_CONFIG 16u

/* ---- a device that believes nothing */

struct fake {
	struct virtio_device d;
	bool on[FAKE_QUEUES];
	bool refuses; /* to start its second queue */
	unsigned starts, stops;
	uint8_t config[FAKE_CONFIG];
	unsigned config_writes, config_bytes;
	struct virtqueue seen[FAKE_QUEUES]; /* as they were at the start */
};

static inline uint64_t fake_features(UNUSED struct virtio_device *d)
{
	return 0x21;
}

static inline void fake_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	struct fake *f = (struct fake *)d;

	memset(buf, 0, len);
	if (off < FAKE_CONFIG)
		memcpy(buf, f->config + off, len < FAKE_CONFIG - off ? len : FAKE_CONFIG - off);
}

static inline void fake_write_config(struct virtio_device *d, uint32_t off, const void *buf,
				     uint32_t len)
{
	struct fake *f = (struct fake *)d;

	if (len > 4 || off / 4 != (off + len - 1) / 4)
		abort();
	f->config_writes++;
	f->config_bytes += len;
	if (off < FAKE_CONFIG)
		memcpy(f->config + off, buf, len < FAKE_CONFIG - off ? len : FAKE_CONFIG - off);
}

static inline int fake_start(struct virtio_device *d, unsigned q, struct error *err)
{
	struct fake *f = (struct fake *)d;

	if (q >= FAKE_QUEUES || f->on[q] || !d->vq[q].size || d->vq[q].kick_fd < 0 ||
	    d->vq[q].call_fd < 0 || !virtio_has(d, VIRTIO_F_VERSION_1))
		abort();
	if (f->refuses && q == 1)
		return error_set(err, "it does not want to");
	f->on[q] = true;
	f->starts++;
	f->seen[q] = d->vq[q];
	return 0;
}

static inline void fake_stop(struct virtio_device *d, unsigned q)
{
	struct fake *f = (struct fake *)d;

	if (q >= FAKE_QUEUES || !f->on[q] || !d->vq[q].size)
		abort();
	f->on[q] = false;
	f->stops++;
}

static const struct virtio_device_ops fake_ops = {
	.name = "fake",
	.id = 42,
	.nqueues = FAKE_QUEUES,
	.queue_size = 64,
	.features = fake_features,
	.read_config = fake_read_config,
	.write_config = fake_write_config,
	.start_queue = fake_start,
	.stop_queue = fake_stop,
};

/* ---- the machine */

struct io {
	unsigned slot;
	uint32_t off, value;
	int fd;
};

struct machine {
	struct loop *loop;
	struct mmio_bus *bus;
	struct test_ring r;
	uint8_t *pages;
	pthread_t thread;
	struct fake fake[SLOTS + 1];
	int irq[SLOTS];
	struct io io[64];
	unsigned nio;
	bool kernel_is_full;
	int gone_fd; /* counts the devices that were unplugged */
	struct virtio_device *gone;

	/* what the loop's thread shall do */
	int call_fd, done_fd;
	void (*fn)(struct machine *m);
	struct virtio_device *d;
	int result;
	struct error err;
};

static inline int machine_irq(void *arg, unsigned slot, int fd, struct error *err)
{
	struct machine *m = arg;

	if (m->kernel_is_full)
		return error_set(err, "no more interrupts");
	m->irq[slot] = fd;
	return 0;
}

static inline int machine_io(void *arg, unsigned slot, uint32_t off, uint32_t value, int fd,
			     struct error *err)
{
	struct machine *m = arg;

	if (m->kernel_is_full || m->nio == ARRAY_LEN(m->io))
		return error_set(err, "no more ioeventfds");
	m->io[m->nio++] = (struct io){slot, off, value, fd};
	return 0;
}

static inline void machine_on_call(void *arg, UNUSED uint32_t events)
{
	struct machine *m = arg;
	uint64_t n = 1;

	if (read(m->call_fd, &n, sizeof(n)) != sizeof(n))
		abort();
	m->fn(m);
	if (write(m->done_fd, &n, sizeof(n)) != sizeof(n))
		abort();
}

static inline void *machine_run(void *arg)
{
	loop_run(((struct machine *)arg)->loop);
	return NULL;
}

/* Has the loop's thread call `fn`, and waits for it. What was pending for the loop before is done,
 * since it calls what is ready in order. */
static inline void machine_do(struct machine *m, void (*fn)(struct machine *m))
{
	struct pollfd p = {.fd = m->done_fd, .events = POLLIN};
	uint64_t n = 1;

	m->fn = fn;
	if (write(m->call_fd, &n, sizeof(n)) != sizeof(n) || poll(&p, 1, RING_WAIT_MS) != 1 ||
	    read(m->done_fd, &n, sizeof(n)) != sizeof(n))
		abort();
}

static inline void machine_nothing(UNUSED struct machine *m)
{
}

/* Two rounds of the loop: all is done that was asked for before. */
static inline void machine_settle(struct machine *m)
{
	machine_do(m, machine_nothing);
	machine_do(m, machine_nothing);
}

static inline struct machine *machine_new(void)
{
	struct mmio_kernel k = {.irq = machine_irq, .io = machine_io};
	struct machine *m = calloc(1, sizeof(*m));

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	test_ring_init(&m->r, 16);
	m->pages = mmap(NULL, (size_t)SLOTS * MMIO_SLOT_BYTES, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	m->loop = loop_new(NULL);
	m->call_fd = eventfd(0, EFD_CLOEXEC);
	m->done_fd = eventfd(0, EFD_CLOEXEC);
	m->gone_fd = eventfd(0, EFD_CLOEXEC);
	k.arg = m;
	m->bus = mmio_new(m->loop, &m->r.mem, m->pages, SLOTS, &k, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(m->fake); i++)
		m->fake[i].d = (struct virtio_device){.ops = &fake_ops, .loop = m->loop};
	if (m->pages == MAP_FAILED || !m->bus ||
	    !loop_add(m->loop, m->call_fd, EPOLLIN, machine_on_call, m, NULL) ||
	    pthread_create(&m->thread, NULL, machine_run, m))
		abort();
	return m;
}

static inline void machine_stop(struct machine *m)
{
	loop_stop(m->loop, 0);
}

static inline void machine_free(struct machine *m)
{
	machine_do(m, machine_stop);
	pthread_join(m->thread, NULL);
	mmio_free(m->bus);
	for (unsigned i = 0; i < ARRAY_LEN(m->fake); i++)
		if (m->fake[i].on[0] || m->fake[i].on[1])
			abort();
	loop_free(m->loop);
	munmap(m->pages, (size_t)SLOTS * MMIO_SLOT_BYTES);
	test_ring_free(&m->r);
	close(m->call_fd);
	close(m->done_fd);
	close(m->gone_fd);
	free(m);
}

static inline void machine_plug_fn(struct machine *m)
{
	m->err = (struct error)ERROR_INIT;
	m->result = mmio_plug(m->bus, m->d, &m->err);
}

/* Returns the slot, or -1 with m->err. */
static inline int machine_plug(struct machine *m, struct virtio_device *d)
{
	m->d = d;
	machine_do(m, machine_plug_fn);
	return m->result;
}

static inline void machine_plug_hidden_fn(struct machine *m)
{
	m->result = mmio_plug_hidden(m->bus, m->d, NULL);
}

static inline int machine_plug_hidden(struct machine *m, struct virtio_device *d)
{
	m->d = d;
	machine_do(m, machine_plug_hidden_fn);
	return m->result;
}

static inline void machine_reveal_fn(struct machine *m)
{
	mmio_reveal(m->bus);
}

static inline void machine_on_gone(void *arg, struct virtio_device *d)
{
	struct machine *m = arg;
	uint64_t n = 1;

	m->gone = d;
	if (write(m->gone_fd, &n, sizeof(n)) != sizeof(n))
		abort();
}

static inline void machine_unplug_fn(struct machine *m)
{
	mmio_unplug(m->bus, m->d, machine_on_gone, m);
}

static inline void machine_unplug(struct machine *m, struct virtio_device *d)
{
	m->d = d;
	machine_do(m, machine_unplug_fn);
}

static inline void machine_pause_fn(struct machine *m)
{
	mmio_pause(m->bus);
}

static inline void machine_resume_fn(struct machine *m)
{
	m->err = (struct error)ERROR_INIT;
	m->result = mmio_resume(m->bus, &m->err);
}

/* ---- the driver's side */

static inline void mmio_w32(struct machine *m, int slot, uint32_t off, uint32_t v)
{
	mmio_write(m->bus, (uint64_t)slot * MMIO_SLOT_BYTES + off, &v, sizeof(v));
}

static inline uint32_t mmio_r32(struct machine *m, int slot, uint32_t off)
{
	uint32_t v;

	mmio_read(m->bus, (uint64_t)slot * MMIO_SLOT_BYTES + off, &v, sizeof(v));
	return v;
}

static inline void drv_negotiate(struct machine *m, int slot, uint32_t features)
{
	mmio_w32(m, slot, MMIO_STATUS, 0);
	mmio_w32(m, slot, MMIO_STATUS, 1);
	mmio_w32(m, slot, MMIO_STATUS, 3);
	mmio_w32(m, slot, MMIO_DRIVER_FEATURES_SEL, 1);
	mmio_w32(m, slot, MMIO_DRIVER_FEATURES, 1);
	mmio_w32(m, slot, MMIO_DRIVER_FEATURES_SEL, 0);
	mmio_w32(m, slot, MMIO_DRIVER_FEATURES, features);
	mmio_w32(m, slot, MMIO_STATUS, 0xb);
	if (mmio_r32(m, slot, MMIO_STATUS) != 0xb)
		abort();
}

/* Queue q at the test ring's place, `at` bytes further. */
static inline void drv_queue(struct machine *m, int slot, uint32_t q, uint32_t at)
{
	mmio_w32(m, slot, MMIO_QUEUE_SEL, q);
	mmio_w32(m, slot, MMIO_QUEUE_NUM, m->r.size);
	mmio_w32(m, slot, MMIO_QUEUE_DESC_LOW, RING_DESC + at);
	mmio_w32(m, slot, MMIO_QUEUE_DRIVER_LOW, RING_AVAIL + at);
	mmio_w32(m, slot, MMIO_QUEUE_DEVICE_LOW, RING_USED + at);
	mmio_w32(m, slot, MMIO_QUEUE_READY, 1);
}

static inline void drv_go(struct machine *m, int slot)
{
	mmio_w32(m, slot, MMIO_STATUS, 0xf);
}

/* All of it, as a driver with one queue does it, with a ring that is new. */
static inline void drv_start(struct machine *m, int slot)
{
	drv_negotiate(m, slot, 0);
	memset(m->r.ram, 0, RING_DATA); /* not before the reset: it may be in use */
	drv_queue(m, slot, 0, 0);
	drv_go(m, slot);
}

#endif
