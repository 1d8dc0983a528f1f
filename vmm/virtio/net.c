/*
 * net.c - virtio-net (virtio 1.2 §5.1): a card whose cable is a TAP.
 *
 * Theory of operation
 *
 * The card has pairs of queues, each with a queue of the TAP and a thread of its own that serves it
 * (net_pair.c), and behind them a control queue (§5.1.2), which the loop's thread serves
 * (net_ctrl.c). How many pairs are in use is the driver's choice; the kernel gives no packet to the
 * TAP's other queues. All ioctls of the TAP are made by the loop's thread, so that the card's
 * threads need none: they read, write and poll.
 *
 * Packets cross with a header (struct virtio_net_hdr_v1) that the TAP understands: checksums and
 * the cutting into segments are left to whoever needs them, mostly nobody. What the guest can
 * receive, the TAP is told when the first receive queue starts.
 *
 * A card may be there before its TAP (engine qemu, where devices exist from boot): then the link is
 * down, what the guest sends is dropped, and net_attach() makes it whole. Features cannot change in
 * a device's life, so such a card offers what every TAP can do, and keeps its MAC address.
 *
 * With vhost-net the kernel serves a pair's queues while the link is up (net_vhost.c), and the
 * pair's thread while it is down, when there is nothing to do but to drop what the guest sends.
 * serve() is where that is decided.
 *
 * Not offered: VIRTIO_NET_F_MTU, since a driver that reads an MTU never takes a larger one, and a
 * link's may change while the card is there; UFO, which Linux gave up sending in 4.14 for USO.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtio/net_dev.h"

#define BIT(n) (UINT64_C(1) << (n))
#define LOOK_US 1000000 /* between looks at whether a TAP that vhost-net serves is still there */

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
	if (n->npairs > 1)
		f |= BIT(VIRTIO_NET_F_MQ);
	return f;
}

/* §5.1.4 */
static void net_read_config(struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	const struct net *n = net_of(d);
	struct virtio_net_config c = {
		.status = net_is_up(n) ? VIRTIO_NET_S_LINK_UP : 0,
		.max_virtqueue_pairs = (uint16_t)n->npairs,
	};

	memcpy(c.mac, n->mac, sizeof(c.mac));
	memset(buf, 0, len);
	if (off < sizeof(c))
		memcpy(buf, (uint8_t *)&c + off, len < sizeof(c) - off ? len : sizeof(c) - off);
}

/* ---- who serves what */

/* Those of a pair's queues that run and are in use: NET_SERVE_*. */
static unsigned wanted(const struct net *n, unsigned i)
{
	return i < n->pairs_on ? n->started >> 2 * i & (NET_SERVE_RX | NET_SERVE_TX) : 0;
}

/* One lets go before the other takes. */
static int serve(struct net *n, unsigned i, struct error *err)
{
	struct net_pair *p = &n->pair[i];
	unsigned what = wanted(n, i);

	if (p->vhost >= 0 && net_is_up(n)) {
		net_pair_serve(p, 0, NULL);
		return net_vhost_serve(p, what, err);
	}
	net_vhost_serve(p, 0, NULL);
	return net_pair_serve(p, what, err);
}

static int serve_all(struct net *n, struct error *err)
{
	for (unsigned i = 0; i < n->npairs; i++)
		if (serve(n, i, err) < 0)
			return -1;
	return 0;
}

/* As serve_all(), with none of the queues running. */
static void rest(struct net *n)
{
	for (unsigned i = 0; i < n->npairs; i++) {
		net_vhost_serve(&n->pair[i], 0, NULL);
		net_pair_serve(&n->pair[i], 0, NULL);
	}
}

bool net_use_pairs(struct net *n, unsigned count)
{
	unsigned i;

	for (i = count; i < n->pairs_on; i++) {
		net_vhost_serve(&n->pair[i], 0, NULL);
		net_pair_serve(&n->pair[i], 0, NULL);
		if (n->pair[i].tap >= 0)
			net_tap_queue(n->pair[i].tap, false, NULL);
	}
	for (i = n->pairs_on; i < count; i++) {
		struct error err = ERROR_INIT;

		n->pairs_on = i + 1;
		if ((n->pair[i].tap >= 0 && net_tap_queue(n->pair[i].tap, true, &err) < 0) ||
		    serve(n, i, &err) < 0) {
			log_warn("network card: pair of queues %u: %s", i, err.msg);
			n->pairs_on = i;
			return false;
		}
	}
	n->pairs_on = count;
	return true;
}

/* ---- queues */

/* The first queue of a driver. */
static int prepare(struct net *n, struct error *err)
{
	if (n->served != n->d.acked) /* packets made for a driver that wanted others */
		for (unsigned i = 0; i < n->npairs; i++)
			n->pair[i].pending = 0;
	n->served = n->d.acked;
	if (!virtio_has(&n->d, VIRTIO_NET_F_CTRL_VQ))
		net_ctrl_reset(n);
	return n->pair[0].tap < 0 ? 0 : net_tap_offload(n->pair[0].tap, n->d.acked, err);
}

