/*
 * resolver.h - the guest's side of a name server that is the host's: 127.0.0.11, port 53, as
 * docs/network.md, "Name server", says.
 */
#ifndef HUSK_AGENT_RESOLVER_H
#define HUSK_AGENT_RESOLVER_H

#include <netinet/in.h>
#include <stdbool.h>

#include "agent/proto.h"
#include "agent/streams.h"
#include "lib/error.h"
#include "lib/loop.h"

#define RESOLVER_ADDRESS "127.0.0.11"
#define RESOLVER_PORT 53
#define RESOLVER_CONNS_MAX 32	  /* TCP clients at one time; more wait until they are accepted */
#define RESOLVER_IDLE_US 10000000 /* how long one may do nothing */
#define RESOLVER_PIPELINE_MAX 16  /* requests of one without answers */

struct resolver;

struct resolver *resolver_new(struct loop *loop, struct streams *streams);
void resolver_free(struct resolver *r); /* NULL is allowed */

/* Listens, UDP and TCP, from now on, or no more. Nothing changes if it does so already. */
int resolver_serve(struct resolver *r, bool on, struct error *err);
/* The same at an address that is not the usual one: for tests. */
int resolver_listen(struct resolver *r, const struct sockaddr_in *at, struct error *err);

/* Makes the token of a new stream to the host; the stream that was open ends. Requests wait in
 * their sockets until it is opened. */
int resolver_stream(struct resolver *r, char token[PROTO_TOKEN_HEX + 1], struct error *err);

#endif
