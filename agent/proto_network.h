/*
 * proto_network.h - the members of `network`, for proto.c alone.
 */
#ifndef HUSK_AGENT_PROTO_NETWORK_H
#define HUSK_AGENT_PROTO_NETWORK_H

#include "agent/proto.h"
#include "lib/json.h"

int proto_network_parse(yajl_val tree, struct proto_network **out, struct error *err);
void proto_network_free(struct proto_network *n); /* NULL is allowed */

#endif
