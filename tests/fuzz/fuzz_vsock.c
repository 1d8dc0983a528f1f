/*
 * fuzz_vsock.c - a hostile guest and careless clients against the vsock device.
 *
 * The input is a list of steps: packets with any header, receive buffers of any size and shape,
 * bytes written into the rings, and what clients do with their sockets. After every step the loop
 * runs and the bounds that the device promises are checked.
 */
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/vsock_guest.h"

#define CLIENTS 6
#define STEPS_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *p;
	size_t left;
};

struct fuzz {
	struct guest g;
	int fd[CLIENTS]; /* -1: none */
	unsigned waiting;
	uint32_t last_port; /* host's port in the last REQUEST that came */
};

static uint8_t byte(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static uint32_t number(struct input *in)
{
	uint8_t kind = byte(in);
	uint32_t v = kind & 0x3f;

	if (kind >= 0xc0)
		v = UINT32_MAX - v;
	else if (kind >= 0x80)
		v = v << 24 | (uint32_t)byte(in) << 16 | (uint32_t)byte(in) << 8 | byte(in);
	else if (kind >= 0x40)
		v = v << 12 | (uint32_t)byte(in) << 4;
	return v;
}

static void on_done(void *arg, int fd, UNUSED const struct error *err)
{
	struct fuzz *f = arg;

	f->waiting--;
	for (unsigned i = 0; fd >= 0 && i < CLIENTS; i++)
		if (f->fd[i] < 0) {
			set_nonblock(fd, true);
			f->fd[i] = fd;
			return;
		}
	if (fd >= 0)
		close(fd);
}

static void packet(struct fuzz *f, struct input *in)
{
	static uint8_t payload[0x10000];
	uint8_t how = byte(in);
	struct vsock_hdr h = {
		.src_cid = VSOCK_GUEST_CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = GUEST_LISTENS,
		.dst_port = 0x10000u + (how & 7),
		.type = VSOCK_TYPE_STREAM,
		.op = byte(in),
		.buf_alloc = 1 << 18,
	};
	uint32_t bytes = 0;

	if (how & 8)
		h.dst_port = f->last_port;
	if (h.op == VSOCK_OP_SHUTDOWN)
		h.flags = byte(in);
	if (how & 16) {
		h.buf_alloc = number(in);
		h.fwd_cnt = number(in);
	}
	if (h.op == VSOCK_OP_RW)
		bytes = h.len = number(in) & 0xffff;
	if (how & 32)
		h.len = number(in);
	if (how & 64)
		h.dst_port = how & 128 ? VSOCK_PORT_READY : number(in);
	else if (how & 128) {
		h.src_cid = number(in);
		h.type = byte(in);
		h.src_port = number(in);
	}
	f->g.tx_split = how == 0xff ? byte(in) : 0;
	guest_send_raw(&f->g, &h, payload, bytes);
}

/* Small sockets are full soon: then buffers have to be used. */
static void shrink(struct fuzz *f)
{
	int one = 1; /* the kernel's minimum */

	for (struct vsock_stream *s = guest_dev(&f->g)->streams; s; s = s->next)
		if (s->sock >= 0)
			(void)setsockopt(s->sock, SOL_SOCKET, SO_SNDBUF, &one, sizeof(one));
}

static void client(struct fuzz *f, struct input *in)
{
	static char junk[1 << 17];
	uint8_t how = byte(in);
	int *fd = &f->fd[how % CLIENTS];

	if (*fd < 0)
		return;
	switch (how / CLIENTS % 6) {
	case 0:
	case 1:
		(void)!send(*fd, junk, number(in) & (sizeof(junk) - 1), MSG_NOSIGNAL);
		break;
	case 2:
		(void)!read(*fd, junk, number(in) & (sizeof(junk) - 1));
		break;
	case 3:
		shutdown(*fd, SHUT_WR);
		break;
	case 4:
		shutdown(*fd, SHUT_RD);
		break;
	case 5:
		close_fd(fd);
		break;
	}
}

static void take_packets(struct fuzz *f)
{
	uint16_t *used = guest_used(&f->g, 0);
	uint32_t *e;
	uint64_t addr;
	struct vsock_hdr h;

	/* Only the ports are of interest here; the rings may be damaged. */
	for (; f->g.seen[0] != used[1]; f->g.seen[0]++) {
		e = (uint32_t *)(void *)(used + 2) + 2 * (f->g.seen[0] % GUEST_RING);
		addr = guest_desc(&f->g, 0)[e[0] % GUEST_RING].addr;
		if (e[1] < sizeof(h) || addr > GUEST_MEM - sizeof(h))
			continue;
		memcpy(&h, f->g.ram + addr, sizeof(h));
		if (h.op == VSOCK_OP_REQUEST)
			f->last_port = h.src_port;
	}
}

static void damage(struct fuzz *f, struct input *in)
{
	uint32_t at = number(in) % 0x8000;

	f->g.ram[at] = byte(in);
}

static void restart(struct fuzz *f, bool anew)
{
	uint16_t at[2];

	guest_stop(&f->g, at);
	guest_spin(&f->g);
	if (anew) {
		guest_clear(&f->g);
		at[0] = at[1] = 0;
	}
	guest_start(&f->g, at);
}

static void step(struct fuzz *f, struct input *in)
{
	uint8_t what = byte(in), n;

	switch (what % 16) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
		packet(f, in);
		break;
	case 5:
	case 6:
		n = byte(in);
		f->g.rx_split = n & 64 ? byte(in) : 0;
		guest_post_rx(&f->g, n & 31,
			      n & 128 ? number(in) % GUEST_RX_BYTES : GUEST_RX_BYTES);
		break;
	case 7:
		if (f->waiting < CLIENTS &&
		    vsock_connect(f->g.d, GUEST_LISTENS, byte(in) & 1, on_done, f, NULL) == 0)
			f->waiting++;
		break;
	case 8: /* a connection in one step */
		guest_post_rx(&f->g, 3, GUEST_RX_BYTES);
		if (f->waiting < CLIENTS &&
		    vsock_connect(f->g.d, GUEST_LISTENS, 0, on_done, f, NULL) == 0)
			f->waiting++;
		guest_spin(&f->g);
		take_packets(f);
		guest_send(&f->g, VSOCK_OP_RESPONSE, f->last_port, GUEST_LISTENS, 0, NULL, 0);
		break;
	case 9:
	case 10:
	case 11:
	case 12:
		client(f, in);
		break;
	case 13:
		if (byte(in) % 8 == 0)
			restart(f, byte(in) & 1);
		break;
	case 14:
		damage(f, in);
		break;
	case 15:
		guest_kick(&f->g, byte(in) & 1);
		break;
	}
}

