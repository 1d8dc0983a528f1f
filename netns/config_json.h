/*
 * config_json.h - a net_config as JSON, and back: what the host sends to the guest's agent
 * (docs/agent-protocol.md, "network").
 */
#ifndef HUSK_NETNS_CONFIG_JSON_H
#define HUSK_NETNS_CONFIG_JSON_H

#include "lib/error.h"
#include "lib/json.h"
#include "netns/config.h"

/* The members "links", "routes", "rules", "neighbours" of the object that is open in `w`. */
void net_config_write(struct jsonw *w, const struct net_config *c);
/* The same of a JSON object. ERR_INVALID names the member ("routes[2].gateway: ..."). Everything is
 * checked: families, lengths of prefixes, bounds, that indexes are those of `links`. */
int net_config_read(yajl_val v, struct net_config *c, struct error *err);

#endif
