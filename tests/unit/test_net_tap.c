/* What the network card asks of a TAP, on a real one in a network namespace of this test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "vmm/virtio/net_dev.h"

struct fixture {
	int tap, packet;
	int ifindex;
};

static bool have_taps;

static int open_tap(const char *name, short flags)
{
	struct ifreq r = {.ifr_flags = flags};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	strcpy(r.ifr_name, name);
	assert_true(fd >= 0);
	assert_int_equal(ioctl(fd, TUNSETIFF, &r), 0);
	return fd;
}

static void set_up(const char *name)
{
	struct ifreq r = {.ifr_flags = IFF_UP};
	cleanup_close int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(r.ifr_name, name);
	assert_int_equal(ioctl(s, SIOCSIFFLAGS, &r), 0);
}

static int group_setup(void **state)
{
	(void)state;
	have_taps = access("/dev/net/tun", R_OK | W_OK) == 0 && unshare(CLONE_NEWNET) == 0;
	return 0;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sockaddr_ll a = {.sll_family = AF_PACKET};

	*state = f;
	f->tap = f->packet = -1;
	if (!have_taps)
		return 0;
	f->tap = open_tap("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	set_up("tap0");
	f->packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	a.sll_ifindex = f->ifindex = (int)if_nametoindex("tap0");
	assert_int_equal(bind(f->packet, (struct sockaddr *)&a, sizeof(a)), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close_fd(&f->tap);
	close_fd(&f->packet);
	free(f);
	return 0;
}

#define MARK 0x88b5 /* a type for local experiments: tells our frames from the kernel's own */

/* A frame to the guest, as the host's stack would send it. */

static void send_frame(struct fixture *f, const uint8_t *to)
{
	uint8_t frame[60] = {0};
	uint16_t type = htons(MARK);

	memcpy(frame, to, 6);
	memcpy(frame + 12, &type, sizeof(type));
	assert_int_equal(send(f->packet, frame, sizeof(frame), 0), sizeof(frame));
}

/* Whether a frame of ours is there. What we send is in the TAP when send() returns. */
static bool arrives(struct fixture *f)
{
	uint8_t buf[2048];
	uint16_t type;
	ssize_t n;

	while ((n = read(f->tap, buf, sizeof(buf))) > 0) {
		assert_true(n >= (ssize_t)(NET_HDR_BYTES + NET_FRAME_MIN));
		memcpy(&type, buf + NET_HDR_BYTES + 12, sizeof(type));
		if (type == htons(MARK))
			return true;
	}
	return false;
}

static bool passes(struct fixture *f, const char *to)
{
	send_frame(f, (const uint8_t *)to);
	return arrives(f);
}

static void packets_have_our_header(void **state)
{
	struct fixture *f = *state;
	bool uso;
	uint64_t all = UINT64_MAX;

	if (!have_taps)
		skip();
	assert_int_equal(net_tap_open(&f->tap, 1, &uso, NULL), 0);
	assert_true(passes(f, "\2\0\0\0\0\1"));
	assert_int_equal(net_tap_offload(f->tap, all & ~(uso ? 0 : UINT64_C(1) << NET_F_GUEST_USO4),
					 NULL),
			 0);
	assert_int_equal(net_tap_offload(f->tap, UINT64_C(1) << VIRTIO_NET_F_GUEST_TSO4, NULL), 0);
	assert_int_equal(net_tap_offload(f->tap,
					 UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM |
						 UINT64_C(1) << VIRTIO_NET_F_GUEST_ECN,
					 NULL),
			 0);
	assert_int_equal(net_tap_offload(f->tap, 0, NULL), 0);
}

static void the_kernel_filters(void **state)
{
	static const uint8_t macs[3][6] = {
		{2, 0, 0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 9}};
	struct fixture *f = *state;
	bool uso;

	if (!have_taps)
		skip();
	assert_int_equal(net_tap_open(&f->tap, 1, &uso, NULL), 0);
	assert_true(passes(f, "\2\0\0\0\0\7"));
	net_tap_filter(f->tap, macs, 3, false);
	assert_true(passes(f, "\2\0\0\0\0\1"));
	assert_true(passes(f, "\xff\xff\xff\xff\xff\xff"));
	assert_true(passes(f, "\1\0\x5e\0\0\11"));
	assert_false(passes(f, "\2\0\0\0\0\7"));
	assert_false(passes(f, "\1\0\x5e\0\0\12"));
	net_tap_filter(f->tap, macs, 2, true);
	assert_true(passes(f, "\1\0\x5e\0\0\12"));
	assert_false(passes(f, "\2\0\0\0\0\7"));
	net_tap_filter(f->tap, NULL, 0, false);
	assert_true(passes(f, "\2\0\0\0\0\7"));
}

