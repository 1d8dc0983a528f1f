/*
 * Theory of operation.
 *
 * husk-vmm starts with its parent's rights, because it takes /dev/kvm, makes the guest's memory and
 * starts QEMU. Before the guest runs its first instruction jail_close() gives up all of them. From
 * then on what a guest can reach, should it break out of its machine, is this process alone: its
 * memory, the descriptors it was given, and the system calls that its devices need. In this order:
 *
 *   namespaces    mount, network, IPC, UTS and cgroup, new ones with nothing in them. The pid
 *                 namespace is made by whoever starts us (shim/vmm_client.c): husk-vmm is PID 1
 *                 there, so that what it started ends with it;
 *   root          an empty tmpfs, read-only; every other mount is detached;
 *   profile       of AppArmor, or label of SELinux, if the container has one: from now on, since
 *                 those for containers forbid what comes before. QEMU has it from its execve on;
 *   environment   gone, but TZ: with it libc never looks for the host's time zone;
 *   limits        no core, no locked memory, no queues, a bound on threads, no file larger than
 *                 the largest disk;
 *   identity      a uid and gid of this VM alone, no groups, no capabilities in any set, and none
 *                 to be had again (bounding set, securebits, no_new_privs); not dumpable, so that
 *                 another process of the same uid cannot look into it;
 *   Landlock      where the kernel has it: no path can be opened, no port used, no abstract socket
 *                 reached, no process outside signalled. All of it is impossible already; it is
 *                 there for the day on which another layer has a hole;
 *   seccomp       the list of the process, made from the lists in the sources.
 *
 * A step that fails fails the start. Two are allowed to be weaker, and say so in the log: Landlock
 * may be missing, and in a user namespace that does not map our range of uids the VM is nobody.
 *
 * System calls. A comment "syscalls ROLE: ..." stands in the file that makes them; vmm/syscalls
 * turns these into BPF when husk is built. The process's filter allows the union, since threads
 * inherit it; each thread then adds its own, which is a subset. A call outside the list does not
 * happen: the kernel raises SIGSYS instead, the handler writes thread, name and number to the log,
 * and the process ends, and the VM with it. The handler cannot be replaced afterwards: rt_sigaction
 * fails. A thread that has blocked SIGSYS dies the same way, without a message.
 *
 * Costs in processor time, on the build machine: the network namespace 0.7 ms (jail_begin), what
 * jail_close() does 0.55 ms, of which leaving the mounts is half; the opener 0.6 ms, in a process
 * of its own.
 */
#include "vmm/jail.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "vmm/minder.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>

#include "build/gen/syscalls.h" /* needs struct sock_filter */

/* What a thread of any kind does: it writes to the log, takes locks, ends. Its stack's memory may
 * stay. All waiting is by ppoll, epoll_wait and futexes without a timeout: poll(2) and others would
 * need restart_syscall, after the freezer. */
/* syscalls thread: write clock_gettime futex rt_sigprocmask exit exit_group madvise -> EPERM */
/* Memory that is never code. Without mremap, realloc() copies. */
/* syscalls loop block net: brk mmap(2!&PROT_EXEC) munmap mremap -> ENOMEM */
/* Making threads; their names and filters. glibc uses clone for want of clone3, does without robust
 * futexes, and looks at no result when it wants a handler for setuid() by threads. */
/* syscalls loop: clone(0==CLONE_FLAGS_OF_A_THREAD) clone3 -> ENOSYS mprotect(2!&PROT_EXEC) rseq
 *	prctl(0==PR_SET_NAME) prctl(0==PR_SET_SECCOMP, 1==SECCOMP_MODE_FILTER)
 *	set_robust_list -> ENOSYS rt_sigaction -> EPERM */

/* Every call is a path into the host's kernel. */
_Static_assert(SYSCALLS_kvm <= 40, "build/gen/syscalls.txt tells who asks for what");
_Static_assert(SYSCALLS_vcpu <= 15, "build/gen/syscalls.txt tells who asks for what");

