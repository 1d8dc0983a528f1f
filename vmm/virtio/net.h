/*
 * net.h - a network card on a TAP (virtio 1.2 §5.1).
 */
#ifndef HUSK_VMM_VIRTIO_NET_H
#define HUSK_VMM_VIRTIO_NET_H

#include "vmm/device.h"
#include "vmm/ratelimit.h"

struct net_config {
	/* Opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; the device's from then on. -1 for
	 * net_new(): a card without a cable until net_attach(). */
	int tap;
	uint8_t mac[6]; /* what the driver reads; a later net_attach() changes nothing */
	struct ratelimit_config tx, rx; /* from and to the guest; zeroes: no limit */
};

struct net_stats {
	uint64_t tx_packets, tx_bytes, rx_packets, rx_bytes, tx_dropped, rx_dropped;
};

/* The descriptor is taken also on failure. ERR_INVALID: it is no TAP with a vnet header. */
struct virtio_device *net_new(struct loop *l, const struct net_config *cfg, struct error *err);
/* Gives a card its TAP, and takes it away again, while its queues run or not. The link goes up and
 * down with it. What a driver reads (MAC, features) is what it was at net_new(). */
int net_attach(struct virtio_device *d, const struct net_config *cfg, struct error *err);
void net_detach(struct virtio_device *d);
/* Link state as the guest sees it (VIRTIO_NET_S_LINK_UP); up at first, if there is a TAP. */
void net_set_link(struct virtio_device *d, bool up);
bool net_link(const struct virtio_device *d);
/* The address that the guest's driver reads. */
void net_mac(const struct virtio_device *d, uint8_t mac[6]);
/* `lost` is called from the loop when the TAP is found deleted, once for each TAP; the link is down
 * then. */
void net_on_lost(struct virtio_device *d, void (*lost)(void *arg, struct virtio_device *d),
		 void *arg);
/* Any thread may ask. */
void net_stats(const struct virtio_device *d, struct net_stats *s);

#endif
