/* What the kernel says of a network namespace, as tests/tools/record_netlink.py recorded it: the
 * namespace is made there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <string.h>

#include "lib/cleanup.h"
#include "netns/dump.h"
#include "netns/parse.h"
#include "tests/unit/recorded.h"

static int setup(void **state)
{
	struct recorded *f = calloc(1, sizeof(*f));

	recorded_each("links", recorded_parse, f);
	*state = f;
	return 0;
}

static int setup_all(void **state)
{
	struct recorded *f = calloc(1, sizeof(*f));

	recorded_load(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	recorded_free(*state);
	free(*state);
	return 0;
}

/* ---- links and addresses */

static void expect_kind(const struct recorded *f, const char *name, enum net_kind kind,
			const char *word)
{
	const struct net_link *l = net_config_link_named(&f->c, name);

	assert_non_null(l);
	assert_int_equal(l->kind, kind);
	assert_string_equal(l->kind_name, word);
}

static void test_kinds_of_links_are_told_apart(void **state)
{
	const struct recorded *f = *state;

	assert_int_equal(f->c.n_links, 10);
	expect_kind(f, "lo", NET_KIND_LOOPBACK, "");
	expect_kind(f, "eth0", NET_KIND_VETH, "veth");
	expect_kind(f, "mv0", NET_KIND_MACVLAN, "macvlan");
	expect_kind(f, "br0", NET_KIND_BRIDGE, "bridge");
	expect_kind(f, "tap0", NET_KIND_TAP, "tun");
	expect_kind(f, "tun0", NET_KIND_TUN, "tun");
	expect_kind(f, "vx0", NET_KIND_VXLAN, "vxlan");
}

static void test_a_link_has_what_the_kernel_says_of_it(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 0x11}, none[6];
	const struct recorded *f = *state;
	const struct net_link *l = net_config_link_named(&f->c, "eth1");
	const struct net_link *port = net_config_link_named(&f->c, "peer0");
	const struct net_link *tun = net_config_link_named(&f->c, "tun0");

	assert_ptr_equal(l, net_config_link(&f->c, l->index));
	assert_memory_equal(l->mac, mac, 6);
	assert_int_equal(l->mtu, 1400);
	assert_string_equal(l->alias, "husk:web");
	assert_true(l->up && l->carrier && l->allmulti && l->promisc);
	assert_false(l->noarp || l->no_multicast || l->no_ipv6);
	assert_int_equal(l->addr_gen, IN6_ADDR_GEN_MODE_NONE);
	assert_int_equal(l->master, 0);

	assert_int_equal(port->master, net_config_link_named(&f->c, "br0")->index);
	assert_false(net_config_link_named(&f->c, "mv0")->up);
	assert_true(tun->noarp);
	assert_memory_equal(tun->mac, none, 6);
}

static const struct net_address *address(const struct recorded *f, const char *name,
					 const char *text)
{
	const struct net_link *l = net_config_link_named(&f->c, name);
	char buf[NET_TEXT_MAX];

	for (size_t i = 0; i < l->n_addresses; i++)
		if (strcmp(net_prefix_text(&l->addresses[i].local, buf), text) == 0)
			return &l->addresses[i];
	fail_msg("%s has no %s", name, text);
	return NULL;
}

static void expect_ip(const struct net_ip *ip, const char *text)
{
	char buf[NET_TEXT_MAX];

	assert_string_equal(net_ip_text(ip, buf), text);
}

static void test_an_ipv4_address_has_broadcast_peer_label_lifetimes(void **state)
{
	const struct recorded *f = *state;
	const struct net_address *a = address(f, "eth0", "172.17.0.2/16");

	expect_ip(&a->broadcast, "172.17.255.255");
	expect_ip(&a->peer, "none");
	assert_string_equal(a->label, "");
	assert_int_equal(a->flags, IFA_F_PERMANENT);
	assert_int_equal(a->valid_s, UINT32_MAX);

	assert_string_equal(address(f, "eth1", "10.0.0.1/24")->label, "eth1:a");
	assert_true(address(f, "eth1", "10.0.0.2/24")->flags & IFA_F_SECONDARY);
	expect_ip(&address(f, "eth1", "10.5.0.1/24")->peer, "10.6.0.0");
	a = address(f, "eth1", "10.7.0.1/32");
	assert_int_equal(a->scope, RT_SCOPE_LINK);
	assert_true(a->flags & IFA_F_NOPREFIXROUTE);
	a = address(f, "eth1", "10.8.0.1/24");
	assert_int_equal(a->valid_s, 1000);
	assert_int_equal(a->preferred_s, 500);
	assert_false(a->flags & IFA_F_PERMANENT);
}

