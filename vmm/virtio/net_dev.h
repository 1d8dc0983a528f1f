/*
 * net_dev.h - what the files of the network card share; net.h is for everybody else.
 *
 *	net.c       the device: features, configuration space, TAPs that come and go
 *	net_pair.c  a pair of queues and its thread
 *	net_tx.c    packets from the guest
 *	net_rx.c    packets to the guest
 *	net_vhost.c the kernel in the thread's place
 *	net_ctrl.c  the control queue: which packets the guest wants, and how many pairs it uses
 *	net_tap.c   what is asked of a TAP, beside reading and writing
 */
#ifndef HUSK_VMM_VIRTIO_NET_DEV_H
#define HUSK_VMM_VIRTIO_NET_DEV_H

#include <linux/virtio_net.h>
#include <pthread.h>

#include "vmm/virtio/net.h"

/* Newer than Debian 12's headers (virtio 1.2 §5.1.3, Linux 6.2). */
#define NET_F_GUEST_USO4 54
#define NET_F_GUEST_USO6 55
#define NET_F_HOST_USO 56
#define NET_GSO_UDP_L4 5

/* Of the first pair (§5.1.2), by the driver's names; the others' follow, then the control queue. */
#define NET_QUEUE_RX 0 /* to the guest */
#define NET_QUEUE_TX 1

#define NET_HDR_BYTES 12u
#define NET_FRAME_MIN 14u	     /* an Ethernet header */
#define NET_FRAME_MAX (65535u + 18u) /* an IP packet of any size, with a VLAN tag */
#define NET_PACKET_MAX (NET_HDR_BYTES + NET_FRAME_MAX)

/* What is moved in one direction before the other one has its turn. */
#define NET_TURN_PACKETS 64
#define NET_TURN_BYTES (512u << 10)

#define NET_WINDOW_CHAINS 128 /* enough for NET_PACKET_MAX in buffers of 1526 bytes, and more */
#define NET_WINDOW_SEGS 256

#define NET_MACS_MAX 64 /* addresses of each kind in the filter; more: all of the kind */

_Static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HDR_BYTES, "virtio_net_hdr_v1");

struct net;

/* Receive buffers that were taken from the ring and are not used yet, the oldest first. Their
 * segments lie in a row, so that one readv() fills them; iov[0] keeps room for a header. */
struct net_window {
	struct iovec iov[1 + NET_WINDOW_SEGS];
	unsigned seg, seg_end; /* of iov */
	struct {
		uint16_t head, segs;
		uint32_t bytes;
	} chain[NET_WINDOW_CHAINS];
	unsigned first, end; /* of chain */
	uint64_t bytes;	     /* all of them together */
};

#define NET_SERVE_RX 1u
#define NET_SERVE_TX 2u

/* A pair of queues. Everything below `lock` but what is said to be is the thread's alone. */
struct net_pair {
	struct net *net;
	struct virtqueue *rx, *tx;
	int tap;	    /* -1: none. Changes while there is no thread */
	int vhost;	    /* -1: none; the loop's alone */
	unsigned in_kernel; /* NET_SERVE_*, what vhost-net serves; the loop's alone */

	bool threaded;
	pthread_t thread;
	int wake; /* eventfd: look at `want` and at the link */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned want; /* NET_SERVE_*; the loop's to set */
	unsigned have; /* what the thread serves; the thread's to set, under the lock */

	bool dead; /* the TAP is deleted; until another one comes. Atomically: the loop asks */
	bool rx_ready, tx_ready; /* there may be something to do */
	bool rx_starved;	 /* no buffers: only a kick helps */
	bool tx_blocked;	 /* the TAP takes nothing now */
	uint64_t rx_at, tx_at;	 /* not before then (now_us()); 0: at once */
	uint64_t tx_empty_at;	 /* when the ring was found empty last */
	unsigned tx_no_spin;	 /* kicks until waiting for the next packet is tried again */
	struct ratelimit rx_limit, tx_limit;
	bool rx_limited, tx_limited; /* there is a limit */
	struct net_window window;
	uint32_t pending; /* bytes of the packet in `scratch` that waits for buffers; 0: none */
	bool paid;	  /* the limit has let it through */
	uint8_t *scratch; /* NET_PACKET_MAX bytes */
	struct net_stats stats; /* written by the thread, atomically */
	struct vq_chain chain;
	struct iovec out[VQ_SEGS_MAX + 1];
};

