/*
 * net_pair.c - a pair of queues, its TAP and the thread that serves them.
 *
 * Theory of operation
 *
 * The thread exists while at least one of the two queues runs. The loop's thread says which ones it
 * shall serve (`want`); the thread answers by what it serves (`have`), and net_pair_serve() waits
 * until they agree. So a queue that was stopped is not touched any more, and the thread sees a TAP,
 * limits and features that do not change in its life.
 *
 * In turns: what the guest sends, what it receives, and then a poll() that waits only if neither
 * has more to do. It waits for just what can help:
 *
 *	sending    a kick; the TAP's POLLOUT, if it took no more; the time that a limit gives
 *	receiving  the TAP's POLLIN; a kick, if the guest gave no buffers; the time of a limit
 *
 * A descriptor that cannot help is not in the set, whatever state it is in: a guest without buffers
 * and a TAP without a device cost nothing.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/jail.h"
#include "vmm/virtio/net_dev.h"

/* syscalls net: read ppoll */
/* syscalls loop: eventfd2 read write close */

#define STACK_BYTES (128u << 10)

enum { POLL_WAKE, POLL_TAP, POLL_RX, POLL_TX, POLL_N };

void net_pair_lost(struct net_pair *p)
{
	uint64_t one = 1;

	if (p->dead)
		return;
	__atomic_store_n(&p->dead, true, __ATOMIC_RELEASE);
	(void)!write(p->net->news, &one, sizeof(one));
}

static void take_orders(struct net_pair *p)
{
	unsigned want = __atomic_load_n(&p->want, __ATOMIC_ACQUIRE);

	if (want == p->have)
		return;
	pthread_mutex_lock(&p->lock);
	want = p->want;
	if (p->have & ~want & NET_SERVE_RX)
		net_rx_stop(p);
	if (want & ~p->have & NET_SERVE_TX)
		p->tx_ready = true; /* a kick may have come before anybody watched */
	if (want & ~p->have & NET_SERVE_RX)
		p->rx_ready = true;
	p->have = want;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static bool rx_can(const struct net_pair *p)
{
	return (p->have & NET_SERVE_RX) && p->tap >= 0 && !p->dead && net_is_up(p->net);
}

/* ---- waiting */

static void earlier(uint64_t *at, uint64_t candidate)
{
	if (candidate && (!*at || candidate < *at))
		*at = candidate;
}

/* What to wait for; returns until when: 0: no limit, 1: not at all. */
static uint64_t fill_set(const struct net_pair *p, struct pollfd *set)
{
	uint64_t until = 0;
	bool rx = rx_can(p);
	short tap = 0;

	for (unsigned i = 0; i < POLL_N; i++)
		set[i] = (struct pollfd){.fd = -1, .events = POLLIN};
	set[POLL_WAKE].fd = p->wake;
	if (p->have & NET_SERVE_TX) {
		if (p->tx_at)
			until = p->tx_at;
		else if (p->tx_blocked)
			tap |= POLLOUT;
		else if (p->tx_ready)
			until = 1;
		else
			set[POLL_TX].fd = p->tx->kick_fd;
	}
	if (rx && p->rx_at)
		earlier(&until, p->rx_at);
	else if (rx && p->rx_starved)
		set[POLL_RX].fd = p->rx->kick_fd;
	else if (rx && p->rx_ready)
		until = 1;
	else if (rx)
		tap |= POLLIN;
	if (tap && p->tap >= 0 && !p->dead) {
		set[POLL_TAP].fd = p->tap;
		set[POLL_TAP].events = tap;
	}
	return until;
}

static int timeout(uint64_t until, struct timespec *t)
{
	uint64_t now = until > 1 ? now_us() : 0;
	uint64_t us = until > now && until > 1 ? until - now : 0;

	*t = (struct timespec){.tv_sec = (time_t)(us / 1000000),
			       .tv_nsec = (long)(us % 1000000) * 1000};
	return until != 0;
}

static void look_at(struct net_pair *p, const struct pollfd *set)
{
	uint64_t n;

	if (set[POLL_WAKE].revents)
		(void)!read(p->wake, &n, sizeof(n));
	if (set[POLL_TX].revents) {
		(void)!read(p->tx->kick_fd, &n, sizeof(n));
		p->tx_ready = true;
	}
	if (set[POLL_RX].revents) {
		(void)!read(p->rx->kick_fd, &n, sizeof(n));
		p->rx_starved = false;
		p->rx_ready = true;
	}
	if (set[POLL_TAP].revents & POLLIN)
		p->rx_ready = true;
	if (set[POLL_TAP].revents & POLLOUT)
		p->tx_blocked = false;
	if (set[POLL_TAP].revents & (POLLERR | POLLHUP | POLLNVAL) &&
	    !(set[POLL_TAP].revents & POLLIN)) {
		p->tx_blocked = false;
		net_pair_lost(p);
	}
	if (!p->tx_blocked && set[POLL_TAP].events & POLLOUT)
		p->tx_ready = true;
}

static void over_when_due(uint64_t *at, uint64_t now, bool *ready)
{
	if (!*at || *at > now)
		return;
	*at = 0;
	*ready = true;
}

static void wait_for_work(struct net_pair *p)
{
	struct pollfd set[POLL_N];
	struct timespec t;
	uint64_t until = fill_set(p, set);

	if (ppoll(set, POLL_N, timeout(until, &t) ? &t : NULL, NULL) > 0)
		look_at(p, set);
	if (p->rx_at || p->tx_at) {
		uint64_t now = now_us();

		over_when_due(&p->rx_at, now, &p->rx_ready);
		over_when_due(&p->tx_at, now, &p->tx_ready);
	}
}

static void *net_thread(void *arg)
{
	struct net_pair *p = arg;

	pthread_setname_np(pthread_self(), "net");
	jail_thread(JAIL_NET);
	for (;;) {
		take_orders(p);
		if (!p->have)
			return NULL;
		if ((p->have & NET_SERVE_TX) && p->tx_ready && !p->tx_at)
			net_tx(p);
		if (rx_can(p) && p->rx_ready && !p->rx_at)
			net_rx(p);
		wait_for_work(p);
	}
}

/* ---- the loop's side */

static int start_thread(struct net_pair *p, struct error *err)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* Signals are the main thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&p->thread, &attr, net_thread, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r) {
		errno = r;
		return error_errno(err, "network card: start a thread");
	}
	p->threaded = true;
	return 0;
}

