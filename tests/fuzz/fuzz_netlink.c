/* rtnetlink messages of any origin. What they are taken for is within the bounds of its types, and
 * the guest's end reads it as it was written. */
#include "lib/cleanup.h"
#include "netns/config_json.h"
#include "netns/dump.h"
#include "netns/parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void expect_terminated(const char *s, size_t size)
{
	expect(memchr(s, '\0', size) != NULL);
}

static void expect_bounds(const struct net_config *c)
{
	for (size_t i = 0; i < c->n_links; i++) {
		const struct net_link *l = &c->links[i];

		expect(net_name_valid(l->name));
		expect(net_config_link(c, l->index) == l);
		expect_terminated(l->kind_name, sizeof(l->kind_name));
		expect_terminated(l->alias, sizeof(l->alias));
		for (size_t j = 0; j < l->n_addresses; j++) {
			expect(l->addresses[j].local.len <=
			       net_ip_size(l->addresses[j].local.ip.family) * 8);
			expect_terminated(l->addresses[j].label, sizeof(l->addresses[j].label));
			expect(net_address_same(&l->addresses[j], &l->addresses[j]));
		}
	}
	for (size_t i = 0; i < c->n_routes; i++) {
		char text[NET_ROUTE_TEXT_MAX];

		expect(net_ip_size(c->routes[i].family) > 0);
		expect(c->routes[i].dst.len <= net_ip_size(c->routes[i].family) * 8);
		expect(net_route_equal(&c->routes[i], &c->routes[i]));
		net_route_text(&c->routes[i], text);
	}
	for (size_t i = 0; i < c->n_rules; i++)
		expect(net_rule_equal(&c->rules[i], &c->rules[i]));
	for (size_t i = 0; i < c->n_neighbours; i++)
		expect(net_config_link(c, c->neighbours[i].link) != NULL);
}

static void expect_json(const struct net_config *c)
{
	cleanup_net_config struct net_config back = {0};
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;
	struct error err = ERROR_INIT;
	const char *text;
	size_t len;

	expect(jsonw_init(&w, false, NULL) == 0);
	jsonw_obj(&w);
	net_config_write(&w, c);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, NULL);
	expect(text != NULL);
	v = json_parse(text, len, NULL);
	expect(v != NULL && net_config_read(v, &back, &err) == 0);
	expect(back.n_links == c->n_links && back.n_routes == c->n_routes &&
	       back.n_rules == c->n_rules && back.n_neighbours == c->n_neighbours);
	for (size_t i = 0; i < c->n_routes; i++)
		expect(net_route_equal(&back.routes[i], &c->routes[i]));
}

/* Addresses, routes and neighbours need links. */
static void begin(struct net_config *c)
{
	for (unsigned i = 1; i < 6; i++) {
		struct net_link *l = net_config_add_link(c, NULL);

		l->index = i;
		snprintf(l->name, sizeof(l->name), "seed%u", i);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_net_config struct net_config c = {0};
	cleanup_nexthop_objects struct nexthop_objects o = {0};

	if (size > sizeof(struct nlmsghdr) && data[4] != RTM_NEWLINK)
		begin(&c);
	while (size >= sizeof(struct nlmsghdr)) {
		cleanup_free char *msg = NULL;
		struct error err = ERROR_INIT;
		struct nlmsghdr h;
		size_t len;
		int r;

		memcpy(&h, data, sizeof(h));
		len = h.nlmsg_len >= sizeof(h) && h.nlmsg_len <= size ? h.nlmsg_len : size;
		/* A copy of the exact size: a byte read behind it is seen. */
		msg = malloc(len);
		memcpy(msg, data, len);
		r = parse_nexthop(msg, len, &o, &err);
		if (r < 0)
			r = parse_message(msg, len, &c, &o, &err);
		expect(r >= 0 || err.msg[0] != '\0');
		len = NLMSG_ALIGN(len) < size ? NLMSG_ALIGN(len) : size;
		data += len;
		size -= len;
	}
	expect_bounds(&c);
	expect_json(&c);
	return 0;
}
