/*
 * net_rx.c - packets to the guest (virtio 1.2 §5.1.6.3, .4).
 *
 * Theory of operation
 *
 * How long a packet is shows when it was read. Where buffers may be merged, the window holds so
 * many of the guest's that the largest packet fits; then one readv() brings a packet from the
 * TAP into guest memory, without a copy of ours, and the buffers that it did not need stay in
 * the window for the next one: each buffer is taken from the ring once.
 *
 * Otherwise (no merging, few buffers, a limit) a packet is read into the scratch buffer. There it
 * is *pending* until the limit lets it through and there is room for it; meanwhile the TAP is not
 * read, so that the kernel's queue before it fills and its sender notices. A packet that will not
 * fit whatever the guest does is dropped: it is longer than the one buffer that it may use, or than
 * the window can be.
 *
 * The header comes from the TAP and is written to the guest by us, with what the driver has
 * negotiated and the number of buffers. All buffers of a packet are told at once.
 *
 * Buffers in the window belong to the ring's thread alone; when the queue stops they go back, as if
 * they had not been taken.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "lib/log.h"
#include "vmm/virtio/net_dev.h"

/* Of preadv2(2), offset -1 is readv(2): one call less for the process. */
/* syscalls net: preadv2 */

#define NOTIFY_PACKETS 16
#define RETRY_US 100000 /* after an error of the TAP that is not known to be for good */

enum step { MOVED, NO_PACKET, NO_BUFFERS, NOT_NOW };

static bool mergeable(const struct net_pair *p)
{
	return virtio_has(&p->net->d, VIRTIO_NET_F_MRG_RXBUF);
}

/* ---- the window */

/* Moves what is left to the front. */
static void compact(struct net_window *w)
{
	unsigned segs = w->seg_end - w->seg, chains = w->end - w->first;

	memmove(&w->iov[1], &w->iov[w->seg], segs * sizeof(w->iov[0]));
	memmove(&w->chain[0], &w->chain[w->first], chains * sizeof(w->chain[0]));
	w->seg = 1;
	w->seg_end = 1 + segs;
	w->first = 0;
	w->end = chains;
}

static bool has_room(struct net_window *w, unsigned segs)
{
	if (w->end < NET_WINDOW_CHAINS && w->seg_end + segs <= 1 + NET_WINDOW_SEGS)
		return true;
	compact(w);
	return w->end < NET_WINDOW_CHAINS && w->seg_end + segs <= 1 + NET_WINDOW_SEGS;
}

/* Takes buffers until the largest packet fits. True when more will not be taken, whatever the guest
 * offers. */
static bool refill(struct net_pair *p)
{
	struct net_window *w = &p->window;
	struct vq_chain *c = &p->chain;

	if (w->first == w->end)
		compact(w);
	for (;;) {
		if (w->bytes >= NET_PACKET_MAX || (w->first != w->end && !mergeable(p)))
			return true;
		if (vq_pop(p->rx, c) <= 0)
			return w->end - w->first >= p->rx->size;
		if (!has_room(w, c->nwrite)) {
			vq_unpop(p->rx);
			return true;
		}
		memcpy(&w->iov[w->seg_end], c->write, c->nwrite * sizeof(c->write[0]));
		w->seg_end += c->nwrite;
		w->chain[w->end].head = c->head;
		w->chain[w->end].segs = (uint16_t)c->nwrite;
		w->chain[w->end].bytes = (uint32_t)c->write_bytes;
		w->end++;
		w->bytes += c->write_bytes;
	}
}

static void window_write(struct net_window *w, const void *buf, size_t len)
{
	const uint8_t *from = buf;

	for (unsigned i = w->seg; i < w->seg_end && len; i++) {
		size_t take = w->iov[i].iov_len < len ? w->iov[i].iov_len : len;

		memcpy(w->iov[i].iov_base, from, take);
		from += take;
		len -= take;
	}
}

/* Gives the guest the first `len` bytes of the window, header included. */
static void give(struct net_pair *p, uint64_t len)
{
	struct net_window *w = &p->window;

	do {
		uint32_t bytes = w->chain[w->first].bytes;
		uint32_t used = len < bytes ? (uint32_t)len : bytes;

		vq_fill(p->rx, w->chain[w->first].head, used);
		w->seg += w->chain[w->first].segs;
		w->bytes -= bytes;
		w->first++;
		len -= used;
	} while (len);
	vq_flush(p->rx);
}

/* In how many of the window's buffers `len` bytes are; the window has that many. */
static uint16_t buffers_for(const struct net_window *w, uint64_t len)
{
	uint64_t have = 0;
	unsigned i = w->first;

	do {
		have += w->chain[i++].bytes;
	} while (have < len);
	return (uint16_t)(i - w->first);
}

