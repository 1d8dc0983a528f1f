/* From one configuration to the next, in network namespaces of this test's: what is there
 * afterwards is what netns_dump() reads. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/apply.h"
#include "netns/config_json.h"
#include "netns/dump.h"
#include "netns/netns.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

/* What configurations call 100 + n is the link with index n here. */
#define FAR 100

static unsigned index_of(void *arg UNUSED, unsigned index)
{
	return index >= FAR && index < FAR + 20 ? index - FAR : 0;
}

static const struct net_apply plain = {.index_of = index_of};

static void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void sh(const char *fmt, ...)
{
	char cmd[1024];
	int status;
	va_list ap;
	pid_t pid;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	pid = fork();
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", cmd, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		fail_msg("%s", cmd);
}

/* Links x (10) and y (11), whose peers are up; nothing has an address. */
static int setup(void **state UNUSED)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		return 0;
	sh("ip link set lo up");
	for (int i = 0; i < 2; i++) {
		sh("ip link add name %c index %d type veth peer name %c-p index %d", 'x' + i,
		   10 + i, 'x' + i, 30 + i);
		sh("ip link set %c-p up", 'x' + i);
	}
	return 0;
}

static void need_namespace(void)
{
	if (access("/proc/sys/net/ipv4/conf/x", F_OK) < 0)
		skip();
}

/* JSON with ' for ". */
static void parse(const char *quoted, struct net_config *c)
{
	cleanup_free char *text = xstrdup(quoted);
	struct error err = ERROR_INIT;
	yajl_val v;

	for (char *p = strchr(text, '\''); p; p = strchr(p, '\''))
		*p = '"';
	v = json_parse(text, strlen(text), &err);

	if (!v || net_config_read(v, c, &err) < 0)
		fail_msg("%s", err.msg);
	yajl_tree_free(v);
}

/* ---- what is there is what is wanted */

static bool has_address(const struct net_link *l, const struct net_address *a)
{
	for (size_t i = 0; i < l->n_addresses; i++) {
		struct net_address b = *a;

		b.flags = l->addresses[i].flags;
		if (!b.label[0])
			strcpy(b.label, l->addresses[i].label);
		if (net_address_equal(&l->addresses[i], &b))
			return true;
	}
	return false;
}

static void check_link(const struct net_config *now, const struct net_link *w)
{
	const struct net_link *l = net_config_link(now, w->index - FAR);

	assert_non_null(l);
	assert_string_equal(l->name, w->name);
	assert_int_equal(l->up, w->up);
	assert_int_equal(l->mtu, w->mtu);
	assert_memory_equal(l->mac, w->mac, 6);
	assert_int_equal(l->noarp, w->noarp);
	assert_int_equal(l->allmulti, w->allmulti);
	assert_int_equal(l->promisc, w->promisc);
	for (size_t i = 0; i < w->n_addresses; i++) {
		char text[NET_TEXT_MAX];

		if (!has_address(l, &w->addresses[i]))
			fail_msg("%s has no %s", l->name,
				 net_prefix_text(&w->addresses[i].local, text));
	}
	assert_int_equal(l->n_addresses, w->n_addresses);
}

/* Of the loopback, of the peers. */
static bool is_of_another(const struct net_route *r)
{
	return r->n_nexthops == 1 && (r->nexthops[0].link >= 30 || r->nexthops[0].link == 1);
}

static void check_routes(const struct net_config *now, const struct net_config *want)
{
	size_t others = 0;

	for (size_t i = 0; i < want->n_routes; i++) {
		struct net_route r = want->routes[i];
		struct net_nexthop hops[NET_NEXTHOPS_MAX];
		char text[NET_ROUTE_TEXT_MAX];
		bool found = false;

		for (size_t k = 0; k < r.n_nexthops; k++) {
			hops[k] = r.nexthops[k];
			hops[k].link -= hops[k].link ? FAR : 0;
		}
		r.nexthops = hops;
		for (size_t k = 0; k < now->n_routes; k++)
			found |= net_route_equal(&now->routes[k], &r);
		if (!found)
			fail_msg("no route %s", net_route_text(&r, text));
	}
	for (size_t k = 0; k < now->n_routes; k++)
		others += is_of_another(&now->routes[k]);
	assert_int_equal(now->n_routes - others, want->n_routes);
}

