/*
 * guest.c - a guest without a machine, for tests/e2e/wiring.bats: build/tests/wire-guest.
 *
 *	wire-guest [OPTION...] NETNS LINK GUEST-NETNS
 *
 * makes a TAP for LINK in the namespace NETNS as husk does (netns/tap.h), and wires it. What comes
 * out of the TAP is written to a TAP of the same name, address and MTU in GUEST-NETNS, and back,
 * with the header that says what checksums and segments are left to do: GUEST-NETNS is to the link
 * what a microVM would be. Options: --wiring tc|bridge|auto, --queues N, --owner NAME, --offload
 * (segments and checksums are left to the other end).
 *
 * Says "ready ADDRESS" or "error ...", then takes one word a line from standard input and answers
 * "ok", "yes", "no" or "error ...": wire, unwire, mtu, dead (tap_unwire_dead), rounds N, hidden
 * (whether tap_hide() shows the link as it was), quit. At its end, also that of its input, the link
 * is unwired; a SIGKILL leaves all there.
 *
 *	wire-guest unwire|dead NETNS [LINK]
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/netns.h"
#include "netns/wiring.h"

#define QUEUES_MAX 8
#define FRAME_MAX (10 + 14 + 4 + 65536)
#define BATCH 64

struct guest {
	struct net_link link;
	struct tap_options options;
	int netns;
	int taps[QUEUES_MAX], card;
};

static void fail(const struct error *e)
{
	printf("error %s\n", e->msg);
	exit(1);
}

static void check(int result, const struct error *e)
{
	if (result < 0)
		fail(e);
}

static void look(struct net_link *to, const char *name, struct error *err)
{
	cleanup_rtnl struct rtnl *r = rtnl_open(err);
	cleanup_wlinks struct wlinks all = {0};
	const struct wlink *l;

	check(r ? 0 : -1, err);
	check(wlinks_read(r, &all, err), err);
	l = wlinks_named(&all, name);
	if (!l) {
		printf("error no link %s\n", name);
		exit(1);
	}
	*to = (struct net_link){.index = l->index, .mtu = l->mtu, .master = l->master};
	memcpy(to->mac, l->mac, sizeof(to->mac));
	snprintf(to->name, sizeof(to->name), "%s", l->name);
}

static int set_card(int s, unsigned long request, struct ifreq *r)
{
	return ioctl(s, request, r) < 0 ? -1 : 0;
}

/* The guest's end, in the calling thread's namespace. */
static int make_card(const struct net_link *l, struct error *err)
{
	cleanup_close int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", l->name);
	if (s < 0 || fd < 0 || ioctl(fd, TUNSETIFF, &r) < 0)
		goto failed;
	r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(r.ifr_hwaddr.sa_data, l->mac, sizeof(l->mac));
	if (set_card(s, SIOCSIFHWADDR, &r) < 0)
		goto failed;
	r.ifr_mtu = l->mtu < 65521 ? (int)l->mtu : 65521;
	if (set_card(s, SIOCSIFMTU, &r) < 0)
		goto failed;
	r.ifr_flags = IFF_UP;
	if (set_card(s, SIOCSIFFLAGS, &r) < 0)
		goto failed;
	return fd;
failed:
	error_errno(err, "card %s", l->name);
	if (fd >= 0)
		close(fd);
	return -1;
}

static void relay(int from, int to)
{
	static char frame[FRAME_MAX];

	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = read(from, frame, sizeof(frame));

		if (n <= 0)
			return;
		/* A full or wrong one is lost, as on a wire. */
		if (write(to, frame, (size_t)n) < 0 && errno == EBADFD)
			return;
	}
}

/* As a dump would have it. */
static bool hidden(const struct guest *g)
{
	struct error e = ERROR_INIT;
	cleanup_rtnl struct rtnl *r = rtnl_open(&e);
	cleanup_wlinks struct wlinks all = {0};
	struct net_config c = {0};
	const struct net_link *l;
	bool ours = false, same;

	check(r ? 0 : -1, &e);
	check(wlinks_read(r, &all, &e), &e);
	c.links = xcalloc(all.n, sizeof(*c.links));
	for (; c.n_links < all.n; c.n_links++) {
		const struct wlink *w = &all.v[c.n_links];
		struct net_link *to = &c.links[c.n_links];

		look(to, w->name, &e);
		memcpy(to->alias, w->alias, sizeof(to->alias));
		to->kind = wlink_is_tap(w)		    ? NET_KIND_TAP
			   : strcmp(w->kind, "bridge") == 0 ? NET_KIND_BRIDGE
							    : NET_KIND_OTHER;
	}
	tap_hide(&c);
	for (size_t i = 0; i < c.n_links; i++)
		ours |= tap_is_ours(&c.links[i], NULL);
	l = net_config_link(&c, g->link.index);
	same = l && l->master == 0 && memcmp(l->mac, g->link.mac, 6) == 0;
	net_config_free(&c);
	return same && !ours;
}

/* Unwires and wires, now and then twice. */
static int rounds(struct guest *g, int n, struct error *err)
{
	for (int i = 0; i < n; i++) {
		if (tap_unwire(&g->link, err) < 0 || (i % 3 == 0 && tap_unwire(&g->link, err) < 0))
			return -1;
		if (tap_wire(&g->link, &g->options, err) < 0 ||
		    (i % 5 == 0 && tap_wire(&g->link, &g->options, err) < 0))
			return -1;
	}
	return 0;
}

