/* The route socket, in a network namespace of this test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "netns/netns.h"
#include "netns/rtnl.h"

static bool have_namespace;
static int outside; /* the namespace that this began in */

static int group_setup(void **state)
{
	(void)state;
	outside = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	have_namespace = geteuid() == 0 && unshare(CLONE_NEWNET) == 0;
	return 0;
}

static struct rtnl *route_socket(void)
{
	struct error err = ERROR_INIT;
	struct rtnl *r;

	if (!have_namespace)
		skip();
	r = rtnl_open(&err);
	assert_string_equal(err.msg, "");
	assert_non_null(r);
	return r;
}

static int set_mtu(struct rtnl *r, int index, uint32_t mtu, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, 0);
	struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));

	ifi->ifi_index = index;
	rtnl_put_u32(m, IFLA_MTU, mtu);
	return rtnl_talk(r, m, err);
}

/* veth pair name, name-p */
static int make_veth(struct rtnl *r, const char *name, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *data, *peer;
	char other[IFNAMSIZ];

	rtnl_header(m, sizeof(struct ifinfomsg));
	rtnl_put_str(m, IFLA_IFNAME, name);
	info = rtnl_nest(m, IFLA_LINKINFO);
	rtnl_put_str(m, IFLA_INFO_KIND, "veth");
	data = rtnl_nest(m, IFLA_INFO_DATA);
	peer = rtnl_nest(m, VETH_INFO_PEER);
	rtnl_header(m, sizeof(struct ifinfomsg));
	snprintf(other, sizeof(other), "%.10s-p", name);
	rtnl_put_str(m, IFLA_IFNAME, other);
	rtnl_nest_end(m, peer);
	rtnl_nest_end(m, data);
	rtnl_nest_end(m, info);
	return rtnl_talk(r, m, err);
}

struct seen {
	unsigned n;
	uint32_t mtu_of_lo;
	struct rtnl *again; /* a request of its own in the midst */
};

static int on_link(const struct nlmsghdr *m, void *arg, struct error *err)
{
	const struct ifinfomsg *ifi = NLMSG_DATA(m);
	int left = (int)(m->nlmsg_len - NLMSG_LENGTH(sizeof(*ifi)));
	struct seen *s = arg;

	assert_int_equal(m->nlmsg_type, RTM_NEWLINK);
	s->n++;
	for (struct rtattr *a = IFLA_RTA(ifi); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_MTU && ifi->ifi_flags & IFF_LOOPBACK)
			memcpy(&s->mtu_of_lo, RTA_DATA(a), sizeof(s->mtu_of_lo));
	if (s->again)
		return set_mtu(s->again, ifi->ifi_index, 1400, err);
	return s->n == 1000 ? error_set(err, "enough") : 0;
}

static int dump_links(struct rtnl *r, struct seen *s, struct error *err)
{
	struct nlmsghdr *m = rtnl_request(r, RTM_GETLINK, 0);

	rtnl_header(m, sizeof(struct ifinfomsg));
	return rtnl_dump(r, m, on_link, s, err);
}

static void test_a_request_is_done_when_it_returns(void **state)
{
	cleanup_rtnl struct rtnl *r = route_socket();
	struct seen s = {0};
	struct nlmsghdr *m;
	struct ifinfomsg *ifi;

	(void)state;
	assert_int_equal(set_mtu(r, 1, 1234, NULL), 0);
	m = rtnl_request(r, RTM_GETLINK, 0);
	ifi = rtnl_header(m, sizeof(*ifi));
	ifi->ifi_index = 1;
	assert_int_equal(rtnl_ask(r, m, on_link, &s, NULL), 0);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.mtu_of_lo, 1234);
}

