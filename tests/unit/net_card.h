/*
 * net_card.h - a guest and a wire for the network card: rings of its driver, and a socket in the
 * place of each queue of a TAP. The ioctls of TAP and vhost-net are this file's (net_tap.c and
 * net_vhost.c are not linked).
 */
#ifndef HUSK_TESTS_NET_CARD_H
#define HUSK_TESTS_NET_CARD_H

#include <sys/socket.h>
#include <time.h>

#include "lib/file.h"
#include "lib/log.h"
#include "tests/unit/ring.h"
#include "vmm/virtio/net_dev.h"

#define BIT(n) (UINT64_C(1) << (n))
#define HDR NET_HDR_BYTES
#define RX_BUF(i) (RING_DATA + 0x1000u * (i))
#define DATA RING_DATA
#define STATUS (RING_DATA + 0x8000u)

/* ---- the stand-ins for a TAP and for vhost-net */

static struct {
	uint64_t offload;
	unsigned nfilter;
	uint8_t filter[2 * NET_MACS_MAX + 2][6];
	bool allmulti, carrier;
	unsigned queues;
	int fd[NET_PAIRS_MAX];
	bool off[NET_PAIRS_MAX]; /* queues that the kernel does not use */
	bool stuck;		 /* and will not */
	bool deleted;
} tap;

int net_tap_open(const int *fd, unsigned queues, bool *uso, struct error *err)
{
	int type = 0;
	socklen_t len = sizeof(type);

	tap.queues = queues;
	for (unsigned i = 0; i < queues; i++) {
		if (getsockopt(fd[i], SOL_SOCKET, SO_TYPE, &type, &len) < 0)
			return error_kind(err, ERR_INVALID, "not the descriptor of a TAP");
		if (set_nonblock(fd[i], true) < 0)
			return -1;
		tap.fd[i] = fd[i];
		tap.off[i] = false;
	}
	*uso = true;
	return 0;
}

bool net_tap_is_there(UNUSED int fd)
{
	return !tap.deleted;
}

int net_tap_queue(int fd, bool on, struct error *err)
{
	if (tap.stuck)
		return error_set(err, "stuck");
	for (unsigned i = 0; i < tap.queues; i++)
		if (tap.fd[i] == fd)
			tap.off[i] = !on;
	return 0;
}

int net_tap_offload(UNUSED int fd, uint64_t acked, UNUSED struct error *err)
{
	tap.offload = acked;
	return 0;
}

void net_tap_filter(UNUSED int fd, const uint8_t (*mac)[6], unsigned n, bool allmulti)
{
	tap.nfilter = n;
	tap.allmulti = allmulti;
	if (n)
		memcpy(tap.filter, mac, n * sizeof(mac[0]));
}

void net_tap_carrier(UNUSED int fd, bool on)
{
	tap.carrier = on;
}

/* A kernel that serves nothing: what it was asked for is in p->in_kernel. */
int net_vhost_open(UNUSED int fd, UNUSED struct error *err)
{
	return 0;
}

int net_vhost_serve(struct net_pair *p, unsigned what, UNUSED struct error *err)
{
	p->in_kernel = what;
	return 0;
}

/* ---- the guest */

#define QUEUES_MAX (2 * NET_PAIRS_MAX + 1)

struct fixture {
	struct loop *loop;
	struct test_ring r[QUEUES_MAX];
	uint16_t done[QUEUES_MAX]; /* used entries seen */
	struct virtio_device *d;
	unsigned pairs, queues;
	int wire;		  /* the TAP's other end: the first queue's */
	int wires[NET_PAIRS_MAX]; /* the other ones' */
	unsigned told;
	struct net_config cfg;
};

static const uint8_t MAC[6] = {2, 0, 0, 0, 0, 1};

static inline void make_tap(struct fixture *f)
{
	int sv[2];

	for (unsigned i = 0; i < f->pairs; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
		f->cfg.tap[i] = sv[0];
		*(i ? &f->wires[i] : &f->wire) = sv[1];
	}
	f->cfg.pairs = f->pairs;
}

static inline void on_change(UNUSED struct virtio_device *d, void *arg)
{
	++*(unsigned *)arg;
}

static inline void add_eventfds(struct virtio_device *d)
{
	for (unsigned i = 0; i < d->ops->nqueues; i++) {
		d->vq[i].kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		d->vq[i].call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		d->vq[i].indirect = true;
	}
}

static inline void make_card(struct fixture *f)
{
	f->d = net_new(f->loop, &f->cfg, NULL);
	assert_non_null(f->d);
	f->d->config_changed = on_change;
	f->d->transport = &f->told;
	f->d->acked = f->d->ops->features(f->d);
	add_eventfds(f->d);
}

