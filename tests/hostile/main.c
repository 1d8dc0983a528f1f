/*
 * A guest that wants to break its VMM: no kernel, one processor, no interrupts. It attacks one
 * device over virtio-mmio, round after round, for as long as its machine runs, and now and then
 * checks that the device can still be used as it should be.
 *
 * Kernel parameters:
 *	hostile.device=ID	virtio's number of the device; 0: every slot's in turn
 *	hostile.seed=N		of the sequence of numbers
 *	hostile.peace=1		does no harm: only the checks
 *
 * What it says on the serial port: "start ID", then "round N" after every check that went well, or
 * "dead N" (slot N does not answer any more), or "none" (it has gone). After the last
 * two it resets the machine.
 */
#include "tests/hostile/guest.h"

#define CHECK_EVERY 32u

/* struct boot_params of Linux: the few places that are needed */
#define BP_E820_ENTRIES 0x1e8u
#define BP_CMDLINE 0x228u
#define BP_E820 0x2d0u
#define E820_RAM 1u

struct e820 {
	uint64_t addr, size;
	uint32_t type;
} __attribute__((packed));

uint64_t arena, ram_end, rng_state = 1;

uint64_t *make_tables(void);
void guest_main(const uint8_t *boot_params);
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

/* The compiler calls these by itself. */
void *memset(void *to, int c, size_t n)
{
	uint8_t *p = to;

	while (n--)
		*p++ = (uint8_t)c;
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	uint8_t *p = to;
	const uint8_t *q = from;

	while (n--)
		*p++ = *q++;
	return to;
}

/* 4 GiB one to one, for user mode too. */
uint64_t *make_tables(void)
{
	static uint64_t table[6][512] __attribute__((aligned(4096)));

	table[0][0] = (uintptr_t)table[1] | 7;
	for (uint64_t i = 0; i < 4; i++)
		table[1][i] = (uintptr_t)table[2 + i] | 7;
	for (uint64_t i = 0; i < 4 * 512; i++)
		table[2 + i / 512][i % 512] = i << 21 | 0x87;
	return table[0];
}

uint64_t rnd(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * UINT64_C(0x2545F4914F6CDD1D);
}

/* ---- saying */

static void say(const char *s)
{
	while (*s)
		outb(0x3f8, (uint8_t)*s++);
}

static void say_number(const char *what, uint32_t n)
{
	char buf[12], *p = buf + sizeof(buf);

	*--p = '\0';
	*--p = '\n';
	do {
		*--p = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	say(what);
	say(p);
}

/* All devices were given the same memory, and what one still has of it, it may write to while
 * another is checked there. */
static void reset_all(void)
{
	for (struct slot s = {0}; s.index < SLOTS; s.index++)
		if (read32(&s, R_DEVICE_ID))
			write32(&s, R_STATUS, 0);
}

static void reset_machine(void)
{
	for (;;)
		outb(0x64, 0xfe);
}

/* ---- being told */

static uint64_t parameter(const char *cmdline, const char *name)
{
	for (const char *p = cmdline; *p; p++) {
		const char *q = p, *n = name;
		uint64_t v = 0;

		while (*n && *q == *n)
			q++, n++;
		if (*n)
			continue;
		while (*q >= '0' && *q <= '9')
			v = v * 10 + (uint64_t)(*q++ - '0');
		return v;
	}
	return 0;
}

static uint32_t load32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void find_memory(const uint8_t *bp)
{
	const struct e820 *e = (const void *)(bp + BP_E820);

	for (unsigned i = 0; i < bp[BP_E820_ENTRIES]; i++)
		if (e[i].type == E820_RAM && e[i].addr + e[i].size <= SLOTS_GPA)
			ram_end = e[i].addr + e[i].size;
	arena = ram_end - ARENA_BYTES;
}

/* The next slot that has the device, from `from` on; SLOTS: none. */
static unsigned find_slot(uint32_t id, unsigned from)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot s = {.index = (from + i) % SLOTS};
		uint32_t have = read32(&s, R_DEVICE_ID);

		if (have && (!id || have == id))
			return s.index;
	}
	return SLOTS;
}

void guest_main(const uint8_t *bp)
{
	const char *cmdline = (const char *)(uintptr_t)load32(bp + BP_CMDLINE);
	uint32_t id = (uint32_t)parameter(cmdline, "hostile.device=");
	bool peace = parameter(cmdline, "hostile.peace=");
	struct slot s = {0};

	rng_state = parameter(cmdline, "hostile.seed=") * 0x9E3779B9u + 1;
	find_memory(bp);
	say_number("start ", id);
	while (find_slot(id, 0) == SLOTS)
		__builtin_ia32_pause(); /* it is attached once the machine runs */
	for (uint32_t round = 1;; round++) {
		s.index = find_slot(id, s.index + 1);
		if (s.index == SLOTS) {
			say("none\n");
			reset_machine();
		}
		s.id = read32(&s, R_DEVICE_ID);
		if (!peace)
			attack(&s);
		if (round % CHECK_EVERY)
			continue;
		if (!peace)
			reset_all();
		if (!drv_works(&s)) {
			say_number("dead ", s.index);
			reset_machine();
		}
		say_number("round ", round);
	}
}
