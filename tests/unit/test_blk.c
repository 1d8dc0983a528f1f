/* The block device over a raw file: requests as Linux and as nobody sends them, plugging. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <sys/stat.h>

#include "lib/log.h"
#include "tests/unit/ring.h"
#include "tests/unit/threads.h"
#include "vmm/source.h"
#include "vmm/virtio/blk.h"

#define DISK_SECTORS 64u
#define HEADER RING_DATA
#define STATUS (RING_DATA + 0x100)
#define DATA (RING_DATA + 0x1000)
#define PENDING 0xee

struct fixture {
	struct loop *loop;
	struct test_ring r;
	struct virtio_device *d;
	int disk; /* our own fd of the image */
	uint16_t done;
};

static int dup_image(struct fixture *f)
{
	return fcntl(f->disk, F_DUPFD_CLOEXEC, 3);
}

static struct block_source *image(struct fixture *f, bool readonly)
{
	struct block_source *s = source_file_new(dup_image(f), readonly, false, NULL);

	assert_non_null(s);
	return s;
}

static void start(struct fixture *f)
{
	assert_int_equal(test_ring_setup(&f->r, &f->d->vq[0], f->done), 0);
	assert_int_equal(f->d->ops->start_queue(f->d, 0, NULL), 0);
	f->d->running[0] = true;
}

static void stop(struct fixture *f)
{
	f->d->ops->stop_queue(f->d, 0);
	f->d->running[0] = false;
}

static int setup_slot(void **state, bool readonly)
{
	struct fixture *f = calloc(1, sizeof(*f));

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	assert_int_equal(threads_settled(1), 1);
	f->loop = loop_new(NULL);
	test_ring_init(&f->r, 16);
	f->disk = memfd_create("disk", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->disk, DISK_SECTORS * 512 + 100), 0);
	f->d = blk_new(f->loop, readonly, NULL);
	f->d->vq[0].indirect = true;
	f->d->vq[0].kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->d->vq[0].call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return setup_slot(state, false);
}

static int setup_readonly(void **state)
{
	return setup_slot(state, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int kick = f->d->vq[0].kick_fd, call = f->d->vq[0].call_fd;

	f->d->ops->destroy(f->d);
	loop_free(f->loop);
	test_ring_free(&f->r);
	close(kick);
	close(call);
	close(f->disk);
	free(f);
	return 0;
}

static void kick(struct fixture *f)
{
	uint64_t one = 1;

	assert_int_equal(write(f->d->vq[0].kick_fd, &one, sizeof(one)), sizeof(one));
}

/* Descriptors 0 (header), 1 (data, if any), 2 (status). */
static void offer(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len, bool from_device)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};

	memcpy(f->r.ram + HEADER, &h, sizeof(h));
	f->r.ram[STATUS] = PENDING;
	ring_put(&f->r, 0, HEADER, sizeof(h), RING_NEXT, len ? 1 : 2);
	ring_put(&f->r, 1, DATA, len, RING_NEXT | (from_device ? RING_WRITE : 0), 2);
	ring_put(&f->r, 2, STATUS, 1, RING_WRITE, 0);
	ring_offer(&f->r, 0);
}

/* Waits for the answer to the one request that is out; gives its status. */
static uint8_t answer(struct fixture *f)
{
	ring_await(&f->r, (uint16_t)(f->done + 1), f->d->vq[0].call_fd);
	assert_int_equal(ring_used_idx(&f->r), (uint16_t)(f->done + 1));
	f->done++;
	return f->r.ram[STATUS];
}

static uint32_t used_len(struct fixture *f)
{
	return ring_used(&f->r, (uint16_t)(f->done - 1))[1];
}

/* The queue may run (then it is kicked) or not (then it is started and stopped). */
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len,
		       bool from_device)
{
	bool running = f->d->running[0];
	uint8_t status;

	offer(f, type, sector, len, from_device);
	if (running)
		kick(f);
	else
		start(f);
	status = answer(f);
	if (!running)
		stop(f);
	return status;
}

static uint64_t capacity(struct fixture *f)
{
	uint64_t c;

	f->d->ops->read_config(f->d, 0, &c, sizeof(c));
	return c;
}

