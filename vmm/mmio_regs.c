/*
 * mmio_regs.c - the register file of a virtio-mmio slot.
 *
 * Theory of operation
 *
 * A driver goes through phases (§3.1.1), and what it may write depends on the phase. Status says
 * which one it is:
 *
 *	before FEATURES_OK	DriverFeatures
 *	FEATURES_OK		the queues' registers; addresses and size while the queue is not
 *ready DRIVER_OK		nothing but notifications, acknowledgements, configuration any
 *the selectors, and Status
 *
 * Everything else is without effect, so that what the device was started with is what it runs with:
 * a ring that could be moved under a running device is how others were broken into. A status bit
 * once set stays until a reset; a write that would clear one is ignored as a whole.
 *
 * Whether ring addresses lie in memory is not known here: who starts the queues finds out.
 */
#include <string.h>

#include "vmm/mmio_regs.h"

#define STATUS_BITS                                                                           \
	(VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER | VIRTIO_S_DRIVER_OK | VIRTIO_S_FEATURES_OK | \
	 VIRTIO_S_FAILED)

_Static_assert(sizeof(struct mmio_queue_regs) == 32, "no hidden padding in saved data");
_Static_assert(sizeof(struct mmio_regs) == 56 + DEVICE_QUEUES_MAX * 32,
	       "no hidden padding in saved data");

void mmio_regs_empty(struct mmio_regs *r)
{
	uint32_t generation = r->config_generation;

	*r = (struct mmio_regs){.version = MMIO_REGS_VERSION, .config_generation = generation};
}

void mmio_regs_fill(struct mmio_regs *r, uint32_t device_id, uint64_t features, unsigned nqueues,
		    uint16_t queue_size)
{
	mmio_regs_empty(r);
	r->device_id = device_id;
	r->device_features = features;
	r->nqueues = nqueues;
	for (unsigned i = 0; i < nqueues; i++)
		r->q[i].num_max = queue_size;
}

void mmio_regs_reset(struct mmio_regs *r)
{
	mmio_regs_fill(r, r->device_id, r->device_features, r->nqueues, r->q[0].num_max);
}

void mmio_regs_needs_reset(struct mmio_regs *r)
{
	r->status |= VIRTIO_S_NEEDS_RESET;
	r->interrupt_status |= MMIO_INT_CONFIG;
}

/* ---- writing */

static bool features_acceptable(const struct mmio_regs *r)
{
	return !(r->driver_features & ~r->device_features) &&
	       r->driver_features >> VIRTIO_F_VERSION_1 & 1;
}

static enum mmio_action write_status(struct mmio_regs *r, uint32_t v)
{
	uint32_t old = r->status & STATUS_BITS, set;

	if (v == 0) {
		if (r->status & VIRTIO_S_DRIVER_OK)
			return MMIO_RESET;
		mmio_regs_reset(r);
		return MMIO_NOTHING;
	}
	if (old & ~v)
		return MMIO_NOTHING;
	set = v & STATUS_BITS & ~old;
	if ((set & VIRTIO_S_FEATURES_OK) && (!(v & VIRTIO_S_DRIVER) || !features_acceptable(r)))
		set &= ~VIRTIO_S_FEATURES_OK;
	/* The driver has to read FEATURES_OK back first: not in one write. */
	if (!(old & VIRTIO_S_FEATURES_OK) || ((old | set) & VIRTIO_S_FAILED))
		set &= ~VIRTIO_S_DRIVER_OK;
	r->status |= set;
	if (!(set & VIRTIO_S_DRIVER_OK))
		return MMIO_NOTHING;
	/* For as long as the queues run: see mmio.h. */
	r->interrupt_status |= MMIO_INT_USED;
	return MMIO_START;
}

static void write_driver_features(struct mmio_regs *r, uint32_t v)
{
	unsigned shift = 32 * r->driver_features_sel;

	if ((r->status & VIRTIO_S_FEATURES_OK) || r->driver_features_sel > 1)
		return;
	r->driver_features &= ~((uint64_t)UINT32_MAX << shift);
	r->driver_features |= (uint64_t)v << shift;
}

static void write_half(uint64_t *addr, uint32_t off, uint32_t v)
{
	unsigned shift = off & 4 ? 32 : 0;

	*addr &= ~((uint64_t)UINT32_MAX << shift);
	*addr |= (uint64_t)v << shift;
}