static void check(struct fuzz *f)
{
	struct vsock_dev *d = guest_dev(&f->g);
	uint64_t n = 0, granted = 0;

	for (struct vsock_stream *s = d->streams; s; s = s->next) {
		n++;
		granted += s->c.buf_alloc;
		if (s->buf_len > s->c.buf_alloc || !s->buf != !s->buf_len)
			abort();
		if (s->buf_len && s->c.rx_cnt - s->c.fwd_cnt != s->buf_len)
			abort();
		/* Nothing is forgotten: who can be served stands in line. */
		if (vsock_stream_has_work(s) && !s->queued)
			abort();
		/* Who waits for buffers does not have the loop spin. */
		if (s->queued && s->readable && (s->events & EPOLLIN) && s->src &&
		    vq_empty(&d->vd.vq[0]))
			abort();
	}
	if (n != d->nstreams || granted != d->granted || d->rst_n > VSOCK_RST_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct fuzz f;

	log_setup(STDERR_FILENO, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	memset(&f, 0, sizeof(f));
	for (unsigned i = 0; i < CLIENTS; i++)
		f.fd[i] = -1;
	guest_init(&f.g);
	if (byte(&in) & 1) {
		guest_post_rx(&f.g, 1, GUEST_RX_BYTES);
		guest_send(&f.g, VSOCK_OP_REQUEST, VSOCK_PORT_READY, 1, 0, NULL, 0);
	}
	for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
		step(&f, &in);
		guest_spin(&f.g);
		take_packets(&f);
		shrink(&f);
		check(&f);
	}
	guest_destroy(&f.g);
	for (unsigned i = 0; i < CLIENTS; i++)
		close_fd(&f.fd[i]);
	return 0;
}