static void an_empty_slot_answers_errors(void **state)
{
	struct fixture *f = *state;
	unsigned before = threads();

	assert_int_equal(capacity(f), 0);
	assert_false(blk_attached(f->d));
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(used_len(f), 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_IOERR);
	memset(f->r.ram + DATA, 'x', 20);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->r.ram[DATA], 0);
	start(f);
	assert_int_equal(threads(), before);
	stop(f);
}

static void reads_and_writes(void **state)
{
	struct fixture *f = *state;
	struct blk_stats s;
	char buf[1024];

	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	assert_int_equal(capacity(f), DISK_SECTORS);
	memset(f->r.ram + DATA, 0x5a, 1024);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 3, 1024, false), VIRTIO_BLK_S_OK);
	assert_int_equal(used_len(f), 1);
	assert_int_equal(pread(f->disk, buf, 1024, 3 * 512), 1024);
	assert_memory_equal(buf, f->r.ram + DATA, 1024);
	memset(f->r.ram + DATA, 0, 1024);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 4, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(used_len(f), 513);
	assert_memory_equal(f->r.ram + DATA, buf, 512);
	assert_int_equal(f->r.ram[DATA + 512], 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	blk_stats(f->d, &s);
	assert_int_equal(s.reads, 1);
	assert_int_equal(s.writes, 1);
	assert_int_equal(s.read_bytes, 512);
	assert_int_equal(s.write_bytes, 1024);
	assert_int_equal(s.flushes, 1);
	assert_int_equal(s.discards, 0);
	assert_int_equal(s.errors, 0);
}

static void ranges_are_checked(void **state)
{
	struct fixture *f = *state;
	const uint64_t last = DISK_SECTORS - 1;

	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	start(f);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, last, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, last, 1024, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, last + 1, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, UINT64_MAX, 512, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, UINT64_MAX / 512, 512, true),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, UINT64_C(1) << 55, 512, false),
			 VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 511, true), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, 513, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 0, true), VIRTIO_BLK_S_OK);
	assert_int_equal(request(f, 77, 0, 512, true), VIRTIO_BLK_S_UNSUPP);
	stop(f);
}

