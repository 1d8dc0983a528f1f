/*
 * The vhost-user transport against a front end of our own: the loop runs in a second thread, the
 * test plays QEMU, with blocking calls, in the first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "tests/unit/ring.h"
#include "vmm/source.h"
#include "vmm/vhost_user.h"
#include "vmm/vhost_user_msg.h"

#define USER 0x7f0000000000 /* test_ring_init()'s */

struct fixture {
	struct loop *loop;
	struct virtio_device *d;
	struct vhost_user *v;
	struct test_ring r;
	pthread_t thread;
	bool joined;
	int sock, kick, call;
	unsigned fds_before;
	char why[256]; /* of the end; valid once the thread is joined */
	unsigned ends;
};

static unsigned open_fds(void)
{
	cleanup_dir DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	return n;
}

static void closed(void *arg, const char *why)
{
	struct fixture *f = arg;

	snprintf(f->why, sizeof(f->why), "%s", why);
	f->ends++;
	loop_stop(f->loop, 0);
}

static void *run(void *arg)
{
	loop_run(((struct fixture *)arg)->loop);
	return NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct timeval limit = {.tv_sec = RING_WAIT_MS / 1000};
	int sp[2], disk;

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	f->fds_before = open_fds();
	f->loop = loop_new(NULL);
	test_ring_init(&f->r, 16);
	f->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->d = blk_new(f->loop, false, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp), 0);
	f->sock = sp[0];
	setsockopt(f->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	f->v = vhost_user_new(f->loop, sp[1], f->d, closed, f, NULL);
	disk = memfd_create("disk", MFD_CLOEXEC);
	assert_int_equal(ftruncate(disk, 64 * 512), 0);
	assert_int_equal(blk_attach(f->d, "disk-1", source_file_new(disk, false, true, NULL), NULL),
			 0);
	assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
	*state = f;
	return 0;
}

