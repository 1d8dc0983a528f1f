/*
 * captive.c - what a husk-vmm does that an attacker has taken over, for tests/e2e/jail.bats.
 *
 * It is linked into a husk-vmm of its own, build/tests/husk-vmm-captive, which is never installed.
 * When the jail has just been closed, jail_close() there calls jail_captive(), which tries the one
 * thing that the environment named: HUSK_CAPTIVE=THREAD/ITEM, THREAD being loop, vcpu, disk or net.
 * Either the kernel ends the process, and the jail's handler names the system call; or the call
 * returns, and the log gets "captive: ITEM: " with its error. Then the process ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/jail.h"

void jail_captive(void);

static const char *order; /* the environment is gone when it is needed */

__attribute__((constructor)) static void remember(void)
{
	const char *s = getenv("HUSK_CAPTIVE");

	order = s ? strdup(s) : NULL;
}

#define PAGE 4096ul
#define ANYWHERE ((long)-1)
#define PEERPIDFD 77 /* SO_PEERPIDFD, Linux 6.5 */
#define TEXT(s) ((long)(uintptr_t)(s))

struct item {
	const char *name;
	long number;
	long arg[6];
};

static uint8_t buffer[PAGE] __attribute__((aligned(4096)));
static const char *const no_args[] = {"sh", NULL};
static const struct open_how how = {.flags = O_RDONLY};
#define BUFFER ((long)(uintptr_t)buffer)

static const struct item items[] = {
	/* files */
	{"open-root", SYS_openat, {AT_FDCWD, TEXT("/"), O_RDONLY}},
	{"open-proc", SYS_open, {TEXT("/proc/self/maps"), O_RDONLY}},
	{"open-above", SYS_openat, {3, TEXT("../../etc/shadow"), O_RDONLY}},
	{"openat2", SYS_openat2, {AT_FDCWD, TEXT("/"), TEXT(&how), sizeof(how)}},
	{"create", SYS_openat, {AT_FDCWD, TEXT("/x"), O_CREAT | O_WRONLY, 0600}},
	{"open-by-handle", SYS_open_by_handle_at, {3, BUFFER, O_RDONLY}},
	{"stat", SYS_newfstatat, {AT_FDCWD, TEXT("/"), BUFFER, 0}},
	{"statx", SYS_statx, {AT_FDCWD, TEXT("/"), 0, 0x7ff, BUFFER}},
	{"readlink", SYS_readlink, {TEXT("/proc/self/exe"), BUFFER, PAGE}},
	{"list", SYS_getdents64, {3, BUFFER, PAGE}},
	{"fchdir", SYS_fchdir, {3}},
	{"chroot", SYS_chroot, {TEXT("/")}},
	{"unlink", SYS_unlink, {TEXT("/x")}},
	{"truncate", SYS_ftruncate, {3, 0}},
	{"grow", SYS_fallocate, {3, 0, 0, PAGE}},
	{"memfd", SYS_memfd_create, {TEXT("x"), 0}},
	{"exec", SYS_execve, {TEXT("/bin/sh"), TEXT(no_args), 0}},
	{"exec-fd", SYS_execveat, {3, TEXT(""), TEXT(no_args), 0, AT_EMPTY_PATH}},
	/* mounts and namespaces */
	{"mount", SYS_mount, {TEXT("x"), TEXT("/"), TEXT("tmpfs"), 0, 0}},
	{"umount", SYS_umount2, {TEXT("/"), 0}},
	{"pivot-root", SYS_pivot_root, {TEXT("/"), TEXT("/")}},
	{"fsopen", SYS_fsopen, {TEXT("tmpfs"), 0}},
	{"open-tree", SYS_open_tree, {AT_FDCWD, TEXT("/"), 1}},
	{"unshare-user", SYS_unshare, {CLONE_NEWUSER}},
	{"clone-namespaces", SYS_clone, {CLONE_NEWUSER | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0}},
	{"setns", SYS_setns, {3, 0}},
	/* processes */
	{"fork", SYS_fork, {0}},
	{"vfork-clone", SYS_clone, {SIGCHLD, 0, 0, 0, 0}},
	{"clone3", SYS_clone3, {BUFFER, 88}},
	{"kill-init", SYS_kill, {1, SIGKILL}},
	{"kill-all", SYS_kill, {-1, SIGKILL}},
	{"tgkill", SYS_tgkill, {1, 1, SIGKILL}},
	{"pidfd", SYS_pidfd_open, {1, 0}},
	{"pidfd-getfd", SYS_pidfd_getfd, {3, 0, 0}},
	{"ptrace", SYS_ptrace, {PTRACE_ATTACH, 1, 0, 0}},
	{"read-memory", SYS_process_vm_readv, {1, BUFFER, 1, BUFFER, 1, 0}},
	{"wait", SYS_wait4, {-1, 0, 0, 0}},
	{"rlimit", SYS_prlimit64, {0, 7, 0, BUFFER}},
	{"affinity", SYS_sched_setaffinity, {0, 8, BUFFER}},
	/* network */
	{"socket-inet", SYS_socket, {AF_INET, SOCK_STREAM, 0}},
	{"socket-unix", SYS_socket, {AF_UNIX, SOCK_STREAM, 0}},
	{"socketpair-inet", SYS_socketpair, {AF_INET, SOCK_STREAM, 0, BUFFER}},
	{"socketpair-datagram", SYS_socketpair, {AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, BUFFER}},
	{"peer-pidfd", SYS_getsockopt, {3, SOL_SOCKET, PEERPIDFD, BUFFER, BUFFER}},
	{"connect", SYS_connect, {3, BUFFER, 16}},
	{"bind", SYS_bind, {3, BUFFER, 16}},
	{"setsockopt", SYS_setsockopt, {3, SOL_SOCKET, SO_PASSCRED, BUFFER, 4}},
	/* identity */
	{"setuid", SYS_setuid, {0}},
	{"setresuid", SYS_setresuid, {0, 0, 0}},
	{"setgroups", SYS_setgroups, {0, 0}},
	{"capset", SYS_capset, {BUFFER, BUFFER}},
	{"prctl-dumpable", SYS_prctl, {PR_SET_DUMPABLE, 1, 0, 0, 0}},
	{"prctl-keepcaps", SYS_prctl, {PR_SET_KEEPCAPS, 1, 0, 0, 0}},
	/* the kernel */
	{"bpf", SYS_bpf, {0, BUFFER, PAGE}},
	{"io-uring", SYS_io_uring_setup, {8, BUFFER}},
	{"userfaultfd", SYS_userfaultfd, {0}},
	{"perf", SYS_perf_event_open, {BUFFER, 0, -1, -1, 0}},
	{"keyctl", SYS_keyctl, {0, -3, 0, 0, 0}},
	{"module", SYS_finit_module, {3, TEXT(""), 0}},
	{"reboot", SYS_reboot, {0xfee1dead, 672274793, 0, 0}},
	{"ioperm", SYS_ioperm, {0x80, 1, 1}},
	{"modify-ldt", SYS_modify_ldt, {0, BUFFER, PAGE}},
	{"personality", SYS_personality, {0xffffffff}},
	{"hostname", SYS_sethostname, {TEXT("x"), 1}},
	{"clock", SYS_clock_settime, {0, BUFFER}},
	{"syslog", SYS_syslog, {3, BUFFER, PAGE}},
	{"ioctl-terminal", SYS_ioctl, {2, TIOCSTI, BUFFER}},
	{"ioctl-new-vm", SYS_ioctl, {3, KVM_CREATE_VM, 0}},
	{"ioctl-memory", SYS_ioctl, {3, KVM_SET_USER_MEMORY_REGION, BUFFER}},
	/* memory that is code, or somebody else's */
	{"mmap-exec",
	 SYS_mmap,
	 {0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}},
	{"mprotect-exec", SYS_mprotect, {BUFFER, PAGE, PROT_READ | PROT_EXEC}},
	{"pkey-mprotect", SYS_pkey_mprotect, {BUFFER, PAGE, PROT_READ | PROT_EXEC, -1}},
	{"shm", SYS_shmget, {1, PAGE, 01600}},
	{"mqueue", SYS_mq_open, {TEXT("x"), O_CREAT | O_RDWR, 0600, 0}},
	/* the jail itself */
	{"signal-handler", SYS_rt_sigaction, {SIGSYS, BUFFER, 0, 8}},
	{"seccomp", SYS_seccomp, {1, 0, BUFFER}},
	{"landlock", SYS_landlock_create_ruleset, {0, 0, 1}},
	/* calls that are on a list, but not on every thread's */
	{"accept", SYS_accept4, {3, 0, 0, 0}},
	{"socketpair", SYS_socketpair, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, BUFFER}},
	{"receive", SYS_recvmsg, {-1, BUFFER, 0}},
	{"disk", SYS_preadv2, {-1, BUFFER, 1, 0, 0, 0}},
	{"thread",
	 SYS_clone,
	 {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD}},
	{"run-vcpu", SYS_ioctl, {-1, KVM_RUN, 0}},
	{"write", SYS_write, {-1, BUFFER, 1}},
};

