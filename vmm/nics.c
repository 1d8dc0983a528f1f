/*
 * Theory of operation.
 *
 * A network card is a TAP behind a virtio-net device. As with disks (disks.c), an engine that can
 * plug (kvm) gets a device when a TAP is attached, with the TAP's MAC address in its configuration
 * space. One that cannot (qemu) has its cards from the start, without a cable: the link is down,
 * and comes up when a TAP is attached. Such a card has a MAC address of our making, which tells it
 * from the others: whoever configures the guest sets the right one.
 *
 * Detaching closes the TAP at once; the place is free when the guest has let the device go.
 */
#include "vmm/nics.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtio/net.h"

#include <stdio.h>
#include <string.h>

/* A TAP was deleted by its host: the card's link is down by now. */
static void on_lost(void *arg, struct virtio_device *d)
{
	struct nics *n = arg;
	struct error err = ERROR_INIT;

	if (engine_link(n->engine, d, &err) < 0)
		log_warn("network card: %s", err.msg);
}

void nics_init(struct nics *n, struct loop *l)
{
	*n = (struct nics){.loop = l, .n = NICS_MAX};
}

int nics_init_fixed(struct nics *n, struct loop *l, unsigned count, struct error *err)
{
	/* Locally administered, and nobody else's in this guest. */
	struct net_config none = {.mac = {0x02, 'h', 'u', 's', 'k'}};

	*n = (struct nics){.loop = l, .fixed = true};
	while (n->n < count) {
		none.mac[5] = (uint8_t)n->n;
		n->place[n->n].dev = net_new(l, &none, err);
		if (!n->place[n->n].dev)
			return -1;
		net_on_lost(n->place[n->n].dev, on_lost, n);
		n->n++;
	}
	return 0;
}

void nics_free(struct nics *n)
{
	for (unsigned i = 0; i < n->n; i++)
		if (n->place[i].dev)
			n->place[i].dev->ops->destroy(n->place[i].dev);
	*n = (struct nics){0};
}

/* The place that has the card, or -1. */
static int place_of(const struct nics *n, const char *id)
{
	for (unsigned i = 0; i < n->n; i++)
		if (strcmp(n->place[i].id, id) == 0)
			return (int)i;
	return -1;
}

static int find_place(const struct nics *n, const char *id, struct error *err)
{
	if (place_of(n, id) >= 0)
		return error_kind(err, ERR_EXISTS, "network card %s: attached already", id);
	for (unsigned i = 0; i < n->n; i++)
		if (n->fixed ? !n->place[i].id[0] : !n->place[i].dev)
			return (int)i;
	return error_kind(err, ERR_NO_ROOM, "network card %s: no free slot", id);
}

static int find(const struct nics *n, const char *id, struct error *err)
{
	int i = place_of(n, id);

	return i >= 0 ? i : error_kind(err, ERR_NOT_FOUND, "network card %s: not attached", id);
}

/* Takes the descriptors. */
static int plug(struct nics *n, int place, const struct net_config *cfg, struct error *err)
{
	struct virtio_device *d = net_new(n->loop, cfg, err);

	if (!d)
		return -1;
	if (engine_plug(n->engine, d, err) < 0) {
		d->ops->destroy(d);
		return -1;
	}
	net_on_lost(d, on_lost, n);
	n->place[place].dev = d;
	return 0;
}

/* Takes the descriptors. */
static int fill(struct nics *n, int place, const struct net_config *cfg, struct error *err)
{
	struct virtio_device *d = n->place[place].dev;

	if (net_attach(d, cfg, err) < 0)
		return -1;
	if (engine_link(n->engine, d, err) == 0)
		return 0;
	net_detach(d);
	return -1;
}

int nics_attach(struct nics *n, const struct request *r, int *fds, uint8_t mac[6],
		struct error *err)
{
	int place = find_place(n, r->nic.id, err), rc;
	struct net_config cfg = {.pairs = r->nic.queues,
				 .in_kernel = r->nic.vhost,
				 .tx = r->nic.tx,
				 .rx = r->nic.rx};