/* Hangs up, waits for the transport to end, and checks that it left nothing open. */
static void finish(struct fixture *f)
{
	close_fd(&f->sock);
	if (!f->joined)
		pthread_join(f->thread, NULL);
	assert_int_equal(f->ends, 1);
	assert_false(f->d->running[0]);
	vhost_user_free(f->v);
	f->d->ops->destroy(f->d);
	loop_free(f->loop);
	test_ring_free(&f->r);
	close_fd(&f->kick);
	close_fd(&f->call);
	assert_int_equal(open_fds(), f->fds_before);
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static void send_raw(struct fixture *f, const void *buf, size_t len, const int *fds, unsigned n)
{
	char control[CMSG_SPACE(16 * sizeof(int))] = {0};
	struct iovec iov = {(void *)(uintptr_t)buf, len};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n) {
		struct cmsghdr *c;

		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	assert_int_equal(sendmsg(f->sock, &m, MSG_NOSIGNAL), len);
}

static void send_fds(struct fixture *f, uint32_t request, uint32_t flags, const void *payload,
		     uint32_t size, const int *fds, unsigned n)
{
	struct {
		struct vu_header h;
		uint8_t payload[512];
	} m = {.h = {request, VU_VERSION | flags, size}};

	if (size)
		memcpy(m.payload, payload, size);
	send_raw(f, &m, sizeof(m.h) + size, fds, n);
}

static void send_msg(struct fixture *f, uint32_t request, const void *payload, uint32_t size)
{
	send_fds(f, request, 0, payload, size, NULL, 0);
}

static void send_u64(struct fixture *f, uint32_t request, uint64_t v)
{
	send_msg(f, request, &v, sizeof(v));
}

static void send_state(struct fixture *f, uint32_t request, uint32_t index, uint32_t num)
{
	struct vu_vring_state s = {index, num};

	send_msg(f, request, &s, sizeof(s));
}

static void send_ring_fd(struct fixture *f, uint32_t request, uint64_t arg, int fd)
{
	send_fds(f, request, 0, &arg, sizeof(arg), &fd, 1);
}

/* The answer's payload; its size is returned. */
static uint32_t receive(struct fixture *f, uint32_t request, void *payload, size_t max)
{
	struct vu_header h = {0};

	assert_int_equal(recv(f->sock, &h, sizeof(h), MSG_WAITALL), sizeof(h));
	assert_int_equal(h.request, request);
	assert_int_equal(h.flags, VU_VERSION | VU_FLAG_REPLY);
	assert_true(h.size <= max);
	if (h.size)
		assert_int_equal(recv(f->sock, payload, h.size, MSG_WAITALL), h.size);
	return h.size;
}

static uint64_t ask(struct fixture *f, uint32_t request)
{
	uint64_t v;

	send_msg(f, request, NULL, 0);
	assert_int_equal(receive(f, request, &v, sizeof(v)), sizeof(v));
	return v;
}

static void send_mem_table(struct fixture *f)
{
	struct vu_mem_table t = {.n = 1, .region = {{0, RING_RAM, USER, 0}}};

	send_fds(f, VU_SET_MEM_TABLE, 0, &t, 8 + sizeof(t.region[0]), &f->r.fd, 1);
}

static void send_addr(struct fixture *f, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct vu_vring_addr a = {.desc = desc, .avail = avail, .used = used};

	send_msg(f, VU_SET_VRING_ADDR, &a, sizeof(a));
}

static void negotiate(struct fixture *f)
{
	uint64_t features = ask(f, VU_GET_FEATURES), protocol;

	protocol = ask(f, VU_GET_PROTOCOL_FEATURES);
	send_u64(f, VU_SET_PROTOCOL_FEATURES, protocol);
	send_msg(f, VU_SET_OWNER, NULL, 0);
	send_u64(f, VU_SET_FEATURES, features & ~(UINT64_C(1) << VIRTIO_F_EVENT_IDX));
}

static void start_ring(struct fixture *f, uint16_t base)
{
	send_mem_table(f);
	send_state(f, VU_SET_VRING_NUM, 0, f->r.size);
	send_state(f, VU_SET_VRING_BASE, 0, base);
	send_addr(f, USER + RING_DESC, USER + RING_AVAIL, USER + RING_USED);
	send_ring_fd(f, VU_SET_VRING_KICK, 0, f->kick);
	send_ring_fd(f, VU_SET_VRING_CALL, 0, f->call);
	send_state(f, VU_SET_VRING_ENABLE, 0, 1);
}

static uint32_t stop_ring(struct fixture *f)
{
	struct vu_vring_state s;

	send_state(f, VU_GET_VRING_BASE, 0, 0);
	assert_int_equal(receive(f, VU_GET_VRING_BASE, &s, sizeof(s)), sizeof(s));
	assert_int_equal(s.index, 0);
	return s.num;
}

/* One GET_ID request through the ring. */
static void offer_request(struct fixture *f)
{
	struct virtio_blk_outhdr h = {.type = VIRTIO_BLK_T_GET_ID};

	memcpy(f->r.ram + RING_DATA, &h, sizeof(h));
	memset(f->r.ram + RING_DATA + 0x100, 0xee, 21);
	ring_put(&f->r, 0, RING_DATA, sizeof(h), RING_NEXT, 1);
	ring_put(&f->r, 1, RING_DATA + 0x100, 21, RING_WRITE, 0);
	ring_offer(&f->r, 0);
}

static void expect_answer(struct fixture *f, uint16_t used)
{
	ring_await(&f->r, used, f->call);
	assert_int_equal(ring_used_idx(&f->r), used);
	assert_memory_equal(f->r.ram + RING_DATA + 0x100, "disk-1", 7);
	assert_int_equal(f->r.ram[RING_DATA + 0x100 + 20], 0);
}

static void request_by_kick(struct fixture *f, uint16_t used)
{
	uint64_t one = 1;

	offer_request(f);
	assert_int_equal(write(f->kick, &one, sizeof(one)), sizeof(one));
	expect_answer(f, used);
}

/* The connection must end, for a reason that says `why`. */
static void expect_end(struct fixture *f, const char *why)
{
	pthread_join(f->thread, NULL);
	f->joined = true;
	if (!strstr(f->why, why))
		fail_msg("ended with \"%s\", not \"%s\"", f->why, why);
	finish(f);
}

static void serves_requests(void **state)
{
	struct fixture *f = *state;
	uint64_t features = ask(f, VU_GET_FEATURES);

	assert_true(features >> VIRTIO_F_VERSION_1 & 1);
	assert_true(features >> VIRTIO_F_EVENT_IDX & 1);
	assert_true(features >> VIRTIO_F_INDIRECT_DESC & 1);
	assert_true(features >> VU_F_PROTOCOL_FEATURES & 1);
	assert_true(features >> VIRTIO_BLK_F_FLUSH & 1);
	assert_int_equal(ask(f, VU_GET_QUEUE_NUM), 1);
	negotiate(f);
	offer_request(f);
	start_ring(f, 0); /* what was there before is served without a kick */
	expect_answer(f, 1);
	request_by_kick(f, 2);
	assert_int_equal(stop_ring(f), 2);
	offer_request(f);
	start_ring(f, 2);
	expect_answer(f, 3);
	finish(f);
}

static void a_ring_waits_until_it_is_enabled(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	start_ring(f, 0);
	request_by_kick(f, 1);
	send_state(f, VU_SET_VRING_ENABLE, 0, 0);
	ask(f, VU_GET_FEATURES); /* the answer means that it is disabled */
	offer_request(f);
	assert_int_equal(write(f->kick, &(uint64_t){1}, 8), 8);
	ask(f, VU_GET_FEATURES);
	assert_int_equal(ring_used_idx(&f->r), 1);
	send_state(f, VU_SET_VRING_ENABLE, 0, 1);
	expect_answer(f, 2);
	finish(f);
}

static void memory_and_eventfds_change_under_a_running_ring(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	start_ring(f, 0);
	for (uint16_t i = 1; i <= 60; i += 3) {
		request_by_kick(f, i);
		send_mem_table(f);
		request_by_kick(f, i + 1);
		send_ring_fd(f, VU_SET_VRING_CALL, 0, f->call);
		request_by_kick(f, i + 2);
		send_ring_fd(f, VU_SET_VRING_KICK, 0, f->kick);
	}
	send_fds(f, VU_SET_VRING_CALL, 0, &(uint64_t){VU_VRING_NOFD}, 8, NULL, 0);
	assert_int_equal(stop_ring(f), 60);
	finish(f);
}

static void needs_no_protocol_features(void **state)
{
	struct fixture *f = *state;

	send_u64(f, VU_SET_FEATURES, UINT64_C(1) << VIRTIO_F_VERSION_1);
	send_mem_table(f);
	send_state(f, VU_SET_VRING_NUM, 0, f->r.size);
	send_addr(f, USER + RING_DESC, USER + RING_AVAIL, USER + RING_USED);
	send_ring_fd(f, VU_SET_VRING_CALL, 0, f->call);
	send_ring_fd(f, VU_SET_VRING_KICK, 0, f->kick);
	request_by_kick(f, 1);
	finish(f);
}

static void reset_stops_and_forgets(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	start_ring(f, 0);
	request_by_kick(f, 1);
	send_msg(f, VU_RESET_DEVICE, NULL, 0);
	ask(f, VU_GET_FEATURES);
	offer_request(f);
	assert_int_equal(stop_ring(f), 0);
	assert_int_equal(ring_used_idx(&f->r), 1);
	negotiate(f);
	start_ring(f, 1);
	expect_answer(f, 2);
	finish(f);
}

static void acknowledges_when_asked(void **state)
{
	struct fixture *f = *state;
	uint64_t protocol = ask(f, VU_GET_PROTOCOL_FEATURES), v = 1;

	send_fds(f, VU_SET_OWNER, VU_FLAG_NEED_REPLY, NULL, 0, NULL, 0); /* not negotiated */
	send_u64(f, VU_SET_PROTOCOL_FEATURES, protocol);
	send_fds(f, VU_SET_OWNER, VU_FLAG_NEED_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(receive(f, VU_SET_OWNER, &v, sizeof(v)), 8);
	assert_int_equal(v, 0);
	/* what has an answer of its own gets one answer */
	send_fds(f, VU_GET_QUEUE_NUM, VU_FLAG_NEED_REPLY, NULL, 0, NULL, 0);
	assert_int_equal(receive(f, VU_GET_QUEUE_NUM, &v, sizeof(v)), 8);
	ask(f, VU_GET_FEATURES);
	finish(f);
}

static uint32_t get_config(struct fixture *f, struct vu_config *c, uint32_t size)
{
	*c = (struct vu_config){.size = size};
	send_msg(f, VU_GET_CONFIG, c, VU_CONFIG_HEADER + size);
	return receive(f, VU_GET_CONFIG, c, sizeof(*c));
}

static void gives_the_configuration(void **state)
{
	struct fixture *f = *state;
	struct vu_config c;
	uint64_t capacity;

	negotiate(f);
	assert_int_equal(get_config(f, &c, 60), VU_CONFIG_HEADER + 60);
	memcpy(&capacity, c.data, sizeof(capacity));
	assert_int_equal(capacity, 64);
	assert_int_equal(get_config(f, &c, VU_CONFIG_MAX), sizeof(c));
	finish(f);
}

/* The source was attached before anybody could be told: the ring's start tells it, and once
 * the front end has read the configuration nothing is told again. */
static void tells_of_changes_when_they_can_be_heard(void **state)
{
	struct fixture *f = *state;
	struct timeval limit = {.tv_sec = RING_WAIT_MS / 1000};
	struct vu_header h;
	struct vu_config c;
	int sp[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sp), 0);
	setsockopt(sp[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	negotiate(f);
	send_fds(f, VU_SET_BACKEND_REQ_FD, 0, NULL, 0, &sp[1], 1);
	close(sp[1]);
	ask(f, VU_GET_FEATURES);
	assert_int_equal(recv(sp[0], &h, sizeof(h), MSG_DONTWAIT), -1);
	start_ring(f, 0);
	assert_int_equal(recv(sp[0], &h, sizeof(h), MSG_WAITALL), sizeof(h));
	assert_int_equal(h.request, VU_BACKEND_CONFIG_CHANGE);
	assert_int_equal(h.flags, VU_VERSION);
	assert_int_equal(h.size, 0);
	get_config(f, &c, 60);
	stop_ring(f);
	start_ring(f, 0);
	ask(f, VU_GET_FEATURES);
	assert_int_equal(recv(sp[0], &h, sizeof(h), MSG_DONTWAIT), -1);
	close(sp[0]);
	finish(f);
}

static void messages_may_come_in_pieces(void **state)
{
	struct fixture *f = *state;
	struct vu_header h[2] = {{VU_GET_QUEUE_NUM, VU_VERSION, 0},
				 {VU_SET_FEATURES, VU_VERSION, 8}};
	uint64_t v = UINT64_C(1) << VIRTIO_F_VERSION_1;
	struct {
		struct vu_header a, b;
		uint64_t v;
	} __attribute__((packed)) all = {h[0], h[1], v};

	for (size_t i = 0; i < sizeof(all); i++)
		send_raw(f, (char *)&all + i, 1, NULL, 0);
	assert_int_equal(receive(f, VU_GET_QUEUE_NUM, &v, sizeof(v)), 8);
	send_raw(f, &all, sizeof(all), NULL, 0); /* and two at once */
	assert_int_equal(receive(f, VU_GET_QUEUE_NUM, &v, sizeof(v)), 8);
	ask(f, VU_GET_FEATURES);
	finish(f);
}

/* ---- what ends the connection */

static void hanging_up(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	start_ring(f, 0);
	request_by_kick(f, 1);
	close_fd(&f->sock);
	expect_end(f, "hung up");
}

static void hanging_up_in_a_message(void **state)
{
	struct fixture *f = *state;
	struct vu_header h = {VU_SET_FEATURES, VU_VERSION, 8};

	send_raw(f, &h, sizeof(h), &f->kick, 1);
	close_fd(&f->sock);
	expect_end(f, "hung up");
}

static void unknown_message(void **state)
{
	send_msg(*state, 99, NULL, 0);
	expect_end(*state, "unexpected message 99");
}

static void oversized_message(void **state)
{
	struct vu_header h = {VU_SET_FEATURES, VU_VERSION, UINT32_MAX};

	send_raw(*state, &h, sizeof(h), NULL, 0);
	expect_end(*state, "4294967295 bytes");
}

static void wrong_version(void **state)
{
	struct vu_header h = {VU_GET_FEATURES, 2, 0};

	send_raw(*state, &h, sizeof(h), NULL, 0);
	expect_end(*state, "flags");
}

static void wrong_size(void **state)
{
	send_msg(*state, VU_SET_FEATURES, "1234", 4);
	expect_end(*state, "SET_FEATURES: 4 bytes");
}

static void unwanted_fds(void **state)
{
	struct fixture *f = *state;
	int fds[3] = {f->kick, f->kick, f->kick};

	send_fds(f, VU_GET_FEATURES, 0, NULL, 0, fds, 3);
	expect_end(f, "3 descriptors");
}

static void too_many_fds(void **state)
{
	struct fixture *f = *state;
	int fds[12];

	for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
		fds[i] = f->kick;
	send_fds(f, VU_GET_FEATURES, 0, NULL, 0, fds, ARRAY_LEN(fds));
	expect_end(f, "more than 8 descriptors");
}

static void features_not_offered(void **state)
{
	send_u64(*state, VU_SET_FEATURES, UINT64_C(1) << 26);
	expect_end(*state, "not offered");
}

static void protocol_features_not_offered(void **state)
{
	send_u64(*state, VU_SET_PROTOCOL_FEATURES, UINT64_C(1) << 12);
	expect_end(*state, "not offered");
}

static void ring_index(void **state)
{
	send_state(*state, VU_SET_VRING_NUM, 1, 8);
	expect_end(*state, "no ring 1");
}

static void ring_size(void **state)
{
	send_state(*state, VU_SET_VRING_NUM, 0, 24);
	expect_end(*state, "size 24");
}

static void ring_outside_of_memory(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	send_mem_table(f);
	send_state(f, VU_SET_VRING_NUM, 0, 16);
	send_addr(f, USER + RING_RAM - 255, USER + RING_AVAIL, USER + RING_USED);
	send_state(f, VU_SET_VRING_ENABLE, 0, 1);
	send_ring_fd(f, VU_SET_VRING_KICK, 0, f->kick);
	expect_end(f, "outside of guest memory");
}

static void misaligned_ring(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	send_mem_table(f);
	send_state(f, VU_SET_VRING_NUM, 0, 16);
	send_addr(f, USER + RING_DESC + 8, USER + RING_AVAIL, USER + RING_USED);
	send_state(f, VU_SET_VRING_ENABLE, 0, 1);
	send_ring_fd(f, VU_SET_VRING_KICK, 0, f->kick);
	expect_end(f, "misaligned");
}

static void memory_that_vanishes(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	start_ring(f, 0);
	send_msg(f, VU_SET_MEM_TABLE, "\0\0\0\0\0\0\0", 8);
	expect_end(f, "outside of guest memory");
}

static void memory_without_fds(void **state)
{
	struct vu_mem_table t = {.n = 1, .region = {{0, RING_RAM, USER, 0}}};

	send_msg(*state, VU_SET_MEM_TABLE, &t, 40);
	expect_end(*state, "0 descriptors for 1 regions");
}

static void memory_table_cut_short(void **state)
{
	struct fixture *f = *state;
	uint32_t n[2] = {1, 0};

	send_fds(f, VU_SET_MEM_TABLE, 0, n, 8, &f->kick, 1);
	expect_end(f, "bad size");
}

static void registers_of_a_running_ring(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	start_ring(f, 0);
	send_state(f, VU_SET_VRING_NUM, 0, 8);
	expect_end(f, "is running");
}

static void features_of_a_running_ring(void **state)
{
	struct fixture *f = *state;

	negotiate(f);
	start_ring(f, 0);
	send_u64(f, VU_SET_FEATURES, 0);
	expect_end(f, "is running");
}

static void polling_instead_of_kicks(void **state)
{
	send_u64(*state, VU_SET_VRING_KICK, VU_VRING_NOFD);
	expect_end(*state, "polling");
}

static void config_out_of_range(void **state)
{
	struct vu_config c = {.offset = UINT32_MAX, .size = 60};

	send_msg(*state, VU_GET_CONFIG, &c, VU_CONFIG_HEADER + 60);
	expect_end(*state, "bad range");
}

static void config_of_another_size(void **state)
{
	struct vu_config c = {.size = 200};

	send_msg(*state, VU_GET_CONFIG, &c, VU_CONFIG_HEADER + 60);
	expect_end(*state, "bad range");
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(serves_requests),
		T(a_ring_waits_until_it_is_enabled),
		T(memory_and_eventfds_change_under_a_running_ring),
		T(needs_no_protocol_features),
		T(reset_stops_and_forgets),
		T(acknowledges_when_asked),
		T(gives_the_configuration),
		T(tells_of_changes_when_they_can_be_heard),
		T(messages_may_come_in_pieces),
		T(hanging_up),
		T(hanging_up_in_a_message),
		T(unknown_message),
		T(oversized_message),
		T(wrong_version),
		T(wrong_size),
		T(unwanted_fds),
		T(too_many_fds),
		T(features_not_offered),
		T(protocol_features_not_offered),
		T(ring_index),
		T(ring_size),
		T(ring_outside_of_memory),
		T(misaligned_ring),
		T(memory_that_vanishes),
		T(memory_without_fds),
		T(memory_table_cut_short),
		T(registers_of_a_running_ring),
		T(features_of_a_running_ring),
		T(polling_instead_of_kicks),
		T(config_out_of_range),
		T(config_of_another_size),
	};

	return cmocka_run_group_tests_name("vhost_user", tests, NULL, NULL);
}
