/*
 * A guest that writes what it likes to the registers and the memory of a machine with real devices:
 * random numbers, a disk and an empty disk, vsock; hot-plug, pauses and rounds of the loop in
 * between.
 *
 * Input: steps. The first byte says what (STEP_*) and, in its upper half, for which slot; operands
 * follow.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/mmio.h"
#include "vmm/mmio_regs.h"
#include "vmm/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SLOTS 4
#define DEVICES 5
#define RAM 0x10000u
#define STEPS_MAX 400

enum step {
	STEP_REGISTER,	/* register / 4, 4 bytes of value */
	STEP_RAW,	/* 2 bytes of offset, 1 of length, up to 15 bytes */
	STEP_HANDSHAKE, /* as a driver does it, with rings at a place of one byte */
	STEP_MEMORY,	/* 2 bytes of address, 1 of length, the bytes */
	STEP_ROUND,
	STEP_PLUG,   /* device */
	STEP_UNPLUG, /* device */
	STEP_PAUSE,
	STEP_RESUME,
	STEP_CONFIG, /* a change of the device's own */
	STEP_KICK,   /* queue */
	STEP_CHAIN,  /* a chain of one descriptor: 2 bytes of address, 2 of length, flags */
	STEPS,
};

struct input {
	const uint8_t *p;
	size_t left;
};

static uint8_t ram[RAM] __attribute__((aligned(4096)));
static uint8_t pages[SLOTS * MMIO_SLOT_BYTES] __attribute__((aligned(4096)));

struct fuzz {
	struct guest_mem mem;
	struct loop *loop;
	struct mmio_bus *bus;
	struct virtio_device *d[DEVICES];
	int slot[DEVICES]; /* -1: none */
	bool leaving[DEVICES];
	int kick[SLOTS][DEVICE_QUEUES_MAX];
	int stop;
	bool stopping, paused;
	bool hidden; /* the last device is */
};

static void require(bool what)
{
	if (!what)
		abort();
}

static uint8_t byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static uint32_t number(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint32_t)byte(in) << 8 * i;
	return v;
}

/* ---- the machine */

static int irq(UNUSED void *arg, unsigned slot, int fd, UNUSED struct error *err)
{
	require(slot < SLOTS && fd >= 0);
	return 0;
}

static int io(void *arg, unsigned slot, uint32_t off, uint32_t value, int fd,
	      UNUSED struct error *err)
{
	struct fuzz *f = arg;

	require(slot < SLOTS && fd >= 0);
	if (off == MMIO_QUEUE_NOTIFY) {
		require(value < DEVICE_QUEUES_MAX);
		f->kick[slot][value] = fd;
	}
	return 0;
}

/* The second time, since at the first other sources that are ready may come after this one. */
static void on_stop(void *arg, UNUSED uint32_t events)
{
	struct fuzz *f = arg;
	uint64_t n;

	f->stopping = !f->stopping;
	if (f->stopping)
		return;
	require(read(f->stop, &n, sizeof(n)) == sizeof(n));
	loop_stop(f->loop, 0);
}

static void round_of_loop(struct fuzz *f)
{
	uint64_t one = 1;

	require(write(f->stop, &one, sizeof(one)) == sizeof(one));
	loop_run(f->loop);
}

static void on_gone(void *arg, struct virtio_device *d)
{
	struct fuzz *f = arg;

	for (unsigned i = 0; i < DEVICES; i++) {
		if (f->d[i] != d)
			continue;
		require(f->slot[i] >= 0 && f->leaving[i]);
		for (unsigned q = 0; q < d->ops->nqueues; q++)
			require(!d->running[q]);
		f->slot[i] = -1;
		f->leaving[i] = false;
		return;
	}
	abort();
}

static struct virtio_device *disk(struct loop *l)
{
	struct virtio_device *d = blk_new(l, false, NULL);
	int fd = memfd_create("disk", MFD_CLOEXEC);

	require(ftruncate(fd, 0x4000) == 0);
	require(blk_attach(d, "disk", source_file_new(fd, false, true, NULL), NULL) == 0);
	return d;
}

