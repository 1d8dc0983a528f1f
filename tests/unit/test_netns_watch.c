/* What a network namespace of this test's says of itself: dumps and news. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/dump.h"
#include "netns/netns.h"
#include "netns/rtnl.h"
#include "netns/watch.h"

static bool have_namespace;
static int fd = -1;

static int group_setup(void **state)
{
	(void)state;
	have_namespace = geteuid() == 0 && netns_new(NULL) == 0;
	return 0;
}

/* ip(8) with these arguments. */
static void ip(const char *args)
{
	cleanup_free char *line = xasprintf("ip %s", args);
	char *argv[24] = {NULL}, *rest = line;
	int status = -1;
	pid_t pid;

	for (unsigned i = 0; i < ARRAY_LEN(argv) - 1 && rest; i++)
		argv[i] = strsep(&rest, " ");
	assert_int_equal(posix_spawnp(&pid, "ip", NULL, NULL, argv, environ), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool running(const char *name)
{
	cleanup_close int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = {0};

	strcpy(r.ifr_name, name);
	assert_int_equal(ioctl(s, SIOCGIFFLAGS, &r), 0);
	return r.ifr_flags & IFF_RUNNING;
}

/* That a link has a carrier is told up to a second later. */
static void await_carriers(void)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (!running("veth0") || !running("veth1")) {
		netns_watch_take(fd, NULL);
		if (!running("veth0") || !running("veth1"))
			assert_true(poll(&p, 1, 60000) > 0);
	}
	/* It was told under the lock that this takes. */
	ip("link set veth0 alias settled");
	netns_watch_take(fd, NULL);
}

/* veth0 with an address, and a watch that has seen all of it. */
static int setup(void **state)
{
	struct error err = ERROR_INIT;

	(void)state;
	if (!have_namespace)
		return 0;
	fd = netns_watch(&err);
	assert_string_equal(err.msg, "");
	ip("link add veth0 type veth peer name veth1");
	ip("link set veth0 addrgenmode none up");
	ip("link set veth1 addrgenmode none up");
	ip("addr add 10.0.0.1/24 dev veth0");
	await_carriers();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	if (!have_namespace)
		return 0;
	close_fd(&fd);
	ip("link del veth0");
	return 0;
}

/* The kernel tells within the call that makes a change. */
static bool news(const char *change)
{
	bool gone = true, told;

	netns_watch_take(fd, NULL);
	ip(change);
	told = netns_watch_take(fd, &gone);
	assert_false(gone);
	return told;
}

static void need_namespace(void)
{
	if (!have_namespace)
		skip();
}

static void test_every_kind_of_change_is_news(void **state)
{
	(void)state;
	need_namespace();
	assert_true(news("link set veth0 mtu 1400"));
	assert_true(news("link set veth0 down"));
	assert_true(news("link set veth0 up"));
	assert_true(news("link add other type veth peer name another"));
	assert_true(news("link del other"));
	assert_true(news("addr add 10.0.1.1/24 dev veth0"));
	assert_true(news("addr del 10.0.1.1/24 dev veth0"));
	assert_true(news("addr add fd00::1/64 dev veth0"));
	assert_true(news("route add 10.9.0.0/16 via 10.0.0.9"));
	assert_true(news("route del 10.9.0.0/16"));
	assert_true(news("-6 route add fd09::/64 via fd00::9"));
	assert_true(news("rule add pref 77 fwmark 1 table 7"));
	assert_true(news("rule del pref 77"));
	assert_true(news("-6 rule add pref 77 fwmark 1 table 7"));
	assert_true(news("-6 rule del pref 77"));
	assert_true(news("nexthop add id 3 via 10.0.0.3 dev veth0"));
	assert_true(news("nexthop del id 3"));
	assert_true(news("neigh add 10.0.0.8 lladdr 02:00:00:00:00:08 dev veth0 nud permanent"));
	assert_true(news("neigh del 10.0.0.8 dev veth0"));
}

static void test_what_the_kernel_learns_is_no_news(void **state)
{
	(void)state;
	need_namespace();
	assert_false(news("neigh add 10.0.0.7 lladdr 02:00:00:00:00:07 dev veth0 nud stale"));
	assert_false(
		news("neigh change 10.0.0.7 lladdr 02:00:00:00:00:06 dev veth0 nud reachable"));
	assert_false(news("route add local 127.7.0.0/16 dev lo table local proto kernel"));
	assert_false(news("route del local 127.7.0.0/16 dev lo table local"));
}

static void test_a_watch_waits_without_news(void **state)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	bool gone = true;

	(void)state;
	need_namespace();
	netns_watch_take(fd, NULL);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_false(netns_watch_take(fd, &gone));
	assert_false(gone);
	ip("link set veth0 mtu 1300");
	assert_int_equal(poll(&p, 1, 0), 1);
}

static void test_news_that_were_lost_are_news(void **state)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	cleanup_rtnl struct rtnl *r = NULL;
	int size = 1;

	(void)state;
	need_namespace();
	r = rtnl_open(NULL);
	netns_watch_take(fd, NULL);
	/* Learned neighbours, which are no news as long as they can be read. */
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	for (unsigned i = 0; i < 200; i++) {
		struct nlmsghdr *m = rtnl_request(r, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
		struct ndmsg *nd = rtnl_header(m, sizeof(*nd));
		const struct net_ip to = {AF_INET, {10, 0, 0, (uint8_t)(10 + i)}};

		nd->ndm_family = AF_INET;
		nd->ndm_ifindex = (int)if_nametoindex("veth0");
		nd->ndm_state = NUD_STALE;
		rtnl_put_ip(m, NDA_DST, &to);
		rtnl_put(m, NDA_LLADDR, "\2\0\0\0\0\7", 6);
		assert_int_equal(rtnl_talk(r, m, NULL), 0);
	}
	assert_int_equal(poll(&p, 1, 0), 1);
	assert_true(netns_watch_take(fd, NULL));
	assert_false(netns_watch_take(fd, NULL));
}

