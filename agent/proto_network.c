/*
 * proto_network.c - the members of `network`: what the guest's network is to be like.
 */
#include "agent/proto_network.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "netns/config_json.h"

#include <string.h>

void proto_network_free(struct proto_network *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n_sysctls; i++) {
		free(n->sysctls[i].name);
		free(n->sysctls[i].value);
	}
	free(n->sysctls);
	free(n->cards);
	net_config_free(&n->config);
	free(n);
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "02:42:ac:11:00:02", and nothing else. */
static bool mac_from_text(const char *s, uint8_t mac[6])
{
	for (int i = 0; i < 6; i++, s += 3) {
		int hi = hex(s[0]), lo = hi < 0 ? -1 : hex(s[1]);

		if (lo < 0 || s[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)(hi << 4 | lo);
	}
	return true;
}

static int parse_card(yajl_val v, size_t i, struct proto_network *n, struct error *err)
{
	const char *mac = json_str(v, "mac");
	struct proto_card *c = &n->cards[i];
	int64_t link;

	if (!json_get_int(v, "link", &link) || link < 1 || link > INT32_MAX ||
	    !net_config_link(&n->config, (unsigned)link))
		return error_kind(err, ERR_INVALID,
				  "cards[%zu].link: must be the index of a member of links", i);
	if (!mac || !mac_from_text(mac, c->mac))
		return error_kind(err, ERR_INVALID,
				  "cards[%zu].mac: must be six pairs of hexadecimal digits", i);
	c->link = (unsigned)link;
	for (size_t k = 0; k < i; k++)
		if (n->cards[k].link == c->link || memcmp(n->cards[k].mac, c->mac, 6) == 0)
			return error_kind(err, ERR_INVALID,
					  "cards[%zu]: same link or address as cards[%zu]", i, k);
	return 0;
}

static int parse_cards(yajl_val tree, struct proto_network *n, struct error *err)
{
	yajl_val list = json_get(tree, "cards");

	if (!list)
		return 0;
	if (!YAJL_IS_ARRAY(list) || list->u.array.len > PROTO_CARDS_MAX)
		return error_kind(err, ERR_INVALID, "cards: must be a list of at most %d",
				  PROTO_CARDS_MAX);
	n->cards = xcalloc(list->u.array.len + 1, sizeof(*n->cards));
	for (size_t i = 0; i < list->u.array.len; i++) {
		if (parse_card(list->u.array.values[i], i, n, err) < 0)
			return -1;
		n->n_cards = i + 1;
	}
	return 0;
}

/* A member of a path: of letters, digits and what else may be in the name of an interface. */
static size_t part(const char *s)
{
	size_t n = strcspn(s, "/");

	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] == 0x7f)
			return 0;
	return (n == 1 && s[0] == '.') || (n == 2 && s[0] == '.' && s[1] == '.') ? 0 : n;
}

/* net/ipv4/conf/INTERFACE/NAME, ipv6 or neigh in their places. */
static bool is_of_interface(const char *name)
{
	static const char *const heads[] = {"net/ipv4/conf/", "net/ipv6/conf/", "net/ipv4/neigh/",
					    "net/ipv6/neigh/"};

	for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
		size_t head = strlen(heads[i]), n;

		if (strncmp(name, heads[i], head) != 0)
			continue;
		n = part(name + head);
		if (n == 0 || n >= IFNAMSIZ || name[head + n] != '/')
			return false;
		name += head + n + 1;
		n = part(name);
		return n > 0 && n <= 64 && name[n] == '\0';
	}
	return false;
}

static int parse_sysctl(const char *name, yajl_val v, struct proto_sysctl *s, struct error *err)
{
	const char *value = YAJL_GET_STRING(v);

	if (!is_of_interface(name))
		return error_kind(err, ERR_INVALID, "sysctls[\"%.128s\"]: not of an interface",
				  name);
	if (!value || strlen(value) > PROTO_SYSCTL_VALUE_MAX)
		return error_kind(err, ERR_INVALID,
				  "sysctls[\"%.128s\"]: must be a string of at most %d bytes", name,
				  PROTO_SYSCTL_VALUE_MAX);
	s->name = xstrdup(name);
	s->value = xstrdup(value);
	return 0;
}

static int parse_sysctls(yajl_val tree, struct proto_network *n, struct error *err)
{
	yajl_val obj = json_get(tree, "sysctls");

	if (!obj)
		return 0;
	if (!YAJL_IS_OBJECT(obj) || obj->u.object.len > PROTO_SYSCTLS_MAX)
		return error_kind(err, ERR_INVALID, "sysctls: must be an object of at most %d",
				  PROTO_SYSCTLS_MAX);
	n->sysctls = xcalloc(obj->u.object.len + 1, sizeof(*n->sysctls));
	for (size_t i = 0; i < obj->u.object.len; i++) {
		if (parse_sysctl(obj->u.object.keys[i], obj->u.object.values[i], &n->sysctls[i],
				 err) < 0)
			return -1;
		n->n_sysctls = i + 1;
	}
	return 0;
}

int proto_network_parse(yajl_val tree, struct proto_network **out, struct error *err)
{
	struct proto_network *n = xcalloc(1, sizeof(*n));

	n->resolver = json_bool(tree, "resolver", false);
	if (net_config_read(tree, &n->config, err) < 0 || parse_cards(tree, n, err) < 0 ||
	    parse_sysctls(tree, n, err) < 0) {
		proto_network_free(n);
		return -1;
	}
	*out = n;
	return 0;
}