/* What the guest wants to receive (§5.1.6.5.1, .2). */
struct net_filter {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	bool many_uni, many_multi; /* more than fit */
	uint8_t mac[6];
	unsigned n; /* unicast ones first */
	unsigned nuni;
	uint8_t table[2 * NET_MACS_MAX][6];
};

struct net {
	struct virtio_device d;
	struct virtio_device_ops ops; /* the number of queues is a card's own */
	unsigned npairs, pairs_on;    /* there are, and the driver uses */
	uint32_t started;	      /* queues that run, a bit each */
	uint8_t mac[6];		      /* the driver's */
	bool uso;		      /* the TAP knows UDP segmentation */
	bool up;		      /* atomically: threads read it */
	uint64_t served;	      /* d.acked as the pending packet's maker knew it */
	struct net_pair *pair;
	struct net_filter filter;
	struct loop_source *ctrl, *pause;
	int news; /* eventfd: a thread found its TAP deleted */
	struct loop_source *news_src, *look;
	void (*lost)(void *arg, struct virtio_device *d);
	void *lost_arg;
};

static inline struct net *net_of(const struct virtio_device *d)
{
	return (struct net *)(uintptr_t)d;
}

static inline unsigned net_ctrl_queue(const struct net *n)
{
	return 2 * n->npairs;
}

/* One thread counts, others read. */
static inline void net_count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline bool net_is_up(const struct net *n)
{
	return __atomic_load_n(&n->up, __ATOMIC_ACQUIRE);
}

static inline bool net_pair_is_dead(const struct net_pair *p)
{
	return __atomic_load_n(&p->dead, __ATOMIC_ACQUIRE);
}

/* ---- net.c */
/* The driver uses so many pairs, at least one. False: fewer, as it could not be done. */
bool net_use_pairs(struct net *n, unsigned count);

/* ---- net_pair.c */
/* Pair i of the card. */
int net_pair_init(struct net_pair *p, struct net *n, unsigned i, struct error *err);
void net_pair_free(struct net_pair *p);
/* Serves these queues (NET_SERVE_*) and no others; returns when that is so. */
int net_pair_serve(struct net_pair *p, unsigned what, struct error *err);
/* The thread's: its TAP is deleted. Tells the loop, once. */
void net_pair_lost(struct net_pair *p);
/* Has the thread look at the link again. */
void net_pair_wake(struct net_pair *p);

/* ---- net_tx.c */
/* Sends what there is, at most a turn of it. */
void net_tx(struct net_pair *p);
/* Checks a header of the guest for a packet of `len` bytes without it, and takes out of it what has
 * no meaning. `acked`: the features. */
bool net_tx_header(struct virtio_net_hdr_v1 *h, uint64_t len, uint64_t acked);

/* ---- net_rx.c */
void net_rx(struct net_pair *p);
/* The buffers that were taken and are unused go back to the ring. */
void net_rx_stop(struct net_pair *p);

/* ---- net_vhost.c */
/* Sees that it is /dev/vhost-net as we need it, and makes it this process's. */
int net_vhost_open(int fd, struct error *err);
/* The kernel serves these queues (NET_SERVE_*) of the pair and no others when this returns. */
int net_vhost_serve(struct net_pair *p, unsigned what, struct error *err);

/* ---- net_ctrl.c */
int net_ctrl_start(struct net *n, struct error *err);
void net_ctrl_stop(struct net *n);
/* Everything is received, by one pair, as after a reset. */
void net_ctrl_reset(struct net *n);
/* Tells the TAP again. */
void net_ctrl_apply(struct net *n);
/* Does one command and returns its status. */
uint8_t net_ctrl_command(struct net *n, const struct vq_chain *c);

/* ---- net_tap.c */
/* Sees that they are the queues of a TAP as we need it, and prepares it. *uso: it knows UDP
 * segmentation. */
int net_tap_open(const int *tap, unsigned queues, bool *uso, struct error *err);
/* Whether it is not deleted. */
bool net_tap_is_there(int tap);
/* Whether the kernel uses this one of its queues: all are at first. */
int net_tap_queue(int tap, bool on, struct error *err);
/* What the guest can receive: TUN_F_*. */
int net_tap_offload(int tap, uint64_t acked, struct error *err);
/* Has the kernel drop what is for none of these addresses. n 0: nothing is dropped. */
void net_tap_filter(int tap, const uint8_t (*mac)[6], unsigned n, bool allmulti);
/* Whether the TAP's other end has a carrier. */
void net_tap_carrier(int tap, bool on);

#endif