/* A register of the selected queue. */
static void write_queue(struct mmio_regs *r, uint32_t off, uint32_t v)
{
	uint32_t phase = r->status & (VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	struct mmio_queue_regs *q;

	if (phase != VIRTIO_S_FEATURES_OK || r->queue_sel >= r->nqueues)
		return;
	q = &r->q[r->queue_sel];
	if (off == MMIO_QUEUE_READY) {
		if (v == 0 || (v == 1 && q->num))
			q->ready = (uint8_t)v;
		return;
	}
	if (q->ready)
		return;
	switch (off & ~4u) {
	case MMIO_QUEUE_NUM & ~4u:
		if (v && v <= q->num_max && !(v & (v - 1)))
			q->num = (uint16_t)v;
		break;
	case MMIO_QUEUE_DESC_LOW:
		write_half(&q->desc, off, v);
		break;
	case MMIO_QUEUE_DRIVER_LOW:
		write_half(&q->driver, off, v);
		break;
	case MMIO_QUEUE_DEVICE_LOW:
		write_half(&q->device, off, v);
		break;
	default:
		break;
	}
}

static enum mmio_action write_register(struct mmio_regs *r, uint32_t off, uint32_t v, uint32_t *arg)
{
	switch (off) {
	case MMIO_DEVICE_FEATURES_SEL:
		r->device_features_sel = v;
		break;
	case MMIO_DRIVER_FEATURES_SEL:
		r->driver_features_sel = v;
		break;
	case MMIO_DRIVER_FEATURES:
		write_driver_features(r, v);
		break;
	case MMIO_QUEUE_SEL:
		r->queue_sel = v;
		break;
	case MMIO_QUEUE_NUM:
	case MMIO_QUEUE_READY:
	case MMIO_QUEUE_DESC_LOW:
	case MMIO_QUEUE_DESC_HIGH:
	case MMIO_QUEUE_DRIVER_LOW:
	case MMIO_QUEUE_DRIVER_HIGH:
	case MMIO_QUEUE_DEVICE_LOW:
	case MMIO_QUEUE_DEVICE_HIGH:
		write_queue(r, off, v);
		break;
	case MMIO_QUEUE_NOTIFY:
		if (v >= r->nqueues)
			break;
		*arg = v;
		return MMIO_KICK;
	case MMIO_INTERRUPT_ACK:
		r->interrupt_status &= ~(v & MMIO_INT_CONFIG);
		break;
	case MMIO_STATUS:
		return write_status(r, v);
	default: /* read-only, SHMSel (no region exists), QueueReset (not offered) */
		break;
	}
	return MMIO_NOTHING;
}

enum mmio_action mmio_regs_write(struct mmio_regs *r, uint32_t off, const void *data, unsigned len,
				 uint32_t *arg)
{
	uint32_t v;

	if (!r->device_id)
		return MMIO_NOTHING;
	if (off >= MMIO_CONFIG) {
		off -= MMIO_CONFIG;
		/* §4.2.2.2: wide fields in aligned pieces; some write all eight bytes at once. */
		if ((len != 1 && len != 2 && len != 4 && len != 8) || off % (len < 4 ? len : 4) ||
		    off > MMIO_CONFIG_BYTES - len)
			return MMIO_NOTHING;
		*arg = off;
		return MMIO_CONFIG_WRITE;
	}
	if (len != sizeof(v) || off % sizeof(v))
		return MMIO_NOTHING;
	memcpy(&v, data, sizeof(v));
	return write_register(r, off, v, arg);
}

/* ---- showing */

static void show(void *page, uint32_t off, uint32_t v)
{
	__atomic_store_n((uint32_t *)page + off / 4, v, __ATOMIC_RELEASE);
}

void mmio_regs_show(const struct mmio_regs *r, void *page)
{
	static const struct mmio_queue_regs none;
	const struct mmio_queue_regs *q = r->queue_sel < r->nqueues ? &r->q[r->queue_sel] : &none;
	uint32_t features = 0;

	if (r->device_features_sel < 2)
		features = (uint32_t)(r->device_features >> 32 * r->device_features_sel);
	if (!r->device_id)
		show(page, MMIO_DEVICE_ID, 0);
	show(page, MMIO_MAGIC, MMIO_MAGIC_VALUE);
	show(page, MMIO_VERSION, 2);
	show(page, MMIO_VENDOR_ID, MMIO_VENDOR_VALUE);
	show(page, MMIO_DEVICE_FEATURES, features);
	show(page, MMIO_QUEUE_NUM_MAX, q->num_max);
	show(page, MMIO_QUEUE_READY, q->ready);
	show(page, MMIO_INTERRUPT_STATUS, r->interrupt_status);
	show(page, MMIO_STATUS, r->status);
	/* "No such region" (§4.2.2.1), whichever was selected. */
	show(page, MMIO_SHM_LEN_LOW, UINT32_MAX);
	show(page, MMIO_SHM_LEN_HIGH, UINT32_MAX);
	show(page, MMIO_SHM_BASE_LOW, UINT32_MAX);
	show(page, MMIO_SHM_BASE_HIGH, UINT32_MAX);
	show(page, MMIO_CONFIG_GENERATION, r->config_generation);
	show(page, MMIO_DEVICE_ID, r->device_id);
}
