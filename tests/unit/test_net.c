/* The network card: packets both ways, what a guest may do to its rings, the link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/net_card.h"

/* ---- sending */

static void sends_packets(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
				      .csum_start = 34,
				      .csum_offset = 16,
				      .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
				      .gso_size = 1360,
				      .hdr_len = 54};
	uint8_t buf[4096];
	struct net_stats s;

	offer_tx(f, &h, 3000);
	start(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	assert_int_equal(from_wire(f, buf, sizeof(buf), RING_WAIT_MS), HDR + 3000);
	assert_memory_equal(buf, &h, HDR);
	assert_int_equal(buf[HDR + 1000], (uint8_t)1000);
	for (unsigned i = 0; i < 100; i++) {
		offer_tx(f, &(struct virtio_net_hdr_v1){0}, 60 + i);
		kick(f, NET_QUEUE_TX);
		await_used(f, NET_QUEUE_TX, 1);
		assert_int_equal(from_wire(f, buf, sizeof(buf), RING_WAIT_MS), HDR + 60 + i);
	}
	net_stats(f->d, &s);
	assert_int_equal(s.tx_packets, 101);
	assert_int_equal(s.tx_bytes, 3000 + 100 * 60 + 99 * 50);
	assert_int_equal(s.tx_dropped, 0);
}

static void any_framing_will_do(void **state)
{
	struct fixture *f = *state;
	struct test_ring *r = &f->r[NET_QUEUE_TX];
	uint8_t buf[256];

	/* The header in two, the second with some of the packet. */
	memset(r->ram + DATA, 0, 256);
	memcpy(r->ram + DATA + HDR, "abcdefghijklmnopqrstuvwxyz", 26);
	ring_put(r, 0, DATA, 5, RING_NEXT, 1);
	ring_put(r, 1, DATA + 5, HDR, RING_NEXT, 2);
	ring_put(r, 2, DATA + 5 + HDR, 21, 0, 0);
	ring_offer(r, 0);
	start(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	assert_int_equal(from_wire(f, buf, sizeof(buf), RING_WAIT_MS), HDR + 26);
	assert_memory_equal(buf + HDR, "abcdefghijklmnopqrstuvwxyz", 26);
}

static void a_header_that_lies_is_dropped(void **state)
{
	struct fixture *f = *state;
	static const struct virtio_net_hdr_v1 lies[] = {
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 90, .csum_offset = 16},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535},
		{.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = 1},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		 .gso_type = VIRTIO_NET_HDR_GSO_UDP,
		 .gso_size = 9},
		{.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = 0x7f, .gso_size = 9},
		{.gso_type = VIRTIO_NET_HDR_GSO_ECN},
	};
	uint8_t buf[256];
	struct net_stats s;

	start(f, NET_QUEUE_TX);
	for (unsigned i = 0; i < ARRAY_LEN(lies); i++) {
		offer_tx(f, &lies[i], 100);
		kick(f, NET_QUEUE_TX);
		await_used(f, NET_QUEUE_TX, 1);
	}
	offer_tx(f, &(struct virtio_net_hdr_v1){0}, 13); /* no Ethernet header */
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	offer_tx(f, &(struct virtio_net_hdr_v1){0}, NET_FRAME_MAX + 1);
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	offer_tx(f, &(struct virtio_net_hdr_v1){0}, 0);
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	ring_put(&f->r[NET_QUEUE_TX], 0, DATA, 100, RING_WRITE, 0); /* nothing to read */
	ring_offer(&f->r[NET_QUEUE_TX], 0);
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	net_stats(f->d, &s);
	assert_int_equal(s.tx_dropped, ARRAY_LEN(lies) + 4);
	assert_int_equal(s.tx_packets, 0);
	assert_int_equal(from_wire(f, buf, sizeof(buf), 0), -1);
}

