/*
 * vsock_packet.h - the wire format of virtio-vsock (virtio 1.2 §5.10.6).
 */
#ifndef HUSK_VMM_VIRTIO_VSOCK_PACKET_H
#define HUSK_VMM_VIRTIO_VSOCK_PACKET_H

#include <endian.h>
#include <stdint.h>

#define VSOCK_HOST_CID 2

#define VSOCK_F_STREAM 0 /* feature bit: stream sockets */

#define VSOCK_QUEUE_RX 0 /* host to guest: the driver's names */
#define VSOCK_QUEUE_TX 1
#define VSOCK_QUEUE_EVENT 2

#define VSOCK_TYPE_STREAM 1

enum vsock_op {
	VSOCK_OP_INVALID = 0,
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

/* Flags of VSOCK_OP_SHUTDOWN: what the sender of the packet will not do any more. */
#define VSOCK_SHUT_RCV 1u
#define VSOCK_SHUT_SEND 2u
#define VSOCK_SHUT_BOTH 3u

struct vsock_hdr {
	uint64_t src_cid;
	uint64_t dst_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t len; /* payload bytes after the header */
	uint16_t type;
	uint16_t op;
	uint32_t flags;
	uint32_t buf_alloc; /* the sender's receive buffer for this stream, in bytes */
	uint32_t fwd_cnt;   /* bytes that the sender's user has taken from it, modulo 2^32 */
} __attribute__((packed));

#define VSOCK_HDR_BYTES 44
_Static_assert(sizeof(struct vsock_hdr) == VSOCK_HDR_BYTES, "virtio_vsock_hdr");

/* Little-endian to host order, or back: the same operation. */
static inline void vsock_hdr_swap(struct vsock_hdr *h)
{
	h->src_cid = le64toh(h->src_cid);
	h->dst_cid = le64toh(h->dst_cid);
	h->src_port = le32toh(h->src_port);
	h->dst_port = le32toh(h->dst_port);
	h->len = le32toh(h->len);
	h->type = le16toh(h->type);
	h->op = le16toh(h->op);
	h->flags = le32toh(h->flags);
	h->buf_alloc = le32toh(h->buf_alloc);
	h->fwd_cnt = le32toh(h->fwd_cnt);
}

#endif
