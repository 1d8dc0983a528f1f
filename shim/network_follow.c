/*
 * Follows the network namespace of a running container: one thread in the proxy of its init, which
 * sits in that namespace.
 *
 * It waits on a route socket that is sent every change there, and on the guest's name server
 * (resolver.c). Changes come in bursts: an engine that connects a network makes a link, moves,
 * renames and addresses it in a few milliseconds. So a sync waits until nothing was heard for
 * QUIET_MS, but no longer than BURST_MS. What a sync does to the namespace comes back as an event;
 * the sync after that one finds nothing to do. One that failed is tried again, and since what it
 * made and took back are events, too, not before some time has passed.
 *
 * Nobody is there to take an error: it is a warning in the log, once.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "netns/tap.h"
#include "netns/watch.h"
#include "shim/agent_client.h"
#include "shim/network.h"
#include "shim/network_guest.h"
#include "shim/resolver.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>

#define STACK (512u << 10) /* of address space */
#define QUIET_MS 5
#define BURST_MS 50
#define PAUSE_MS 1000 /* after a failure; after each further one twice as long */
#define PAUSE_DOUBLINGS 3
#define CONNECT_MS 10000
#define UDP_MAX (4u << 20)

struct network {
	pthread_t thread;
	bool running;
	char *container;
	int dirfd, stop, watch;
	struct resolver *resolver;
	uint64_t heard_us,
		first_us;  /* the last change, and the first since the last sync; 0: none */
	unsigned failures; /* of syncs, one after the other */
	uint64_t not_before_us;
	char warned[ERROR_MSG_MAX];
};

/* What ends because the container does is nobody's warning. */
static bool is_the_end(const struct error *why)
{
	return why->kind == ERR_NOT_RUNNING || why->kind == ERR_PEER ||
	       why->kind == ERR_INTERRUPTED;
}

static void warn(struct network *n, const struct error *why)
{
	if (is_the_end(why) || strcmp(n->warned, why->msg) == 0)
		return;
	snprintf(n->warned, sizeof(n->warned), "%s", why->msg);
	log_warn("container \"%s\": its network is not as its namespace's: %s", n->container,
		 why->msg);
}

/* ---- the name server */

static bool has_resolver(void)
{
	cleanup_free char *text = NULL;

	return file_read(AT_FDCWD, "/proc/thread-self/net/udp", UDP_MAX, &text, NULL, NULL) == 0 &&
	       network_has_resolver(text);
}

static int open_resolver(struct network *n, struct error *err)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	char token[AGENT_TOKEN_LEN + 1];
	int stream;

	if (vmm_connect(n->dirfd, &vmm, err) < 0)
		return -1;
	vmm.intr_fd = n->stop;
	if (agent_connect(&vmm, CONNECT_MS, &a, err) < 0 || agent_resolver(&a, token, err) < 0)
		return -1;
	stream = agent_open_stream(&vmm, token, err);
	if (stream < 0)
		return -1;
	n->resolver = resolver_new(stream, err);
	return n->resolver ? 0 : -1;
}

static void end_resolver(struct network *n)
{
	resolver_free(n->resolver);
	n->resolver = NULL;
}

/* ---- the thread */

/* What a microVM cannot have was left alone, and does not change by itself. */
static void note_result(struct network *n, const struct error *why)
{
	if (!why || why->kind == ERR_UNSUPPORTED) {
		n->failures = 0;
		n->not_before_us = 0;
		return;
	}
	n->first_us = n->heard_us = now_us();
	n->not_before_us = n->first_us + ((PAUSE_MS * 1000ull) << n->failures);
	if (n->failures < PAUSE_DOUBLINGS)
		n->failures++;
}

static void sync_now(struct network *n)
{
	const struct network_place place = {
		.container = n->container, .dirfd = n->dirfd, .pid = getpid(), .intr_fd = n->stop};
	struct error err = ERROR_INIT;

	n->heard_us = n->first_us = 0;
	if (network_sync(&place, false, &err) == 0) {
		note_result(n, NULL);
	} else {
		warn(n, &err);
		note_result(n, &err);
	}
	err = (struct error)ERROR_INIT;
	if (!n->resolver && network_started(n->dirfd) && has_resolver() &&
	    open_resolver(n, &err) < 0)
		warn(n, &err);
}

static void hear(struct network *n)
{
	bool gone = false;

	if (netns_watch_take(n->watch, &gone)) {
		n->heard_us = now_us();
		if (!n->first_us)
			n->first_us = n->heard_us;
	}
	if (!gone)
		return;
	close_fd(&n->watch);
	log_warn("container \"%s\": its network namespace is followed no more: the kernel's "
		 "messages ended",
		 n->container);
}

static uint64_t due_us(const struct network *n)
{
	uint64_t quiet = n->heard_us + QUIET_MS * 1000, latest = n->first_us + BURST_MS * 1000;

	uint64_t due = quiet < latest ? quiet : latest;

	return due > n->not_before_us ? due : n->not_before_us;
}

static int wait_ms(const struct network *n)
{
	int names = n->resolver ? resolver_wait_ms(n->resolver) : -1, sync;
	uint64_t now = now_us(), due;

	if (!n->first_us)
		return names;
	due = due_us(n);
	sync = due <= now ? 0 : (int)((due - now) / 1000) + 1;
	return names >= 0 && names < sync ? names : sync;
}

static void *network_main(void *arg)
{
	struct network *n = arg;
	struct error err = ERROR_INIT;

	/* What happened between the start and this. */
	sync_now(n);
	for (;;) {
		struct pollfd p[3] = {{.fd = n->stop, .events = POLLIN},
				      {.fd = n->watch, .events = POLLIN},
				      {.fd = n->resolver ? resolver_fd(n->resolver) : -1,
				       .events = POLLIN}};

		if (poll(p, ARRAY_LEN(p), wait_ms(n)) < 0)
			continue;
		if (p[0].revents)
			break;
		if (p[1].revents)
			hear(n);
		/* It is opened anew when there is something to tell the guest. */
		if (n->resolver && resolver_step(n->resolver, &err) < 0)
			end_resolver(n);
		if (n->first_us && now_us() >= due_us(n))
			sync_now(n);
	}
	return NULL;
}

static int start_thread(struct network *n, struct error *err)
{
	pthread_attr_t attr;
	int e;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	e = pthread_create(&n->thread, &attr, network_main, n);
	pthread_attr_destroy(&attr);
	errno = e;
	n->running = e == 0;
	return e ? error_errno(err, "pthread_create") : 0;
}

static void network_free(struct network *n)
{
	end_resolver(n);
	close_fd(&n->watch);
	close_fd(&n->stop);
	free(n->container);
	free(n);
}

struct network *network_follow(const char *container, int dirfd, struct error *err)
{
	struct network *n = xcalloc(1, sizeof(*n));

	*n = (struct network){.container = xstrdup(container),
			      .dirfd = dirfd,
			      .stop = eventfd(0, EFD_CLOEXEC),
			      .watch = -1};
	if (n->stop < 0)
		error_errno(err, "eventfd");
	else
		n->watch = netns_watch(err);
	if (n->watch >= 0 && start_thread(n, err) == 0)
		return n;
	network_free(n);
	return NULL;
}

void network_stop(struct network *n)
{
	if (!n || !n->running)
		return;
	eventfd_write(n->stop, 1);
	pthread_join(n->thread, NULL);
	n->running = false;
	end_resolver(n);
	network_let_go(n->dirfd);
}

void network_end(struct network *n)
{
	if (!n)
		return;
	network_stop(n);
	network_clean(n->dirfd, "/proc/self/ns/net", n->container);
	network_free(n);
}