static void test_an_ipv6_address_has_peer_flags_lifetimes(void **state)
{
	const struct recorded *f = *state;
	const struct net_address *a = address(f, "eth0", "fd00:2::2/64");

	expect_ip(&a->peer, "fd00:3::9");
	expect_ip(&address(f, "eth0", "fd00::2/64")->peer, "none");
	assert_true(address(f, "eth0", "fd00:1::2/64")->flags & IFA_F_TENTATIVE);
	assert_false(address(f, "eth0", "fd00::2/64")->flags & IFA_F_TENTATIVE);
	a = address(f, "eth0", "fd00:4::2/64");
	assert_int_equal(a->valid_s, 1000);
	assert_int_equal(a->preferred_s, 500);
	assert_true(a->flags & IFA_F_NOPREFIXROUTE);
}

/* ---- routes */

static const struct net_route *route_at(const struct recorded *f, const char *text, size_t nth)
{
	char buf[NET_ROUTE_TEXT_MAX];

	for (size_t i = 0; i < f->c.n_routes; i++)
		if (strcmp(net_route_text(&f->c.routes[i], buf), text) == 0 && nth-- == 0)
			return &f->c.routes[i];
	fail_msg("no route %s", text);
	return NULL;
}

static const struct net_route *route(const struct recorded *f, const char *text)
{
	return route_at(f, text, 0);
}

static void expect_hop(const struct recorded *f, const struct net_route *r, size_t i,
		       const char *link, const char *gateway)
{
	assert_true(i < r->n_nexthops);
	assert_string_equal(net_config_link(&f->c, r->nexthops[i].link)->name, link);
	expect_ip(&r->nexthops[i].gateway, gateway);
}

static void test_a_route_goes_by_links_and_gateways(void **state)
{
	const struct recorded *f = *state;
	const struct net_route *r = route(f, "default");

	assert_int_equal(r->family, AF_INET);
	assert_int_equal(r->type, RTN_UNICAST);
	expect_hop(f, r, 0, "eth0", "172.17.0.1");
	assert_false(r->nexthops[0].onlink);

	r = route(f, "192.168.0.0/16");
	assert_int_equal(r->n_nexthops, 2);
	expect_hop(f, r, 0, "eth0", "172.17.0.3");
	expect_hop(f, r, 1, "eth1", "10.0.0.9");
	assert_int_equal(r->nexthops[0].weight, 1);
	assert_int_equal(r->nexthops[1].weight, 0);
	assert_true(r->nexthops[1].onlink && !r->nexthops[0].onlink);

	expect_hop(f, route(f, "192.169.0.0/16"), 0, "eth0", "fd00::9");
	r = route(f, "1.2.3.5/32");
	expect_hop(f, r, 0, "eth0", "99.0.0.1");
	assert_true(r->nexthops[0].onlink);
	assert_int_equal(r->tos, 0x10);

	r = route(f, "IPv6 fd05::/64");
	assert_int_equal(r->n_nexthops, 2);
	expect_hop(f, r, 0, "eth0", "fd00::3");
	assert_int_equal(r->nexthops[0].weight, 2);
}

static void test_a_route_has_table_metrics_source_preference(void **state)
{
	const struct recorded *f = *state;
	const struct net_route *r = route(f, "1.2.3.4/32 in table 1000");
	char buf[NET_TEXT_MAX];

	assert_int_equal(r->table, 1000);
	assert_int_equal(r->priority, 77);
	assert_int_equal(r->scope, RT_SCOPE_LINK);
	expect_ip(&r->prefsrc, "172.17.0.2");
	assert_int_equal(r->metrics[RTAX_MTU], 1300);
	assert_int_equal(r->metrics[RTAX_LOCK], 1 << RTAX_MTU);
	assert_int_equal(r->metrics[RTAX_ADVMSS], 1200);
	expect_hop(f, r, 0, "eth0", "none");

	for (size_t i = 0;; i++) {
		r = route_at(f, "IPv6 default", i);
		if (r->src.ip.family != 0)
			break;
	}
	assert_string_equal(net_prefix_text(&r->src, buf), "fd00::/64");
	assert_int_equal(r->pref, 1); /* high */
}

