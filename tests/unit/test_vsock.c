#include "tests/unit/vsock_client.h"

#include <sys/resource.h>

static void count_call(void *arg)
{
	++*(int *)arg;
}

/* ---- connecting */

static void connects_wait_until_the_guest_listens(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	int told = 0;

	vsock_on_ready(g->d, count_call, NULL, &told);
	guest_post_rx(g, 1, GUEST_RX_BYTES);
	connect_to(g, &c, 0);
	assert_int_equal(guest_recv(g, &h, NULL), 0);
	guest_post_rx(g, 2, GUEST_RX_BYTES);
	guest_send(g, VSOCK_OP_REQUEST, VSOCK_PORT_READY, READY_FROM, 0, NULL, 0);
	assert_int_equal(told, 1);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_REQUEST);
	guest_send(g, VSOCK_OP_REQUEST, VSOCK_PORT_READY, READY_FROM, 0, NULL, 0);
	assert_int_equal(told, 1);
	assert_int_equal(c.calls, 0);
	guest_send(g, VSOCK_OP_RST, h.src_port, PORT, 0, NULL, 0);
	assert_int_equal(c.calls, 1);
	assert_int_equal(c.fd, -1);
	assert_int_equal(c.kind, ERR_PEER);
	assert_int_equal(open_now(g), 0);
}

static void a_guest_asks_for_late_devices(void **state)
{
	struct guest *g = *state;
	struct vsock_hdr h;
	int asked = 0;

	vsock_on_ready(g->d, NULL, count_call, &asked);
	guest_post_rx(g, 3, GUEST_RX_BYTES);
	guest_send(g, VSOCK_OP_REQUEST, VSOCK_PORT_LATE, READY_FROM, 0, NULL, 0);
	assert_int_equal(asked, 1);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	/* It says nothing of whether the agent listens. */
	guest_send(g, VSOCK_OP_REQUEST, VSOCK_PORT_READY, READY_FROM, 0, NULL, 0);
	assert_int_equal(asked, 1);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	vsock_on_ready(g->d, NULL, NULL, NULL);
	guest_send(g, VSOCK_OP_REQUEST, VSOCK_PORT_LATE, READY_FROM, 0, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
}

static void connect_times_out(void **state)
{
	struct guest *g = *state;
	struct client c = {.fd = -1, .loop = g->loop};
	struct vsock_hdr h;
	struct error err;

	/* not ready */
	assert_int_equal(vsock_connect(g->d, PORT, 1000, on_done, &c, &err), 0);
	loop_run(g->loop);
	assert_int_equal(c.kind, ERR_TIMEOUT);
	assert_int_equal(open_now(g), 0);
	/* not answered: a late answer is refused */
	ready(g);
	guest_post_rx(g, 2, GUEST_RX_BYTES);
	assert_int_equal(vsock_connect(g->d, PORT, 1000, on_done, &c, &err), 0);
	loop_run(g->loop);
	assert_int_equal(c.calls, 2);
	assert_int_equal(c.kind, ERR_TIMEOUT);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_REQUEST);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	guest_post_rx(g, 1, GUEST_RX_BYTES);
	guest_send(g, VSOCK_OP_RESPONSE, h.src_port, PORT, 0, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	assert_int_equal(open_now(g), 0);
}

static void connections_are_bounded_and_their_memory_too(void **state)
{
	struct guest *g = *state;
	static struct client c[VSOCK_CONNS_MAX + 1];
	struct error err;
	struct vsock_stream *s;
	uint64_t granted = 0;

	for (unsigned i = 0; i < VSOCK_CONNS_MAX; i++)
		assert_int_equal(vsock_connect(g->d, PORT, 0, on_done, &c[i], &err), 0);
	assert_int_equal(vsock_connect(g->d, PORT, 0, on_done, &c[0], &err), -1);
	assert_int_equal(open_now(g), VSOCK_CONNS_MAX);
	for (s = guest_dev(g)->streams; s; s = s->next) {
		granted += s->c.buf_alloc;
		assert_true(s->c.buf_alloc >= VSOCK_BUF_MIN);
	}
	assert_int_equal(granted, guest_dev(g)->granted);
	assert_true(granted <= VSOCK_POOL_BYTES + VSOCK_CONNS_MAX * (uint64_t)VSOCK_BUF_MIN);
}

static void ports_are_not_reused(void **state)
{
	struct guest *g = *state;
	static struct client c; /* it still waits when the guest goes */
	struct vsock_hdr h;
	uint32_t first;

	ready(g);
	first = open_one(g, &c, 0);
	/* the counter wraps, and steps over the port in use */
	guest_dev(g)->next_port = first;
	close(c.fd);
	guest_spin(g);
	guest_post_rx(g, 2, GUEST_RX_BYTES);
	connect_to(g, &c, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_REQUEST);
	assert_int_not_equal(h.src_port, first);
}

static void no_descriptors_left_is_an_error_for_both_sides(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	struct rlimit before, tight;
	int lowest = dup(0);

	ready(g);
	guest_post_rx(g, 2, GUEST_RX_BYTES);
	connect_to(g, &c, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_REQUEST);
	close(lowest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	tight.rlim_cur = (rlim_t)lowest + 1; /* one for guest_spin() */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	guest_send(g, VSOCK_OP_RESPONSE, h.src_port, PORT, 0, NULL, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(c.calls, 1);
	assert_int_equal(c.fd, -1);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	assert_int_equal(open_now(g), 0);
}

/* ---- data */

static void bytes_pass_both_ways(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	uint8_t buf[GUEST_RX_BYTES];
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 2);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "hello", 5);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(write(c.fd, "welcome", 7), 7);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, buf), VSOCK_OP_RW);
	assert_int_equal(h.len, 7);
	assert_int_equal(h.fwd_cnt, 5);
	assert_memory_equal(buf, "welcome", 7);
	assert_int_equal(guest_recv(g, &h, buf), 0);
	close(c.fd);
}

