/*
 * The vhost-user transport, fed with messages over a socket pair.
 *
 * Input: a byte of options, then records: a control byte (bits 0-3: descriptors that ride along;
 * 4-5: of which kind; 6: leave the header as it is, else its version is made right), then a header,
 * then as much payload as the header says or the input has.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/vhost_user.h"
#include "vmm/vhost_user_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define RAM 0x10000
#define FDS 15

static void require(bool what)
{
	if (!what)
		abort();
}

/* ---- a device that believes its transport */

struct dummy {
	struct virtio_device d;
	bool on[2];
};

static uint64_t dummy_features(UNUSED struct virtio_device *d)
{
	return 0x0f;
}

static void dummy_read_config(UNUSED struct virtio_device *d, uint32_t off, void *buf, uint32_t len)
{
	require(off <= 256 && len <= 256 - off);
	memset(buf, 0x5a, len);
}

static void dummy_write_config(UNUSED struct virtio_device *d, uint32_t off, const void *buf,
			       uint32_t len)
{
	static uint8_t config[256];

	require(off <= 256 && len <= 256 - off);
	memcpy(config + off, buf, len);
}

static int dummy_start(struct virtio_device *d, unsigned q, UNUSED struct error *err)
{
	struct virtqueue *vq = &d->vq[q];
	static struct vq_chain c;
	uint8_t buf[32];

	require(q < 2 && !((struct dummy *)d)->on[q] && vq->size && vq->kick_fd >= 0);
	((struct dummy *)d)->on[q] = true;
	for (unsigned i = 0; i < 8 && vq_pop(vq, &c) > 0; i++) {
		vq_read(&c, 0, buf, sizeof(buf));
		vq_write(&c, 0, buf, sizeof(buf));
		vq_push(vq, c.head, 1);
	}
	vq_kicks_on(vq);
	vq_notify(vq);
	return 0;
}

static void dummy_stop(struct virtio_device *d, unsigned q)
{
	require(q < 2 && ((struct dummy *)d)->on[q]);
	((struct dummy *)d)->on[q] = false;
	vq_kicks_on(&d->vq[q]); /* the memory is still there */
}

static const struct virtio_device_ops dummy_ops = {
	.name = "dummy",
	.nqueues = 2,
	.features = dummy_features,
	.read_config = dummy_read_config,
	.write_config = dummy_write_config,
	.start_queue = dummy_start,
	.stop_queue = dummy_stop,
};

/* ---- the front end */

static int fd_of_kind(unsigned kind)
{
	static int fds[4] = {-1, -1, -1, -1};

	if (fds[0] < 0) {
		fds[0] = memfd_create("ram", MFD_CLOEXEC);
		require(ftruncate(fds[0], RAM) == 0);
		fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		fds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
		fds[3] = fds[0];
	}
	return fds[kind];
}

static bool send_record(int sock, uint8_t ctl, const void *buf, size_t len)
{
	char control[CMSG_SPACE(FDS * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	unsigned n = ctl & FDS;

	if (n) {
		struct cmsghdr *c;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		for (unsigned i = 0; i < n; i++) {
			int fd = fd_of_kind(ctl >> 4 & 3);

			memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
		}
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

static void send_records(int sock, const uint8_t *data, size_t len)
{
	while (len > 1) {
		union {
			struct vu_header h;
			uint8_t bytes[sizeof(struct vu_header) + 512];
		} m;
		uint8_t ctl = *data++;
		size_t n = sizeof(m.h), more;

		len--;
		memset(&m, 0, sizeof(m));
		memcpy(&m.h, data, len < n ? len : n);
		if (len <= n) {
			send_record(sock, ctl, &m, len);
			return;
		}
		if (!(ctl & 0x40))
			m.h.flags = (m.h.flags & VU_FLAG_NEED_REPLY) | VU_VERSION;
		more = m.h.size < 512 ? m.h.size : 512;
		if (more > len - n)
			more = len - n;
		memcpy(m.bytes + n, data + n, more);
		n += more;
		if (!send_record(sock, ctl, &m, n))
			return;
		data += n;
		len -= n;
	}
}

static void closed(void *arg, UNUSED const char *why)
{
	loop_stop(arg, 0);
}

static unsigned open_fds(void)
{
	int fd = dup(0);

	close(fd);
	return (unsigned)fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct dummy dummy = {.d = {.ops = &dummy_ops}};
	struct vhost_user *v;
	unsigned before;
	int sp[2];

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	if (len < 1)
		return 0;
	fd_of_kind(0);
	before = open_fds(); /* the lowest free one: a leak moves it */
	dummy.d.loop = loop_new(NULL);
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp) == 0);
	v = vhost_user_new(dummy.d.loop, sp[1], &dummy.d, closed, dummy.d.loop, NULL);
	require(v != NULL);
	if (data[0] & 1)
		dummy.d.config_changed(&dummy.d, dummy.d.transport);
	send_records(sp[0], data + 1, len - 1);
	shutdown(sp[0], SHUT_WR);
	loop_run(dummy.d.loop);
	require(!dummy.on[0] && !dummy.on[1]);
	vhost_user_free(v);
	loop_free(dummy.d.loop);
	close(sp[0]);
	require(open_fds() == before);
	return 0;
}