static int net_start_queue(struct virtio_device *d, unsigned q, struct error *err)
{
	struct net *n = net_of(d);

	if (q == net_ctrl_queue(n))
		return net_ctrl_start(n, err);
	if (q == 0 && prepare(n, err) < 0)
		return -1;
	n->started |= 1u << q;
	if (serve(n, q / 2, err) == 0)
		return 0;
	n->started &= ~(1u << q);
	return -1;
}

static void net_stop_queue(struct virtio_device *d, unsigned q)
{
	struct net *n = net_of(d);

	if (q == net_ctrl_queue(n)) {
		net_ctrl_stop(n);
		return;
	}
	n->started &= ~(1u << q);
	serve(n, q / 2, NULL);
}

/* ---- the TAP and the link */

static bool has_tap(const struct net *n)
{
	return n->pair[0].tap >= 0;
}

static bool is_dead(const struct net *n)
{
	for (unsigned i = 0; i < n->npairs; i++)
		if (net_pair_is_dead(&n->pair[i]))
			return true;
	return false;
}

static void set_up(struct net *n, bool up)
{
	struct error err = ERROR_INIT;

	if (net_is_up(n) == up)
		return;
	__atomic_store_n(&n->up, up, __ATOMIC_RELEASE);
	if (has_tap(n))
		net_tap_carrier(n->pair[0].tap, up);
	if (n->pair[0].vhost >= 0 && serve_all(n, &err) < 0)
		log_warn("network card: %s", err.msg);
	for (unsigned i = 0; i < n->npairs; i++)
		net_pair_wake(&n->pair[i]);
	if (n->d.config_changed)
		n->d.config_changed(&n->d, n->d.transport);
}

