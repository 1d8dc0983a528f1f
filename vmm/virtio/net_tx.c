/*
 * net_tx.c - packets from the guest (virtio 1.2 §5.1.6.2).
 *
 * A packet goes from guest memory to the TAP by one writev(), without a copy of ours. Only its
 * header is copied first: what is checked must be what the kernel gets. The kernel makes a packet
 * of its own from it and checks the header against that; the checks here are those that it cannot
 * make (what was negotiated), and those that cost nothing (lengths).
 *
 * A guest that sends many small packets is faster than its kicks and our wake-ups: each costs it a
 * way out of the guest. When kicks follow one another closely, we look for the next packet for
 * SPIN_US before we ask for a kick again; when none came, not for the next NO_SPIN kicks, since
 * what arrives from the TAP waits meanwhile.
 *
 * What cannot be sent is dropped, as on any wire: a card with its cable out takes packets too.
 */
#include <errno.h>
#include <sys/uio.h>

#include "lib/log.h"
#include "vmm/virtio/net_dev.h"

/* Of pwritev2(2), offset -1 is writev(2). */
/* syscalls net: pwritev2 */

#define NOTIFY_PACKETS 16 /* tell the driver at the latest after so many */
#define SPIN_US 20
#define CLOSE_US 50 /* between an empty ring and the next kick */
#define NO_SPIN 32

enum sent { SENT, DROPPED, NOT_NOW };

static bool acked_bit(uint64_t acked, unsigned bit)
{
	return acked >> bit & 1;
}

static bool gso_allowed(uint8_t type, uint64_t acked)
{
	bool ecn = type & VIRTIO_NET_HDR_GSO_ECN;

	switch (type & ~VIRTIO_NET_HDR_GSO_ECN) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return !ecn;
	case VIRTIO_NET_HDR_GSO_TCPV4:
		if (!acked_bit(acked, VIRTIO_NET_F_HOST_TSO4))
			return false;
		break;
	case VIRTIO_NET_HDR_GSO_TCPV6:
		if (!acked_bit(acked, VIRTIO_NET_F_HOST_TSO6))
			return false;
		break;
	case NET_GSO_UDP_L4:
		return !ecn && acked_bit(acked, NET_F_HOST_USO);
	default:
		return false;
	}
	return !ecn || acked_bit(acked, VIRTIO_NET_F_HOST_ECN);
}

bool net_tx_header(struct virtio_net_hdr_v1 *h, uint64_t len, uint64_t acked)
{
	bool gso = h->gso_type != VIRTIO_NET_HDR_GSO_NONE;

	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return false;
	h->flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM; /* the others are the device's to set */
	h->num_buffers = 0;
	if (h->flags) {
		if (!acked_bit(acked, VIRTIO_NET_F_CSUM) ||
		    (uint64_t)h->csum_start + h->csum_offset + 2 > len)
			return false;
	} else {
		h->csum_start = h->csum_offset = 0;
	}
	if (!gso) {
		h->gso_size = h->hdr_len = 0;
		return true;
	}
	/* §5.1.6.2.1: segments get checksums; hdr_len is a hint. */
	if (!gso_allowed(h->gso_type, acked) || !h->flags || h->gso_size == 0)
		return false;
	if (h->hdr_len > len)
		h->hdr_len = (uint16_t)len;
	return true;
}

/* The readable part without its first NET_HDR_BYTES, behind out[0]. */
static unsigned slice(struct net_pair *p, const struct vq_chain *c)
{
	size_t skip = NET_HDR_BYTES;
	unsigned n = 1;

	for (unsigned i = 0; i < c->nread; i++) {
		const struct iovec *v = &c->read[i];

		if (skip >= v->iov_len) {
			skip -= v->iov_len;
			continue;
		}
		p->out[n++] = (struct iovec){(uint8_t *)v->iov_base + skip, v->iov_len - skip};
		skip = 0;
	}
	return n;
}

static enum sent write_packet(struct net_pair *p, const struct vq_chain *c,
			      struct virtio_net_hdr_v1 *h)
{
	unsigned n = slice(p, c);
	ssize_t r;

	p->out[0] = (struct iovec){h, sizeof(*h)};
	do {
		r = pwritev2(p->tap, p->out, (int)n, -1, 0);
	} while (r < 0 && errno == EINTR);
	if (r >= 0)
		return SENT;
	if (errno == EAGAIN) {
		p->tx_blocked = true;
		return NOT_NOW;
	}
	if (errno == EBADFD)
		net_pair_lost(p);
	return DROPPED; /* EIO: the TAP is down. EINVAL: the guest lied */
}

static enum sent send_packet(struct net_pair *p, const struct vq_chain *c)
{
	struct virtio_net_hdr_v1 h;
	uint64_t len, wait;

	if (p->tap < 0 || p->dead || !net_is_up(p->net))
		return DROPPED;
	if (vq_read(c, 0, &h, sizeof(h)) != sizeof(h))
		return DROPPED;
	len = c->read_bytes - sizeof(h);
	if (!net_tx_header(&h, len, p->net->d.acked))
		return DROPPED;
	if (p->tx_limited) {
		uint64_t now = now_us();

		wait = ratelimit_take(&p->tx_limit, len, now);
		if (wait) {
			p->tx_at = now + wait;
			return NOT_NOW;
		}
	}
	return write_packet(p, c, &h);
}

/* Whether to look for the next packet, when there are no more. */
static bool may_spin(struct net_pair *p)
{
	if (!p->tx_empty_at || now_us() - p->tx_empty_at > CLOSE_US)
		return false;
	if (p->tx_no_spin == 0)
		return true;
	p->tx_no_spin--;
	return false;
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

static bool spin(struct net_pair *p)
{
	uint64_t until = now_us() + SPIN_US;

	do {
		for (unsigned i = 0; i < 16; i++) {
			if (!vq_empty(p->tx))
				return true;
			relax();
		}
	} while (now_us() < until);
	p->tx_no_spin = NO_SPIN;
	return false;
}

/* Gives the packet back; its bytes, if it was sent. */
static uint64_t finish(struct net_pair *p, enum sent r)
{
	uint64_t len = p->chain.read_bytes - NET_HDR_BYTES;

	vq_push(p->tx, p->chain.head, 0);
	if (r != SENT) {
		net_count(&p->stats.tx_dropped, 1);
		return 0;
	}
	net_count(&p->stats.tx_packets, 1);
	net_count(&p->stats.tx_bytes, len);
	return len;
}

/* The next packet's chain, if there is one. */
static bool next(struct net_pair *p, bool spins)
{
	do {
		if (vq_pop(p->tx, &p->chain) > 0)
			return true;
	} while (spins && spin(p));
	return false;
}

void net_tx(struct net_pair *p)
{
	struct virtqueue *q = p->tx;
	unsigned packets = 0;
	uint64_t bytes = 0;
	bool spins = may_spin(p);

	p->tx_ready = false;
	vq_kicks_off(q);
	while (next(p, spins)) {
		enum sent r = send_packet(p, &p->chain);

		if (r == NOT_NOW) {
			vq_unpop(q);
			vq_notify(q);
			return;
		}
		bytes += finish(p, r);
		if (++packets % NOTIFY_PACKETS == 0)
			vq_notify(q);
		if (packets == NET_TURN_PACKETS || bytes >= NET_TURN_BYTES) {
			vq_notify(q);
			p->tx_ready = true;
			return;
		}
	}
	vq_notify(q);
	p->tx_empty_at = now_us();
	p->tx_ready = vq_kicks_on(q);
}
