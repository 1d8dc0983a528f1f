/* The guest's name server: what its TCP clients and the stream of the host send, in any pieces and
 * order. What comes out is whole records and whole messages, and no bound is passed. Input: steps
 * of what to do (1 byte, with whom in its upper bits), how many bytes (1), and the bytes. */
#include "agent/names.c"

#include <fcntl.h>

#define CLIENTS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
	int fd; /* the other end; -1: has gone */
	uint8_t buf[4096];
	size_t len;
};

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void pair(int *ours, int *theirs)
{
	int fds[2];

	expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	*ours = fds[0];
	*theirs = fds[1];
}

static struct client *nth(const struct names *r, unsigned n)
{
	struct client *c = r->clients;

	while (c && n-- > 0)
		c = c->next;
	return c;
}

/* Whatever is ready is handled, as the loop would do it, until nothing is. */
static void settle(struct names *r)
{
	for (int i = 0; i < 8; i++) {
		if (r->conn >= 0)
			on_stream(r, EPOLLIN | EPOLLOUT);
		for (unsigned n = r->n_clients; n > 0; n--)
			if (nth(r, n - 1))
				on_client(nth(r, n - 1), EPOLLIN | EPOLLOUT);
	}
}

static void check(const struct names *r)
{
	unsigned open = 0, used = 0;

	expect(r->n_clients <= NAMES_CONNS_MAX);
	for (const struct client *c = r->clients; c; c = c->next) {
		expect(c->open <= NAMES_PIPELINE_MAX && c->in_len <= c->in_size);
		expect(c->out_off <= c->out_len && c->out_len <= c->out_size);
		open += c->open;
	}
	for (size_t i = 0; i < DNS_OPEN_MAX; i++)
		used += r->open[i].used;
	expect(open == used);
	expect(r->in_len <= sizeof(r->in) && r->out_len <= sizeof(r->out));
}

/* What came to the host: whole records of requests, from the beginning on. */
static void read_records(struct peer *p)
{
	ssize_t n;
	struct dns_record a;

	while ((n = recv(p->fd, p->buf + p->len, sizeof(p->buf) - p->len, MSG_DONTWAIT)) > 0) {
		p->len += (size_t)n;
		for (;;) {
			struct error err = ERROR_INIT;
			int whole = dns_record_parse(p->buf, p->len, &a, &err);

			expect(whole >= 0);
			if (whole == 0 || p->len == 0)
				break;
			p->len -= (size_t)whole;
			memmove(p->buf, p->buf + whole, p->len);
		}
	}
}

static void step(struct names *r, struct peer *stream, struct peer *clients, const uint8_t *bytes,
		 uint8_t what, size_t n)
{
	struct peer *c = &clients[(what >> 4) % CLIENTS];
	int fd;

	switch (what % 6) {
	case 0:
	case 1:
		if (c->fd >= 0)
			send(c->fd, bytes, n, MSG_NOSIGNAL);
		break;
	case 2:
		if (stream->fd >= 0)
			send(stream->fd, bytes, n, MSG_NOSIGNAL);
		break;
	case 3:
		if (c->fd >= 0)
			shutdown(c->fd, SHUT_WR);
		break;
	case 4:
		close_fd(&c->fd);
		pair(&fd, &c->fd);
		add_client(r, fd);
		break;
	case 5:
		close_fd(&stream->fd);
		stream->len = 0;
		pair(&fd, &stream->fd);
		on_token(r, fd);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct loop *loop = loop_new(NULL);
	struct streams *streams = streams_new(loop);
	struct names *r = names_new(loop, streams);
	static struct peer stream, clients[CLIENTS];

	stream = (struct peer){.fd = -1};
	for (int i = 0; i < CLIENTS; i++)
		clients[i].fd = -1;
	while (size >= 2) {
		uint8_t what = data[0];
		size_t n = data[1];

		data += 2;
		size -= 2;
		n = n < size ? n : size;
		step(r, &stream, clients, data, what, n);
		data += n;
		size -= n;
		settle(r);
		check(r);
		if (stream.fd >= 0)
			read_records(&stream);
	}
	names_free(r);
	streams_free(streams);
	loop_free(loop);
	close_fd(&stream.fd);
	for (int i = 0; i < CLIENTS; i++)
		close_fd(&clients[i].fd);
	return 0;
}
