/* Names of TAPs and bridges of ours, and dumps without them. What they do is in
 * tests/e2e/wiring.bats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/wiring.h"

static const uint8_t own[6] = {2, 0, 0, 0, 0, 0x2a}, other[6] = {6, 1, 2, 3, 4, 5};

static void a_name_has_the_index_of_the_link(void **state)
{
	char name[IFNAMSIZ];

	(void)state;
	tap_name(name, 7);
	assert_string_equal(name, "husk-tap7");
	bridge_name(name, 9999999);
	assert_string_equal(name, "husk-br9999999");
}

static void large_indexes_have_names_that_fit(void **state)
{
	char name[IFNAMSIZ], next[IFNAMSIZ];

	(void)state;
	tap_name(name, 10000000);
	tap_name(next, 10000001);
	assert_string_equal(name, "husk-tapx05yc1s");
	assert_string_equal(next, "husk-tapx05yc1t");
	tap_name(name, INT32_MAX);
	assert_string_equal(name, "husk-tapxzik0zj");
}

static struct net_link *add(struct net_config *c, unsigned index, enum net_kind kind,
			    const char *name)
{
	struct net_link *l;

	c->links = realloc(c->links, (c->n_links + 1) * sizeof(*l));
	assert_non_null(c->links);
	l = &c->links[c->n_links++];
	*l = (struct net_link){.index = index, .kind = kind};
	strcpy(l->name, name);
	memcpy(l->mac, other, sizeof(other));
	return l;
}

static void ours_are_known_by_name_and_kind(void **state)
{
	struct net_config c = {0};
	const char *owner = NULL;
	struct net_link *l = add(&c, 5, NET_KIND_TAP, "husk-tap4");

	(void)state;
	strcpy(l->alias, "husk:some-container");
	assert_true(tap_is_ours(l, &owner));
	assert_string_equal(owner, "some-container");
	l->alias[0] = '\0';
	assert_true(tap_is_ours(l, &owner));
	assert_string_equal(owner, "");
	l->kind = NET_KIND_VETH;
	assert_false(tap_is_ours(l, NULL));
	strcpy(l->name, "husk-br4");
	l->kind = NET_KIND_BRIDGE;
	strcpy(l->alias, "husk-mac:02:00:00:00:00:2a husk:a");
	assert_true(tap_is_ours(l, &owner));
	assert_string_equal(owner, "a");
	strcpy(l->name, "tap0");
	l->kind = NET_KIND_TAP;
	assert_false(tap_is_ours(l, NULL));
	net_config_free(&c);
}

static void a_dump_is_what_it_would_be_without_us(void **state)
{
	struct net_config c = {0};

	(void)state;
	add(&c, 2, NET_KIND_VETH, "eth0")->master = 4;
	add(&c, 3, NET_KIND_TAP, "husk-tap2")->master = 4;
	strcpy(add(&c, 4, NET_KIND_BRIDGE, "husk-br2")->alias, "husk-mac:02:00:00:00:00:2a husk:a");
	add(&c, 5, NET_KIND_VETH, "eth1")->master = 6;
	add(&c, 6, NET_KIND_BRIDGE, "br0");
	add(&c, 7, NET_KIND_TAP, "husk-tap6")->addresses = xcalloc(1, sizeof(struct net_address));

	assert_false(tap_is_stale(&c, &c.links[0]));
	tap_hide(&c);
	assert_int_equal(c.n_links, 3);
	assert_string_equal(c.links[0].name, "eth0");
	assert_int_equal(c.links[0].master, 0);
	assert_memory_equal(c.links[0].mac, own, 6);
	assert_string_equal(c.links[1].name, "eth1");
	assert_int_equal(c.links[1].master, 6);
	assert_memory_equal(c.links[1].mac, other, 6);
	assert_string_equal(c.links[2].name, "br0");
	net_config_free(&c);
}

static void an_address_that_somebody_gave_meanwhile_is_the_links(void **state)
{
	struct net_config c = {0};

	(void)state;
	add(&c, 2, NET_KIND_VETH, "eth0")->master = 4;
	memcpy(add(&c, 4, NET_KIND_BRIDGE, "husk-br2")->mac, own, 6);
	strcpy(c.links[1].alias, "husk-mac:02:00:00:00:00:99 husk:a");
	assert_true(tap_is_stale(&c, &c.links[0]));
	assert_false(tap_is_stale(&c, &c.links[1]));
	tap_hide(&c);
	assert_int_equal(c.n_links, 1);
	assert_memory_equal(c.links[0].mac, other, 6);
	net_config_free(&c);
}

static void a_wrong_alias_has_no_address(void **state)
{
	static const char *const wrong[] = {"", "husk:a", "husk-mac:", "husk-mac:02:00:00:00:00",
					    "husk-mac:zz:00:00:00:00:2a husk:a"};
	uint8_t mac[6];

	(void)state;
	memcpy(mac, other, sizeof(mac));
	for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
		assert_false(bridge_keeps_mac(wrong[i], mac));
	assert_memory_equal(mac, other, 6);
	assert_true(bridge_keeps_mac("husk-mac:02:00:00:00:00:2a husk:a", mac));
	assert_memory_equal(mac, own, 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_has_the_index_of_the_link),
		cmocka_unit_test(large_indexes_have_names_that_fit),
		cmocka_unit_test(ours_are_known_by_name_and_kind),
		cmocka_unit_test(a_dump_is_what_it_would_be_without_us),
		cmocka_unit_test(an_address_that_somebody_gave_meanwhile_is_the_links),
		cmocka_unit_test(a_wrong_alias_has_no_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
