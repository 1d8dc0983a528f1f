/*
 * What no driver does. Each round takes one of: registers at random; a handshake that is right,
 * and then descriptors, indirect tables, rings and requests at random, changed while the device
 * reads them; resets in the midst of it.
 */
#include "tests/hostile/guest.h"

/* What a request consists of begins with one of these often enough to be taken seriously. */
#define CELL 512u /* the arena's data in pieces */
#define CELLS ((ARENA_BYTES - DATA_OFF) / CELL)

static uint64_t cell(void)
{
	return arena + DATA_OFF + (uint64_t)below(CELLS) * CELL;
}

/* Never an address of memory before the arena: see ARENA_BYTES. */
static uint64_t wild_address(void)
{
	switch (below(12)) {
	case 0:
		return ram_end - below(64);
	case 1:
		return ram_end + below(4096);
	case 2:
		return SLOTS_GPA + below(SLOTS * SLOT_BYTES);
	case 3:
		return UINT64_MAX - below(0x10000);
	case 4:
		return rnd() | UINT64_C(1) << 32;
	case 5:
		return UINT64_C(0xfee00000) + below(4096);
	case 6:
		return arena + below(ARENA_BYTES);
	default:
		return cell();
	}
}

/* Small ones stay below the page numbers of this program: a balloon may be given any of them. */
static uint32_t wild_number(void)
{
	static const uint32_t some[] = {0,	    1,		2,	    3,	       0xb,
					0xf,	    16,		255,	    256,       257,
					1024,	    4096,	65535,	    65536,     0x7fffffff,
					0x80000000, 0xfffffffe, 0xffffffff, 0x40000001};

	return one_in(4) ? (uint32_t)rnd() | 0x01000000
			 : some[below(sizeof(some) / sizeof(some[0]))];
}

static uint32_t wild_length(void)
{
	switch (below(8)) {
	case 0:
		return wild_number();
	case 1:
		return below(1u << 20);
	case 2:
		return 16;
	default:
		return below(CELL);
	}
}

/* ---- what requests are made of */

static void fill_cell(const struct slot *s, uint64_t at)
{
	volatile uint32_t *w = (volatile uint32_t *)(uintptr_t)at;

	for (unsigned i = 0; i < 16; i++)
		w[i] = wild_number();
	switch (s->id) {
	case ID_BLOCK: /* type, reserved, sector; ranges of a discard */
		w[0] = one_in(8) ? wild_number() : below(16);
		w[2] = one_in(4) ? wild_number() : below(4096);
		w[3] = one_in(4) ? wild_number() : 0;
		w[4] = below(64);
		w[5] = 0;
		w[6] = below(64);
		w[7] = below(4);
		break;
	case ID_VSOCK:
		w[0] = one_in(16) ? wild_number() : 3;
		w[1] = 0;
		w[2] = one_in(16) ? wild_number() : 2;
		w[3] = 0;
		w[4] = one_in(4) ? wild_number() : 1024 + below(4);
		w[5] = one_in(4) ? wild_number() : one_in(2) ? 1023 : 0x10000 + below(8);
		w[6] = one_in(2) ? 0 : wild_length();
		w[7] = 1 | (one_in(8) ? wild_number() << 16 : below(9) << 16);
		break;
	case ID_NET:
		w[0] = one_in(2) ? 0 : wild_number();
		w[1] = one_in(2) ? 0 : wild_number();
		w[2] = 0;
		break;
	case ID_BALLOON: /* pages of the arena, or none that exist */
		for (unsigned i = 0; i < 64; i++)
			w[i] = one_in(4) ? (uint32_t)(ram_end >> 12) + wild_number() % 0x100000
					 : (uint32_t)(cell() >> 12);
		break;
	default:
		break;
	}
}

