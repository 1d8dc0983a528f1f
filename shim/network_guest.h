/*
 * network_guest.h - what the guest is told of its network: the members of the agent's request
 * `network` (docs/agent-protocol.md).
 */
#ifndef HUSK_SHIM_NETWORK_GUEST_H
#define HUSK_SHIM_NETWORK_GUEST_H

#include "lib/json.h"
#include "netns/config.h"
#include "shim/vmm_client.h"

struct network_sysctl {
	char *name; /* net/ipv4/conf/eth0/rp_filter */
	char *value;
};

struct network_guest {
	const struct net_config *config; /* the guest's share: network_reduce() */
	const struct vmm_nics *cards;
	struct network_sysctl *sysctls;
	size_t n_sysctls;
	bool resolver; /* the namespace has an engine's name server at 127.0.0.11 */
};

/* Reads from the calling thread's namespace what is not rtnetlink's: settings of the interfaces in
 * `g->config` that are not the namespace's default, and whether there is a name server. */
void network_guest_read(struct network_guest *g);
void network_guest_free(struct network_guest *g);
#define cleanup_network_guest __attribute__((cleanup(network_guest_free)))

/* Into the object that is open in `w`; `guest` is a struct network_guest. */
void network_guest_write(struct jsonw *w, const void *guest);

/* Pure. Whether the text of /proc/net/udp has a socket at 127.0.0.11. */
bool network_has_resolver(const char *proc_net_udp);

#endif