/* §2.7.4.1: how a request is cut into descriptors means nothing. */
static void any_framing_will_do(void **state)
{
	struct fixture *f = *state;
	struct virtio_blk_outhdr h = {.type = VIRTIO_BLK_T_OUT, .sector = 1};
	char buf[512], want[512];

	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	memset(f->r.ram + DATA, 'a', 600);
	memcpy(f->r.ram + HEADER, &h, 5);
	memcpy(f->r.ram + DATA, (char *)&h + 5, 11); /* and 100 bytes of data behind */
	ring_put(&f->r, 0, HEADER, 5, RING_NEXT, 1);
	ring_put(&f->r, 1, DATA, 111, RING_NEXT, 2);
	ring_put(&f->r, 2, DATA + 111, 412, RING_NEXT, 3);
	ring_put(&f->r, 3, STATUS, 1, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	start(f);
	assert_int_equal(answer(f), VIRTIO_BLK_S_OK);
	memset(want, 'a', sizeof(want));
	assert_int_equal(pread(f->disk, buf, 512, 512), 512);
	assert_memory_equal(buf, want, 512);

	/* the status byte at the end of the data's descriptor */
	h.type = VIRTIO_BLK_T_IN;
	memcpy(f->r.ram + HEADER, &h, sizeof(h));
	memset(f->r.ram + DATA, PENDING, 600);
	ring_put(&f->r, 0, HEADER, 16, RING_NEXT, 1);
	ring_put(&f->r, 1, DATA, 513, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	kick(f);
	answer(f);
	assert_memory_equal(f->r.ram + DATA, want, 512);
	assert_int_equal(f->r.ram[DATA + 512], VIRTIO_BLK_S_OK);
	assert_int_equal(f->r.ram[DATA + 513], PENDING);
	stop(f);
}

static void malformed_requests_come_back(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	start(f);
	/* no room for a status */
	ring_put(&f->r, 0, HEADER, 16, 0, 0);
	ring_offer(&f->r, 0);
	kick(f);
	answer(f);
	assert_int_equal(used_len(f), 0);
	/* half a header */
	f->r.ram[STATUS] = PENDING;
	ring_put(&f->r, 0, HEADER, 15, RING_NEXT, 2);
	ring_put(&f->r, 2, STATUS, 1, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	kick(f);
	assert_int_equal(answer(f), VIRTIO_BLK_S_IOERR);
	/* a status alone */
	ring_put(&f->r, 2, STATUS, 1, RING_WRITE, 0);
	ring_offer(&f->r, 2);
	kick(f);
	assert_int_equal(answer(f), VIRTIO_BLK_S_IOERR);
	stop(f);
}

static void the_serial_is_20_bytes(void **state)
{
	struct fixture *f = *state;
	struct error err = ERROR_INIT;

	assert_int_equal(blk_attach(f->d, "123456789012345678901", image(f, false), &err), -1);
	assert_int_equal(blk_attach(f->d, "", image(f, false), &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(blk_attach(f->d, "12345678901234567890", image(f, false), NULL), 0);
	assert_int_equal(blk_attach(f->d, "other", image(f, false), &err), -1);
	assert_int_equal(err.kind, ERR_EXISTS);
	assert_string_equal(blk_serial(f->d), "12345678901234567890");
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, 20, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(f->r.ram + DATA, "12345678901234567890", 20);
	memset(f->r.ram + DATA, 'x', 20);
	assert_int_equal(request(f, VIRTIO_BLK_T_GET_ID, 0, 4, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(f->r.ram + DATA, "1234x", 5);
}

static void put_range(struct fixture *f, unsigned i, uint64_t sector, uint32_t n, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes g = {sector, n, flags};

	memcpy(f->r.ram + DATA + i * sizeof(g), &g, sizeof(g));
}

static void discards_and_zeroes(void **state)
{
	struct fixture *f = *state;
	char buf[3 * 512], zeros[512] = {0}, full[512];

	memset(full, 'f', sizeof(full));
	for (unsigned i = 0; i < DISK_SECTORS; i++)
		assert_int_equal(pwrite(f->disk, full, 512, i * 512), 512);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	start(f);
	put_range(f, 0, 1, 1, 0);
	put_range(f, 1, 63, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	assert_int_equal(request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, false), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(f->disk, buf, sizeof(buf), 0), sizeof(buf));
	assert_memory_equal(buf, full, 512);
	assert_memory_equal(buf + 512, zeros, 512);
	assert_memory_equal(buf + 1024, full, 512);
	assert_int_equal(pread(f->disk, buf, 512, 63 * 512), 512);
	assert_memory_equal(buf, zeros, 512);

	put_range(f, 0, 8, 16, 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_OK);
	put_range(f, 0, 8, 16, 1); /* §5.2.6.2: no unmap flag with discard */
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_UNSUPP);
	put_range(f, 0, 8, 16, 2);
	assert_int_equal(request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), VIRTIO_BLK_S_UNSUPP);
	put_range(f, 0, 63, 2, 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_IOERR);
	put_range(f, 0, UINT64_MAX, 1, 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 15, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 33 * 16, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 0, false), VIRTIO_BLK_S_IOERR);
	stop(f);
}

static blkcnt_t blocks(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->disk, &st), 0);
	return st.st_blocks;
}

static void discarded_blocks_go_back_to_the_host(void **state)
{
	struct fixture *f = *state;
	struct blk_stats s;
	char full[512];
	blkcnt_t before;

	memset(full, 'f', sizeof(full));
	for (unsigned i = 0; i < DISK_SECTORS; i++)
		assert_int_equal(pwrite(f->disk, full, 512, i * 512), 512);
	before = blocks(f);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	start(f);
	put_range(f, 0, 8, 16, 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_DISCARD, 0, 16, false), VIRTIO_BLK_S_OK);
	assert_int_equal(blocks(f), before - 16);
	put_range(f, 0, 32, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	put_range(f, 1, 40, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	assert_int_equal(request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 32, false), VIRTIO_BLK_S_OK);
	assert_int_equal(blocks(f), before - 32);
	stop(f);
	blk_stats(f->d, &s);
	assert_int_equal(s.discards, 3);
}

static void a_readonly_slot_is_never_written(void **state)
{
	struct fixture *f = *state;

	assert_true(f->d->ops->features(f->d) >> VIRTIO_BLK_F_RO & 1);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), -1);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, true), NULL), 0);
	memset(f->r.ram + DATA, 'x', 512);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	put_range(f, 0, 0, 1, 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_FLUSH, 0, 0, false), VIRTIO_BLK_S_OK);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	assert_int_equal(f->r.ram[DATA], 0);
}

