/* The virtio-fs device and the front end of vhost-user, against a back end that the test plays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/virtio_fs.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lib/log.h"
#include "tests/unit/ring.h"
#include "tests/unit/turns.h"
#include "vmm/device.h"
#include "vmm/vhost_user_msg.h"

#define GPA 0x100000u
#define GOOD                                                                         \
	(UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_F_INDIRECT_DESC | \
	 UINT64_C(1) << VIRTIO_F_EVENT_IDX | UINT64_C(1) << VU_F_PROTOCOL_FEATURES | 3)
#define ACKED (UINT64_C(1) << VIRTIO_F_VERSION_1 | UINT64_C(1) << VIRTIO_F_EVENT_IDX)

struct fixture {
	struct loop *loop;
	struct test_ring r;
	struct virtio_device *d;
	int peer;
	int kick, call;
	unsigned lost;
	char why[256];
	unsigned fds_before;
};

struct message {
	struct vu_header h;
	union vu_payload p;
	int fds[VU_FDS_MAX];
	unsigned nfds;
};

static unsigned open_fds(void)
{
	cleanup_dir DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	return n;
}

static void on_lost(void *arg, const char *why)
{
	struct fixture *f = arg;

	snprintf(f->why, sizeof(f->why), "%s", why);
	f->lost++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct timeval limit = {.tv_sec = RING_WAIT_MS / 1000};
	int sp[2];

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	f->fds_before = open_fds();
	f->loop = loop_new(NULL);
	test_ring_init(&f->r, 16);
	f->r.mem.r[0].fd = f->r.fd;
	f->r.mem.r[0].gpa = GPA;
	f->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp), 0);
	f->peer = sp[0];
	setsockopt(f->peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	f->d = fs_new(f->loop, sp[1], on_lost, f, NULL);
	assert_non_null(f->d);
	f->d->acked = ACKED;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->d->ops->destroy(f->d);
	loop_free(f->loop);
	test_ring_free(&f->r);
	close_fd(&f->kick);
	close_fd(&f->call);
	close_fd(&f->peer);
	assert_int_equal(open_fds(), f->fds_before);
	free(f);
	return 0;
}

static int start(struct fixture *f, unsigned i, uint16_t last_avail)
{
	struct virtqueue *q = &f->d->vq[i];

	q->kick_fd = f->kick;
	q->call_fd = f->call;
	assert_int_equal(test_ring_setup(&f->r, q, last_avail), 0);
	return f->d->ops->start_queue(f->d, i, NULL);
}

/* ---- the back end's side */

static void read_all(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t r = recv(fd, (uint8_t *)buf + done, len - done, 0);

		assert_true(r > 0);
		done += (size_t)r;
	}
}

static struct message take(struct fixture *f, uint32_t request)
{
	char control[CMSG_SPACE(VU_FDS_MAX * sizeof(int))];
	struct message m = {.nfds = 0};
	struct iovec iov = {&m.h, sizeof(m.h)};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c;

	assert_int_equal(recvmsg(f->peer, &h, MSG_CMSG_CLOEXEC), sizeof(m.h));
	c = CMSG_FIRSTHDR(&h);
	if (c) {
		m.nfds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(m.fds, CMSG_DATA(c), m.nfds * sizeof(int));
	}
	assert_int_equal(m.h.request, request);
	assert_int_equal(m.h.flags, VU_VERSION);
	assert_true(m.h.size <= sizeof(m.p));
	read_all(f->peer, &m.p, m.h.size);
	return m;
}

static void expect_u64(struct fixture *f, uint32_t request, uint64_t value)
{
	struct message m = take(f, request);

	assert_int_equal(m.h.size, 8);
	assert_int_equal(m.p.u64, value);
}

static void expect_state(struct fixture *f, uint32_t request, uint32_t index, uint32_t num)
{
	struct message m = take(f, request);

	assert_int_equal(m.h.size, 8);
	assert_int_equal(m.p.state.index, index);
	assert_int_equal(m.p.state.num, num);
}

