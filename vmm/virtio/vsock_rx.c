/*
 * vsock_rx.c - packets to the guest.
 *
 * Theory of operation
 *
 * The guest's receive queue is the scarce thing: Linux posts a hundred buffers of less than 4 KiB.
 * Streams with something to send stand in line (d->ready_head). The pump takes the first, sends
 * its control packets and then one batch of data, and puts it at the end of the line: round robin.
 * It stops when the line is empty, when there are no buffers (then it asks for a kick, and streams
 * in the line stop watching their sockets), or after PUMP_BATCHES, to let the loop look at
 * something else.
 *
 * A batch is one recvmsg() into several guest buffers, behind the space for their headers; then
 * each buffer that got bytes gets its header and is returned, the others are put back. How many
 * buffers a batch takes is learnt per stream: it doubles while reads fill them all.
 */
#include "vmm/virtio/vsock_dev.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lib/cleanup.h"

#define PUMP_BATCHES 64
#define BATCH_MAX 48		     /* buffers in one */
#define BATCH_BYTES (128u << 10)     /* bytes of data in one: what fairness means here */
#define PACKET_BYTES_MAX (64u << 10) /* of data in one packet */
#define BATCH_SEGS (BATCH_MAX + VQ_SEGS_MAX)
#define SKIPS_MAX 64 /* useless buffers thrown back for one useful */

struct slot {
	uint16_t head;
	uint32_t room;	     /* bytes of data that it takes */
	unsigned seg, nsegs; /* its segments, the header's space included */
};

struct batch {
	unsigned n, nsegs, niov;
	struct slot slot[BATCH_MAX];
	struct iovec seg[BATCH_SEGS];
	struct iovec iov[BATCH_SEGS]; /* the same without the headers' space */
};

enum served { SERVED, NO_BUFFER };

static struct virtqueue *rx_queue(struct vsock_dev *d)
{
	return &d->vd.vq[VSOCK_QUEUE_RX];
}

/* The next buffer with room for a header and `more` bytes. */
static bool next_buffer(struct vsock_dev *d, struct vq_chain *c, uint32_t more)
{
	struct virtqueue *q = rx_queue(d);

	for (unsigned i = 0; i < SKIPS_MAX && vq_pop(q, c) == 1; i++) {
		if (c->write_bytes >= VSOCK_HDR_BYTES + (uint64_t)more)
			return true;
		vq_push(q, c->head, 0);
	}
	return false;
}

static enum served send_control(struct vsock_stream *s, enum vsock_op op)
{
	struct vsock_dev *d = s->d;
	struct vsock_hdr h;

	if (!next_buffer(d, &d->chain, 0))
		return NO_BUFFER;
	vsock_conn_output(&s->c, op, 0, &h);
	vq_write(&d->chain, 0, &h, sizeof(h));
	vq_push(rx_queue(d), d->chain.head, sizeof(h));
	return SERVED;
}

/* ---- data */

/* Adds the chain's segments, with at most `want` bytes of data. */
static uint32_t batch_add(struct batch *b, const struct vq_chain *c, uint32_t want)
{
	struct slot *slot = &b->slot[b->n++];
	uint64_t skip = VSOCK_HDR_BYTES, room = c->write_bytes - VSOCK_HDR_BYTES;
	uint32_t left;

	if (room > PACKET_BYTES_MAX)
		room = PACKET_BYTES_MAX;
	if (room > want)
		room = want;
	left = (uint32_t)room;
	*slot = (struct slot){c->head, left, b->nsegs, c->nwrite};
	for (unsigned i = 0; i < c->nwrite; i++) {
		uint8_t *base = c->write[i].iov_base;
		uint64_t len = c->write[i].iov_len;

		b->seg[b->nsegs++] = c->write[i];
		if (skip >= len) {
			skip -= len;
			continue;
		}
		base += skip;
		len -= skip;
		skip = 0;
		if (len > left)
			len = left;
		if (len)
			b->iov[b->niov++] = (struct iovec){base, len};
		left -= (uint32_t)len;
	}
	return (uint32_t)room;
}

static void batch_fill(struct vsock_stream *s, struct batch *b, uint32_t want)
{
	struct vsock_dev *d = s->d;

	b->n = b->nsegs = b->niov = 0;
	if (!next_buffer(d, &d->chain, 1))
		return;
	for (;;) {
		want -= batch_add(b, &d->chain, want);
		if (!want || b->n == s->batch || b->nsegs > BATCH_SEGS - VQ_SEGS_MAX)
			return;
		if (vq_pop(rx_queue(d), &d->chain) != 1)
			return;
		if (d->chain.write_bytes <= VSOCK_HDR_BYTES) {
			vq_unpop(rx_queue(d)); /* next_buffer() will throw it back */
			return;
		}
	}
}

static void write_header(const struct batch *b, const struct slot *slot, const struct vsock_hdr *h)
{
	const uint8_t *p = (const uint8_t *)h;
	size_t left = sizeof(*h);

	for (unsigned i = slot->seg; left; i++) {
		size_t n = b->seg[i].iov_len < left ? b->seg[i].iov_len : left;

		__builtin_memcpy(b->seg[i].iov_base, p, n);
		p += n;
		left -= n;
	}
}

