/*
 * Volumes: from the host's data to a path that can be bound.
 *
 *	project		PROJECTS_DIR/<name>	a tmpfs of the guest, filled by `push` (projects.c)
 *	share		SHARE_DIR/<name>	the virtio-fs with tag SHARE_TAG
 *	disk		<c->dir>/disk<i>	mounted here, by its serial; i: index in
 *config.mounts device		/dev/<name>		the guest's own
 *
 * All of it is mounted by PID 1, and seen by the container's init in the copy of the mount
 * namespace that it starts with. The init could not do it: a container's device filter keeps it
 * from disks, and a user namespace from all but a few file systems.
 *
 * These mounts have no flags: each mount of config.json sets its own, on its own copy, and in a
 *user namespace flags that are inherited could not be taken back. The exception is read-only for a
 *disk, which has to be known to the file system.
 *
 * One flag is inherited always, the way of updating access times, and a user namespace may not
 * change it: for a container with one, whose mount asks for another way, there is a copy with that
 * in <c->dir>/copy<i>.
 *
 * But for that PID 1 does not look at what is in the virtio-fs, not even at its root directory: a
 * host end that does not answer blocks whoever asks, and that should be a container's process.
 *
 * When a container's init has ended the machine may be gone a moment later, without any unmount:
 *its disks are made read-only then, which leaves file system and journal as an unmount would.
 *
 * A journal is replayed when a disk is mounted, which takes writing. A read-only mount of a
 * writable disk does that, too; on a read-only disk it is impossible, and ext4 and xfs refuse
 * (EROFS) unless they are told to look at the disk as it is.
 */
#include "agent/volumes.h"
#include "agent/disk.h"
#include "agent/filesystem.h"
#include "agent/mounts.h"
#include "agent/namespaces.h"
#include "agent/projects.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define UNUSED_WAIT_US 3000000

static bool is_mount_point(const char *path)
{
	struct statx sx;

	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0,
		     &sx) == 0 &&
	       (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

#define ATIME_FLAGS (MS_NOATIME | MS_STRICTATIME | MS_RELATIME | MS_NODIRATIME)
#define ATIME_ATTRS ((uint64_t)(MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME))

/* Options of access times that a container in a user namespace cannot set. */
static bool needs_copy(const struct container *c, const struct mount_options *o)
{
	return ns_own(c->spec, OCI_NS_USER) && (((o->flags | o->clear_flags) & ATIME_FLAGS) ||
						((o->rec_set | o->rec_clear) & ATIME_ATTRS));
}

/* Where the data is before any copy. */
static char *original(const struct container *c, const struct proto_mount *m)
{
	switch (m->from) {
	case PROTO_MOUNT_PROJECT:
		return xasprintf("%s/%s", PROJECTS_DIR, m->name);
	case PROTO_MOUNT_SHARE:
		return xasprintf("%s/%s", SHARE_DIR, m->name);
	case PROTO_MOUNT_DEVICE:
		return xasprintf("/dev/%s", m->name);
	case PROTO_MOUNT_DISK:
		break;
	}
	return xasprintf("%s/disk%zu", c->dir, m->index);
}

char *volumes_path(const struct container *c, const struct proto_mount *m)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	const struct oci_mount *om = &c->spec->mounts[m->index];

	mount_options_parse(om->options, om->n_options, &o);
	if (needs_copy(c, &o))
		return xasprintf("%s/copy%zu", c->dir, m->index);
	return original(c, m);
}

/* ---- virtio-fs */