/* A call of the 32-bit interface, whose numbers mean other calls. */
static void call_32bit(void)
{
#ifdef __x86_64__
	long r = 20; /* getpid */

	__asm__ volatile("int $0x80" : "+a"(r) : : "memory");
	log_error("captive: 32-bit: returned %ld", r);
#endif
}

/* What glibc notices of an attack on it, or of a bug. */
static void free_nothing(void *p)
{
	__asm__("" : "+r"(p));
	free(p);
}

static void try(const char *name)
{
	if (strcmp(name, "32-bit") == 0)
		call_32bit();
	if (strcmp(name, "heap") == 0)
		free_nothing(buffer + 16);
	if (strcmp(name, "x32") == 0)
		log_error("captive: x32: returned %ld", syscall(0x40000000 + SYS_getpid));
	for (size_t i = 0; i < ARRAY_LEN(items); i++) {
		const long *a = items[i].arg;
		long r;

		if (strcmp(items[i].name, name) != 0)
			continue;
		errno = 0;
		r = syscall(items[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
		log_error("captive: %s: %s", name, r < 0 ? strerrorname_np(errno) : "success");
		_exit(0);
	}
	log_error("captive: %s: there is no such item", name);
	_exit(2);
}

static const struct {
	const char *name;
	enum jail_role role;
} threads[] = {
	{"vcpu", JAIL_VCPU},
	{"disk", JAIL_BLOCK},
	{"net", JAIL_NET},
};

static void *in_thread(void *arg)
{
	jail_thread(*(const enum jail_role *)arg);
	try(strchr(order, '/') + 1);
	return NULL;
}

void jail_captive(void)
{
	const char *name = order ? strchr(order, '/') : NULL;
	pthread_t t;

	if (!name)
		return;
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		if (strncmp(order, threads[i].name, (size_t)(name - order)) != 0)
			continue;
		if (pthread_create(&t, NULL, in_thread, (void *)(uintptr_t)&threads[i].role) != 0)
			_exit(2);
		pthread_join(t, NULL);
	}
	try(name + 1);
}
