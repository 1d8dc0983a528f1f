/* Descriptors on messages: that all come, that none is left when there are too many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lib/cleanup.h"
#include "lib/fds.h"

static int ends[2];

static int setup(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int teardown(void **state)
{
	(void)state;
	close_fd(&ends[0]);
	close_fd(&ends[1]);
	return 0;
}

static unsigned open_fds(void)
{
	cleanup_dir DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n;
}

static ssize_t send_some(unsigned nfds)
{
	struct iovec iov[2] = {{(char[]){"ab"}, 2}, {(char[]){"cde"}, 3}};
	int fds[FDS_MAX + 1];

	for (unsigned i = 0; i < nfds; i++)
		fds[i] = ends[0];
	return fds_send(ends[0], iov, 2, fds, nfds, 0);
}

static void descriptors_come_with_their_message(void **state)
{
	char text[8] = "";
	int fds[FDS_MAX + 8];
	bool lost = true;

	(void)state;
	for (unsigned n = 0; n <= FDS_MAX; n++) {
		unsigned nfds = ARRAY_LEN(fds);

		assert_int_equal(send_some(n), 5);
		assert_int_equal(fds_receive(ends[1], text, sizeof(text), fds, &nfds, MSG_DONTWAIT,
					     &lost),
				 5);
		assert_memory_equal(text, "abcde", 5);
		assert_int_equal(nfds, n);
		assert_false(lost);
		for (unsigned i = 0; i < nfds; i++) {
			assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
			close(fds[i]);
		}
	}
}

static void surplus_ones_never_come(void **state)
{
	unsigned before = open_fds();
	char text[8];
	int fds[FDS_MAX];
	bool lost;

	(void)state;
	for (unsigned room = 0; room < 5; room++)
		for (unsigned n = 1; n <= FDS_MAX; n++) {
			unsigned nfds = room;

			assert_int_equal(send_some(n), 5);
			assert_int_equal(
				fds_receive(ends[1], text, sizeof(text), fds, &nfds, 0, &lost), 5);
			assert_int_equal(nfds, n < room ? n : room);
			assert_int_equal(lost, n > room);
			while (nfds > 0)
				close(fds[--nfds]);
			assert_int_equal(open_fds(), before);
		}
}

static void one_that_finds_no_number_is_lost(void **state)
{
	struct rlimit was, few;
	unsigned nfds = 3;
	char text[8];
	int fds[3], next = dup(ends[0]);
	bool lost = false;

	(void)state;
	close(next);
	assert_int_equal(send_some(3), 5);
	getrlimit(RLIMIT_NOFILE, &was);
	few = (struct rlimit){(rlim_t)next + 1, was.rlim_max};
	setrlimit(RLIMIT_NOFILE, &few);
	assert_int_equal(fds_receive(ends[1], text, sizeof(text), fds, &nfds, 0, &lost), 5);
	setrlimit(RLIMIT_NOFILE, &was);
	assert_int_equal(nfds, 1);
	assert_true(lost);
	close(fds[0]);
}

static void errors_are_the_systems(void **state)
{
	unsigned nfds = 1;
	char c = 0;
	int fd;

	(void)state;
	assert_int_equal(send_some(FDS_MAX + 1), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(fds_receive(ends[1], &c, 1, &fd, &nfds, MSG_DONTWAIT, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(nfds, 0);
	close_fd(&ends[1]);
	assert_int_equal(send_some(1), -1); /* and no SIGPIPE */
	assert_int_equal(errno, EPIPE);
	nfds = 1;
	assert_int_equal(fds_receive(ends[0], &c, 1, &fd, &nfds, 0, NULL), 0);
	assert_int_equal(nfds, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(descriptors_come_with_their_message),
		T(surplus_ones_never_come),
		T(one_that_finds_no_number_is_lost),
		T(errors_are_the_systems),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
