/*
 * net.c - virtio-net (virtio 1.2 §5.1): a card whose cable is a TAP.
 *
 * Theory of operation
 *
 * The card has one pair of queues, which a thread of its own serves (net_pair.c), and a control
 * queue, which the loop's thread serves (net_ctrl.c). All ioctls of the TAP are made by the loop's
 * thread, so that the card's thread needs none: it reads, writes and polls.
 *
 * Packets cross with a header (struct virtio_net_hdr_v1) that the TAP understands: checksums and
 * the cutting into segments are left to whoever needs them, mostly nobody. What the guest can
 * receive, the TAP is told when the receive queue starts.
 *
 * A card may be there before its TAP (engine qemu, where devices exist from boot): then the link is
 * down, what the guest sends is dropped, and net_attach() makes it whole. Features cannot change in
 * a device's life, so such a card offers what every TAP can do, and keeps its MAC address.
 *
 * Not offered: VIRTIO_NET_F_MTU, since a driver that reads an MTU never takes a larger one, and a
 * link's may change while the card is there; UFO, which Linux gave up sending in 4.14 for USO.
 *
 * More pairs would each have a TAP's queue, a thread and a net_pair; the control queue then comes
 * behind them (§5.1.2).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtio/net_dev.h"

#define BIT(n) (UINT64_C(1) << (n))

static uint64_t net_features(struct virtio_device *d)
{
	const struct net *n = net_of(d);
	uint64_t f = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
		     BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6) |
		     BIT(VIRTIO_NET_F_GUEST_ECN) | BIT(VIRTIO_NET_F_HOST_TSO4) |
		     BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) |
		     BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_STATUS) |
		     BIT(VIRTIO_NET_F_CTRL_VQ) | BIT(VIRTIO_NET_F_CTRL_RX) |
		     BIT(VIRTIO_NET_F_CTRL_RX_EXTRA) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
		     BIT(VIRTIO_NET_F_MAC);

	if (n->uso)
		f |= BIT(NET_F_GUEST_USO4) | BIT(NET_F_GUEST_USO6) | BIT(NET_F_HOST_USO);
	return f;
}

/* §5.1.4 */
static void net_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct net *n = net_of(d);
	struct virtio_net_config c = {
		.status = net_is_up(n) ? VIRTIO_NET_S_LINK_UP : 0,
		.max_virtqueue_pairs = 1,
	};

	memcpy(c.mac, n->mac, sizeof(c.mac));
	memset(buf, 0, len);
	if (off < sizeof(c))
		memcpy(buf, (uint8_t *)&c + off, len < sizeof(c) - off ? len : sizeof(c) - off);
}

/* ---- queues */

static unsigned serve_bit(unsigned q)
{
	return q == NET_QUEUE_RX ? NET_SERVE_RX : NET_SERVE_TX;
}

static int prepare_rx(struct net *n, struct error *err)
{
	if (n->served != n->d.acked) /* made for a driver that wanted other packets */
		n->pair.pending = 0;
	n->served = n->d.acked;
	if (!virtio_has(&n->d, VIRTIO_NET_F_CTRL_VQ))
		net_ctrl_reset(n);
	return n->pair.tap < 0 ? 0 : net_tap_offload(n->pair.tap, n->d.acked, err);
}

static int net_start_queue(struct virtio_device *d, unsigned q, struct error *err)
{
	struct net *n = net_of(d);

	if (q == NET_QUEUE_CTRL)
		return net_ctrl_start(n, err);
	if (q == NET_QUEUE_RX && prepare_rx(n, err) < 0)
		return -1;
	return net_pair_serve(&n->pair, n->pair.want | serve_bit(q), err);
}

static void net_stop_queue(struct virtio_device *d, unsigned q)
{
	struct net *n = net_of(d);

	if (q == NET_QUEUE_CTRL)
		net_ctrl_stop(n);
	else
		net_pair_serve(&n->pair, n->pair.want & ~serve_bit(q), NULL);
}

/* ---- the TAP and the link */

static void set_up(struct net *n, bool up)
{
	if (net_is_up(n) == up)
		return;
	__atomic_store_n(&n->up, up, __ATOMIC_RELEASE);
	if (n->pair.tap >= 0)
		net_tap_carrier(n->pair.tap, up);
	net_pair_wake(&n->pair);
	if (n->d.config_changed)
		n->d.config_changed(&n->d, n->d.transport);
}

void net_set_link(struct virtio_device *d, bool up)
{
	struct net *n = net_of(d);

	if (n->pair.tap >= 0 && !net_pair_is_dead(&n->pair))
		set_up(n, up);
}

bool net_link(const struct virtio_device *d)
{
	return net_is_up(net_of(d));
}

void net_mac(const struct virtio_device *d, uint8_t mac[6])
{
	memcpy(mac, net_of(d)->mac, 6);
}

/* What waits in the eventfd may be of a TAP before this one. */
static void on_news(void *arg, UNUSED uint32_t events)
{
	struct net *n = arg;
	uint64_t count;

	(void)!read(n->news, &count, sizeof(count));
	if (n->pair.tap < 0 || !net_pair_is_dead(&n->pair))
		return;
	set_up(n, false);
	if (n->lost)
		n->lost(n->lost_arg, &n->d);
}