static void a_readonly_source_is_never_written(void **state)
{
	struct fixture *f = *state;

	assert_false(f->d->ops->features(f->d) >> VIRTIO_BLK_F_RO & 1);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, true), NULL), 0);
	assert_int_equal(request(f, VIRTIO_BLK_T_OUT, 0, 512, false), VIRTIO_BLK_S_IOERR);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
}

static void changed(UNUSED struct virtio_device *d, void *arg)
{
	++*(unsigned *)arg;
}

static void sources_come_and_go_while_the_queue_runs(void **state)
{
	struct fixture *f = *state;
	unsigned told = 0, before = threads();

	f->d->config_changed = changed;
	f->d->transport = &told;
	start(f);
	for (unsigned i = 1; i <= 20; i++) {
		assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
		assert_int_equal(told, 2 * i - 1);
		assert_int_equal(capacity(f), DISK_SECTORS);
		assert_int_equal(threads(), before + 1);
		assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
		blk_detach(f->d);
		assert_int_equal(told, 2 * i);
		assert_int_equal(capacity(f), 0);
		assert_string_equal(blk_serial(f->d), "");
		assert_int_equal(threads_settled(before), before);
	}
	blk_detach(f->d);
	stop(f);
	offer(f, VIRTIO_BLK_T_IN, 0, 512, true);
	start(f);
	assert_int_equal(answer(f), VIRTIO_BLK_S_IOERR);
	stop(f);
}

static void nothing_is_served_after_stop(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	start(f);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 512, true), VIRTIO_BLK_S_OK);
	stop(f);
	offer(f, VIRTIO_BLK_T_IN, 0, 512, true);
	kick(f);
	assert_int_equal(ring_calls(f->d->vq[0].call_fd, 20), 0);
	assert_int_equal(f->r.ram[STATUS], PENDING);
}

/* 15 requests by a limit of 200 a second: those that waited, and how long. */
static struct blk_stats limited_requests(struct fixture *f, unsigned burst)
{
	struct ratelimit_config cfg = {.ops_per_s = 200, .ops_burst = burst};
	uint64_t begin = now_us();
	struct blk_stats s;

	blk_limit(f->d, &cfg);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	offer(f, VIRTIO_BLK_T_IN, 0, 512, true);
	for (unsigned i = 1; i < 15; i++)
		ring_offer(&f->r, 0);
	start(f);
	f->done = (uint16_t)(f->done + 15);
	assert_true(ring_await(&f->r, f->done, f->d->vq[0].call_fd));
	/* those that the burst did not hold */
	assert_true(now_us() - begin >= (15 - burst) * UINT64_C(5000));
	stop(f);
	blk_stats(f->d, &s);
	blk_detach(f->d);
	assert_true(s.throttled <= 15 - burst);
	return s;
}

/* Where the disk's thread had no processor for a while, requests have become due meanwhile: as many
 * as the burst holds. */
static void a_limit_makes_requests_wait(void **state)
{
	struct fixture *f = *state;
	struct blk_stats s = limited_requests(f, 5);

	for (unsigned i = 0; i < 50; i++) {
		s = limited_requests(f, 1);
		if (s.throttled >= 10 && s.throttled_us >= 45000)
			break;
	}
	assert_in_range(s.throttled, 10, 14);
	assert_true(s.throttled_us >= 45000);
}