static void wild_desc(struct desc *d, uint32_t n)
{
	uint16_t flags = (uint16_t)below(4);

	if (one_in(6))
		flags = DESC_INDIRECT;
	if (one_in(32))
		flags = (uint16_t)rnd();
	*(volatile uint64_t *)&d->addr = wild_address();
	*(volatile uint32_t *)&d->len =
		flags & DESC_INDIRECT && !one_in(4) ? 16 * (1 + below(32)) : wild_length();
	*(volatile uint16_t *)&d->flags = flags;
	*(volatile uint16_t *)&d->next = (uint16_t)(one_in(16) ? rnd() : below(n));
}

/* How long part i of n is: what comes first is a header, and a disk's status comes last. */
static uint32_t piece(const struct slot *s, uint32_t i, uint32_t n)
{
	if (s->id == ID_BLOCK && i == n - 1)
		return 1;
	if (i || one_in(4))
		return one_in(4) ? 1 + below(CELL) : CELL;
	return s->id == ID_BLOCK ? 16 : s->id == ID_VSOCK ? 44 : s->id == ID_BALLOON ? 256 : CELL;
}

/* A chain that a device would take: readable, then writable, in order. */
static void tame_chain(const struct slot *s, struct desc *d, uint32_t n, uint32_t first)
{
	uint32_t len = 2 + below(6), reads = 1 + below(2);

	for (uint32_t i = 0; i < len; i++) {
		struct desc *e = &d[(first + i) % n];

		e->addr = cell();
		if (i == 0)
			fill_cell(s, e->addr);
		e->len = piece(s, i, len);
		e->flags =
			(uint16_t)((i + 1 < len ? DESC_NEXT : 0) | (i >= reads ? DESC_WRITE : 0));
		e->next = (uint16_t)((first + i + 1) % n);
	}
}

/* How it goes about a queue. A chain that is wrong stops the queue until a reset: where every one
 * is, no request is ever looked into. */
struct mood {
	bool tame;
	uint32_t nheads;
	uint16_t head[8]; /* of chains that a device takes */
};

static void fill_tables(const struct slot *s, unsigned q, uint32_t num, struct mood *m)
{
	struct desc *d = (struct desc *)(void *)ring(q);
	uint32_t nheads = num / 8 < 8 ? num / 8 : 8;

	for (uint32_t i = 0; i < num; i++)
		wild_desc(&d[i], num);
	for (unsigned i = 0; i < 4; i++) /* indirect tables somewhere in the data */
		for (unsigned k = 0; k < CELL / sizeof(*d); k++)
			wild_desc((struct desc *)(uintptr_t)cell() + k, CELL / sizeof(*d));
	for (unsigned i = 0; i < 8; i++)
		fill_cell(s, cell());
	m->nheads = nheads;
	for (uint32_t i = 0; i < nheads; i++) {
		m->head[i] = (uint16_t)(i * 8);
		tame_chain(s, d, num, i * 8);
	}
}

static uint32_t wild_head(const struct mood *m, uint32_t num)
{
	if (m->nheads && (m->tame || one_in(2)))
		return m->head[below(m->nheads)];
	return one_in(32) ? (uint32_t)rnd() : below(num);
}

static void offer_wild(unsigned q, uint32_t num, const struct mood *m)
{
	volatile uint16_t *avail = (volatile uint16_t *)(void *)(ring(q) + RING_AVAIL);
	uint16_t add = (uint16_t)below(num < 8 ? num : 8);

	avail[0] = (uint16_t)below(4);
	for (unsigned i = 0; i < num; i++)
		avail[2 + i] = (uint16_t)wild_head(m, num);
	avail[2 + num] = (uint16_t)rnd(); /* used_event */
	if (!m->tame && one_in(16))
		add = (uint16_t)rnd();
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	avail[1] = (uint16_t)(avail[1] + add);
}