static int mount_share(struct error *err)
{
	if (is_mount_point(SHARE_DIR))
		return 0;
	if (mkdir(SHARE_DIR, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", SHARE_DIR);
	if (mount(SHARE_TAG, SHARE_DIR, "virtiofs", 0, NULL) == 0)
		return 0;
	if (errno == EINVAL)
		return error_set(err, "the machine has no virtio-fs \"%s\"", SHARE_TAG);
	return error_errno(err, "mount virtio-fs \"%s\" on %s", SHARE_TAG, SHARE_DIR);
}

/* ---- disks */

/* "loop" tells mount(8) to make a block device of an image file: the host has done that. */
static char **without_loop(const struct oci_mount *om, size_t *n)
{
	char **v = xcalloc(om->n_options + 1, sizeof(*v));

	*n = 0;
	for (size_t i = 0; i < om->n_options; i++)
		if (strcmp(om->options[i], "loop") != 0)
			v[(*n)++] = om->options[i];
	return v;
}

static bool is_readonly(const struct disk *d)
{
	cleanup_close int fd = open(d->node, O_RDONLY | O_CLOEXEC);
	int ro = 0;

	return fd >= 0 && ioctl(fd, BLKROGET, &ro) == 0 && ro;
}

/* What to do about a refusal that has to do with writing. */
static int explain(const struct filesystem *f, const struct disk *d, struct error *err)
{
	const char *option = strcmp(f->type, "xfs") == 0 ? "norecovery" : "noload";

	if (!err || (err->errnum != EROFS && err->errnum != EACCES) || !is_readonly(d))
		return -1;
	if (!f->readonly)
		return error_kind(err, ERR_INVALID,
				  "the disk is read-only: the mount needs the option \"ro\"");
	return error_set(err,
			 "%s: the file system was not unmounted and its journal cannot be replayed "
			 "on a read-only disk: mount it writable once, or with the option \"%s\"",
			 f->type, option);
}

static int make_disk(const struct oci_mount *om, const char *type, const struct disk *d,
		     struct error *err)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	struct filesystem f = {.type = type, .source = d->node, .o = &o};
	cleanup_free char **options = NULL;
	size_t n;
	int fd;

	options = without_loop(om, &n);
	mount_options_parse(options, n, &o);
	f.readonly = (o.flags & MS_RDONLY) || (o.rec_set & MOUNT_ATTR_RDONLY) ||
		     strcmp(type, "erofs") == 0 || strcmp(type, "squashfs") == 0;
	fd = filesystem_make(&f, err);
	return fd < 0 ? explain(&f, d, err) : fd;
}

static int mount_disk(const struct container *c, const struct proto_mount *m, struct error *err)
{
	cleanup_free char *path = original(c, m);
	cleanup_close int at = -1;
	cleanup_close int fd = -1;
	struct disk d;

	if (disk_find(m->serial, &d, err) < 0)
		return -1;
	fd = make_disk(&c->spec->mounts[m->index], m->type, &d, err);
	if (fd < 0)
		return error_wrap(err, "disk \"%s\" (%s)", m->serial, d.node);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", path);
	at = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (at < 0)
		return error_errno(err, "open %s", path);
	return filesystem_attach(fd, at, err);
}

static int unmount(const char *path, struct error *err)
{
	if (is_mount_point(path) && umount2(path, UMOUNT_NOFOLLOW) < 0) {
		/* It goes when its last user does, and who waits for a disk sees that. */
		log_warn("umount %s: %s; detaching it", path, strerror(errno));
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return error_errno(err, "umount %s", path);
	}
	if (unlink(path) < 0 && errno != ENOENT && rmdir(path) < 0)
		return error_errno(err, "remove %s", path);
	return 0;
}

static int unmount_disk(const struct container *c, const struct proto_mount *m, struct error *err)
{
	cleanup_free char *path = original(c, m);
	struct disk d;

	if (unmount(path, err) < 0)
		return -1;
	/* Another container may have it, too. */
	if (!disk_lookup(m->serial, &d) || disk_is_mounted(&d))
		return 0;
	if (disk_wait_unused(&d, UNUSED_WAIT_US, err) < 0)
		return error_wrap(err, "disk \"%s\"", m->serial);
	return 0;
}

/* True if the agent has the disk of `path` mounted elsewhere, for another container. */
static bool is_shared(const struct container *c, const char *path)
{
	cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *own = xasprintf("%s/", c->dir);
	cleanup_free char *line = NULL;
	size_t size = 0;
	struct stat st;

	if (stat(path, &st) < 0)
		return true;
	while (f && getline(&line, &size, f) > 0) {
		unsigned major, minor;
		int at = 0;

		if (sscanf(line, "%*d %*d %u:%u %*s %n", &major, &minor, &at) == 2 && at > 0 &&
		    makedev(major, minor) == st.st_dev && strncmp(line + at, own, strlen(own)) != 0)
			return true;
	}
	return false;
}

static int make_readonly(const char *path, struct error *err)
{
	cleanup_close int fs = fspick(AT_FDCWD, path, FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0) < 0)
		return error_errno(err, "make %s read-only", path);
	return 0;
}

