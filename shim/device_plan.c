#include "shim/device_plan.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/device_rules.h"
#include "shim/mount_source.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define UEVENT_MAX 65536

/* What the kernel calls the device: "sda1", malloc'ed; NULL if it has none of that number. */
static char *kernel_name(const struct oci_device *d)
{
	cleanup_free char *path =
		xasprintf("/sys/dev/block/%" PRId64 ":%" PRId64 "/uevent", d->major, d->minor);
	cleanup_free char *text = NULL;
	char *save = NULL;

	if (file_read(AT_FDCWD, path, UEVENT_MAX, &text, NULL, NULL) < 0)
		return NULL;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		if (strncmp(l, "DEVNAME=", 8) == 0)
			return xstrdup(l + 8);
	return NULL;
}

/* True if `path` is a node of this device, which *s then has open. */
static bool open_node(const char *path, const struct oci_device *d, struct mount_source *s)
{
	if (mount_source_open(path, "/", s, NULL) < 0)
		return false;
	if (S_ISBLK(s->st.st_mode) &&
	    s->st.st_rdev == makedev((unsigned)d->major, (unsigned)d->minor))
		return true;
	mount_source_free(s);
	return false;
}

/* The node may have another name here than in the container. */
static int find_node(const struct oci_device *d, struct mount_source *s, struct error *err)
{
	cleanup_free char *name = kernel_name(d);
	cleanup_free char *by_name = name ? xasprintf("/dev/%s", name) : NULL;
	cleanup_free char *by_number =
		xasprintf("/dev/block/%" PRId64 ":%" PRId64, d->major, d->minor);

	if ((by_name && open_node(by_name, d, s)) || open_node(by_number, d, s) ||
	    open_node(d->path, d, s))
		return 0;
	return error_kind(err, ERR_INVALID,
			  "the host has no node of block device %" PRId64 ":%" PRId64, d->major,
			  d->minor);
}

/* A loop device without a file, a drive without a medium. */
static int check_size(int fd, const char *path, struct error *err)
{
	uint64_t size = 0;

	if (ioctl(fd, BLKGETSIZE64, &size) < 0)
		return error_errno(err, "%s", path);
	return size > 0 ? 0 : error_kind(err, ERR_INVALID, "%s: is empty: its size is 0", path);
}

static int plan_device(const struct oci_spec *spec, size_t i, struct planned_mount *m,
		       struct error *err)
{
	const struct oci_device *d = &spec->lnx.devices[i];
	const struct oci_resources *r = spec->lnx.resources;
	cleanup_mount_source struct mount_source s = {.fd = -1};

	*m = (struct planned_mount){.index = i,
				    .device = true,
				    .from = MOUNT_FROM_DISK,
				    .writable =
					    r && oci_device_allowed(r->devices, r->n_devices, 'b',
								    d->major, d->minor, 'w'),
				    .fd = -1};
	if (find_node(d, &s, err) < 0)
		return -1;
	snprintf(m->serial, sizeof(m->serial), "dev%u", (unsigned)i);
	m->fd = mount_source_open_disk(&s, m->writable, err);
	if (m->fd < 0 || check_size(m->fd, s.path, err) < 0)
		return -1;
	m->source = steal_ptr(&s.path);
	return 0;
}

static bool is_node_here(const struct oci_device *d)
{
	struct stat st;

	return stat(d->path, &st) == 0 && S_ISBLK(st.st_mode) &&
	       st.st_rdev == makedev((unsigned)d->major, (unsigned)d->minor);
}

/* For a privileged container engines list all nodes of the host, and behind them what was asked for
 * by name, if it has another name in the container (dockerd leaves it out otherwise). So that is a
 * device which is in the list by a name of the host's, and again by one that the host has not. */
static bool asked_for(const struct oci_spec *spec, size_t i)
{
	const struct oci_device *v = spec->lnx.devices;

	if (is_node_here(&v[i]))
		return false;
	for (size_t k = 0; k < i; k++)
		if (v[k].type == 'b' && v[k].major == v[i].major && v[k].minor == v[i].minor &&
		    is_node_here(&v[k]))
			return true;
	return false;
}

int device_plan_add(const struct oci_spec *spec, struct mount_plan *p, struct error *err)
{
	for (size_t i = 0; i < spec->lnx.n_devices; i++) {
		struct planned_mount *m = &p->v[p->n];

		/* What a privileged container does not get, oci_spec_warn() tells. */
		if (spec->lnx.devices[i].type != 'b' ||
		    (oci_spec_all_devices(spec) && !asked_for(spec, i)))
			continue;
		p->n++;
		if (plan_device(spec, i, m, err) < 0)
			return error_wrap(err, "linux.devices[%zu] (%s)", i,
					  spec->lnx.devices[i].path);
		mount_plan_count(p, m);
	}
	return 0;
}