	if (place < 0)
		return -1;
	/* QEMU knows of one pair, and vhost-net of no memory that is another process's. */
	if (n->fixed && (cfg.pairs > 1 || cfg.in_kernel))
		return error_kind(err, ERR_UNSUPPORTED, "network card %s: %s: not with this engine",
				  r->nic.id, cfg.in_kernel ? "vhost" : "queues");
	memcpy(cfg.mac, r->nic.mac, sizeof(cfg.mac));
	for (unsigned i = 0; i < cfg.pairs; i++) {
		cfg.tap[i] = steal_fd(&fds[i]);
		if (cfg.in_kernel)
			cfg.vhost[i] = steal_fd(&fds[cfg.pairs + i]);
	}
	rc = n->fixed ? fill(n, place, &cfg, err) : plug(n, place, &cfg, err);
	if (rc < 0)
		return error_wrap(err, "network card %s", r->nic.id);
	memcpy(n->place[place].id, r->nic.id, sizeof(r->nic.id));
	net_mac(n->place[place].dev, mac);
	return 0;
}

int nics_detach(struct nics *n, const char *id, struct error *err)
{
	int i = find(n, id, err);
	struct virtio_device *d;

	if (i < 0)
		return -1;
	d = n->place[i].dev;
	n->place[i].id[0] = '\0';
	net_detach(d);
	if (!n->fixed)
		engine_unplug(n->engine, d);
	else if (engine_link(n->engine, d, err) < 0)
		return error_wrap(err, "network card %s", id);
	return 0;
}

int nics_link(struct nics *n, const char *id, bool up, struct error *err)
{
	int i = find(n, id, err);

	if (i < 0)
		return -1;
	net_set_link(n->place[i].dev, up);
	if (engine_link(n->engine, n->place[i].dev, err) < 0)
		return error_wrap(err, "network card %s", id);
	return 0;
}

bool nics_unplugged(struct nics *n, const struct virtio_device *dev)
{
	for (unsigned i = 0; i < n->n; i++) {
		if (n->place[i].dev != dev)
			continue;
		n->place[i].dev->ops->destroy(n->place[i].dev);
		n->place[i].dev = NULL;
		return true;
	}
	return false;
}

void nics_write_mac(struct jsonw *w, const uint8_t mac[6])
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	jsonw_kstr(w, "mac", text);
}

void nics_write_status(const struct nics *n, struct jsonw *w)
{
	jsonw_key(w, "nics");
	jsonw_arr(w);
	for (unsigned i = 0; i < n->n; i++) {
		uint8_t mac[6];

		if (!n->place[i].id[0])
			continue;
		net_mac(n->place[i].dev, mac);
		jsonw_obj(w);
		jsonw_kstr(w, "id", n->place[i].id);
		nics_write_mac(w, mac);
		jsonw_kbool(w, "up", net_link(n->place[i].dev));
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}

void nics_write_stats(const struct nics *n, struct jsonw *w)
{
	jsonw_key(w, "nics");
	jsonw_arr(w);
	for (unsigned i = 0; i < n->n; i++) {
		struct net_stats s = {0};

		if (!n->place[i].id[0])
			continue;
		net_stats(n->place[i].dev, &s);
		jsonw_obj(w);
		jsonw_kstr(w, "id", n->place[i].id);
		jsonw_kuint(w, "tx_packets", s.tx_packets);
		jsonw_kuint(w, "tx_bytes", s.tx_bytes);
		jsonw_kuint(w, "tx_dropped", s.tx_dropped);
		jsonw_kuint(w, "rx_packets", s.rx_packets);
		jsonw_kuint(w, "rx_bytes", s.rx_bytes);
		jsonw_kuint(w, "rx_dropped", s.rx_dropped);
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}