static void expect_fd(struct fixture *f, uint32_t request, uint32_t index, int fd)
{
	struct message m = take(f, request);
	uint64_t one = 1, n = 0;

	assert_int_equal(m.p.u64, index);
	assert_int_equal(m.nfds, 1);
	assert_int_equal(write(m.fds[0], &one, sizeof(one)), sizeof(one));
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1);
	close(m.fds[0]);
}

static void expect_greeting(struct fixture *f)
{
	assert_int_equal(take(f, VU_GET_FEATURES).h.size, 0);
	expect_u64(f, VU_SET_PROTOCOL_FEATURES, 0);
	assert_int_equal(take(f, VU_SET_OWNER).h.size, 0);
}

static void expect_table(struct fixture *f)
{
	struct message m = take(f, VU_SET_MEM_TABLE);
	struct stat ours, theirs;

	assert_int_equal(m.h.size, 8 + sizeof(struct vu_mem_region));
	assert_int_equal(m.p.mem.n, 1);
	assert_int_equal(m.nfds, 1);
	assert_int_equal(fstat(f->r.fd, &ours) | fstat(m.fds[0], &theirs), 0);
	assert_int_equal(ours.st_ino, theirs.st_ino);
	assert_int_equal(m.p.mem.region[0].gpa, GPA);
	assert_int_equal(m.p.mem.region[0].user, GPA); /* and no address of ours */
	assert_int_equal(m.p.mem.region[0].size, RING_RAM);
	assert_int_equal(m.p.mem.region[0].offset, 0);
	close(m.fds[0]);
}

static void expect_queue(struct fixture *f, uint32_t i, uint32_t base)
{
	struct message m;

	expect_state(f, VU_SET_VRING_NUM, i, 16);
	expect_state(f, VU_SET_VRING_BASE, i, base);
	m = take(f, VU_SET_VRING_ADDR);
	assert_int_equal(m.p.addr.index, i);
	assert_int_equal(m.p.addr.flags, 0);
	assert_int_equal(m.p.addr.desc, GPA + RING_DESC);
	assert_int_equal(m.p.addr.avail, GPA + RING_AVAIL);
	assert_int_equal(m.p.addr.used, GPA + RING_USED);
	expect_fd(f, VU_SET_VRING_CALL, i, f->call);
	expect_fd(f, VU_SET_VRING_KICK, i, f->kick);
	expect_state(f, VU_SET_VRING_ENABLE, i, 1);
}

static void say(struct fixture *f, uint32_t request, uint32_t flags, uint32_t size,
		const void *payload)
{
	struct {
		struct vu_header h;
		uint8_t payload[64];
	} m = {.h = {request, flags, size}};

	memcpy(m.payload, payload, size);
	assert_int_equal(send(f->peer, &m, sizeof(m.h) + size, MSG_NOSIGNAL), sizeof(m.h) + size);
}

static void say_features(struct fixture *f, uint64_t features)
{
	say(f, VU_GET_FEATURES, VU_VERSION | VU_FLAG_REPLY, 8, &features);
}

static void say_base(struct fixture *f, uint32_t index, uint32_t num)
{
	struct vu_vring_state s = {index, num};

	say(f, VU_GET_VRING_BASE, VU_VERSION | VU_FLAG_REPLY, 8, &s);
}

/* What is there is taken. */
static void run(struct fixture *f)
{
	turns_run(f->loop, 64);
}

static void expect_lost(struct fixture *f, const char *why)
{
	run(f);
	assert_int_equal(f->lost, 1);
	if (!strstr(f->why, why))
		fail_msg("%s", f->why);
	assert_int_equal(start(f, 0, 0), -1);
}

/* ---- tests */

static void the_configuration_names_the_tag(void **state)
{
	struct fixture *f = *state;
	struct virtio_fs_config c;
	uint8_t byte = 1;

	assert_int_equal(f->d->ops->id, VIRTIO_ID_FS);
	assert_int_equal(f->d->ops->nqueues, 2);
	f->d->ops->read_config(f->d, 0, &c, sizeof(c));
	assert_string_equal((char *)c.tag, "husk");
	assert_int_equal(c.num_request_queues, 1);
	f->d->ops->read_config(f->d, sizeof(c), &byte, 1);
	assert_int_equal(byte, 0);
	f->d->ops->read_config(f->d, UINT32_MAX, &byte, 1);
}

