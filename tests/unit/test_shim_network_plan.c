/* Which links of a namespace become a guest's cards, what has to be done for it, and what of the
 * namespace's configuration is the guest's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <net/if_arp.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/network_guest.h"
#include "shim/network_plan.h"

struct world {
	struct net_config c;
	struct vmm_nics have;
	struct network_plan plan;
};

static int setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));

	w->c.links = xcalloc(NET_LINKS_MAX, sizeof(*w->c.links));
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	network_plan_free(&w->plan);
	net_config_free(&w->c);
	free(w);
	return 0;
}

static struct net_link *link_of(struct world *w, unsigned index, const char *name,
				enum net_kind kind)
{
	struct net_link *l = &w->c.links[w->c.n_links++];

	*l = (struct net_link){.index = index,
			       .kind = kind,
			       .type = kind == NET_KIND_LOOPBACK ? ARPHRD_LOOPBACK : ARPHRD_ETHER,
			       .mtu = 1500,
			       .up = true,
			       .carrier = true};
	snprintf(l->name, sizeof(l->name), "%s", name);
	return l;
}

/* A TAP of ours for the link with this index. */
static struct net_link *tap_of(struct world *w, unsigned index, const char *owner)
{
	struct net_link *l = link_of(w, 100 + index, "", NET_KIND_TAP);

	snprintf(l->name, sizeof(l->name), "husk-tap%u", index);
	snprintf(l->alias, sizeof(l->alias), "husk:%s", owner);
	return l;
}

static void card_of(struct world *w, unsigned index, bool up)
{
	network_card_id(index, w->have.v[w->have.n].id);
	w->have.v[w->have.n++].up = up;
}

static void make(struct world *w)
{
	network_plan_free(&w->plan);
	network_plan_make(&w->c, &w->have, "box", &w->plan);
}

static void does(const struct world *w, size_t i, enum network_act act, unsigned link)
{
	assert_true(i < w->plan.n);
	assert_int_equal(w->plan.v[i].act, act);
	assert_int_equal(w->plan.v[i].link, link);
}

static void refused(const struct world *w, size_t i, const char *a, const char *b)
{
	assert_true(i < w->plan.n_refused);
	assert_int_equal(w->plan.refused[i].kind, ERR_UNSUPPORTED);
	assert_non_null(strstr(w->plan.refused[i].msg, a));
	assert_non_null(strstr(w->plan.refused[i].msg, b));
}

static void a_new_link_gets_a_card(void **state)
{
	struct world *w = *state;

	link_of(w, 1, "lo", NET_KIND_LOOPBACK);
	link_of(w, 5, "eth0", NET_KIND_VETH);
	link_of(w, 6, "eth1", NET_KIND_MACVLAN)->carrier = false;
	make(w);
	assert_int_equal(w->plan.n, 2);
	does(w, 0, NETWORK_ATTACH, 5);
	assert_true(w->plan.v[0].up);
	does(w, 1, NETWORK_ATTACH, 6);
	assert_false(w->plan.v[1].up);
	assert_int_equal(w->plan.n_refused, 0);
}

static void what_is_in_order_is_left_alone(void **state)
{
	struct world *w = *state;

	link_of(w, 5, "eth0", NET_KIND_VETH);
	tap_of(w, 5, "box");
	card_of(w, 5, true);
	make(w);
	assert_int_equal(w->plan.n, 0);
	assert_int_equal(w->plan.n_refused, 0);
}

static void a_link_that_goes_takes_its_card_along(void **state)
{
	struct world *w = *state;

	link_of(w, 7, "eth1", NET_KIND_VETH);
	card_of(w, 5, true);
	make(w);
	assert_int_equal(w->plan.n, 2);
	/* First, so that there is room. */
	does(w, 0, NETWORK_DETACH, 5);
	does(w, 1, NETWORK_ATTACH, 7);
}

static void a_card_without_its_tap_is_made_anew(void **state)
{
	struct world *w = *state;

	link_of(w, 5, "eth0", NET_KIND_VETH);
	card_of(w, 5, false);
	make(w);
	assert_int_equal(w->plan.n, 1);
	does(w, 0, NETWORK_REATTACH, 5);
}

