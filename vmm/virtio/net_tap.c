/*
 * net_tap.c - the ioctls of a TAP. All of them are made by the loop's thread.
 */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/virtio/net_dev.h"

/* syscalls loop: ioctl(1==TUNGETIFF) ioctl(1==TUNSETVNETHDRSZ) ioctl(1==TUNSETVNETLE)
 *	ioctl(1==TUNSETOFFLOAD) ioctl(1==TUNSETTXFILTER) ioctl(1==TUNSETCARRIER)
 *	ioctl(1==TUNSETQUEUE) */

/* Linux 6.2 */
#define OFFLOAD_USO4 0x20u
#define OFFLOAD_USO6 0x40u

#define FILTER_MAX (2 * NET_MACS_MAX + 2) /* and our own address, and broadcast */

static int check_queue(int tap, bool one_of_many, struct ifreq *ifr, struct error *err)
{
	const int need = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;

	*ifr = (struct ifreq){0};
	if (ioctl(tap, TUNGETIFF, ifr) < 0)
		return error_kind(err, ERR_INVALID, "not the descriptor of a TAP");
	if ((ifr->ifr_flags & need) != need)
		return error_kind(err, ERR_INVALID,
				  "%.15s: not opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
				  ifr->ifr_name);
	if (one_of_many && !(ifr->ifr_flags & IFF_MULTI_QUEUE))
		return error_kind(err, ERR_INVALID,
				  "%.15s: has one queue: not opened with IFF_MULTI_QUEUE",
				  ifr->ifr_name);
	if (set_nonblock(tap, true) < 0)
		return error_errno(err, "%.15s", ifr->ifr_name);
	return 0;
}

int net_tap_open(const int *tap, unsigned queues, bool *uso, struct error *err)
{
	int size = NET_HDR_BYTES, le = 1;
	struct ifreq ifr, other;

	if (check_queue(tap[0], queues > 1, &ifr, err) < 0)
		return -1;
	for (unsigned i = 1; i < queues; i++) {
		if (check_queue(tap[i], true, &other, err) < 0)
			return -1;
		if (strncmp(ifr.ifr_name, other.ifr_name, IFNAMSIZ) != 0)
			return error_kind(err, ERR_INVALID, "queues of two TAPs, %.15s and %.15s",
					  ifr.ifr_name, other.ifr_name);
	}
	if (ioctl(tap[0], TUNSETVNETHDRSZ, &size) < 0 || ioctl(tap[0], TUNSETVNETLE, &le) < 0)
		return error_errno(err, "%.15s: header of packets", ifr.ifr_name);
	*uso = ioctl(tap[0], TUNSETOFFLOAD, TUN_F_CSUM | OFFLOAD_USO4 | OFFLOAD_USO6) == 0;
	if (ioctl(tap[0], TUNSETOFFLOAD, 0) < 0)
		return error_errno(err, "%.15s: offloads", ifr.ifr_name);
	return 0;
}

bool net_tap_is_there(int tap)
{
	struct ifreq ifr = {0};

	return ioctl(tap, TUNGETIFF, &ifr) == 0;
}

int net_tap_queue(int tap, bool on, struct error *err)
{
	struct ifreq ifr = {.ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE};

	if (ioctl(tap, TUNSETQUEUE, &ifr) < 0)
		return error_errno(err, "network card: a queue of its TAP");
	return 0;
}

int net_tap_offload(int tap, uint64_t acked, struct error *err)
{
	static const struct {
		unsigned bit, flag;
	} map[] = {
		{VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
		{VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
		{VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN},
	};
	const uint64_t uso = UINT64_C(1) << NET_F_GUEST_USO4 | UINT64_C(1) << NET_F_GUEST_USO6;
	unsigned flags = 0;

	/* Segments need checksums; the TAP knows USO for both versions of IP or for none. */
	if (acked >> VIRTIO_NET_F_GUEST_CSUM & 1) {
		flags = TUN_F_CSUM;
		for (unsigned i = 0; i < ARRAY_LEN(map); i++)
			if (acked >> map[i].bit & 1)
				flags |= map[i].flag;
		if (!(flags & (TUN_F_TSO4 | TUN_F_TSO6)))
			flags &= ~(unsigned)TUN_F_TSO_ECN;
		if ((acked & uso) == uso)
			flags |= OFFLOAD_USO4 | OFFLOAD_USO6;
	}
	/* A TAP that was deleted is the business of whoever reads it. */
	if (ioctl(tap, TUNSETOFFLOAD, flags) < 0 && errno != EBADFD)
		return error_errno(err, "network card: offloads 0x%x", flags);
	return 0;
}

void net_tap_filter(int tap, const uint8_t (*mac)[6], unsigned n, bool allmulti)
{
	union {
		struct tun_filter f;
		uint8_t room[sizeof(struct tun_filter) + 6u * FILTER_MAX];
	} u = {.f = {.flags = allmulti ? TUN_FLT_ALLMULTI : 0, .count = (uint16_t)n}};

	if (n > FILTER_MAX)
		u.f.count = 0;
	else if (n)
		memcpy(u.f.addr, mac, n * sizeof(mac[0]));
	/* A filter saves work. Without it the guest drops what it does not want. */
	(void)ioctl(tap, TUNSETTXFILTER, &u);
}

void net_tap_carrier(int tap, bool on)
{
	int value = on;

	/* Keeps packets from waiting in the TAP while the link is down. */
	(void)ioctl(tap, TUNSETCARRIER, &value);
}
