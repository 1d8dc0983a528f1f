/*
 * mmio_regs.h - the register file of one virtio-mmio slot (virtio 1.2 §4.2.2): what a write of the
 * guest does to it, and how the guest sees it. Pure: no lock, no descriptor, no device.
 *
 * struct mmio_regs is all that a slot's guest-visible state consists of beside the configuration
 * space, which is the device's: plain data that can be saved and put back.
 */
#ifndef HUSK_VMM_MMIO_REGS_H
#define HUSK_VMM_MMIO_REGS_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/device.h"

#define MMIO_REGS_VERSION 1
#define MMIO_CONFIG_BYTES 256u /* of the configuration space; zeros behind it */

/* Offsets in a slot's page */
#define MMIO_MAGIC 0x000
#define MMIO_VERSION 0x004
#define MMIO_DEVICE_ID 0x008
#define MMIO_VENDOR_ID 0x00c
#define MMIO_DEVICE_FEATURES 0x010
#define MMIO_DEVICE_FEATURES_SEL 0x014
#define MMIO_DRIVER_FEATURES 0x020
#define MMIO_DRIVER_FEATURES_SEL 0x024
#define MMIO_QUEUE_SEL 0x030
#define MMIO_QUEUE_NUM_MAX 0x034
#define MMIO_QUEUE_NUM 0x038
#define MMIO_QUEUE_READY 0x044
#define MMIO_QUEUE_NOTIFY 0x050
#define MMIO_INTERRUPT_STATUS 0x060
#define MMIO_INTERRUPT_ACK 0x064
#define MMIO_STATUS 0x070
#define MMIO_QUEUE_DESC_LOW 0x080
#define MMIO_QUEUE_DESC_HIGH 0x084
#define MMIO_QUEUE_DRIVER_LOW 0x090
#define MMIO_QUEUE_DRIVER_HIGH 0x094
#define MMIO_QUEUE_DEVICE_LOW 0x0a0
#define MMIO_QUEUE_DEVICE_HIGH 0x0a4
#define MMIO_SHM_SEL 0x0ac
#define MMIO_SHM_LEN_LOW 0x0b0
#define MMIO_SHM_LEN_HIGH 0x0b4
#define MMIO_SHM_BASE_LOW 0x0b8
#define MMIO_SHM_BASE_HIGH 0x0bc
#define MMIO_QUEUE_RESET 0x0c0
#define MMIO_CONFIG_GENERATION 0x0fc
#define MMIO_CONFIG 0x100

#define MMIO_MAGIC_VALUE 0x74726976u  /* "virt" */
#define MMIO_VENDOR_VALUE 0x6b737568u /* "husk" */

/* Device status (§2.1) */
#define VIRTIO_S_ACKNOWLEDGE 1u
#define VIRTIO_S_DRIVER 2u
#define VIRTIO_S_DRIVER_OK 4u
#define VIRTIO_S_FEATURES_OK 8u
#define VIRTIO_S_NEEDS_RESET 64u
#define VIRTIO_S_FAILED 128u

#define MMIO_INT_USED 1u
#define MMIO_INT_CONFIG 2u

struct mmio_queue_regs {
	uint64_t desc, driver, device; /* guest physical */
	uint16_t num_max, num;
	uint16_t next; /* of the available ring, while the queue is stopped by a pause */
	uint8_t ready, pad;
};

struct mmio_regs {
	uint32_t version;   /* MMIO_REGS_VERSION */
	uint32_t device_id; /* 0: the slot is empty, and so is all the rest */
	uint32_t nqueues;
	uint32_t status, interrupt_status, config_generation;
	uint32_t device_features_sel, driver_features_sel, queue_sel;
	uint32_t pad;
	uint64_t device_features, driver_features;
	struct mmio_queue_regs q[DEVICE_QUEUES_MAX];
};

/* What a write asks of somebody else than the register file. */
enum mmio_action {
	MMIO_NOTHING,
	MMIO_START,	   /* DRIVER_OK was set: the queues shall run */
	MMIO_RESET,	   /* of a device that was started: stop it, then mmio_regs_reset() */
	MMIO_KICK,	   /* of queue *arg */
	MMIO_CONFIG_WRITE, /* at byte *arg of the configuration space; lies within it */
};

/* An empty slot. */
void mmio_regs_empty(struct mmio_regs *r);
/* A slot with a device in its first state. `queue_size` is the most entries of a queue. The
 * generation of the configuration goes on from what it was. */
void mmio_regs_fill(struct mmio_regs *r, uint32_t device_id, uint64_t features, unsigned nqueues,
		    uint16_t queue_size);
/* What a reset does (§2.4). */
void mmio_regs_reset(struct mmio_regs *r);
/* The device cannot go on (§2.1.2): tells the driver by a change of configuration. */
void mmio_regs_needs_reset(struct mmio_regs *r);

/* A write of `len` bytes at `off` of the slot's page. What the specification forbids has no effect
 * and asks for nothing. */
enum mmio_action mmio_regs_write(struct mmio_regs *r, uint32_t off, const void *data, unsigned len,
				 uint32_t *arg);
/* Brings the registers in `page` (MMIO_CONFIG bytes of it), which the guest reads at any time, up
 * to date. The device's identity is shown last. */
void mmio_regs_show(const struct mmio_regs *r, void *page);

/* Whether the queues shall run. */
static inline bool mmio_regs_live(const struct mmio_regs *r)
{
	return (r->status & (VIRTIO_S_DRIVER_OK | VIRTIO_S_NEEDS_RESET)) == VIRTIO_S_DRIVER_OK;
}

/* Whether no driver uses the device. Linux leaves ACKNOWLEDGE behind when it unbinds one. */
static inline bool mmio_regs_idle(const struct mmio_regs *r)
{
	return !(r->status & ~VIRTIO_S_ACKNOWLEDGE);
}

#endif
