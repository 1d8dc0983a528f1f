/*
 * vsock_dev.h - what the files of the vsock device share; vsock.h is for everybody else.
 *
 *	vsock.c         the device: queues, packets from the guest, connects and deadlines
 *	vsock_stream.c  a connection's socket, its buffer, its life
 *	vsock_rx.c      packets to the guest
 *	vsock_conn.c    the state machine of a connection
 */
#ifndef HUSK_VMM_VIRTIO_VSOCK_DEV_H
#define HUSK_VMM_VIRTIO_VSOCK_DEV_H

#include "vmm/virtio/vsock.h"
#include "vmm/virtio/vsock_conn.h"

#define VSOCK_HASH 512	  /* buckets of local ports; a power of two */
#define VSOCK_RST_MAX 128 /* RSTs waiting for packets that belong to no connection */

/* Bytes that all connections together may buffer. Each gets its share when it is made (see
 * grant() in vsock_stream.c), and at least the minimum: the bound of a VM is
 * VSOCK_POOL_BYTES + VSOCK_CONNS_MAX * VSOCK_BUF_MIN. */
#define VSOCK_POOL_BYTES (64u << 20)
#define VSOCK_BUF_MIN (16u << 10)

/* How long a guest may take to answer our SHUTDOWN before its answer does not matter any more.
 * Linux answers at once, or when the last byte was read and the socket closed. */
#define VSOCK_CLOSE_US (10u * 1000000)

struct vsock_dev;

struct vsock_stream {
	struct vsock_conn c;
	struct vsock_dev *d;
	struct vsock_stream *prev, *next;	      /* all streams */
	struct vsock_stream *hash_next;		      /* same bucket */
	struct vsock_stream *ready_prev, *ready_next; /* in d->ready: has something to send */
	bool queued;				      /* it is in that list */

	int sock; /* our end; the client has the other. -1: not open yet, or closed */
	struct loop_source *src;
	uint32_t events; /* what src watches for */
	bool readable;	 /* sock may have bytes or an end of stream */
	bool eof;	 /* the client's last byte has gone to the guest, or is unwanted */
	bool gone;	 /* the client takes no more bytes: they are dropped */
	bool shut_wr;	 /* sock is shut for writing: the client has seen the end */
	unsigned batch;	 /* guest buffers to read into at once: grows while they are filled */

	uint8_t *buf; /* ring of c.buf_alloc bytes that wait for the client; NULL: empty */
	uint32_t buf_head, buf_len;

	struct vsock_stream *late_next; /* scratch: a list of those to end */
	uint64_t deadline;		/* of the connect, then of the close; 0: none */
	vsock_done_fn done;
	void *arg;
};

struct vsock_rst {
	uint32_t local_port, peer_port;
	uint16_t type;
};

struct vsock_dev {
	struct virtio_device vd;
	struct loop_source *kick[2];
	bool running[2];
	bool stopped_before;
	uint16_t stopped_at[2]; /* last_avail of the queues when they were stopped */

	bool ready; /* the guest listens */
	bool ready_told;
	void (*on_ready)(void *arg);
	void (*on_late)(void *arg); /* the same argument */
	void *on_ready_arg;

	struct vsock_stream *streams, *hash[VSOCK_HASH];
	struct vsock_stream *ready_head, *ready_tail;
	uint64_t nstreams;
	uint64_t granted; /* sum of buf_alloc */
	uint32_t next_port;
	uint8_t *spare; /* one ring buffer of VSOCK_BUF_BYTES kept for reuse */

	struct vsock_rst rst[VSOCK_RST_MAX];
	unsigned rst_first, rst_n;

	struct loop_source *timer;
	uint64_t timer_at;

	int wake_fd; /* eventfd: go on in the next round of the loop */
	struct loop_source *wake;
	bool busy; /* in the pump or in a batch of the guest's packets */

	uint64_t tx_bytes, rx_bytes;
	struct vq_chain chain; /* scratch */
};

static inline struct vsock_dev *vsock_of(struct virtio_device *d)
{
	return (struct vsock_dev *)d;
}

/* ---- vsock.c */
/* Has vsock_turn() called again from the loop. */
void vsock_wake(struct vsock_dev *d);
/* Sees to it that deadlines are looked at no later than `at` (now_us() time). */
int vsock_arm(struct vsock_dev *d, uint64_t at, struct error *err);

/* ---- vsock_stream.c */
struct vsock_stream *vsock_stream_new(struct vsock_dev *d, uint32_t peer_port, struct error *err);
/* Unlinks, closes and frees. Does not call `done`. */
void vsock_stream_free(struct vsock_stream *s);
struct vsock_stream *vsock_stream_find(struct vsock_dev *d, uint32_t local_port,
				       uint32_t peer_port);
/* The guest accepted: makes the socket pair and hands one end to the client. */
void vsock_stream_open(struct vsock_stream *s);
/* Calls `done` with an error, if it was not called yet. */
void vsock_stream_fail(struct vsock_stream *s, enum error_kind kind, const char *why);
/* Passes `len` bytes of guest memory on to the client; buffers what its socket does not take. */
void vsock_stream_deliver(struct vsock_stream *s, struct iovec *iov, unsigned n, uint32_t len);
/* Drops the client: it sees the end of the stream. The connection itself goes on. */
void vsock_stream_drop_client(struct vsock_stream *s);
/* Draws the conclusions from a change of state: queues the stream for sending, sets the events it
 * waits for, and frees it when nothing is left to do. Call last: the stream may be gone. */
void vsock_stream_settle(struct vsock_stream *s);
void vsock_stream_set_events(struct vsock_stream *s);
void vsock_stream_queue(struct vsock_stream *s);
void vsock_stream_unqueue(struct vsock_stream *s);
/* Whether there may be something to send for it now. */
bool vsock_stream_has_work(const struct vsock_stream *s);

/* ---- vsock_rx.c */
/* Sends what is due and what fits. Safe to call at any time, from within itself too. */
void vsock_pump(struct vsock_dev *d);
/* Remembers to answer a packet that belongs to no connection with a RST. */
void vsock_rst_later(struct vsock_dev *d, uint32_t local_port, uint32_t peer_port, uint16_t type);

#endif
