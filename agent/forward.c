#include "agent/forward.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/pump.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD 2

struct forward {
	struct forwards *set;
	struct forward *prev, *next;
	int conn, tcp;
	struct loop_source *conn_src, *tcp_src;
	struct pump *pump; /* has both descriptors */
	uint8_t head[HEAD];
	size_t head_len;
	unsigned tried; /* of the two addresses */
};

struct forwards {
	struct loop *loop;
	struct forward *first;
	unsigned n;
};

static void forward_free(struct forward *f)
{
	if (f->next)
		f->next->prev = f->prev;
	if (f->prev)
		f->prev->next = f->next;
	else
		f->set->first = f->next;
	f->set->n--;
	loop_remove(f->conn_src);
	loop_remove(f->tcp_src);
	pump_free(f->pump);
	close_fd(&f->conn);
	close_fd(&f->tcp);
	free(f);
}

static void on_end(void *arg)
{
	struct forward *f = arg;

	f->pump = NULL;
	forward_free(f);
}

/* ---- the guest's side */

static void try_next(struct forward *f);

static int begin(const struct forward *f, bool ipv6)
{
	const uint16_t port = htons((uint16_t)(f->head[0] << 8 | f->head[1]));
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	const struct sockaddr *to = ipv6 ? (const void *)&v6 : (const void *)&v4;
	cleanup_close int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	if (connect(fd, to, ipv6 ? sizeof(v6) : sizeof(v4)) < 0 && errno != EINPROGRESS)
		return -1;
	return steal_fd(&fd);
}

static bool connected(struct forward *f)
{
	int e = 0;
	socklen_t len = sizeof(e);

	return getsockopt(f->tcp, SOL_SOCKET, SO_ERROR, &e, &len) == 0 && e == 0 &&
	       send(f->conn, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

static void on_tcp(void *arg, uint32_t events UNUSED)
{
	struct error err = ERROR_INIT;
	struct forward *f = arg;

	loop_remove(f->tcp_src);
	f->tcp_src = NULL;
	if (!connected(f)) {
		try_next(f);
		return;
	}
	loop_remove(f->conn_src);
	f->conn_src = NULL;
	f->pump = pump_new(f->set->loop, steal_fd(&f->conn), steal_fd(&f->tcp), on_end, f, &err);
	if (f->pump)
		return;
	log_error("forwarded connection: %s", err.msg);
	forward_free(f);
}

/* Connects to the first address that can be tried, or ends the connection. */
static void try_next(struct forward *f)
{
	while (!f->tcp_src && f->tried < 2) {
		close_fd(&f->tcp);
		f->tcp = begin(f, f->tried++ > 0);
		if (f->tcp >= 0)
			f->tcp_src = loop_add(f->set->loop, f->tcp, EPOLLOUT, on_tcp, f, NULL);
	}
	if (!f->tcp_src)
		forward_free(f);
}

/* ---- the host's */

static void on_conn(void *arg, uint32_t events)
{
	struct forward *f = arg;
	ssize_t n;

	/* While we connect it is watched for its end alone. */
	if (f->head_len == HEAD) {
		if (events & (EPOLLHUP | EPOLLERR))
			forward_free(f);
		return;
	}
	n = recv(f->conn, f->head + f->head_len, HEAD - f->head_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		forward_free(f);
		return;
	}
	f->head_len += (size_t)n;
	if (f->head_len < HEAD)
		return;
	loop_set(f->conn_src, 0);
	try_next(f);
}

void forwards_accept(struct forwards *set, int conn)
{
	struct error err = ERROR_INIT;
	struct forward *f;

	if (set->n >= FORWARDS_MAX) {
		log_error("too many forwarded connections");
		close(conn);
		return;
	}
	f = xcalloc(1, sizeof(*f));
	*f = (struct forward){.set = set, .conn = conn, .tcp = -1, .next = set->first};
	if (f->next)
		f->next->prev = f;
	set->first = f;
	set->n++;
	f->conn_src = loop_add(set->loop, conn, EPOLLIN, on_conn, f, &err);
	if (f->conn_src)
		return;
	log_error("forwarded connection: %s", err.msg);
	forward_free(f);
}

struct forwards *forwards_new(struct loop *loop)
{
	struct forwards *f = xcalloc(1, sizeof(*f));

	f->loop = loop;
	return f;
}

void forwards_free(struct forwards *f)
{
	if (!f)
		return;
	while (f->first)
		forward_free(f->first);
	free(f);
}