static void headers_may_be_cut_by_segments(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	uint8_t buf[GUEST_RX_BYTES];
	uint32_t port;

	g->rx_split = 20;
	g->tx_split = 30;
	ready(g);
	port = open_one(g, &c, 2);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "hello", 5);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	g->tx_split = 47;
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "hello", 5);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(write(c.fd, "welcome", 7), 7);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, buf), VSOCK_OP_RW);
	assert_memory_equal(buf, "welcome", 7);
	close(c.fd);
}

static void buffers_too_small_for_a_packet_are_skipped(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	uint8_t buf[GUEST_RX_BYTES];

	ready(g);
	open_one(g, &c, 0);
	guest_post_rx(g, 1, 43);
	guest_post_rx(g, 1, 44);
	guest_post_rx(g, 1, 46);
	guest_post_rx(g, 1, 44);
	guest_post_rx(g, 1, 100);
	assert_int_equal(write(c.fd, "welcome", 7), 7);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, buf), VSOCK_OP_RW);
	assert_int_equal(h.len, 2);
	assert_int_equal(guest_recv(g, &h, buf + 2), VSOCK_OP_RW);
	assert_int_equal(h.len, 5);
	assert_memory_equal(buf, "welcome", 7);
	close(c.fd);
}

static void stream_stays_in_order_when_the_client_is_slow(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	static uint8_t sent[0x8000], got[sizeof(sent)];
	uint32_t port, filled = 0, seen = 0, told = 0;
	struct vsock_stream *s;

	ready(g);
	port = open_one(g, &c, 8);
	s = guest_dev(g)->streams;
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 31 >> 3);
	/* fill the socket, then all of the buffer */
	while (filled - s->c.fwd_cnt < VSOCK_BUF_BYTES) {
		uint32_t room = VSOCK_BUF_BYTES - (filled - s->c.fwd_cnt);

		guest_send(g, VSOCK_OP_RW, port, PORT, 0, sent,
			   room < sizeof(sent) ? room : sizeof(sent));
		filled += room < sizeof(sent) ? room : sizeof(sent);
		while (guest_recv(g, &h, NULL))
			guest_post_rx(g, 1, GUEST_RX_BYTES);
	}
	assert_int_equal(s->buf_len, VSOCK_BUF_BYTES);
	assert_int_equal(s->events, EPOLLIN | EPOLLOUT);
	while (seen < filled) {
		uint32_t n = filled - seen < sizeof(got) ? filled - seen : sizeof(got);

		n = (uint32_t)take(c.fd, got, n);
		if (filled % sizeof(sent) == 0)
			assert_memory_equal(got, sent, n);
		seen += n;
		guest_spin(g);
		while (guest_recv(g, &h, NULL)) {
			assert_int_equal(h.op, VSOCK_OP_CREDIT_UPDATE);
			told = h.fwd_cnt;
			guest_post_rx(g, 1, GUEST_RX_BYTES);
		}
	}
	assert_int_equal(told, filled);
	assert_null(s->buf);
	assert_int_equal(s->events, EPOLLIN);
	close(c.fd);
}

