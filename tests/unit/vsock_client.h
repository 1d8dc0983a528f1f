/*
 * vsock_client.h - for the unit tests of the vsock device: a client that connects to the made-up
 * guest, and what every test begins with.
 */
#ifndef HUSK_TESTS_VSOCK_CLIENT_H
#define HUSK_TESTS_VSOCK_CLIENT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "tests/unit/vsock_guest.h"

#define PORT GUEST_LISTENS
#define READY_FROM 5000 /* the guest's port when it says that it listens */

struct client {
	struct loop *loop; /* stopped when the answer comes; may be NULL */
	int calls, fd;
	enum error_kind kind;
};

static inline void on_done(void *arg, int fd, const struct error *err)
{
	struct client *c = arg;

	c->calls++;
	c->fd = fd;
	c->kind = err ? err->kind : ERR_OTHER;
	if (c->loop)
		loop_stop(c->loop, 0);
}

static inline void connect_to(struct guest *g, struct client *c, uint64_t timeout_us)
{
	struct error err = ERROR_INIT;

	*c = (struct client){.fd = -1};
	assert_int_equal(vsock_connect(g->d, PORT, timeout_us, on_done, c, &err), 0);
	guest_spin(g);
}

/* The guest says that it listens, and takes the refusal. */
static inline void ready(struct guest *g)
{
	struct vsock_hdr h;

	guest_send(g, VSOCK_OP_REQUEST, VSOCK_PORT_READY, READY_FROM, 0, NULL, 0);
	guest_post_rx(g, 1, GUEST_RX_BYTES);
	guest_spin(g);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_RST);
	assert_int_equal(h.src_port, VSOCK_PORT_READY);
	assert_int_equal(h.dst_port, READY_FROM);
}

/* An open connection; returns the host's port. `rx` buffers stay posted. */
static inline uint32_t open_one(struct guest *g, struct client *c, unsigned rx)
{
	struct vsock_hdr h;

	guest_post_rx(g, 1, GUEST_RX_BYTES);
	connect_to(g, c, 0);
	assert_int_equal(guest_recv(g, &h, NULL), VSOCK_OP_REQUEST);
	assert_int_equal(h.dst_port, PORT);
	assert_int_equal(h.buf_alloc, VSOCK_BUF_BYTES);
	guest_send(g, VSOCK_OP_RESPONSE, h.src_port, PORT, 0, NULL, 0);
	assert_int_equal(c->calls, 1);
	assert_true(c->fd >= 0);
	set_nonblock(c->fd, true);
	if (rx)
		guest_post_rx(g, rx, GUEST_RX_BYTES);
	guest_spin(g);
	return h.src_port;
}

static inline uint64_t open_now(struct guest *g)
{
	struct vsock_stats s;

	vsock_stats(g->d, &s);
	return s.conns;
}

static inline ssize_t take(int fd, void *buf, size_t len)
{
	size_t got = 0;
	ssize_t n;

	while (got < len && (n = read(fd, (char *)buf + got, len - got)) > 0)
		got += (size_t)n;
	return (ssize_t)got;
}

static inline int setup(void **state)
{
	struct guest *g = xcalloc(1, sizeof(*g));

	log_setup(STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	guest_init(g);
	*state = g;
	return 0;
}

static inline int teardown(void **state)
{
	guest_destroy(*state);
	free(*state);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
