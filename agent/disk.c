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
 * slot's driver is unbound. The host detaches the disk afterwards; whoever looks for another disk
 * meanwhile leaves that slot alone (slots.c).
 */
#include "agent/disk.h"
#include "agent/slots.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

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
	unsigned long pause = 0;

	while (!disk_lookup(serial, out)) {
		slots_probe();
		if (disk_lookup(serial, out))
			return 0;
		if (now_us() >= deadline)
			return error_kind(err, ERR_TIMEOUT, "disk \"%s\" did not appear in %d s",
					  serial, DISK_WAIT_US / 1000000);
		slots_pause(&pause);
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
	unsigned long pause = 0;

	for (;;) {
		cleanup_close int fd = open(d->node, O_RDONLY | O_EXCL | O_CLOEXEC);

		/* not EBUSY: free, or gone altogether */
		if (fd >= 0 || errno != EBUSY)
			return 0;
		if (now_us() >= deadline)
			return error_kind(err, ERR_TIMEOUT, "%s is still mounted", d->node);
		slots_pause(&pause);
	}
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
	cleanup_free char *link = NULL;
	char slot[SLOT_NAME_MAX + 1];
	struct disk d;

	if (!disk_lookup(serial, &d))
		return error_kind(err, ERR_NOT_FOUND, "disk \"%s\": there is none", serial);
	if (disk_is_mounted(&d))
		return error_set(err, "disk \"%s\" is a container's", serial);
	link = xasprintf("/sys/dev/block/%u:%u", d.major, d.minor);
	if (settle(&d, err) < 0 || slot_of(link, slot, err) < 0 ||
	    slot_give_back(slot, serial, err) < 0)
		return error_wrap(err, "disk \"%s\"", serial);
	return 0;
}
