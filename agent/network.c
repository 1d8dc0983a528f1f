/*
 * network.c - cards become the container's links.
 *
 * The host says which card is which link by the address that the card's driver gave it at first:
 * the kernel remembers that (IFLA_PERM_ADDRESS), whatever address the interface got afterwards. A
 * card that is not there yet is in a slot that has to be asked for its device (slots.c); that call
 * returns when the interface is there, so that nothing waits for time to pass.
 *
 * A card that is in no link loses its driver, and with it its interface. On engine kvm the host
 * then detaches it and the slot is empty; on engine qemu the card waits in its slot until it is
 * some link's, or until somebody who looks for a disk asks all slots. So spares are hidden again
 * before a container begins.
 *
 * The rest is a difference between what was told before and what is told now (netns/apply.h). Of a
 * link whose interface is another one than before, or has gone, nothing that was told holds any
 * more.
 */
#include "agent/network.h"
#include "agent/slots.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/apply.h"
#include "netns/locals.h"
#include "netns/tap.h"

#include <fcntl.h>
#include <net/if_arp.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

#define RESERVED_PORTS "/proc/sys/net/ipv4/ip_local_reserved_ports"

struct place {
	unsigned link;	  /* index, as the host counts */
	unsigned ifindex; /* of the interface here */
};

struct places {
	struct place *list;
	size_t n;
};

/* A card that was there at the boot. */
struct spare {
	uint8_t mac[6]; /* its driver's */
	char slot[SLOT_NAME_MAX + 1];
};

struct network {
	bool guest; /* PID 1: a test's machine keeps its cards */
	bool begun;
	struct spare *spares;
	size_t n_spares;
	int hiding; /* its end is that of the process that hides them; -1: none */
	struct net_config told;
	struct places places; /* of the links of `told` */
	struct proto_sysctl *sysctls;
	size_t n_sysctls;
};

static void sysctls_free(struct proto_sysctl *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(list[i].name);
		free(list[i].value);
	}
	free(list);
}

struct network *network_new(void)
{
	struct network *n = xcalloc(1, sizeof(*n));

	n->guest = getpid() == 1;
	n->hiding = -1;
	return n;
}

void network_free(struct network *n)
{
	if (!n)
		return;
	net_config_free(&n->told);
	free(n->places.list);
	free(n->spares);
	close_fd(&n->hiding);
	sysctls_free(n->sysctls, n->n_sysctls);
	free(n);
}

static unsigned ifindex_of(const struct places *p, unsigned link)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->list[i].link == link)
			return p->list[i].ifindex;
	return 0;
}

/* ---- cards */

struct cards {
	struct net_local *list;
	size_t n;
};

static int look(struct rtnl *nl, struct cards *c, struct error *err)
{
	free(c->list);
	*c = (struct cards){0};
	return net_locals(nl, &c->list, &c->n, err);
}

static const struct net_local *card_with(const struct cards *c, const uint8_t mac[6])
{
	for (size_t i = 0; i < c->n; i++)
		if (c->list[i].has_own_mac && memcmp(c->list[i].own_mac, mac, 6) == 0)
			return &c->list[i];
	return NULL;
}

/* The first card that is not there; NULL: all are. */
static const struct proto_card *missing(const struct proto_network *want, const struct cards *c)
{
	for (size_t i = 0; i < want->n_cards; i++)
		if (!card_with(c, want->cards[i].mac))
			return &want->cards[i];
	return NULL;
}

/* Asks the slots of cards that were there at the boot. True if there was one to ask. */
static bool bind_spares(const struct network *n, const struct proto_network *want,
			const struct cards *c)
{
	bool any = false;

	for (size_t i = 0; i < want->n_cards; i++)
		for (size_t k = 0; k < n->n_spares; k++)
			if (memcmp(n->spares[k].mac, want->cards[i].mac, 6) == 0 &&
			    !card_with(c, want->cards[i].mac)) {
				slot_bind(n->spares[k].slot);
				any = true;
			}
	return any;
}

static void hide(const struct net_local *card)
{
	cleanup_free char *path = xasprintf("/sys/class/net/%s", card->name);
	char slot[SLOT_NAME_MAX + 1];
	struct error err = ERROR_INIT;

	if (slot_of(path, slot, &err) == 0 && slot_unbind(slot, &err) == 0)
		return;
	/* What is in no slot is the container's own: a bridge, a veth. */
	if (err.kind != ERR_UNSUPPORTED)
		log_error("network card %s: %s", card->name, err.msg);
}

static bool is_placed(const struct places *p, unsigned ifindex)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->list[i].ifindex == ifindex)
			return true;
	return false;
}

