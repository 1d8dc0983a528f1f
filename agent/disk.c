/*
 * Looking for a disk.
 *
 * A hot-attached disk shows up in one of two ways (design: one machine, two engines). Under QEMU
 * every slot has its driver bound from boot, and a disk appears by its capacity changing from 0.
 * In our own VMM a slot that was empty at boot has no driver: writing its name to the driver's
 * `bind` makes the kernel probe it again, which ends in ENODEV as long as it is empty. Both look
 * the same here: bind whatever is not bound, then compare serials.
 *
 * Giving one back is the same the other way round: what was written reaches the host, then the
 * slot's driver is unbound. The host detaches the disk afterwards; until it has, whoever looks for
 * another disk has the slot bound again, so that a host does not let the two overlap.
 */
#include "agent/disk.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <time.h>

#define SLOTS "/sys/bus/platform/devices"
#define DRIVER "/sys/bus/platform/drivers/virtio-mmio/"
#define POLL_FIRST_US 100
#define POLL_MAX_US 1000

static void sleep_us(unsigned long us)
{
	struct timespec ts = {.tv_sec = (time_t)(us / 1000000),
			      .tv_nsec = (long)(us % 1000000) * 1000};

	nanosleep(&ts, NULL);
}

static void probe_empty_slots(void)
{
	cleanup_dir DIR *d = opendir(SLOTS);
	cleanup_close int bind = open(DRIVER "bind", O_WRONLY | O_CLOEXEC);
	const struct dirent *e;

	while (d && bind >= 0 && (e = readdir(d))) {
		cleanup_free char *driver = NULL;

		if (strncmp(e->d_name, "virtio-mmio.", 12) != 0)
			continue;
		driver = xasprintf("%s/driver", e->d_name);
		if (faccessat(dirfd(d), driver, F_OK, 0) == 0)
			continue;
		/* ENODEV: still empty */
		if (write(bind, e->d_name, strlen(e->d_name)) < 0 && errno != ENODEV)
			log_debug("probe %s: %s", e->d_name, strerror(errno));
	}
}

/* First line of /sys/block/<name>/<file>. */
static bool attribute(int block, const char *name, const char *file, char *buf, size_t size)
{
	cleanup_free char *path = xasprintf("%s/%s", name, file);
	cleanup_close int fd = openat(block, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (n < 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

bool disk_lookup(const char *serial, struct disk *out)
{
	cleanup_dir DIR *d = opendir("/sys/block");
	const struct dirent *e;
	char buf[64];

	while (d && (e = readdir(d))) {
		/* The size first: it costs no request to the disk, as the serial does. */
		if (strncmp(e->d_name, "vd", 2) != 0 ||
		    !attribute(dirfd(d), e->d_name, "size", buf, sizeof(buf)) ||
		    strtoull(buf, NULL, 10) == 0)
			continue;
		if (!attribute(dirfd(d), e->d_name, "serial", buf, sizeof(buf)) ||
		    strcmp(buf, serial) != 0)
			continue;
		if (!attribute(dirfd(d), e->d_name, "dev", buf, sizeof(buf)) ||
		    sscanf(buf, "%u:%u", &out->major, &out->minor) != 2)
			continue;
		snprintf(out->node, sizeof(out->node), "/dev/%.32s", e->d_name);
		return true;
	}
	return false;
}

int disk_find(const char *serial, struct disk *out, struct error *err)
{
	uint64_t deadline = now_us() + DISK_WAIT_US;
	unsigned long pause = POLL_FIRST_US;

	while (!disk_lookup(serial, out)) {
		probe_empty_slots();
		if (disk_lookup(serial, out))
			return 0;
		if (now_us() >= deadline)
			return error_kind(err, ERR_TIMEOUT, "disk \"%s\" did not appear in %d s",
					  serial, DISK_WAIT_US / 1000000);
		sleep_us(pause);
		pause = pause * 2 > POLL_MAX_US ? POLL_MAX_US : pause * 2;
	}
	return 0;
}

/* Third field of /proc/self/mountinfo: the filesystem's device. */
bool disk_is_mounted(const struct disk *d)
{
	cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	size_t size = 0;
	unsigned major, minor;

	while (f && getline(&line, &size, f) > 0)
		if (sscanf(line, "%*d %*d %u:%u", &major, &minor) == 2 && major == d->major &&
		    minor == d->minor)
			return true;
	return false;
}

/* A mounted filesystem holds its device exclusively; so does nothing else in the guest. */
int disk_wait_unused(const struct disk *d, unsigned long wait_us, struct error *err)
{
	uint64_t deadline = now_us() + wait_us;
	unsigned long pause = POLL_FIRST_US;

	for (;;) {
		cleanup_close int fd = open(d->node, O_RDONLY | O_EXCL | O_CLOEXEC);

		/* not EBUSY: free, or gone altogether */
		if (fd >= 0 || errno != EBUSY)
			return 0;
		if (now_us() >= deadline)
			return error_kind(err, ERR_TIMEOUT, "%s is still mounted", d->node);
		sleep_us(pause);
		pause = pause * 2 > POLL_MAX_US ? POLL_MAX_US : pause * 2;
	}
}

/* The name of the slot that a block device is in: "virtio-mmio.N" in the path of its device. */
static int slot_of(const struct disk *d, char *slot, size_t size, struct error *err)
{
	cleanup_free char *link = xasprintf("/sys/dev/block/%u:%u", d->major, d->minor);
	char path[256];
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	const char *at;

	if (n < 0)
		return error_errno(err, "%s", link);
	path[n] = '\0';
	at = strstr(path, "/virtio-mmio.");
	if (!at)
		return error_kind(err, ERR_UNSUPPORTED, "%s is in no slot", d->node);
	snprintf(slot, size, "%.*s", (int)strcspn(at + 1, "/"), at + 1);
	return 0;
}

/* Nobody else has it open for themselves, and the host has all that was written. */
static int settle(const struct disk *d, struct error *err)
{
	cleanup_close int fd = open(d->node, O_RDONLY | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "%s", d->node);
	/* Read-only disks have nothing to write, and take it as done. */
	if (fsync(fd) < 0 || ioctl(fd, BLKFLSBUF, 0) < 0)
		return error_errno(err, "flush %s", d->node);
	return 0;
}

int disk_release(const char *serial, struct error *err)
{
	char slot[32];
	struct disk d;

	if (!disk_lookup(serial, &d))
		return error_kind(err, ERR_NOT_FOUND, "disk \"%s\": there is none", serial);
	if (disk_is_mounted(&d))
		return error_set(err, "disk \"%s\" is a container's", serial);
	if (settle(&d, err) < 0 || slot_of(&d, slot, sizeof(slot), err) < 0 ||
	    file_put(AT_FDCWD, DRIVER "unbind", slot, err) < 0)
		return error_wrap(err, "disk \"%s\"", serial);
	return 0;
}