static void mtu_and_carrier_follow(void **state)
{
	struct world *w = *state;

	link_of(w, 5, "eth0", NET_KIND_VETH)->mtu = 9000;
	tap_of(w, 5, "box");
	card_of(w, 5, true);
	w->c.links[0].carrier = false;
	make(w);
	assert_int_equal(w->plan.n, 2);
	does(w, 0, NETWORK_MTU, 5);
	does(w, 1, NETWORK_CABLE, 5);
	assert_false(w->plan.v[1].up);
}

static void down_without_address_is_nothing_yet(void **state)
{
	struct world *w = *state;
	struct net_link *l = link_of(w, 5, "eth0", NET_KIND_VETH);

	l->up = l->carrier = false;
	link_of(w, 6, "tunl0", NET_KIND_OTHER)->up = false;
	make(w);
	assert_int_equal(w->plan.n + w->plan.n_refused, 0);
	l->addresses = xcalloc(1, sizeof(*l->addresses));
	l->n_addresses = 1;
	make(w);
	does(w, 0, NETWORK_ATTACH, 5);
	assert_false(w->plan.v[0].up);
}

static void ports_are_their_bridges(void **state)
{
	struct world *w = *state;

	link_of(w, 3, "br0", NET_KIND_BRIDGE);
	link_of(w, 5, "eth0", NET_KIND_VETH)->master = 3;
	make(w);
	assert_int_equal(w->plan.n, 1);
	does(w, 0, NETWORK_ATTACH, 3);
}

static void a_port_of_our_own_bridge_is_a_card(void **state)
{
	struct world *w = *state;
	struct net_link *br = link_of(w, 9, "husk-br5", NET_KIND_BRIDGE);

	snprintf(br->alias, sizeof(br->alias), "husk:box");
	link_of(w, 5, "eth0", NET_KIND_VETH)->master = 9;
	tap_of(w, 5, "box")->master = 9;
	card_of(w, 5, true);
	make(w);
	assert_int_equal(w->plan.n + w->plan.n_refused, 0);
}

static void what_a_guest_cannot_have_is_refused_by_name(void **state)
{
	struct world *w = *state;

	link_of(w, 2, "ens3", NET_KIND_PHYSICAL);
	link_of(w, 3, "tun0", NET_KIND_TUN)->type = ARPHRD_NONE;
	link_of(w, 4, "wg0", NET_KIND_WIREGUARD)->type = ARPHRD_NONE;
	snprintf(link_of(w, 5, "gre1", NET_KIND_OTHER)->kind_name, 16, "gre");
	link_of(w, 6, "eth0", NET_KIND_VETH);
	make(w);
	assert_int_equal(w->plan.n_refused, 4);
	refused(w, 0, "ens3", "veth, macvlan or ipvlan");
	refused(w, 1, "tun0", "a tun interface");
	refused(w, 2, "wg0", "a wireguard interface");
	refused(w, 3, "gre1", "\"gre\"");
	/* The others are not kept from it. */
	assert_int_equal(w->plan.n, 1);
	does(w, 0, NETWORK_ATTACH, 6);
}

static void anothers_link_is_refused_by_its_container(void **state)
{
	struct world *w = *state;

	link_of(w, 5, "eth0", NET_KIND_VETH);
	tap_of(w, 5, "web");
	make(w);
	assert_int_equal(w->plan.n, 0);
	refused(w, 0, "eth0", "container \"web\"");
}

static void card_ids_are_links(void **state)
{
	char id[VMM_NIC_ID_MAX + 1];

	(void)state;
	network_card_id(UINT32_MAX, id);
	assert_string_equal(id, "n4294967295");
	assert_int_equal(network_card_link(id), UINT32_MAX);
	assert_int_equal(network_card_link("n7"), 7);
	assert_int_equal(network_card_link("n07"), 0);
	assert_int_equal(network_card_link("n"), 0);
	assert_int_equal(network_card_link("7"), 0);
	assert_int_equal(network_card_link("n4294967296"), 0);
	assert_int_equal(network_card_link("eth0"), 0);
}

/* ---- the guest's share */

static struct net_route *route_by(struct world *w, unsigned a, unsigned b)
{
	struct net_route *r = &w->c.routes[w->c.n_routes++];

