/* How a stream ends: by the client, by the guest, by both, in halves. */
#include "tests/unit/vsock_client.h"

static void client_half_closes(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	char buf[10];
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 3);
	assert_int_equal(write(c.fd, "last", 4), 4);
	shutdown(c.fd, SHUT_WR);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RW);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_SEND);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "answer", 6);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 6);
	assert_int_equal(guest_dev(g)->streams->events, 0);
	close(c.fd);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_BOTH);
	guest_send(g, VSOCK_OP_RST, port, PORT, 0, NULL, 0);
	assert_int_equal(open_now(g), 0);
}

static void client_closes_and_its_last_bytes_arrive(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	uint8_t buf[GUEST_RX_BYTES];
	uint32_t port;

	g->buf_alloc = 3;
	ready(g);
	port = open_one(g, &c, 5);
	assert_int_equal(write(c.fd, "the end", 7), 7);
	close(c.fd);
	guest_spin(g);
	/* that nobody listens is said at once, that nothing more comes only after the bytes */
	assert_int_equal(guest_recv(g, &h, buf), VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_RCV);
	assert_int_equal(guest_recv(g, &h, buf), VSOCK_OP_RW);
	assert_int_equal(h.len, 3);
	assert_int_equal(guest_recv(g, &h, buf), 0);
	g->buf_alloc = 100;
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "unheard", 7);
	assert_int_equal(guest_recv(g, &h, buf), VSOCK_OP_RW);
	assert_memory_equal(buf, " end", 4);
	assert_int_equal(guest_recv(g, &h, buf), VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_BOTH);
	assert_int_equal(open_now(g), 1);
	assert_true(guest_dev(g)->streams->deadline > now_us());
	guest_send(g, VSOCK_OP_RST, port, PORT, 0, NULL, 0);
	assert_int_equal(open_now(g), 0);
}

static void client_that_reads_no_more_is_told_to_the_guest(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 3);
	shutdown(c.fd, SHUT_RD);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "unheard", 7);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_RCV);
	assert_int_equal(write(c.fd, "still", 5), 5);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RW);
	assert_int_equal(h.fwd_cnt, 7);
	close(c.fd);
}

static void guest_half_closes(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	char buf[10];
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 3);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "last", 4);
	guest_send(g, VSOCK_OP_SHUTDOWN, port, PORT, VSOCK_SHUT_SEND, NULL, 0);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 4);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 0);
	assert_int_equal(write(c.fd, "more", 4), 4);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RW);
	guest_send(g, VSOCK_OP_SHUTDOWN, port, PORT, VSOCK_SHUT_RCV, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	assert_int_equal(send(c.fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(open_now(g), 0);
	close(c.fd);
}

static void guest_stops_receiving_then_client_closes(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	char buf[10];
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 3);
	guest_send(g, VSOCK_OP_SHUTDOWN, port, PORT, VSOCK_SHUT_RCV, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_SEND);
	assert_int_equal(send(c.fd, "x", 1, MSG_NOSIGNAL), -1);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "talk", 4);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 4);
	close(c.fd);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VSOCK_SHUT_BOTH);
}

static void guest_closes_and_the_client_reads_to_the_end(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	static uint8_t junk[0x8000];
	uint32_t port, filled = 0, seen = 0, n;
	struct vsock_stream *s;

	ready(g);
	port = open_one(g, &c, 20);
	s = guest_dev(g)->streams;
	assert_int_equal(write(c.fd, junk, 3), 3);
	while (s->buf_len < 3 * sizeof(junk)) {
		guest_send(g, VSOCK_OP_RW, port, PORT, 0, junk, sizeof(junk));
		filled += sizeof(junk);
	}
	while (guest_recv(g, &h, NULL))
		;
	assert_int_equal(write(c.fd, junk, 300), 300); /* will be lost, and harms nothing */
	guest_send(g, VSOCK_OP_SHUTDOWN, port, PORT, VSOCK_SHUT_BOTH, NULL, 0);
	do {
		assert_int_not_equal(guest_recv(g, &h, NULL), 0);
	} while (h.op != VSOCK_OP_RST);
	assert_int_equal(open_now(g), 1); /* for the client's sake */
	/* the guest has forgotten it: so its packets are for nobody */
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, junk, 1);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	while ((n = (uint32_t)take(c.fd, junk, sizeof(junk)))) {
		seen += n;
		guest_spin(g);
	}
	assert_int_equal(seen, filled);
	assert_int_equal(read(c.fd, junk, 1), 0); /* and not ECONNRESET */
	assert_int_equal(open_now(g), 0);
	close(c.fd);
}

static void guest_that_never_confirms_the_end_is_not_waited_for(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;

	ready(g);
	open_one(g, &c, 3);
	close(c.fd);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	while (h.flags != VSOCK_SHUT_BOTH)
		assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_SHUTDOWN);
	/* as if the time were over */
	guest_dev(g)->streams->deadline = 1;
	assert_int_equal(vsock_arm(guest_dev(g), 1, NULL), 0);
	while (open_now(g))
		guest_spin(g);
	guest_post_rx(g, 1, GUEST_RX_BYTES);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
}

static void guest_resets(void **state)
{
	struct guest *g = *state;
	struct client c;
	struct vsock_hdr h;
	char buf[10];
	uint32_t port;

	ready(g);
	port = open_one(g, &c, 3);
	guest_send(g, VSOCK_OP_RW, port, PORT, 0, "last", 4);
	guest_send(g, VSOCK_OP_RST, port, PORT, 0, NULL, 0);
	assert_int_equal(guest_recv(g, &h, NULL), 0);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 4);
	assert_int_equal(read(c.fd, buf, sizeof(buf)), 0);
	assert_int_equal(open_now(g), 0);
	close(c.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(client_half_closes),
		T(client_closes_and_its_last_bytes_arrive),
		T(client_that_reads_no_more_is_told_to_the_guest),
		T(guest_half_closes),
		T(guest_stops_receiving_then_client_closes),
		T(guest_closes_and_the_client_reads_to_the_end),
		T(guest_that_never_confirms_the_end_is_not_waited_for),
		T(guest_resets),
	};

	return cmocka_run_group_tests_name("vsock ends", tests, NULL, NULL);
}
