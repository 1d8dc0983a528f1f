/*
 * streams.h - the relays between processes' stdio and the host's stream connections.
 *
 * A stream is made with its end of a pipe, or with a pty master, and gets a token; the host's
 * connection with that token is attached to it. Protocol: docs/agent-protocol.md, "Streams".
 */
#ifndef HUSK_AGENT_STREAMS_H
#define HUSK_AGENT_STREAMS_H

#include <stdint.h>

#include "agent/proto.h"
#include "lib/error.h"
#include "lib/loop.h"

#define STREAMS_MAX 8192	 /* streams of all processes */
#define STREAM_OPENERS_MAX 256	 /* connections that have not sent their token yet */
#define STREAM_TOKEN_US 10000000 /* ... and how long they may take */
#define STREAM_GRACE_US 10000000 /* how long output of an ended process waits to be fetched */
#define STREAM_KILLED_US 2000000 /* ... and how long that of a killed one may take altogether */

enum stream_kind {
	STREAM_IN,	/* host to process: the write end of a pipe */
	STREAM_OUT,	/* process to host: the read end of a pipe */
	STREAM_CONSOLE, /* both ways: a pty's master */
	STREAM_HANDED,	/* both ways: the connection itself is handed to who made the stream */
};

struct streams;
struct stream;

/* Called once, when the stream is over: its descriptors are closed, nothing more will pass. Not
 * called from within stream_free(). */
typedef void (*stream_done_fn)(void *arg);

struct streams *streams_new(struct loop *loop);
void streams_free(struct streams *set); /* every stream has been freed before */

/* Takes over a connection that a listener accepted: reads its token, then attaches it. A wrong or
 * used token ends the connection. */
void streams_accept(struct streams *set, int conn);

/* Makes a stream and its token. `fd` is taken over, also on failure; -1 for a console whose master
 * comes later by stream_set_master(). */
struct stream *stream_new(struct streams *set, enum stream_kind kind, int fd, stream_done_fn done,
			  void *arg, struct error *err);
void stream_set_master(struct stream *s, int fd);
/* A stream and its token for somebody who speaks to the host himself: `take` is called once with
 * the connection, which is his then (non-blocking), and may free the stream. */
typedef void (*stream_take_fn)(void *arg, int conn);
struct stream *stream_new_handed(struct streams *set, stream_take_fn take, void *arg,
				 struct error *err);
void stream_token(const struct stream *s, char text[PROTO_TOKEN_HEX + 1]);
/* Sets the console's window size in character cells. */
int stream_resize(struct stream *s, uint16_t width, uint16_t height, struct error *err);

/* The process has ended. stdin is over at once. Output is over when what is in the pipe or the pty
 * by now has been sent; if the host has never opened the stream it has `grace_us` to do so, after
 * which the output is dropped; a second call with 0 ends that wait. */
void stream_process_ended(struct stream *s, uint64_t grace_us);
/* Output is over `us` from now at the latest: what has not been taken by then is dropped. */
void stream_limit(struct stream *s, uint64_t us);
/* Ends a stream, whatever is left in it, and frees it. NULL is allowed. */
void stream_free(struct stream *s);

#endif