static void a_start_tells_all_and_waits_for_nothing(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(start(f, 0, 0), 0);
	assert_int_equal(start(f, 1, 0), 0);
	expect_greeting(f);
	expect_u64(f, VU_SET_FEATURES, ACKED | UINT64_C(1) << VU_F_PROTOCOL_FEATURES);
	expect_table(f);
	expect_queue(f, 0, 0);
	expect_queue(f, 1, 0);
	say_features(f, GOOD);
	run(f);
	assert_int_equal(f->lost, 0);
}

static void queues_come_back_and_start_again(void **state)
{
	struct fixture *f = *state;

	for (uint16_t round = 0; round < 3; round++) {
		uint16_t at = (uint16_t)(65534 + round);

		assert_int_equal(start(f, 0, at), 0);
		assert_int_equal(start(f, 1, 7), 0);
		if (round == 0)
			expect_greeting(f);
		expect_u64(f, VU_SET_FEATURES, ACKED | UINT64_C(1) << VU_F_PROTOCOL_FEATURES);
		expect_table(f);
		expect_queue(f, 0, at);
		expect_queue(f, 1, 7);
		if (round == 0)
			say_features(f, GOOD);
		say_base(f, 0, (uint16_t)(at + 3));
		f->d->ops->stop_queue(f->d, 0);
		assert_int_equal(f->d->vq[0].last_avail, (uint16_t)(at + 3));
		say_base(f, 1, 9);
		f->d->ops->stop_queue(f->d, 1);
		assert_int_equal(f->d->vq[1].last_avail, 9);
		expect_state(f, VU_GET_VRING_BASE, 0, 0);
		expect_state(f, VU_GET_VRING_BASE, 1, 0);
	}
	run(f);
	assert_int_equal(f->lost, 0);
}

static void a_queue_that_does_not_run_is_not_asked_for(void **state)
{
	struct fixture *f = *state;
	char c;

	f->d->ops->stop_queue(f->d, 0);
	f->d->ops->stop_queue(f->d, 1);
	assert_int_equal(recv(f->peer, &c, 1, MSG_DONTWAIT), -1);
}

static void a_peer_that_hangs_up_is_lost_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(start(f, 0, 0), 0);
	close_fd(&f->peer);
	expect_lost(f, "virtiofsd has ended");
	assert_string_equal(f->why, "virtiofsd has ended");
	f->d->ops->stop_queue(f->d, 0);
	run(f);
	assert_int_equal(f->lost, 1);
}

static void a_peer_may_end_before_the_start(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->peer);
	assert_int_equal(start(f, 0, 0), -1);
	assert_int_equal(f->lost, 0); /* told from the loop */
	expect_lost(f, "virtiofsd has ended");
}

static void a_peer_that_keeps_a_queue_is_lost(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	assert_int_equal(start(f, 0, 5), 0);
	say_features(f, GOOD);
	before = now_us();
	f->d->ops->stop_queue(f->d, 0);
	assert_in_range(now_us() - before, 1000000, RING_WAIT_MS * UINT64_C(1000));
	assert_int_equal(f->d->vq[0].last_avail, 5);
	expect_lost(f, "does not give back queue 0");
}

static void missing_features_are_told(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(start(f, 0, 0), 0);
	say_features(f, GOOD & ~(UINT64_C(1) << VIRTIO_F_EVENT_IDX));
	expect_lost(f, "virtiofsd lacks features 0x20000000");
}

static void an_answer_that_was_not_asked_for_is_the_end(void **state)
{
	struct fixture *f = *state;

	say_features(f, GOOD);
	expect_lost(f, "answer 1 was not asked for");
}

static void an_answer_out_of_order_is_the_end(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(start(f, 0, 0), 0);
	say_base(f, 0, 0);
	expect_lost(f, "answer 11 was not asked for");
}

