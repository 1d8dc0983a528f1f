/*
 * netload.c - moves bytes over a network for a benchmark. Static, so that it runs in a guest.
 *
 *	netload				as PID 1: brings eth0 up with 10.99.0.2/24, or what
 *					"address" is in its environment; serves port 5001
 *	netload serve PORT		answers one client at a time, for ever
 *	netload KIND HOST PORT SECONDS	prints a figure
 *
 * KIND: "send" and "receive" are a TCP stream to and from the server in MB/s, "udp-send" and
 * "udp-receive" datagrams of 64 bytes that arrived, a second, "ping" exchanges of one byte a
 * second, "flood" is "udp-receive" of a guest that nobody listens to, and prints nothing. The time
 * is the client's: it is on the host.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DATAGRAM 64
#define AT_ONCE 32 /* datagrams in one system call */
#define GUEST_PORT 5001
#define SLOTS 24

static char buf[256 << 10];
static const char *address = "10.99.0.2";

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int udp_socket(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 4 << 20;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail("udp");
	return fd;
}

struct batch {
	struct mmsghdr m[AT_ONCE];
	struct iovec iov[AT_ONCE];
};

static void prepare(struct batch *b, const struct sockaddr_in *to)
{
	for (int i = 0; i < AT_ONCE; i++) {
		b->iov[i] = (struct iovec){buf + i * DATAGRAM, DATAGRAM};
		b->m[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &b->iov[i],
						       .msg_iovlen = 1,
						       .msg_name = (void *)(uintptr_t)to,
						       .msg_namelen = to ? sizeof(*to) : 0}};
	}
}

/* Counts datagrams until `control` has something to say. */
static uint64_t udp_count(int udp, int control, double seconds)
{
	struct pollfd p[2] = {{.fd = udp, .events = POLLIN}, {.fd = control, .events = POLLIN}};
	double end = now() + seconds;
	uint64_t count = 0;
	struct batch b;

	prepare(&b, NULL);
	while (!(p[1].revents & POLLIN) && (seconds == 0 || now() < end)) {
		int n;

		poll(p, 2, 100);
		while ((n = recvmmsg(udp, b.m, AT_ONCE, MSG_DONTWAIT, NULL)) > 0) {
			count += (unsigned)n;
			if (seconds != 0 && now() >= end)
				break;
		}
	}
	return count;
}

static void udp_flood(int udp, const struct sockaddr_in *to, int control, double seconds)
{
	struct pollfd p = {.fd = control, .events = POLLIN};
	double end = now() + seconds;
	struct batch b;

	prepare(&b, to);
	for (;;) {
		sendmmsg(udp, b.m, AT_ONCE, 0);
		if (seconds == 0 ? poll(&p, 1, 0) > 0 : now() >= end)
			return;
	}
}

static void serve_one(int c, const struct sockaddr_in *peer, uint16_t port)
{
	struct sockaddr_in to = *peer;
	uint64_t count;
	char kind;
	int udp;

	if (read(c, &kind, 1) != 1)
		return;
	switch (kind) {
	case 's':
		while (read(c, buf, sizeof(buf)) > 0)
			;
		break;
	case 'r':
		while (send(c, buf, sizeof(buf), MSG_NOSIGNAL) > 0)
			;
		break;
	case 'p':
		while (read(c, buf, 1) == 1 && send(c, buf, 1, MSG_NOSIGNAL) == 1)
			;
		break;
	default:
		udp = udp_socket(port);
		if (send(c, buf, 1, MSG_NOSIGNAL) != 1) /* ready */
			break;
		if (kind == 'u') {
			count = udp_count(udp, c, 0);
			(void)!send(c, &count, sizeof(count), MSG_NOSIGNAL);
		} else {
			to.sin_port = htons(port);
			udp_flood(udp, &to, c, 0);
		}
		close(udp);
	}
}

static __attribute__((noreturn)) void serve(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(l, 8) < 0)
		fail("listen");
	for (;;) {
		struct sockaddr_in peer;
		socklen_t len = sizeof(peer);
		int c = accept(l, (struct sockaddr *)&peer, &len);

		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		serve_one(c, &peer, port);
		close(c);
	}
}

static double transfer(int c, int out, double seconds)
{
	double begin = now(), t;
	uint64_t bytes = 0;

	do {
		ssize_t n =
			out ? send(c, buf, sizeof(buf), MSG_NOSIGNAL) : read(c, buf, sizeof(buf));

		if (n <= 0)
			fail("stream");
		bytes += (uint64_t)n;
		t = now();
	} while (t < begin + seconds);
	return (double)bytes / (t - begin) / 1e6;
}

