/* The balloon: what the guest gives away becomes a hole in its memory's file, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/virtio_balloon.h>
#include <sys/stat.h>

#include "tests/unit/ring.h"
#include "vmm/virtio/balloon.h"

#define INFLATE 0
#define DEFLATE 1
#define REPORTING 2
#define PAGE 4096u
#define FIRST 32u	      /* page at which the memory that is given away begins */
#define PFNS (RING_DATA + 64) /* where a test writes page numbers */

struct fixture {
	struct loop *loop;
	struct test_ring r;
	struct virtio_device *d;
	int kick, call;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->loop = loop_new(NULL);
	test_ring_init(&f->r, 256);
	f->r.mem.r[0].fd = f->r.fd;
	f->d = balloon_new(f->loop, NULL);
	f->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	f->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	memset(f->r.ram, 0, FIRST * PAGE);
	memset(f->r.ram + FIRST * PAGE, 'x', RING_RAM - FIRST * PAGE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->d->ops->destroy(f->d);
	loop_free(f->loop);
	test_ring_free(&f->r);
	close(f->kick);
	close(f->call);
	free(f);
	return 0;
}

/* Queue `q` over the one ring that there is. */
static void start(struct fixture *f, unsigned q)
{
	struct virtqueue *vq = &f->d->vq[q];

	vq->kick_fd = f->kick;
	vq->call_fd = f->call;
	vq->indirect = true;
	assert_int_equal(test_ring_setup(&f->r, vq, 0), 0);
	assert_int_equal(f->d->ops->start_queue(f->d, q, NULL), 0);
}

static void stop_loop(void *arg, UNUSED uint32_t events)
{
	loop_stop(arg, 0);
}

static void run_for(struct fixture *f, uint64_t us)
{
	assert_non_null(loop_timer(f->loop, us, stop_loop, f->loop, NULL));
	loop_run(f->loop);
}

static blkcnt_t pages(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->r.fd, &st), 0);
	return st.st_blocks / 8;
}

static bool kept(const struct fixture *f, unsigned page)
{
	return f->r.ram[page * PAGE] == 'x' && f->r.ram[page * PAGE + PAGE - 1] == 'x';
}

static uint64_t reported(const struct fixture *f)
{
	struct balloon_stats s;

	balloon_stats(f->d, &s);
	return s.reported;
}

static void offer_pfns(struct fixture *f, const uint32_t *pfns, unsigned n)
{
	memcpy(f->r.ram + PFNS, pfns, n * sizeof(*pfns));
	ring_put(&f->r, 0, PFNS, n * (uint32_t)sizeof(*pfns), 0, 0);
	ring_offer(&f->r, 0);
}

static void inflating_gives_pages_back(void **state)
{
	struct fixture *f = *state;
	const uint32_t pfns[] = {FIRST + 9, FIRST + 1, FIRST + 2, FIRST + 4, FIRST + 2};
	blkcnt_t before = pages(f);

	offer_pfns(f, pfns, ARRAY_LEN(pfns));
	start(f, INFLATE);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(ring_calls(f->call, 0), 1);
	assert_int_equal(pages(f), before - 4);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(kept(f, FIRST + i), i != 1 && i != 2 && i != 4 && i != 9);
	assert_int_equal(f->r.ram[(FIRST + 4) * PAGE], 0);
}

/* 200 pages in an order that no sort finds easy: all that are named, and no others. */
static void pages_come_in_any_order(void **state)
{
	struct fixture *f = *state;
	uint32_t pfns[200];
	blkcnt_t before = pages(f);

	for (uint32_t i = 0; i < ARRAY_LEN(pfns); i++)
		pfns[i] = FIRST + i * 77 % 200;
	offer_pfns(f, pfns, ARRAY_LEN(pfns) - 1); /* all but FIRST + 123 */
	start(f, INFLATE);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(pages(f), before - 199);
	assert_true(kept(f, FIRST + 123));
	assert_true(kept(f, FIRST + 200));
}

static void page_numbers_outside_of_memory_are_left_out(void **state)
{
	struct fixture *f = *state;
	const uint32_t pfns[] = {RING_RAM / PAGE, UINT32_MAX, 1u << 20, FIRST};
	blkcnt_t before = pages(f);

	offer_pfns(f, pfns, ARRAY_LEN(pfns));
	start(f, INFLATE);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(pages(f), before - 1);
}

