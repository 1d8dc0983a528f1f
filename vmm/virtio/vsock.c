/*
 * vsock.c - the virtio-vsock device (virtio 1.2 §5.10): its queues, packets from the guest,
 * connects and their deadlines.
 *
 * Theory of operation
 *
 * All runs in the loop's thread. A kick of the transmit queue has the guest's packets taken one by
 * one: the header is copied and checked, the stream is looked up by both ports, its state machine
 * says what the packet means, payload goes to the client. Then the pump (vsock_rx.c) sends what
 * became due. A packet for no stream is answered with RST, a RST never. At most TX_BATCH packets
 * are taken in a row, then the loop comes first.
 *
 * Only the host connects. Two REQUESTs that the guest may send are refused like all others, but
 * tell us something: to VSOCK_PORT_READY, that the agent listens: connects that waited go out; to
 * VSOCK_PORT_LATE, that it looks for late devices next.
 *
 * Queues are also stopped and started when the engine pauses the machine, and the guest notices
 * nothing of that. So a stop freezes the streams (clients are not served, nothing is lost), and
 * the start decides: a queue that goes on where it was stopped belongs to the same driver, and the
 * streams go on; another position is a driver that starts anew, and every stream but those whose
 * REQUEST was not sent yet ends.
 */
#include "vmm/virtio/vsock.h"
#include "vmm/virtio/vsock_dev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "lib/cleanup.h"
#include "lib/log.h"

#define TX_BATCH 64

/* ---- packets from the guest */

/* The payload's place in the chain. Returns the number of segments. */
static unsigned payload(const struct vq_chain *c, uint32_t len, struct iovec iov[VQ_SEGS_MAX])
{
	uint64_t skip = VSOCK_HDR_BYTES, left = len;
	unsigned n = 0;

	for (unsigned i = 0; i < c->nread && left; i++) {
		uint64_t take = c->read[i].iov_len;
		uint8_t *base = c->read[i].iov_base;

		if (skip >= take) {
			skip -= take;
			continue;
		}
		base += skip;
		take -= skip;
		skip = 0;
		if (take > left)
			take = left;
		iov[n++] = (struct iovec){base, take};
		left -= take;
	}
	return n;
}

static void guest_listens(struct vsock_dev *d)
{
	if (d->ready)
		return;
	d->ready = true;
	for (struct vsock_stream *s = d->streams; s; s = s->next)
		if (s->c.state == VSOCK_WAITING)
			vsock_stream_queue(s);
	if (d->on_ready && !d->ready_told) {
		d->ready_told = true;
		d->on_ready(d->on_ready_arg);
	}
}

static void for_no_stream(struct vsock_dev *d, const struct vsock_hdr *h)
{
	if (h->op == VSOCK_OP_RST)
		return;
	vsock_rst_later(d, h->dst_port, h->src_port, h->type);
	if (h->op != VSOCK_OP_REQUEST || h->type != VSOCK_TYPE_STREAM)
		return;
	if (h->dst_port == VSOCK_PORT_READY)
		guest_listens(d);
	else if (h->dst_port == VSOCK_PORT_LATE && d->on_late)
		d->on_late(d->on_ready_arg);
}

static void for_stream(struct vsock_stream *s, const struct vsock_hdr *h, const struct vq_chain *c)
{
	struct iovec iov[VQ_SEGS_MAX];
	enum vsock_event ev;

	if (!s->c.rst_due && h->len > c->read_bytes - VSOCK_HDR_BYTES) {
		vsock_conn_abort(&s->c);
		ev = VSOCK_EV_BROKEN;
	} else {
		ev = vsock_conn_input(&s->c, h);
	}
	switch (ev) {
	case VSOCK_EV_OPENED:
		vsock_stream_open(s);
		break;
	case VSOCK_EV_REFUSED:
		vsock_stream_fail(s, ERR_PEER, "connection refused by the guest");
		break;
	case VSOCK_EV_DATA:
		vsock_stream_deliver(s, iov, payload(c, h->len, iov), h->len);
		break;
	case VSOCK_EV_BROKEN:
		log_warn("vsock port %u: guest broke the protocol (op %u)", s->c.peer_port, h->op);
		vsock_stream_fail(s, ERR_PEER, "guest broke the protocol");
		vsock_stream_drop_client(s);
		break;
	case VSOCK_EV_SHUTDOWN:
	case VSOCK_EV_GONE:
	case VSOCK_EV_NONE:
		break;
	}
	vsock_stream_settle(s);
}

static void handle_packet(struct vsock_dev *d, const struct vq_chain *c)
{
	struct vsock_stream *s = NULL;
	struct vsock_hdr h;

	if (vq_read(c, 0, &h, sizeof(h)) != sizeof(h))
		return;
	vsock_hdr_swap(&h);
	if (h.src_cid != VSOCK_GUEST_CID || h.dst_cid != VSOCK_HOST_CID)
		return;
	if (h.type == VSOCK_TYPE_STREAM)
		s = vsock_stream_find(d, h.dst_port, h.src_port);
	if (s)
		for_stream(s, &h, c);
	else
		for_no_stream(d, &h);
}

