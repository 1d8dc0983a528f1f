/*
 * vhost_user_front.c - the vhost-user transport, front-end side.
 *
 * Theory of operation
 *
 * Messages are sent without waiting, and few have an answer; answers come in the order of the
 * questions, so those that are expected are a short queue (`expected`). Starting a queue sends all
 * there is to say in one go: what a kick means to the back end is settled by the order on the
 * socket, and a kick that comes before the back end saw the queue stays in its eventfd. So nobody
 * waits at a start, even if the back end is still to be executed. That it offers what was assumed
 * is found out when its answer comes, and if not, that is its end.
 *
 * Only a stop has to wait: the guest may use a ring's memory for something else once the reset is
 * done. GET_VRING_BASE is answered when no request of the ring is in flight. A back end that is
 * stuck in a system call must not hold up the whole sandbox: after STOP_US the connection is shut
 * down. Where the machine stood still for seconds, the back end had none of them: each wait of
 * SLICE_US counts as such, however long it took. An answer to a start has a deadline too, since a
 * guest would wait for it without bound.
 *
 * The end (fail()) is told from the loop alone: the socket is shut down, which wakes its handler.
 *
 * Guest memory goes to the back end as the files and offsets of its regions (mem.h). Addresses in
 * messages are the "front end's own" in vhost-user, and only have to fit the memory table: guest
 * physical addresses do, and tell nothing about our address space. Where the kernel's file is
 * mapped over guest memory (arch.h) the back end sees the file beneath, not what the guest sees:
 * that is the kernel's text and constants, where a driver puts neither rings nor buffers. A guest
 * that does so all the same moves bytes that nobody else sees.
 *
 * Descriptors are never accepted: without room for them the kernel drops those that come along.
 */
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/fds.h"
#include "lib/log.h"
#include "vmm/device.h"
#include "vmm/vhost_user_front.h"
#include "vmm/vhost_user_msg.h"

/* syscalls loop: shutdown sendmsg recvmsg ppoll close */

#define STOP_US 3000000
#define SLICE_US 100000
#define START_US 20000000 /* a host that is busy may take its time to execute the back end */
#define EXPECTED_MAX 8

#define NEEDED                                                                   \
	(UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_F_EVENT_IDX | \
	 UINT64_C(1) << VIRTIO_F_INDIRECT_DESC | UINT64_C(1) << VU_F_PROTOCOL_FEATURES)

struct vhost_front {
	struct loop *loop;
	struct loop_source *src, *timer;
	int sock;
	const char *peer;
	void (*lost)(void *arg, const char *why);
	void *arg;
	char why[256]; /* not empty: the connection is over */
	bool greeted;

	unsigned running; /* a bit for each queue that the back end has */
	uint16_t base[DEVICE_QUEUES_MAX];

	uint32_t expected[EXPECTED_MAX]; /* requests that will be answered, oldest first */
	unsigned nexpected;

	/* the answer that is coming in */
	struct {
		struct vu_header hdr;
		union {
			uint64_t u64;
			struct vu_vring_state state;
		};
	} msg;
	uint32_t got;
};

_Static_assert(sizeof(struct vu_header) == 12, "as it crosses the socket");

/* ---- the end */

static bool over(const struct vhost_front *f)
{
	return f->why[0];
}

static int fail(struct vhost_front *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct vhost_front *f, const char *fmt, ...)
{
	int n = snprintf(f->why, sizeof(f->why), "%s ", f->peer);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->why + n, sizeof(f->why) - (size_t)n, fmt, ap);
	va_end(ap);
	f->running = 0;
	f->nexpected = 0;
	shutdown(f->sock, SHUT_RDWR);
	return -1;
}

static void tell(struct vhost_front *f)
{
	void (*lost)(void *arg, const char *why) = f->lost;

	loop_remove(f->src);
	loop_remove(f->timer);
	f->src = f->timer = NULL;
	f->lost = NULL;
	if (lost)
		lost(f->arg, f->why);
}

/* ---- sending */

static int send_message(struct vhost_front *f, uint32_t request, const void *payload, uint32_t size,
			const int *fds, unsigned nfds)
{
	struct vu_header h = {.request = request, .flags = VU_VERSION, .size = size};
	struct iovec iov[2] = {{&h, sizeof(h)}, {(void *)(uintptr_t)payload, size}};
	ssize_t r;

	if (over(f))
		return -1;
	r = fds_send(f->sock, iov, size ? 2 : 1, fds, nfds, MSG_DONTWAIT);
	if (r < 0 && (errno == EPIPE || errno == ECONNRESET))
		return fail(f, "has ended");
	if (r < 0 && errno != EAGAIN)
		return fail(f, "cannot be talked to: %s", strerror(errno));
	/* All that is ever sent fits into the socket's buffer many times. */
	if ((size_t)r != sizeof(h) + size)
		return fail(f, "does not read what it is told");
	return 0;
}

