/*
 * boot.c - from the kernel's start of PID 1 to a guest that can hold containers.
 *
 * Every call here is in the way of every container's start, so there are few of them, and they come
 * after the ready mark: the host connects and attaches disks meanwhile. /run is a
 * directory of the root tmpfs, and nothing is mounted that only containers use (each has its own
 * devpts, mqueue and /dev/shm). Nothing waits: drivers are built into the kernel and were probed
 * before PID 1 was started.
 */
#include "agent/boot.h"
#include "agent/root.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define CGROUP "/sys/fs/cgroup"
#define CMDLINE_MAX 4096
#define NOFILE_MAX 1048576 /* as container engines on a host give it */

uint64_t boot_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

int boot_stdio(struct error *err)
{
	int fd;

	/* The kernel has opened the console as all three, if there is one. */
	if (fcntl(STDERR_FILENO, F_GETFD) >= 0)
		return 0;
	do {
		fd = open("/dev/null", O_RDWR); /* the initramfs has it */
		if (fd < 0)
			return error_errno(err, "open /dev/null");
	} while (fd < STDERR_FILENO);
	return 0;
}

static int mount_all(struct error *err)
{
	static const struct {
		const char *type, *at;
		unsigned long flags;
		const char *data;
	} mounts[] = {
		{"proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
		{"sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL},
		{"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755"},
		{"cgroup2", CGROUP, MS_NOSUID | MS_NODEV | MS_NOEXEC,
		 "nsdelegate,memory_recursiveprot"},
	};

	for (size_t i = 0; i < ARRAY_LEN(mounts); i++)
		if (mount(mounts[i].type, mounts[i].at, mounts[i].type, mounts[i].flags,
			  mounts[i].data) < 0)
			return error_errno(err, "mount %s on %s", mounts[i].type, mounts[i].at);
	return 0;
}

/* Gives the root cgroup's children every controller that the kernel has. */
static int enable_controllers(struct error *err)
{
	cleanup_free char *names = NULL;
	char order[512];
	size_t n = 0;
	char *save = NULL;

	if (file_read(AT_FDCWD, CGROUP "/cgroup.controllers", 256, &names, NULL, err) < 0)
		return -1;
	for (char *s = strtok_r(names, " \n", &save); s; s = strtok_r(NULL, " \n", &save))
		n += (size_t)snprintf(order + n, sizeof(order) - n, "%s+%s", n ? " " : "", s);
	return n ? file_put(AT_FDCWD, CGROUP "/cgroup.subtree_control", order, err) : 0;
}

/* Bringing it up gives it 127.0.0.1 and ::1. */
static int loopback_up(struct error *err)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	cleanup_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &ifr) < 0)
		return error_errno(err, "bring up the loopback interface");
	return 0;
}

/* Of the seven times a second that an idle guest woke up, three were the kernel's looking whether
 * memory is fragmented, and whether counters of a processor need be added up. Memory is
 * compacted when somebody needs it so; the counters' error is bounded. */
static void calm_kernel(void)
{
	file_put(AT_FDCWD, "/proc/sys/vm/compaction_proactiveness", "0", NULL);
	file_put(AT_FDCWD, "/proc/sys/vm/stat_interval", "60", NULL);
}

int boot_system(struct error *err)
{
	struct rlimit nofile = {NOFILE_MAX, NOFILE_MAX};

	umask(0022);
	if (agent_leave_initramfs(err) < 0 || mount_all(err) < 0 || enable_controllers(err) < 0 ||
	    loopback_up(err) < 0)
		return -1;
	if (sethostname("husk", 4) < 0)
		return error_errno(err, "set the host name");
	if (setrlimit(RLIMIT_NOFILE, &nofile) < 0)
		return error_errno(err, "set RLIMIT_NOFILE");
	calm_kernel();
	return 0;
}

bool boot_has_option(const char *word)
{
	cleanup_free char *text = NULL;
	char *save = NULL;

	if (file_read(AT_FDCWD, "/proc/cmdline", CMDLINE_MAX, &text, NULL, NULL) < 0)
		return false;
	for (char *s = strtok_r(text, " \n", &save); s; s = strtok_r(NULL, " \n", &save))
		if (strcmp(s, word) == 0)
			return true;
	return false;
}

void boot_last_words(const char *text)
{
	char line[512];
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	int n = snprintf(line, sizeof(line), "<0>husk-agent: fatal: %s\n", text);

	/* Nothing may be mounted yet. */
	if (fd < 0 && mknod("/kmsg", S_IFCHR | 0600, makedev(1, 11)) == 0)
		fd = open("/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1) < 0)
		return; /* nowhere left to say it */
}

void boot_reset(void)
{
	/* A power-off needs firmware that these machines do not have, and would only halt. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