#define EMPTY_NAMESPACES (CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define STATUS_DENIED (128 + SIGSYS)
#define FILE_BYTES_MIN (UINT64_C(64) << 20) /* of the log */
#define THREADS_MAX 256			    /* of this VM's uid: ours and QEMU's */

/* Uids of VMs: a range that nothing hands out (systemd's UIDS-GIDS.md calls it unused). A VM's is
 * the base plus the pid of its husk-vmm, so that no two of a pid namespace share one. */
#define UID_BASE 1879048192u
#define UID_NOBODY 65534u

/* Of Linux 6.12; older headers have fewer. */
#define LANDLOCK_FS_ALL(abi) \
	((abi) >= 5 ? 0xffffu : (abi) >= 3 ? 0x7fffu : (abi) == 2 ? 0x3fffu : 0x1fffu)
#define LANDLOCK_NET_ALL 3u   /* bind and connect TCP; ABI 4 */
#define LANDLOCK_SCOPE_ALL 3u /* abstract Unix sockets, signals; ABI 6 */

struct landlock_rules {
	uint64_t fs, net, scoped;
};

static bool closed;
static __thread const char *thread_name = "loop";

/* ---- who we are */

static struct {
	pid_t pid;
	unsigned uid;
} self;

/* The host's proc names us as the host does. */
static pid_t find_pid(void)
{
	char text[32];
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

	text[n < 0 ? 0 : n] = '\0';
	return n > 0 ? (pid_t)strtol(text, NULL, 10) : getpid();
}