static void check(const struct net_config *want)
{
	cleanup_net_config struct net_config now = {0};
	struct error err = ERROR_INIT;

	if (netns_dump(&now, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < want->n_links; i++)
		check_link(&now, &want->links[i]);
	check_routes(&now, want);
	assert_int_equal(now.n_rules, want->n_rules);
	for (size_t i = 0; i < want->n_rules; i++)
		assert_true(net_rule_equal(&now.rules[i], &want->rules[i]));
	assert_int_equal(now.n_neighbours, want->n_neighbours);
	for (size_t i = 0; i < want->n_neighbours; i++) {
		struct net_neighbour n = want->neighbours[i];

		n.link -= FAR;
		assert_true(net_neighbour_equal(&now.neighbours[i], &n));
	}
}

/* One after the other; `now` is the last one. */
static void apply(struct net_config *now, const char *text)
{
	struct net_config want = {0};
	struct error err = ERROR_INIT;

	parse(text, &want);
	if (netns_apply(now, &want, &plain, &err) < 0)
		fail_msg("%s", err.msg);
	net_config_free(now);
	*now = want;
}

static void apply_and_check(struct net_config *now, const char *text)
{
	apply(now, text);
	check(now);
}

static void apply_badly(struct net_config *now, const char *text, const char *message)
{
	struct net_config want = {0};
	struct error err = ERROR_INIT;

	parse(text, &want);
	assert_int_equal(netns_apply(now, &want, &plain, &err), -1);
	if (!strstr(err.msg, message))
		fail_msg("\"%s\" instead of \"%s\"", err.msg, message);
	net_config_free(now);
	*now = want;
}

#define LINK(index, name, n, more)                             \
	"{'index':" #index ",'name':'" name "','kind':'veth'," \
	"'mac':'02:00:00:00:00:0" #n "'," more "}"
#define X(more) LINK(110, "eth0", 1, more)
#define Y(more) LINK(111, "eth1", 2, more)
#define UP(addresses) "'up':true,'addresses':[" addresses "]"
#define V4 "{'ip':'10.1.0.2/24','broadcast':'10.1.0.255'}"
#define V6 "{'ip':'fd01::2/64'},{'ip':'fe80::2/64','scope':253}"
#define CONNECTED "{'dst':'10.1.0.0/24','link':110,'scope':253,'protocol':2,'prefsrc':'10.1.0.2'}"
#define CONNECTED6 "{'dst':'fd01::/64','link':110,'protocol':2,'priority':256}"
#define DEFAULT "{'dst':'0.0.0.0/0','gateway':'10.1.0.1','link':110}"
#define CONFIG(links, routes) "{'links':[" links "],'routes':[" routes "]}"

/* ---- tests */

/* clang-format off */
#define EVERYTHING                                                                              \
	"{'links':["                                                                            \
	X("'mtu':1400,'allmulti':true,"                                                         \
	  UP(V4 ",{'ip':'10.1.0.3/24','label':'eth0:1'},"                                       \
	     "{'ip':'10.9.0.1/32','peer':'10.9.0.2'}," V6)) ","                                 \
	Y("'mtu':9000,'noarp':true," UP("{'ip':'10.2.0.2/16'}"))                                \
	"],'routes':["                                                                          \
	/* those that need others come first */                                                 \
	"{'dst':'192.168.0.0/16','gateway':'10.8.0.1','link':110},"                             \
	"{'dst':'10.8.0.0/24','gateway':'10.1.0.9','link':110},"                                \
	DEFAULT ","                                                                             \
	"{'dst':'10.8.0.1/32','link':110,'scope':253},"                                         \
	CONNECTED "," CONNECTED6 ","                                                            \
	"{'dst':'10.2.0.0/16','link':111,'scope':253},"                                         \
	"{'dst':'::/0','gateway':'fe80::1','link':110,'priority':1024},"                        \
	"{'dst':'10.10.0.0/16','type':6,'priority':9},"                                         \
	"{'dst':'10.11.0.0/16','link':110,'scope':253,'table':1000,'priority':5,'tos':8,"       \
	"'metrics':{'2':1200,'8':1160}},"                                                       \
	"{'dst':'10.12.0.0/16','nexthops':[{'gateway':'10.1.0.1','link':110},"                  \
	"{'gateway':'10.2.0.1','link':111,'weight':2}]},"                                       \
	"{'dst':'10.13.0.0/16','gateway':'172.16.0.1','link':110,'onlink':true},"               \
	"{'dst':'10.14.0.0/16','gateway':'fe80::9','link':110}"                                 \
	"],'rules':["                                                                           \
	"{'family':2,'priority':50,'iif':'eth1','action':7},"                                   \
	"{'family':2,'priority':100,'mark':7,'mask':255,'src':'10.1.0.0/24','table':1000,"      \
	"'suppress_prefix':0},"                                                                 \
	"{'family':10,'priority':100,'dst':'fd02::/64','table':99,'invert':true,'uid':[5,9],"   \
	"'ip_proto':6,'dport':[80,90]}"                                                         \
	"],'neighbours':["                                                                      \
	"{'link':110,'ip':'10.1.0.77','mac':'02:00:00:00:00:77'},"                              \
	"{'link':110,'ip':'fd01::77','mac':'02:00:00:00:00:78'}]}"
/* clang-format on */

static void test_everything_at_once(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};

	need_namespace();
	apply_and_check(&now, EVERYTHING);
	apply_and_check(&now, CONFIG("", ""));
	apply_and_check(&now, EVERYTHING);
}