static void hide_others(const struct network *n, const struct cards *c, const struct places *p)
{
	for (size_t i = 0; n->guest && i < c->n; i++)
		if (c->list[i].type == ARPHRD_ETHER && !is_placed(p, c->list[i].index))
			hide(&c->list[i]);
}

/* A card that becomes another link's than before begins anew: nothing of the one stays with the
 * other. True if there was one. */
static bool renew(const struct network *n, const struct proto_network *want, const struct cards *c)
{
	bool any = false;

	for (size_t i = 0; n->guest && i < want->n_cards; i++) {
		const struct net_local *card = card_with(c, want->cards[i].mac);

		if (!card || !is_placed(&n->places, card->index) ||
		    ifindex_of(&n->places, want->cards[i].link) == card->index)
			continue;
		hide(card);
		any = true;
	}
	return any;
}

/* Looks until all cards are there, or for CARD_WAIT_US: then the error names one that is not. */
static int await_cards(const struct network *n, const struct proto_network *want, struct rtnl *nl,
		       struct cards *c, struct error *err)
{
	uint64_t deadline = now_us() + CARD_WAIT_US;
	unsigned long pause = 0;

	if (look(nl, c, err) < 0)
		return -1;
	if (renew(n, want, c) && look(nl, c, err) < 0)
		return -1;
	if (bind_spares(n, want, c) && look(nl, c, err) < 0)
		return -1;
	for (;;) {
		const struct proto_card *m = missing(want, c);
		const struct net_link *l;

		if (!m)
			return 0;
		slots_probe();
		if (look(nl, c, err) < 0)
			return -1;
		m = missing(want, c);
		if (!m)
			return 0;
		l = net_config_link(&want->config, m->link);
		if (now_us() >= deadline)
			return error_kind(err, ERR_TIMEOUT,
					  "link %s: no network card %02x:%02x:%02x:%02x:%02x:%02x "
					  "came in %d s",
					  l ? l->name : "?", m->mac[0], m->mac[1], m->mac[2],
					  m->mac[3], m->mac[4], m->mac[5], CARD_WAIT_US / 1000000);
		slots_pause(&pause);
	}
}

/* ---- cards of the boot */

static void remember_spares(struct network *n, const struct cards *c)
{
	n->spares = xcalloc(c->n + 1, sizeof(*n->spares));
	for (size_t i = 0; i < c->n; i++) {
		cleanup_free char *path = xasprintf("/sys/class/net/%s", c->list[i].name);
		struct spare *s = &n->spares[n->n_spares];

		if (!c->list[i].has_own_mac || slot_of(path, s->slot, NULL) < 0)
			continue;
		memcpy(s->mac, c->list[i].own_mac, sizeof(s->mac));
		n->n_spares++;
	}
}

static void __attribute__((noreturn)) hide_spares(const struct network *n, int end)
{
	/* Connections of the agent are not to be kept open here. */
	if (dup2(end, STDERR_FILENO + 1) < 0 ||
	    syscall(SYS_close_range, STDERR_FILENO + 2, ~0U, 0) < 0)
		_exit(1);
	for (size_t i = 0; i < n->n_spares; i++)
		slot_unbind(n->spares[i].slot, NULL);
	_exit(0);
}

void network_begin(struct network *n)
{
	cleanup_rtnl struct rtnl *nl = NULL;
	cleanup_close int end = -1;
	struct cards c = {0};
	pid_t pid;

	if (n->begun || !n->guest)
		return;
	n->begun = true;
	nl = rtnl_open(NULL);
	if (nl && look(nl, &c, NULL) == 0)
		remember_spares(n, &c);
	free(c.list);
	if (n->n_spares == 0 || pipe_make(&n->hiding, &end, NULL) < 0)
		return;
	pid = fork();
	if (pid == 0)
		hide_spares(n, end);
}

/* True if the process is over. (If there was none, its end of the pipe is closed, too.) */
static bool await_hidden(const struct network *n, int wait_ms)
{
	struct pollfd p = {.fd = n->hiding, .events = POLLIN};
	int r;

	if (n->hiding < 0)
		return true;
	do
		r = poll(&p, 1, wait_ms);
	while (r < 0 && errno == EINTR);
	return r > 0;
}

int *network_hiding(struct network *n)
{
	return &n->hiding;
}

/* A card that becomes another link's than before has to be renewed. */
static bool any_moved(const struct network *n, const struct proto_network *want,
		      const struct cards *c)
{
	for (size_t i = 0; n->guest && i < want->n_cards; i++) {
		const struct net_local *card = card_with(c, want->cards[i].mac);

		if (card && is_placed(&n->places, card->index) &&
		    ifindex_of(&n->places, want->cards[i].link) != card->index)
			return true;
	}
	return false;
}

