/*
 * guest.h - what the hostile guest's parts share: ports, numbers, memory, the virtio-mmio slots.
 */
#ifndef HUSK_TESTS_HOSTILE_GUEST_H
#define HUSK_TESTS_HOSTILE_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOTS_GPA 0xD0000000u
#define SLOTS 24u
#define SLOT_BYTES 512u
#define QUEUES 4u

/* Offsets of registers (virtio 1.2 §4.2.2) */
#define R_MAGIC 0x000u
#define R_DEVICE_ID 0x008u
#define R_DEVICE_FEATURES 0x010u
#define R_DEVICE_FEATURES_SEL 0x014u
#define R_DRIVER_FEATURES 0x020u
#define R_DRIVER_FEATURES_SEL 0x024u
#define R_QUEUE_SEL 0x030u
#define R_QUEUE_NUM_MAX 0x034u
#define R_QUEUE_NUM 0x038u
#define R_QUEUE_READY 0x044u
#define R_QUEUE_NOTIFY 0x050u
#define R_INTERRUPT_ACK 0x064u
#define R_STATUS 0x070u
#define R_QUEUE_DESC 0x080u
#define R_QUEUE_DRIVER 0x090u
#define R_QUEUE_DEVICE 0x0a0u
#define R_CONFIG 0x100u

#define ID_NET 1u
#define ID_BLOCK 2u
#define ID_RNG 4u
#define ID_BALLOON 5u
#define ID_VSOCK 19u
#define ID_FS 26u

#define F_INDIRECT_DESC 28u
#define F_EVENT_IDX 29u
#define F_VERSION_1 32u

#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_INDIRECT 4u

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* The last ARENA_BYTES of memory are rings and buffers. Nothing else lies behind them, so that no
 * honest answer of a device to a wild request overwrites this program. */
#define ARENA_BYTES (8u << 20)
#define RING_BYTES 0x10000u /* one queue's rings, the first of the arena */
#define RING_AVAIL 0x8000u
#define RING_USED 0xa000u
#define DATA_OFF (QUEUES * RING_BYTES)

extern uint64_t arena, ram_end;

/* A slot's registers, from a driver's side. */
struct slot {
	unsigned index;
	uint32_t id;
};

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline void write32(const struct slot *s, uint32_t off, uint32_t v)
{
	*(volatile uint32_t *)(uintptr_t)(SLOTS_GPA + s->index * SLOT_BYTES + off) = v;
}

static inline uint32_t read32(const struct slot *s, uint32_t off)
{
	return *(volatile uint32_t *)(uintptr_t)(SLOTS_GPA + s->index * SLOT_BYTES + off);
}

static inline void pause_cpu(void)
{
	__asm__ volatile("pause" : : : "memory");
}

/* ---- numbers (xorshift64*) */
extern uint64_t rng_state;
uint64_t rnd(void);
static inline uint32_t below(uint32_t n)
{
	return (uint32_t)(rnd() >> 33) % n;
}
static inline bool one_in(uint32_t n)
{
	return below(n) == 0;
}

/* ---- driver.c: what an honest driver does */

static inline uint8_t *ring(unsigned q)
{
	return (uint8_t *)(uintptr_t)(arena + q * RING_BYTES);
}

/* Reset, features, queues of `num` entries (or the most that the device takes), DRIVER_OK. False
 * if the device refuses. */
bool drv_start(const struct slot *s, uint64_t features, uint32_t num);
uint64_t drv_features(const struct slot *s);
/* Resets the device and does something with it as a driver would. False if it does not answer. */
bool drv_works(const struct slot *s);

/* ---- attack.c: what no driver does */

/* One round of it. */
void attack(const struct slot *s);

#endif
