/* Configurations: what is the same, and their way over JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "lib/cleanup.h"
#include "netns/config_json.h"
#include "tests/unit/recorded.h"

static struct net_ip ip(const char *text)
{
	struct net_ip r = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};

	assert_int_equal(inet_pton(r.family, text, r.bytes), 1);
	return r;
}

static struct net_address address(const char *local, uint8_t len, const char *peer)
{
	return (struct net_address){
		.local = {ip(local), len},
		.peer = peer ? ip(peer) : (struct net_ip){0},
	};
}

static void expect_same_address(struct net_address a, struct net_address b, bool same)
{
	assert_int_equal(net_address_same(&a, &b), same);
	assert_int_equal(net_address_same(&b, &a), same);
}

static void test_addresses_are_one_to_the_kernel_by_their_subnets_or_ipv6(void **state)
{
	(void)state;
	expect_same_address(address("10.0.0.1", 24, NULL), address("10.0.0.1", 24, NULL), true);
	expect_same_address(address("10.0.0.1", 24, NULL), address("10.0.0.1", 25, NULL), false);
	expect_same_address(address("10.0.0.1", 24, NULL), address("10.0.0.2", 24, NULL), false);
	expect_same_address(address("10.0.0.1", 24, NULL), address("10.0.0.1", 24, "10.9.0.1"),
			    false);
	expect_same_address(address("10.0.0.1", 28, "10.9.0.1"),
			    address("10.0.0.1", 28, "10.9.0.2"), true);
	expect_same_address(address("10.0.0.1", 28, "10.9.0.1"),
			    address("10.0.0.1", 28, "10.9.0.17"), false);
	expect_same_address(address("fd00::1", 64, NULL), address("fd00::1", 128, "fd00::2"), true);
	expect_same_address(address("fd00::1", 64, NULL), address("fd00::2", 64, NULL), false);
}

static void test_flags_that_the_kernel_sets_make_no_difference(void **state)
{
	struct net_address a = address("fd00::1", 64, NULL), b = a;

	(void)state;
	b.flags = IFA_F_TENTATIVE | IFA_F_PERMANENT;
	assert_true(net_address_equal(&a, &b));
	b.flags = IFA_F_DADFAILED;
	assert_false(net_address_equal(&a, &b));
	b.flags = IFA_F_NOPREFIXROUTE;
	assert_false(net_address_equal(&a, &b));
	b = a;
	b.valid_s = 7;
	assert_false(net_address_equal(&a, &b));
}

static void test_routes_are_one_by_destination_table_and_metric(void **state)
{
	struct net_nexthop h = {.link = 3}, other = {.link = 4};
	struct net_route a = {.family = AF_INET,
			      .dst = {ip("10.0.0.0"), 8},
			      .table = RT_TABLE_MAIN,
			      .nexthops = &h,
			      .n_nexthops = 1};
	struct net_route b = a;

	(void)state;
	b.nexthops = &other;
	assert_true(net_route_same(&a, &b) && !net_route_equal(&a, &b));
	b = a;
	b.tos = 4;
	assert_false(net_route_same(&a, &b));
	b = a;
	b.priority = 1;
	assert_false(net_route_same(&a, &b));
	b = a;
	b.metrics[RTAX_MTU] = 1300;
	assert_true(net_route_same(&a, &b) && !net_route_equal(&a, &b));
	b = a;
	b.dst = (struct net_prefix){0};
	assert_false(net_route_same(&a, &b));
	assert_true(net_route_equal(&a, &a));
}

static void test_a_proxy_and_an_entry_are_two_neighbours(void **state)
{
	struct net_neighbour a = {.link = 1, .ip = ip("10.0.0.1"), .state = NUD_PERMANENT}, b = a;

	(void)state;
	b.flags = NTF_PROXY;
	assert_false(net_neighbour_same(&a, &b));
	b = a;
	b.has_mac = true;
	assert_true(net_neighbour_same(&a, &b) && !net_neighbour_equal(&a, &b));
}

static void test_bits_behind_a_prefix_are_zeroed(void **state)
{
	struct net_prefix p = {ip("10.255.255.255"), 9}, q = {ip("fd00::ffff"), 128};
	char text[NET_TEXT_MAX];

	(void)state;
	net_prefix_mask(&p);
	assert_string_equal(net_prefix_text(&p, text), "10.128.0.0/9");
	net_prefix_mask(&q);
	assert_string_equal(net_prefix_text(&q, text), "fd00::ffff/128");
	q.len = 0;
	net_prefix_mask(&q);
	assert_string_equal(net_prefix_text(&q, text), "::/0");
}

/* ---- JSON */