/* Somebody may still write: to a disk that is shared, or a process that has outlived the init. */
static void settle_disk(const struct container *c, const struct proto_mount *m)
{
	cleanup_free char *path = original(c, m);
	struct error err = ERROR_INIT;
	cleanup_close int fd = -1;

	if (!is_mount_point(path))
		return;
	if (!is_shared(c, path)) {
		if (make_readonly(path, &err) == 0)
			return;
		log_debug("%s", err.msg);
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		log_warn("container %s: disk \"%s\": sync: %s", c->id, m->serial, strerror(errno));
}

/* ---- copies for user namespaces */

static int set_atime(int fd, bool recursive, uint64_t set, uint64_t clear, struct error *err)
{
	struct mount_attr attr = {.attr_set = set & ATIME_ATTRS, .attr_clr = clear & ATIME_ATTRS};

	if (mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return error_errno(err, "set mount attributes");
	return 0;
}

/* An empty file or directory, as what `fd` is. */
static int make_mount_point(const char *path, int fd, struct error *err)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_errno(err, "stat");
	r = S_ISDIR(st.st_mode) ? mkdir(path, 0755) : mknod(path, S_IFREG | 0644, 0);
	if (r < 0 && errno != EEXIST)
		return error_errno(err, "make %s", path);
	r = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return r < 0 ? error_errno(err, "open %s", path) : r;
}

static int make_copy(const struct container *c, const struct proto_mount *m, struct error *err)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	const struct oci_mount *om = &c->spec->mounts[m->index];
	cleanup_free char *from = original(c, m);
	cleanup_free char *to = volumes_path(c, m);
	cleanup_close int fd = -1;
	cleanup_close int at = -1;
	uint64_t set, clear;

	mount_options_parse(om->options, om->n_options, &o);
	if (!needs_copy(c, &o))
		return 0;
	fd = open_tree(AT_FDCWD, from,
		       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
			       (o.flags & MS_REC ? AT_RECURSIVE : 0));
	if (fd < 0) /* what is missing is the init's error */
		return errno == ENOENT ? 0 : error_errno(err, "bind %s", from);
	mounts_attributes(o.flags, o.clear_flags, &set, &clear);
	if (set_atime(fd, false, set, clear, err) < 0 ||
	    set_atime(fd, true, o.rec_set, o.rec_clear, err) < 0)
		return -1;
	at = make_mount_point(to, fd, err);
	return at < 0 ? -1 : filesystem_attach(fd, at, err);
}

static int remove_copy(const struct container *c, const struct proto_mount *m, struct error *err)
{
	cleanup_free char *from = original(c, m);
	cleanup_free char *to = volumes_path(c, m);

	return strcmp(from, to) == 0 ? 0 : unmount(to, err);
}

/* ---- of a container */

int volumes_prepare(const struct container *c, struct error *err)
{
	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct proto_mount *m = &c->mounts[i];
		int r = 0;

		if (m->from == PROTO_MOUNT_SHARE)
			r = mount_share(err);
		else if (m->from == PROTO_MOUNT_DISK)
			r = mount_disk(c, m, err);
		if (r < 0 || make_copy(c, m, err) < 0)
			return error_wrap(err, "mounts[%zu] (%s)", m->index,
					  c->spec->mounts[m->index].destination);
	}
	return 0;
}

void volumes_settle(const struct container *c)
{
	for (size_t i = 0; i < c->n_mounts; i++)
		if (c->mounts[i].from == PROTO_MOUNT_DISK)
			settle_disk(c, &c->mounts[i]);
}

int volumes_release(const struct container *c, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct proto_mount *m = &c->mounts[i];

		if (remove_copy(c, m, r < 0 ? NULL : err) < 0 ||
		    (m->from == PROTO_MOUNT_DISK && unmount_disk(c, m, r < 0 ? NULL : err) < 0))
			r = -1;
	}
	return r;
}
