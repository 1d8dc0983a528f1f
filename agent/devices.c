/*
 * Device nodes.
 *
 * Numbers in linux.devices are the host's. Those of character devices that every Linux has fixed
 * (Documentation/admin-guide/devices.txt) mean the same in the guest; the others are given out as
 * drivers come, and mean the same only if the device has the same name. A block device is a disk
 * that the host attached, with the number that the guest gave it.
 *
 * A device that the guest does not have is refused. In a privileged container, for which engines
 * list all that the host has, it is left out instead.
 */
#include "agent/devices.h"
#include "agent/disk.h"
#include "agent/mounts.h"
#include "agent/namespaces.h"
#include "agent/resolve.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <linux/major.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct node {
	const char *path;
	mode_t mode; /* with the file type */
	dev_t rdev;
	uid_t uid;
	gid_t gid;
	char *what; /* field of config.json, for errors */
};

static const struct {
	const char *path;
	unsigned major, minor;
} defaults[] = {{"/dev/null", 1, 3}, {"/dev/random", 1, 8}, {"/dev/full", 1, 7},
		{"/dev/tty", 5, 0},  {"/dev/zero", 1, 5},   {"/dev/urandom", 1, 9}};

#define UNUSED_WAIT_US 3000000
#define UEVENT_MAX 65536

/* ---- what the guest has */

int devices_release(const struct container *c, struct error *err)
{
	for (size_t i = 0; c->numbers && i < c->n_devices; i++) {
		struct disk d;

		if (disk_lookup(c->devices[i].serial, &d) &&
		    disk_wait_unused(&d, UNUSED_WAIT_US, err) < 0)
			return error_wrap(err, "disk \"%s\"", c->devices[i].serial);
	}
	return 0;
}

static const struct disk_number *disk_of(const struct container *c, size_t device)
{
	for (size_t i = 0; c->numbers && i < c->n_devices; i++)
		if (c->devices[i].index == device)
			return &c->numbers[i];
	return NULL;
}

static bool has_fixed_number(const struct oci_device *d)
{
	if (d->major == 10) /* misc */
		return d->minor >= 128 && d->minor < 255;
	return !(d->major >= 234 && d->major <= 254) && d->major < 384;
}

/* Pseudo terminals come and go. */
static bool is_pty(const struct oci_device *d)
{
	return d->major >= 136 && d->major <= 143;
}

static bool has_char_device(const struct oci_device *d)
{
	cleanup_free char *path =
		xasprintf("/sys/dev/char/%u:%u/uevent", (unsigned)d->major, (unsigned)d->minor);
	cleanup_free char *text = NULL;
	cleanup_free char *name = NULL;

	if (is_pty(d))
		return true;
	if (file_read(AT_FDCWD, path, UEVENT_MAX, &text, NULL, NULL) < 0)
		return false;
	if (has_fixed_number(d))
		return true;
	name = strncmp(d->path, "/dev/", 5) == 0 ? xasprintf("DEVNAME=%s\n", d->path + 5) : NULL;
	return name && strstr(text, name);
}

/* True if linux.devices[i] can be made. Loop devices come into being when they are opened: a
 * privileged container has the guest's. */
static bool is_there(const struct container *c, size_t i)
{
	const struct oci_device *d = &c->spec->lnx.devices[i];

	if (d->type == 'b')
		return disk_of(c, i) || (d->major == LOOP_MAJOR && oci_spec_all_devices(c->spec));
	return d->type == 'p' || has_char_device(d);
}

int devices_find(struct container *c, struct error *err)
{
	const struct oci_linux *l = &c->spec->lnx;
	bool all = oci_spec_all_devices(c->spec);

	c->numbers = xcalloc(c->n_devices + 1, sizeof(*c->numbers));
	for (size_t i = 0; i < c->n_devices; i++) {
		size_t index = c->devices[i].index;
		struct disk d;

		if (disk_find(c->devices[i].serial, &d, err) < 0)
			return error_wrap(err, "linux.devices[%zu] (%s)", index,
					  l->devices[index].path);
		c->numbers[i] = (struct disk_number){d.major, d.minor};
	}
	for (size_t i = 0; i < l->n_devices && !all; i++)
		if (!is_there(c, i))
			return error_kind(err, ERR_UNSUPPORTED,
					  "linux.devices[%zu]: %s: the guest's kernel has no such "
					  "device (%s %lld:%lld)",
					  i, l->devices[i].path,
					  l->devices[i].type == 'b' ? "block" : "character",
					  (long long)l->devices[i].major,
					  (long long)l->devices[i].minor);
	return 0;
}

/* ---- nodes */

static struct node node_of(const struct container *c, size_t i)
{
	const struct oci_device *d = &c->spec->lnx.devices[i];
	const struct disk_number *disk = d->type == 'b' ? disk_of(c, i) : NULL;
	mode_t type = d->type == 'b' ? S_IFBLK : d->type == 'p' ? S_IFIFO : S_IFCHR;

	return (struct node){
		.path = d->path,
		.mode = type | (d->file_mode.has ? d->file_mode.v : 0666),
		.rdev = d->type == 'p' ? 0
			: disk	       ? makedev(disk->major, disk->minor)
				       : makedev((unsigned)d->major, (unsigned)d->minor),
		.uid = d->uid.v,
		.gid = d->gid.v,
		.what = xasprintf("linux.devices[%zu]", i),
	};
}

static struct node default_node(size_t i)
{
	return (struct node){
		.path = defaults[i].path,
		.mode = S_IFCHR | 0666,
		.rdev = makedev(defaults[i].major, defaults[i].minor),
		.what = xstrdup("default device"),
	};
}

