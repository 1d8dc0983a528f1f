#include "agent/slots.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>

#define SLOTS "/sys/bus/platform/devices"
#define DRIVER "/sys/bus/platform/drivers/virtio-mmio/"
#define POLL_FIRST_US 100
#define POLL_MAX_US 1000

void slots_pause(unsigned long *us)
{
	struct timespec ts;

	*us = *us == 0 ? POLL_FIRST_US : *us * 2 > POLL_MAX_US ? POLL_MAX_US : *us * 2;
	ts = (struct timespec){.tv_nsec = (long)*us * 1000};
	nanosleep(&ts, NULL);
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
		/* ENODEV: still empty */
		if (write(bind, e->d_name, strlen(e->d_name)) < 0 && errno != ENODEV)
			log_debug("probe %s: %s", e->d_name, strerror(errno));
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
