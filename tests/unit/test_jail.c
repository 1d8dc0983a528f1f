/* The filters that the build makes of the lists in the sources: every number of a system call is
 * put to them. */
#include "lib/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>

#include <cmocka.h>

#include "bpf.h"
#include "build/gen/syscalls.h"

#ifdef __aarch64__
#define NATIVE AUDIT_ARCH_AARCH64
#else
#define NATIVE AUDIT_ARCH_X86_64
#endif
#define NUMBERS 1024
#define X32 0x40000000

struct filter {
	const char *name;
	const struct sock_filter *f;
	size_t n;
	unsigned calls, most;
};

#define FILTER(name, most)                                                            \
	{                                                                             \
#name, filter_##name, ARRAY_LEN(filter_##name), SYSCALLS_##name, most \
	}
static const struct filter filters[] = {FILTER(kvm, 40),   FILTER(qemu, 45), FILTER(vcpu, 15),
					FILTER(block, 40), FILTER(net, 40),  FILTER(opener, 10)};
enum { KVM, QEMU, VCPU, BLOCK, NET, OPENER };

static uint32_t verdict(const struct filter *f, int nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	struct seccomp_data d = {.nr = nr, .arch = NATIVE, .args = {a0, a1, a2}};

	return bpf_run(f->f, f->n, &d);
}

static bool allowed(const struct filter *f, int nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	return verdict(f, nr, a0, a1, a2) == SECCOMP_RET_ALLOW;
}

/* Whether it may be made in any way that a list could mean. */
static bool listed(const struct filter *f, int nr)
{
	static const uint64_t second[] = {0,	     1,
					  2,	     3,
					  KVM_RUN,   KVM_IRQFD,
					  F_GETFL,   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  BLKDISCARD};

	for (size_t i = 0; i < ARRAY_LEN(second); i++)
		if (allowed(f, nr, 0, second[i], 0))
			return true;
	return allowed(f, nr, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) ||
	       allowed(f, nr, 0, SOL_SOCKET, SO_SNDBUF) ||
	       allowed(f, nr, 0, SOL_SOCKET, SO_PEERCRED) ||
	       allowed(f, nr, CLOCK_MONOTONIC, 0, 0) || allowed(f, nr, 1, 1, SIGUSR1) ||
	       allowed(f, nr, PR_SET_NAME, 0, 0) ||
	       allowed(f, nr,
		       CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND |
			       CLONE_THREAD | CLONE_SETTLS | CLONE_PARENT_SETTID |
			       CLONE_CHILD_CLEARTID,
		       0, 0);
}

static void test_no_filter_allows_more_than_its_count(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		unsigned n = 0;

		for (int nr = 0; nr < NUMBERS; nr++)
			n += listed(&filters[i], nr);
		print_message("%s: %u system calls\n", filters[i].name, filters[i].calls);
		assert_int_equal(n, filters[i].calls);
		assert_true(n <= filters[i].most);
	}
}

static void test_threads_have_what_the_process_has(void **state UNUSED)
{
	for (int t = VCPU; t <= NET; t++)
		for (int nr = 0; nr < NUMBERS; nr++)
			if (listed(&filters[t], nr))
				assert_true(listed(&filters[KVM], nr) &&
					    listed(&filters[QEMU], nr));
}

static void test_what_is_denied_traps(void **state UNUSED)
{
	static const int never[] = {SYS_openat,	 SYS_openat2,	     SYS_execve,    SYS_socket,
				    SYS_connect, SYS_ptrace,	     SYS_kill,	    SYS_mount,
				    SYS_unshare, SYS_setns,	     SYS_setresuid, SYS_capset,
				    SYS_bpf,	 SYS_io_uring_setup, SYS_keyctl,    SYS_newfstatat,
				    SYS_seccomp, NUMBERS - 1};

	for (int f = KVM; f <= NET; f++)
		for (size_t i = 0; i < ARRAY_LEN(never); i++)
			assert_int_equal(verdict(&filters[f], never[i], 0, 0, 0) &
						 SECCOMP_RET_ACTION_FULL,
					 SECCOMP_RET_TRAP);
}

static void test_other_interfaces_kill_the_process(void **state UNUSED)
{
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		struct seccomp_data d = {.nr = 1, .arch = AUDIT_ARCH_I386};

		assert_int_equal(bpf_run(filters[i].f, filters[i].n, &d), SECCOMP_RET_KILL_PROCESS);
#ifdef __x86_64__
		assert_int_equal(verdict(&filters[i], X32 | SYS_read, 0, 0, 0),
				 SECCOMP_RET_KILL_PROCESS);
#endif
	}
}

static void test_arguments_are_looked_at(void **state UNUSED)
{
	const struct filter *f = &filters[KVM];

	assert_true(allowed(f, SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE));
	assert_false(allowed(f, SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC));
	assert_false(allowed(f, SYS_mprotect, 0, 4096, PROT_EXEC));
	assert_true(allowed(f, SYS_ioctl, 3, KVM_IRQFD, 0));
	assert_false(allowed(f, SYS_ioctl, 3, KVM_CREATE_VM, 0));
	assert_false(allowed(f, SYS_ioctl, 3, TUNSETIFF, 0));
	assert_false(allowed(f, SYS_clone, SIGCHLD, 0, 0));
	assert_false(allowed(f, SYS_socketpair, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	assert_false(allowed(f, SYS_socketpair, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	assert_false(allowed(f, SYS_getsockopt, 3, SOL_SOCKET, SO_PEERGROUPS));
	assert_false(allowed(f, SYS_timerfd_create, CLOCK_REALTIME_ALARM, 0, 0));
	assert_false(allowed(f, SYS_fcntl, 3, F_SETFD, 0));
	assert_false(allowed(f, SYS_prctl, PR_SET_DUMPABLE, 1, 0));
	assert_false(allowed(f, SYS_tgkill, 1, 1, SIGKILL));
	assert_int_equal(verdict(f, SYS_clone3, 0, 0, 0), SECCOMP_RET_ERRNO | ENOSYS);
	assert_int_equal(verdict(f, SYS_rt_sigaction, SIGSYS, 0, 0), SECCOMP_RET_ERRNO | EPERM);
	assert_true(allowed(&filters[VCPU], SYS_ioctl, 3, KVM_RUN, 0));
	assert_false(allowed(&filters[VCPU], SYS_ioctl, 3, KVM_IRQFD, 0));
	assert_false(allowed(&filters[BLOCK], SYS_ioctl, 3, KVM_RUN, 0));
}

static void test_every_call_has_its_name(void **state UNUSED)
{
	const char *p = syscall_names;

	for (int i = 0; i < SYS_openat; i++)
		p += strlen(p) + 1;
	assert_string_equal(p, "openat");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_filter_allows_more_than_its_count),
		cmocka_unit_test(test_threads_have_what_the_process_has),
		cmocka_unit_test(test_what_is_denied_traps),
		cmocka_unit_test(test_other_interfaces_kill_the_process),
		cmocka_unit_test(test_arguments_are_looked_at),
		cmocka_unit_test(test_every_call_has_its_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
