/*
 * net_ctrl.c - the control queue (virtio 1.2 §5.1.6.5): which packets the guest wants, and how many
 * pairs of queues it uses.
 *
 * The filter is the TAP's: packets that the guest does not want never leave the kernel. It may let
 * through too much (more addresses than it holds), never too little; a guest's own network stack
 * looks again.
 *
 * The loop's thread serves the queue, some commands at a time, as a guest needs few of them. A
 * setting lasts until the driver starts anew, which shows in a ring that starts at its beginning.
 */
#include <endian.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtio/net_dev.h"

#define BATCH 64 /* commands in one go */
#define PAUSE_US 1000
#define HEAD 2u /* class, command */

void net_ctrl_apply(struct net *n)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	const struct net_filter *f = &n->filter;
	uint8_t mac[2 * NET_MACS_MAX + 2][6];
	unsigned count = 0, from = f->nouni ? f->nuni : 0, to = f->nomulti ? f->nuni : f->n;

	if (n->pair[0].tap < 0)
		return;
	if (f->promisc || f->alluni || f->many_uni) {
		net_tap_filter(n->pair[0].tap, NULL, 0, false);
		return;
	}
	if (!f->nouni)
		memcpy(mac[count++], f->mac, 6);
	if (!f->nobcast)
		memcpy(mac[count++], broadcast, 6);
	if (to > from) {
		memcpy(mac[count], f->table[from], (to - from) * sizeof(mac[0]));
		count += to - from;
	}
	net_tap_filter(n->pair[0].tap, (const uint8_t(*)[6])mac, count,
		       !f->nomulti && (f->allmulti || f->many_multi));
}

void net_ctrl_reset(struct net *n)
{
	n->filter = (struct net_filter){.promisc = true};
	memcpy(n->filter.mac, n->mac, 6);
	net_ctrl_apply(n);
	net_use_pairs(n, 1);
}

/* ---- commands */

static bool set_mode(struct net_filter *f, uint8_t command, const struct vq_chain *c)
{
	bool *const mode[] = {
		[VIRTIO_NET_CTRL_RX_PROMISC] = &f->promisc,
		[VIRTIO_NET_CTRL_RX_ALLMULTI] = &f->allmulti,
		[VIRTIO_NET_CTRL_RX_ALLUNI] = &f->alluni,
		[VIRTIO_NET_CTRL_RX_NOMULTI] = &f->nomulti,
		[VIRTIO_NET_CTRL_RX_NOUNI] = &f->nouni,
		[VIRTIO_NET_CTRL_RX_NOBCAST] = &f->nobcast,
	};
	uint8_t on;

	if (command >= ARRAY_LEN(mode) || c->read_bytes != HEAD + 1)
		return false;
	vq_read(c, HEAD, &on, 1);
	*mode[command] = on;
	return true;
}

static bool set_mac(struct net_filter *f, const struct vq_chain *c)
{
	uint8_t mac[6];

	if (c->read_bytes != HEAD + sizeof(mac))
		return false;
	vq_read(c, HEAD, mac, sizeof(mac));
	if (mac[0] & 1) /* a group's */
		return false;
	memcpy(f->mac, mac, sizeof(mac));
	return true;
}

/* A count and so many addresses at *off, which moves behind them. Those that fit go to `out`. */
static bool read_table(const struct vq_chain *c, uint64_t *off, uint8_t (*out)[6], unsigned *n,
		       bool *many)
{
	uint32_t count;

	if (vq_read(c, *off, &count, sizeof(count)) != sizeof(count))
		return false;
	count = le32toh(count);
	*off += sizeof(count);
	if (count > (c->read_bytes - *off) / 6)
		return false;
	*many = count > NET_MACS_MAX;
	*n = *many ? 0 : count;
	vq_read(c, *off, out, *n * sizeof(out[0]));
	*off += count * UINT64_C(6);
	return true;
}

