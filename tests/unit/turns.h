/*
 * turns.h - lets a loop do what there is to do now, without a clock: a test that gave it some
 * milliseconds would find it half done where the process did not get the processor for so long.
 */
#ifndef HUSK_TESTS_TURNS_H
#define HUSK_TESTS_TURNS_H

#include <stdlib.h>
#include <sys/eventfd.h>

#include "lib/cleanup.h"
#include "lib/loop.h"

struct turns {
	struct loop *loop;
	unsigned left;
};

static inline void turns_on_round(void *arg, UNUSED uint32_t events)
{
	struct turns *t = arg;

	if (--t->left == 0)
		loop_stop(t->loop, 0);
}

/* `n` rounds, in each of which every source that is ready has its turn; fewer if one stops the
 * loop. Returns what loop_run() does, 0 after all rounds. */
static inline int turns_run(struct loop *loop, unsigned n)
{
	struct turns t = {.loop = loop, .left = n};
	cleanup_close int ready = eventfd(1, EFD_CLOEXEC);
	struct loop_source *s = loop_add(loop, ready, EPOLLIN, turns_on_round, &t, NULL);
	int r;

	if (!s)
		abort();
	r = loop_run(loop);
	loop_remove(s);
	return r;
}

#endif