static void an_answer_of_another_size_is_the_end(void **state)
{
	struct fixture *f = *state;
	uint8_t zeros[16] = {0};

	assert_int_equal(start(f, 0, 0), 0);
	say(f, VU_GET_FEATURES, VU_VERSION | VU_FLAG_REPLY, 16, zeros);
	expect_lost(f, "16 bytes");
}

static void a_request_of_the_peer_is_the_end(void **state)
{
	struct fixture *f = *state;
	uint64_t u = GOOD;

	assert_int_equal(start(f, 0, 0), 0);
	say(f, VU_GET_FEATURES, VU_VERSION, 8, &u);
	expect_lost(f, "message 1, flags 0x1");
}

static void a_queue_that_it_does_not_have_is_the_end(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(start(f, 0, 0), 0);
	say_features(f, GOOD);
	say_base(f, 1, 0);
	f->d->ops->stop_queue(f->d, 0);
	expect_lost(f, "gave back queue 1");
}

static void a_place_in_the_queue_has_16_bits(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(start(f, 0, 0), 0);
	say_features(f, GOOD);
	say_base(f, 0, 65536);
	f->d->ops->stop_queue(f->d, 0);
	expect_lost(f, "gave back queue 0 at 65536");
}

static void answers_may_come_in_pieces(void **state)
{
	struct fixture *f = *state;
	struct {
		struct vu_header h;
		uint32_t low, high;
	} m = {{VU_GET_FEATURES, VU_VERSION | VU_FLAG_REPLY, 8}, (uint32_t)GOOD, GOOD >> 32};

	assert_int_equal(start(f, 0, 0), 0);
	for (size_t i = 0; i < sizeof(m); i++) {
		assert_int_equal(send(f->peer, (uint8_t *)&m + i, 1, 0), 1);
		if (i % 7 == 0)
			run(f);
	}
	run(f);
	assert_int_equal(f->lost, 0);
	say_base(f, 0, 1);
	f->d->ops->stop_queue(f->d, 0);
	assert_int_equal(f->d->vq[0].last_avail, 1);
}

/* teardown() counts the descriptors. */
static void descriptors_are_not_taken(void **state)
{
	struct fixture *f = *state;
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct {
		struct vu_header h;
		uint32_t low, high;
	} m = {{VU_GET_FEATURES, VU_VERSION | VU_FLAG_REPLY, 8}, (uint32_t)GOOD, GOOD >> 32};
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr h = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	unsigned before = open_fds();

	assert_int_equal(start(f, 0, 0), 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &f->kick, sizeof(int));
	assert_int_equal(sendmsg(f->peer, &h, 0), sizeof(m));
	run(f);
	assert_int_equal(f->lost, 0);
	assert_int_equal(open_fds(), before);
}

static void memory_without_a_file_is_refused(void **state)
{
	struct fixture *f = *state;

	f->r.mem.r[0].fd = -1;
	assert_int_equal(start(f, 0, 0), -1);
	f->d->ops->stop_queue(f->d, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_configuration_names_the_tag),
		T(a_start_tells_all_and_waits_for_nothing),
		T(queues_come_back_and_start_again),
		T(a_queue_that_does_not_run_is_not_asked_for),
		T(a_peer_that_hangs_up_is_lost_once),
		T(a_peer_may_end_before_the_start),
		T(a_peer_that_keeps_a_queue_is_lost),
		T(missing_features_are_told),
		T(an_answer_that_was_not_asked_for_is_the_end),
		T(an_answer_out_of_order_is_the_end),
		T(an_answer_of_another_size_is_the_end),
		T(a_request_of_the_peer_is_the_end),
		T(a_queue_that_it_does_not_have_is_the_end),
		T(a_place_in_the_queue_has_16_bits),
		T(answers_may_come_in_pieces),
		T(descriptors_are_not_taken),
		T(memory_without_a_file_is_refused),
	};

	return cmocka_run_group_tests_name("fs", tests, NULL, NULL);
}
