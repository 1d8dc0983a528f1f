/*
 * recorded.h - what the kernel said of the network namespace that tests/tools/record_netlink.py
 * makes.
 */
#ifndef HUSK_TESTS_UNIT_RECORDED_H
#define HUSK_TESTS_UNIT_RECORDED_H

#include <fcntl.h>

#include "lib/file.h"
#include "netns/parse.h"

struct recorded {
	struct net_config c;
	struct nexthop_objects o;
};

typedef int (*recorded_fn)(void *msg, size_t len, struct recorded *f);

/* Calls `fn` for each message of the dump; the number of those. */
static inline unsigned recorded_each(const char *dump, recorded_fn fn, struct recorded *f)
{
	char *path = xasprintf("tests/fuzz/seeds/netlink/%s", dump), *text;
	unsigned n = 0;
	size_t len;

	assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &text, &len, NULL), 0);
	for (size_t at = 0; at < len; n++) {
		const struct nlmsghdr *h = (const void *)(text + at);

		assert_true(h->nlmsg_len >= sizeof(*h) && h->nlmsg_len <= len - at);
		assert_true(fn(text + at, h->nlmsg_len, f) >= 0);
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	free(text);
	free(path);
	return n;
}

static inline int recorded_parse(void *msg, size_t len, struct recorded *f)
{
	struct error err = ERROR_INIT;
	int r = parse_message(msg, len, &f->c, &f->o, &err);

	assert_string_equal(err.msg, "");
	return r;
}

static inline int recorded_object(void *msg, size_t len, struct recorded *f)
{
	return parse_nexthop(msg, len, &f->o, NULL);
}

static inline void recorded_load(struct recorded *f)
{
	static const char *const dumps[] = {"addresses", "routes", "rules", "neighbours",
					    "proxies"};

	recorded_each("links", recorded_parse, f);
	recorded_each("nexthops", recorded_object, f);
	for (size_t i = 0; i < sizeof(dumps) / sizeof(dumps[0]); i++)
		recorded_each(dumps[i], recorded_parse, f);
}

static inline void recorded_free(struct recorded *f)
{
	net_config_free(&f->c);
	nexthop_objects_free(&f->o);
}

#endif
