/*
 * The network card's rings over guest memory that the input fills, and packets from a TAP (a
 * socket) of any length and header. What reaches the TAP is checked.
 *
 * Input: a byte of options; 12 bytes of a header and 4 times 2 bytes of length, for packets to the
 * guest; then guest memory: three rings of 16 (RX, TX, control), then what their descriptors name.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/virtio/net_dev.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define RAM 0x4000u
#define RING(q) (0x200u * (q))
#define AVAIL 0x100u
#define USED 0x140u
#define PACKETS 4
#define HEAD (1 + NET_HDR_BYTES + 2 * PACKETS)
#define BIT(n) (UINT64_C(1) << (n))

static void require(bool what)
{
	if (!what)
		abort();
}

int net_tap_open(const int *tap, unsigned queues, bool *uso, UNUSED struct error *err)
{
	*uso = true;
	for (unsigned i = 0; i < queues; i++)
		if (set_nonblock(tap[i], true) < 0)
			return -1;
	return 0;
}

bool net_tap_is_there(UNUSED int tap)
{
	return true;
}

int net_tap_queue(UNUSED int tap, UNUSED bool on, UNUSED struct error *err)
{
	return 0;
}

int net_tap_offload(UNUSED int tap, UNUSED uint64_t acked, UNUSED struct error *err)
{
	return 0;
}

void net_tap_filter(UNUSED int tap, const uint8_t (*mac)[6], unsigned n, UNUSED bool allmulti)
{
	uint8_t copy[2 * NET_MACS_MAX + 2][6];

	require(n <= 2 * NET_MACS_MAX + 2);
	if (n)
		memcpy(copy, mac, n * sizeof(copy[0]));
	__asm__ volatile("" ::"r"(copy) : "memory");
}

void net_tap_carrier(UNUSED int tap, UNUSED bool on)
{
}

/* Everything that the card sent, seen as the kernel will see it. */
static void drain_wire(int wire, uint64_t acked)
{
	static uint8_t buf[NET_PACKET_MAX + 1];
	struct virtio_net_hdr_v1 h;
	ssize_t n;

	while ((n = recv(wire, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		uint64_t frame = (uint64_t)n - NET_HDR_BYTES;

		require(n >= (ssize_t)(NET_HDR_BYTES + NET_FRAME_MIN) &&
			n <= (ssize_t)NET_PACKET_MAX);
		memcpy(&h, buf, sizeof(h));
		require(!(h.flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM));
		if (h.flags)
			require(acked >> VIRTIO_NET_F_CSUM & 1 &&
				h.csum_start + h.csum_offset + 2u <= frame);
		if (h.gso_type)
			require(h.flags && h.gso_size && h.hdr_len <= frame);
	}
}

static void packet(int wire, const uint8_t *head, unsigned i)
{
	static uint8_t buf[NET_PACKET_MAX];
	const uint8_t *at = head + NET_HDR_BYTES + 2 * (size_t)i;
	uint32_t len = at[0] | (uint32_t)at[1] << 8;

	memcpy(buf, head, NET_HDR_BYTES);
	if (len)
		(void)!send(wire, buf, len < NET_HDR_BYTES ? NET_HDR_BYTES : len, MSG_DONTWAIT);
}

static void run(struct net *n, int wire, const uint8_t *head)
{
	struct net_pair *p = n->pair;
	struct vq_chain *c = &p->chain;

	for (unsigned i = 0; i < PACKETS; i++) {
		packet(wire, head, i);
		net_rx(p);
		net_tx(p);
		require(p->window.end - p->window.first <= NET_WINDOW_CHAINS);
		require(p->window.seg_end <= 1 + NET_WINDOW_SEGS);
		require(p->pending <= NET_PACKET_MAX);
		drain_wire(wire, n->d.acked);
	}
	net_rx_stop(p);
	net_rx(p);
	net_rx_stop(p);
	for (unsigned i = 0; i < 32 && vq_pop(&n->d.vq[net_ctrl_queue(n)], c) > 0; i++)
		net_ctrl_command(n, c);
	require(n->pairs_on >= 1 && n->pairs_on <= n->npairs);
	require(n->filter.n <= 2 * NET_MACS_MAX && n->filter.nuni <= n->filter.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static uint8_t ram[RAM] __attribute__((aligned(4096)));
	struct guest_mem mem = {.n = 1, .r = {{.gpa = 0, .size = RAM, .hva = ram}}};
	struct net_config cfg = {.mac = {2}};
	static struct loop *loop;
	struct virtio_device *d;
	int sv[2], more[2];

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	if (len < HEAD || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv) < 0)
		return 0;
	memset(ram, 0, sizeof(ram));
	memcpy(ram, data + HEAD, len - HEAD < RAM ? len - HEAD : RAM);
	cfg.pairs = 1;
	cfg.tap[0] = sv[0];
	if (data[0] & 16) { /* two more pairs, whose queues the driver did not set up */
		require(pipe2(more, O_CLOEXEC) == 0);
		cfg.pairs = 3;
		memcpy(cfg.tap + 1, more, sizeof(more));
	}
	if (data[0] & 1)
		cfg.rx = cfg.tx = (struct ratelimit_config){.ops_per_s = 1000000};
	if (!loop)
		loop = loop_new(NULL);
	d = net_new(loop, &cfg, NULL);
	require(d);
	d->acked = d->ops->features(d);
	if (data[0] & 2)
		d->acked &= ~BIT(VIRTIO_NET_F_MRG_RXBUF);
	if (data[0] & 4)
		d->acked &= ~(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM));
	for (unsigned i = 0; i < 3; i++) {
		unsigned q = i < 2 ? i : net_ctrl_queue(net_of(d));

		d->vq[q].indirect = true;
		d->vq[q].event_idx = data[0] & 8;
		require(vq_setup(&d->vq[q], &mem, 16, ram + RING(i), ram + RING(i) + AVAIL,
				 ram + RING(i) + USED, 0, NULL) == 0);
	}
	run(net_of(d), sv[1], data + 1);
	d->ops->destroy(d);
	close(sv[1]);
	return 0;
}