static void test_what_is_told_again_is_left_alone(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};

	need_namespace();
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED "," DEFAULT));
	sh("ip route del default && ip address add 10.1.0.9/32 dev eth0");
	apply(&now, CONFIG(X(UP(V4)), CONNECTED "," DEFAULT));
	sh("! ip route show default | grep -q . && ip -o address | grep -q 10.1.0.9");
	/* What goes is what was told. */
	apply(&now, CONFIG(X(UP("")), ""));
	sh("ip -o address | grep -q 10.1.0.9 && ! ip -o address | grep -q 10.1.0.2");
}

static void test_a_primary_address_goes_alone(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};

	need_namespace();
	sh("echo 0 >/proc/sys/net/ipv4/conf/all/promote_secondaries; "
	   "echo 0 >/proc/sys/net/ipv4/conf/x/promote_secondaries");
	apply_and_check(&now, CONFIG(X(UP(V4 ",{'ip':'10.1.0.3/24'}")), CONNECTED));
	apply_and_check(&now, CONFIG(X(UP("{'ip':'10.1.0.3/24'}")),
				     "{'dst':'10.1.0.0/24','link':110,'scope':253}," DEFAULT));
	/* Its routes are there although the kernel took those away that preferred it. */
	apply_and_check(&now, CONFIG(X(UP(V4 ",{'ip':'10.1.0.3/24'}")), CONNECTED "," DEFAULT));
	apply_and_check(&now, CONFIG(X(UP("{'ip':'10.1.0.3/24'}")),
				     "{'dst':'10.1.0.0/24','link':110,'scope':253}," DEFAULT));
}

static void test_an_address_changes_its_prefix_and_its_lifetime(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};

	need_namespace();
	apply_and_check(&now, CONFIG(X(UP(V4 ",{'ip':'fd01::2/64'}")), ""));
	apply_and_check(&now, CONFIG(X(UP("{'ip':'10.1.0.2/16'},{'ip':'fd01::2/80'}")), ""));
	apply(&now, CONFIG(X(UP("{'ip':'10.1.0.2/16','valid_s':1000,'preferred_s':500},"
				"{'ip':'fd01::2/80','valid_s':1000,'preferred_s':0}")),
			   ""));
	sh("ip -o -4 address show eth0 | grep -q 'valid_lft [19][0-9]*sec preferred_lft [45]'");
	sh("ip -o -6 address show eth0 | grep -q 'deprecated.*valid_lft [19][0-9]*sec "
	   "preferred_lft 0'");
	apply_and_check(&now, CONFIG(X(UP("{'ip':'10.1.0.2/16'},{'ip':'fd01::2/80'}")), ""));
	/* One that is over by now has its last second. */
	apply(&now, CONFIG(X(UP("{'ip':'10.1.0.2/16','valid_s':0,'preferred_s':0}")), ""));
}

static void test_names_are_exchanged(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};

	need_namespace();
	apply_and_check(&now, CONFIG(X(UP(V4)) "," Y(UP("")), CONNECTED "," DEFAULT));
	apply_and_check(&now, CONFIG(LINK(110, "eth1", 1, UP(V4)) "," LINK(111, "eth0", 2, UP("")),
				     CONNECTED "," DEFAULT));
	apply_badly(&now, CONFIG(LINK(110, "x-p", 1, UP(V4)) "," Y(UP("")), CONNECTED),
		    "link x-p: the guest has another interface of this name");
	apply_and_check(&now, CONFIG(X(UP(V4)) "," Y(UP("")), CONNECTED));
}

static void test_a_link_goes_down_and_up(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};
	const char *const up =
		"{'links':[" X(UP(V4 "," V6)) "],'routes':[" CONNECTED "," CONNECTED6 "," DEFAULT
					      "],'neighbours':[{'link':110,'ip':'10.1.0."
					      "77','mac':'02:00:00:00:00:77'}]}";

	need_namespace();
	apply_and_check(&now, up);
	apply_and_check(&now, CONFIG(X("'addresses':[" V4 "]"), ""));
	apply_and_check(&now, up);
	/* IPv6 goes with a small MTU, and comes back. */
	apply_and_check(&now,
			CONFIG(X("'mtu':1000,'no_ipv6':true," UP(V4)), CONNECTED "," DEFAULT));
	apply_and_check(&now, up);
	/* Somebody took it down: that is his business, until the host says so, too. */
	sh("ip link set eth0 down");
	apply(&now, up);
	sh("ip -o link show eth0 | grep -q 'state DOWN'");
	apply(&now, CONFIG(X("'addresses':[" V4 "]"), ""));
	apply_and_check(&now, up);
}