static void test_a_route_that_leads_nowhere_has_no_link(void **state)
{
	static const struct {
		const char *text;
		uint8_t type;
	} all[] = {
		{"66.0.0.0/8", RTN_BLACKHOLE},	   {"67.0.0.0/8", RTN_UNREACHABLE},
		{"68.0.0.0/8", RTN_PROHIBIT},	   {"69.0.0.0/8 in table 7", RTN_THROW},
		{"IPv6 fd06::/64", RTN_BLACKHOLE}, {"IPv6 fd07::/64 in table 500", RTN_UNREACHABLE},
		{"202.0.0.0/8", RTN_BLACKHOLE},
	};
	const struct recorded *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		assert_int_equal(route(f, all[i].text)->type, all[i].type);
		assert_int_equal(route(f, all[i].text)->n_nexthops, 0);
	}
	/* One that was appended comes second. */
	assert_int_equal(route_at(f, "66.0.0.0/8", 1)->type, RTN_UNICAST);
}

static void test_the_kernels_own_local_routes_are_left_out(void **state)
{
	const struct recorded *f = *state;
	const struct net_route *connected = route(f, "172.17.0.0/16");

	for (size_t i = 0; i < f->c.n_routes; i++)
		assert_false(f->c.routes[i].table == RT_TABLE_LOCAL &&
			     f->c.routes[i].protocol == RTPROT_KERNEL);
	assert_int_equal(route(f, "89.0.0.0/8 in table 255")->type, RTN_LOCAL);
	assert_int_equal(route(f, "88.0.0.0/8 in table 99")->type, RTN_LOCAL);
	assert_int_equal(connected->protocol, RTPROT_KERNEL);
	expect_ip(&connected->prefsrc, "172.17.0.2");
}

static void test_next_hop_objects_are_resolved(void **state)
{
	struct recorded *f = *state;
	const struct net_route *r = route(f, "201.0.0.0/8");

	for (unsigned shown = 0; shown < 2; shown++) {
		assert_int_equal(r->n_nexthops, 2);
		expect_hop(f, r, 0, "eth0", "172.17.0.7");
		expect_hop(f, r, 1, "eth1", "10.0.0.7");
		assert_int_equal(r->nexthops[0].weight, 2);
		assert_int_equal(r->nexthops[1].weight, 1);
		assert_true(r->nexthops[1].onlink);
		expect_hop(f, route(f, "200.0.0.0/8"), 0, "eth0", "172.17.0.7");
		expect_hop(f, route(f, "IPv6 fd09::/64"), 0, "eth0", "fd00::77");
		assert_int_equal(route(f, "202.0.0.0/8")->n_nexthops, 0);
		if (shown > 0)
			break;
		/* Again, where the kernel shows nothing but their numbers. */
		for (size_t i = 0; i < f->c.n_routes; i++)
			free(f->c.routes[i].nexthops);
		f->c.n_routes = 0;
		recorded_each("routes-by-number", recorded_parse, f);
		r = route(f, "201.0.0.0/8");
	}
}

static int parse_without_objects(void *msg, size_t len, struct recorded *f)
{
	struct error err = ERROR_INIT;

	if (netns_parse(msg, len, &f->c, &err) < 0) {
		assert_int_equal(err.kind, ERR_NOT_FOUND);
		assert_non_null(strstr(err.msg, "next hop object"));
	}
	return 0;
}

