/*
 * `network`: requests take turns. A worker waits for the cards of the first one, if they are not
 * all there; then PID 1 does the rest, which does not have to wait for anything.
 */
#include "agent/request_network.h"
#include "agent/proto_network.h"
#include "agent/redirect.h"
#include "agent/sysctl.h"
#include "agent/worker.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/tap.h"

#include <arpa/inet.h>

struct network_request {
	struct network_request *next; /* in the order in which they came */
	struct procs *set;
	struct proto_network *want;
	struct waiter *asker;
	uint64_t begun_us;
};

/* config.json's sysctls of interfaces come last: they are what the container asked for. */
static int on_interfaces(void *arg, struct error *err)
{
	const struct procs *set = arg;
	int r = 0;

	for (const struct ctr *ctr = set->ctrs; ctr; ctr = ctr->next)
		if (!ctr->deleting &&
		    sysctl_apply_interfaces(ctr->c->spec, false, r < 0 ? NULL : err) < 0)
			r = -1;
	return r;
}

/* Nobody is given it (network.c), and what comes to it from outside stays outside. */
_Static_assert(NAMES_BEHIND >= NET_PORTS_FIRST && NAMES_BEHIND <= NET_PORTS_LAST,
	       "a reserved port");

static int serve_names(struct procs *set, bool on, struct error *err)
{
	struct in_addr at;

	if (!on)
		return names_serve(set->names, 0, err);
	inet_pton(AF_INET, NAMES_ADDRESS, &at);
	if (!set->names_redirected && redirect_port(at, NAMES_PORT, NAMES_BEHIND, err) < 0)
		return -1;
	set->names_redirected = true;
	return names_serve(set->names, NAMES_BEHIND, err);
}

static void request_free(struct network_request *n)
{
	proto_network_free(n->want);
	free(n);
}

/* What can be done is done, also if cards are missing. The error is the first one. */
static void finish(struct network_request *n, const struct error *missing)
{
	struct procs *set = n->set;
	bool names = n->want->resolver;
	struct error err = ERROR_INIT, e = ERROR_INIT;
	bool failed = missing != NULL;

	if (missing)
		err = *missing;
	if (network_apply(set->network, n->want, on_interfaces, set, &e) < 0) {
		err = failed ? err : e;
		failed = true;
	}
	if (serve_names(set, names, &e) < 0) {
		err = failed ? err : e;
		failed = true;
	}
	log_elapsed("network", n->begun_us);
	if (failed)
		waiters_fail(set, &n->asker, &err);
	else
		waiters_reply(set, &n->asker, &(struct proto_reply){.type = REPLY_OK});
}

static int await_cards(void *arg, struct error *err)
{
	const struct network_request *n = arg;

	return network_await(n->set->network, n->want, err);
}

static void begin_next(struct procs *set);

static void on_cards(void *arg, const struct error *failure)
{
	struct network_request *n = arg;
	struct procs *set = n->set;

	finish(n, failure);
	set->network_requests = n->next;
	request_free(n);
	begin_next(set);
}

static void begin_next(struct procs *set)
{
	struct network_request *n;

	while ((n = set->network_requests)) {
		struct worker_job job = {.name = "husk-network",
					 .work = await_cards,
					 .arg = n,
					 .keep = network_hiding(set->network),
					 .done = on_cards};
		struct error err = ERROR_INIT;
		bool there = network_is_there(set->network, n->want);

		n->begun_us = now_us();
		if (!there && worker_start(set, NULL, &job, &err) == 0)
			return;
		finish(n, there ? NULL : &err);
		set->network_requests = n->next;
		request_free(n);
	}
}

int request_network(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct network_request *n = xcalloc(1, sizeof(*n)), **at = &set->network_requests;
	bool idle = !*at;

	*n = (struct network_request){.set = set};
	if (waiter_add(set, &n->asker, client, r->seq, err) < 0) {
		free(n);
		return -1;
	}
	n->want = steal_ptr(&r->network);
	while (*at)
		at = &(*at)->next;
	*at = n;
	if (idle)
		begin_next(set);
	return 0;
}

int request_resolver(struct procs *set, void *client, struct proto_request *r, struct error *err)
{
	struct proto_reply reply = {.type = REPLY_STREAM, .seq = r->seq};

	if (names_stream(set->names, reply.stream, err) < 0)
		return -1;
	set->ops->reply(client, &reply);
	return 0;
}

void network_requests_client_gone(struct procs *set, const void *client)
{
	for (struct network_request *n = set->network_requests; n; n = n->next)
		waiters_forget(set, &n->asker, client);
}

void network_requests_free(struct procs *set)
{
	while (set->network_requests) {
		struct network_request *n = set->network_requests;

		set->network_requests = n->next;
		while (n->asker)
			waiters_forget(set, &n->asker, n->asker->client);
		request_free(n);
	}
}