static void a_header_loses_what_means_nothing(void **state)
{
	struct virtio_net_hdr_v1 h = {.flags = 0xfe, .csum_start = 7, .gso_size = 3, .hdr_len = 9};
	uint64_t all = UINT64_MAX;

	(void)state;
	assert_true(net_tx_header(&h, 60, all));
	assert_int_equal(h.flags, 0);
	assert_int_equal(h.csum_start, 0);
	assert_int_equal(h.gso_size, 0);
	h = (struct virtio_net_hdr_v1){
		.flags = 1, .gso_type = NET_GSO_UDP_L4, .gso_size = 100, .hdr_len = 60000};
	assert_true(net_tx_header(&h, 500, all));
	assert_int_equal(h.hdr_len, 500);
	assert_false(net_tx_header(&h, 500, all & ~BIT(NET_F_HOST_USO)));
	h.gso_type = VIRTIO_NET_HDR_GSO_TCPV6 | VIRTIO_NET_HDR_GSO_ECN;
	assert_true(net_tx_header(&h, 500, all));
	assert_false(net_tx_header(&h, 500, all & ~BIT(VIRTIO_NET_F_HOST_ECN)));
	assert_false(net_tx_header(&h, 500, all & ~BIT(VIRTIO_NET_F_HOST_TSO6)));
	assert_false(net_tx_header(&h, 500, all & ~BIT(VIRTIO_NET_F_CSUM)));
}

static void a_full_tap_is_waited_for(void **state)
{
	struct fixture *f = *state;
	int small = 1;
	uint8_t buf[4096];
	unsigned got = 0;

	assert_int_equal(setsockopt(f->d ? net_of(f->d)->pair->tap : -1, SOL_SOCKET, SO_SNDBUF,
				    &small, sizeof(small)),
			 0);
	for (unsigned i = 0; i < 12; i++)
		offer_tx(f, &(struct virtio_net_hdr_v1){0}, 1000);
	start(f, NET_QUEUE_TX);
	while (got < 12) {
		assert_int_equal(from_wire(f, buf, sizeof(buf), RING_WAIT_MS), HDR + 1000);
		got++;
	}
	await_used(f, NET_QUEUE_TX, 12);
}

