/*
 * request_network.h - the requests `network` and `resolver`, for request.c's table.
 */
#ifndef HUSK_AGENT_REQUEST_NETWORK_H
#define HUSK_AGENT_REQUEST_NETWORK_H

#include "agent/process.h"

int request_network(struct procs *set, void *client, struct proto_request *r, struct error *err);
int request_resolver(struct procs *set, void *client, struct proto_request *r, struct error *err);

/* What it asked for is still done. */
void network_requests_client_gone(struct procs *set, const void *client);
void network_requests_free(struct procs *set);

#endif