static void start(struct fuzz *f)
{
	struct mmio_kernel k = {.irq = irq, .io = io, .arg = f};

	memset(f, 0, sizeof(*f));
	memset(ram, 0, sizeof(ram));
	memset(pages, 0, sizeof(pages));
	memset(f->kick, -1, sizeof(f->kick));
	f->mem = (struct guest_mem){.n = 1, .r = {{.size = RAM, .hva = ram, .fd = -1}}};
	f->loop = loop_new(NULL);
	f->stop = eventfd(0, EFD_CLOEXEC);
	require(loop_add(f->loop, f->stop, EPOLLIN, on_stop, f, NULL));
	f->bus = mmio_new(f->loop, &f->mem, pages, SLOTS, &k, NULL);
	/* One thread is guest and loop: nobody would end its waiting. */
	mmio_wake_all(f->bus);
	f->d[0] = rng_new(f->loop, NULL);
	f->d[1] = disk(f->loop);
	f->d[2] = blk_new(f->loop, true, NULL);
	f->d[3] = vsock_new(f->loop, NULL);
	f->d[4] = rng_new(f->loop, NULL);
	for (unsigned i = 0; i < DEVICES; i++)
		f->slot[i] = i < SLOTS ? mmio_plug(f->bus, f->d[i], NULL) : -1;
}

static void finish(struct fuzz *f)
{
	mmio_free(f->bus);
	for (unsigned i = 0; i < DEVICES; i++) {
		for (unsigned q = 0; q < f->d[i]->ops->nqueues; q++)
			require(!f->d[i]->running[q]);
		f->d[i]->ops->destroy(f->d[i]);
	}
	loop_free(f->loop);
	close(f->stop);
}

/* ---- steps */

static void w32(struct fuzz *f, unsigned slot, uint32_t off, uint32_t v)
{
	mmio_write(f->bus, slot * MMIO_SLOT_BYTES + off, &v, sizeof(v));
}

static void handshake(struct fuzz *f, unsigned slot, uint8_t at)
{
	w32(f, slot, MMIO_STATUS, 0);
	round_of_loop(f);
	w32(f, slot, MMIO_STATUS, 3);
	w32(f, slot, MMIO_DRIVER_FEATURES_SEL, 1);
	w32(f, slot, MMIO_DRIVER_FEATURES, 1);
	w32(f, slot, MMIO_DRIVER_FEATURES_SEL, 0);
	w32(f, slot, MMIO_DRIVER_FEATURES, at & 1 ? 3u << VIRTIO_F_INDIRECT_DESC : 0);
	w32(f, slot, MMIO_STATUS, 0xb);
	for (uint32_t q = 0; q < 3; q++) {
		uint32_t ring = (at & 0xe0u) << 8 | q << 11;

		w32(f, slot, MMIO_QUEUE_SEL, q);
		w32(f, slot, MMIO_QUEUE_NUM, 16);
		w32(f, slot, MMIO_QUEUE_DESC_LOW, ring);
		w32(f, slot, MMIO_QUEUE_DRIVER_LOW, ring + 0x100);
		w32(f, slot, MMIO_QUEUE_DEVICE_LOW, ring + 0x140);
		w32(f, slot, MMIO_QUEUE_READY, !(at >> q & 2));
	}
	w32(f, slot, MMIO_STATUS, 0xf);
	round_of_loop(f);
}

static void raw(struct fuzz *f, unsigned slot, struct input *in)
{
	uint32_t off = number(in, 2);
	uint8_t buf[16], len = byte(in) & 15;

	for (unsigned i = 0; i < len; i++)
		buf[i] = byte(in);
	mmio_write(f->bus, (uint64_t)slot * MMIO_SLOT_BYTES + off, buf, len);
	mmio_read(f->bus, (uint64_t)slot * MMIO_SLOT_BYTES + off, buf, len);
}

static void memory(struct input *in)
{
	uint32_t at = number(in, 2), len = byte(in);

	for (uint32_t i = 0; i < len && at + i < RAM; i++)
		ram[at + i] = byte(in);
}

/* One descriptor, offered in the ring that handshake() puts at `at` for queue `q`. */
static void chain(struct input *in)
{
	uint8_t at = byte(in);
	uint32_t ring = (at & 0xe0u) << 8 | (at & 3u) << 11;
	uint16_t idx, head;
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} d = {.addr = number(in, 2), .len = number(in, 2), .flags = byte(in) & 7};

	memcpy(&idx, ram + ring + 0x102, sizeof(idx));
	head = idx & 15;
	d.next = (head + 1) & 15;
	memcpy(ram + ring + 16u * head, &d, sizeof(d));
	memcpy(ram + ring + 0x104 + 2u * (idx & 15), &head, sizeof(head));
	idx++;
	if (!(at & 4)) /* else it is a part of the one that follows */
		memcpy(ram + ring + 0x102, &idx, sizeof(idx));
}