static inline struct fixture *make_fixture(unsigned pairs)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	memset(&tap, 0, sizeof(tap));
	f->loop = loop_new(NULL);
	f->pairs = pairs;
	f->queues = 2 * pairs + 1;
	for (unsigned i = 0; i < f->queues; i++)
		test_ring_init(&f->r[i], 16);
	make_tap(f);
	memcpy(f->cfg.mac, MAC, 6);
	return f;
}

static inline int setup(void **state)
{
	struct fixture *f = make_fixture(1);

	make_card(f);
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;
	struct virtqueue q[QUEUES_MAX];

	memcpy(q, f->d->vq, sizeof(q));
	f->d->ops->destroy(f->d);
	loop_free(f->loop);
	for (unsigned i = 0; i < f->queues; i++) {
		close(q[i].kick_fd);
		close(q[i].call_fd);
		test_ring_free(&f->r[i]);
	}
	close_fd(&f->wire);
	for (unsigned i = 1; i < f->pairs; i++)
		close_fd(&f->wires[i]);
	free(f);
	return 0;
}

static inline void start(struct fixture *f, unsigned q)
{
	struct virtqueue *vq = &f->d->vq[q];

	assert_int_equal(test_ring_setup(&f->r[q], vq, vq->last_avail), 0);
	assert_int_equal(f->d->ops->start_queue(f->d, q, NULL), 0);
	f->d->running[q] = true;
}

static inline void stop(struct fixture *f, unsigned q)
{
	f->d->ops->stop_queue(f->d, q);
	f->d->running[q] = false;
}

static inline void kick(struct fixture *f, unsigned q)
{
	uint64_t one = 1;

	assert_int_equal(write(f->d->vq[q].kick_fd, &one, sizeof(one)), sizeof(one));
}

/* Waits until the device has returned `n` chains more. */
static inline void await_used(struct fixture *f, unsigned q, uint16_t n)
{
	uint16_t until = (uint16_t)(f->done[q] + n);

	ring_await(&f->r[q], until, f->d->vq[q].call_fd);
	assert_int_equal(ring_used_idx(&f->r[q]), until);
	f->done[q] = until;
}

static inline uint32_t used_len(struct fixture *f, unsigned q, uint16_t back)
{
	return ring_used(&f->r[q], (uint16_t)(f->done[q] - back))[1];
}

/* A packet to send: a header and `len` bytes, as two descriptors. */
static inline void offer_tx(struct fixture *f, const struct virtio_net_hdr_v1 *h, uint32_t len)
{
	struct test_ring *r = &f->r[NET_QUEUE_TX];

	memcpy(r->ram + DATA, h, HDR);
	for (uint32_t i = 0; i < len; i++)
		r->ram[DATA + 0x100 + i] = (uint8_t)i;
	ring_put(r, 0, DATA, HDR, len ? RING_NEXT : 0, 1);
	ring_put(r, 1, DATA + 0x100, len, 0, 0);
	ring_offer(r, 0);
}

static inline void offer_rx(struct fixture *f, unsigned i, uint32_t len)
{
	struct test_ring *r = &f->r[NET_QUEUE_RX];

	memset(r->ram + RX_BUF(i), 0xee, len);
	ring_put(r, (uint16_t)i, RX_BUF(i), len, RING_WRITE, 0);
	ring_offer(r, (uint16_t)i);
}

/* ---- the wire */

static inline ssize_t from_wire(struct fixture *f, uint8_t *buf, size_t size, int ms)
{
	struct pollfd p = {.fd = f->wire, .events = POLLIN};

	return poll(&p, 1, ms) > 0 ? recv(f->wire, buf, size, 0) : -1;
}

static inline void to_wire(struct fixture *f, uint32_t len, uint8_t flags)
{
	static uint8_t packet[NET_PACKET_MAX];
	struct virtio_net_hdr_v1 h = {.flags = flags, .csum_start = 34, .num_buffers = 77};

	for (uint32_t i = 0; i < len; i++)
		packet[HDR + i] = (uint8_t)(i * 7);
	memcpy(packet, &h, HDR);
	assert_int_equal(send(f->wire, packet, HDR + len, 0), HDR + len);
}

/* ---- the control queue */

/* Starts the queue, does one command, stops it; returns its status. */
static inline uint8_t command(struct fixture *f, const void *bytes, uint32_t len)
{
	unsigned q = 2 * f->pairs;
	struct test_ring *r = &f->r[q];

	memcpy(r->ram + DATA, bytes, len);
	r->ram[STATUS] = 0xee;
	ring_put(r, 0, DATA, len, RING_NEXT, 1);
	ring_put(r, 1, STATUS, 1, RING_WRITE, 0);
	ring_offer(r, 0);
	start(f, q);
	stop(f, q);
	await_used(f, q, 1);
	return r->ram[STATUS];
}

#endif