static void test_a_refusal_has_the_kernels_error_and_words(void **state)
{
	cleanup_rtnl struct rtnl *r = route_socket();
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(set_mtu(r, 77, 1234, &err), -1);
	assert_int_equal(err.errnum, ENODEV);
	assert_string_equal(err.msg, "No such device");

	assert_int_equal(make_veth(r, "twice", &err), 0);
	assert_int_equal(set_mtu(r, (int)if_nametoindex("twice"), 1, &err), -1);
	assert_int_equal(err.errnum, EINVAL);
	assert_string_equal(err.msg, "mtu less than device minimum: Invalid argument");

	/* The socket goes on. */
	assert_int_equal(make_veth(r, "twice", &err), -1);
	assert_int_equal(err.errnum, EEXIST);
	assert_int_equal(set_mtu(r, 1, 1500, NULL), 0);
}

static void test_a_request_that_is_too_long_is_refused(void **state)
{
	cleanup_rtnl struct rtnl *r = route_socket();
	static const char data[RTNL_REQUEST_MAX];
	struct error err = ERROR_INIT;
	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, 0);
	struct nlattr *nest;

	(void)state;
	rtnl_header(m, sizeof(struct ifinfomsg));
	nest = rtnl_nest(m, IFLA_LINKINFO);
	for (unsigned i = 0; i < 4; i++)
		rtnl_put(m, IFLA_IFALIAS, data, sizeof(data) / 3);
	assert_null(rtnl_put_raw(m, 4));
	assert_null(rtnl_nest(m, IFLA_LINKINFO));
	rtnl_nest_end(m, nest);
	assert_int_equal(rtnl_talk(r, m, &err), -1);
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	m = rtnl_request(r, RTM_NEWLINK, 0);
	rtnl_put(m, IFLA_IFALIAS, data, sizeof(data));
	assert_int_equal(rtnl_talk(r, m, NULL), -1);
}

static void test_a_dump_of_many_parts_is_whole(void **state)
{
	cleanup_rtnl struct rtnl *r = route_socket();
	struct seen s = {0};
	char name[IFNAMSIZ];

	(void)state;
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "many%u", i);
		assert_int_equal(make_veth(r, name, NULL), 0);
	}
	assert_int_equal(dump_links(r, &s, NULL), 0);
	assert_true(s.n >= 81);
}

static void test_a_callback_may_use_the_socket_and_stop(void **state)
{
	cleanup_rtnl struct rtnl *r = route_socket();
	struct seen s = {.again = r}, stop = {.n = 999};
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(dump_links(r, &s, NULL), 0);
	s = (struct seen){0};
	assert_int_equal(dump_links(r, &s, NULL), 0);
	assert_int_equal(s.mtu_of_lo, 1400);

	assert_int_equal(dump_links(r, &stop, &err), -1);
	assert_string_equal(err.msg, "enough");
	assert_int_equal(stop.n, 1000);
}

static void test_a_visit_ends_at_home(void **state)
{
	cleanup_netns int home = -1;
	struct error err = ERROR_INIT;
	char before[64] = "", there[64] = "", after[64] = "", path[64];
	const char *self = "/proc/thread-self/ns/net";

	(void)state;
	if (!have_namespace)
		skip();
	assert_true(readlink(self, before, sizeof(before) - 1) > 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", outside);
	assert_int_equal(netns_enter(path, &home, &err), 0);
	assert_true(readlink(self, there, sizeof(there) - 1) > 0);
	netns_leave(&home);
	assert_int_equal(home, -1);
	assert_true(readlink(self, after, sizeof(after) - 1) > 0);
	assert_string_not_equal(before, there);
	assert_string_equal(before, after);

	assert_int_equal(netns_enter("/nothing/here", &home, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
	assert_int_equal(netns_enter("/etc/passwd", &home, &err), -1);
	assert_non_null(strstr(err.msg, "/etc/passwd: not a network namespace"));
	assert_int_equal(home, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_request_is_done_when_it_returns),
		cmocka_unit_test(test_a_refusal_has_the_kernels_error_and_words),
		cmocka_unit_test(test_a_request_that_is_too_long_is_refused),
		cmocka_unit_test(test_a_dump_of_many_parts_is_whole),
		cmocka_unit_test(test_a_callback_may_use_the_socket_and_stop),
		cmocka_unit_test(test_a_visit_ends_at_home),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
