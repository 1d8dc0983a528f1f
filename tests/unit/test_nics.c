/* A sandbox's network cards with an engine that the test plays, and a socket in the place of a TAP.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/nics.h"
#include "vmm/virtio/net_dev.h"

int net_tap_open(const int *fd, UNUSED unsigned queues, bool *uso, struct error *err)
{
	int type;
	socklen_t len = sizeof(type);

	*uso = false;
	if (getsockopt(fd[0], SOL_SOCKET, SO_TYPE, &type, &len) < 0)
		return error_kind(err, ERR_INVALID, "not the descriptor of a TAP");
	return 0;
}

bool net_tap_is_there(UNUSED int fd)
{
	return true;
}

int net_tap_queue(UNUSED int fd, UNUSED bool on, UNUSED struct error *err)
{
	return 0;
}

int net_tap_offload(UNUSED int fd, UNUSED uint64_t acked, UNUSED struct error *err)
{
	return 0;
}

void net_tap_filter(UNUSED int fd, UNUSED const uint8_t (*mac)[6], UNUSED unsigned n,
		    UNUSED bool allmulti)
{
}

void net_tap_carrier(UNUSED int fd, UNUSED bool on)
{
}

/* ---- the engine */

static struct {
	struct engine e;
	struct virtio_device *plugged, *unplugged;
	unsigned links;
	bool full;
} fake;

static int fake_plug(UNUSED struct engine *e, struct virtio_device *d, struct error *err)
{
	if (fake.full)
		return error_kind(err, ERR_NO_ROOM, "no slot is free");
	fake.plugged = d;
	return 0;
}

static void fake_unplug(UNUSED struct engine *e, struct virtio_device *d)
{
	fake.unplugged = d;
}

static int fake_link(UNUSED struct engine *e, UNUSED struct virtio_device *d,
		     UNUSED struct error *err)
{
	fake.links++;
	return 0;
}

static const struct engine_ops plugging = {.plug = fake_plug, .unplug = fake_unplug};
static const struct engine_ops fixed = {.link = fake_link};

struct fixture {
	struct loop *loop;
	struct nics n;
	int wire;
	uint8_t mac[6]; /* of the card that was attached last */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	memset(&fake, 0, sizeof(fake));
	fake.e.ops = &plugging;
	f->loop = loop_new(NULL);
	f->wire = -1;
	nics_init(&f->n, f->loop);
	f->n.engine = &fake.e;
	*state = f;
	return 0;
}

static int setup_fixed(void **state)
{
	struct fixture *f;

	setup(state);
	f = *state;
	fake.e.ops = &fixed;
	assert_int_equal(nics_init_fixed(&f->n, f->loop, 1, NULL), 0);
	f->n.engine = &fake.e;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	nics_free(&f->n);
	loop_free(f->loop);
	close_fd(&f->wire);
	free(f);
	return 0;
}

static int attach(struct fixture *f, const char *id, struct error *err)
{
	struct request r = {.nic = {.mac = {2, 0, 0, 0, 0, 9}, .queues = 1}};
	int sv[2], ret;

	strcpy(r.nic.id, id);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	close_fd(&f->wire);
	f->wire = sv[1];
	ret = nics_attach(&f->n, &r, sv, f->mac, err);
	close_fd(&sv[0]); /* as the control socket does with what was not taken */
	return ret;
}

static bool is_closed(int wire)
{
	char c;

	return recv(wire, &c, 1, MSG_DONTWAIT) == 0;
}