static void test_routes_are_replaced(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};
#define VIA(n) "{'dst':'0.0.0.0/0','gateway':'10.1.0." #n "','link':110}"
#define VIA6(n) "{'dst':'::/0','gateway':'fd01::" #n "','link':110,'priority':1024}"

	need_namespace();
	apply_and_check(&now,
			CONFIG(X(UP(V4 "," V6)), CONNECTED "," CONNECTED6 "," VIA(1) "," VIA6(1)));
	apply_and_check(&now,
			CONFIG(X(UP(V4 "," V6)), CONNECTED "," CONNECTED6 "," VIA(3) "," VIA6(3)));
	/* A list of routes with one key. */
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED "," VIA(3) "," VIA(4)));
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED "," VIA(4)));
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED "," VIA(5) "," VIA(6)));
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED ",{'dst':'0.0.0.0/0','type':7}"));
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED));
}

static void test_what_fails_is_named_and_tried_again(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};
	const char *const far = "{'dst':'10.7.0.0/16','gateway':'10.66.0.1','link':110}";
	cleanup_free char *text = xasprintf(CONFIG(X(UP(V4)), "%s," CONNECTED "," DEFAULT), far);

	need_namespace();
	apply_badly(&now, text, "add route 10.7.0.0/16 via 10.66.0.1 dev eth0: ");
	check(&now); /* all but it */
	assert_int_equal(now.n_routes, 2);
	apply_badly(&now, text, "add route 10.7.0.0/16 via 10.66.0.1 dev eth0: ");
	sh("ip address add 10.66.0.2/24 dev eth0");
	apply(&now, text);
	sh("ip route show 10.7.0.0/16 | grep -q 10.66.0.1");
}

static void test_a_link_that_is_missing_is_named(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};

	need_namespace();
	apply_badly(&now,
		    CONFIG("{'index':7,'name':'gone','kind':'veth'," UP(V4) "}," X(UP(V4)),
			   "{'dst':'10.3.0.0/16','link':7,'scope':253}," CONNECTED),
		    "link gone: there is no interface for it");
	check(&now);
	apply_badly(&now, CONFIG(X("'mtu':99999999," UP(V4)), CONNECTED),
		    "link eth0: set its MTU to 99999999: ");
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED));
	apply_badly(&now, CONFIG(X(UP(V4 ",{'ip':'ff02::5/64'}")), CONNECTED),
		    "link eth0: add address ff02::5/64: ");
	apply_and_check(&now, CONFIG(X(UP(V4)), CONNECTED));
}

static void test_the_loopback_has_addresses(void **state UNUSED)
{
	cleanup_net_config struct net_config now = {0};
#define LO(more)                                                                       \
	"{'index':101,'name':'lo','kind':'loopback','type':772,'mtu':65536,'up':true," \
	"'addresses':[{'ip':'127.0.0.1/8','scope':254}," more "{'ip':'::1/128','scope':254}]}"

	need_namespace();
	apply_and_check(&now, CONFIG(LO("{'ip':'10.5.5.5/32'},"), ""));
	apply_and_check(&now, CONFIG(LO(""), ""));
	apply(&now, CONFIG("", ""));
	sh("ip -o address show lo | grep -q 127.0.0.1/8 && ip -o address show lo | grep -q ::1");
}

static int note_names(void *arg UNUSED, struct error *err)
{
	return file_put(AT_FDCWD, "/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1", err);
}

static void test_the_callers_turn_is_before_addresses(void **state UNUSED)
{
	cleanup_net_config struct net_config want = {0}, none = {0};
	struct net_apply a = {.index_of = index_of, .named = note_names};
	struct error err = ERROR_INIT;

	need_namespace();
	parse(CONFIG(X(UP(V4 ",{'ip':'fd01::2/64'}")), CONNECTED), &want);
	assert_int_equal(netns_apply(&none, &want, &a, &err), -1);
	assert_non_null(strstr(err.msg, "link eth0: add address fd01::2/64: "));
	check(&want);
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_everything_at_once),
		TEST(test_what_is_told_again_is_left_alone),
		TEST(test_a_primary_address_goes_alone),
		TEST(test_an_address_changes_its_prefix_and_its_lifetime),
		TEST(test_names_are_exchanged),
		TEST(test_a_link_goes_down_and_up),
		TEST(test_routes_are_replaced),
		TEST(test_what_fails_is_named_and_tried_again),
		TEST(test_a_link_that_is_missing_is_named),
		TEST(test_the_loopback_has_addresses),
		TEST(test_the_callers_turn_is_before_addresses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
