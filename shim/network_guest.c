#include "shim/network_guest.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/config_json.h"
#include "shim/network_plan.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <string.h>

#define RESOLVER "127.0.0.11"
#define PROC_MAX (4u << 20)

/* ---- sysctls of interfaces
 *
 * Those that an administrator, an engine or a CNI plugin ("tuning") sets and that say how the
 * interface's owner deals with its frames. What is told by rtnetlink (addr_gen_mode, mtu) is not
 * here, nor what is counted or learned. */

static const char *const conf4[] = {
	"accept_local",	       "accept_redirects", "accept_source_route", "arp_accept",
	"arp_announce",	       "arp_filter",	   "arp_ignore",	  "arp_notify",
	"disable_policy",      "disable_xfrm",	   "forwarding",	  "log_martians",
	"promote_secondaries", "proxy_arp",	   "proxy_arp_pvlan",	  "route_localnet",
	"rp_filter",	       "secure_redirects", "send_redirects",	  "shared_media",
	"src_valid_mark",
};

static const char *const conf6[] = {
	"accept_dad",		"accept_ra",
	"accept_ra_defrtr",	"accept_ra_from_local",
	"accept_ra_pinfo",	"accept_ra_rt_info_max_plen",
	"accept_ra_rtr_pref",	"accept_redirects",
	"accept_source_route",	"autoconf",
	"dad_transmits",	"disable_ipv6",
	"forwarding",		"hop_limit",
	"keep_addr_on_down",	"max_addresses",
	"ndisc_notify",		"proxy_ndp",
	"router_solicitations", "use_tempaddr",
};

static const char *const neigh[] = {
	"app_solicit",	 "base_reachable_time_ms", "delay_first_probe_time", "gc_stale_time",
	"mcast_solicit", "retrans_time_ms",	   "ucast_solicit",	     "unres_qlen_bytes",
};

static const struct {
	const char *dir;
	const char *const *names;
	size_t n;
} sets[] = {
	{"net/ipv4/conf", conf4, ARRAY_LEN(conf4)},
	{"net/ipv6/conf", conf6, ARRAY_LEN(conf6)},
	{"net/ipv4/neigh", neigh, ARRAY_LEN(neigh)},
	{"net/ipv6/neigh", neigh, ARRAY_LEN(neigh)},
};

/* The value at "DIR/INTERFACE/NAME" below `proc_sys` into `v`. */
static bool read_value(int proc_sys, const char *dir, const char *interface, const char *name,
		       char v[64])
{
	char path[128];
	cleanup_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s/%s", dir, interface, name);
	fd = openat(proc_sys, path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, v, 63);
	if (n <= 0)
		return false;
	v[n] = '\0';
	v[strcspn(v, "\n")] = '\0';
	return true;
}

static void add(struct network_guest *g, char *name, const char *value)
{
	g->sysctls = realloc(g->sysctls, (g->n_sysctls + 1) * sizeof(*g->sysctls));
	if (!g->sysctls)
		abort();
	g->sysctls[g->n_sysctls++] = (struct network_sysctl){.name = name, .value = xstrdup(value)};
}

static void read_set(struct network_guest *g, int proc_sys, size_t set, const char *name)
{
	char usual[64], v[64];

	if (!read_value(proc_sys, sets[set].dir, "default", name, usual))
		return;
	for (size_t i = 0; i < g->config->n_links; i++) {
		const struct net_link *l = &g->config->links[i];

		if (l->kind == NET_KIND_LOOPBACK ||
		    !read_value(proc_sys, sets[set].dir, l->name, name, v) || strcmp(v, usual) == 0)
			continue;
		add(g, xasprintf("%s/%s/%s", sets[set].dir, l->name, name), v);
	}
}

/* ---- the name server */

bool network_has_resolver(const char *proc_net_udp)
{
	char local[32];

	snprintf(local, sizeof(local), ": %08X:", (unsigned)inet_addr(RESOLVER));
	return strstr(proc_net_udp, local) != NULL;
}

void network_guest_read(struct network_guest *g)
{
	cleanup_close int proc_sys = open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_free char *udp = NULL;

	for (size_t set = 0; proc_sys >= 0 && set < ARRAY_LEN(sets); set++)
		for (size_t i = 0; i < sets[set].n; i++)
			read_set(g, proc_sys, set, sets[set].names[i]);
	if (file_read(AT_FDCWD, "/proc/thread-self/net/udp", PROC_MAX, &udp, NULL, NULL) == 0)
		g->resolver = network_has_resolver(udp);
}

void network_guest_free(struct network_guest *g)
{
	for (size_t i = 0; i < g->n_sysctls; i++) {
		free(g->sysctls[i].name);
		free(g->sysctls[i].value);
	}
	free(g->sysctls);
	*g = (struct network_guest){0};
}

/* ---- the request */

static void write_cards(struct jsonw *w, const struct network_guest *g)
{
	jsonw_key(w, "cards");
	jsonw_arr(w);
	for (unsigned i = 0; i < g->cards->n; i++) {
		unsigned link = network_card_link(g->cards->v[i].id);
		const uint8_t *m = g->cards->v[i].mac;
		char mac[18];

		if (!link || !net_config_link(g->config, link))
			continue;
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3],
			 m[4], m[5]);
		jsonw_obj(w);
		jsonw_kint(w, "link", link);
		jsonw_kstr(w, "mac", mac);
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}

void network_guest_write(struct jsonw *w, const void *guest)
{
	const struct network_guest *g = guest;

	net_config_write(w, g->config);
	write_cards(w, g);
	jsonw_key(w, "sysctls");
	jsonw_obj(w);
	for (size_t i = 0; i < g->n_sysctls; i++)
		jsonw_kstr(w, g->sysctls[i].name, g->sysctls[i].value);
	jsonw_end_obj(w);
	jsonw_kbool(w, "resolver", g->resolver);
}
