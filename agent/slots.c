/*
 * Slots, and those that look for disks while others give theirs back.
 *
 * Whoever waits for a disk asks all slots without a driver again and again (slots_probe()). One
 * whose disk was released has no driver either, but its disk is still there until the host has
 * detached it: asked meanwhile it would be in use again. So a slot that is given back has a mark, a
 * file of its name in MARKS with the time and the disk's serial, which probes respect. Marks are
 * files since those who look and those who give back are processes of their own; they exclude each
 * other by a lock on the directory. A host that never says that it has detached the disk leaves a
 * mark that counts no more after a second.
 */
#include "agent/slots.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define SLOTS "/sys/bus/platform/devices"
#define DRIVER "/sys/bus/platform/drivers/virtio-mmio/"
#define MARKS "/run/slots"
#define MARK_US 1000000 /* how long a mark counts */
#define POLL_FIRST_US 100
#define POLL_MAX_US 1000

void slots_pause(unsigned long *us)
{
	struct timespec ts;

	*us = *us == 0 ? POLL_FIRST_US : *us * 2 > POLL_MAX_US ? POLL_MAX_US : *us * 2;
	ts = (struct timespec){.tv_nsec = (long)*us * 1000};
	nanosleep(&ts, NULL);
}

/* The directory of marks, locked until it is closed. */
static int lock_marks(int how)
{
	cleanup_close int fd = -1;

	if (mkdir(MARKS, 0700) < 0 && errno != EEXIST)
		return -1;
	fd = open(MARKS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, how) < 0)
		return -1;
	return steal_fd(&fd);
}

static bool is_marked(int marks, const char *slot)
{
	cleanup_free char *text = NULL;
	uint64_t at;

	return marks >= 0 && file_read(marks, slot, 256, &text, NULL, NULL) == 0 &&
	       sscanf(text, "%" SCNu64, &at) == 1 && now_us() - at < MARK_US;
}

/* ENODEV: still empty */
static void probe(int bind, const char *slot)
{
	cleanup_close int marks = lock_marks(LOCK_SH);

	if (!is_marked(marks, slot) && write(bind, slot, strlen(slot)) < 0 && errno != ENODEV)
		log_debug("probe %s: %s", slot, strerror(errno));
}

void slots_probe(void)
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
		probe(bind, e->d_name);
	}
}

void slot_bind(const char *slot)
{
	struct error err = ERROR_INIT;

	if (file_put(AT_FDCWD, DRIVER "bind", slot, &err) < 0)
		log_debug("%s", err.msg);
}

int slot_of(const char *path, char slot[SLOT_NAME_MAX + 1], struct error *err)
{
	char to[256];
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	const char *at;

	if (n < 0)
		return error_errno(err, "%s", path);
	to[n] = '\0';
	at = strstr(to, "/virtio-mmio.");
	if (!at)
		return error_kind(err, ERR_UNSUPPORTED, "%s: in no slot", path);
	snprintf(slot, SLOT_NAME_MAX + 1, "%.*s", (int)strcspn(at + 1, "/"), at + 1);
	return 0;
}

int slot_unbind(const char *slot, struct error *err)
{
	return file_put(AT_FDCWD, DRIVER "unbind", slot, err);
}

int slot_give_back(const char *slot, const char *serial, struct error *err)
{
	cleanup_close int marks = lock_marks(LOCK_EX);
	cleanup_free char *text = xasprintf("%" PRIu64 " %s", now_us(), serial);

	if (marks < 0 || file_write_atomic(marks, slot, text, strlen(text), 0600, err) < 0)
		return marks < 0 ? error_errno(err, "lock " MARKS) : -1;
	return slot_unbind(slot, err);
}

void slots_detached(const char *serial)
{
	cleanup_dir DIR *d = opendir(MARKS);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		cleanup_free char *text = NULL;
		const char *of;

		if (e->d_name[0] == '.' ||
		    file_read(dirfd(d), e->d_name, 256, &text, NULL, NULL) < 0)
			continue;
		of = strchr(text, ' ');
		if (of && strcmp(of + 1, serial) == 0)
			unlinkat(dirfd(d), e->d_name, 0);
	}
}