/* Takes what the guest has sent. */
static void take_packets(struct vsock_dev *d)
{
	struct virtqueue *q = &d->vd.vq[VSOCK_QUEUE_TX];
	unsigned n = 0;

	d->busy = true;
	vq_kicks_off(q);
	for (;;) {
		if (vq_pop(q, &d->chain) == 1) {
			uint16_t head = d->chain.head;

			handle_packet(d, &d->chain);
			vq_push(q, head, 0);
			if (++n < TX_BATCH)
				continue;
			vsock_wake(d);
			break;
		}
		if (q->broken || !vq_kicks_on(q))
			break;
		vq_kicks_off(q);
	}
	vq_notify(q);
	d->busy = false;
}

/* ---- the loop */

static void on_wake(void *arg, UNUSED uint32_t events)
{
	struct vsock_dev *d = arg;
	uint64_t n;

	(void)!read(d->wake_fd, &n, sizeof(n));
	if (d->running[VSOCK_QUEUE_TX])
		take_packets(d);
	vsock_pump(d);
}

void vsock_wake(struct vsock_dev *d)
{
	uint64_t one = 1;

	(void)!write(d->wake_fd, &one, sizeof(one));
}

static void on_tx_kick(void *arg, UNUSED uint32_t events)
{
	struct vsock_dev *d = arg;
	uint64_t n;

	(void)!read(d->vd.vq[VSOCK_QUEUE_TX].kick_fd, &n, sizeof(n));
	take_packets(d);
	vsock_pump(d);
}

static void on_rx_kick(void *arg, UNUSED uint32_t events)
{
	struct vsock_dev *d = arg;
	uint64_t n;

	(void)!read(d->vd.vq[VSOCK_QUEUE_RX].kick_fd, &n, sizeof(n));
	vq_kicks_off(&d->vd.vq[VSOCK_QUEUE_RX]);
	vsock_pump(d);
}

/* ---- deadlines: one timer for the earliest */

static void expire(struct vsock_stream *s)
{
	struct vsock_dev *d = s->d;

	/* A late RESPONSE finds no stream and gets its RST then. */
	if (s->c.state == VSOCK_OPEN || s->c.state == VSOCK_CONNECTING)
		vsock_rst_later(d, s->c.local_port, s->c.peer_port, VSOCK_TYPE_STREAM);
	vsock_stream_fail(s, ERR_TIMEOUT,
			  d->ready ? "the guest did not answer in time"
				   : "the guest was not ready in time");
	vsock_stream_free(s);
}

static void on_timer(void *arg, UNUSED uint32_t events)
{
	struct vsock_dev *d = arg;
	struct vsock_stream *s, *next, *late = NULL;
	uint64_t now = now_us(), earliest = 0;

	d->timer = NULL;
	/* `done` may make new streams: first find those that are late, then end them. */
	for (s = d->streams; s; s = s->next) {
		if (!s->deadline)
			continue;
		if (s->deadline <= now) {
			s->late_next = late;
			late = s;
		} else if (!earliest || s->deadline < earliest) {
			earliest = s->deadline;
		}
	}
	for (s = late; s; s = next) {
		next = s->late_next;
		expire(s);
	}
	if (earliest && vsock_arm(d, earliest, NULL) < 0)
		log_warn("vsock: no timer: connects may outlive their deadlines");
	vsock_pump(d);
}

int vsock_arm(struct vsock_dev *d, uint64_t at, struct error *err)
{
	uint64_t now = now_us();
	struct loop_source *t;

	if (d->timer && d->timer_at <= at)
		return 0;
	t = loop_timer(d->vd.loop, at > now ? at - now : 0, on_timer, d, err);
	if (!t)
		return -1;
	loop_remove(d->timer);
	d->timer = t;
	d->timer_at = at;
	return 0;
}

/* ---- host side */

int vsock_connect(struct virtio_device *vd, uint32_t port, uint64_t timeout_us, vsock_done_fn done,
		  void *arg, struct error *err)
{
	struct vsock_dev *d = vsock_of(vd);
	struct vsock_stream *s = vsock_stream_new(d, port, err);

	if (!s)
		return -1;
	if (timeout_us) {
		s->deadline = now_us() + timeout_us;
		if (vsock_arm(d, s->deadline, err) < 0) {
			vsock_stream_free(s);
			return error_wrap(err, "vsock port %u", port);
		}
	}
	s->done = done;
	s->arg = arg;
	if (d->ready)
		vsock_stream_queue(s);
	vsock_pump(d);
	return 0;
}

