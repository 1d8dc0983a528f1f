/* The network card's control queue, and what it sets: filters, and how many pairs of queues there
 * are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/net_card.h"

static void a_filter_is_the_taps(void **state)
{
	struct fixture *f = *state;
	const uint8_t table[] = {1, 0, 1, 0, 0, 0, 2, 1,    1, 1, 1,
				 1, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
	const uint8_t broadcast[] = {255, 255, 255, 255, 255, 255};

	assert_int_equal(tap.nfilter, 0);
	assert_int_equal(command(f, "\0\0\0", 3), VIRTIO_NET_OK); /* not promiscuous */
	assert_int_equal(tap.nfilter, 2);
	assert_memory_equal(tap.filter[0], MAC, 6);
	assert_memory_equal(tap.filter[1], broadcast, 6);
	assert_int_equal(command(f, table, sizeof(table)), VIRTIO_NET_OK);
	assert_int_equal(tap.nfilter, 4);
	assert_memory_equal(tap.filter[2], table + 6, 6);
	assert_memory_equal(tap.filter[3], table + 16, 6);
	assert_int_equal(command(f, "\1\1\2\3\4\5\6\7", 8), VIRTIO_NET_OK); /* MAC */
	assert_memory_equal(tap.filter[0], "\2\3\4\5\6\7", 6);
	assert_int_equal(command(f, "\0\3\1", 3), VIRTIO_NET_OK); /* no multicast */
	assert_int_equal(tap.nfilter, 3);
	assert_int_equal(command(f, "\0\1\1", 3), VIRTIO_NET_OK); /* all multicast: it is off */
	assert_false(tap.allmulti);
	assert_int_equal(command(f, "\0\3\0", 3), VIRTIO_NET_OK);
	assert_true(tap.allmulti);
	assert_int_equal(command(f, "\0\4\1", 3), VIRTIO_NET_OK); /* no unicast */
	assert_memory_equal(tap.filter[0], broadcast, 6);
	assert_int_equal(command(f, "\0\0\1", 3), VIRTIO_NET_OK);
	assert_int_equal(tap.nfilter, 0);
}

static void a_new_driver_receives_all(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(command(f, "\0\0\0", 3), VIRTIO_NET_OK);
	assert_int_equal(tap.nfilter, 2);
	start(f, 2); /* a resume */
	stop(f, 2);
	assert_int_equal(tap.nfilter, 2);
	f->d->vq[2].last_avail = 0;
	memset(f->r[2].ram, 0, RING_RAM);
	start(f, 2);
	assert_int_equal(tap.nfilter, 0);
	stop(f, 2);
}

static void odd_commands_are_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t big[2 + 8 + 6 * 70] = {1, 0, 70};
	const struct {
		const char *bytes;
		uint32_t len;
	} odd[] = {
		{"\0", 1},
		{"\0\0", 2},
		{"\0\0\0\0", 4},
		{"\0\6\0", 3},
		{"\0\xff\0", 3},
		{"\1\1\2\3\4\5\6", 7},
		{"\1\1\2\3\4\5\6\7\10", 9},
		{"\1\1\3\3\4\5\6\7", 8}, /* a group's address */
		{"\1\0", 2},
		{"\1\0\0\0\0\0", 6},
		{"\1\0\1\0\0\0\0\0\0\0", 10},
		{"\1\0\xff\xff\xff\xff\0\0\0\0", 10},
		{"\1\0\0\0\0\0\0\0\0\0\0", 11},
		{"\2\0\1\0", 4},
		{"\3\0", 2},
		{"\4\0\1\0", 4},
		{"\377\0", 2},
	};

	for (unsigned i = 0; i < ARRAY_LEN(odd); i++)
		assert_int_equal(command(f, odd[i].bytes, odd[i].len), VIRTIO_NET_ERR);
	assert_int_equal(tap.nfilter, 0);
	assert_int_equal(command(f, "\0\0\0", 3), VIRTIO_NET_OK);
	assert_int_equal(tap.nfilter, 2);
	assert_int_equal(command(f, big, sizeof(big)), VIRTIO_NET_OK); /* more than it holds: all */
	assert_int_equal(tap.nfilter, 0);
}