/* While the device reads it. */
static void disturb(const struct slot *s, uint32_t num, const struct mood *m)
{
	for (unsigned i = below(2000); i; i--) {
		unsigned q = below(QUEUES);

		switch (m->tame ? 0 : below(4)) {
		case 0:
			fill_cell(s, cell());
			break;
		case 1:
			*(volatile uint16_t *)(void *)(ring(q) + RING_USED + 2 * below(8)) =
				(uint16_t)rnd();
			break;
		default:
			wild_desc((struct desc *)(void *)ring(q) + below(num), num);
			break;
		}
	}
}

static void attack_rings(const struct slot *s)
{
	uint64_t features = drv_features(s);
	uint32_t num = 1u << below(9);

	if (one_in(2)) /* as many as it can, else without some */
		features &= rnd() | UINT64_C(1) << F_VERSION_1;
	for (unsigned q = 0; q < QUEUES; q++)
		*(volatile uint32_t *)(void *)(ring(q) + RING_AVAIL) = 0;
	if (!drv_start(s, features, num))
		return;
	for (unsigned i = 1 + below(6); i; i--) {
		struct mood m = {.tame = !one_in(3)};
		unsigned q = below(QUEUES);

		fill_tables(s, q, num, &m);
		offer_wild(q, num, &m);
		write32(s, R_QUEUE_NOTIFY, q);
		disturb(s, num, &m);
		if (one_in(8))
			write32(s, R_STATUS, 0);
	}
}

/* ---- registers */

static void wild_register(const struct slot *s)
{
	static const uint32_t known[] = {R_DEVICE_FEATURES_SEL,
					 R_DRIVER_FEATURES,
					 R_DRIVER_FEATURES_SEL,
					 R_QUEUE_SEL,
					 R_QUEUE_NUM,
					 R_QUEUE_READY,
					 R_QUEUE_NOTIFY,
					 R_INTERRUPT_ACK,
					 R_STATUS,
					 R_QUEUE_DESC,
					 R_QUEUE_DESC + 4,
					 R_QUEUE_DRIVER,
					 R_QUEUE_DRIVER + 4,
					 R_QUEUE_DEVICE,
					 R_QUEUE_DEVICE + 4,
					 0x0ac,
					 0x0c0,
					 R_CONFIG};
	uint32_t off = known[below(sizeof(known) / sizeof(known[0]))], v = wild_number();
	uintptr_t at;

	if (one_in(4))
		off = below(SLOT_BYTES - 8);
	/* Ring addresses are where the device writes. */
	if (off >= R_QUEUE_DESC && off < R_QUEUE_DEVICE + 4)
		v = (uint32_t)wild_address() | (uint32_t)arena;
	at = SLOTS_GPA + s->index * SLOT_BYTES + off;
	switch (below(8)) {
	case 0:
		*(volatile uint8_t *)at = (uint8_t)v;
		break;
	case 1:
		*(volatile uint16_t *)at = (uint16_t)v;
		break;
	case 2:
		*(volatile uint64_t *)at = v | (uint64_t)v << 32;
		break;
	default:
		*(volatile uint32_t *)at = v;
		break;
	}
}

static void attack_registers(const struct slot *s)
{
	static const uint32_t steps[] = {0, 1, 3, 0xb, 0xf};

	for (unsigned i = 8 + below(64); i; i--) {
		if (one_in(8))
			write32(s, R_STATUS, steps[below(5)]);
		else
			wild_register(s);
	}
}

void attack(const struct slot *s)
{
	switch (below(8)) {
	case 0:
	case 1:
		attack_registers(s);
		break;
	case 2: /* start and stop, faster than anybody can follow */
		for (unsigned i = below(16); i; i--)
			drv_start(s, UINT64_C(1) << F_VERSION_1, 1u << below(9));
		break;
	case 3: /* a storm of kicks */
		for (unsigned i = below(512); i; i--)
			write32(s, R_QUEUE_NOTIFY, below(QUEUES));
		break;
	default:
		attack_rings(s);
		break;
	}
}
