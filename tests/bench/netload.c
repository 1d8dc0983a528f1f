/*
 * netload.c - moves bytes over a network for a benchmark. Static, so that it runs in a guest.
 *
 *	netload                             as PID 1: brings eth0 up as 10.99.0.2/24, serves port
 *5001 netload serve PORT                  answers one client at a time, for ever netload KIND HOST
 *PORT SECONDS      prints a figure
 *
 * KIND: "send" and "receive" are a TCP stream to and from the server in MB/s, "udp-send" and
 * "udp-receive" datagrams of 1400 bytes that arrived, in MB/s, "ping" exchanges of one byte a
 *second. The time is the client's: it is on the host.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
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

#define DATAGRAM 1400
#define GUEST_PORT 5001
#define SLOTS 24

static char buf[256 << 10];

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

/* Counts the bytes of datagrams until `control` has something to say. */
static uint64_t udp_count(int udp, int control, double seconds)
{
	struct pollfd p[2] = {{.fd = udp, .events = POLLIN}, {.fd = control, .events = POLLIN}};
	double end = now() + seconds;
	uint64_t bytes = 0;

	while (!(p[1].revents & POLLIN) && (seconds == 0 || now() < end)) {
		ssize_t n;

		poll(p, 2, 100);
		while ((n = recv(udp, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
			bytes += (uint64_t)n;
			if (seconds != 0 && now() >= end)
				break;
		}
	}
	return bytes;
}

static void udp_flood(int udp, const struct sockaddr_in *to, int control, double seconds)
{
	struct pollfd p = {.fd = control, .events = POLLIN};
	double end = now() + seconds;

	for (unsigned i = 1;; i++) {
		sendto(udp, buf, DATAGRAM, 0, (const struct sockaddr *)to, sizeof(*to));
		if (i % 16 == 0 && (seconds == 0 ? poll(&p, 1, 0) > 0 : now() >= end))
			return;
	}
}

static void serve_one(int c, const struct sockaddr_in *peer, uint16_t port)
{
	struct sockaddr_in to = *peer;
	uint64_t bytes;
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
			bytes = udp_count(udp, c, 0);
			(void)!send(c, &bytes, sizeof(bytes), MSG_NOSIGNAL);
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
	uint64_t bytes;

	if (read(c, buf, 1) != 1)
		fail("ready");
	begin = now();
	udp_flood(udp, to, c, seconds);
	begin = now() - begin;
	if (send(c, buf, 1, MSG_NOSIGNAL) != 1 || read(c, &bytes, sizeof(bytes)) != sizeof(bytes))
		fail("count");
	return (double)bytes / begin / 1e6;
}

static double udp_from(int c, uint16_t port, double seconds)
{
	int udp = udp_socket(port);
	double mb;

	if (read(c, buf, 1) != 1)
		fail("ready");
	mb = (double)udp_count(udp, -1, seconds) / seconds / 1e6;
	if (send(c, buf, 1, MSG_NOSIGNAL) != 1)
		fail("stop");
	return mb;
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
	a->sin_family = AF_INET;
	inet_pton(AF_INET, "10.99.0.2", &a->sin_addr);
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
	if (send(c, strcmp(kind, "udp-receive") == 0 ? "U" : kind, 1, 0) != 1)
		fail("send");
	if (strcmp(kind, "ping") == 0)
		printf("%.0f\n", ping(c, seconds));
	else if (strcmp(kind, "udp-send") == 0)
		printf("%.1f\n", udp_to(c, &a, ntohs(a.sin_port), seconds));
	else if (strcmp(kind, "udp-receive") == 0)
		printf("%.1f\n", udp_from(c, ntohs(a.sin_port), seconds));
	else
		printf("%.1f\n", transfer(c, strcmp(kind, "send") == 0, seconds));
	return 0;
}
