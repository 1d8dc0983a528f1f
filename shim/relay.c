#include "shim/relay.h"
#include "lib/cleanup.h"
#include "lib/log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define BUF (128u << 10)
#define STACK (64u << 10)

/* Inherited fds may be non-blocking: their flags are shared with others and stay as they are. */
static void wait_for(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	poll(&p, 1, -1);
}

/* Moves some bytes without copying them. 1: moved, 0: end, -1: not possible with these fds.
 *
 * Never a splice that waits: it would hold the pipe's lock all the while, and others who write to
 * the same pipe (stderr next to stdout, the program that feeds us) would sleep uninterruptibly. */
static int move_by_splice(struct relay *r)
{
	for (;;) {
		ssize_t n =
			splice(r->from, NULL, r->to, NULL, BUF, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n > 0)
			return 1;
		if (n == 0)
			return 0;
		if (errno == EAGAIN) {
			wait_for(r->from, POLLIN);
			wait_for(r->to, POLLOUT);
		} else if (errno != EINTR) {
			return errno == EINVAL ? -1 : 0;
		}
	}
}

static bool write_out(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EAGAIN) {
			wait_for(fd, POLLOUT);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static void move_by_copy(struct relay *r)
{
	for (;;) {
		ssize_t n = read(r->from, r->buf, BUF);

		if (n < 0 && errno == EAGAIN)
			wait_for(r->from, POLLIN);
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n <= 0 || !write_out(r->to, r->buf, (size_t)n))
			return;
	}
}

static void *relay_main(void *arg)
{
	struct relay *r = arg;
	int s;

	while ((s = move_by_splice(r)) > 0)
		;
	if (s < 0)
		move_by_copy(r);
	if (r->shut_to)
		shutdown(r->to, SHUT_WR);
	else /* our reader has gone: the process gets EPIPE instead of waiting for ever */
		shutdown(r->from, SHUT_RDWR);
	return NULL;
}

int relay_start(struct relay *r, int from, int to, bool shut_to, struct error *err)
{
	pthread_attr_t attr;
	int e;

	*r = (struct relay){.from = from, .to = to, .shut_to = shut_to};
	/* Mapped, not malloc'ed: pages that splice spares us are never touched. */
	r->buf = mmap(NULL, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r->buf == MAP_FAILED)
		return error_errno(err, "mmap");
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	e = pthread_create(&r->thread, &attr, relay_main, r);
	pthread_attr_destroy(&attr);
	if (e) {
		errno = e;
		error_errno(err, "pthread_create");
		munmap(r->buf, BUF);
		return -1;
	}
	r->started = true;
	return 0;
}

static void joined(struct relay *r)
{
	munmap(r->buf, BUF);
	r->started = false;
}

void relay_join(struct relay *r)
{
	if (!r->started)
		return;
	pthread_join(r->thread, NULL);
	joined(r);
}

bool relay_join_within(struct relay *r, unsigned ms)
{
	uint64_t end = now_us() + ms * 1000ull;
	struct timespec ts = {.tv_sec = (time_t)(end / 1000000),
			      .tv_nsec = (long)(end % 1000000) * 1000};

	if (!r->started)
		return true;
	if (pthread_clockjoin_np(r->thread, NULL, CLOCK_MONOTONIC, &ts) != 0)
		return false;
	joined(r);
	return true;
}
