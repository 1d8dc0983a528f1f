/*
 * server.h - control connections: framed requests in, answers and events out.
 *
 * The transport is whatever listens: vsock in a guest, Unix sockets in tests.
 */
#ifndef HUSK_AGENT_SERVER_H
#define HUSK_AGENT_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"
#include "lib/loop.h"

#define SERVER_CONNS_MAX 1024

struct server;

/* Decides by its address whether a connection may be accepted. */
typedef bool (*server_peer_fn)(int conn);

struct server *server_new(struct loop *loop, struct error *err);
/* Starts to accept from two listening, non-blocking sockets, which it takes over. `peer` may be
 * NULL. */
int server_listen(struct server *s, int control, int stream, server_peer_fn peer,
		  struct error *err);
/* The same for a third: connections to the guest's localhost (forward.h), of the same peers. */
int server_forward(struct server *s, int forward, struct error *err);
/* Marks for `hello`: CLOCK_BOOTTIME in microseconds at PID 1's start and when it listened. */
void server_set_times(struct server *s, uint64_t kernel_us, uint64_t agent_us);
/* Starts a worker that finds what the host has put into slots (slots.h). */
int server_probe_slots(struct server *s, struct error *err);
/* Ends all connections, and kills what they own: for tests. */
void server_free(struct server *s);

#endif
