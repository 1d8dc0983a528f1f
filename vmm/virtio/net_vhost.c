/*
 * net_vhost.c - queues that the kernel serves: vhost-net.
 *
 * Theory of operation
 *
 * /dev/vhost-net, opened by whoever attaches the card, moves packets between a TAP's queue and a
 * pair of rings in guest memory, in a thread of the kernel. It is given the memory's table and each
 * ring's addresses, and the two eventfds that KVM signals and is signalled by, so that no packet
 * comes near this process. It trusts a guest no more than we do, but runs in the kernel: what is
 * wrong in it is wrong there. Therefore it is used only where the configuration asks for it.
 *
 * A ring is handed over and taken back whole: the place in the available ring goes by
 * SET/GET_VRING_BASE, the one in the used ring both sides read there. Between the two nobody serves
 * it. Limits and counters there are none.
 *
 * The features that concern the ring and the buffers are vhost's (`ring_features`); those that
 * concern what is in a packet are the TAP's (net_tap_offload()).
 */
#include <linux/vhost.h>
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/virtio/net_dev.h"

/* syscalls loop: ioctl(1==VHOST_GET_FEATURES) ioctl(1==VHOST_SET_FEATURES)
 *	ioctl(1==VHOST_SET_OWNER) ioctl(1==VHOST_SET_MEM_TABLE) ioctl(1==VHOST_SET_VRING_NUM)
 *	ioctl(1==VHOST_SET_VRING_ADDR) ioctl(1==VHOST_SET_VRING_BASE)
 *	ioctl(1==VHOST_GET_VRING_BASE) ioctl(1==VHOST_SET_VRING_KICK)
 *	ioctl(1==VHOST_SET_VRING_CALL) ioctl(1==VHOST_NET_SET_BACKEND) */

#define BIT(n) (UINT64_C(1) << (n))

static const uint64_t ring_features = BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_F_INDIRECT_DESC) |
				      BIT(VIRTIO_F_EVENT_IDX) | BIT(VIRTIO_F_VERSION_1);

int net_vhost_open(int fd, struct error *err)
{
	uint64_t f;

	if (ioctl(fd, VHOST_GET_FEATURES, &f) < 0)
		return error_kind(err, ERR_INVALID, "not the descriptor of /dev/vhost-net");
	if (~f & ring_features)
		return error_kind(err, ERR_UNSUPPORTED,
				  "vhost-net of this kernel lacks features 0x%llx",
				  (unsigned long long)(~f & ring_features));
	/* ENODEV, were it no vhost-net but another vhost: it has no back end to be taken away. */
	if (ioctl(fd, VHOST_SET_OWNER, NULL) < 0)
		return error_errno(err, "vhost-net: VHOST_SET_OWNER");
	return 0;
}

static int set_memory(int fd, const struct guest_mem *mem, struct error *err)
{
	union {
		struct vhost_memory head;
		uint8_t room[sizeof(struct vhost_memory) +
			     MEM_REGIONS_MAX * sizeof(struct vhost_memory_region)];
	} t = {.head = {.nregions = mem->n}};

	for (unsigned i = 0; i < mem->n; i++)
		t.head.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->r[i].gpa,
			.memory_size = mem->r[i].size,
			.userspace_addr = (uintptr_t)mem->r[i].hva,
		};
	if (ioctl(fd, VHOST_SET_MEM_TABLE, &t) < 0)
		return error_errno(err, "vhost-net: VHOST_SET_MEM_TABLE");
	return 0;
}

/* Before the first of its rings. */
static int prepare(const struct net_pair *p, const struct virtqueue *q, struct error *err)
{
	uint64_t f = p->net->d.acked & ring_features;

	if (ioctl(p->vhost, VHOST_SET_FEATURES, &f) < 0)
		return error_errno(err, "vhost-net: VHOST_SET_FEATURES 0x%llx",
				   (unsigned long long)f);
	return set_memory(p->vhost, q->mem, err);
}

static int give_ring(const struct net_pair *p, unsigned i, const struct virtqueue *q,
		     struct error *err)
{
	struct vhost_vring_state num = {.index = i, .num = q->size};
	struct vhost_vring_state base = {.index = i, .num = q->last_avail};
	struct vhost_vring_addr addr = {.index = i,
					.desc_user_addr = (uintptr_t)q->desc,
					.avail_user_addr = (uintptr_t)q->avail,
					.used_user_addr = (uintptr_t)q->used};
	struct vhost_vring_file kick = {.index = i, .fd = q->kick_fd};
	struct vhost_vring_file call = {.index = i, .fd = q->call_fd};
	struct vhost_vring_file tap = {.index = i, .fd = p->tap};
	const struct {
		unsigned long request;
		void *arg;
		const char *name;
	} steps[] = {
		{VHOST_SET_VRING_NUM, &num, "NUM"},    {VHOST_SET_VRING_BASE, &base, "BASE"},
		{VHOST_SET_VRING_ADDR, &addr, "ADDR"}, {VHOST_SET_VRING_CALL, &call, "CALL"},
		{VHOST_SET_VRING_KICK, &kick, "KICK"}, {VHOST_NET_SET_BACKEND, &tap, "BACKEND"},
	};

	for (unsigned s = 0; s < ARRAY_LEN(steps); s++)
		if (ioctl(p->vhost, steps[s].request, steps[s].arg) < 0)
			return error_errno(err, "vhost-net: ring %u: %s", i, steps[s].name);
	return 0;
}

/* No request of the ring is in flight when this returns. */
static void take_ring(const struct net_pair *p, unsigned i, struct virtqueue *q)
{
	struct vhost_vring_file none = {.index = i, .fd = -1};
	struct vhost_vring_state base = {.index = i};

	if (ioctl(p->vhost, VHOST_NET_SET_BACKEND, &none) < 0 ||
	    ioctl(p->vhost, VHOST_GET_VRING_BASE, &base) < 0) {
		/* Of a kernel that works neither fails. The ring must not have two masters. */
		log_error("vhost-net: ring %u: not given back: %s", i, strerror(errno));
		_exit(1);
	}
	(void)ioctl(p->vhost, VHOST_SET_VRING_KICK, &none);
	(void)ioctl(p->vhost, VHOST_SET_VRING_CALL, &none);
	/* The addresses were good before. */
	if (q->size)
		(void)vq_setup(q, q->mem, q->size, q->desc, q->avail, q->used, (uint16_t)base.num,
			       NULL);
}

int net_vhost_serve(struct net_pair *p, unsigned what, struct error *err)
{
	struct virtqueue *const q[] = {p->rx, p->tx};

	for (unsigned i = 0; i < ARRAY_LEN(q); i++)
		if (p->in_kernel & ~what & 1u << i)
			take_ring(p, i, q[i]);
	p->in_kernel &= what;
	for (unsigned i = 0; i < ARRAY_LEN(q); i++) {
		if (!(what & ~p->in_kernel & 1u << i))
			continue;
		if ((!p->in_kernel && prepare(p, q[i], err) < 0) || give_ring(p, i, q[i], err) < 0)
			return -1;
		p->in_kernel |= 1u << i;
	}
	return 0;
}
