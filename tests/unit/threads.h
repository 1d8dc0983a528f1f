/*
 * threads.h - how many threads this process has, for tests of what makes and ends them.
 */
#ifndef HUSK_TESTS_THREADS_H
#define HUSK_TESTS_THREADS_H

#include <dirent.h>
#include <poll.h>

#include "lib/cleanup.h"
#include "lib/log.h"

static inline unsigned threads(void)
{
	cleanup_dir DIR *d = opendir("/proc/self/task");
	unsigned n = 0;

	while (readdir(d))
		n++;
	return n - 2;
}

/* The same, once it is `want`, or will not be. A thread that was joined may be seen until it had
 * the processor once more: also whoever counts before it makes some waits for those of the test
 * before. */
static inline unsigned threads_settled(unsigned want)
{
	uint64_t end = now_us() + 60 * UINT64_C(1000000);

	while (threads() != want && now_us() < end)
		poll(NULL, 0, 1);
	return threads();
}

#endif