static void guest_that_exceeds_its_credit_is_reset(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	static uint8_t junk[0x8000];
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 20);
	for (unsigned i = 0; i < 40 && open_now(g); i++)
		guest_send(g, VSOCK_OP_RW, port, PORT, 0, junk, sizeof(junk));
	assert_int_equal(open_now(g), 0);
	while (guest_recv(g, &h, NULL) == VSOCK_OP_CREDIT_UPDATE)
		;
	assert_int_equal(h.op, VSOCK_OP_RST);
	assert_true(take(c.fd, junk, sizeof(junk)) > 0);
	close(c.fd);
}

static void sends_no_more_than_the_guest_has_room_for(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	uint8_t junk[3000] = {0};
	uint32_t port;

	g->buf_alloc = 1000;
	ready(g);
	port = open_one(g, &c, 4);
	assert_int_equal(write(c.fd, junk, sizeof(junk)), sizeof(junk));
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RW);
	assert_int_equal(h.len, 1000);
	assert_int_equal(guest_recv(g, &h, NULL), 0);
	assert_int_equal(guest_dev(g)->streams->events, 0); /* no spinning */
	g->fwd_cnt = 400;
	guest_send(g, VSOCK_OP_CREDIT_UPDATE, port, PORT, 0, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RW);
	assert_int_equal(h.len, 400);
	g->buf_alloc = 1 << 20;
	guest_send(g, VSOCK_OP_CREDIT_UPDATE, port, PORT, 0, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RW);
	assert_int_equal(h.len, 1600);
	assert_int_equal(guest_dev(g)->streams->events, EPOLLIN);
	close(c.fd);
}

static void no_buffer_is_no_busy_loop_and_all_get_their_turn(void **state)
{
	struct guest *g = *state;
	struct client a, b;
	struct vsock_hdr h;
	static uint8_t junk[100000];
	uint32_t pa, na = 0, nb = 0;

	ready(g);
	pa = open_one(g, &a, 0);
	open_one(g, &b, 0);
	assert_true(write(a.fd, junk, sizeof(junk)) > 50000);
	assert_true(write(b.fd, junk, sizeof(junk)) > 50000);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), 0);
	for (struct vsock_stream *s = guest_dev(g)->streams; s; s = s->next)
		assert_int_equal(s->events, 0);
	guest_post_rx(g, 12, GUEST_RX_BYTES);
	guest_spin(g);
	while (guest_recv(g, &h, NULL) == VSOCK_OP_RW)
		*(h.src_port == pa ? &na : &nb) += h.len;
	assert_true(na > 0);
	assert_true(nb > 0);
	assert_int_equal(na + nb, 12 * (GUEST_RX_BYTES - VSOCK_HDR_BYTES));
	close(a.fd);
	close(b.fd);
}

/* ---- packets that make no sense */

static void strangers_get_rst_and_rst_gets_nothing(void **state)
{
	struct guest *g = *state;
	struct vsock_hdr h, odd = {.src_cid = 3, .dst_cid = 2, .src_port = 7, .dst_port = 8};

	guest_post_rx(g, 30, GUEST_RX_BYTES);
	for (unsigned op = 0; op < 9; op++) {
		guest_send(g, op, 99, PORT, 0, NULL, 0);
		if (op == VSOCK_OP_RST)
			continue;
		assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
		assert_int_equal(h.src_port, 99);
		assert_int_equal(h.dst_port, PORT);
		assert_int_equal(h.src_cid, 2);
		assert_int_equal(h.dst_cid, 3);
	}
	odd.op = VSOCK_OP_REQUEST;
	odd.type = 2; /* seqpacket */
	guest_send_raw(g, &odd, NULL, 0);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	assert_int_equal(h.type, 2);
	odd.src_cid = 4;
	guest_send_raw(g, &odd, NULL, 0);
	odd.src_cid = 3;
	odd.dst_cid = (1ull << 32) + 2;
	guest_send_raw(g, &odd, NULL, 0);
	guest_post(g, 1, GUEST_TX_AT, 43, 0, 0); /* shorter than a header */
	guest_post(g, 1, GUEST_TX_AT, 43, 0, 2); /* nothing to read */
	guest_kick(g, 1);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), 0);
	assert_false(guest_dev(g)->ready);
}