static void test_an_object_or_a_link_that_is_not_there_is_named(void **state)
{
	struct recorded *f = *state, none = {0};
	struct error err = ERROR_INIT;
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg ifa;
		struct nlattr a;
		uint8_t ip[4];
	} m = {
		.h = {.nlmsg_len = sizeof(m), .nlmsg_type = RTM_NEWADDR},
		.ifa = {.ifa_family = AF_INET, .ifa_prefixlen = 8, .ifa_index = 9},
		.a = {.nla_len = 8, .nla_type = IFA_LOCAL},
	};

	recorded_each("routes-by-number", parse_without_objects, f);
	assert_int_equal(netns_parse(&m, sizeof(m), &none.c, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	assert_string_equal(err.msg, "an address is of a link 9, which is not there");
}

/* ---- rules, neighbours */

static const struct net_rule *rule(const struct recorded *f, uint32_t priority)
{
	for (size_t i = 0; i < f->c.n_rules; i++)
		if (f->c.rules[i].priority == priority)
			return &f->c.rules[i];
	fail_msg("no rule %u", priority);
	return NULL;
}

static void test_rules_match_what_they_did(void **state)
{
	const struct recorded *f = *state;
	const struct net_rule *r = rule(f, 100);
	char buf[NET_TEXT_MAX];

	assert_int_equal(f->c.n_rules, 11);
	assert_true(r->mark == 7 && r->mask == 0xff && r->table == 100);
	assert_int_equal(r->action, FR_ACT_TO_TBL);
	assert_int_equal(r->suppress_prefix, -1);
	assert_false(r->has_uid);
	assert_string_equal(rule(f, 101)->iif, "eth0");
	assert_int_equal(rule(f, 101)->table, 300);
	assert_string_equal(rule(f, 102)->oif, "eth1");
	assert_string_equal(net_prefix_text(&rule(f, 102)->dst, buf), "10.0.0.0/8");
	r = rule(f, 103);
	assert_true(r->has_uid && r->uid.from == 100 && r->uid.to == 200);
	assert_int_equal(r->action, FR_ACT_BLACKHOLE);
	r = rule(f, 104);
	assert_int_equal(r->ip_proto, IPPROTO_TCP);
	assert_true(r->sport.from == 1000 && r->sport.to == 1000);
	assert_true(r->dport.from == 80 && r->dport.to == 90);
	assert_int_equal(rule(f, 105)->suppress_prefix, 0);
	assert_int_equal(rule(f, 106)->target, 108);
	assert_int_equal(rule(f, 106)->action, FR_ACT_GOTO);
	r = rule(f, 107);
	assert_true(r->invert && r->tos == 0x10);
	assert_string_equal(net_prefix_text(&r->src, buf), "1.2.3.0/24");
	assert_int_equal(rule(f, 108)->action, FR_ACT_PROHIBIT);
	assert_int_equal(rule(f, 109)->action, FR_ACT_NOP);
	r = rule(f, 110);
	assert_true(r->family == AF_INET6 && r->table == 1000 && r->protocol == 42);
}

static void test_neighbours_are_those_that_were_put_there(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 9};
	const struct recorded *f = *state;
	unsigned proxies = 0, noarp = 0, permanent = 0;

	assert_int_equal(f->c.n_neighbours, 5);
	for (size_t i = 0; i < f->c.n_neighbours; i++) {
		const struct net_neighbour *n = &f->c.neighbours[i];

		proxies += (n->flags & NTF_PROXY) != 0;
		noarp += n->state == NUD_NOARP;
		if (n->state == NUD_PERMANENT) {
			permanent++;
			assert_true(n->has_mac);
			assert_memory_equal(n->mac, mac, 6);
			assert_int_equal((n->flags & NTF_ROUTER) != 0, n->ip.family == AF_INET6);
		}
	}
	assert_true(proxies == 2 && noarp == 1 && permanent == 2);
}

/* ---- messages that nobody recorded */

/* Every message, cut at each length: none is read beyond its end (the sanitizer looks). */
static int cut(void *msg, size_t len, struct recorded *f)
{
	for (size_t n = 0; n < len; n++) {
		struct net_config c = {0};
		struct nexthop_objects o = {0};
		char *copy = malloc(n ? n : 1);

		(void)f;
		memcpy(copy, msg, n);
		parse_message(copy, n, &c, &o, NULL);
		parse_nexthop(copy, n, &o, NULL);
		if (n >= sizeof(struct nlmsghdr)) {
			/* The same, if its header says so. */
			((struct nlmsghdr *)(void *)copy)->nlmsg_len = (uint32_t)n;
			parse_message(copy, n, &c, &o, NULL);
			parse_nexthop(copy, n, &o, NULL);
		}
		net_config_free(&c);
		nexthop_objects_free(&o);
		free(copy);
	}
	return 0;
}

static void test_a_message_that_is_cut_is_not_read_beyond_its_end(void **state)
{
	(void)state;
	assert_true(recorded_each("links", cut, NULL) > 0);
	assert_true(recorded_each("addresses", cut, NULL) > 0);
	assert_true(recorded_each("routes", cut, NULL) > 0);
	assert_true(recorded_each("rules", cut, NULL) > 0);
	assert_true(recorded_each("neighbours", cut, NULL) > 0);
	assert_true(recorded_each("nexthops", cut, NULL) > 0);
}

struct made {
	struct nlmsghdr h;
	union {
		struct rtmsg route;
		struct fib_rule_hdr rule;
		struct ifinfomsg link;
	} u;
	uint8_t attrs[512] __attribute__((aligned(4)));
};

static void put(struct made *m, size_t header, uint16_t type, const void *data, size_t len)
{
	uint8_t *at = (uint8_t *)m + m->h.nlmsg_len;
	struct nlattr a = {.nla_type = type, .nla_len = (uint16_t)(sizeof(a) + len)};

	if (m->h.nlmsg_len == 0)
		at += m->h.nlmsg_len = (uint32_t)(sizeof(m->h) + header);
	memcpy(at, &a, sizeof(a));
	memcpy(at + sizeof(a), data, len);
	m->h.nlmsg_len += NLA_ALIGN(a.nla_len);
}

