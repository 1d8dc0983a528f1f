/*
 * rtnl.h - a route socket (rtnetlink(7)): requests with their acknowledgements, and dumps.
 *
 *	cleanup_rtnl struct rtnl *r = rtnl_open(err);
 *	struct nlmsghdr *m = rtnl_request(r, RTM_NEWLINK, 0);
 *	struct ifinfomsg *ifi = rtnl_header(m, sizeof(*ifi));
 *
 *	ifi->ifi_index = index;
 *	rtnl_put_u32(m, IFLA_MTU, 1400);
 *	if (rtnl_talk(r, m, err) < 0)
 *		return error_wrap(err, "set the MTU of %s", name);
 *
 * A socket is its caller's alone (one thread at a time). It belongs to the network namespace that
 * its maker was in, wherever the thread goes afterwards.
 *
 * It is made of libmnl. The guest's agent is static and Debian's libmnl is not, so there the
 * functions that are used here come from agent/mnl/.
 */
#ifndef HUSK_NETNS_RTNL_H
#define HUSK_NETNS_RTNL_H

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/error.h"
#include "netns/config.h"

/* Bytes of one request. Far more than any that is made of one object of config.h. */
#define RTNL_REQUEST_MAX 32768
/* Bytes of one dump; a namespace that has more is refused. */
#define RTNL_DUMP_MAX (32u << 20)

struct rtnl;

/* A socket of the calling thread's namespace; NULL on error. */
struct rtnl *rtnl_open(struct error *err);
void rtnl_close(struct rtnl *r); /* NULL is allowed */

static inline void rtnl_closep(struct rtnl **r)
{
	rtnl_close(*r);
}
#define cleanup_rtnl __attribute__((cleanup(rtnl_closep)))

/* Begins a request, in the socket's own buffer: the one before is over. NLM_F_REQUEST and NLM_F_ACK
 * are added to `flags`. Header and attributes follow; one that has no room any more spoils the
 * request, which rtnl_talk() and its like then refuse. */
struct nlmsghdr *rtnl_request(struct rtnl *r, uint16_t type, uint16_t flags);
/* The family's header (struct ifinfomsg, rtmsg, tcmsg, ...), all zeroes. */
void *rtnl_header(struct nlmsghdr *m, size_t size);
void rtnl_put(struct nlmsghdr *m, uint16_t type, const void *data, size_t len);
void rtnl_put_u8(struct nlmsghdr *m, uint16_t type, uint8_t v);
void rtnl_put_u16(struct nlmsghdr *m, uint16_t type, uint16_t v);
void rtnl_put_u32(struct nlmsghdr *m, uint16_t type, uint32_t v);
void rtnl_put_str(struct nlmsghdr *m, uint16_t type, const char *s);	      /* with its NUL */
void rtnl_put_ip(struct nlmsghdr *m, uint16_t type, const struct net_ip *ip); /* none: nothing */
/* Attributes put between the two are within this one. */
struct nlattr *rtnl_nest(struct nlmsghdr *m, uint16_t type);
void rtnl_nest_end(struct nlmsghdr *m, struct nlattr *nest);
/* Raw bytes that are not an attribute, such as a struct rtnexthop; padded. NULL: no room. */
void *rtnl_put_raw(struct nlmsghdr *m, size_t len);

/* Sends the request and waits for the acknowledgement. When the kernel refuses, err->errnum is its
 * error, and the message its words for it: callers put the object before it with error_wrap(). */
int rtnl_talk(struct rtnl *r, struct nlmsghdr *m, struct error *err);

/* Is called for one message (m->nlmsg_len bytes are there). -1 with `err` filled ends it. */
typedef int (*rtnl_fn)(const struct nlmsghdr *m, void *arg, struct error *err);

/* The same for a request that is answered, such as RTM_GETLINK of one link, or any with NLM_F_ECHO.
 * `fn` is called after the acknowledgement, and may use the socket. */
int rtnl_ask(struct rtnl *r, struct nlmsghdr *m, rtnl_fn fn, void *arg, struct error *err);

/* Sends the request with NLM_F_DUMP. Headers are checked strictly, so their members filter (where
 * the kernel does): ifindex of a tcmsg, table of a rtmsg. `fn` is called when all of it is there
 * and the kernel has not said that it changed meanwhile (such a dump is taken again); it may use
 * the socket. */
int rtnl_dump(struct rtnl *r, struct nlmsghdr *m, rtnl_fn fn, void *arg, struct error *err);

#endif