static void a_card_is_plugged_and_unplugged(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	struct virtio_net_config c;

	assert_int_equal(attach(f, "eth0", &err), 0);
	fake.plugged->ops->read_config(fake.plugged, 0, &c, sizeof(c));
	assert_int_equal(c.mac[5], 9);
	assert_memory_equal(c.mac, f->mac, 6);
	assert_int_equal(c.status, VIRTIO_NET_S_LINK_UP);
	assert_int_equal(nics_link(&f->n, "eth0", false, &err), 0);
	assert_false(net_link(fake.plugged));
	assert_int_equal(nics_detach(&f->n, "eth0", &err), 0);
	assert_ptr_equal(fake.unplugged, fake.plugged);
	assert_true(is_closed(f->wire));
	assert_int_equal(nics_detach(&f->n, "eth0", &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	/* The guest has not let go: the id is free, the place is not. */
	assert_int_equal(attach(f, "eth0", &err), 0);
	assert_ptr_not_equal(fake.plugged, fake.unplugged);
	assert_true(nics_unplugged(&f->n, fake.unplugged));
	assert_false(nics_unplugged(&f->n, fake.unplugged));
}

static void an_id_is_used_once(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	assert_int_equal(attach(f, "eth0", &err), 0);
	assert_int_equal(attach(f, "eth0", &err), -1);
	assert_int_equal(err.kind, ERR_EXISTS);
	assert_true(is_closed(f->wire));
	assert_int_equal(nics_link(&f->n, "eth1", true, &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void places_have_a_limit(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	char id[8];

	for (unsigned i = 0; i < NICS_MAX; i++) {
		snprintf(id, sizeof(id), "eth%u", i);
		assert_int_equal(attach(f, id, &err), 0);
	}
	assert_int_equal(attach(f, "more", &err), -1);
	assert_string_equal(err.msg, "network card more: no free slot");
	assert_int_equal(err.kind, ERR_NO_ROOM);
}

static void a_full_machine_takes_none(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	fake.full = true;
	assert_int_equal(attach(f, "eth0", &err), -1);
	assert_int_equal(err.kind, ERR_NO_ROOM);
	assert_true(is_closed(f->wire));
	fake.full = false;
	assert_int_equal(attach(f, "eth0", &err), 0);
}

static void a_fixed_card_gets_its_cable(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	struct virtio_device *d = f->n.place[0].dev;

	assert_int_equal(attach(f, "eth0", &err), 0);
	assert_int_equal(fake.links, 1);
	assert_true(net_link(d));
	assert_int_equal(attach(f, "eth1", &err), -1);
	assert_string_equal(err.msg, "network card eth1: no free slot");
	assert_int_equal(err.kind, ERR_NO_ROOM);
	assert_int_equal(nics_link(&f->n, "eth0", false, &err), 0);
	assert_int_equal(fake.links, 2);
	assert_int_equal(nics_detach(&f->n, "eth0", &err), 0);
	assert_int_equal(fake.links, 3);
	assert_false(net_link(d));
	assert_int_equal(attach(f, "eth1", &err), 0);
	assert_ptr_equal(f->n.place[0].dev, d);
}

static void a_fixed_card_has_one_pair_and_no_vhost(void **state)
{
	struct request r = {.nic = {.id = "eth0", .mac = {2}, .queues = 2}};
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	int fds[2] = {-1, -1};

	assert_int_equal(nics_attach(&f->n, &r, fds, f->mac, &err), -1);
	assert_string_equal(err.msg, "network card eth0: queues: not with this engine");
	r.nic.queues = 1;
	r.nic.vhost = true;
	assert_int_equal(nics_attach(&f->n, &r, fds, f->mac, &err), -1);
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
}

static void cards_differ_by_their_address(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;
	uint8_t first[6];

	nics_free(&f->n);
	assert_int_equal(nics_init_fixed(&f->n, f->loop, 2, NULL), 0);
	f->n.engine = &fake.e;
	assert_int_equal(attach(f, "eth0", &err), 0);
	memcpy(first, f->mac, 6);
	assert_int_equal(attach(f, "eth1", &err), 0);
	assert_memory_not_equal(first, f->mac, 6);
	assert_int_equal(first[0] & 3, 2); /* a station's, locally administered */
	assert_int_equal(nics_detach(&f->n, "eth0", &err), 0);
	assert_int_equal(attach(f, "eth2", &err), 0); /* the same card again */
	assert_memory_equal(first, f->mac, 6);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_card_is_plugged_and_unplugged),
		T(an_id_is_used_once),
		T(places_have_a_limit),
		T(a_full_machine_takes_none),
		cmocka_unit_test_setup_teardown(a_fixed_card_gets_its_cable, setup_fixed, teardown),
		cmocka_unit_test_setup_teardown(a_fixed_card_has_one_pair_and_no_vhost, setup_fixed,
						teardown),
		cmocka_unit_test_setup_teardown(cards_differ_by_their_address, setup_fixed,
						teardown),
	};

	return cmocka_run_group_tests_name("nics", tests, NULL, NULL);
}
