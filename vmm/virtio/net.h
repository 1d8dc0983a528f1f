/*
 * net.h - a network card on a TAP (virtio 1.2 §5.1).
 */
#ifndef HUSK_VMM_VIRTIO_NET_H
#define HUSK_VMM_VIRTIO_NET_H

#include "vmm/device.h"
#include "vmm/ratelimit.h"

#define NET_PAIRS_MAX 8

struct net_config {
	/* Of queues. 0 for net_new(): a card of one pair, without a cable until net_attach(). */
	unsigned pairs;
	/* The TAP, once for each pair: opened with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, and
	 * IFF_MULTI_QUEUE if there are several. The device's from then on. */
	int tap[NET_PAIRS_MAX];
	bool in_kernel;		  /* vhost-net moves the packets: no limits, and no counters */
	int vhost[NET_PAIRS_MAX]; /* /dev/vhost-net as often; the device's from then on */
	uint8_t mac[6];		  /* what the driver reads; a later net_attach() changes nothing */
	struct ratelimit_config tx, rx; /* from and to the guest; zeroes: no limit */
};

struct net_stats {
	uint64_t tx_packets, tx_bytes, rx_packets, rx_bytes, tx_dropped, rx_dropped;
};

/* The descriptors are taken also on failure. ERR_INVALID: they are not those of one TAP as above.
 */
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