static void a_limited_slot_stops_at_once(void **state)
{
	struct fixture *f = *state;
	struct ratelimit_config cfg = {.bytes_per_s = 1, .bytes_burst = 1000};
	struct blk_stats s;
	uint64_t before;

	blk_limit(f->d, &cfg);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, false), NULL), 0);
	start(f);
	/* more than the burst: the next one is due minutes later */
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 0, 1024, true), VIRTIO_BLK_S_OK);
	offer(f, VIRTIO_BLK_T_IN, 0, 512, true);
	kick(f);
	do {
		blk_stats(f->d, &s);
		usleep(1000);
	} while (s.throttled == 0);
	before = now_us();
	stop(f);
	assert_true(now_us() - before < RING_WAIT_MS * UINT64_C(1000));
	assert_int_equal(f->d->vq[0].last_avail, 1); /* the request was not taken */
	assert_int_equal(f->r.ram[STATUS], PENDING);
	/* the next source has no limit */
	blk_detach(f->d);
	assert_int_equal(blk_attach(f->d, "disk-2", image(f, false), NULL), 0);
	start(f);
	assert_int_equal(answer(f), VIRTIO_BLK_S_OK);
	stop(f);
}

static void a_shrunk_file_reads_as_zeros(void **state)
{
	struct fixture *f = *state;
	char zeros[2048] = {0};

	assert_int_equal(pwrite(f->disk, "abc", 3, 1021), 3);
	assert_int_equal(blk_attach(f->d, "disk-1", image(f, true), NULL), 0);
	assert_int_equal(ftruncate(f->disk, 1023), 0);
	memset(f->r.ram + DATA, 'x', 2048);
	assert_int_equal(request(f, VIRTIO_BLK_T_IN, 1, 2048, true), VIRTIO_BLK_S_OK);
	assert_memory_equal(f->r.ram + DATA + 509, "ab", 2);
	assert_memory_equal(f->r.ram + DATA + 511, zeros, 2048 - 511);
}

static void bad_images_are_refused(void **state)
{
	struct fixture *f = *state;
	int p[2], small = memfd_create("small", MFD_CLOEXEC);
	char path[64];

	assert_int_equal(ftruncate(small, 511), 0);
	assert_null(source_file_new(small, true, false, NULL));
	assert_int_equal(pipe(p), 0);
	assert_null(source_file_new(p[0], true, false, NULL));
	assert_null(source_file_new(-1, true, false, NULL));
	close(p[1]);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->disk);
	assert_null(source_file_new(open(path, O_RDONLY | O_CLOEXEC), false, false, NULL));
	assert_null(source_file_new(open(path, O_WRONLY | O_CLOEXEC), true, false, NULL));
	assert_null(source_file_new(open(path, O_RDWR | O_APPEND | O_CLOEXEC), false, false, NULL));
}

static void config_space_ends(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[256], zeros[256] = {0};

	memset(buf, 'x', sizeof(buf));
	f->d->ops->read_config(f->d, 0, buf, sizeof(buf));
	assert_int_equal(buf[12], 126);
	assert_memory_equal(buf + sizeof(struct virtio_blk_config), zeros,
			    sizeof(buf) - sizeof(struct virtio_blk_config));
	memset(buf, 'x', sizeof(buf));
	f->d->ops->read_config(f->d, UINT32_MAX, buf, 16);
	assert_memory_equal(buf, zeros, 16);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_empty_slot_answers_errors),
		T(reads_and_writes),
		T(ranges_are_checked),
		T(any_framing_will_do),
		T(malformed_requests_come_back),
		T(the_serial_is_20_bytes),
		T(discards_and_zeroes),
		T(discarded_blocks_go_back_to_the_host),
		cmocka_unit_test_setup_teardown(a_readonly_slot_is_never_written, setup_readonly,
						teardown),
		T(a_readonly_source_is_never_written),
		T(sources_come_and_go_while_the_queue_runs),
		T(nothing_is_served_after_stop),
		T(a_limit_makes_requests_wait),
		T(a_limited_slot_stops_at_once),
		T(a_shrunk_file_reads_as_zeros),
		T(bad_images_are_refused),
		T(config_space_ends),
	};

	return cmocka_run_group_tests_name("blk", tests, NULL, NULL);
}