static void serve(struct guest *g, char *word)
{
	struct error e = ERROR_INIT;
	int r = 0, n;

	word[strcspn(word, "\n")] = '\0';
	if (strcmp(word, "hidden") == 0) {
		puts(hidden(g) ? "yes" : "no");
		return;
	}
	if (strcmp(word, "wire") == 0)
		r = tap_wire(&g->link, &g->options, &e);
	else if (strcmp(word, "unwire") == 0)
		r = tap_unwire(&g->link, &e);
	else if (strcmp(word, "dead") == 0)
		r = tap_unwire_dead(&e);
	else if (sscanf(word, "rounds %d", &n) == 1)
		r = rounds(g, n, &e);
	else if (strcmp(word, "mtu") == 0) {
		look(&g->link, g->link.name, &e);
		r = tap_set_mtu(&g->link, &e);
	} else
		r = error_set(&e, "what is %s", word);
	if (r < 0)
		printf("error %s\n", e.msg);
	else
		puts("ok");
}

static void run(struct guest *g)
{
	struct pollfd p[QUEUES_MAX + 2];
	unsigned n = g->options.queues, turn = 0;
	char word[64];

	for (unsigned i = 0; i < n; i++)
		p[i] = (struct pollfd){.fd = g->taps[i], .events = POLLIN};
	p[n] = (struct pollfd){.fd = g->card, .events = POLLIN};
	p[n + 1] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
	while (poll(p, n + 2, -1) > 0 || errno == EINTR) {
		if (p[n + 1].revents) {
			if (!fgets(word, sizeof(word), stdin) || strcmp(word, "quit\n") == 0)
				return;
			serve(g, word);
		}
		for (unsigned i = 0; i < n; i++) {
			if (p[i].revents & POLLERR)
				p[i].fd = -1; /* deleted */
			else if (p[i].revents)
				relay(g->taps[i], g->card);
		}
		if (n > 0 && p[n].revents)
			relay(g->card, g->taps[turn++ % n]);
	}
}

static void options(int argc, char **argv, struct guest *g, bool *offload)
{
	static const struct option long_[] = {{"wiring", required_argument, NULL, 'w'},
					      {"queues", required_argument, NULL, 'q'},
					      {"owner", required_argument, NULL, 'o'},
					      {"offload", no_argument, NULL, 'f'},
					      {0}};
	int o;

	while ((o = getopt_long(argc, argv, "", long_, NULL)) != -1) {
		switch (o) {
		case 'w':
			g->options.wiring = strcmp(optarg, "tc") == 0	    ? NET_WIRING_TC
					    : strcmp(optarg, "bridge") == 0 ? NET_WIRING_BRIDGE
									    : NET_WIRING_AUTO;
			break;
		case 'q':
			g->options.queues = (unsigned)atoi(optarg);
			break;
		case 'o':
			g->options.owner = optarg;
			break;
		case 'f':
			*offload = true;
			break;
		default:
			exit(2);
		}
	}
}

static void begin(struct guest *g, char **argv, bool offload)
{
	const unsigned flags = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	struct error e = ERROR_INIT;
	char holder[256];

	check(netns_join(argv[0], &e), &e);
	look(&g->link, argv[1], &e);
	if (strcmp(argv[2], "-") != 0) {
		check(netns_join(argv[2], &e), &e);
		check(g->card = make_card(&g->link, &e), &e);
		check(netns_join(argv[0], &e), &e);
	}
	for (unsigned i = 0; i < g->options.queues; i++)
		g->taps[i] = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	check(tap_make(g->taps, &g->link, &g->options, holder, sizeof(holder), &e), &e);
	for (unsigned i = 0; offload && i < g->options.queues; i++)
		ioctl(g->taps[i], TUNSETOFFLOAD, flags);
	if (offload)
		ioctl(g->card, TUNSETOFFLOAD, flags);
	check(tap_wire(&g->link, &g->options, &e), &e);
}

static int undo(char **argv)
{
	struct error e = ERROR_INIT;
	struct net_link l;

	check(netns_join(argv[1], &e), &e);
	if (strcmp(argv[0], "dead") == 0) {
		check(tap_unwire_dead(&e), &e);
	} else {
		look(&l, argv[2], &e);
		check(tap_unwire(&l, &e), &e);
	}
	puts("ok");
	return 0;
}

int main(int argc, char **argv)
{
	struct guest g = {.options = {.owner = "guest", .queues = 1}, .netns = -1, .card = -1};
	struct error e = ERROR_INIT;
	bool offload = false;
	const uint8_t *m = g.link.mac;

	setvbuf(stdout, NULL, _IOLBF, 0);
	log_setup(STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_INFO, "wire-guest");
	options(argc, argv, &g, &offload);
	argc -= optind;
	argv += optind;
	if (argc >= 2 && (strcmp(argv[0], "unwire") == 0 || strcmp(argv[0], "dead") == 0))
		return undo(argv);
	if (argc != 3 || g.options.queues < 1 || g.options.queues > QUEUES_MAX)
		return 2;
	begin(&g, argv, offload);
	printf("ready %02x:%02x:%02x:%02x:%02x:%02x\n", m[0], m[1], m[2], m[3], m[4], m[5]);
	run(&g);
	check(tap_unwire(&g.link, &e), &e);
	return 0;
}