static void page_numbers_are_whole(void **state)
{
	struct fixture *f = *state;
	const uint32_t pfns[] = {FIRST, FIRST + 1};
	blkcnt_t before = pages(f);

	memcpy(f->r.ram + PFNS, pfns, sizeof(pfns));
	ring_put(&f->r, 0, PFNS, 7, 0, 0);
	ring_offer(&f->r, 0);
	start(f, INFLATE);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(pages(f), before - 1);
}

static void deflating_takes_no_page_away(void **state)
{
	struct fixture *f = *state;
	const uint32_t pfns[] = {FIRST, FIRST + 1};
	blkcnt_t before = pages(f);

	offer_pfns(f, pfns, ARRAY_LEN(pfns));
	start(f, DEFLATE);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(pages(f), before);
}

static void reported_pages_go_back_to_the_host(void **state)
{
	struct fixture *f = *state;
	blkcnt_t before = pages(f);

	/* neighbours in any order, one twice, and one by itself */
	ring_put(&f->r, 0, (FIRST + 8) * PAGE, 8 * PAGE, RING_WRITE | RING_NEXT, 1);
	ring_put(&f->r, 1, FIRST * PAGE, 8 * PAGE, RING_WRITE | RING_NEXT, 2);
	ring_put(&f->r, 2, (FIRST + 4) * PAGE, 8 * PAGE, RING_WRITE | RING_NEXT, 3);
	ring_put(&f->r, 3, (FIRST + 20) * PAGE, 2 * PAGE, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	start(f, REPORTING);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(ring_used(&f->r, 0)[1], 0);
	assert_int_equal(pages(f), before - 18);
	assert_int_equal(reported(f), 18 * PAGE);
	assert_true(kept(f, FIRST + 16));
	assert_true(kept(f, FIRST + 22));
	assert_false(kept(f, FIRST + 21));
}

static void only_whole_pages_are_given_back(void **state)
{
	struct fixture *f = *state;
	blkcnt_t before = pages(f);

	ring_put(&f->r, 0, FIRST * PAGE + 1, 2 * PAGE, RING_WRITE | RING_NEXT, 1);
	ring_put(&f->r, 1, (FIRST + 9) * PAGE, PAGE - 1, RING_WRITE | RING_NEXT, 2);
	ring_put(&f->r, 2, (FIRST + 9) * PAGE + 8, 4, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	start(f, REPORTING);
	assert_int_equal(pages(f), before - 1);
	assert_true(kept(f, FIRST));
	assert_false(kept(f, FIRST + 1));
	assert_true(kept(f, FIRST + 2));
	assert_true(kept(f, FIRST + 9));
}

/* Nothing but the guest's own memory changes when it names pages over which its kernel's file is
 * mapped, privately, as a loader does it. */
static void a_kernel_that_is_mapped_over_memory_is_not_touched(void **state)
{
	struct fixture *f = *state;
	int kernel = memfd_create("kernel", MFD_CLOEXEC);
	uint8_t *at = f->r.ram + FIRST * PAGE;
	const uint32_t pfns[] = {FIRST, FIRST + 1};
	char page[PAGE], text[PAGE];

	memset(text, 'k', sizeof(text));
	assert_int_equal(pwrite(kernel, text, PAGE, 0), PAGE);
	assert_int_equal(pwrite(kernel, text, PAGE, PAGE), PAGE);
	assert_ptr_equal(
		mmap(at, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, kernel, 0), at);
	at[PAGE] = 'p'; /* patched by the guest */
	ring_put(&f->r, 0, FIRST * PAGE, 2 * PAGE, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	start(f, REPORTING);
	assert_int_equal(ring_used_idx(&f->r), 1);
	f->d->ops->stop_queue(f->d, REPORTING);
	memset(f->r.ram + RING_AVAIL, 0, 4);
	memset(f->r.ram + RING_USED, 0, 4);
	offer_pfns(f, pfns, ARRAY_LEN(pfns));
	start(f, INFLATE);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_memory_equal(at, text, PAGE);
	assert_int_equal(at[PAGE], 'p');
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pread(kernel, page, PAGE, i * PAGE), PAGE);
		assert_memory_equal(page, text, PAGE);
	}
	close(kernel);
}

static void a_guest_may_give_its_rings_away(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, 0, RING_RAM, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	start(f, REPORTING);
	run_for(f, 20000);
	f->d->ops->stop_queue(f->d, REPORTING);
	assert_true(reported(f) >= RING_RAM);
}

static void memory_without_a_file_is_kept(void **state)
{
	struct fixture *f = *state;
	blkcnt_t before = pages(f);

	f->r.mem.r[0].fd = -1;
	ring_put(&f->r, 0, FIRST * PAGE, PAGE, RING_WRITE, 0);
	ring_offer(&f->r, 0);
	start(f, REPORTING);
	assert_int_equal(ring_used_idx(&f->r), 1);
	assert_int_equal(pages(f), before);
}

/* 200 requests are more than a round; the others of the loop get their turn, and all are done. */
static void much_work_is_done_in_rounds(void **state)
{
	struct fixture *f = *state;

	ring_put(&f->r, 0, FIRST * PAGE, PAGE, RING_WRITE, 0);
	for (unsigned i = 0; i < 200; i++)
		ring_offer(&f->r, 0);
	start(f, REPORTING);
	assert_in_range(ring_used_idx(&f->r), 1, 65);
	for (unsigned i = 0; i < 100 && ring_used_idx(&f->r) < 200; i++)
		run_for(f, 10000);
	assert_int_equal(ring_used_idx(&f->r), 200);
}

static void a_stop_in_a_pause_is_final(void **state)
{
	struct fixture *f = *state;
	uint16_t done;

	ring_put(&f->r, 0, FIRST * PAGE, PAGE, RING_WRITE, 0);
	for (unsigned i = 0; i < 200; i++)
		ring_offer(&f->r, 0);
	start(f, REPORTING);
	f->d->ops->stop_queue(f->d, REPORTING);
	done = ring_used_idx(&f->r);
	run_for(f, 20000);
	assert_int_equal(ring_used_idx(&f->r), done);
}

static void changed(UNUSED struct virtio_device *d, void *arg)
{
	++*(unsigned *)arg;
}

static void the_target_is_in_the_configuration(void **state)
{
	struct fixture *f = *state;
	struct virtio_balloon_config c;
	struct balloon_stats s;
	uint32_t actual = 77;
	unsigned told = 0;

	f->d->config_changed = changed;
	f->d->transport = &told;
	balloon_set_target(f->d, (5 << 20) + 4095);
	assert_int_equal(told, 1);
	f->d->ops->write_config(f->d, 4, &actual, sizeof(actual));
	f->d->ops->write_config(f->d, 0, &actual, sizeof(actual)); /* not the driver's */
	f->d->ops->write_config(f->d, 8, &actual, sizeof(actual));
	f->d->ops->write_config(f->d, UINT32_MAX, &actual, sizeof(actual));
	memset(&c, 'x', sizeof(c));
	f->d->ops->read_config(f->d, 0, &c, sizeof(c));
	assert_int_equal(c.num_pages, 1280);
	assert_int_equal(c.actual, 77);
	assert_int_equal(c.free_page_hint_cmd_id, 0);
	assert_int_equal(c.poison_val, 0);
	balloon_stats(f->d, &s);
	assert_int_equal(s.target, 5 << 20);
	assert_int_equal(s.actual, 77 * 4096);
	balloon_set_target(f->d, UINT64_MAX);
	balloon_stats(f->d, &s);
	assert_int_equal(s.target, UINT64_C(4096) * UINT32_MAX);
	f->d->ops->write_config(f->d, 6, &actual, 1);
	balloon_stats(f->d, &s);
	assert_int_equal(s.actual, (77u | 77u << 16) * UINT64_C(4096));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(inflating_gives_pages_back),
		T(pages_come_in_any_order),
		T(page_numbers_outside_of_memory_are_left_out),
		T(page_numbers_are_whole),
		T(deflating_takes_no_page_away),
		T(reported_pages_go_back_to_the_host),
		T(only_whole_pages_are_given_back),
		T(a_kernel_that_is_mapped_over_memory_is_not_touched),
		T(a_guest_may_give_its_rings_away),
		T(memory_without_a_file_is_kept),
		T(much_work_is_done_in_rounds),
		T(a_stop_in_a_pause_is_final),
		T(the_target_is_in_the_configuration),
	};

	return cmocka_run_group_tests_name("balloon", tests, NULL, NULL);
}
