/*
 * vsock_conn.h - one vsock connection as a state machine: no sockets, no queues, no memory.
 *
 * The machine says what the next control packet is, how many bytes may be sent, and what a packet
 * from the guest means. Its owner (vsock_stream.c) moves the bytes. See vsock_conn.c for how it
 * works.
 */
#ifndef HUSK_VMM_VIRTIO_VSOCK_CONN_H
#define HUSK_VMM_VIRTIO_VSOCK_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/vsock_packet.h"

enum vsock_state {
	VSOCK_WAITING,	  /* our REQUEST has not been sent: the guest knows nothing */
	VSOCK_CONNECTING, /* REQUEST sent */
	VSOCK_OPEN,	  /* RESPONSE received */
	VSOCK_FINISHED,	  /* RST sent or received: the guest knows nothing any more */
};

struct vsock_conn {
	enum vsock_state state;
	uint32_t local_port, peer_port;
	uint64_t peer_cid;

	/* guest to host: our promise */
	uint32_t buf_alloc; /* bytes that we buffer for the client at most */
	uint32_t rx_cnt;    /* bytes received */
	uint32_t fwd_cnt;   /* of these, bytes that the client has taken */
	uint32_t told_fwd;  /* fwd_cnt as the guest knows it */

	/* host to guest: the guest's promise */
	uint32_t peer_buf_alloc, peer_fwd_cnt;
	uint32_t tx_cnt; /* bytes sent */

	uint8_t peer_shut; /* VSOCK_SHUT_* that the guest announced */
	uint8_t our_shut;  /* that we want to announce */
	uint8_t sent_shut; /* that we have announced */
	bool credit_due;   /* a CREDIT_UPDATE is to be sent */
	bool rst_due;	   /* a RST is to be sent: nothing else will be */
};

/* What a packet from the guest means to the owner of the connection. */
enum vsock_event {
	VSOCK_EV_NONE,	   /* at most, credit or a control packet is due now */
	VSOCK_EV_OPENED,   /* RESPONSE: the connection is open */
	VSOCK_EV_REFUSED,  /* RST came instead */
	VSOCK_EV_DATA,	   /* h->len bytes of payload, already counted as received */
	VSOCK_EV_SHUTDOWN, /* peer_shut grew */
	VSOCK_EV_GONE,	   /* RST: the guest has forgotten the connection */
	VSOCK_EV_BROKEN,   /* the guest broke the protocol: a RST is due */
};

void vsock_conn_init(struct vsock_conn *c, uint64_t peer_cid, uint32_t local_port,
		     uint32_t peer_port, uint32_t buf_alloc);

/* Takes the header `h` (host order) of a packet for this connection, which is CONNECTING or OPEN.
 * The caller has checked addresses, type, and that h->len bytes of payload are there. */
enum vsock_event vsock_conn_input(struct vsock_conn *c, const struct vsock_hdr *h);

/* The client took (or will never want) `n` of the bytes received. */
void vsock_conn_forwarded(struct vsock_conn *c, uint32_t n);
/* We will not send (after the last byte was sent) or not receive any more: VSOCK_SHUT_*. */
void vsock_conn_shutdown(struct vsock_conn *c, uint8_t flags);
/* Ends it with a RST. Without effect when the guest knows nothing of it. */
void vsock_conn_abort(struct vsock_conn *c);

/* The control packet to send next, VSOCK_OP_INVALID if none is due. It goes before any data. */
enum vsock_op vsock_conn_due(const struct vsock_conn *c);
/* Bytes of data that may be sent now. */
uint32_t vsock_conn_window(const struct vsock_conn *c);
/* Fills the header (little-endian, ready for the guest) of a packet that is sent for certain:
 * what vsock_conn_due() said, or VSOCK_OP_RW with `len` <= vsock_conn_window(). */
void vsock_conn_output(struct vsock_conn *c, enum vsock_op op, uint32_t len, struct vsock_hdr *h);

#endif
