/*
 * nettest - traffic for tests of the network, inside a guest and on its other side.
 *
 *	serve PORT			says "ready", sends back what comes by TCP and UDP
 *	tcp ADDRESS PORT BYTES		there and back at once; "ok BYTES MILLISECONDS"
 *	many ADDRESS PORT N		N connections, open at the same time, each of use; "ok N"
 *	udp ADDRESS PORT BYTES		one datagram there and back; "ok BYTES"
 *	traffic ADDRESS PORT BYTES	tcp BYTES, then udp 1400 and 60000
 *	flood ADDRESS PORT MS		64-byte datagrams, as many as there is room for; "sent N"
 *	join GROUP INTERFACE PORT	says "ready", then what is sent to the group
 *	cast GROUP INTERFACE PORT TEXT
 *
 * An address is a number, with %INTERFACE behind a link-local one. Whoever waits does so for 20
 * seconds times HUSK_TEST_SLOW, then fails.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DATAGRAM_MAX 65536
#define PATTERN 65521 /* a prime: no block of a transfer is like the one before */
#define BLOCK 65536
#define TRIES 10 /* of a datagram */

struct address {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	};
	socklen_t len;
};

static uint8_t pattern[PATTERN + BLOCK];

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *fmt, ...)
{
	int e = errno;
	va_list ap;

	fputs("nettest: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, ": %s\n", strerror(e));
	exit(1);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int patience(void)
{
	const char *slow = getenv("HUSK_TEST_SLOW");
	int times = slow ? atoi(slow) : 1;

	return 20000 * (times < 1 ? 1 : times);
}

static void say(const char *what)
{
	puts(what);
	fflush(stdout);
}

static void make_pattern(void)
{
	uint32_t x = 2463534242u;

	for (size_t i = 0; i < PATTERN; i++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		pattern[i] = (uint8_t)x;
	}
	for (size_t i = PATTERN; i < sizeof(pattern); i++)
		pattern[i] = pattern[i - PATTERN];
}

static struct address parse_address(const char *text, const char *port)
{
	struct address a = {0};
	char host[INET6_ADDRSTRLEN + IF_NAMESIZE];
	char *zone;

	snprintf(host, sizeof(host), "%s", text);
	zone = strchr(host, '%');
	if (zone)
		*zone++ = '\0';
	if (inet_pton(AF_INET, host, &a.in.sin_addr) == 1) {
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons((uint16_t)atoi(port));
		a.len = sizeof(a.in);
	} else if (inet_pton(AF_INET6, host, &a.in6.sin6_addr) == 1) {
		a.in6.sin6_family = AF_INET6;
		a.in6.sin6_port = htons((uint16_t)atoi(port));
		a.in6.sin6_scope_id = zone ? if_nametoindex(zone) : 0;
		a.len = sizeof(a.in6);
	} else {
		errno = EINVAL;
		fail("%s", text);
	}
	return a;
}

static int make_socket(int family, int type)
{
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	return fd;
}

static void set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		fail("O_NONBLOCK");
}

/* ---- serve */

static int listener(int type, const char *port)
{
	struct address a = parse_address("::", port);
	int fd = make_socket(AF_INET6, type | SOCK_NONBLOCK), on = 1, off = 0, room = 4 << 20;

	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (type == SOCK_DGRAM) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	}
	if (bind(fd, &a.sa, a.len) < 0 || (type == SOCK_STREAM && listen(fd, 4096) < 0))
		fail("port %s", port);
	return fd;
}

/* Answers come from the address that was asked. */
static void echo_datagrams(int fd)
{
	static uint8_t data[DATAGRAM_MAX];
	uint8_t control[256];
	struct address from;

	for (;;) {
		struct iovec iov = {.iov_base = data, .iov_len = sizeof(data)};
		struct msghdr m = {.msg_name = &from.sa,
				   .msg_namelen = sizeof(from.in6),
				   .msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = control,
				   .msg_controllen = sizeof(control)};
		ssize_t n = recvmsg(fd, &m, 0);

		if (n < 0)
			return;
		iov.iov_len = (size_t)n;
		sendmsg(fd, &m, 0);
	}
}

/* A peer that does not read is not read either: the socket blocks, and it is a test's only peer. */
static bool echo_stream(int fd)
{
	static uint8_t data[BLOCK];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN;
	for (ssize_t done = 0; done < n;) {
		ssize_t w = send(fd, data + done, (size_t)(n - done), MSG_NOSIGNAL);

		if (w < 0)
			return false;
		done += w;
	}
	return n > 0;
}

static void watch_fd(int ep, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		fail("epoll");
}