static void test_a_watch_that_is_no_socket_is_gone(void **state)
{
	cleanup_close int reader = -1, writer = -1;
	bool gone = false;
	int pair[2];

	(void)state;
	assert_int_equal(pipe(pair), 0);
	reader = pair[0];
	writer = pair[1];
	assert_false(netns_watch_take(reader, &gone));
	assert_true(gone);
}

/* ---- dumps */

static void test_a_dump_has_what_there_is(void **state)
{
	cleanup_net_config struct net_config c = {0};
	struct error err = ERROR_INIT;
	const struct net_link *l;

	(void)state;
	need_namespace();
	ip("addr add fd00::1/64 dev veth0 nodad");
	ip("addr add fd00::2/64 dev veth0 nodad");
	ip("route add default via 10.0.0.9");
	netns_dump(&c, &err);
	assert_string_equal(err.msg, "");
	assert_int_equal(c.n_links, 3);
	l = net_config_link_named(&c, "veth0");
	assert_int_equal(l->index, if_nametoindex("veth0"));
	assert_int_equal(l->n_addresses, 3);
	/* In the order in which they were made. */
	assert_int_equal(l->addresses[0].local.ip.family, AF_INET);
	assert_int_equal(l->addresses[1].local.ip.bytes[15], 1);
	assert_int_equal(l->addresses[2].local.ip.bytes[15], 2);
	assert_int_equal(c.n_rules, 0);
	for (size_t i = 0; i < c.n_routes; i++)
		if (c.routes[i].family == AF_INET && c.routes[i].dst.ip.family == 0)
			return;
	fail_msg("no default route");
}

static void test_ipv6_that_is_off_is_told(void **state)
{
	cleanup_net_config struct net_config c = {0};
	const char *path = "/proc/sys/net/ipv6/conf/veth0/disable_ipv6";

	(void)state;
	need_namespace();
	if (file_put(AT_FDCWD, path, "1", NULL) < 0)
		skip();
	assert_int_equal(netns_dump(&c, NULL), 0);
	assert_true(net_config_link_named(&c, "veth0")->no_ipv6);
	assert_false(net_config_link_named(&c, "veth1")->no_ipv6);
}

struct disturber {
	atomic_bool stop;
	atomic_uint rounds;
};

/* Links and routes that come and go. */
static void *disturb(void *arg)
{
	struct disturber *d = arg;
	cleanup_rtnl struct rtnl *r = rtnl_open(NULL);

	while (r && !atomic_load(&d->stop)) {
		struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
		struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));
		struct nlattr *nest;

		rtnl_put_str(m, IFLA_IFNAME, "coming");
		nest = rtnl_nest(m, IFLA_LINKINFO);
		rtnl_put_str(m, IFLA_INFO_KIND, "bridge");
		rtnl_nest_end(m, nest);
		ifi->ifi_flags = ifi->ifi_change = IFF_UP;
		rtnl_talk(r, m, NULL);
		m = rtnl_request(r, RTM_DELLINK, 0);
		rtnl_header(m, sizeof(struct ifinfomsg));
		rtnl_put_str(m, IFLA_IFNAME, "coming");
		rtnl_talk(r, m, NULL);
		atomic_fetch_add(&d->rounds, 1);
	}
	return NULL;
}

static void test_a_dump_amid_changes_is_consistent(void **state)
{
	struct disturber d = {0};
	pthread_t thread;

	(void)state;
	need_namespace();
	assert_int_equal(pthread_create(&thread, NULL, disturb, &d), 0);
	while (atomic_load(&d.rounds) == 0)
		poll(NULL, 0, 1);
	for (unsigned i = 0; i < 100; i++) {
		struct net_config c = {0};
		struct error err = ERROR_INIT;

		netns_dump(&c, &err);
		assert_string_equal(err.msg, "");
		assert_non_null(net_config_link_named(&c, "veth0"));
		assert_in_range(c.n_links, 3, 4);
		for (size_t j = 0; j < c.n_routes; j++)
			for (size_t k = 0; k < c.routes[j].n_nexthops; k++)
				assert_non_null(net_config_link(&c, c.routes[j].nexthops[k].link));
		net_config_free(&c);
	}
	atomic_store(&d.stop, true);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define IN_NAMESPACE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		IN_NAMESPACE(test_every_kind_of_change_is_news),
		IN_NAMESPACE(test_what_the_kernel_learns_is_no_news),
		IN_NAMESPACE(test_a_watch_waits_without_news),
		IN_NAMESPACE(test_news_that_were_lost_are_news),
		cmocka_unit_test(test_a_watch_that_is_no_socket_is_gone),
		IN_NAMESPACE(test_a_dump_has_what_there_is),
		IN_NAMESPACE(test_ipv6_that_is_off_is_told),
		IN_NAMESPACE(test_a_dump_amid_changes_is_consistent),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