static void finish_header(struct net_pair *p, struct virtio_net_hdr_v1 *h, uint64_t len)
{
	if (!virtio_has(&p->net->d, VIRTIO_NET_F_GUEST_CSUM))
		h->flags = 0;
	h->num_buffers = mergeable(p) ? buffers_for(&p->window, len) : 1;
}

static void count_packet(struct net_pair *p, uint64_t len)
{
	net_count(&p->stats.rx_packets, 1);
	net_count(&p->stats.rx_bytes, len - NET_HDR_BYTES);
}

/* ---- the TAP */

/* The length of a packet, or 0: there is none now. */
static uint32_t packet_read(struct net_pair *p, const struct iovec *iov, unsigned n)
{
	ssize_t r;

	do {
		r = preadv2(p->tap, iov, (int)n, -1, 0);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && errno == EAGAIN) {
		p->rx_ready = false;
		return 0;
	}
	if (r < 0 && errno == EBADFD) {
		net_pair_lost(p);
		return 0;
	}
	if (r < (ssize_t)(NET_HDR_BYTES + NET_FRAME_MIN)) {
		/* An error, or no packet: neither comes from a TAP that is well. */
		p->rx_at = now_us() + RETRY_US;
		return 0;
	}
	return (uint32_t)r;
}

static bool fits_any(const struct net_window *w)
{
	return w->bytes >= NET_PACKET_MAX && w->iov[w->seg].iov_len > NET_HDR_BYTES;
}

/* From the TAP to the guest. */
static enum step read_through(struct net_pair *p, uint64_t *moved)
{
	struct net_window *w = &p->window;
	struct iovec *header = &w->iov[w->seg - 1], *first = &w->iov[w->seg], kept = *first;
	struct virtio_net_hdr_v1 h = {0};
	uint32_t len;

	*header = (struct iovec){&h, sizeof(h)};
	first->iov_base = (uint8_t *)kept.iov_base + sizeof(h);
	first->iov_len -= sizeof(h);
	len = packet_read(p, header, w->seg_end - w->seg + 1);
	*first = kept;
	if (!len)
		return NO_PACKET;
	finish_header(p, &h, len);
	memcpy(kept.iov_base, &h, sizeof(h));
	give(p, len);
	count_packet(p, len);
	*moved += len;
	return MOVED;
}

static void drop_pending(struct net_pair *p)
{
	p->pending = 0;
	net_count(&p->stats.rx_dropped, 1);
}

/* The packet in the scratch buffer to the guest, if it may and can be. */
static enum step deliver(struct net_pair *p, bool full, uint64_t *moved)
{
	struct net_window *w = &p->window;
	struct virtio_net_hdr_v1 h;

	if (p->rx_limited && !p->paid) {
		uint64_t now = now_us();
		uint64_t wait = ratelimit_take(&p->rx_limit, p->pending - NET_HDR_BYTES, now);

		if (wait) {
			p->rx_at = now + wait;
			return NOT_NOW;
		}
		p->paid = true;
	}
	if (w->bytes < p->pending) {
		if (!full)
			return NO_BUFFERS;
		drop_pending(p);
		return MOVED;
	}
	memcpy(&h, p->scratch, sizeof(h));
	finish_header(p, &h, p->pending);
	memcpy(p->scratch, &h, sizeof(h));
	window_write(w, p->scratch, p->pending);
	give(p, p->pending);
	count_packet(p, p->pending);
	*moved += p->pending;
	p->pending = 0;
	return MOVED;
}

static enum step step(struct net_pair *p, uint64_t *moved)
{
	struct net_window *w = &p->window;
	bool full = refill(p);

	if (!p->pending) {
		struct iovec scratch = {p->scratch, NET_PACKET_MAX};

		if (w->first == w->end)
			return NO_BUFFERS;
		if (mergeable(p) && !p->rx_limited && fits_any(w))
			return read_through(p, moved);
		p->pending = packet_read(p, &scratch, 1);
		if (!p->pending)
			return NO_PACKET;
		p->paid = false;
	}
	return deliver(p, full, moved);
}

void net_rx(struct net_pair *p)
{
	unsigned packets = 0;
	uint64_t moved = 0;
	enum step r = MOVED;

	p->rx_starved = false;
	vq_kicks_off(p->rx);
	while (packets < NET_TURN_PACKETS && moved < NET_TURN_BYTES) {
		r = step(p, &moved);
		/* No more buffers: ask to be told of them, and look once more. */
		if (r == NO_BUFFERS && !vq_kicks_on(p->rx)) {
			p->rx_starved = true;
			break;
		}
		if (r == NO_PACKET || r == NOT_NOW)
			break;
		if (++packets % NOTIFY_PACKETS == 0)
			vq_notify(p->rx);
	}
	vq_notify(p->rx);
}

void net_rx_stop(struct net_pair *p)
{
	struct net_window *w = &p->window;

	for (; w->end != w->first; w->end--)
		vq_unpop(p->rx);
	w->bytes = 0;
	w->seg = w->seg_end = 1;
	w->first = w->end = 0;
}
