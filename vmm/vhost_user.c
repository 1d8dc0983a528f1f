/*
 * vhost_user.c - the vhost-user transport, back-end side.
 *
 * Theory of operation
 *
 * QEMU sends one message at a time on the main channel and waits for the answers to those that
 * have one. All of it is served by the loop's thread; messages are collected as they come in, never
 * read beyond the end of one, so that descriptors that ride along belong to the message at hand.
 * They are closed with it unless a handler took them.
 *
 * A ring runs while all of these hold: it has a size, addresses and a kick ("started"), and it is
 * enabled. update_ring() compares that with what is, and starts or stops the device's queue; every
 * handler that changes one of the conditions calls it. What would change under a running queue is
 * refused (size, addresses, base), or done with the queue stopped (memory table, eventfds). Ring
 * addresses are the front end's and are looked up when the ring starts, so that a new memory table
 * moves them; an address outside of memory ends the connection.
 *
 * A change of the configuration space is told on a second channel, which QEMU made for us
 * (SET_BACKEND_REQ_FD). We do not ask for an answer there: QEMU would first ask us for the new
 * configuration, on the main channel, while we wait. QEMU keeps its own copy of the configuration
 * and may drop the message before it started the device, so a change that was not followed by
 * a GET_CONFIG is told once more when a ring starts.
 *
 * Nothing here is recoverable: a front end that breaks the protocol loses the connection, and the
 * engine treats that as the end of the machine.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/fds.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/vhost_user.h"
#include "vmm/vhost_user_msg.h"

/* syscalls qemu: sendmsg recvmsg */

#define MESSAGES_PER_ROUND 32 /* then the loop sees to its other sources */

struct ring {
	uint16_t num, base;
	uint64_t desc, avail, used; /* front-end addresses */
	bool have_addr, enabled;
	/* vq's kick_fd >= 0: started */
};

struct vhost_user {
	struct virtio_device *d;
	struct loop *loop;
	struct loop_source *src;
	int sock, backend_req;
	void (*closed)(void *arg, const char *why);
	void *arg;

	struct guest_mem mem;
	struct ring ring[DEVICE_QUEUES_MAX];
	uint64_t protocol_features;
	bool config_dirty; /* changed since the front end last read it */

	/* the message that is coming in */
	struct vu_header hdr;
	union vu_payload payload;
	uint32_t got; /* bytes of header and payload */
	int fds[VU_FDS_MAX];
	unsigned nfds;
};

static bool has_protocol(const struct vhost_user *v, unsigned bit)
{
	return v->protocol_features >> bit & 1;
}

static uint64_t offered_features(const struct vhost_user *v)
{
	return v->d->ops->features(v->d) | UINT64_C(1) << VIRTIO_F_VERSION_1 |
	       UINT64_C(1) << VIRTIO_F_INDIRECT_DESC | UINT64_C(1) << VIRTIO_F_EVENT_IDX |
	       UINT64_C(1) << VU_F_PROTOCOL_FEATURES;
}

/* CONFIG is not offered for a device without a configuration space, and not for a network card,
 * whose configuration space is QEMU's own: QEMU warns about it. */
static uint64_t offered_protocol(const struct vhost_user *v)
{
	uint64_t f = UINT64_C(1) << VU_PF_MQ | UINT64_C(1) << VU_PF_REPLY_ACK |
		     UINT64_C(1) << VU_PF_RESET_DEVICE;

	if (v->d->ops->read_config && v->d->ops->id != VIRTIO_ID_NET)
		f |= UINT64_C(1) << VU_PF_CONFIG | UINT64_C(1) << VU_PF_BACKEND_REQ;
	return f;
}

/* ---- sending */