void net_pair_wake(struct net_pair *p)
{
	uint64_t one = 1;

	(void)!write(p->wake, &one, sizeof(one));
}

static void forget(struct net_pair *p)
{
	p->rx_ready = p->tx_ready = p->rx_starved = p->tx_blocked = false;
	p->rx_at = p->tx_at = 0;
}

int net_pair_serve(struct net_pair *p, unsigned what, struct error *err)
{
	if (what == p->want)
		return 0;
	pthread_mutex_lock(&p->lock);
	__atomic_store_n(&p->want, what, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&p->lock);
	if (!p->threaded) {
		forget(p);
		if (start_thread(p, err) < 0) {
			p->want = 0;
			return -1;
		}
	}
	net_pair_wake(p);
	pthread_mutex_lock(&p->lock);
	while (p->have != what)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	if (!what) {
		pthread_join(p->thread, NULL);
		p->threaded = false;
	}
	return 0;
}

int net_pair_init(struct net_pair *p, struct net *n, unsigned i, struct error *err)
{
	p->net = n;
	p->rx = &n->d.vq[2 * i + NET_QUEUE_RX];
	p->tx = &n->d.vq[2 * i + NET_QUEUE_TX];
	p->tap = p->vhost = -1;
	p->window.seg = p->window.seg_end = 1;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->wake < 0)
		return error_errno(err, "network card: eventfd");
	p->scratch = malloc(NET_PACKET_MAX);
	if (p->scratch)
		return 0;
	close_fd(&p->wake); /* a pair that is not whole is not freed */
	return error_set(err, "out of memory");
}

void net_pair_free(struct net_pair *p)
{
	net_pair_serve(p, 0, NULL);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
	close_fd(&p->wake);
	close_fd(&p->tap);
	close_fd(&p->vhost);
	free(p->scratch);
}