static void a_limit_holds_packets_back(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[4096];
	uint64_t begin;

	net_detach(f->d);
	close(f->wire);
	make_tap(f);
	f->cfg.tx = (struct ratelimit_config){.ops_per_s = 100, .ops_burst = 1};
	f->cfg.rx = (struct ratelimit_config){.ops_per_s = 100, .ops_burst = 1};
	assert_int_equal(net_attach(f->d, &f->cfg, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		offer_tx(f, &(struct virtio_net_hdr_v1){0}, 100);
		to_wire(f, 100, 0);
		offer_rx(f, i, 1600);
	}
	begin = now_us();
	start(f, NET_QUEUE_TX);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(from_wire(f, buf, sizeof(buf), RING_WAIT_MS), HDR + 100);
	assert_true(now_us() - begin >= 30000);
	begin = now_us();
	start(f, NET_QUEUE_RX);
	await_used(f, NET_QUEUE_RX, 4);
	assert_true(now_us() - begin >= 20000);
}

/* ---- receiving */

static void receives_packets(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 h;
	uint8_t *at = f->r[NET_QUEUE_RX].ram + RX_BUF(0);
	struct net_stats s;

	offer_rx(f, 0, 1600);
	start(f, NET_QUEUE_RX);
	to_wire(f, 500, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	await_used(f, NET_QUEUE_RX, 1);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), HDR + 500);
	memcpy(&h, at, HDR);
	assert_int_equal(h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(h.csum_start, 34);
	assert_int_equal(h.num_buffers, 1);
	assert_int_equal(at[HDR + 499], (uint8_t)(499 * 7));
	assert_int_equal(at[HDR + 500], 0xee);
	net_stats(f->d, &s);
	assert_int_equal(s.rx_packets, 1);
	assert_int_equal(s.rx_bytes, 500);
}

/* Buffers large enough for the window to be full: packets go to them at once. */
static void buffers_are_merged(void **state)
{
	struct fixture *f = *state;
	struct test_ring *r = &f->r[NET_QUEUE_RX];
	struct virtio_net_hdr_v1 h;

	for (uint16_t i = 0; i < 16; i++) { /* 8 KiB each */
		ring_put(r, i, RX_BUF(2u * i), 0x2000, RING_WRITE, 0);
		ring_offer(r, i);
	}
	start(f, NET_QUEUE_RX);
	for (unsigned round = 0; round < 40; round++) {
		uint32_t len = round % 4 ? 100 : 20000;
		uint16_t n = round % 4 ? 1 : 3;
		uint16_t head;

		to_wire(f, len, 0);
		await_used(f, NET_QUEUE_RX, n);
		head = (uint16_t)ring_used(r, (uint16_t)(f->done[NET_QUEUE_RX] - n))[0];
		memcpy(&h, r->ram + RX_BUF(2u * head), HDR);
		assert_int_equal(h.num_buffers, n);
		if (n == 3) {
			uint16_t last =
				(uint16_t)ring_used(r, (uint16_t)(f->done[NET_QUEUE_RX] - 1))[0];

			assert_int_equal(used_len(f, NET_QUEUE_RX, 3), 0x2000);
			assert_int_equal(used_len(f, NET_QUEUE_RX, 1), HDR + 20000 - 0x4000);
			assert_int_equal(r->ram[RX_BUF(2u * last) + HDR + 20000 - 0x4000 - 1],
					 (uint8_t)(19999 * 7));
		}
		for (uint16_t i = n; i > 0; i--)
			ring_offer(r, (uint16_t)ring_used(
					      r, (uint16_t)(f->done[NET_QUEUE_RX] - i))[0]);
	}
}

static void few_buffers_are_merged_too(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 h;
	uint8_t *ram = f->r[NET_QUEUE_RX].ram;

	for (unsigned i = 0; i < 3; i++)
		offer_rx(f, i, 600);
	start(f, NET_QUEUE_RX);
	to_wire(f, 1500, 0);
	await_used(f, NET_QUEUE_RX, 3);
	memcpy(&h, ram + RX_BUF(0), HDR);
	assert_int_equal(h.num_buffers, 3);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 3), 600);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), 1500 + HDR - 1200);
	assert_int_equal(ram[RX_BUF(2) + 1499 + HDR - 1200], (uint8_t)(1499 * 7));
}

static uint64_t cpu_ns(struct fixture *f)
{
	clockid_t id;
	struct timespec t;

	assert_int_equal(pthread_getcpuclockid(net_of(f->d)->pair->thread, &id), 0);
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void without_buffers_packets_wait_in_the_tap(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	start(f, NET_QUEUE_RX);
	to_wire(f, 100, 0);
	to_wire(f, 200, 0);
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 20), 0);
	before = cpu_ns(f);
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 50), 0);
	assert_true(cpu_ns(f) - before < 10000000);
	offer_rx(f, 0, 1600);
	kick(f, NET_QUEUE_RX);
	await_used(f, NET_QUEUE_RX, 1);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), HDR + 100);
	offer_rx(f, 1, 1600);
	kick(f, NET_QUEUE_RX);
	await_used(f, NET_QUEUE_RX, 1);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), HDR + 200);
}

static void a_packet_waits_for_enough_buffers(void **state)
{
	struct fixture *f = *state;

	offer_rx(f, 0, 600);
	start(f, NET_QUEUE_RX);
	to_wire(f, 1000, 0);
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 20), 0);
	stop(f, NET_QUEUE_RX); /* a pause does not lose it */
	assert_int_equal(f->d->vq[0].last_avail, 0);
	start(f, NET_QUEUE_RX);
	offer_rx(f, 1, 600);
	kick(f, NET_QUEUE_RX);
	await_used(f, NET_QUEUE_RX, 2);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), 1000 + HDR - 600);
}

