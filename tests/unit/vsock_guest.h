/*
 * vsock_guest.h - a guest for the vsock device: memory, rings and packets, without a machine.
 * Used by the unit tests and the fuzz target.
 */
#ifndef HUSK_TESTS_VSOCK_GUEST_H
#define HUSK_TESTS_VSOCK_GUEST_H

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/virtio/vsock_dev.h"

#define GUEST_RING 64	    /* entries in each queue */
#define GUEST_RX_AT 0x40000 /* receive buffers */
#define GUEST_RX_BYTES 4096
#define GUEST_TX_AT 0x100000 /* packets to the host */
#define GUEST_TX_BYTES 0x11000
#define GUEST_MEM (8u << 20)
#define GUEST_LISTENS 1024 /* the port that tests connect to */

struct guest_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct guest {
	struct loop *loop;
	struct virtio_device *d;
	struct guest_mem mem;
	uint8_t *ram;
	uint16_t seen[2];  /* used entries taken */
	unsigned rx_split; /* bytes of the first of two segments of receive buffers; 0: one segment
			    */
	unsigned tx_split; /* the same for packets sent */
	uint32_t buf_alloc, fwd_cnt; /* what the headers of guest_send() say */
	unsigned rounds;
};

static inline struct vsock_dev *guest_dev(struct guest *g)
{
	return vsock_of(g->d);
}

static inline struct guest_desc *guest_desc(struct guest *g, unsigned q)
{
	return (struct guest_desc *)(void *)(g->ram + q * 0x4000);
}

static inline uint16_t *guest_avail(struct guest *g, unsigned q)
{
	return (uint16_t *)(void *)(g->ram + q * 0x4000 + 0x1000);
}

static inline uint16_t *guest_used(struct guest *g, unsigned q)
{
	return (uint16_t *)(void *)(g->ram + q * 0x4000 + 0x2000);
}

/* Sets the rings up and starts the queues; `at`: where the device goes on. */
static inline void guest_start(struct guest *g, const uint16_t at[2])
{
	struct error err = ERROR_INIT;

	for (unsigned q = 0; q < 2; q++) {
		struct virtqueue *vq = &g->d->vq[q];

		vq->event_idx = true;
		if (vq_setup(vq, &g->mem, GUEST_RING, guest_desc(g, q), guest_avail(g, q),
			     guest_used(g, q), at[q], &err) < 0 ||
		    g->d->ops->start_queue(g->d, q, &err) < 0)
			abort();
	}
}

static inline void guest_stop(struct guest *g, uint16_t at[2])
{
	for (unsigned q = 0; q < 2; q++) {
		g->d->ops->stop_queue(g->d, q);
		at[q] = g->d->vq[q].last_avail;
		vq_reset(&g->d->vq[q]);
	}
}

/* Forgets the rings, as a driver that starts anew. */
static inline void guest_clear(struct guest *g)
{
	memset(g->ram, 0, 0x8000);
	g->seen[0] = g->seen[1] = 0;
}