	*r = (struct net_route){.family = AF_INET, .table = 254, .type = RTN_UNICAST};
	r->nexthops = xcalloc(2, sizeof(*r->nexthops));
	r->nexthops[r->n_nexthops++].link = a;
	if (b)
		r->nexthops[r->n_nexthops++].link = b;
	return r;
}

static bool is_five(const void *arg, unsigned link)
{
	(void)arg;
	return link == 5;
}

static void the_guests_share_has_only_its_links(void **state)
{
	struct world *w = *state;

	w->c.routes = xcalloc(8, sizeof(*w->c.routes));
	w->c.neighbours = xcalloc(2, sizeof(*w->c.neighbours));
	link_of(w, 1, "lo", NET_KIND_LOOPBACK);
	link_of(w, 5, "eth0", NET_KIND_VETH)->master = 9;
	link_of(w, 6, "eth1", NET_KIND_VETH);
	tap_of(w, 5, "box");
	route_by(w, 5, 0);
	route_by(w, 6, 0);
	route_by(w, 5, 6);
	route_by(w, 1, 0);
	w->c.routes[w->c.n_routes++].type = RTN_BLACKHOLE;
	w->c.neighbours[w->c.n_neighbours++].link = 6;
	w->c.neighbours[w->c.n_neighbours++].link = 5;
	network_reduce(&w->c, is_five, NULL);
	assert_int_equal(w->c.n_links, 2);
	assert_string_equal(w->c.links[0].name, "lo");
	assert_string_equal(w->c.links[1].name, "eth0");
	assert_int_equal(w->c.links[1].master, 0);
	assert_int_equal(w->c.n_routes, 4);
	assert_int_equal(w->c.routes[0].nexthops[0].link, 5);
	assert_int_equal(w->c.routes[1].n_nexthops, 1);
	assert_int_equal(w->c.routes[2].nexthops[0].link, 1);
	assert_int_equal(w->c.routes[3].type, RTN_BLACKHOLE);
	assert_int_equal(w->c.n_neighbours, 1);
	assert_int_equal(w->c.neighbours[0].link, 5);
}

static void addresses_are_those_that_can_be_used(void **state)
{
	struct world *w = *state;
	struct net_link *l = link_of(w, 5, "eth0", NET_KIND_VETH);

	l->addresses = xcalloc(3, sizeof(*l->addresses));
	l->n_addresses = 3;
	l->addresses[0].flags = IFA_F_PERMANENT | IFA_F_TENTATIVE;
	l->addresses[1].flags = IFA_F_PERMANENT | IFA_F_TENTATIVE | IFA_F_DADFAILED;
	l->addresses[2].flags = IFA_F_NODAD;
	network_reduce(&w->c, is_five, NULL);
	assert_int_equal(w->c.links[0].n_addresses, 2);
	assert_int_equal(w->c.links[0].addresses[0].flags, IFA_F_PERMANENT);
	assert_int_equal(w->c.links[0].addresses[1].flags, IFA_F_NODAD);
}

static void a_name_server_is_seen_by_its_socket(void **state)
{
	(void)state;
	assert_true(network_has_resolver("  sl  local_address rem_address\n"
					 " 1234: 0B00007F:AD4C 00000000:0000 07\n"));
	assert_false(network_has_resolver("  sl  local_address rem_address\n"
					  " 1234: 0100007F:0035 0B00007F:0035 01\n"));
	assert_false(network_has_resolver(""));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_new_link_gets_a_card),
		TEST(what_is_in_order_is_left_alone),
		TEST(a_link_that_goes_takes_its_card_along),
		TEST(a_card_without_its_tap_is_made_anew),
		TEST(mtu_and_carrier_follow),
		TEST(down_without_address_is_nothing_yet),
		TEST(ports_are_their_bridges),
		TEST(a_port_of_our_own_bridge_is_a_card),
		TEST(what_a_guest_cannot_have_is_refused_by_name),
		TEST(anothers_link_is_refused_by_its_container),
		TEST(card_ids_are_links),
		TEST(the_guests_share_has_only_its_links),
		TEST(addresses_are_those_that_can_be_used),
		TEST(a_name_server_is_seen_by_its_socket),
	};

	return cmocka_run_group_tests_name("network plan", tests, NULL, NULL);
}
