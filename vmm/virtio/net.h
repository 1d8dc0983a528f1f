/*
 * net.h - a network card on a TAP (virtio 1.2 §5.1).
 */
#ifndef HUSK_VMM_VIRTIO_NET_H
#define HUSK_VMM_VIRTIO_NET_H

#include "vmm/device.h"
#include "vmm/ratelimit.h"

struct net_config {
	int tap; /* opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; the device's from then on */
	uint8_t mac[6];
	uint16_t mtu;			/* 68 to 65535 */
	struct ratelimit_config tx, rx; /* from and to the guest; zeroes: no limit */
};

struct net_stats {
	uint64_t tx_packets, tx_bytes, rx_packets, rx_bytes, tx_dropped, rx_dropped;
};

/* The descriptor is taken also on failure. */
struct virtio_device *net_new(struct loop *l, const struct net_config *cfg, struct error *err);
/* Link state as the guest sees it (VIRTIO_NET_S_LINK_UP); up at first. */
void net_set_link(struct virtio_device *d, bool up);
/* Any thread may ask. */
void net_stats(const struct virtio_device *d, struct net_stats *s);

#endif
