/*
 * net.h - a network card on a TAP (virtio 1.2 §5.1).
 */
#ifndef HUSK_VMM_VIRTIO_NET_H
#define HUSK_VMM_VIRTIO_NET_H

#include "vmm/device.h"
#include "vmm/ratelimit.h"

#define NET_MTU_MIN 68
#define NET_MTU_MAX 65535

struct net_config {
	/* Opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; the device's from then on. -1 for
	 * net_new(): a card without a cable until net_attach(). */
	int tap;
	uint8_t mac[6];
	uint16_t mtu;			/* NET_MTU_MIN to NET_MTU_MAX */
	struct ratelimit_config tx, rx; /* from and to the guest; zeroes: no limit */
};

struct net_stats {
	uint64_t tx_packets, tx_bytes, rx_packets, rx_bytes, tx_dropped, rx_dropped;
};

/* The descriptor is taken also on failure. ERR_INVALID: it is no TAP with a vnet header. */
struct virtio_device *net_new(struct loop *l, const struct net_config *cfg, struct error *err);
/* Gives a card its TAP, and takes it away again, while its queues run or not. The link goes up and
 * down with it. What a driver has read before (MAC, MTU, features) does not change for it. */
int net_attach(struct virtio_device *d, const struct net_config *cfg, struct error *err);
void net_detach(struct virtio_device *d);
/* Link state as the guest sees it (VIRTIO_NET_S_LINK_UP); up at first, if there is a TAP. */
void net_set_link(struct virtio_device *d, bool up);
bool net_link(const struct virtio_device *d);
/* Any thread may ask. */
void net_stats(const struct virtio_device *d, struct net_stats *s);

#endif