static double ping(int c, double seconds)
{
	double begin = now(), t;
	uint64_t n = 0;

	do {
		if (send(c, buf, 1, MSG_NOSIGNAL) != 1 || read(c, buf, 1) != 1)
			fail("ping");
		n++;
		t = now();
	} while (t < begin + seconds);
	return (double)n / (t - begin);
}

static double udp_to(int c, const struct sockaddr_in *to, uint16_t port, double seconds)
{
	int udp = udp_socket(port);
	double begin;
	uint64_t count;

	if (read(c, buf, 1) != 1)
		fail("ready");
	begin = now();
	udp_flood(udp, to, c, seconds);
	begin = now() - begin;
	if (send(c, buf, 1, MSG_NOSIGNAL) != 1 || read(c, &count, sizeof(count)) != sizeof(count))
		fail("count");
	return (double)count / begin;
}

static double udp_from(int c, uint16_t port, double seconds)
{
	int udp = udp_socket(port);
	double rate;

	if (read(c, buf, 1) != 1)
		fail("ready");
	rate = (double)udp_count(udp, -1, seconds) / seconds;
	if (send(c, buf, 1, MSG_NOSIGNAL) != 1)
		fail("stop");
	return rate;
}

/* ---- as PID 1 */

/* A card that was attached after the kernel had looked at its slot. */
static void bind_slots(void)
{
	int fd = open("/sys/bus/platform/drivers/virtio-mmio/bind", O_WRONLY | O_CLOEXEC);
	char name[32];

	for (int i = 0; i < SLOTS; i++) {
		int n = snprintf(name, sizeof(name), "virtio-mmio.%d", i);

		(void)!write(fd, name, (size_t)n);
	}
	close(fd);
}

static void configure(void)
{
	struct ifreq r = {.ifr_name = "eth0"};
	struct sockaddr_in *a = (struct sockaddr_in *)(void *)&r.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	mkdir("/sys", 0755);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	while (ioctl(fd, SIOCGIFINDEX, &r) < 0) {
		bind_slots();
		usleep(10000);
	}
	/* Engine qemu's cards are the same in all guests until an agent sets their address. */
	r.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(r.ifr_hwaddr.sa_data, (char[]){2, 0, 0, 0, 0, address[strlen(address) - 1]}, 6);
	if (ioctl(fd, SIOCSIFHWADDR, &r) < 0)
		fail("MAC address");
	memset(&r.ifr_addr, 0, sizeof(r.ifr_addr));
	a->sin_family = AF_INET;
	inet_pton(AF_INET, address, &a->sin_addr);
	if (ioctl(fd, SIOCSIFADDR, &r) < 0)
		fail("address");
	inet_pton(AF_INET, "255.255.255.0", &a->sin_addr);
	ioctl(fd, SIOCSIFNETMASK, &r);
	r.ifr_flags = IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		fail("up");
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	int c, one = 1;
	double seconds;
	const char *kind;

	if (getpid() == 1) {
		const char *given = getenv("address");

		if (given)
			address = given;
		configure();
		serve(GUEST_PORT);
	}
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve((uint16_t)atoi(argv[2]));
	if (argc != 5 || inet_pton(AF_INET, argv[2], &a.sin_addr) != 1)
		return 2;
	kind = argv[1];
	a.sin_port = htons((uint16_t)atoi(argv[3]));
	seconds = atof(argv[4]);
	c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c, (struct sockaddr *)&a, sizeof(a)) < 0)
		fail("connect");
	/* s, r, p; u: datagrams to the server; U: from it */
	if (send(c, strcmp(kind, "udp-receive") == 0 || strcmp(kind, "flood") == 0 ? "U" : kind, 1,
		 0) != 1)
		fail("send");
	if (strcmp(kind, "flood") == 0) {
		poll(NULL, 0, (int)(seconds * 1000));
		return 0;
	}
	if (strcmp(kind, "ping") == 0)
		printf("%.0f\n", ping(c, seconds));
	else if (strcmp(kind, "udp-send") == 0)
		printf("%.0f\n", udp_to(c, &a, ntohs(a.sin_port), seconds));
	else if (strcmp(kind, "udp-receive") == 0)
		printf("%.0f\n", udp_from(c, ntohs(a.sin_port), seconds));
	else
		printf("%.1f\n", transfer(c, strcmp(kind, "send") == 0, seconds));
	return 0;
}