static void expect_refused(const struct made *m, enum error_kind kind, const char *message)
{
	cleanup_net_config struct net_config c = {0};
	struct error err = ERROR_INIT;

	assert_int_equal(netns_parse(m, m->h.nlmsg_len, &c, &err), -1);
	assert_string_equal(err.msg, message);
	assert_int_equal(err.kind, kind);
}

static void test_what_a_guest_cannot_have_is_refused_by_name(void **state)
{
	static const uint8_t ip[4] = {10, 0, 0, 0}, zeroes[8];
	struct made m = {.h.nlmsg_type = RTM_NEWROUTE,
			 .u.route = {.rtm_family = AF_INET,
				     .rtm_dst_len = 8,
				     .rtm_type = RTN_UNICAST,
				     .rtm_table = RT_TABLE_MAIN}};

	(void)state;
	put(&m, sizeof(m.u.route), RTA_DST, ip, sizeof(ip));
	put(&m, 0, RTA_ENCAP_TYPE, "\1\0", 2);
	expect_refused(&m, ERR_UNSUPPORTED, "route 10.0.0.0/8: an encapsulation is not supported");

	m = (struct made){.h.nlmsg_type = RTM_NEWRULE, .u.rule = {.family = AF_INET}};
	put(&m, sizeof(m.u.rule), FRA_PRIORITY, "\7\0\0\0", 4);
	put(&m, 0, FRA_L3MDEV, "\1", 1);
	expect_refused(&m, ERR_UNSUPPORTED, "rule 7: l3mdev is not supported");

	m = (struct made){.h.nlmsg_type = RTM_NEWRULE, .u.rule = {.family = AF_INET}};
	put(&m, sizeof(m.u.rule), 40, zeroes, 4);
	expect_refused(&m, ERR_UNSUPPORTED,
		       "rule 0: a kind of match that husk does not know is not supported");
}

static void test_a_name_that_could_be_a_path_is_refused(void **state)
{
	static const char *const names[] = {"", ".", "..", "a/b", "sixteen-bytes-xx", "a b"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct made m = {.h.nlmsg_type = RTM_NEWLINK, .u.link = {.ifi_index = 1}};

		put(&m, sizeof(m.u.link), IFLA_IFNAME, names[i], strlen(names[i]) + 1);
		expect_refused(&m, ERR_INVALID, "cannot read what the kernel says of a link");
	}
}

static void test_more_than_the_bounds_allow_is_refused(void **state)
{
	cleanup_net_config struct net_config c = {0};
	struct error err = ERROR_INIT;
	int r = 1;

	(void)state;
	for (unsigned i = 0; i <= NET_LINKS_MAX; i++) {
		struct made m = {.h.nlmsg_type = RTM_NEWLINK, .u.link = {.ifi_index = (int)i + 1}};

		assert_int_equal(r, 1);
		put(&m, sizeof(m.u.link), IFLA_IFNAME, "x", 2);
		r = netns_parse(&m, m.h.nlmsg_len, &c, &err);
	}
	assert_int_equal(r, -1);
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	assert_string_equal(err.msg, "more than 64 links");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define WITH(begin, name) cmocka_unit_test_setup_teardown(name, begin, teardown)
		WITH(setup, test_kinds_of_links_are_told_apart),
		WITH(setup, test_a_link_has_what_the_kernel_says_of_it),
		WITH(setup_all, test_an_ipv4_address_has_broadcast_peer_label_lifetimes),
		WITH(setup_all, test_an_ipv6_address_has_peer_flags_lifetimes),
		WITH(setup_all, test_a_route_goes_by_links_and_gateways),
		WITH(setup_all, test_a_route_has_table_metrics_source_preference),
		WITH(setup_all, test_a_route_that_leads_nowhere_has_no_link),
		WITH(setup_all, test_the_kernels_own_local_routes_are_left_out),
		WITH(setup_all, test_next_hop_objects_are_resolved),
		WITH(setup, test_an_object_or_a_link_that_is_not_there_is_named),
		WITH(setup_all, test_rules_match_what_they_did),
		WITH(setup_all, test_neighbours_are_those_that_were_put_there),
		cmocka_unit_test(test_a_message_that_is_cut_is_not_read_beyond_its_end),
		cmocka_unit_test(test_what_a_guest_cannot_have_is_refused_by_name),
		cmocka_unit_test(test_a_name_that_could_be_a_path_is_refused),
		cmocka_unit_test(test_more_than_the_bounds_allow_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