void net_set_link(struct virtio_device *d, bool up)
{
	struct net *n = net_of(d);

	if (has_tap(n) && !is_dead(n))
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

static void lose_tap(struct net *n)
{
	if (!net_is_up(n)) /* said before, or nobody's concern */
		return;
	log_warn("network card: its TAP was deleted");
	set_up(n, false);
	if (n->lost)
		n->lost(n->lost_arg, &n->d);
}

/* What waits in the eventfd may be of a TAP before this one. */
static void on_news(void *arg, UNUSED uint32_t events)
{
	struct net *n = arg;
	uint64_t count;

	(void)!read(n->news, &count, sizeof(count));
	if (has_tap(n) && is_dead(n))
		lose_tap(n);
}

/* vhost-net tells nobody that its TAP was deleted. */
static void look_at_tap(void *arg, UNUSED uint32_t events)
{
	struct net *n = arg;

	n->look = NULL;
	if (!has_tap(n))
		return;
	if (net_tap_is_there(n->pair[0].tap)) {
		n->look = loop_timer(n->d.loop, LOOK_US, look_at_tap, n, NULL);
		return;
	}
	for (unsigned i = 0; i < n->npairs; i++)
		net_pair_lost(&n->pair[i]);
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

static void close_fds(const struct net_config *cfg)
{
	for (unsigned i = 0; i < cfg->pairs; i++) {
		int tap = cfg->tap[i], vhost = cfg->vhost[i];

		close_fd(&tap);
		if (cfg->in_kernel)
			close_fd(&vhost);
	}
}

static int check_config(const struct net_config *cfg, struct error *err)
{
	if (cfg->pairs > NET_PAIRS_MAX)
		return error_kind(err, ERR_INVALID, "queues: more than %d", NET_PAIRS_MAX);
	if (cfg->mac[0] & 1)
		return error_kind(err, ERR_INVALID, "mac: the address of a group");
	if (cfg->in_kernel && (is_limited(&cfg->tx) || is_limited(&cfg->rx)))
		return error_kind(err, ERR_UNSUPPORTED,
				  "vhost: vhost-net knows no rate_tx and rate_rx");
	return 0;
}

/* What the descriptors must be, without taking them. */
static int open_fds(const struct net_config *cfg, bool *uso, struct error *err)
{
	if (net_tap_open(cfg->tap, cfg->pairs, uso, err) < 0)
		return -1;
	for (unsigned i = 0; i < cfg->pairs && cfg->in_kernel; i++)
		if (net_vhost_open(cfg->vhost[i], err) < 0)
			return -1;
	return 0;
}

/* While no thread of the card runs. */
static void give_tap(struct net *n, const struct net_config *cfg)
{
	uint64_t now = now_us();

	for (unsigned i = 0; i < n->npairs; i++) {
		struct net_pair *p = &n->pair[i];

		p->tap = cfg->tap[i];
		p->vhost = cfg->in_kernel ? cfg->vhost[i] : -1;
		p->dead = false;
		p->pending = 0;
		p->stats = (struct net_stats){0};
		p->tx_limited = is_limited(&cfg->tx);
		p->rx_limited = is_limited(&cfg->rx);
		ratelimit_init(&p->tx_limit, &cfg->tx, now);
		ratelimit_init(&p->rx_limit, &cfg->rx, now);
		if (i >= n->pairs_on)
			net_tap_queue(p->tap, false, NULL);
	}
	if (cfg->in_kernel)
		n->look = loop_timer(n->d.loop, LOOK_US, look_at_tap, n, NULL);
	net_ctrl_apply(n);
}

static void take_tap(struct net *n)
{
	for (unsigned i = 0; i < n->npairs; i++) {
		close_fd(&n->pair[i].tap);
		close_fd(&n->pair[i].vhost);
	}
	loop_remove(n->look);
	n->look = NULL;
}

/* As net_attach(), but does not take the descriptors when it fails. */
static int attach(struct net *n, const struct net_config *cfg, struct error *err)
{
	bool uso;

	if (has_tap(n))
		return error_kind(err, ERR_EXISTS, "the card has a TAP already");
	if (cfg->pairs != n->npairs)
		return error_kind(err, ERR_UNSUPPORTED, "queues: the card has %u", n->npairs);
	if (check_config(cfg, err) < 0 || open_fds(cfg, &uso, err) < 0)
		return -1;
	if (n->started && net_tap_offload(cfg->tap[0], n->d.acked, err) < 0)
		return -1;
	rest(n);
	give_tap(n, cfg);
	return 0;
}

int net_attach(struct virtio_device *d, const struct net_config *cfg, struct error *err)
{
	struct net *n = net_of(d);

	if (attach(n, cfg, err) < 0) {
		close_fds(cfg);
		return -1;
	}
	if (serve_all(n, err) < 0) {
		rest(n);
		take_tap(n); /* another may come */
		return -1;
	}
	set_up(n, true);
	return 0;
}

void net_detach(struct virtio_device *d)
{
	struct net *n = net_of(d);

	if (!has_tap(n))
		return;
	set_up(n, false);
	rest(n);
	take_tap(n);
	serve_all(n, NULL); /* drops what the guest sends */
}

/* ---- the device */

static void net_destroy(struct virtio_device *d)
{
	struct net *n;

	if (!d)
		return;
	n = net_of(d);
	net_ctrl_stop(n);
	for (unsigned i = 0; i < n->npairs; i++) {
		net_vhost_serve(&n->pair[i], 0, NULL);
		net_pair_free(&n->pair[i]);
	}
	loop_remove(n->look);
	loop_remove(n->news_src);
	close_fd(&n->news);
	free(n->pair);
	free(n);
}

static const struct virtio_device_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
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

static int make_pairs(struct net *n, unsigned count, struct error *err)
{
	n->pair = calloc(count, sizeof(n->pair[0]));
	if (!n->pair)
		return error_set(err, "out of memory");
	for (; n->npairs < count; n->npairs++)
		if (net_pair_init(&n->pair[n->npairs], n, n->npairs, err) < 0)
			return -1;
	return 0;
}

/* Does not take the descriptors when it fails. */
static int init(struct net *n, const struct net_config *cfg, struct error *err)
{
	if (check_config(cfg, err) < 0 || watch_news(n, err) < 0 ||
	    make_pairs(n, cfg->pairs ? cfg->pairs : 1, err) < 0)
		return -1;
	n->ops = net_ops;
	n->ops.nqueues = 2 * n->npairs + 1;
	n->d.ops = &n->ops;
	n->pairs_on = 1;
	memcpy(n->mac, cfg->mac, sizeof(n->mac));
	net_ctrl_reset(n);
	if (!cfg->pairs)
		return 0;
	if (open_fds(cfg, &n->uso, err) < 0)
		return -1;
	give_tap(n, cfg);
	set_up(n, true);
	return 0;
}

struct virtio_device *net_new(struct loop *l, const struct net_config *cfg, struct error *err)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n) {
		close_fds(cfg);
		error_set(err, "out of memory");
		return NULL;
	}
	n->d.loop = l;
	n->news = -1;
	for (unsigned i = 0; i < DEVICE_QUEUES_MAX; i++)
		vq_init(&n->d.vq[i]);
	if (init(n, cfg, err) < 0) {
		close_fds(cfg);
		net_destroy(&n->d);
		return NULL;
	}
	return &n->d;
}

static uint64_t counted(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void net_stats(const struct virtio_device *d, struct net_stats *s)
{
	const struct net *n = net_of(d);

	*s = (struct net_stats){0};
	for (unsigned i = 0; i < n->npairs; i++) {
		const struct net_stats *p = &n->pair[i].stats;

		s->tx_packets += counted(&p->tx_packets);
		s->tx_bytes += counted(&p->tx_bytes);
		s->rx_packets += counted(&p->rx_packets);
		s->rx_bytes += counted(&p->rx_bytes);
		s->tx_dropped += counted(&p->tx_dropped);
		s->rx_dropped += counted(&p->rx_dropped);
	}
}