static void serve_event(int ep, int tcp, int udp, int fd)
{
	int conn;

	if (fd == udp) {
		echo_datagrams(udp);
	} else if (fd == tcp) {
		while ((conn = accept4(tcp, NULL, NULL, SOCK_CLOEXEC)) >= 0)
			watch_fd(ep, conn);
	} else if (!echo_stream(fd)) {
		close(fd);
	}
}

__attribute__((noreturn)) static void serve(const char *port)
{
	int tcp = listener(SOCK_STREAM, port), udp = listener(SOCK_DGRAM, port);
	int ep = epoll_create1(EPOLL_CLOEXEC);

	watch_fd(ep, tcp);
	watch_fd(ep, udp);
	say("ready");
	for (;;) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, -1);

		if (n < 0 && errno != EINTR)
			fail("epoll_wait");
		for (int i = 0; i < n; i++)
			serve_event(ep, tcp, udp, ev[i].data.fd);
	}
}

/* ---- clients */

static void wait_for(int fd, short events, const char *what)
{
	struct pollfd p = {.fd = fd, .events = events};
	int r = poll(&p, 1, patience());

	if (r == 0)
		errno = ETIMEDOUT;
	if (r <= 0)
		fail("%s", what);
}

static void begin_connect(int fd, const struct address *a)
{
	set_nonblocking(fd);
	if (connect(fd, &a->sa, a->len) < 0 && errno != EINPROGRESS)
		fail("connect");
}

static void end_connect(int fd)
{
	int e = 0;
	socklen_t len = sizeof(e);

	wait_for(fd, POLLOUT, "connect");
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len);
	errno = e;
	if (e)
		fail("connect");
}

static size_t block_of(uint64_t left)
{
	return left < BLOCK ? (size_t)left : BLOCK;
}

static uint64_t receive_some(int fd, uint64_t at, uint64_t bytes)
{
	static uint8_t data[BLOCK];
	ssize_t n = recv(fd, data, block_of(bytes - at), 0);

	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n == 0)
		errno = EPIPE;
	if (n <= 0)
		fail("after %llu bytes", (unsigned long long)at);
	errno = EBADMSG;
	if (memcmp(data, pattern + at % PATTERN, (size_t)n) != 0)
		fail("after %llu bytes: not what was sent", (unsigned long long)at);
	return (uint64_t)n;
}

static void tcp(const struct address *a, uint64_t bytes)
{
	int fd = make_socket(a->sa.sa_family, SOCK_STREAM);
	uint64_t sent = 0, got = 0, begin;

	begin_connect(fd, a);
	end_connect(fd);
	begin = now_ms();
	while (got < bytes) {
		wait_for(fd, sent < bytes ? POLLIN | POLLOUT : POLLIN, "transfer");
		if (sent < bytes) {
			ssize_t n = send(fd, pattern + sent % PATTERN, block_of(bytes - sent),
					 MSG_NOSIGNAL);

			if (n < 0 && errno != EAGAIN)
				fail("send");
			sent += n > 0 ? (uint64_t)n : 0;
		}
		got += receive_some(fd, got, bytes);
	}
	close(fd);
	printf("ok %llu %llu\n", (unsigned long long)got, (unsigned long long)(now_ms() - begin));
}

static void many(const struct address *a, unsigned n)
{
	struct rlimit files = {.rlim_cur = n + 16, .rlim_max = n + 16};
	int *fd = calloc(n, sizeof(*fd));

	setrlimit(RLIMIT_NOFILE, &files);
	if (!fd)
		fail("memory");
	/* No more at once than the other side's queue of connections has room for. */
	for (unsigned i = 0, done = 0; done < n;) {
		for (; i < n && i < done + 512; i++)
			begin_connect(fd[i] = make_socket(a->sa.sa_family, SOCK_STREAM), a);
		end_connect(fd[done++]);
	}
	for (unsigned i = 0; i < n; i++) {
		if (send(fd[i], &i, sizeof(i), MSG_NOSIGNAL) != sizeof(i))
			fail("connection %u", i);
	}
	for (unsigned i = 0; i < n; i++) {
		unsigned back = 0;

		wait_for(fd[i], POLLIN, "answer");
		if (recv(fd[i], &back, sizeof(back), MSG_WAITALL) != sizeof(back) || back != i)
			fail("connection %u: got %u", i, back);
	}
	free(fd);
	printf("ok %u\n", n);
}

/* Whether the answer to this try comes within its time; those to earlier ones may come first. */
static bool answered(int fd, const uint8_t *text, size_t bytes, uint64_t end)
{
	static uint8_t data[DATAGRAM_MAX];
	uint64_t now;

	while ((now = now_ms()) < end) {
		struct pollfd p = {.fd = fd, .events = POLLIN};

		if (poll(&p, 1, (int)(end - now)) <= 0)
			return false;
		/* An error is that nobody listens yet. */
		if (recv(fd, data, sizeof(data), 0) == (ssize_t)bytes &&
		    memcmp(data, text, bytes) == 0)
			return true;
	}
	return false;
}

