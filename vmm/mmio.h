/*
 * mmio.h - virtio over MMIO (virtio 1.2 §4.2), version 2: the transport of engine kvm.
 *
 * The machine has a fixed number of slots, each of 512 bytes of registers. An empty slot reads
 * DeviceID 0, which a driver leaves alone; a device is put into it with mmio_plug() at any time.
 *
 * Reads cost no exit. No register of §4.2.2 has a side effect when it is read, so a slot's
 * registers are plain memory that the guest may read and not write (a read-only memory slot of
 * KVM), and this code keeps it up to date: before a write returns to the guest, what it will read
 * next is there. But the first touch of a page of that memory is an exit: hence eight slots a page.
 *
 * Writes come here from the vCPU threads. What they change is a register file, plain data under the
 * slot's lock; no device code runs in a vCPU's thread. Where a write means something to the device,
 * it becomes work for the loop's thread: DRIVER_OK starts the queues, a write of the configuration
 * space is passed on, and a reset stops the queues - the one thing that a vCPU waits for.
 *
 * Interrupts and kicks are eventfds of the slot that the kernel serves by itself: irqfd for calls,
 * ioeventfds for QueueNotify and for the acknowledgement of a used buffer. InterruptStatus always
 * has bit 0 set while the queues run: an edge is lost by nobody, since drivers look into the rings
 * anyway, and so its acknowledgement (value 1) need not be seen. Bit 1 (configuration change) is
 * kept as the specification says.
 */
#ifndef HUSK_VMM_MMIO_H
#define HUSK_VMM_MMIO_H

#include "vmm/device.h"

#define MMIO_SLOTS_MAX 32
#define MMIO_SLOT_BYTES 512u

struct mmio_bus;

/* Where calls and kicks go in through the kernel; from the loop's thread, or before threads exist.
 * Asked for when a slot gets a device that needs it, and never taken back: the next device in the
 * slot uses them again, and the end of the machine ends them. Each returns 0, or -1 with *err. */
struct mmio_kernel {
	/* A signal of fd is an interrupt of the slot. */
	int (*irq)(void *arg, unsigned slot, int fd, struct error *err);
	/* A 4-byte write of `value` at byte `off` of the slot signals fd. */
	int (*io)(void *arg, unsigned slot, uint32_t off, uint32_t value, int fd,
		  struct error *err);
	void *arg;
};

/* `pages`: nslots * MMIO_SLOT_BYTES of host memory that the guest reads; the caller's, and must
 * outlive the bus. `mem` is guest memory, for the rings. */
struct mmio_bus *mmio_new(struct loop *l, const struct guest_mem *mem, void *pages, unsigned nslots,
			  const struct mmio_kernel *k, struct error *err);
/* Stops and takes out all devices, without events. No vCPU's thread exists any more. */
void mmio_free(struct mmio_bus *b);

/* Puts a device into the first free slot, and returns the slot; -1: no slot is free. From the
 * loop's thread, as is all that is not said otherwise. */
int mmio_plug(struct mmio_bus *b, struct virtio_device *d, struct error *err);
/* The same, but the slot looks empty to the guest until mmio_reveal(). */
int mmio_plug_hidden(struct mmio_bus *b, struct virtio_device *d, struct error *err);
/* Every hidden device is seen from now on. */
void mmio_reveal(struct mmio_bus *b);
/* Takes it out as soon as no driver uses it: Status is 0 or, as Linux leaves it when it unbinds a
 * driver, ACKNOWLEDGE. `done` is called from the loop, later, and then the device is the caller's.
 */
void mmio_unplug(struct mmio_bus *b, struct virtio_device *d,
		 void (*done)(void *arg, struct virtio_device *d), void *arg);

/* A guest's write of `len` bytes at byte `off` from the first slot, from any vCPU's thread.
 * Waits for the loop's thread if it is a reset of a device whose queues run. Anything the
 * specification forbids is without effect. */
void mmio_write(struct mmio_bus *b, uint64_t off, const void *data, unsigned len);
/* The same bytes as a guest reads them. */
void mmio_read(struct mmio_bus *b, uint64_t off, void *data, unsigned len);
/* The machine ends: whoever waits in mmio_write() returns, and nobody waits again. Any thread. */
void mmio_wake_all(struct mmio_bus *b);

/* Stops all queues that run, and lets the same ones run on: no ring is touched in between. Only
 * while no vCPU runs or waits in mmio_write(): what a vCPU waits for, the loop's thread does. When
 * one of them cannot run on (its thread cannot be made), none does: mmio_resume() fails, and may
 * be tried again. */
void mmio_pause(struct mmio_bus *b);
int mmio_resume(struct mmio_bus *b, struct error *err);

/* Ranges of a slot that may be written later than the guest says (coalesced MMIO): only
 * registers that mean nothing before another register is written. What was collected must be
 * passed to mmio_write() before any other write is. Fills `out`, returns how many. */
struct mmio_range {
	uint32_t off, len;
};
unsigned mmio_lazy_ranges(struct mmio_range out[4]);

#endif