/* ---- pairs of queues */

#define PAIRS 3

static int setup_pairs(void **state)
{
	struct fixture *f = make_fixture(PAIRS);

	make_card(f);
	*state = f;
	return 0;
}

static unsigned in_use(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < tap.queues; i++)
		n += !tap.off[i];
	return n;
}

static void start_all(struct fixture *f)
{
	for (unsigned q = 0; q < 2 * PAIRS; q++)
		start(f, q);
}

static bool threaded(struct fixture *f, unsigned pair)
{
	return net_of(f->d)->pair[pair].threaded;
}

static void a_card_has_as_many_pairs_as_its_tap_has_queues(void **state)
{
	struct fixture *f = *state;
	struct virtio_net_config c;

	assert_int_equal(f->d->ops->nqueues, 2 * PAIRS + 1);
	assert_true(f->d->ops->features(f->d) & BIT(VIRTIO_NET_F_MQ));
	f->d->ops->read_config(f->d, 0, &c, sizeof(c));
	assert_int_equal(c.max_virtqueue_pairs, PAIRS);
}

static void one_pair_is_used_until_the_driver_says_otherwise(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in_use(), 1);
	start_all(f);
	assert_true(threaded(f, 0));
	assert_false(threaded(f, 1));
	assert_int_equal(command(f, "\4\0\3\0", 4), VIRTIO_NET_OK);
	assert_int_equal(in_use(), 3);
	assert_true(threaded(f, 1) && threaded(f, 2));
	assert_int_equal(command(f, "\4\0\2\0", 4), VIRTIO_NET_OK);
	assert_int_equal(in_use(), 2);
	assert_true(threaded(f, 1) && !threaded(f, 2));
	f->d->vq[2 * PAIRS].last_avail = 0; /* a new driver */
	memset(f->r[2 * PAIRS].ram, 0, RING_RAM);
	start(f, 2 * PAIRS);
	assert_int_equal(in_use(), 1);
	assert_false(threaded(f, 1));
	stop(f, 2 * PAIRS);
}

static void every_pair_has_its_own_wire(void **state)
{
	struct fixture *f = *state;
	struct test_ring *r = &f->r[2 * 2 + NET_QUEUE_TX];
	struct net_stats s;
	uint8_t buf[256];

	assert_int_equal(command(f, "\4\0\3\0", 4), VIRTIO_NET_OK);
	start_all(f);
	memset(r->ram + DATA, 0, HDR + 60);
	ring_put(r, 0, DATA, HDR + 60, 0, 0);
	ring_offer(r, 0);
	kick(f, 2 * 2 + NET_QUEUE_TX);
	await_used(f, 2 * 2 + NET_QUEUE_TX, 1);
	assert_int_equal(recv(f->wires[2], buf, sizeof(buf), MSG_DONTWAIT), HDR + 60);
	ring_put(&f->r[2], 0, RX_BUF(0), 1600, RING_WRITE, 0);
	ring_offer(&f->r[2], 0);
	kick(f, 2);
	memset(buf, 0, HDR);
	assert_int_equal(send(f->wires[1], buf, HDR + 70, 0), HDR + 70);
	await_used(f, 2, 1);
	net_stats(f->d, &s); /* of all pairs together */
	assert_int_equal(s.tx_packets, 1);
	assert_int_equal(s.rx_packets, 1);
	assert_int_equal(s.rx_bytes, 70);
}

static void odd_numbers_of_pairs_are_refused(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *bytes;
		uint32_t len;
	} odd[] = {{"\4\0\0\0", 4}, {"\4\0\4\0", 4},   {"\4\0\1\1", 4}, {"\4\0\377\377", 4},
		   {"\4\0\2", 3},   {"\4\0\2\0\0", 5}, {"\4\1\2\0", 4}};

	for (unsigned i = 0; i < ARRAY_LEN(odd); i++)
		assert_int_equal(command(f, odd[i].bytes, odd[i].len), VIRTIO_NET_ERR);
	assert_int_equal(in_use(), 1);
	f->d->acked &= ~BIT(VIRTIO_NET_F_MQ);
	assert_int_equal(command(f, "\4\0\2\0", 4), VIRTIO_NET_ERR);
}