static void what_can_never_fit_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct net_stats s;

	for (unsigned i = 0; i < 16; i++)
		offer_rx(f, i, 100);
	start(f, NET_QUEUE_RX);
	to_wire(f, 5000, 0);
	to_wire(f, 50, 0);
	await_used(f, NET_QUEUE_RX, 1);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), HDR + 50);
	net_stats(f->d, &s);
	assert_int_equal(s.rx_dropped, 1);
	assert_int_equal(s.rx_packets, 1);
}

static void without_merging_a_packet_has_one_buffer(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_hdr_v1 h;
	struct net_stats s;

	f->d->acked &= ~(BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_GUEST_CSUM));
	offer_rx(f, 0, 1600);
	offer_rx(f, 1, 1600);
	start(f, NET_QUEUE_RX);
	to_wire(f, 2000, 0);
	to_wire(f, 1000, VIRTIO_NET_HDR_F_DATA_VALID);
	await_used(f, NET_QUEUE_RX, 1);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), HDR + 1000);
	memcpy(&h, f->r[NET_QUEUE_RX].ram + RX_BUF(0), HDR);
	assert_int_equal(h.num_buffers, 1);
	assert_int_equal(h.flags, 0); /* not without GUEST_CSUM */
	net_stats(f->d, &s);
	assert_int_equal(s.rx_dropped, 1);
}

static void buffers_go_back_when_the_queue_stops(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 5; i++)
		offer_rx(f, i, 1600);
	start(f, NET_QUEUE_RX);
	to_wire(f, 100, 0);
	await_used(f, NET_QUEUE_RX, 1);
	stop(f, NET_QUEUE_RX);
	assert_int_equal(f->d->vq[0].last_avail, 1);
	start(f, NET_QUEUE_RX);
	to_wire(f, 101, 0);
	await_used(f, NET_QUEUE_RX, 1);
	assert_int_equal(used_len(f, NET_QUEUE_RX, 1), HDR + 101);
	assert_int_equal(ring_used(&f->r[0], 1)[0], 1);
}

static void the_tap_learns_what_the_guest_takes(void **state)
{
	struct fixture *f = *state;

	start(f, NET_QUEUE_RX);
	assert_true(tap.offload == f->d->acked);
	stop(f, NET_QUEUE_RX);
	f->d->acked = 0;
	start(f, NET_QUEUE_RX);
	assert_true(tap.offload == 0);
}

/* ---- the link and the TAP */

static uint16_t status(struct fixture *f)
{
	struct virtio_net_config c;

	f->d->ops->read_config(f->d, 0, &c, sizeof(c));
	return c.status;
}

static void a_link_that_is_down_carries_nothing(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[2048];

	offer_rx(f, 0, 1600);
	start(f, NET_QUEUE_RX);
	start(f, NET_QUEUE_TX);
	assert_int_equal(status(f), VIRTIO_NET_S_LINK_UP);
	net_set_link(f->d, false);
	net_set_link(f->d, false);
	assert_int_equal(f->told, 1);
	assert_int_equal(status(f), 0);
	assert_false(tap.carrier);
	offer_tx(f, &(struct virtio_net_hdr_v1){0}, 100);
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	assert_int_equal(from_wire(f, buf, sizeof(buf), 0), -1);
	to_wire(f, 100, 0);
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 20), 0);
	net_set_link(f->d, true);
	assert_int_equal(f->told, 2);
	await_used(f, NET_QUEUE_RX, 1);
	offer_tx(f, &(struct virtio_net_hdr_v1){0}, 100);
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	assert_int_equal(from_wire(f, buf, sizeof(buf), RING_WAIT_MS), HDR + 100);
}