bool network_is_there(const struct network *n, const struct proto_network *want)
{
	cleanup_rtnl struct rtnl *nl = NULL;
	struct cards c = {0};
	bool there;

	if (!await_hidden(n, 0))
		return false;
	nl = rtnl_open(NULL);
	there = nl && look(nl, &c, NULL) == 0 && !missing(want, &c) && !any_moved(n, want, &c);
	free(c.list);
	return there;
}

int network_await(const struct network *n, const struct proto_network *want, struct error *err)
{
	cleanup_rtnl struct rtnl *nl = rtnl_open(err);
	struct cards c = {0};
	uint64_t t = now_us();
	int r;

	if (!nl)
		return -1;
	await_hidden(n, CARD_WAIT_US / 1000);
	t = log_elapsed("network: spare cards", t);
	r = await_cards(n, want, nl, &c, err);
	log_elapsed("network: cards", t);
	free(c.list);
	return r;
}

static unsigned loopback(const struct cards *c)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->list[i].type == ARPHRD_LOOPBACK)
			return c->list[i].index;
	return 0;
}

static void place_loopback(struct places *p, const struct net_config *of, const struct cards *c)
{
	for (size_t i = 0; i < of->n_links; i++)
		if (of->links[i].type == ARPHRD_LOOPBACK && !ifindex_of(p, of->links[i].index))
			p->list[p->n++] = (struct place){of->links[i].index, loopback(c)};
}

/* Of the links that are wanted, and of a loopback that was told before. */
static struct places find_places(const struct network *n, const struct proto_network *want,
				 const struct cards *c)
{
	size_t max = want->n_cards + want->config.n_links + n->told.n_links;
	struct places p = {.list = xcalloc(max + 1, sizeof(*p.list))};

	for (size_t i = 0; i < want->n_cards; i++) {
		const struct net_local *card = card_with(c, want->cards[i].mac);

		if (card)
			p.list[p.n++] = (struct place){want->cards[i].link, card->index};
	}
	place_loopback(&p, &want->config, c);
	place_loopback(&p, &n->told, c);
	return p;
}

/* ---- what was told and does not hold any more */

static bool goes_through(const struct net_route *r, unsigned link)
{
	for (size_t i = 0; i < r->n_nexthops; i++)
		if (r->nexthops[i].link == link)
			return true;
	return false;
}

static void forget_sysctls(struct network *n, const char *interface)
{
	cleanup_free char *part = xasprintf("/%s/", interface);
	size_t kept = 0;

	for (size_t i = 0; i < n->n_sysctls; i++) {
		if (!strstr(n->sysctls[i].name, part)) {
			n->sysctls[kept++] = n->sysctls[i];
			continue;
		}
		free(n->sysctls[i].name);
		free(n->sysctls[i].value);
	}
	n->n_sysctls = kept;
}

static void forget_link(struct network *n, size_t at)
{
	struct net_config *c = &n->told;
	unsigned link = c->links[at].index;
	size_t kept = 0;

	forget_sysctls(n, c->links[at].name);
	free(c->links[at].addresses);
	c->n_links--;
	memmove(&c->links[at], &c->links[at + 1], (c->n_links - at) * sizeof(*c->links));
	for (size_t i = 0; i < c->n_routes; i++)
		if (goes_through(&c->routes[i], link))
			free(c->routes[i].nexthops);
		else
			c->routes[kept++] = c->routes[i];
	c->n_routes = kept;
	kept = 0;
	for (size_t i = 0; i < c->n_neighbours; i++)
		if (c->neighbours[i].link != link)
			c->neighbours[kept++] = c->neighbours[i];
	c->n_neighbours = kept;
}

static void forget_moved(struct network *n, const struct places *now, const struct cards *c)
{
	for (size_t i = 0; i < n->told.n_links;) {
		unsigned link = n->told.links[i].index;
		unsigned before = ifindex_of(&n->places, link);
		bool there = false;

		for (size_t k = 0; k < c->n; k++)
			there |= c->list[k].index == before;
		if (!there || ifindex_of(now, link) != before)
			forget_link(n, i);
		else
			i++;
	}
}

/* ---- sysctls */

static const char *told_value(const struct network *n, const char *name)
{
	for (size_t i = 0; i < n->n_sysctls; i++)
		if (strcmp(n->sysctls[i].name, name) == 0)
			return n->sysctls[i].value;
	return NULL;
}

static int write_sysctl(const char *name, const char *value, struct error *err)
{
	cleanup_free char *path = xasprintf("/proc/sys/%s", name);
	struct error e = ERROR_INIT;

	if (file_put(AT_FDCWD, path, value, &e) == 0 || e.errnum == ENOENT)
		return 0;
	if (err)
		*err = e;
	return -1;
}