static char *to_text(const struct net_config *c)
{
	cleanup_jsonw struct jsonw w = {0};

	assert_int_equal(jsonw_init(&w, false, NULL), 0);
	jsonw_obj(&w);
	net_config_write(&w, c);
	jsonw_end_obj(&w);
	return xstrdup(jsonw_finish(&w, NULL, NULL));
}

static int from_text(const char *text, struct net_config *c, struct error *err)
{
	cleanup_json yajl_val v = json_parse(text, strlen(text), err);

	return v ? net_config_read(v, c, err) : -1;
}

static void expect_equal(const struct net_config *a, const struct net_config *b)
{
	assert_int_equal(a->n_links, b->n_links);
	for (size_t i = 0; i < a->n_links; i++) {
		struct net_link l = a->links[i], k = b->links[i];

		assert_int_equal(l.n_addresses, k.n_addresses);
		for (size_t j = 0; j < l.n_addresses; j++)
			assert_memory_equal(&l.addresses[j], &k.addresses[j], sizeof(*l.addresses));
		l.addresses = k.addresses = NULL;
		assert_memory_equal(&l, &k, sizeof(l));
	}
	assert_int_equal(a->n_routes, b->n_routes);
	for (size_t i = 0; i < a->n_routes; i++)
		assert_true(net_route_equal(&a->routes[i], &b->routes[i]));
	assert_int_equal(a->n_rules, b->n_rules);
	for (size_t i = 0; i < a->n_rules; i++)
		assert_true(net_rule_equal(&a->rules[i], &b->rules[i]));
	assert_int_equal(a->n_neighbours, b->n_neighbours);
	for (size_t i = 0; i < a->n_neighbours; i++)
		assert_true(net_neighbour_equal(&a->neighbours[i], &b->neighbours[i]));
}

static void test_a_configuration_comes_back_as_it_was_written(void **state)
{
	cleanup_net_config struct net_config back = {0};
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;
	struct recorded f = {0};

	(void)state;
	recorded_load(&f);
	text = to_text(&f.c);
	from_text(text, &back, &err);
	assert_string_equal(err.msg, "");
	expect_equal(&f.c, &back);
	recorded_free(&f);
}

static void test_usual_values_are_left_out(void **state)
{
	static const char text[] =
		"{\"links\":[{\"index\":2,\"name\":\"eth0\",\"kind\":\"veth\","
		"\"mac\":\"02:42:ac:11:00:02\",\"up\":true,\"addresses\":[{\"ip\":\"172.17.0.2/"
		"16\","
		"\"broadcast\":\"172.17.255.255\"}]}],"
		"\"routes\":[{\"dst\":\"0.0.0.0/0\",\"link\":2,\"gateway\":\"172.17.0.1\"}],"
		"\"rules\":[{\"family\":2,\"priority\":100,\"table\":100,\"mark\":7}],"
		"\"neighbours\":[{\"link\":2,\"ip\":\"172.17.0.9\",\"mac\":\"02:00:00:00:00:09\"}]"
		"}";
	cleanup_net_config struct net_config c = {0};
	cleanup_free char *again = NULL;

	(void)state;
	assert_int_equal(from_text(text, &c, NULL), 0);
	assert_int_equal(c.links[0].mtu, 1500);
	assert_int_equal(c.links[0].addresses[0].flags, IFA_F_PERMANENT);
	assert_int_equal(c.links[0].addresses[0].valid_s, UINT32_MAX);
	assert_int_equal(c.routes[0].family, AF_INET);
	assert_int_equal(c.routes[0].dst.ip.family, 0);
	assert_int_equal(c.routes[0].table, RT_TABLE_MAIN);
	assert_int_equal(c.rules[0].suppress_prefix, -1);
	assert_int_equal(c.neighbours[0].state, NUD_PERMANENT);
	again = to_text(&c);
	assert_string_equal(again, text);
}

static void test_nothing_is_a_configuration_too(void **state)
{
	cleanup_net_config struct net_config c = {0};

	(void)state;
	assert_int_equal(from_text("{}", &c, NULL), 0);
	assert_true(c.n_links == 0 && c.n_routes == 0 && c.n_rules == 0 && c.n_neighbours == 0);
}

#define LINK "\"links\":[{\"index\":2,\"name\":\"eth0\",\"kind\":\"veth\"}],"

