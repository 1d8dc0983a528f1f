/*
 * A hostile virtiofsd: what it answers to the front end of vhost-user, byte by byte, while queues
 * are started and stopped. Includes the front end's source for its handlers.
 *
 * Input: a byte of steps' count, then steps: an operation, and for "the back end says" a length and
 * so many bytes.
 */
#include "vmm/vhost_user_front.c"

#include <sys/eventfd.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define RAM 0x4000u

static unsigned told;

static void require(bool what)
{
	if (!what)
		abort();
}

static void on_lost(UNUSED void *arg, const char *why)
{
	require(why[0] && strlen(why) < 256);
	told++;
}

static void make_queue(struct guest_mem *m, struct virtqueue *q, int fd)
{
	int ram = memfd_create("guest", MFD_CLOEXEC);

	require(ram >= 0 && ftruncate(ram, RAM) == 0 && mem_add(m, 0, RAM, 0, ram, 0, NULL) == 0);
	m->r[0].fd = ram;
	vq_init(q);
	require(vq_setup(q, m, 16, m->r[0].hva, m->r[0].hva + 0x1000, m->r[0].hva + 0x2000, 0,
			 NULL) == 0);
	q->kick_fd = q->call_fd = fd;
}

/* The back end reads what it is told, or its buffer would be full some day. */
static void swallow(int peer)
{
	char buf[4096];

	while (recv(peer, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

struct input {
	const uint8_t *data;
	size_t len;
};

static uint8_t take(struct input *in)
{
	if (in->len == 0)
		return 0;
	in->len--;
	return *in->data++;
}

static void say(struct input *in, int peer, size_t n)
{
	if (n > in->len)
		n = in->len;
	(void)!send(peer, in->data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
	in->data += n;
	in->len -= n;
}

/* Stops are for the end, where the back end has no more to say: they would wait. */
static void step(struct vhost_front *f, int peer, struct virtqueue *q, struct input *in)
{
	uint8_t op = take(in);
	unsigned i = op >> 2 & 1;

	if (op & 2) {
		say(in, peer, op >> 2);
		if (f->src)
			on_socket(f, EPOLLIN);
	} else if (!(f->running >> i & 1)) {
		vhost_front_start(f, op, i, q, NULL);
	}
	swallow(peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct guest_mem mem;
	static struct virtqueue q;
	static struct loop *loop;
	struct input in = {data, len};
	struct vhost_front *f;
	int sp[2];

	if (!loop) {
		loop = loop_new(NULL);
		make_queue(&mem, &q, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	}
	told = 0;
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
	f = vhost_front_new(loop, sp[1], "virtiofsd", on_lost, NULL, NULL);
	for (unsigned steps = take(&in) % 32; steps; steps--)
		step(f, sp[0], &q, &in);
	say(&in, sp[0], in.len);
	shutdown(sp[0], SHUT_WR);
	for (unsigned i = 0; i < 2; i++) {
		vhost_front_stop(f, i, &q);
		require(!(f->running >> i & 1));
	}
	if (f->src)
		on_socket(f, EPOLLIN);
	require(told <= 1);
	require(over(f) || f->nexpected <= 1);
	vhost_front_free(f);
	close(sp[0]);
	return 0;
}