static bool id_is_mapped(const char *path, uint64_t id)
{
	cleanup_free char *text = NULL;
	unsigned long long inside, outside, count;
	char *p;

	if (file_read(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
		return true;
	for (p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (sscanf(p, "%llu %llu %llu", &inside, &outside, &count) == 3 && id >= inside &&
		    id - inside < count)
			return true;
	return false;
}

static unsigned find_uid(void)
{
	unsigned uid = UID_BASE + (unsigned)self.pid;

	if (id_is_mapped("/proc/self/uid_map", uid) && id_is_mapped("/proc/self/gid_map", uid))
		return uid;
	return UID_NOBODY;
}

int jail_begin(struct error *err)
{
	self.pid = find_pid();
	self.uid = find_uid();
	if (unshare(EMPTY_NAMESPACES) < 0)
		return error_errno(err, "jail: make namespaces");
	return 0;
}

pid_t jail_pid(void)
{
	return self.pid;
}

unsigned jail_uid(void)
{
	return self.uid;
}

/* ---- steps */

int jail_change_root(int root)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(root) < 0)
		return -1;
	/* The old root goes on top of the new one, and away from there. */
	if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}

int jail_bound_capabilities(uint64_t keep)
{
	for (unsigned cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(cap < 64 && keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -1;
	return 0;
}

int jail_set_capabilities(uint64_t keep)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct caps[2] = {
		{.effective = (uint32_t)keep, .permitted = (uint32_t)keep},
		{.effective = (uint32_t)(keep >> 32), .permitted = (uint32_t)(keep >> 32)}};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(SYS_capset, &head, caps);
}

static int allow_reading(int rules)
{
	struct landlock_path_beneath_attr all = {
		.allowed_access = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
				  LANDLOCK_ACCESS_FS_READ_DIR,
		.parent_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
	int r;

	if (all.parent_fd < 0)
		return -1;
	r = (int)syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &all, 0);
	close(all.parent_fd);
	return r;
}

int jail_restrict_paths(bool may_read)
{
	int abi =
		(int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_rules rules = {.fs = LANDLOCK_FS_ALL(abi)};
	size_t size = sizeof(rules.fs);
	cleanup_close int fd = -1;

	if (abi < 1)
		return 1;
	if (abi >= 4) {
		rules.net = LANDLOCK_NET_ALL;
		size += sizeof(rules.net);
	}
	if (abi >= 6) {
		rules.scoped = LANDLOCK_SCOPE_ALL;
		size += sizeof(rules.scoped);
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	if (fd < 0 || (may_read && allow_reading(fd) < 0))
		return -1;
	return (int)syscall(SYS_landlock_restrict_self, fd, 0);
}

/* ---- the filter */

static const char *name_of(int number)
{
	const char *p = syscall_names;

	if (number < 0 || number >= SYSCALLS_NAMES)
		return "unknown";
	while (number-- > 0)
		p += strlen(p) + 1;
	return p;
}

static void arguments_of(const ucontext_t *c, unsigned long arg[3])
{
#if defined(__x86_64__)
	arg[0] = (unsigned long)c->uc_mcontext.gregs[REG_RDI];
	arg[1] = (unsigned long)c->uc_mcontext.gregs[REG_RSI];
	arg[2] = (unsigned long)c->uc_mcontext.gregs[REG_RDX];
#elif defined(__aarch64__)
	for (int i = 0; i < 3; i++)
		arg[i] = c->uc_mcontext.regs[i];
#endif
}

/* libc says why it gives up ("free(): invalid pointer") by writev(2), and aborts. That is a bug, or
 * an attack that failed: worth a line, not worth a system call on the list. */
static void log_last_words(const unsigned long arg[3])
{
	const struct iovec *iov = (const struct iovec *)arg[1];
	char text[256];
	size_t n = 0;

	for (unsigned long i = 0; arg[0] == STDERR_FILENO && i < arg[2] && i < 8; i++)
		for (size_t k = 0; k < iov[i].iov_len && n < sizeof(text) - 1; k++)
			text[n++] = ((const char *)iov[i].iov_base)[k];
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n] = '\0';
	replace_controls(text, '?');
	if (n > 0)
		log_error("jail: thread %s: libc: %s", thread_name, text);
}

/* Of a thread that may be anywhere, and in anyone's hands; all that the log needs is write(2). */
static void on_denied(int sig UNUSED, siginfo_t *info, void *context)
{
	unsigned long arg[3];

	arguments_of(context, arg);
	if (info->si_syscall == SYS_writev)
		log_last_words(arg);
	log_error("jail: thread %s: system call %s (%d; 0x%lx, 0x%lx, 0x%lx) is not allowed: the "
		  "VM is ended",
		  thread_name, name_of(info->si_syscall), info->si_syscall, arg[0], arg[1], arg[2]);
	_exit(STATUS_DENIED);
}

static int install(const struct sock_filter *filter, unsigned short n)
{
	struct sock_fprog prog = {.len = n, .filter = (struct sock_filter *)(uintptr_t)filter};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}

/* AddressSanitizer makes calls that no list has: that build, which is for tests, has no filter. */
#ifdef __SANITIZE_ADDRESS__
#define WITH_FILTER false
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_FILTER false
#endif
#endif
#ifndef WITH_FILTER
#define WITH_FILTER true
#endif

/* For a process's first thread: catches what the filter forbids, and installs it. */
static int filter_process(const struct sock_filter *filter, unsigned short n, const char *who)
{
	struct sigaction sa = {.sa_sigaction = on_denied, .sa_flags = SA_SIGINFO};

	if (!WITH_FILTER)
		return 0;
	thread_name = who;
	sigfillset(&sa.sa_mask);
	if (sigaction(SIGSYS, &sa, NULL) < 0)
		return -1;
	return install(filter, n);
}

int jail_filter_opener(void)
{
	return filter_process(filter_opener, ARRAY_LEN(filter_opener), "opener");
}

int jail_filter_minder(void)
{
	return filter_process(filter_minder, ARRAY_LEN(filter_minder), "minder");
}

void jail_thread(enum jail_role role)
{
	static const struct {
		const char *name;
		const struct sock_filter *filter;
		unsigned short n;
	} roles[] = {
		[JAIL_VCPU] = {"vcpu", filter_vcpu, ARRAY_LEN(filter_vcpu)},
		[JAIL_BLOCK] = {"disk", filter_block, ARRAY_LEN(filter_block)},
		[JAIL_NET] = {"net", filter_net, ARRAY_LEN(filter_net)},
	};
	sigset_t denied;

	if (!closed || role == JAIL_LOOP)
		return;
	thread_name = roles[role].name;
	/* Threads are made with all signals blocked. */
	sigemptyset(&denied);
	sigaddset(&denied, SIGSYS);
	pthread_sigmask(SIG_UNBLOCK, &denied, NULL);
	if (install(roles[role].filter, roles[role].n) < 0) {
		log_error("jail: thread %s: %s", thread_name, strerror(errno));
		_exit(STATUS_DENIED);
	}
}

/* ---- closing */

static int limit(int resource, rlim_t value)
{
	struct rlimit r = {value, value};

	return setrlimit(resource, &r);
}

/* What a disk's file may grow to, should a captured husk-vmm write behind the disk's end. It may
 * not be more than it was. */
static int limit_files(uint64_t bytes)
{
	struct rlimit r;

	if (bytes < FILE_BYTES_MIN)
		bytes = FILE_BYTES_MIN;
	if (getrlimit(RLIMIT_FSIZE, &r) < 0)
		return -1;
	return limit(RLIMIT_FSIZE, bytes < r.rlim_max ? bytes : r.rlim_max);
}

static int set_limits(const struct jail_config *cfg)
{
	if (limit_files(cfg->file_bytes) < 0 || limit(RLIMIT_CORE, 0) < 0 ||
	    limit(RLIMIT_MEMLOCK, 0) < 0 || limit(RLIMIT_MSGQUEUE, 0) < 0 ||
	    limit(RLIMIT_NICE, 0) < 0 || limit(RLIMIT_RTPRIO, 0) < 0)
		return -1;
	/* Nobody's threads are not all ours. */
	return self.uid == UID_NOBODY ? 0 : limit(RLIMIT_NPROC, THREADS_MAX);
}

/* By system calls: glibc would tell other threads. */
static int change_identity(const struct jail_config *cfg UNUSED)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
	    syscall(SYS_setresgid, self.uid, self.uid, self.uid) < 0 ||
	    syscall(SYS_setresuid, self.uid, self.uid, self.uid) < 0)
		return -1;
	return 0;
}

static int clear_environment(const struct jail_config *cfg UNUSED)
{
	if (clearenv() != 0 || setenv("TZ", "UTC0", 1) < 0)
		return -1;
	tzset();
	return 0;
}

static int forbid_paths(const struct jail_config *cfg UNUSED)
{
	int r = jail_restrict_paths(false);

	if (r > 0)
		log_debug("jail: this kernel has no Landlock");
	return r;
}

static int lock_securebits(const struct jail_config *cfg UNUSED)
{
	return prctl(PR_SET_SECUREBITS,
		     SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
			     SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
		     0, 0, 0);
}

static int drop_bounding_set(const struct jail_config *cfg UNUSED)
{
	return jail_bound_capabilities(0);
}

static int drop_capabilities(const struct jail_config *cfg UNUSED)
{
	return jail_set_capabilities(0);
}

static int stay_so(const struct jail_config *cfg UNUSED)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* ---- security modules */

/* Attributes of several security modules have a directory each; alone, AppArmor has the common one,
 * too. */
int jail_open_attribute(bool apparmor, const char *name)
{
	char path[64];
	int fd = -1;

	if (apparmor) {
		snprintf(path, sizeof(path), "/proc/thread-self/attr/apparmor/%s", name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	if (fd < 0) {
		snprintf(path, sizeof(path), "/proc/thread-self/attr/%s", name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
	}
	return fd;
}

int jail_confine(int attribute, const char *text)
{
	size_t n = strlen(text);

	return write(attribute, text, n) == (ssize_t)n ? 0 : -1;
}

/* What there is to enter, opened while there is a /proc. */
struct confinement {
	int apparmor, selinux;
};

static void confinement_free(struct confinement *c)
{
	close_fd(&c->apparmor);
	close_fd(&c->selinux);
}

static int confinement_open(const struct jail_config *cfg, struct confinement *c, struct error *err)
{
	if (cfg->apparmor && (c->apparmor = jail_open_attribute(true, "current")) < 0)
		return error_errno(err, "process.apparmorProfile: \"%s\"", cfg->apparmor);
	if (cfg->selinux && (c->selinux = jail_open_attribute(false, "current")) < 0)
		return error_errno(err, "process.selinuxLabel: \"%s\"", cfg->selinux);
	return 0;
}

/* After the mounts, which a profile for containers does not let it change, and while its
 * credentials are still those that opened the attributes. */
static int confinement_enter(const struct jail_config *cfg, const struct confinement *c,
			     struct error *err)
{
	cleanup_free char *change =
		cfg->apparmor ? xasprintf("changeprofile %s", cfg->apparmor) : NULL;

	if (change && jail_confine(c->apparmor, change) < 0)
		return error_errno(err, "process.apparmorProfile: enter \"%s\"%s", cfg->apparmor,
				   errno == ENOENT ? ": it is not loaded" : "");
	if (cfg->selinux && jail_confine(c->selinux, cfg->selinux) < 0)
		return error_errno(err, "process.selinuxLabel: enter \"%s\"", cfg->selinux);
	return 0;
}

static int close_rights(const struct jail_config *cfg, struct error *err)
{
	static const struct {
		const char *what;
		int (*take)(const struct jail_config *cfg);
	} steps[] = {
		{"clear the environment", clear_environment},
		{"set limits", set_limits},
		{"lock securebits", lock_securebits},
		{"empty the bounding set", drop_bounding_set},
		{"become the VM's user", change_identity},
		{"drop capabilities", drop_capabilities},
		{"set no_new_privs", stay_so},
		{"forbid paths with Landlock", forbid_paths},
	};
	__attribute__((cleanup(confinement_free))) struct confinement c = {-1, -1};
	cleanup_close int root = minder_empty_root(err);

	if (root < 0)
		return error_wrap(err, "jail");
	if (confinement_open(cfg, &c, err) < 0)
		return -1;
	if (jail_change_root(root) < 0)
		return error_errno(err, "jail: leave the file systems");
	if (confinement_enter(cfg, &c, err) < 0)
		return -1;
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++)
		if (steps[i].take(cfg) < 0)
			return error_errno(err, "jail: %s", steps[i].what);
	return 0;
}

#ifdef HUSK_CAPTIVE
void jail_captive(void); /* tests/jail/captive.c */
#endif

int jail_close(const struct jail_config *cfg, struct error *err)
{
	uint64_t begun = now_us();
	int r = 0;

	if (self.uid == UID_NOBODY)
		log_debug("jail: the users of VMs are not mapped here: this VM is nobody (%u)",
			  self.uid);
	if (getpid() != 1)
		log_debug("jail: no pid namespace of its own");
	if (close_rights(cfg, err) < 0)
		return -1;
	if (cfg->engine_qemu)
		r = filter_process(filter_qemu, ARRAY_LEN(filter_qemu), "loop");
	else
		r = filter_process(filter_kvm, ARRAY_LEN(filter_kvm), "loop");
	if (r < 0)
		return error_errno(err, "jail: install the filter of system calls");
	closed = WITH_FILTER;
	log_elapsed("jail closed", begun);
#ifdef HUSK_CAPTIVE
	jail_captive();
#endif
	return 0;
}