static void test_what_is_wrong_is_named(void **state)
{
	static const struct {
		const char *text, *message;
	} all[] = {
		{"{\"links\":7}", "links: not an array"},
		{"{\"links\":[7]}", "links[0]: not an object"},
		{"{\"links\":[{\"name\":\"a\"}]}", "links[0].index: missing, 0, or another link's"},
		{"{\"links\":[{\"index\":1,\"kind\":\"veth\"}]}", "links[0].name: missing"},
		{"{\"links\":[{\"index\":1,\"name\":\"../x\"}]}",
		 "links[0].name: not an interface's name"},
		{"{\"links\":[{\"index\":1,\"name\":\"a\",\"kind\":\"b\"}]}",
		 "links[0].kind: not a kind of link"},
		{"{\"links\":[{\"index\":1,\"name\":\"a\",\"kind\":\"veth\",\"mac\":\"1:2\"}]}",
		 "links[0].mac: not a MAC address"},
		{"{\"links\":[{\"index\":1,\"name\":\"a\",\"kind\":\"veth\",\"mtu\":-1}]}",
		 "links[0].mtu: not a number from 0 to 4294967295"},
		{"{\"links\":[{\"index\":1,\"name\":\"a\",\"kind\":\"veth\",\"up\":1}]}",
		 "links[0].up: not true or false"},
		{"{\"links\":[{\"index\":1,\"name\":\"a\",\"kind\":\"veth\",\"addresses\":["
		 "{\"ip\":\"1.2.3.4/33\"}]}]}",
		 "links[0].addresses[0].ip: not an IP address with the length of a prefix"},
		{"{\"links\":[{\"index\":1,\"name\":\"a\",\"kind\":\"veth\",\"addresses\":["
		 "{\"ip\":\"1.2.3.4/8\",\"peer\":\"fd00::1\"}]}]}",
		 "links[0].addresses[0].peer: of another family"},
		{"{" LINK "\"routes\":[{\"link\":2}]}", "routes[0].dst: missing"},
		{"{" LINK "\"routes\":[{\"dst\":\"::/0\"},{\"dst\":\"1.0.0.0/8\",\"link\":3}]}",
		 "routes[1].link: not the index of a link"},
		{"{" LINK "\"routes\":[{\"dst\":\"::/0\",\"gateway\":\"1.2.3.4\"}]}",
		 "routes[0].gateway: of another family"},
		{"{" LINK "\"routes\":[{\"dst\":\"::/0\",\"nexthops\":[{\"gateway\":\"x\"}]}]}",
		 "routes[0].nexthops[0].gateway: not an IP address"},
		{"{" LINK "\"routes\":[{\"dst\":\"::/0\",\"type\":12}]}",
		 "routes[0].type: not a number from 0 to 11"},
		{"{" LINK "\"routes\":[{\"dst\":\"::/0\",\"metrics\":{\"2\":\"x\"}}]}",
		 "routes[0].metrics.2: not a number from 0 to 4294967295"},
		{"{\"rules\":[{\"priority\":3}]}", "rules[0].family: not 2 or 10"},
		{"{\"rules\":[{\"family\":2,\"src\":\"fd00::/8\"}]}",
		 "rules[0].src: of another family"},
		{"{\"rules\":[{\"family\":2,\"sport\":[9,8]}]}",
		 "rules[0].sport: not a pair of numbers"},
		{"{\"neighbours\":[{\"link\":2,\"ip\":\"1.2.3.4\"}]}",
		 "neighbours[0].link: not the index of a link"},
		{"{" LINK "\"neighbours\":[{\"link\":2}]}", "neighbours[0].ip: missing"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct error err = ERROR_INIT;
		struct net_config c = {0};

		assert_int_equal(from_text(all[i].text, &c, &err), -1);
		assert_string_equal(err.msg, all[i].message);
		assert_int_equal(err.kind, ERR_INVALID);
		assert_null(c.links);
	}
}

static void test_more_than_the_bounds_allow_is_refused(void **state)
{
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;
	struct net_config c = {0};
	char *at;

	(void)state;
	text = malloc(NET_RULES_MAX * 16 + 64);
	at = stpcpy(text, "{\"rules\":[{\"family\":2}");
	for (unsigned i = 0; i < NET_RULES_MAX; i++)
		at = stpcpy(at, ",{\"family\":2}");
	stpcpy(at, "]}");
	assert_int_equal(from_text(text, &c, &err), -1);
	assert_string_equal(err.msg, "rules[512]: more than 512 rules");
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_are_one_to_the_kernel_by_their_subnets_or_ipv6),
		cmocka_unit_test(test_flags_that_the_kernel_sets_make_no_difference),
		cmocka_unit_test(test_routes_are_one_by_destination_table_and_metric),
		cmocka_unit_test(test_a_proxy_and_an_entry_are_two_neighbours),
		cmocka_unit_test(test_bits_behind_a_prefix_are_zeroed),
		cmocka_unit_test(test_a_configuration_comes_back_as_it_was_written),
		cmocka_unit_test(test_usual_values_are_left_out),
		cmocka_unit_test(test_nothing_is_a_configuration_too),
		cmocka_unit_test(test_what_is_wrong_is_named),
		cmocka_unit_test(test_more_than_the_bounds_allow_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
