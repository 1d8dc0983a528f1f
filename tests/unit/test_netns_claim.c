/* Whose a network namespace is, with namespaces of this test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "netns/claim.h"
#include "netns/netns.h"

static void fresh_namespace(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		skip();
}

static void test_second_claim_is_refused_and_told_whose(void **state)
{
	cleanup_close int fd = -1;
	struct error err = ERROR_INIT;
	pid_t holder = -1;

	(void)state;
	fresh_namespace();
	fd = netns_claim(&holder, &err);
	assert_true(fd >= 0);
	assert_int_equal(netns_claim(&holder, &err), -1);
	assert_int_equal(err.kind, ERR_EXISTS);
	assert_int_equal(holder, getpid());
	/* However often one asks: those who were told whose it is wait in a queue, which is full
	 * one day. */
	for (int i = 0; i < 10000; i++)
		assert_int_equal(netns_claim(&holder, NULL), -1);
	assert_true(holder == 0 || holder == getpid());
}

static void test_claim_ends_with_its_descriptor(void **state)
{
	pid_t holder;
	int fd;

	(void)state;
	fresh_namespace();
	for (int i = 0; i < 3; i++) {
		fd = netns_claim(&holder, NULL);
		assert_true(fd >= 0);
		close(fd);
	}
}

static void test_claim_ends_with_its_process(void **state)
{
	cleanup_close int fd = -1;
	pid_t holder, pid;
	int status;

	(void)state;
	fresh_namespace();
	pid = fork();
	if (pid == 0)
		_exit(netns_claim(&holder, NULL) < 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fd = netns_claim(&holder, NULL);
	assert_true(fd >= 0);
}

static void test_other_namespace_is_another_claim(void **state)
{
	cleanup_close int one = -1, other = -1;
	pid_t holder;

	(void)state;
	fresh_namespace();
	one = netns_claim(&holder, NULL);
	assert_true(one >= 0);
	fresh_namespace();
	other = netns_claim(&holder, NULL);
	assert_true(other >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_claim_is_refused_and_told_whose),
		cmocka_unit_test(test_claim_ends_with_its_descriptor),
		cmocka_unit_test(test_claim_ends_with_its_process),
		cmocka_unit_test(test_other_namespace_is_another_claim),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