void net_on_lost(struct virtio_device *d, void (*lost)(void *arg, struct virtio_device *d),
		 void *arg)
{
	struct net *n = net_of(d);

	n->lost = lost;
	n->lost_arg = arg;
}

static bool is_limited(const struct ratelimit_config *c)
{
	return c->bytes_per_s || c->ops_per_s;
}

/* While the pair's thread does not run. */
static void give_tap(struct net *n, int tap)
{
	struct net_pair *p = &n->pair;
	uint64_t now = now_us();

	p->tap = tap;
	p->dead = false;
	p->pending = 0;
	p->tx_limited = is_limited(&n->cfg.tx);
	p->rx_limited = is_limited(&n->cfg.rx);
	ratelimit_init(&p->tx_limit, &n->cfg.tx, now);
	ratelimit_init(&p->rx_limit, &n->cfg.rx, now);
	net_ctrl_apply(n);
}

static int check_config(const struct net_config *cfg, struct error *err)
{
	if (cfg->mac[0] & 1)
		return error_kind(err, ERR_INVALID, "mac: the address of a group");
	return 0;
}

int net_attach(struct virtio_device *d, const struct net_config *cfg, struct error *err)
{
	struct net *n = net_of(d);
	cleanup_close int tap = cfg->tap;
	unsigned want = n->pair.want;
	bool uso;

	if (n->pair.tap >= 0)
		return error_kind(err, ERR_EXISTS, "the card has a TAP already");
	if (check_config(cfg, err) < 0 || net_tap_open(tap, &uso, err) < 0)
		return -1;
	if (want && net_tap_offload(tap, d->acked, err) < 0)
		return -1;
	net_pair_serve(&n->pair, 0, NULL);
	n->cfg = *cfg;
	n->cfg.tap = -1; /* the pair's */
	n->stats = (struct net_stats){0};
	give_tap(n, steal_fd(&tap));
	if (net_pair_serve(&n->pair, want, err) < 0) {
		close_fd(&n->pair.tap); /* another may come */
		return -1;
	}
	set_up(n, true);
	return 0;
}

void net_detach(struct virtio_device *d)
{
	struct net *n = net_of(d);
	unsigned want = n->pair.want;

	if (n->pair.tap < 0)
		return;
	set_up(n, false);
	net_pair_serve(&n->pair, 0, NULL);
	close_fd(&n->pair.tap);
	net_pair_serve(&n->pair, want, NULL); /* drops what the guest sends */
}

/* ---- the device */

static void net_destroy(struct virtio_device *d)
{
	struct net *n;

	if (!d)
		return;
	n = net_of(d);
	net_ctrl_stop(n);
	net_pair_free(&n->pair);
	loop_remove(n->news_src);
	close_fd(&n->news);
	free(n);
}

static const struct virtio_device_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.nqueues = NET_QUEUES,
	.features = net_features,
	.read_config = net_read_config,
	.start_queue = net_start_queue,
	.stop_queue = net_stop_queue,
	.destroy = net_destroy,
};

static int watch_news(struct net *n, struct error *err)
{
	n->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->news < 0)
		return error_errno(err, "network card: eventfd");
	n->news_src = loop_add(n->d.loop, n->news, EPOLLIN, on_news, n, err);
	return n->news_src ? 0 : -1;
}

static int init(struct net *n, const struct net_config *cfg, struct error *err)
{
	if (net_pair_init(&n->pair, n, err) < 0 || watch_news(n, err) < 0 ||
	    check_config(cfg, err) < 0)
		return -1;
	memcpy(n->mac, cfg->mac, sizeof(n->mac));
	net_ctrl_reset(n);
	if (cfg->tap < 0)
		return 0;
	if (net_tap_open(cfg->tap, &n->uso, err) < 0)
		return -1;
	n->cfg = *cfg;
	n->cfg.tap = -1; /* the pair's */
	give_tap(n, cfg->tap);
	set_up(n, true);
	return 0;
}

struct virtio_device *net_new(struct loop *l, const struct net_config *cfg, struct error *err)
{
	struct net *n = calloc(1, sizeof(*n));
	int tap = cfg->tap;

	if (!n) {
		close_fd(&tap);
		error_set(err, "out of memory");
		return NULL;
	}
	n->d.ops = &net_ops;
	n->d.loop = l;
	n->news = -1;
	for (unsigned i = 0; i < NET_QUEUES; i++)
		vq_init(&n->d.vq[i]);
	if (init(n, cfg, err) < 0) {
		if (n->pair.tap != tap)
			close_fd(&tap);
		net_destroy(&n->d);
		return NULL;
	}
	return &n->d;
}

void net_stats(const struct virtio_device *d, struct net_stats *s)
{
	const struct net *n = net_of(d);

	s->tx_packets = __atomic_load_n(&n->stats.tx_packets, __ATOMIC_RELAXED);
	s->tx_bytes = __atomic_load_n(&n->stats.tx_bytes, __ATOMIC_RELAXED);
	s->rx_packets = __atomic_load_n(&n->stats.rx_packets, __ATOMIC_RELAXED);
	s->rx_bytes = __atomic_load_n(&n->stats.rx_bytes, __ATOMIC_RELAXED);
	s->tx_dropped = __atomic_load_n(&n->stats.tx_dropped, __ATOMIC_RELAXED);
	s->rx_dropped = __atomic_load_n(&n->stats.rx_dropped, __ATOMIC_RELAXED);
}