static int send_u64(struct vhost_front *f, uint32_t request, uint64_t value)
{
	return send_message(f, request, &value, sizeof(value), NULL, 0);
}

static int send_state(struct vhost_front *f, uint32_t request, unsigned i, uint32_t num)
{
	struct vu_vring_state s = {.index = i, .num = num};

	return send_message(f, request, &s, sizeof(s), NULL, 0);
}

static int expect(struct vhost_front *f, uint32_t request)
{
	if (f->nexpected == EXPECTED_MAX)
		return fail(f, "owes too many answers");
	f->expected[f->nexpected++] = request;
	return 0;
}

/* ---- answers */

static int answer_features(struct vhost_front *f)
{
	uint64_t lacks = NEEDED & ~f->msg.u64;

	if (lacks)
		return fail(f, "lacks features 0x%" PRIx64 " of virtio", lacks);
	return 0;
}

static int answer_base(struct vhost_front *f)
{
	const struct vu_vring_state *s = &f->msg.state;

	if (s->index >= DEVICE_QUEUES_MAX || !(f->running >> s->index & 1) || s->num > UINT16_MAX)
		return fail(f, "gave back queue %u at %u, which it does not have", s->index,
			    s->num);
	f->running &= ~(1u << s->index);
	f->base[s->index] = (uint16_t)s->num;
	return 0;
}

static int handle_answer(struct vhost_front *f)
{
	uint32_t request = f->msg.hdr.request;

	if (f->nexpected == 0 || f->expected[0] != request)
		return fail(f, "broke the protocol: answer %u was not asked for", request);
	f->nexpected--;
	memmove(f->expected, f->expected + 1, f->nexpected * sizeof(f->expected[0]));
	if (f->nexpected == 0) {
		loop_remove(f->timer);
		f->timer = NULL;
	}
	return request == VU_GET_FEATURES ? answer_features(f) : answer_base(f);
}

static int check_header(struct vhost_front *f)
{
	const struct vu_header *h = &f->msg.hdr;

	/* Both answers that there are have 8 bytes. */
	if ((h->flags & VU_VERSION_MASK) != VU_VERSION || !(h->flags & VU_FLAG_REPLY) ||
	    h->size != sizeof(f->msg.u64))
		return fail(f, "broke the protocol: message %u, flags 0x%x, %u bytes", h->request,
			    h->flags, h->size);
	return 0;
}

/* Takes what is there, up to the end of one answer. 1: it is whole; 0: not yet. */
static int receive(struct vhost_front *f)
{
	const uint32_t head = sizeof(f->msg.hdr), all = head + sizeof(f->msg.u64);

	while (f->got < all) {
		uint32_t want = f->got < head ? head : all;
		uint8_t *to = f->got < head ? (uint8_t *)&f->msg.hdr + f->got
					    : (uint8_t *)&f->msg.u64 + (f->got - head);
		struct iovec iov = {to, want - f->got};
		struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t r = recvmsg(f->sock, &m, MSG_DONTWAIT);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 && errno == EAGAIN)
			return 0;
		if (r == 0 || (r < 0 && errno == ECONNRESET))
			return fail(f, "has ended");
		if (r < 0)
			return fail(f, "cannot be heard: %s", strerror(errno));
		f->got += (uint32_t)r;
		if (f->got == head && check_header(f) < 0)
			return -1;
	}
	f->got = 0;
	return 1;
}

/* All answers that are there; also notes that the connection has ended. */
static void take_answers(struct vhost_front *f)
{
	while (!over(f) && receive(f) > 0 && handle_answer(f) == 0)
		;
}

static void on_socket(void *arg, UNUSED uint32_t events)
{
	struct vhost_front *f = arg;

	take_answers(f);
	if (over(f))
		tell(f);
}

static void on_deadline(void *arg, UNUSED uint32_t events)
{
	struct vhost_front *f = arg;

	f->timer = NULL;
	if (!over(f))
		fail(f, "does not answer");
	tell(f);
}

/* ---- queues */

/* The front end's first words. */
static void greet(struct vhost_front *f)
{
	if (f->greeted)
		return;
	f->greeted = true;
	f->timer = loop_timer(f->loop, START_US, on_deadline, f, NULL);
	if (expect(f, VU_GET_FEATURES) == 0 &&
	    send_message(f, VU_GET_FEATURES, NULL, 0, NULL, 0) == 0 &&
	    send_u64(f, VU_SET_PROTOCOL_FEATURES, 0) == 0)
		send_message(f, VU_SET_OWNER, NULL, 0, NULL, 0);
}