static inline void guest_init(struct guest *g)
{
	cleanup_close int fd = memfd_create("guest", MFD_CLOEXEC);
	const uint16_t zero[2] = {0, 0};
	struct error err = ERROR_INIT;

	*g = (struct guest){.buf_alloc = 1 << 20};
	g->loop = loop_new(&err);
	g->d = vsock_new(g->loop, &err);
	if (!g->loop || !g->d || ftruncate(fd, GUEST_MEM) < 0 ||
	    mem_add(&g->mem, 0, GUEST_MEM, 0, fd, 0, &err) < 0)
		abort();
	g->ram = mem_at(&g->mem, 0, GUEST_MEM);
	for (unsigned q = 0; q < 2; q++) {
		g->d->vq[q].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		g->d->vq[q].call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	guest_start(g, zero);
}

static inline void guest_destroy(struct guest *g)
{
	int fds[] = {g->d->vq[0].kick_fd, g->d->vq[0].call_fd, g->d->vq[1].kick_fd,
		     g->d->vq[1].call_fd};

	g->d->ops->destroy(g->d);
	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	mem_clear(&g->mem);
	loop_free(g->loop);
}

static inline void guest_on_round(void *arg, UNUSED uint32_t events)
{
	struct guest *g = arg;

	if (++g->rounds == 6)
		loop_stop(g->loop, 0);
}

/* Lets the loop handle what is there, and what follows from it. */
static inline void guest_spin(struct guest *g)
{
	cleanup_close int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	struct loop_source *s = loop_add(g->loop, fd, EPOLLIN, guest_on_round, g, NULL);

	if (!s)
		abort();
	g->rounds = 0;
	loop_run(g->loop);
	loop_remove(s);
}

static inline void guest_kick(struct guest *g, unsigned q)
{
	uint64_t one = 1;

	(void)!write(g->d->vq[q].kick_fd, &one, sizeof(one));
}

/* Makes `len` bytes at `gpa` available, in one segment or two. A slot has two descriptors. */
static inline void guest_post(struct guest *g, unsigned q, uint64_t gpa, uint32_t len,
			      uint32_t split, uint16_t flags)
{
	uint16_t *avail = guest_avail(g, q), idx = avail[1];
	uint16_t head = (uint16_t)(idx % (GUEST_RING / 2) * 2);
	struct guest_desc *d = guest_desc(g, q) + head;

	if (!split || split >= len) {
		d[0] = (struct guest_desc){gpa, len, flags, 0};
	} else {
		d[0] = (struct guest_desc){gpa, split, flags | 1, (uint16_t)(head + 1)};
		d[1] = (struct guest_desc){gpa + split, len - split, flags, 0};
	}
	avail[2 + idx % GUEST_RING] = head;
	__atomic_store_n(&avail[1], (uint16_t)(idx + 1), __ATOMIC_RELEASE);
}

static inline void guest_post_rx(struct guest *g, unsigned n, uint32_t len)
{
	while (n--) {
		uint16_t slot = guest_avail(g, 0)[1] % (GUEST_RING / 2);

		guest_post(g, 0, GUEST_RX_AT + slot * GUEST_RX_BYTES, len, g->rx_split, 2);
	}
	guest_kick(g, 0);
}

/* Sends a packet as it is and lets the device take it. `bytes` of payload are in the chain. */
static inline void guest_send_raw(struct guest *g, const struct vsock_hdr *h, const void *payload,
				  uint32_t bytes)
{
	uint16_t slot = guest_avail(g, 1)[1] % (GUEST_RING / 2);
	uint64_t gpa = GUEST_TX_AT + slot * (uint64_t)GUEST_TX_BYTES;
	struct vsock_hdr le = *h;

	vsock_hdr_swap(&le);
	memcpy(g->ram + gpa, &le, sizeof(le));
	if (bytes)
		memcpy(g->ram + gpa + sizeof(le), payload, bytes);
	guest_post(g, 1, gpa, VSOCK_HDR_BYTES + bytes, g->tx_split, 0);
	guest_kick(g, 1);
}

static inline void guest_send(struct guest *g, enum vsock_op op, uint32_t host_port,
			      uint32_t guest_port, uint32_t flags, const void *payload,
			      uint32_t bytes)
{
	struct vsock_hdr h = {
		.src_cid = VSOCK_GUEST_CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = guest_port,
		.dst_port = host_port,
		.len = bytes,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = flags,
		.buf_alloc = g->buf_alloc,
		.fwd_cnt = g->fwd_cnt,
	};

	guest_send_raw(g, &h, payload, bytes);
	guest_spin(g);
}

/* The next packet from the host: its op, or 0 if there is none. `buf` (may be NULL) gets the
 * payload. */
static inline unsigned guest_recv(struct guest *g, struct vsock_hdr *h, uint8_t *buf)
{
	uint16_t *used = guest_used(g, 0);
	uint32_t *e = (uint32_t *)(void *)(used + 2) + 2 * (g->seen[0] % GUEST_RING);
	uint8_t *p;

	*h = (struct vsock_hdr){0};
	if (__atomic_load_n(&used[1], __ATOMIC_ACQUIRE) == g->seen[0])
		return 0;
	g->seen[0]++;
	if (e[1] < VSOCK_HDR_BYTES)
		return guest_recv(g, h, buf);
	p = g->ram + guest_desc(g, 0)[e[0]].addr;
	memcpy(h, p, sizeof(*h));
	vsock_hdr_swap(h);
	if (h->len != e[1] - VSOCK_HDR_BYTES)
		abort();
	if (buf)
		memcpy(buf, p + sizeof(*h), h->len);
	return h->op;
}

#endif