static void length_beyond_the_chain_breaks_the_connection(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h = {.src_cid = 3,
			      .dst_cid = 2,
			      .src_port = PORT,
			      .op = VSOCK_OP_RW,
			      .type = 1,
			      .len = 100,
			      .buf_alloc = 1000};
	char buf[10];

	ready(g);
	h.dst_port = open_one(g, &c, 3);
	guest_send_raw(g, &h, "short", 5);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 0);
	assert_int_equal(open_now(g), 0);
	close(c.fd);
}

static void answers_to_strangers_are_bounded(void **state)
{
	struct guest *g = *state;
	struct vsock_hdr h;
	unsigned n = 0;

	for (unsigned i = 0; i < 2 * VSOCK_RST_MAX; i++)
		guest_send(g, VSOCK_OP_RW, 99, i, 0, NULL, 0);
	for (unsigned i = 0; i < 10; i++) {
		guest_post_rx(g, 20, GUEST_RX_BYTES);
		guest_spin(g);
		while (guest_recv(g, &h, NULL))
			n++;
	}
	assert_int_equal(n, VSOCK_RST_MAX);
}

/* ---- the device */

static void config_is_the_guest_cid(void **state)
{
	struct guest *g = *state;
	uint8_t buf[6] = {1, 1, 1, 1, 1, 1};

	g->d->ops->read_config(g->d, 0, buf, 6);
	assert_memory_equal(buf, "\3\0\0\0\0\0", 6);
	g->d->ops->read_config(g->d, 7, buf, 4);
	assert_memory_equal(buf, "\0\0\0\0", 4);
	g->d->ops->read_config(g->d, UINT32_MAX, buf, 4);
	assert_memory_equal(buf, "\0\0\0\0", 4);
}

static void pause_keeps_the_connections(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	uint16_t at[2];
	char buf[10];
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 3);
	guest_stop(g, at);
	assert_int_equal(write(c.fd, "early", 5), 5);
	guest_spin(g);
	assert_int_equal(guest_dev(g)->streams->events, 0);
	guest_start(g, at);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RW);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "answer", 6);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 6);
	close(c.fd);
}

static void reset_ends_the_connections(void **state)
{
	static const uint16_t anew[2] = {0, 0};
	struct guest *g = *state;
	static struct client c, early, late; /* one still waits when the guest goes */
	struct vsock_hdr h;
	uint16_t at[2];
	char buf[10];

	ready(g);
	open_one(g, &c, 1);
	connect_to(g, &early, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_REQUEST);
	connect_to(g, &late, 0); /* no buffer for its REQUEST */
	guest_stop(g, at);
	guest_clear(g);
	guest_start(g, anew);
	guest_spin(g);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 0);
	assert_int_equal(early.calls, 1);
	assert_int_equal(early.kind, ERR_PEER);
	assert_int_equal(late.calls, 0);
	guest_post_rx(g, 1, GUEST_RX_BYTES);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), 0); /* until it says that it listens again */
	guest_send(g, VSOCK_OP_REQUEST, VSOCK_PORT_READY, READY_FROM, 0, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	guest_post_rx(g, 1, GUEST_RX_BYTES);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_REQUEST);
	assert_int_equal(open_now(g), 1);
	close(c.fd);
}

static void destroy_answers_those_who_wait(UNUSED void **state)
{
	struct guest g;
	struct client c;

	guest_init(&g);
	connect_to(&g, &c, 0);
	guest_destroy(&g);
	assert_int_equal(c.calls, 1);
	assert_int_equal(c.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(connects_wait_until_the_guest_listens),
		T(a_guest_asks_for_late_devices),
		T(connect_times_out),
		T(connections_are_bounded_and_their_memory_too),
		T(ports_are_not_reused),
		T(no_descriptors_left_is_an_error_for_both_sides),
		T(bytes_pass_both_ways),
		T(headers_may_be_cut_by_segments),
		T(buffers_too_small_for_a_packet_are_skipped),
		T(stream_stays_in_order_when_the_client_is_slow),
		T(guest_that_exceeds_its_credit_is_reset),
		T(sends_no_more_than_the_guest_has_room_for),
		T(no_buffer_is_no_busy_loop_and_all_get_their_turn),
		T(strangers_get_rst_and_rst_gets_nothing),
		T(length_beyond_the_chain_breaks_the_connection),
		T(answers_to_strangers_are_bounded),
		T(config_is_the_guest_cid),
		T(pause_keeps_the_connections),
		T(reset_ends_the_connections),
		cmocka_unit_test(destroy_answers_those_who_wait),
	};

	return cmocka_run_group_tests_name("vsock device", tests, NULL, NULL);
}