/* A datagram may be lost; each try has another text, so that late answers are not mistaken. */
static void udp(const struct address *a, size_t bytes)
{
	int fd = make_socket(a->sa.sa_family, SOCK_DGRAM), room = 1 << 20;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (connect(fd, &a->sa, a->len) < 0)
		fail("connect");
	for (size_t i = 0; i < TRIES; i++) {
		uint64_t end = now_ms() + (uint64_t)patience() / TRIES;

		if (send(fd, pattern + i, bytes, 0) != (ssize_t)bytes && errno != ECONNREFUSED)
			fail("datagram of %zu bytes", bytes);
		if (answered(fd, pattern + i, bytes, end)) {
			close(fd);
			printf("ok %zu\n", bytes);
			return;
		}
	}
	errno = ETIMEDOUT;
	fail("datagram of %zu bytes: no answer", bytes);
}

static void traffic(const struct address *a, uint64_t bytes)
{
	tcp(a, bytes);
	udp(a, 1400);
	udp(a, 60000);
}

static void flood(const struct address *a, uint64_t ms)
{
	int fd = make_socket(a->sa.sa_family, SOCK_DGRAM);
	uint64_t end = now_ms() + ms, sent = 0;
	struct iovec iov = {.iov_base = pattern, .iov_len = 64};
	struct mmsghdr m[64] = {0};

	if (connect(fd, &a->sa, a->len) < 0)
		fail("connect");
	for (size_t i = 0; i < 64; i++)
		m[i].msg_hdr = (struct msghdr){.msg_iov = &iov, .msg_iovlen = 1};
	while (now_ms() < end) {
		int n = sendmmsg(fd, m, 64, 0);

		sent += n > 0 ? (uint64_t)n : 0;
	}
	printf("sent %llu\n", (unsigned long long)sent);
}

/* ---- multicast */

static void join_group(int fd, const struct address *group, unsigned interface)
{
	struct ip_mreqn m4 = {.imr_multiaddr = group->in.sin_addr, .imr_ifindex = (int)interface};
	struct ipv6_mreq m6 = {.ipv6mr_multiaddr = group->in6.sin6_addr,
			       .ipv6mr_interface = interface};
	int r = group->sa.sa_family == AF_INET
			? setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m4, sizeof(m4))
			: setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m6, sizeof(m6));

	if (r < 0)
		fail("group");
}

static void join(const struct address *group, const char *interface)
{
	int fd = make_socket(group->sa.sa_family, SOCK_DGRAM);
	char text[256];
	ssize_t n;

	if (bind(fd, &group->sa, group->len) < 0)
		fail("bind");
	join_group(fd, group, if_nametoindex(interface));
	say("ready");
	wait_for(fd, POLLIN, "group");
	n = recv(fd, text, sizeof(text) - 1, 0);
	if (n < 0)
		fail("group");
	text[n] = '\0';
	say(text);
}

static void cast(const struct address *group, const char *interface, const char *text)
{
	int fd = make_socket(group->sa.sa_family, SOCK_DGRAM),
	    index = (int)if_nametoindex(interface);
	struct ip_mreqn m4 = {.imr_ifindex = index};
	int r = group->sa.sa_family == AF_INET
			? setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &m4, sizeof(m4))
			: setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index));

	if (r < 0 || sendto(fd, text, strlen(text), 0, &group->sa, group->len) < 0)
		fail("group");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	struct address a;

	make_pattern();
	if (argc == 3 && strcmp(what, "serve") == 0)
		serve(argv[2]);
	if (argc < 5 || argc > 6) {
		fputs("usage: nettest serve|tcp|many|udp|traffic|flood|join|cast ...\n", stderr);
		return 2;
	}
	if (strcmp(what, "join") == 0 || strcmp(what, "cast") == 0)
		a = parse_address(argv[2], argv[4]);
	else
		a = parse_address(argv[2], argv[3]);
	if (strcmp(what, "tcp") == 0)
		tcp(&a, strtoull(argv[4], NULL, 10));
	else if (strcmp(what, "traffic") == 0)
		traffic(&a, strtoull(argv[4], NULL, 10));
	else if (strcmp(what, "many") == 0)
		many(&a, (unsigned)strtoul(argv[4], NULL, 10));
	else if (strcmp(what, "udp") == 0)
		udp(&a, strtoul(argv[4], NULL, 10));
	else if (strcmp(what, "flood") == 0)
		flood(&a, strtoull(argv[4], NULL, 10));
	else if (strcmp(what, "join") == 0)
		join(&a, argv[3]);
	else if (strcmp(what, "cast") == 0 && argc == 6)
		cast(&a, argv[3], argv[5]);
	else
		return 2;
	return 0;
}