static void taps_come_and_go_while_queues_run(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[2048];
	struct error err = ERROR_INIT;

	start(f, NET_QUEUE_RX);
	start(f, NET_QUEUE_TX);
	for (unsigned i = 0; i < 20; i++) {
		net_detach(f->d);
		net_detach(f->d);
		assert_false(net_link(f->d));
		assert_int_equal(recv(f->wire, buf, sizeof(buf), MSG_DONTWAIT), 0); /* closed */
		net_set_link(f->d, true);
		assert_int_equal(status(f), 0);
		offer_tx(f, &(struct virtio_net_hdr_v1){0}, 100);
		kick(f, NET_QUEUE_TX);
		await_used(f, NET_QUEUE_TX, 1);
		close(f->wire);
		make_tap(f);
		assert_int_equal(net_attach(f->d, &f->cfg, NULL), 0);
		assert_true(net_link(f->d));
		offer_rx(f, i % 16, 1600);
		kick(f, NET_QUEUE_RX);
		to_wire(f, 100, 0);
		await_used(f, NET_QUEUE_RX, 1);
		offer_tx(f, &(struct virtio_net_hdr_v1){0}, 100);
		kick(f, NET_QUEUE_TX);
		await_used(f, NET_QUEUE_TX, 1);
		assert_int_equal(from_wire(f, buf, sizeof(buf), RING_WAIT_MS), HDR + 100);
	}
	f->cfg.tap[0] = dup(f->wire);
	assert_int_equal(net_attach(f->d, &f->cfg, &err), -1);
	assert_int_equal(err.kind, ERR_EXISTS);
}

static void a_tap_that_is_gone_costs_nothing(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	offer_rx(f, 0, 1600);
	start(f, NET_QUEUE_RX);
	close(f->wire);
	f->wire = -1;
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 20), 0);
	before = cpu_ns(f);
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 50), 0);
	assert_true(cpu_ns(f) - before < 10000000);
	start(f, NET_QUEUE_TX);
	offer_tx(f, &(struct virtio_net_hdr_v1){0}, 100);
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
}

static void a_card_may_be_without_a_tap(void **state)
{
	struct fixture *f = *state;
	const struct net_config none = {.mac = {2}};
	struct virtio_device *d = net_new(f->loop, &none, NULL);

	assert_non_null(d);
	assert_false(net_link(d));
	assert_int_equal(d->ops->features(d) & BIT(VIRTIO_NET_F_MTU), 0);
	d->ops->destroy(d);
}

static void bad_configurations_are_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	struct net_config c = f->cfg;

	c.tap[0] = dup(f->wire);
	c.mac[0] = 1;
	assert_null(net_new(f->loop, &c, &err));
	assert_int_equal(err.kind, ERR_INVALID);
	c = f->cfg;
	c.tap[0] = eventfd(0, EFD_CLOEXEC);
	assert_null(net_new(f->loop, &c, &err));
	assert_non_null(strstr(err.msg, "TAP"));
}

static void config_space_ends(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[256], zeros[256] = {0};

	memset(buf, 'x', sizeof(buf));
	f->d->ops->read_config(f->d, 0, buf, sizeof(buf));
	assert_memory_equal(buf, MAC, 6);
	assert_memory_equal(buf + sizeof(struct virtio_net_config), zeros,
			    sizeof(buf) - sizeof(struct virtio_net_config));
	memset(buf, 'x', sizeof(buf));
	f->d->ops->read_config(f->d, UINT32_MAX, buf, 16);
	assert_memory_equal(buf, zeros, 16);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(sends_packets),
		T(any_framing_will_do),
		T(a_header_that_lies_is_dropped),
		cmocka_unit_test(a_header_loses_what_means_nothing),
		T(a_full_tap_is_waited_for),
		T(a_limit_holds_packets_back),
		T(receives_packets),
		T(buffers_are_merged),
		T(few_buffers_are_merged_too),
		T(without_buffers_packets_wait_in_the_tap),
		T(a_packet_waits_for_enough_buffers),
		T(what_can_never_fit_is_dropped),
		T(without_merging_a_packet_has_one_buffer),
		T(buffers_go_back_when_the_queue_stops),
		T(the_tap_learns_what_the_guest_takes),
		T(a_link_that_is_down_carries_nothing),
		T(taps_come_and_go_while_queues_run),
		T(a_tap_that_is_gone_costs_nothing),
		T(a_card_may_be_without_a_tap),
		T(bad_configurations_are_refused),
		T(config_space_ends),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