/* More than the kernel compares one by one: groups are hashed, stations let all through. */
static void a_long_filter_lets_through_what_it_names(void **state)
{
	uint8_t macs[2 * NET_MACS_MAX + 2][6] = {{2, 0, 0, 0, 0, 1}};
	struct fixture *f = *state;
	bool uso;

	if (!have_taps)
		skip();
	assert_int_equal(net_tap_open(&f->tap, 1, &uso, NULL), 0);
	for (unsigned i = 1; i < ARRAY_LEN(macs); i++)
		memcpy(macs[i], (uint8_t[]){1, 0, 0x5e, 0, 1, (uint8_t)i}, 6);
	net_tap_filter(f->tap, (const uint8_t(*)[6])macs, ARRAY_LEN(macs), false);
	for (unsigned i = 0; i < ARRAY_LEN(macs); i++)
		assert_true(passes(f, (const char *)macs[i]));
	assert_false(passes(f, "\2\0\0\0\0\7"));
	for (unsigned i = 1; i < ARRAY_LEN(macs); i++)
		macs[i][0] = 2;
	net_tap_filter(f->tap, (const uint8_t(*)[6])macs, ARRAY_LEN(macs), false);
	for (unsigned i = 0; i < ARRAY_LEN(macs); i++)
		assert_true(passes(f, (const char *)macs[i]));
}

static bool carrier(struct fixture *f)
{
	struct ethtool_value v = {.cmd = ETHTOOL_GLINK};
	struct ifreq r = {.ifr_name = "tap0", .ifr_data = (void *)&v};

	assert_int_equal(ioctl(f->packet, SIOCETHTOOL, &r), 0);
	return v.data;
}

static void the_carrier_goes(void **state)
{
	struct fixture *f = *state;

	if (!have_taps)
		skip();
	net_tap_carrier(f->tap, false);
	assert_false(carrier(f));
	net_tap_carrier(f->tap, true);
	assert_true(carrier(f));
}

static void what_is_no_tap_is_refused(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	cleanup_close int plain = -1, tun = -1;
	bool uso;

	if (!have_taps)
		skip();
	assert_int_equal(net_tap_open(&f->packet, 1, &uso, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	plain = open_tap("plain", IFF_TAP | IFF_NO_PI);
	assert_int_equal(net_tap_open(&plain, 1, &uso, &err), -1);
	assert_string_equal(err.msg, "plain: not opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR");
	tun = open_tap("tun", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR);
	assert_int_equal(net_tap_open(&tun, 1, &uso, &err), -1);
}

static void queues_are_one_taps(void **state)
{
	const short many = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	cleanup_close int a = -1, b = -1, c = -1;
	struct error err = ERROR_INIT;
	struct fixture *f = *state;
	bool uso;

	if (!have_taps)
		skip();
	a = open_tap("many0", many);
	b = open_tap("many0", many);
	c = open_tap("many1", many);
	assert_int_equal(net_tap_open((int[]){a, b}, 2, &uso, NULL), 0);
	assert_int_equal(net_tap_queue(b, false, NULL), 0);
	assert_true(net_tap_is_there(a));
	assert_int_equal(net_tap_queue(b, true, NULL), 0);
	assert_int_equal(net_tap_open((int[]){a, c}, 2, &uso, &err), -1);
	assert_string_equal(err.msg, "queues of two TAPs, many0 and many1");
	assert_int_equal(net_tap_open((int[]){f->tap, f->tap}, 2, &uso, &err), -1);
	assert_string_equal(err.msg, "tap0: has one queue: not opened with IFF_MULTI_QUEUE");
}

static void delete_link(int ifindex)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg link;
	} m = {{sizeof(m), RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 0, 0}, {.ifi_index = ifindex}};
	cleanup_close int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	assert_int_equal(send(s, &m, sizeof(m), 0), sizeof(m));
	assert_true(recv(s, &m, sizeof(m), 0) > 0);
}

/* The machine may be paused meanwhile, and has to go on. */
static void one_that_was_deleted_is_no_error_of_the_offloads(void **state)
{
	const uint64_t csum = UINT64_C(1) << VIRTIO_NET_F_GUEST_CSUM;
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	if (!have_taps)
		skip();
	assert_int_equal(net_tap_offload(f->tap, csum, &err), 0);
	delete_link(f->ifindex);
	assert_false(net_tap_is_there(f->tap));
	assert_int_equal(net_tap_offload(f->tap, csum, &err), 0);
	assert_int_equal(net_tap_offload(f->packet, csum, &err), -1);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(packets_have_our_header),
		T(the_kernel_filters),
		T(a_long_filter_lets_through_what_it_names),
		T(the_carrier_goes),
		T(what_is_no_tap_is_refused),
		T(queues_are_one_taps),
		T(one_that_was_deleted_is_no_error_of_the_offloads),
	};

	return cmocka_run_group_tests_name("net_tap", tests, group_setup, NULL);
}