/* Returns the buffers that `bytes` fill, and puts the others back. */
static void batch_send(struct vsock_stream *s, const struct batch *b, uint32_t bytes)
{
	struct virtqueue *q = rx_queue(s->d);
	unsigned used = 0;
	struct vsock_hdr h;

	s->d->rx_bytes += bytes;
	for (; used < b->n && bytes; used++) {
		const struct slot *slot = &b->slot[used];
		uint32_t len = bytes < slot->room ? bytes : slot->room;

		vsock_conn_output(&s->c, VSOCK_OP_RW, len, &h);
		write_header(b, slot, &h);
		vq_push(q, slot->head, VSOCK_HDR_BYTES + len);
		bytes -= len;
	}
	for (unsigned i = used; i < b->n; i++)
		vq_unpop(q);
	s->batch = used ? used : 1;
}

static void end_of_stream(struct vsock_stream *s)
{
	s->readable = false;
	s->eof = true;
	vsock_conn_shutdown(&s->c, VSOCK_SHUT_SEND);
}

static enum served send_data(struct vsock_stream *s)
{
	uint32_t want = vsock_conn_window(&s->c), asked = 0;
	struct batch b;
	ssize_t n;

	if (want > BATCH_BYTES)
		want = BATCH_BYTES;
	batch_fill(s, &b, want);
	if (!b.n)
		return NO_BUFFER;
	for (unsigned i = 0; i < b.n; i++)
		asked += b.slot[i].room;
	do {
		n = recvmsg(s->sock, &(struct msghdr){.msg_iov = b.iov, .msg_iovlen = b.niov}, 0);
	} while (n < 0 && errno == EINTR);

	if (n > 0) {
		batch_send(s, &b, (uint32_t)n);
		if ((uint32_t)n < asked)
			s->readable = false; /* a short read has emptied the socket */
		else if (s->batch == b.n)
			s->batch = b.n * 2 < BATCH_MAX ? b.n * 2 : BATCH_MAX;
		/* Without a source nothing would tell us of the end: read on until it comes. */
		if (!s->src)
			s->readable = true;
		return SERVED;
	}
	int why = errno;

	batch_send(s, &b, 0);
	if (n < 0 && why == EAGAIN)
		s->readable = false;
	else /* end of stream, or an error that ends it (the client closed with bytes unread) */
		end_of_stream(s);
	return SERVED;
}

/* ---- the line */

static enum served serve(struct vsock_stream *s)
{
	for (;;) {
		enum vsock_op op = vsock_conn_due(&s->c);

		if (op == VSOCK_OP_INVALID || !vsock_stream_has_work(s))
			break;
		if (send_control(s, op) == NO_BUFFER)
			return NO_BUFFER;
	}
	if (s->readable && !s->eof && vsock_conn_window(&s->c) && send_data(s) == NO_BUFFER)
		return NO_BUFFER;
	return SERVED;
}

static enum served send_rst(struct vsock_dev *d)
{
	const struct vsock_rst *r = &d->rst[d->rst_first];
	struct vsock_hdr h = {
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = VSOCK_GUEST_CID,
		.src_port = r->local_port,
		.dst_port = r->peer_port,
		.type = r->type,
		.op = VSOCK_OP_RST,
	};

	if (!next_buffer(d, &d->chain, 0))
		return NO_BUFFER;
	vsock_hdr_swap(&h);
	vq_write(&d->chain, 0, &h, sizeof(h));
	vq_push(rx_queue(d), d->chain.head, sizeof(h));
	d->rst_first = (d->rst_first + 1) % VSOCK_RST_MAX;
	d->rst_n--;
	return SERVED;
}

void vsock_rst_later(struct vsock_dev *d, uint32_t local_port, uint32_t peer_port, uint16_t type)
{
	if (d->rst_n == VSOCK_RST_MAX)
		return;
	d->rst[(d->rst_first + d->rst_n++) % VSOCK_RST_MAX] =
		(struct vsock_rst){local_port, peer_port, type};
}

/* One thing from the line; the stream that was served goes to its end, or leaves it. */
static enum served serve_first(struct vsock_dev *d)
{
	struct vsock_stream *s = d->ready_head;

	if (d->rst_n)
		return send_rst(d);
	if (serve(s) == NO_BUFFER)
		return NO_BUFFER;
	vsock_stream_unqueue(s);
	vsock_stream_settle(s);
	return SERVED;
}

/* Those in the line know that there is something to read: no need to hear it again. */
static void hush(struct vsock_dev *d)
{
	for (struct vsock_stream *s = d->ready_head; s; s = s->ready_next)
		vsock_stream_set_events(s);
}

void vsock_pump(struct vsock_dev *d)
{
	struct virtqueue *q = rx_queue(d);
	unsigned batches = 0;

	if (d->busy)
		return;
	if (!d->running[VSOCK_QUEUE_RX]) {
		hush(d);
		return;
	}
	d->busy = true;
	while (d->rst_n || d->ready_head) {
		if (++batches > PUMP_BATCHES) {
			vsock_wake(d);
			break;
		}
		if (serve_first(d) == SERVED) {
			vq_notify(q);
			continue;
		}
		vq_notify(q);
		if (!vq_kicks_on(q)) {
			hush(d);
			break;
		}
		vq_kicks_off(q);
	}
	d->busy = false;
}
