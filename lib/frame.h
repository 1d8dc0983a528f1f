/*
 * frame.h - framed messages: a 4-byte big-endian length, then that many bytes of JSON.
 *
 * Used on the control socket of husk-vmm (Unix stream, fds ride on the length's first byte) and on
 * the agent's control connection (vsock). Design: docs/agent-protocol.md, docs/control-socket.md.
 */
#ifndef HUSK_LIB_FRAME_H
#define HUSK_LIB_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/fds.h"

#define FRAME_MAX (4u << 20)  /* bytes of one message */
#define FRAME_FDS_MAX FDS_MAX /* fds that may ride with one message */

/* Sends one message on a blocking or non-blocking stream socket; waits for room as long as it
 * takes. `fds` (may be NULL) are duplicated into the message and stay the caller's. */
int frame_send(int sock, const char *text, size_t len, const int *fds, unsigned nfds,
	       struct error *err);

/* The same, for a peer that may never read: gives up at `deadline_us` (ERR_TIMEOUT; 0: never) and
 * when `intr_fd` becomes readable, both as in frame_recv(). The stream is of no use then. */
int frame_send_until(int sock, const char *text, size_t len, const int *fds, unsigned nfds,
		     int intr_fd, uint64_t deadline_us, struct error *err);

/* Receives one message. *text is malloc'ed and NUL-terminated. Waits until `deadline_us`
 * (CLOCK_MONOTONIC microseconds, 0: forever), or until `intr_fd` (-1: none) becomes readable
 * (ERR_INTERRUPTED). Returns 1, or 0 at a clean end of stream. At most *nfds fds (CLOEXEC) are
 * stored and *nfds updated; surplus ones are closed. `fds` may be NULL. */
int frame_recv(int sock, char **text, size_t *len, int *fds, unsigned *nfds, int intr_fd,
	       uint64_t deadline_us, struct error *err);

/* ---- the same for an event loop: bytes in as they come, whole messages out */
struct frame_buf {
	char *data;
	size_t len, size;
	int fds[FRAME_FDS_MAX];
	unsigned nfds;
};

void frame_buf_free(struct frame_buf *b);
/* Reads what is there from non-blocking `sock`, at most one message's worth ahead. Returns 1 if
 * bytes came, 0 if none are there now, -1 with ERR_PEER at end of stream (errnum 0) or error. */
int frame_buf_fill(struct frame_buf *b, int sock, struct error *err);
/* Takes the first whole message: *text points into the buffer (NUL-terminated) and is valid until
 * frame_buf_done(). Returns 1, 0 if it is not whole yet, -1 if its length is out of bounds. */
int frame_buf_next(struct frame_buf *b, char **text, size_t *len, struct error *err);
/* Drops the message that frame_buf_next() gave, and closes fds that nobody took with
 * frame_buf_take_fd(). */
void frame_buf_done(struct frame_buf *b);
int frame_buf_take_fd(struct frame_buf *b); /* the first fd left, or -1 */

#endif