static int send_message(int sock, uint32_t request, uint32_t flags, const void *payload,
			uint32_t size, struct error *err)
{
	struct vu_header h = {.request = request, .flags = VU_VERSION | flags, .size = size};
	struct iovec iov[2] = {{&h, sizeof(h)}, {(void *)(uintptr_t)payload, size}};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t r;

	do {
		r = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return error_errno(err, "vhost-user: send");
	/* A front end has at most a few short answers outstanding. */
	if ((size_t)r != sizeof(h) + size)
		return error_kind(err, ERR_PEER, "vhost-user: the front end does not read");
	return 0;
}

static int reply(struct vhost_user *v, const void *payload, uint32_t size, struct error *err)
{
	return send_message(v->sock, v->hdr.request, VU_FLAG_REPLY, payload, size, err);
}

static int reply_u64(struct vhost_user *v, uint64_t value, struct error *err)
{
	return reply(v, &value, sizeof(value), err);
}

static void tell_config_change(struct vhost_user *v)
{
	struct error err = ERROR_INIT;

	if (v->backend_req < 0)
		return;
	if (send_message(v->backend_req, VU_BACKEND_CONFIG_CHANGE, 0, NULL, 0, &err) < 0)
		log_warn("vhost-user %s: configuration change: %s", v->d->ops->name, err.msg);
}

static void on_config_changed(UNUSED struct virtio_device *d, void *arg)
{
	struct vhost_user *v = arg;

	v->config_dirty = true;
	tell_config_change(v);
}

/* ---- rings */

static void stop_ring(struct vhost_user *v, unsigned i)
{
	struct virtqueue *q = &v->d->vq[i];

	if (!v->d->running[i])
		return;
	v->d->ops->stop_queue(v->d, i);
	v->d->running[i] = false;
	v->ring[i].base = q->last_avail;
	vq_reset(q);
}

static int start_ring(struct vhost_user *v, unsigned i, struct error *err)
{
	const struct ring *r = &v->ring[i];
	struct virtqueue *q = &v->d->vq[i];
	void *desc = mem_at_user(&v->mem, r->desc, vq_desc_bytes(r->num));
	void *avail = mem_at_user(&v->mem, r->avail, vq_avail_bytes(r->num));
	void *used = mem_at_user(&v->mem, r->used, vq_used_bytes(r->num));

	if (!desc || !avail || !used)
		return error_kind(err, ERR_PEER, "ring %u: outside of guest memory", i);
	q->name = v->d->ops->name;
	q->event_idx = virtio_has(v->d, VIRTIO_F_EVENT_IDX);
	q->indirect = virtio_has(v->d, VIRTIO_F_INDIRECT_DESC);
	if (vq_setup(q, &v->mem, r->num, desc, avail, used, r->base, err) < 0 ||
	    v->d->ops->start_queue(v->d, i, err) < 0) {
		vq_reset(q);
		return error_wrap(err, "ring %u", i);
	}
	v->d->running[i] = true;
	if (v->config_dirty)
		tell_config_change(v);
	return 0;
}

static int update_ring(struct vhost_user *v, unsigned i, struct error *err)
{
	const struct ring *r = &v->ring[i];
	bool run = r->enabled && r->num && r->have_addr && v->d->vq[i].kick_fd >= 0;

	if (run && !v->d->running[i])
		return start_ring(v, i, err);
	if (!run)
		stop_ring(v, i);
	return 0;
}

static void stop_all(struct vhost_user *v)
{
	for (unsigned i = 0; i < v->d->ops->nqueues; i++)
		stop_ring(v, i);
}

static int update_all(struct vhost_user *v, struct error *err)
{
	for (unsigned i = 0; i < v->d->ops->nqueues; i++)
		if (update_ring(v, i, err) < 0)
			return -1;
	return 0;
}

/* ---- messages. A handler returns -1 to end the connection. */

static int check_ring(const struct vhost_user *v, uint64_t index, bool stopped, struct error *err)
{
	if (index >= v->d->ops->nqueues)
		return error_kind(err, ERR_PEER, "no ring %" PRIu64, index);
	if (stopped && v->d->running[index])
		return error_kind(err, ERR_PEER, "ring %" PRIu64 ": is running", index);
	return 0;
}

static int get_features(struct vhost_user *v, struct error *err)
{
	return reply_u64(v, offered_features(v), err);
}

static int set_features(struct vhost_user *v, struct error *err)
{
	uint64_t f = v->payload.u64, extra = f & ~offered_features(v);

	if (extra)
		return error_kind(err, ERR_PEER, "features 0x%" PRIx64 " were not offered", extra);
	for (unsigned i = 0; i < v->d->ops->nqueues; i++)
		if (check_ring(v, i, true, err) < 0)
			return -1;
	v->d->acked = f & ~(UINT64_C(1) << VU_F_PROTOCOL_FEATURES);
	/* Without the protocol features there is no SET_VRING_ENABLE: rings start enabled. */
	if (!(f >> VU_F_PROTOCOL_FEATURES & 1))
		for (unsigned i = 0; i < v->d->ops->nqueues; i++)
			v->ring[i].enabled = true;
	return update_all(v, err);
}

static int get_protocol_features(struct vhost_user *v, struct error *err)
{
	return reply_u64(v, offered_protocol(v), err);
}

static int set_protocol_features(struct vhost_user *v, struct error *err)
{
	uint64_t extra = v->payload.u64 & ~offered_protocol(v);

	if (extra)
		return error_kind(err, ERR_PEER, "protocol features 0x%" PRIx64 " were not offered",
				  extra);
	v->protocol_features = v->payload.u64;
	return 0;
}

static int get_queue_num(struct vhost_user *v, struct error *err)
{
	return reply_u64(v, v->d->ops->nqueues, err);
}

static int set_owner(UNUSED struct vhost_user *v, UNUSED struct error *err)
{
	return 0;
}

/* RESET_DEVICE, and its old form RESET_OWNER: rings are stopped and disabled, and keep nothing. */
static int reset_device(struct vhost_user *v, UNUSED struct error *err)
{
	stop_all(v);
	for (unsigned i = 0; i < v->d->ops->nqueues; i++) {
		close_fd(&v->d->vq[i].kick_fd);
		close_fd(&v->d->vq[i].call_fd);
		v->ring[i] = (struct ring){0};
	}
	v->d->acked = 0;
	return 0;
}

static int set_mem_table(struct vhost_user *v, struct error *err)
{
	const struct vu_mem_table *t = &v->payload.mem;

	/* t->n itself must be there before it is believed. */
	if (v->hdr.size < offsetof(struct vu_mem_table, region) || t->n > MEM_REGIONS_MAX ||
	    v->hdr.size < offsetof(struct vu_mem_table, region) + t->n * sizeof(t->region[0]))
		return error_kind(err, ERR_PEER, "memory table: bad size");
	if (v->nfds != t->n)
		return error_kind(err, ERR_PEER, "memory table: %u descriptors for %u regions",
				  v->nfds, t->n);
	stop_all(v);
	mem_clear(&v->mem);
	for (unsigned i = 0; i < t->n; i++)
		if (mem_add(&v->mem, t->region[i].gpa, t->region[i].size, t->region[i].user,
			    v->fds[i], t->region[i].offset, err) < 0)
			return -1;
	return update_all(v, err);
}

static int set_vring_num(struct vhost_user *v, struct error *err)
{
	const struct vu_vring_state *s = &v->payload.state;

	if (check_ring(v, s->index, true, err) < 0)
		return -1;
	if (s->num == 0 || s->num > VQ_SIZE_MAX || (s->num & (s->num - 1)))
		return error_kind(err, ERR_PEER, "ring %u: size %u", s->index, s->num);
	v->ring[s->index].num = (uint16_t)s->num;
	return update_ring(v, s->index, err);
}

static int set_vring_addr(struct vhost_user *v, struct error *err)
{
	const struct vu_vring_addr *a = &v->payload.addr;
	struct ring *r;

	if (check_ring(v, a->index, true, err) < 0)
		return -1;
	if (a->flags) /* logging of writes, which is not offered */
		return error_kind(err, ERR_PEER, "ring %u: flags 0x%x", a->index, a->flags);
	r = &v->ring[a->index];
	r->desc = a->desc;
	r->avail = a->avail;
	r->used = a->used;
	r->have_addr = true;
	return update_ring(v, a->index, err);
}

static int set_vring_base(struct vhost_user *v, struct error *err)
{
	const struct vu_vring_state *s = &v->payload.state;

	if (check_ring(v, s->index, true, err) < 0)
		return -1;
	if (s->num > UINT16_MAX)
		return error_kind(err, ERR_PEER, "ring %u: base %u", s->index, s->num);
	v->ring[s->index].base = (uint16_t)s->num;
	return 0;
}

/* Also means "stop": the ring starts again with its next kick descriptor. */
static int get_vring_base(struct vhost_user *v, struct error *err)
{
	struct vu_vring_state s = v->payload.state;

	if (check_ring(v, s.index, false, err) < 0)
		return -1;
	stop_ring(v, s.index);
	close_fd(&v->d->vq[s.index].kick_fd);
	close_fd(&v->d->vq[s.index].call_fd);
	s.num = v->ring[s.index].base;
	return reply(v, &s, sizeof(s), err);
}

/* The fd of a SET_VRING_{KICK,CALL,ERR} message, taken over; -1 with NOFD. */
static int take_ring_fd(struct vhost_user *v, unsigned *index, int *fd, struct error *err)
{
	uint64_t arg = v->payload.u64;
	bool nofd = arg & VU_VRING_NOFD;

	if (arg & ~(uint64_t)(VU_VRING_NOFD | VU_VRING_INDEX))
		return error_kind(err, ERR_PEER, "bad ring argument 0x%" PRIx64, arg);
	if (check_ring(v, arg & VU_VRING_INDEX, false, err) < 0)
		return -1;
	if (v->nfds != (nofd ? 0 : 1))
		return error_kind(err, ERR_PEER, "%u descriptors for a ring", v->nfds);
	*index = arg & VU_VRING_INDEX;
	*fd = -1;
	if (nofd)
		return 0;
	if (set_nonblock(v->fds[0], true) < 0)
		return error_errno(err, "ring %u: eventfd", *index);
	*fd = v->fds[0];
	v->nfds = 0;
	return 0;
}

/* The device's thread may be using the old one. */
static int replace_ring_fd(struct vhost_user *v, unsigned i, int *old, int fd, struct error *err)
{
	stop_ring(v, i);
	close_fd(old);
	*old = fd;
	return update_ring(v, i, err);
}

static int set_vring_kick(struct vhost_user *v, struct error *err)
{
	unsigned i;
	int fd;

	if (take_ring_fd(v, &i, &fd, err) < 0)
		return -1;
	if (fd < 0)
		return error_kind(err, ERR_UNSUPPORTED, "ring %u: polling is not offered", i);
	return replace_ring_fd(v, i, &v->d->vq[i].kick_fd, fd, err);
}

static int set_vring_call(struct vhost_user *v, struct error *err)
{
	unsigned i;
	int fd;

	if (take_ring_fd(v, &i, &fd, err) < 0)
		return -1;
	return replace_ring_fd(v, i, &v->d->vq[i].call_fd, fd, err);
}

/* Where to report errors: a broken ring is logged and stays broken, which says enough. */
static int set_vring_err(struct vhost_user *v, struct error *err)
{
	unsigned i;
	int fd;

	if (take_ring_fd(v, &i, &fd, err) < 0)
		return -1;
	close_fd(&fd);
	return 0;
}

static int set_vring_enable(struct vhost_user *v, struct error *err)
{
	const struct vu_vring_state *s = &v->payload.state;

	if (check_ring(v, s->index, false, err) < 0)
		return -1;
	if (s->num > 1)
		return error_kind(err, ERR_PEER, "ring %u: enable %u", s->index, s->num);
	v->ring[s->index].enabled = s->num;
	return update_ring(v, s->index, err);
}

static int set_backend_req_fd(struct vhost_user *v, struct error *err)
{
	if (v->nfds != 1)
		return error_kind(err, ERR_PEER, "%u descriptors for the back end's channel",
				  v->nfds);
	close_fd(&v->backend_req);
	v->backend_req = v->fds[0];
	v->nfds = 0;
	return 0;
}

static int check_config(const struct vhost_user *v, struct error *err)
{
	const struct vu_config *c = &v->payload.config;

	if (v->hdr.size < VU_CONFIG_HEADER || c->size > VU_CONFIG_MAX ||
	    c->offset > VU_CONFIG_MAX - c->size || v->hdr.size != VU_CONFIG_HEADER + c->size)
		return error_kind(err, ERR_PEER, "configuration space: bad range");
	return 0;
}

static int get_config(struct vhost_user *v, struct error *err)
{
	struct vu_config *c = &v->payload.config;

	if (check_config(v, err) < 0)
		return -1;
	if (!v->d->ops->read_config) /* an answer without payload says that it failed */
		return reply(v, NULL, 0, err);
	v->config_dirty = false;
	v->d->ops->read_config(v->d, c->offset, c->data, c->size);
	return reply(v, c, (uint32_t)VU_CONFIG_HEADER + c->size, err);
}

static int set_config(struct vhost_user *v, struct error *err)
{
	const struct vu_config *c = &v->payload.config;

	if (check_config(v, err) < 0)
		return -1;
	if (v->d->ops->write_config)
		v->d->ops->write_config(v->d, c->offset, c->data, c->size);
	return 0;
}

#define ANY_SIZE UINT32_MAX

static const struct handler {
	int (*fn)(struct vhost_user *v, struct error *err);
	const char *name;
	uint32_t size; /* of the payload; ANY_SIZE: the handler looks */
	unsigned nfds; /* most that may come along */
	bool replies;  /* has an answer of its own */
} handlers[] = {
	[VU_GET_FEATURES] = {get_features, "GET_FEATURES", 0, 0, true},
	[VU_SET_FEATURES] = {set_features, "SET_FEATURES", 8, 0, false},
	[VU_SET_OWNER] = {set_owner, "SET_OWNER", 0, 0, false},
	[VU_RESET_OWNER] = {reset_device, "RESET_OWNER", 0, 0, false},
	[VU_SET_MEM_TABLE] = {set_mem_table, "SET_MEM_TABLE", ANY_SIZE, VU_FDS_MAX, false},
	[VU_SET_VRING_NUM] = {set_vring_num, "SET_VRING_NUM", 8, 0, false},
	[VU_SET_VRING_ADDR] = {set_vring_addr, "SET_VRING_ADDR", 40, 0, false},
	[VU_SET_VRING_BASE] = {set_vring_base, "SET_VRING_BASE", 8, 0, false},
	[VU_GET_VRING_BASE] = {get_vring_base, "GET_VRING_BASE", 8, 0, true},
	[VU_SET_VRING_KICK] = {set_vring_kick, "SET_VRING_KICK", 8, 1, false},
	[VU_SET_VRING_CALL] = {set_vring_call, "SET_VRING_CALL", 8, 1, false},
	[VU_SET_VRING_ERR] = {set_vring_err, "SET_VRING_ERR", 8, 1, false},
	[VU_GET_PROTOCOL_FEATURES] = {get_protocol_features, "GET_PROTOCOL_FEATURES", 0, 0, true},
	[VU_SET_PROTOCOL_FEATURES] = {set_protocol_features, "SET_PROTOCOL_FEATURES", 8, 0, false},
	[VU_GET_QUEUE_NUM] = {get_queue_num, "GET_QUEUE_NUM", 0, 0, true},
	[VU_SET_VRING_ENABLE] = {set_vring_enable, "SET_VRING_ENABLE", 8, 0, false},
	[VU_SET_BACKEND_REQ_FD] = {set_backend_req_fd, "SET_BACKEND_REQ_FD", ANY_SIZE, 1, false},
	[VU_GET_CONFIG] = {get_config, "GET_CONFIG", ANY_SIZE, 0, true},
	[VU_SET_CONFIG] = {set_config, "SET_CONFIG", ANY_SIZE, 0, false},
	[VU_RESET_DEVICE] = {reset_device, "RESET_DEVICE", 0, 0, false},
};

static void drop_fds(struct vhost_user *v)
{
	for (unsigned i = 0; i < v->nfds; i++)
		close(v->fds[i]);
	v->nfds = 0;
}

static int handle_message(struct vhost_user *v, struct error *err)
{
	const struct handler *h;

	if (v->hdr.request >= ARRAY_LEN(handlers) || !handlers[v->hdr.request].fn)
		return error_kind(err, ERR_PEER, "unexpected message %u", v->hdr.request);
	h = &handlers[v->hdr.request];
	if (h->size != ANY_SIZE && v->hdr.size != h->size)
		return error_kind(err, ERR_PEER, "%s: %u bytes", h->name, v->hdr.size);
	if (v->nfds > h->nfds)
		return error_kind(err, ERR_PEER, "%s: %u descriptors", h->name, v->nfds);
	log_debug("vhost-user %s: %s", v->d->ops->name, h->name);
	if (h->fn(v, err) < 0)
		return error_wrap(err, "%s", h->name);
	if (!h->replies && (v->hdr.flags & VU_FLAG_NEED_REPLY) && has_protocol(v, VU_PF_REPLY_ACK))
		return reply_u64(v, 0, err);
	return 0;
}

/* ---- receiving */

/* Up to `len` bytes of the message. 1: all came; 0: not yet. */
static int receive(struct vhost_user *v, void *buf, uint32_t len, struct error *err)
{
	unsigned nfds = VU_FDS_MAX - v->nfds;
	bool lost = false;
	ssize_t r = fds_receive(v->sock, buf, len, v->fds + v->nfds, &nfds, MSG_DONTWAIT, &lost);

	if (r < 0 && errno == EAGAIN)
		return 0;
	if (r < 0)
		return error_errno(err, "receive");
	v->nfds += nfds;
	if (lost)
		return error_kind(err, ERR_PEER, "more than %d descriptors", VU_FDS_MAX);
	if (r == 0)
		return error_kind(err, ERR_PEER, "the front end hung up");
	v->got += (uint32_t)r;
	return (uint32_t)r == len;
}

static int receive_message(struct vhost_user *v, struct error *err)
{
	const uint32_t head = sizeof(v->hdr);
	int r;

	if (v->got < head) {
		r = receive(v, (uint8_t *)&v->hdr + v->got, head - v->got, err);
		if (r <= 0)
			return r;
		if ((v->hdr.flags & VU_VERSION_MASK) != VU_VERSION ||
		    (v->hdr.flags & VU_FLAG_REPLY))
			return error_kind(err, ERR_PEER, "bad header flags 0x%x", v->hdr.flags);
		if (v->hdr.size > sizeof(v->payload))
			return error_kind(err, ERR_PEER, "message %u: %u bytes", v->hdr.request,
					  v->hdr.size);
		memset(&v->payload, 0, sizeof(v->payload));
	}
	if (v->got < head + v->hdr.size)
		return receive(v, (uint8_t *)&v->payload + (v->got - head),
			       head + v->hdr.size - v->got, err);
	return 1;
}

static void hang_up(struct vhost_user *v, const char *why)
{
	void (*closed)(void *arg, const char *why) = v->closed;

	loop_remove(v->src);
	v->src = NULL;
	stop_all(v);
	v->closed = NULL;
	if (closed)
		closed(v->arg, why); /* may free v */
}

static void on_socket(void *arg, UNUSED uint32_t events)
{
	struct vhost_user *v = arg;
	struct error err = ERROR_INIT;

	for (unsigned i = 0; i < MESSAGES_PER_ROUND; i++) {
		int r = receive_message(v, &err);

		if (r == 0)
			return;
		if (r > 0) {
			r = handle_message(v, &err);
			drop_fds(v);
			v->got = 0;
		}
		if (r < 0) {
			error_wrap(&err, "vhost-user %s", v->d->ops->name);
			hang_up(v, err.msg);
			return;
		}
	}
}

/* ---- life */

struct vhost_user *vhost_user_new(struct loop *l, int sock, struct virtio_device *d,
				  void (*closed)(void *arg, const char *why), void *arg,
				  struct error *err)
{
	cleanup_close int own = sock;
	struct vhost_user *v = calloc(1, sizeof(*v));

	if (!v) {
		error_set(err, "out of memory");
		return NULL;
	}
	v->src = loop_add(l, sock, EPOLLIN, on_socket, v, err);
	if (!v->src) {
		free(v);
		return NULL;
	}
	v->d = d;
	v->loop = l;
	v->sock = steal_fd(&own);
	v->backend_req = -1;
	v->closed = closed;
	v->arg = arg;
	for (unsigned i = 0; i < DEVICE_QUEUES_MAX; i++)
		vq_init(&d->vq[i]);
	d->config_changed = on_config_changed;
	d->transport = v;
	return v;
}

void vhost_user_free(struct vhost_user *v)
{
	if (!v)
		return;
	loop_remove(v->src);
	reset_device(v, NULL);
	v->d->config_changed = NULL;
	v->d->transport = NULL;
	mem_clear(&v->mem);
	drop_fds(v);
	close_fd(&v->sock);
	close_fd(&v->backend_req);
	free(v);
}