/* A link without IPv6 whose MTU would allow it. */
static bool without_ipv6(const struct net_link *l)
{
	return l && l->no_ipv6 && l->mtu >= 1280;
}

static int switch_ipv6(const struct network *n, const struct net_config *want, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < want->n_links; i++) {
		const struct net_link *l = &want->links[i];
		bool was = without_ipv6(net_config_link(&n->told, l->index));
		cleanup_free char *name = xasprintf("net/ipv6/conf/%s/disable_ipv6", l->name);

		if (was != without_ipv6(l) &&
		    write_sysctl(name, was ? "0" : "1", r < 0 ? NULL : err) < 0)
			r = -1;
	}
	return r;
}

struct turn {
	struct network *n;
	const struct places *places;
	struct proto_network *want;
	int (*named)(void *arg, struct error *err);
	void *arg;
};

static unsigned index_of(void *arg, unsigned link)
{
	const struct turn *t = arg;

	return ifindex_of(t->places, link);
}

static int on_named(void *arg, struct error *err)
{
	const struct turn *t = arg;
	int r = switch_ipv6(t->n, &t->want->config, err);

	for (size_t i = 0; i < t->want->n_sysctls; i++) {
		const struct proto_sysctl *s = &t->want->sysctls[i];
		const char *before = told_value(t->n, s->name);

		if ((before && strcmp(before, s->value) == 0) ||
		    write_sysctl(s->name, s->value, r < 0 ? NULL : err) == 0)
			continue;
		s->value[0] = '\0'; /* it is tried again */
		r = -1;
	}
	if (t->named && t->named(t->arg, r < 0 ? NULL : err) < 0)
		r = -1;
	return r;
}

/* Ports whose packets do not come to the guest (docs/network.md) are not given to its sockets,
 * besides those that somebody else reserved. */
static int reserve_ports(struct error *err)
{
	cleanup_free char *range = xasprintf("%d-%d", NET_PORTS_FIRST, NET_PORTS_LAST);
	cleanup_free char *now = NULL;
	cleanup_free char *all = NULL;

	if (file_read(AT_FDCWD, RESERVED_PORTS, 65536, &now, NULL, err) < 0)
		return -1;
	now[strcspn(now, "\n")] = '\0';
	if (strstr(now, range))
		return 0;
	all = now[0] ? xasprintf("%s,%s", now, range) : xstrdup(range);
	return file_put(AT_FDCWD, RESERVED_PORTS, all, err);
}

/* ---- all of it */

static void remember(struct network *n, struct proto_network *want, struct places *p)
{
	net_config_free(&n->told);
	n->told = want->config;
	want->config = (struct net_config){0};
	free(n->places.list);
	n->places = *p;
	sysctls_free(n->sysctls, n->n_sysctls);
	n->sysctls = steal_ptr(&want->sysctls);
	n->n_sysctls = want->n_sysctls;
	want->n_sysctls = 0;
}

int network_apply(struct network *n, struct proto_network *want,
		  int (*named)(void *arg, struct error *err), void *arg, struct error *err)
{
	struct places places;
	struct turn turn = {.n = n, .places = &places, .want = want, .named = named, .arg = arg};
	cleanup_rtnl struct rtnl *nl = rtnl_open(err);
	struct cards cards = {0};
	struct error first = ERROR_INIT, e = ERROR_INIT;
	uint64_t t = now_us();
	int r = 0;

	if (!nl || look(nl, &cards, err) < 0)
		return -1;
	n->begun = true; /* from here on each card is hidden or is not as is told */
	close_fd(&n->hiding);
	places = find_places(n, want, &cards);
	hide_others(n, &cards, &places);
	t = log_elapsed("network: other cards", t);
	forget_moved(n, &places, &cards);
	if (want->n_cards > 0 && reserve_ports(r < 0 ? NULL : &first) < 0)
		r = -1;
	if (netns_apply(&n->told, &want->config,
			&(struct net_apply){.index_of = index_of, .named = on_named, .arg = &turn},
			&e) < 0) {
		if (r == 0)
			first = e;
		r = -1;
	}
	log_elapsed("network: links", t);
	remember(n, want, &places);
	free(cards.list);
	if (r < 0 && err)
		*err = first;
	return r;
}

void network_hide_spares(struct network *n)
{
	cleanup_rtnl struct rtnl *nl = rtnl_open(NULL);
	struct cards cards = {0};

	/* It is the guest's first container that may wait here. */
	await_hidden(n, CARD_WAIT_US / 1000);
	close_fd(&n->hiding);
	if (nl && look(nl, &cards, NULL) == 0)
		hide_others(n, &cards, &n->places);
	free(cards.list);
}