static bool set_table(struct net_filter *f, const struct vq_chain *c)
{
	struct net_filter new = *f;
	uint64_t off = HEAD;
	unsigned nmulti;

	if (!read_table(c, &off, new.table, &new.nuni, &new.many_uni) ||
	    !read_table(c, &off, new.table + new.nuni, &nmulti, &new.many_multi) ||
	    off != c->read_bytes)
		return false;
	new.n = new.nuni + nmulti;
	*f = new;
	return true;
}

/* §5.1.6.5.5 */
static bool set_pairs(struct net *n, const struct vq_chain *c)
{
	uint16_t count;

	if (!virtio_has(&n->d, VIRTIO_NET_F_MQ) || c->read_bytes != HEAD + sizeof(count))
		return false;
	vq_read(c, HEAD, &count, sizeof(count));
	count = le16toh(count);
	return count >= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN && count <= n->npairs &&
	       net_use_pairs(n, count);
}

uint8_t net_ctrl_command(struct net *n, const struct vq_chain *c)
{
	uint8_t head[HEAD];
	bool ok = false;

	if (vq_read(c, 0, head, sizeof(head)) != sizeof(head))
		return VIRTIO_NET_ERR;
	if (head[0] == VIRTIO_NET_CTRL_MQ && head[1] == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)
		return set_pairs(n, c) ? VIRTIO_NET_OK : VIRTIO_NET_ERR;
	if (head[0] == VIRTIO_NET_CTRL_RX)
		ok = set_mode(&n->filter, head[1], c);
	else if (head[0] == VIRTIO_NET_CTRL_MAC && head[1] == VIRTIO_NET_CTRL_MAC_ADDR_SET)
		ok = set_mac(&n->filter, c);
	else if (head[0] == VIRTIO_NET_CTRL_MAC && head[1] == VIRTIO_NET_CTRL_MAC_TABLE_SET)
		ok = set_table(&n->filter, c);
	if (!ok)
		return VIRTIO_NET_ERR;
	net_ctrl_apply(n);
	return VIRTIO_NET_OK;
}

/* ---- the queue */

static void on_pause_end(void *arg, uint32_t events);

static void serve(struct net *n)
{
	struct virtqueue *q = &n->d.vq[net_ctrl_queue(n)];
	struct vq_chain c;
	unsigned done = 0;

	do {
		while (done < BATCH && vq_pop(q, &c) > 0) {
			uint8_t status = net_ctrl_command(n, &c);

			vq_push(q, c.head, (uint32_t)vq_write(&c, 0, &status, 1));
			done++;
		}
	} while (vq_kicks_on(q) && done < BATCH);
	vq_notify(q);
	if (done < BATCH)
		return;
	n->pause = loop_timer(n->d.loop, PAUSE_US, on_pause_end, n, NULL);
	if (n->pause)
		loop_set(n->ctrl, 0);
}

static void on_pause_end(void *arg, UNUSED uint32_t events)
{
	struct net *n = arg;

	n->pause = NULL;
	loop_set(n->ctrl, EPOLLIN);
	serve(n);
}

static void on_kick(void *arg, UNUSED uint32_t events)
{
	struct net *n = arg;
	uint64_t count;

	if (n->pause)
		return;
	(void)!read(n->d.vq[net_ctrl_queue(n)].kick_fd, &count, sizeof(count));
	serve(n);
}

int net_ctrl_start(struct net *n, struct error *err)
{
	struct virtqueue *q = &n->d.vq[net_ctrl_queue(n)];

	if (q->last_avail == 0) /* no command came yet */
		net_ctrl_reset(n);
	n->ctrl = loop_add(n->d.loop, q->kick_fd, EPOLLIN, on_kick, n, err);
	if (!n->ctrl)
		return error_wrap(err, "network card");
	serve(n); /* a kick may have come before anybody watched */
	return 0;
}

void net_ctrl_stop(struct net *n)
{
	loop_remove(n->ctrl);
	loop_remove(n->pause);
	n->ctrl = n->pause = NULL;
}
