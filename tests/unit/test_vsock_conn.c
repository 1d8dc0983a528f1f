#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "vmm/virtio/vsock_conn.h"

#define BUF 4096u

static struct vsock_hdr packet(enum vsock_op op, uint32_t len, uint32_t buf_alloc, uint32_t fwd_cnt)
{
	return (struct vsock_hdr){.op = (uint16_t)op,
				  .len = len,
				  .buf_alloc = buf_alloc,
				  .fwd_cnt = fwd_cnt,
				  .type = VSOCK_TYPE_STREAM};
}

static enum vsock_event input(struct vsock_conn *c, enum vsock_op op, uint32_t len)
{
	struct vsock_hdr h = packet(op, len, BUF, c->peer_fwd_cnt);

	return vsock_conn_input(c, &h);
}

static enum vsock_event shut(struct vsock_conn *c, uint32_t flags)
{
	struct vsock_hdr h = packet(VSOCK_OP_SHUTDOWN, 0, BUF, c->peer_fwd_cnt);

	h.flags = flags;
	return vsock_conn_input(c, &h);
}

static struct vsock_hdr output(struct vsock_conn *c, enum vsock_op op, uint32_t len)
{
	struct vsock_hdr h;

	vsock_conn_output(c, op, len, &h);
	vsock_hdr_swap(&h);
	return h;
}

static struct vsock_conn open_conn(void)
{
	struct vsock_conn c;

	vsock_conn_init(&c, 3, 70000, 1024, BUF);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_REQUEST);
	output(&c, VSOCK_OP_REQUEST, 0);
	assert_int_equal(c.state, VSOCK_CONNECTING);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID);
	assert_int_equal(input(&c, VSOCK_OP_RESPONSE, 0), VSOCK_EV_OPENED);
	assert_int_equal(c.state, VSOCK_OPEN);
	return c;
}

static void header_names_the_connection(UNUSED void **state)
{
	struct vsock_conn c = open_conn();
	struct vsock_hdr h = output(&c, VSOCK_OP_RW, 7);

	assert_int_equal(h.src_cid, 2);
	assert_int_equal(h.dst_cid, 3);
	assert_int_equal(h.src_port, 70000);
	assert_int_equal(h.dst_port, 1024);
	assert_int_equal(h.len, 7);
	assert_int_equal(h.type, 1);
	assert_int_equal(h.buf_alloc, BUF);
}

static void window_is_what_the_guest_promised(UNUSED void **state)
{
	struct vsock_conn c = open_conn();
	struct vsock_hdr h;

	assert_int_equal(vsock_conn_window(&c), BUF);
	output(&c, VSOCK_OP_RW, 1000);
	assert_int_equal(vsock_conn_window(&c), BUF - 1000);
	output(&c, VSOCK_OP_RW, BUF - 1000);
	assert_int_equal(vsock_conn_window(&c), 0);
	h = packet(VSOCK_OP_CREDIT_UPDATE, 0, BUF, 96);
	assert_int_equal(vsock_conn_input(&c, &h), VSOCK_EV_NONE);
	assert_int_equal(vsock_conn_window(&c), 96);
}

static void window_survives_the_counters_wrap(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	c.tx_cnt = c.peer_fwd_cnt = UINT32_MAX - 10;
	output(&c, VSOCK_OP_RW, 100);
	assert_int_equal(c.tx_cnt, 89);
	assert_int_equal(vsock_conn_window(&c), BUF - 100);
}

static void window_is_zero_when_the_guest_lies_or_shrinks(UNUSED void **state)
{
	struct vsock_conn c = open_conn();
	struct vsock_hdr h;

	output(&c, VSOCK_OP_RW, 1000);
	h = packet(VSOCK_OP_CREDIT_UPDATE, 0, BUF, 2000); /* more than was sent */
	vsock_conn_input(&c, &h);
	assert_int_equal(vsock_conn_window(&c), 0);
	h = packet(VSOCK_OP_CREDIT_UPDATE, 0, 500, 0); /* less than is under way */
	vsock_conn_input(&c, &h);
	assert_int_equal(vsock_conn_window(&c), 0);
}

static void receive_buffer_cannot_be_overrun(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	c.rx_cnt = c.fwd_cnt = c.told_fwd = UINT32_MAX - 5;
	assert_int_equal(input(&c, VSOCK_OP_RW, BUF), VSOCK_EV_DATA);
	assert_int_equal(input(&c, VSOCK_OP_RW, 0), VSOCK_EV_NONE);
	assert_int_equal(input(&c, VSOCK_OP_RW, 1), VSOCK_EV_BROKEN);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_RST);
	c = open_conn();
	assert_int_equal(input(&c, VSOCK_OP_RW, UINT32_MAX), VSOCK_EV_BROKEN);
}

static void credit_is_told_when_it_matters(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	input(&c, VSOCK_OP_RW, 100);
	vsock_conn_forwarded(&c, 100);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID); /* plenty is free */
	input(&c, VSOCK_OP_RW, 3900);
	vsock_conn_forwarded(&c, 10);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID); /* not worth a packet */
	vsock_conn_forwarded(&c, 1024);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(output(&c, VSOCK_OP_CREDIT_UPDATE, 0).fwd_cnt, 1134);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID);
	/* the last byte always tells, or a guest out of credit would wait for ever */
	input(&c, VSOCK_OP_RW, BUF - (c.rx_cnt - c.fwd_cnt));
	vsock_conn_forwarded(&c, c.rx_cnt - c.fwd_cnt);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_CREDIT_UPDATE);
}

