/*
 * names.h - the guest's side of a name server that is the host's: 127.0.0.11, port 53, as
 * docs/network.md, "Name server", says.
 */
#ifndef HUSK_AGENT_NAMES_H
#define HUSK_AGENT_NAMES_H

#include <netinet/in.h>
#include <stdbool.h>

#include "agent/proto.h"
#include "agent/streams.h"
#include "lib/error.h"
#include "lib/loop.h"

#define NAMES_ADDRESS "127.0.0.11"
#define NAMES_PORT 53 /* that processes know */
#define NAMES_BEHIND                                                                               \
	62463		       /* that the agent listens on (redirect.h): one that nobody is given \
				*/
#define NAMES_CONNS_MAX 32     /* TCP clients at one time; more wait until they are accepted */
#define NAMES_IDLE_US 10000000 /* how long one may do nothing */
#define NAMES_PIPELINE_MAX 16  /* requests of one without answers */

struct names;

struct names *names_new(struct loop *loop, struct streams *streams);
void names_free(struct names *r); /* NULL is allowed */

/* Listens at this port of 127.0.0.11, UDP and TCP, from now on, or no more (0). Nothing changes if
 * it does so already. */
int names_serve(struct names *r, uint16_t port, struct error *err);

/* Makes the token of a new stream to the host; the stream that was open ends. Requests wait in
 * their sockets until it is opened. */
int names_stream(struct names *r, char token[PROTO_TOKEN_HEX + 1], struct error *err);

#endif