/* The last one comes hidden; who plugs what is plugged reveals it. */
static void plug(struct fuzz *f, unsigned i)
{
	if (f->slot[i] >= 0) {
		mmio_reveal(f->bus);
		f->hidden = false;
	} else if (i == DEVICES - 1) {
		f->slot[i] = mmio_plug_hidden(f->bus, f->d[i], NULL);
		f->hidden = true;
	} else {
		f->slot[i] = mmio_plug(f->bus, f->d[i], NULL);
	}
}

static void unplug(struct fuzz *f, unsigned i)
{
	f->leaving[i] = f->slot[i] >= 0;
	mmio_unplug(f->bus, f->d[i], on_gone, f);
}

static void change_config(struct fuzz *f, unsigned i)
{
	if (f->d[i]->config_changed)
		f->d[i]->config_changed(f->d[i], f->d[i]->transport);
}

static void kick(struct fuzz *f, unsigned slot, unsigned q)
{
	uint64_t one = 1;

	if (f->kick[slot][q] >= 0)
		(void)!write(f->kick[slot][q], &one, sizeof(one));
}

static void do_step(struct fuzz *f, struct input *in)
{
	uint8_t what = byte(in);
	unsigned slot = what >> 4 & 3;

	switch ((what & 15) % STEPS) {
	case STEP_REGISTER: {
		uint32_t off = byte(in) * 4u;

		w32(f, slot, off, number(in, 4));
		break;
	}
	case STEP_RAW:
		raw(f, slot, in);
		break;
	case STEP_HANDSHAKE:
		handshake(f, slot, byte(in));
		break;
	case STEP_MEMORY:
		memory(in);
		break;
	case STEP_ROUND:
		round_of_loop(f);
		break;
	case STEP_PLUG:
		plug(f, byte(in) % DEVICES);
		break;
	case STEP_UNPLUG:
		unplug(f, byte(in) % DEVICES);
		break;
	case STEP_PAUSE: /* whoever waits for the loop is served before vCPUs stand still */
		round_of_loop(f);
		mmio_pause(f->bus);
		f->paused = true;
		break;
	case STEP_RESUME:
		f->paused = mmio_resume(f->bus, NULL) < 0;
		break;
	case STEP_CONFIG:
		change_config(f, byte(in) % DEVICES);
		break;
	case STEP_KICK:
		kick(f, slot, byte(in) % DEVICE_QUEUES_MAX);
		break;
	case STEP_CHAIN:
		chain(in);
		break;
	default:
		break;
	}
}

/* ---- what must hold after every step */

static void check_device(const struct fuzz *f, const struct virtio_device *d, int slot)
{
	for (unsigned q = 0; q < d->ops->nqueues; q++) {
		const struct virtqueue *v = &d->vq[q];
		const uint8_t *desc = v->desc, *avail = v->avail, *used = v->used;

		if (!d->running[q])
			continue;
		require(slot >= 0 && !f->paused);
		require(v->size && v->size <= 256 && !(v->size & (v->size - 1)));
		require(desc >= ram && desc + vq_desc_bytes(v->size) <= ram + RAM);
		require(avail >= ram && avail + vq_avail_bytes(v->size) <= ram + RAM);
		require(used >= ram && used + vq_used_bytes(v->size) <= ram + RAM);
		require(virtio_has(d, VIRTIO_F_VERSION_1));
	}
}

static void check(struct fuzz *f)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		uint32_t id;

		check_device(f, f->d[i], f->slot[i]);
		if (f->slot[i] < 0)
			continue;
		mmio_read(f->bus, (uint64_t)f->slot[i] * MMIO_SLOT_BYTES + MMIO_DEVICE_ID, &id, 4);
		require(id == (i == DEVICES - 1 && f->hidden ? 0 : f->d[i]->ops->id));
	}
}

static unsigned lowest_fd(void)
{
	int fd = dup(0);

	close(fd);
	return (unsigned)fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	unsigned before = lowest_fd(); /* a leak moves it */
	struct fuzz f;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	start(&f);
	for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
		do_step(&f, &in);
		check(&f);
	}
	finish(&f);
	require(lowest_fd() == before);
	return 0;
}