static void a_queue_that_the_tap_does_not_give_is_an_error(void **state)
{
	struct fixture *f = *state;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	start_all(f);
	assert_int_equal(command(f, "\4\0\2\0", 4), VIRTIO_NET_OK);
	tap.stuck = true;
	assert_int_equal(command(f, "\4\0\3\0", 4), VIRTIO_NET_ERR);
	assert_true(threaded(f, 1) && !threaded(f, 2));
}

/* ---- vhost-net */

static int setup_vhost(void **state)
{
	struct fixture *f = make_fixture(2);

	f->cfg.in_kernel = true;
	for (unsigned i = 0; i < 2; i++)
		f->cfg.vhost[i] = eventfd(0, EFD_CLOEXEC);
	make_card(f);
	*state = f;
	return 0;
}

static void the_kernel_serves_while_the_link_is_up(void **state)
{
	struct fixture *f = *state;
	struct net_pair *p = net_of(f->d)->pair;

	for (unsigned q = 0; q < 4; q++)
		start(f, q);
	assert_int_equal(p[0].in_kernel, NET_SERVE_RX | NET_SERVE_TX);
	assert_int_equal(p[1].in_kernel, 0);
	assert_false(threaded(f, 0));
	assert_int_equal(command(f, "\4\0\2\0", 4), VIRTIO_NET_OK);
	assert_int_equal(p[1].in_kernel, NET_SERVE_RX | NET_SERVE_TX);
	stop(f, 0);
	assert_int_equal(p[0].in_kernel, NET_SERVE_TX);
	start(f, 0);
	net_set_link(f->d, false);
	assert_int_equal(p[0].in_kernel | p[1].in_kernel, 0);
	offer_tx(f, &(struct virtio_net_hdr_v1){0}, 100); /* dropped */
	kick(f, NET_QUEUE_TX);
	await_used(f, NET_QUEUE_TX, 1);
	net_set_link(f->d, true);
	assert_false(threaded(f, 0));
	assert_int_equal(p[0].in_kernel, NET_SERVE_RX | NET_SERVE_TX);
	net_detach(f->d);
	assert_int_equal(p[0].in_kernel, 0);
	assert_true(threaded(f, 0));
}

static void vhost_net_has_no_limits(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	struct net_config c = f->cfg;

	c.pairs = 1;
	c.tap[0] = dup(f->wire);
	c.vhost[0] = eventfd(0, EFD_CLOEXEC);
	c.tx.ops_per_s = 1;
	assert_null(net_new(f->loop, &c, &err));
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	assert_int_equal(close(c.vhost[0]), -1); /* taken */
}

static void on_lost(void *arg, struct virtio_device *d)
{
	assert_false(net_link(d));
	loop_stop(arg, 7);
}

static void a_tap_that_is_deleted_under_the_kernel_is_noticed(void **state)
{
	struct fixture *f = *state;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	start(f, 0);
	start(f, 1);
	net_on_lost(f->d, on_lost, f->loop);
	tap.deleted = true;
	assert_int_equal(loop_run(f->loop), 7);
	assert_int_equal(f->told, 1);
	net_set_link(f->d, true); /* nothing to be up with */
	assert_false(net_link(f->d));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define TP(fn) cmocka_unit_test_setup_teardown(fn, setup_pairs, teardown)
#define TV(fn) cmocka_unit_test_setup_teardown(fn, setup_vhost, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_filter_is_the_taps),
		T(a_new_driver_receives_all),
		T(odd_commands_are_refused),
		TP(a_card_has_as_many_pairs_as_its_tap_has_queues),
		TP(one_pair_is_used_until_the_driver_says_otherwise),
		TP(every_pair_has_its_own_wire),
		TP(odd_numbers_of_pairs_are_refused),
		TP(a_queue_that_the_tap_does_not_give_is_an_error),
		TV(the_kernel_serves_while_the_link_is_up),
		TV(vhost_net_has_no_limits),
		TV(a_tap_that_is_deleted_under_the_kernel_is_noticed),
	};

	return cmocka_run_group_tests_name("net_ctrl", tests, NULL, NULL);
}