/* A default device that linux.devices lists is made as it says there. */
static bool listed(const struct oci_linux *l, const char *path)
{
	for (size_t i = 0; i < l->n_devices; i++)
		if (strcmp(l->devices[i].path, path) == 0)
			return true;
	return false;
}

/* All nodes of the container, in order; *n of them. The caller frees with free_nodes(). */
static struct node *all_nodes(const struct container *c, size_t *n)
{
	const struct oci_linux *l = &c->spec->lnx;
	bool all = oci_spec_all_devices(c->spec);
	struct node *v = xcalloc(ARRAY_LEN(defaults) + l->n_devices, sizeof(*v));
	size_t k = 0;

	for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
		if (!listed(l, defaults[i].path))
			v[k++] = default_node(i);
	for (size_t i = 0; i < l->n_devices; i++)
		if (!all || is_there(c, i))
			v[k++] = node_of(c, i);
	*n = k;
	return v;
}

static void free_nodes(struct node *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(v[i].what);
	free(v);
}

static int make_node(int dir, const char *name, const struct node *d, struct error *err)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if ((st.st_mode & S_IFMT) == (d->mode & S_IFMT) && st.st_rdev == d->rdev)
			return 0;
		/* What an image has in its /dev is not the device. */
		if (unlinkat(dir, name, 0) < 0)
			return error_errno(err, "%s (%s): replace", d->what, d->path);
	}
	if (mknodat(dir, name, d->mode, d->rdev) < 0)
		return error_errno(err, "%s (%s): mknod", d->what, d->path);
	if (fchownat(dir, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    fchmodat(dir, name, d->mode & 07777, 0) < 0)
		return error_errno(err, "%s (%s): owner and mode", d->what, d->path);
	return 0;
}

/* ---- user namespaces: nodes are made outside and bound inside */

static uint32_t host_id(const struct oci_id_mapping *m, size_t n, uint32_t id)
{
	for (size_t i = 0; i < n; i++)
		if (id >= m[i].container_id && id - m[i].container_id < m[i].size)
			return m[i].host_id + (id - m[i].container_id);
	return 65534;
}

int devices_prepare(const struct container *c, struct error *err)
{
	const struct oci_linux *l = &c->spec->lnx;
	cleanup_free char *at = xasprintf("%s/dev", c->dir);
	cleanup_close int dir = -1;
	struct node *v;
	size_t n;
	int r = 0;

	if (!ns_own(c->spec, OCI_NS_USER) || !mounts_own_dev(c->spec))
		return 0;
	if (mkdir(at, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", at);
	if (mount("dev", at, "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=1m") < 0)
		return error_errno(err, "mount a tmpfs on %s", at);
	dir = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(err, "open %s", at);
	v = all_nodes(c, &n);
	for (size_t i = 0; i < n && r == 0; i++) {
		char name[24];

		snprintf(name, sizeof(name), "%zu", i);
		v[i].uid = host_id(l->uid_mappings, l->n_uid_mappings, v[i].uid);
		v[i].gid = host_id(l->gid_mappings, l->n_gid_mappings, v[i].gid);
		r = make_node(dir, name, &v[i], err);
	}
	free_nodes(v, n);
	return r;
}

static int bind_node(const struct container *c, int root_fd, size_t i, const struct node *d,
		     struct error *err)
{
	cleanup_free char *path = xasprintf("%s/dev/%zu", c->dir, i);
	cleanup_close int src = open(path, O_PATH | O_CLOEXEC);
	cleanup_close int dst = -1;

	if (src < 0)
		return error_errno(err, "%s (%s): open %s", d->what, d->path, path);
	dst = resolve_make(root_fd, d->path, RESOLVE_FILE, NULL, err);
	if (dst < 0 || mounts_bind_fd(src, dst, d->path, err) < 0)
		return error_wrap(err, "%s", d->what);
	return 0;
}

/* ---- in the container */

static int make_nodes(const struct container *c, int root_fd, struct error *err)
{
	bool bind = ns_own(c->spec, OCI_NS_USER);
	size_t n;
	struct node *v = all_nodes(c, &n);
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		cleanup_close int dir = -1;
		const char *name;

		if (bind) {
			r = bind_node(c, root_fd, i, &v[i], err);
			continue;
		}
		dir = resolve_parent(root_fd, v[i].path, &name, err);
		r = dir < 0 ? error_wrap(err, "%s", v[i].what) : make_node(dir, name, &v[i], err);
	}
	free_nodes(v, n);
	return r;
}

static int make_links(int dev, struct error *err)
{
	static const char *const links[][2] = {
		{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
		{"core", "/proc/kcore"}, /* last: only where there is one */
	};
	size_t n = ARRAY_LEN(links) - (access("/proc/kcore", F_OK) < 0);

	for (size_t i = 0; i < n; i++)
		if (symlinkat(links[i][1], dev, links[i][0]) < 0 && errno != EEXIST)
			return error_errno(err, "symlink /dev/%s", links[i][0]);
	/* The container's own instance of devpts, whatever was here. */
	if (unlinkat(dev, "ptmx", 0) < 0 && errno != ENOENT)
		return error_errno(err, "replace /dev/ptmx");
	if (symlinkat("pts/ptmx", dev, "ptmx") < 0)
		return error_errno(err, "symlink /dev/ptmx");
	return 0;
}

int devices_make(const struct container *c, int root_fd, struct error *err)
{
	cleanup_close int dev = -1;

	if (!mounts_own_dev(c->spec))
		return 0;
	if (make_nodes(c, root_fd, err) < 0)
		return -1;
	dev = resolve_make(root_fd, "/dev", RESOLVE_DIR, NULL, err);
	return dev < 0 ? -1 : make_links(dev, err);
}
