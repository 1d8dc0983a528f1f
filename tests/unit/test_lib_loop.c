/* The event loop: order, timers, and sources that remove themselves and each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "lib/loop.h"

struct watcher {
	struct loop *loop;
	struct loop_source *self, *other;
	int fd, calls;
	uint32_t events;
};

static void stop(void *arg, uint32_t events)
{
	struct watcher *w = arg;

	w->calls++;
	w->events = events;
	loop_stop(w->loop, 7);
}

static void give_up(void *arg, uint32_t events)
{
	(void)events;
	loop_stop(arg, -1);
}

/* A loop that ends after a minute at the latest. */
static struct loop *new_loop(void)
{
	struct loop *l = loop_new(NULL);

	assert_non_null(l);
	assert_non_null(loop_timer(l, 60000000, give_up, l, NULL));
	return l;
}

static void readable_fd_is_told(void **state)
{
	cleanup_close int fd = eventfd(1, EFD_CLOEXEC);
	struct watcher w = {.loop = new_loop()};

	(void)state;
	assert_non_null(loop_add(w.loop, fd, EPOLLIN, stop, &w, NULL));
	assert_int_equal(loop_run(w.loop), 7);
	assert_int_equal(w.calls, 1);
	assert_true(w.events & EPOLLIN);
	loop_free(w.loop);
}

static void on_one_processor(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)sched_getcpu(), &set);
	assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
}

static void timers_come_in_order_and_once(void **state)
{
	struct watcher early = {.loop = new_loop()}, late = {.loop = early.loop};
	uint64_t t = now_us();

	(void)state;
	on_one_processor(); /* timers of two may be late by different times */
	loop_timer(early.loop, 20000, stop, &late, NULL);
	loop_timer(early.loop, 5000, stop, &early, NULL);
	while (now_us() - t > 14000) { /* the one that was made later may be due later, too */
		loop_free(early.loop);
		early.loop = late.loop = new_loop();
		t = now_us();
		loop_timer(early.loop, 20000, stop, &late, NULL);
		loop_timer(early.loop, 5000, stop, &early, NULL);
	}
	assert_int_equal(loop_run(early.loop), 7);
	assert_int_equal(early.calls, 1);
	assert_int_equal(late.calls, 0);
	assert_true(now_us() - t >= 5000);
	assert_int_equal(loop_run(early.loop), 7);
	assert_int_equal(early.calls, 1);
	assert_int_equal(late.calls, 1);
	assert_true(now_us() - t >= 20000);
	loop_free(early.loop);
}

static void remove_self(void *arg, uint32_t events)
{
	struct watcher *w = arg;

	(void)events;
	w->calls++;
	loop_remove(w->self);
}

static void source_removes_itself(void **state)
{
	cleanup_close int fd = eventfd(1, EFD_CLOEXEC); /* readable for ever */
	struct watcher w = {.loop = new_loop()}, end = {.loop = w.loop};

	(void)state;
	w.self = loop_add(w.loop, fd, EPOLLIN, remove_self, &w, NULL);
	loop_timer(w.loop, 10000, stop, &end, NULL);
	assert_int_equal(loop_run(w.loop), 7);
	assert_int_equal(w.calls, 1);
	loop_free(w.loop);
}

static void remove_both(void *arg, uint32_t events)
{
	struct watcher *w = arg;

	(void)events;
	w->calls++;
	loop_remove(w->self);
	loop_remove(w->other);
	loop_remove(w->other); /* twice does no harm */
}

/* Both are ready in one round; whichever comes first removes both. */
static void removed_source_is_not_called(void **state)
{
	cleanup_close int f1 = eventfd(1, EFD_CLOEXEC), f2 = eventfd(1, EFD_CLOEXEC);
	struct watcher a = {.loop = new_loop()}, b = {.loop = a.loop}, end = {.loop = a.loop};

	(void)state;
	a.self = b.other = loop_add(a.loop, f1, EPOLLIN, remove_both, &a, NULL);
	b.self = a.other = loop_add(a.loop, f2, EPOLLIN, remove_both, &b, NULL);
	loop_timer(a.loop, 10000, stop, &end, NULL);
	assert_int_equal(loop_run(a.loop), 7);
	assert_int_equal(a.calls + b.calls, 1);
	loop_free(a.loop);
}

static void events_can_be_changed(void **state)
{
	cleanup_close int fd = eventfd(0, EFD_CLOEXEC);
	struct watcher w = {.loop = new_loop()}, end = {.loop = w.loop};
	struct loop_source *s = loop_add(w.loop, fd, EPOLLOUT, stop, &w, NULL);

	(void)state;
	loop_set(s, 0);
	loop_timer(w.loop, 5000, stop, &end, NULL);
	loop_run(w.loop);
	assert_int_equal(w.calls, 0);
	loop_set(s, EPOLLOUT);
	loop_run(w.loop);
	assert_int_equal(w.calls, 1);
	assert_true(w.events & EPOLLOUT);
	loop_free(w.loop);
}

static void bad_fd_is_an_error(void **state)
{
	struct loop *l = loop_new(NULL);
	struct error err = ERROR_INIT;

	(void)state;
	assert_null(loop_add(l, -1, EPOLLIN, give_up, l, &err));
	assert_true(err.msg[0] != '\0');
	loop_remove(NULL);
	loop_free(l);
	loop_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readable_fd_is_told),
		cmocka_unit_test(timers_come_in_order_and_once),
		cmocka_unit_test(source_removes_itself),
		cmocka_unit_test(removed_source_is_not_called),
		cmocka_unit_test(events_can_be_changed),
		cmocka_unit_test(bad_fd_is_an_error),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