static int send_memory(struct vhost_front *f, const struct guest_mem *m, struct error *err)
{
	struct vu_mem_table t = {.n = m->n};
	int fds[MEM_REGIONS_MAX];

	for (unsigned i = 0; i < m->n; i++) {
		const struct mem_region *r = &m->r[i];

		if (r->fd < 0)
			return error_set(err, "guest memory at 0x%" PRIx64 " has no file", r->gpa);
		fds[i] = r->fd;
		t.region[i] = (struct vu_mem_region){
			.gpa = r->gpa, .size = r->size, .user = r->gpa, .offset = r->offset};
	}
	send_message(f, VU_SET_MEM_TABLE, &t,
		     (uint32_t)(offsetof(struct vu_mem_table, region) + m->n * sizeof(t.region[0])),
		     fds, m->n);
	return 0;
}

/* The guest physical address of a ring's part. */
static uint64_t gpa_of(const struct guest_mem *m, const void *p)
{
	for (unsigned i = 0; i < m->n; i++) {
		const uint8_t *base = m->r[i].hva, *at = p;

		if (at >= base && (uint64_t)(at - base) < m->r[i].size)
			return m->r[i].gpa + (uint64_t)(at - base);
	}
	return UINT64_MAX; /* cannot be: vq_setup()'s caller took it from there */
}

static void send_ring_fd(struct vhost_front *f, uint32_t request, unsigned i, int fd)
{
	uint64_t arg = fd < 0 ? i | VU_VRING_NOFD : i;

	send_message(f, request, &arg, sizeof(arg), &fd, fd < 0 ? 0 : 1);
}

static void send_queue(struct vhost_front *f, unsigned i, const struct virtqueue *q)
{
	struct vu_vring_addr a = {.index = i,
				  .desc = gpa_of(q->mem, q->desc),
				  .used = gpa_of(q->mem, q->used),
				  .avail = gpa_of(q->mem, q->avail)};

	send_state(f, VU_SET_VRING_NUM, i, q->size);
	send_state(f, VU_SET_VRING_BASE, i, q->last_avail);
	send_message(f, VU_SET_VRING_ADDR, &a, sizeof(a), NULL, 0);
	send_ring_fd(f, VU_SET_VRING_CALL, i, q->call_fd);
	send_ring_fd(f, VU_SET_VRING_KICK, i, q->kick_fd);
	send_state(f, VU_SET_VRING_ENABLE, i, 1);
}

int vhost_front_start(struct vhost_front *f, uint64_t features, unsigned i,
		      const struct virtqueue *q, struct error *err)
{
	greet(f);
	if (!over(f) && f->running == 0) {
		send_u64(f, VU_SET_FEATURES, features | UINT64_C(1) << VU_F_PROTOCOL_FEATURES);
		if (!over(f) && send_memory(f, q->mem, err) < 0)
			return -1;
	}
	if (!over(f))
		send_queue(f, i, q);
	if (over(f))
		return error_kind(err, ERR_PEER, "%s", f->why);
	f->running |= 1u << i;
	return 0;
}

/* Waits for what the back end says, or SLICE_US at most; what is left of `left`. */
static uint64_t await_message(struct vhost_front *f, uint64_t left)
{
	struct pollfd p = {.fd = f->sock, .events = POLLIN};
	uint64_t slice = left < SLICE_US ? left : SLICE_US, before = now_us(), took;
	struct timespec t = {.tv_nsec = (long)slice * 1000};

	ppoll(&p, 1, &t, NULL);
	took = now_us() - before;
	return left - (took < slice ? took : slice);
}

void vhost_front_stop(struct vhost_front *f, unsigned i, struct virtqueue *q)
{
	uint64_t left = STOP_US;

	if (!(f->running >> i & 1) || expect(f, VU_GET_VRING_BASE) < 0 ||
	    send_state(f, VU_GET_VRING_BASE, i, 0) < 0)
		return;
	for (;;) {
		take_answers(f);
		if (over(f))
			return;
		if (!(f->running >> i & 1))
			break;
		if (left == 0) {
			fail(f, "does not give back queue %u", i);
			return;
		}
		left = await_message(f, left);
	}
	q->last_avail = f->base[i];
}

/* ---- life */

struct vhost_front *vhost_front_new(struct loop *l, int sock, const char *peer,
				    void (*lost)(void *arg, const char *why), void *arg,
				    struct error *err)
{
	cleanup_close int own = sock;
	struct vhost_front *f = calloc(1, sizeof(*f));

	if (!f) {
		error_set(err, "out of memory");
		return NULL;
	}
	f->src = loop_add(l, sock, EPOLLIN, on_socket, f, err);
	if (!f->src) {
		free(f);
		error_wrap(err, "%s", peer);
		return NULL;
	}
	f->loop = l;
	f->sock = steal_fd(&own);
	f->peer = peer;
	f->lost = lost;
	f->arg = arg;
	return f;
}

void vhost_front_free(struct vhost_front *f)
{
	if (!f)
		return;
	loop_remove(f->src);
	loop_remove(f->timer);
	close_fd(&f->sock);
	free(f);
}