static void credit_rides_on_data(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	input(&c, VSOCK_OP_RW, BUF);
	vsock_conn_forwarded(&c, BUF);
	assert_int_equal(output(&c, VSOCK_OP_RW, 1).fwd_cnt, BUF);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID);
}

static void credit_request_is_answered(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	assert_int_equal(input(&c, VSOCK_OP_CREDIT_REQUEST, 0), VSOCK_EV_NONE);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_CREDIT_UPDATE);
}

static void guest_shutdown_of_both_is_answered_with_rst(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	assert_int_equal(shut(&c, VSOCK_SHUT_SEND), VSOCK_EV_SHUTDOWN);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID);
	assert_int_equal(shut(&c, VSOCK_SHUT_SEND), VSOCK_EV_NONE);
	assert_int_equal(shut(&c, VSOCK_SHUT_RCV), VSOCK_EV_SHUTDOWN);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_RST);
	output(&c, VSOCK_OP_RST, 0);
	assert_int_equal(c.state, VSOCK_FINISHED);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID);
}

static void data_after_guest_shutdown_is_refused(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	shut(&c, VSOCK_SHUT_SEND);
	assert_int_equal(input(&c, VSOCK_OP_RW, 1), VSOCK_EV_BROKEN);
}

static void nothing_is_sent_to_a_guest_that_does_not_receive(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	shut(&c, VSOCK_SHUT_RCV);
	assert_int_equal(vsock_conn_window(&c), 0);
}

static void shutdown_is_told_once_and_adds_up(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	vsock_conn_shutdown(&c, VSOCK_SHUT_RCV);
	assert_int_equal(output(&c, vsock_conn_due(&c), 0).flags, VSOCK_SHUT_RCV);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID);
	assert_int_equal(vsock_conn_window(&c), BUF); /* we still send */
	vsock_conn_shutdown(&c, VSOCK_SHUT_SEND);
	assert_int_equal(vsock_conn_window(&c), 0);
	assert_int_equal(output(&c, vsock_conn_due(&c), 0).flags, VSOCK_SHUT_BOTH);
}

static void rst_goes_before_all_and_silences_the_rest(UNUSED void **state)
{
	struct vsock_conn c = open_conn();

	input(&c, VSOCK_OP_CREDIT_REQUEST, 0);
	vsock_conn_shutdown(&c, VSOCK_SHUT_BOTH);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_SHUTDOWN);
	vsock_conn_abort(&c);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_RST);
	assert_int_equal(vsock_conn_window(&c), 0);
	assert_int_equal(input(&c, VSOCK_OP_RW, UINT32_MAX), VSOCK_EV_NONE);
	assert_int_equal(input(&c, VSOCK_OP_RST, 0), VSOCK_EV_GONE);
	assert_int_equal(vsock_conn_due(&c), VSOCK_OP_INVALID);
}

static void rst_refuses_a_connect(UNUSED void **state)
{
	struct vsock_conn c;

	vsock_conn_init(&c, 3, 70000, 1024, BUF);
	output(&c, VSOCK_OP_REQUEST, 0);
	assert_int_equal(input(&c, VSOCK_OP_RST, 0), VSOCK_EV_REFUSED);
	assert_int_equal(c.state, VSOCK_FINISHED);
}

static void packets_out_of_place_break_the_connection(UNUSED void **state)
{
	struct vsock_conn c;

	for (unsigned op = 0; op < 10; op++) {
		if (op == VSOCK_OP_RESPONSE || op == VSOCK_OP_RST)
			continue;
		vsock_conn_init(&c, 3, 70000, 1024, BUF);
		output(&c, VSOCK_OP_REQUEST, 0);
		assert_int_equal(input(&c, op, 0), VSOCK_EV_BROKEN);
		assert_int_equal(input(&c, op, 0), VSOCK_EV_NONE); /* told once */
	}
	c = open_conn();
	assert_int_equal(input(&c, VSOCK_OP_RESPONSE, 0), VSOCK_EV_BROKEN);
	c = open_conn();
	assert_int_equal(input(&c, VSOCK_OP_REQUEST, 0), VSOCK_EV_BROKEN);
	c = open_conn();
	assert_int_equal(input(&c, 0xffff, 0), VSOCK_EV_BROKEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_names_the_connection),
		cmocka_unit_test(window_is_what_the_guest_promised),
		cmocka_unit_test(window_survives_the_counters_wrap),
		cmocka_unit_test(window_is_zero_when_the_guest_lies_or_shrinks),
		cmocka_unit_test(receive_buffer_cannot_be_overrun),
		cmocka_unit_test(credit_is_told_when_it_matters),
		cmocka_unit_test(credit_rides_on_data),
		cmocka_unit_test(credit_request_is_answered),
		cmocka_unit_test(guest_shutdown_of_both_is_answered_with_rst),
		cmocka_unit_test(data_after_guest_shutdown_is_refused),
		cmocka_unit_test(nothing_is_sent_to_a_guest_that_does_not_receive),
		cmocka_unit_test(shutdown_is_told_once_and_adds_up),
		cmocka_unit_test(rst_goes_before_all_and_silences_the_rest),
		cmocka_unit_test(rst_refuses_a_connect),
		cmocka_unit_test(packets_out_of_place_break_the_connection),
	};

	return cmocka_run_group_tests_name("vsock connection", tests, NULL, NULL);
}
