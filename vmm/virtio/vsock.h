/*
 * vsock.h - host side of the virtio-vsock device: streams to the guest as socket pairs.
 *
 * Only the host opens connections. The guest may open one thing: a connection request to host
 * port VSOCK_PORT_READY says that its agent listens; it is answered with RST, and from then on
 * connects go out at once. Until then vsock_connect() keeps them waiting. A request to
 * VSOCK_PORT_LATE says that it has time for devices it could do without so far, and is answered
 * with RST when they are there.
 *
 * Streams outlive a pause of the machine (its queues stop and go on where they were) and end when
 * the guest's driver starts anew. An open stream takes one file descriptor of this process.
 */
#ifndef HUSK_VMM_VSOCK_H
#define HUSK_VMM_VSOCK_H

#include "vmm/device.h"

#define VSOCK_GUEST_CID 3
#define VSOCK_PORT_READY 1023 /* guest -> host: "I listen" */
#define VSOCK_PORT_LATE 1022  /* guest -> host: "what else is there?" */
#define VSOCK_PORT_CONTROL 1024
#define VSOCK_PORT_STREAM 1025
#define VSOCK_CONNS_MAX 4096	     /* connections of a VM */
#define VSOCK_BUF_BYTES (256u << 10) /* receive buffer of a connection, at most */

typedef void (*vsock_done_fn)(void *arg, int fd, const struct error *err);

/* Opens a stream to guest port `port`. `done` is called once, from the loop: with a connected
 * blocking-mode stream socket that the callee owns, or with -1 and the error (refused by the
 * guest, device gone, deadline passed). `timeout_us` counts from now and includes the wait for the
 * agent; 0: no limit. */
int vsock_connect(struct virtio_device *d, uint32_t port, uint64_t timeout_us, vsock_done_fn done,
		  void *arg, struct error *err);

/* From the loop: `ready` once, when the guest first says that it listens; `late` each time that it
 * asks for late devices. Both may be NULL. */
void vsock_on_ready(struct virtio_device *d, void (*ready)(void *arg), void (*late)(void *arg),
		    void *arg);

struct vsock_stats {
	uint64_t conns, tx_bytes, rx_bytes; /* open now; guest to host; host to guest */
};
void vsock_stats(struct virtio_device *d, struct vsock_stats *s);

#endif
