/*
 * Theory of operation
 *
 * Credit (virtio 1.2 §5.10.6.3). Each side owns a receive buffer for each connection and tells the
 * other in every packet how large it is (buf_alloc) and how many bytes have left it so far
 * (fwd_cnt, a free-running 32-bit counter). A sender keeps its own counter of bytes sent and never
 * has more than buf_alloc bytes under way: tx_cnt - fwd_cnt <= buf_alloc, modulo 2^32.
 *
 *	   0            fwd_cnt              rx_cnt           fwd_cnt + buf_alloc
 *	   |-- with the client --|-- our buffer --|-- the guest may send --|
 *
 * A guest that sends more than it may is broken and gets a RST; so our buffer is bounded by what we
 * advertised. A guest that lies about its own buffer harms itself: with counters that make no
 * sense the window is zero, or we send what it cannot take.
 *
 * The guest learns fwd_cnt from every packet. When there is none to carry it, a CREDIT_UPDATE is
 * due, but not for every byte: only when by the guest's knowledge less than half of the buffer is
 * free, and when there is news worth a packet (a quarter of the buffer, or the buffer is empty).
 * It cannot get stuck: the buffer is emptied in the end, and then the guest is told.
 *
 * Control packets are not queued: what is to be said is state (rst_due, our_shut, credit_due), and
 * vsock_conn_due() derives the next packet from it. So a guest that gives no receive buffers makes
 * us remember some bits, not packets, and later news replaces older. Order on the wire:
 * REQUEST first, RST last and at once, SHUTDOWN(SEND) after the last byte since our owner asks for
 * it only then.
 *
 * End. Either side says SHUTDOWN with both flags (at once or one by one) and the other answers
 * RST; then both forget. We answer the guest's at once: its close() keeps the socket until then.
 */
#include "vmm/virtio/vsock_conn.h"

void vsock_conn_init(struct vsock_conn *c, uint64_t peer_cid, uint32_t local_port,
		     uint32_t peer_port, uint32_t buf_alloc)
{
	*c = (struct vsock_conn){
		.state = VSOCK_WAITING,
		.peer_cid = peer_cid,
		.local_port = local_port,
		.peer_port = peer_port,
		.buf_alloc = buf_alloc,
	};
}

static enum vsock_event broken(struct vsock_conn *c)
{
	vsock_conn_abort(c);
	return VSOCK_EV_BROKEN;
}

static enum vsock_event input_data(struct vsock_conn *c, const struct vsock_hdr *h)
{
	uint32_t buffered = c->rx_cnt - c->fwd_cnt;

	if (c->peer_shut & VSOCK_SHUT_SEND)
		return broken(c);
	if (h->len > c->buf_alloc - buffered)
		return broken(c);
	c->rx_cnt += h->len;
	return h->len ? VSOCK_EV_DATA : VSOCK_EV_NONE;
}

static enum vsock_event input_shutdown(struct vsock_conn *c, const struct vsock_hdr *h)
{
	uint8_t before = c->peer_shut;

	c->peer_shut |= h->flags & VSOCK_SHUT_BOTH;
	if (c->peer_shut == VSOCK_SHUT_BOTH)
		c->rst_due = true;
	return c->peer_shut == before ? VSOCK_EV_NONE : VSOCK_EV_SHUTDOWN;
}

enum vsock_event vsock_conn_input(struct vsock_conn *c, const struct vsock_hdr *h)
{
	bool connecting = c->state == VSOCK_CONNECTING;

	if (h->op == VSOCK_OP_RST) {
		c->state = VSOCK_FINISHED;
		return connecting ? VSOCK_EV_REFUSED : VSOCK_EV_GONE;
	}
	if (c->rst_due)
		return VSOCK_EV_NONE; /* sent before our RST could reach the guest */
	if (connecting != (h->op == VSOCK_OP_RESPONSE))
		return broken(c);

	c->peer_buf_alloc = h->buf_alloc;
	c->peer_fwd_cnt = h->fwd_cnt;
	switch (h->op) {
	case VSOCK_OP_RESPONSE:
		c->state = VSOCK_OPEN;
		return VSOCK_EV_OPENED;
	case VSOCK_OP_RW:
		return input_data(c, h);
	case VSOCK_OP_SHUTDOWN:
		return input_shutdown(c, h);
	case VSOCK_OP_CREDIT_UPDATE:
		return VSOCK_EV_NONE;
	case VSOCK_OP_CREDIT_REQUEST:
		c->credit_due = true;
		return VSOCK_EV_NONE;
	default:
		return broken(c);
	}
}

void vsock_conn_forwarded(struct vsock_conn *c, uint32_t n)
{
	uint32_t known_used, news;

	c->fwd_cnt += n;
	known_used = c->rx_cnt - c->told_fwd;
	news = c->fwd_cnt - c->told_fwd;
	if (known_used > c->buf_alloc / 2 && (news >= c->buf_alloc / 4 || c->fwd_cnt == c->rx_cnt))
		c->credit_due = true;
}

void vsock_conn_shutdown(struct vsock_conn *c, uint8_t flags)
{
	c->our_shut |= flags;
}

void vsock_conn_abort(struct vsock_conn *c)
{
	if (c->state == VSOCK_CONNECTING || c->state == VSOCK_OPEN)
		c->rst_due = true;
}

enum vsock_op vsock_conn_due(const struct vsock_conn *c)
{
	switch (c->state) {
	case VSOCK_WAITING:
		return VSOCK_OP_REQUEST;
	case VSOCK_CONNECTING:
		return c->rst_due ? VSOCK_OP_RST : VSOCK_OP_INVALID;
	case VSOCK_OPEN:
		if (c->rst_due)
			return VSOCK_OP_RST;
		if (c->our_shut & ~c->sent_shut)
			return VSOCK_OP_SHUTDOWN;
		return c->credit_due ? VSOCK_OP_CREDIT_UPDATE : VSOCK_OP_INVALID;
	case VSOCK_FINISHED:
		break;
	}
	return VSOCK_OP_INVALID;
}

uint32_t vsock_conn_window(const struct vsock_conn *c)
{
	uint32_t under_way = c->tx_cnt - c->peer_fwd_cnt;

	if (c->state != VSOCK_OPEN || c->rst_due || (c->our_shut & VSOCK_SHUT_SEND) ||
	    (c->peer_shut & VSOCK_SHUT_RCV))
		return 0;
	return under_way < c->peer_buf_alloc ? c->peer_buf_alloc - under_way : 0;
}

void vsock_conn_output(struct vsock_conn *c, enum vsock_op op, uint32_t len, struct vsock_hdr *h)
{
	*h = (struct vsock_hdr){
		.src_cid = VSOCK_HOST_CID,
		.dst_cid = c->peer_cid,
		.src_port = c->local_port,
		.dst_port = c->peer_port,
		.len = len,
		.type = VSOCK_TYPE_STREAM,
		.op = (uint16_t)op,
		.flags = op == VSOCK_OP_SHUTDOWN ? c->our_shut : 0,
		.buf_alloc = c->buf_alloc,
		.fwd_cnt = c->fwd_cnt,
	};
	vsock_hdr_swap(h);

	c->tx_cnt += len;
	c->told_fwd = c->fwd_cnt;
	c->credit_due = false;
	if (op == VSOCK_OP_REQUEST)
		c->state = VSOCK_CONNECTING;
	else if (op == VSOCK_OP_RST)
		c->state = VSOCK_FINISHED;
	else if (op == VSOCK_OP_SHUTDOWN)
		c->sent_shut = c->our_shut;
}
