/* Disks of a sandbox whose engine plugs devices, and of one that has them from its start. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "lib/cleanup.h"
#include "vmm/disks.h"
#include "vmm/virtio/blk.h"

#define SLOTS 18

/* An engine of slots: what is unplugged stays until the "guest" lets it go. */
struct fake {
	struct engine engine;
	struct virtio_device *slot[SLOTS];
	bool leaving[SLOTS];
};

static int fake_plug(struct engine *e, struct virtio_device *d, struct error *err)
{
	struct fake *f = (struct fake *)e;

	for (unsigned i = 0; i < SLOTS; i++) {
		if (f->slot[i])
			continue;
		f->slot[i] = d;
		return 0;
	}
	return error_kind(err, ERR_NO_ROOM, "all slots are in use");
}

static void fake_unplug(struct engine *e, struct virtio_device *d)
{
	struct fake *f = (struct fake *)e;

	for (unsigned i = 0; i < SLOTS; i++)
		f->leaving[i] |= f->slot[i] == d;
}

static const struct engine_ops fake_ops = {
	.name = "fake", .plug = fake_plug, .unplug = fake_unplug};

static void let_go(struct fake *f, struct disks *d)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct virtio_device *dev = f->slot[i];

		if (!f->leaving[i])
			continue;
		f->slot[i] = NULL;
		f->leaving[i] = false;
		assert_true(disks_unplugged(d, dev));
	}
}

static int attach(struct disks *d, const char *serial, bool readonly, struct error *err)
{
	struct request r = {.op = REQUEST_ATTACH_BLOCK, .readonly = readonly};
	int fd = memfd_create(serial, MFD_CLOEXEC), result;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	snprintf(r.serial, sizeof(r.serial), "%s", serial);
	result = disks_attach_block(d, &r, &fd, err);
	close_fd(&fd);
	return result;
}

static void expect_refused(struct disks *d, const char *serial, enum error_kind kind,
			   const char *text)
{
	struct error err = ERROR_INIT;

	assert_int_equal(attach(d, serial, false, &err), -1);
	assert_int_equal(err.kind, kind);
	assert_non_null(strstr(err.msg, text));
}

static struct loop *begin(struct disks *d, struct fake *f)
{
	struct loop *l = loop_new(NULL);

	assert_non_null(l);
	*f = (struct fake){.engine.ops = &fake_ops};
	disks_init(d, l, NULL);
	d->engine = &f->engine;
	return l;
}

static void end(struct disks *d, struct loop *l)
{
	disks_free(d);
	loop_free(l);
}

static void a_disk_is_a_device_of_its_kind(void **state UNUSED)
{
	struct disks d;
	struct fake f;
	struct loop *l = begin(&d, &f);

	assert_int_equal(attach(&d, "w", false, NULL), 0);
	assert_int_equal(attach(&d, "r", true, NULL), 1);
	assert_false(blk_readonly(f.slot[0]));
	assert_true(blk_readonly(f.slot[1]));
	assert_string_equal(blk_serial(f.slot[1]), "r");
	expect_refused(&d, "w", ERR_EXISTS, "disk w: attached already");
	end(&d, l);
}

static void a_place_is_free_when_the_guest_let_go(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	struct virtio_device other = {0};
	struct disks d;
	struct fake f;
	struct loop *l = begin(&d, &f);

	assert_int_equal(attach(&d, "a", false, NULL), 0);
	assert_int_equal(disks_detach(&d, "a", NULL), 0);
	assert_false(blk_attached(f.slot[0]));
	assert_int_equal(disks_detach(&d, "a", &err), -1);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
	/* The serial is free at once, the place is not. */
	assert_int_equal(attach(&d, "a", false, NULL), 1);
	let_go(&f, &d);
	assert_int_equal(attach(&d, "b", false, NULL), 0);
	assert_false(disks_unplugged(&d, &other));
	end(&d, l);
}

static void sixteen_are_attached_at_once(void **state UNUSED)
{
	char serial[16];
	struct disks d;
	struct fake f;
	struct loop *l = begin(&d, &f);

	for (unsigned round = 0; round < 3; round++) {
		for (int i = 0; i < DISKS_MAX; i++) {
			snprintf(serial, sizeof(serial), "d%d", i);
			assert_int_equal(attach(&d, serial, i % 2, NULL), i);
		}
		expect_refused(&d, "more", ERR_NO_ROOM, "no free disk slot");
		for (int i = DISKS_MAX - 1; i >= 0; i--) {
			snprintf(serial, sizeof(serial), "d%d", i);
			assert_int_equal(disks_detach(&d, serial, NULL), 0);
		}
		let_go(&f, &d);
	}
	end(&d, l);
}

static void an_engine_without_a_free_slot_is_told(void **state UNUSED)
{
	char serial[16];
	struct disks d;
	struct fake f;
	struct loop *l = begin(&d, &f);

	/* A guest that lets nothing go. */
	for (int i = 0; i < SLOTS; i++) {
		snprintf(serial, sizeof(serial), "d%d", i);
		assert_int_equal(attach(&d, serial, false, NULL), i);
		assert_int_equal(disks_detach(&d, serial, NULL), 0);
	}
	expect_refused(&d, "more", ERR_NO_ROOM, "disk more: all slots are in use");
	let_go(&f, &d);
	assert_int_equal(attach(&d, "more", false, NULL), 0);
	end(&d, l);
}

static void a_writable_file_is_within_the_limit(void **state UNUSED)
{
	struct disks d;
	struct fake f;
	struct loop *l = begin(&d, &f);

	d.file_bytes = 4095;
	expect_refused(&d, "w", ERR_INVALID, "disk w: larger than the file_bytes of start, 4095");
	assert_int_equal(attach(&d, "r", true, NULL), 0);
	d.file_bytes = 4096;
	assert_int_equal(attach(&d, "w", false, NULL), 1);
	end(&d, l);
}

static void fixed_slots_are_of_two_kinds(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	struct disks d;
	struct loop *l = loop_new(NULL);

	assert_int_equal(disks_init_fixed(&d, l, NULL, 1, 1, NULL), 0);
	assert_int_equal(attach(&d, "r", true, NULL), 0);
	assert_int_equal(attach(&d, "w", false, NULL), 1);
	assert_int_equal(attach(&d, "more", true, &err), -1);
	assert_non_null(strstr(err.msg, "no free disk slot"));
	assert_int_equal(err.kind, ERR_NO_ROOM);
	expect_refused(&d, "more", ERR_NO_ROOM, "no free writable slot");
	assert_int_equal(disks_detach(&d, "w", NULL), 0);
	assert_int_equal(attach(&d, "r2", true, NULL), 1);
	end(&d, l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_is_a_device_of_its_kind),
		cmocka_unit_test(a_place_is_free_when_the_guest_let_go),
		cmocka_unit_test(sixteen_are_attached_at_once),
		cmocka_unit_test(an_engine_without_a_free_slot_is_told),
		cmocka_unit_test(a_writable_file_is_within_the_limit),
		cmocka_unit_test(fixed_slots_are_of_two_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