void vsock_on_ready(struct virtio_device *vd, void (*ready)(void *arg), void (*late)(void *arg),
		    void *arg)
{
	struct vsock_dev *d = vsock_of(vd);

	d->on_ready = ready;
	d->on_late = late;
	d->on_ready_arg = arg;
}

void vsock_stats(struct virtio_device *vd, struct vsock_stats *s)
{
	const struct vsock_dev *d = vsock_of(vd);

	*s = (struct vsock_stats){d->nstreams, d->tx_bytes, d->rx_bytes};
}

/* ---- the device */

static uint64_t vsock_features(UNUSED struct virtio_device *vd)
{
	return 1ull << VSOCK_F_STREAM;
}

/* §5.10.4: le64 guest_cid. */
static void vsock_read_config(UNUSED struct virtio_device *vd, uint32_t off, void *buf,
			      uint32_t len)
{
	uint64_t cid = htole64(VSOCK_GUEST_CID);

	memset(buf, 0, len);
	if (off < sizeof(cid))
		memcpy(buf, (const uint8_t *)&cid + off,
		       len < sizeof(cid) - off ? len : sizeof(cid) - off);
}

static void vsock_write_config(UNUSED struct virtio_device *vd, UNUSED uint32_t off,
			       UNUSED const void *buf, UNUSED uint32_t len)
{
}

/* The guest has forgotten everything: so do we. */
static void forget_guest(struct vsock_dev *d)
{
	struct vsock_stream *s, *next, *dead = NULL;

	d->ready = false;
	d->rst_n = 0;
	for (s = d->streams; s; s = s->next) {
		vsock_stream_unqueue(s);
		if (s->c.state != VSOCK_WAITING) {
			s->late_next = dead;
			dead = s;
		}
	}
	for (s = dead; s; s = next) {
		next = s->late_next;
		vsock_stream_fail(s, ERR_PEER, "the guest was reset");
		vsock_stream_free(s);
	}
}

static int vsock_start_queue(struct virtio_device *vd, unsigned q, struct error *err)
{
	struct vsock_dev *d = vsock_of(vd);

	if (q == VSOCK_QUEUE_EVENT)
		return 0; /* we have no events for the guest */
	if (d->running[q])
		return 0;
	if (d->stopped_before && vd->vq[q].last_avail != d->stopped_at[q])
		forget_guest(d);
	if (vd->vq[q].kick_fd >= 0) {
		d->kick[q] = loop_add(vd->loop, vd->vq[q].kick_fd, EPOLLIN,
				      q == VSOCK_QUEUE_RX ? on_rx_kick : on_tx_kick, d, err);
		if (!d->kick[q])
			return error_wrap(err, "vsock queue %u", q);
	}
	d->running[q] = true;
	vsock_wake(d);
	return 0;
}

static void vsock_stop_queue(struct virtio_device *vd, unsigned q)
{
	struct vsock_dev *d = vsock_of(vd);

	if (q == VSOCK_QUEUE_EVENT || !d->running[q])
		return;
	loop_remove(d->kick[q]);
	d->kick[q] = NULL;
	d->running[q] = false;
	d->stopped_before = true;
	d->stopped_at[q] = vd->vq[q].last_avail;
}

static void vsock_destroy(struct virtio_device *vd)
{
	struct vsock_dev *d = vsock_of(vd);

	if (!d)
		return;
	vsock_stop_queue(vd, VSOCK_QUEUE_RX);
	vsock_stop_queue(vd, VSOCK_QUEUE_TX);
	d->busy = true;
	while (d->streams) {
		struct vsock_stream *s = d->streams;

		vsock_stream_fail(s, ERR_NOT_RUNNING, "the machine has ended");
		vsock_stream_free(s);
	}
	loop_remove(d->timer);
	loop_remove(d->wake);
	close_fd(&d->wake_fd);
	if (d->spare)
		munmap(d->spare, VSOCK_BUF_BYTES);
	free(d);
}

static const struct virtio_device_ops vsock_ops = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.nqueues = 3,
	.features = vsock_features,
	.read_config = vsock_read_config,
	.write_config = vsock_write_config,
	.start_queue = vsock_start_queue,
	.stop_queue = vsock_stop_queue,
	.destroy = vsock_destroy,
};

struct virtio_device *vsock_new(struct loop *l, struct error *err)
{
	struct vsock_dev *d = calloc(1, sizeof(*d));

	if (!d) {
		error_set(err, "out of memory");
		return NULL;
	}
	d->vd.ops = &vsock_ops;
	d->vd.loop = l;
	for (unsigned q = 0; q < DEVICE_QUEUES_MAX; q++)
		vq_init(&d->vd.vq[q]);
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (d->wake_fd < 0) {
		error_errno(err, "eventfd");
		free(d);
		return NULL;
	}
	d->wake = loop_add(l, d->wake_fd, EPOLLIN, on_wake, d, err);
	if (!d->wake) {
		close(d->wake_fd);
		free(d);
		return NULL;
	}
	return &d->vd;
}
