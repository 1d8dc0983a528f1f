/*
 * Volumes that are disks: mounted by their serial at <c->dir>/disk<i> (i: index in config.mounts).
 *
 * The mount has no flags but read-only, which has to be known to the file system; the container
 * binds it with its own.
 *
 * When a container's init has ended the machine may be gone a moment later, without any unmount:
 * its disks are made read-only then, which leaves file system and journal as an unmount would.
 *
 * A journal is replayed when a disk is mounted, which takes writing. A read-only mount of a
 * writable disk does that, too; on a read-only disk it is impossible, and ext4 and xfs refuse
 * (EROFS) unless they are told to look at the disk as it is.
 */
#include "agent/disk.h"
#include "agent/filesystem.h"
#include "agent/volumes.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define UNUSED_WAIT_US 3000000

bool volume_is_mounted(const char *path)
{
	struct statx sx;

	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0,
		     &sx) == 0 &&
	       (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

int volume_unmount(const char *path, struct error *err)
{
	if (volume_is_mounted(path) && umount2(path, UMOUNT_NOFOLLOW) < 0) {
		/* It goes when its last user does, and who waits for a disk sees that. */
		log_warn("umount %s: %s; detaching it", path, strerror(errno));
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return error_errno(err, "umount %s", path);
	}
	if (unlink(path) < 0 && errno != ENOENT && rmdir(path) < 0)
		return error_errno(err, "remove %s", path);
	return 0;
}

char *volume_disk_path(const struct container *c, const struct proto_mount *m)
{
	return xasprintf("%s/disk%zu", c->dir, m->index);
}

/* ---- mount */

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

int volume_disk_mount(const struct container *c, const struct proto_mount *m, struct error *err)
{
	cleanup_free char *path = volume_disk_path(c, m);
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

int volume_disk_unmount(const struct container *c, const struct proto_mount *m, struct error *err)
{
	cleanup_free char *path = volume_disk_path(c, m);
	struct disk d;

	if (volume_unmount(path, err) < 0)
		return -1;
	/* Another container may have it, too. */
	if (!disk_lookup(m->serial, &d) || disk_is_mounted(&d))
		return 0;
	if (disk_wait_unused(&d, UNUSED_WAIT_US, err) < 0)
		return error_wrap(err, "disk \"%s\"", m->serial);
	return 0;
}

/* ---- settle */

/* True if the agent has the disk mounted elsewhere, for another container. */
static bool is_shared(const struct container *c, dev_t disk)
{
	cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *own = xasprintf("%s/", c->dir);
	cleanup_free char *line = NULL;
	bool shared = false;
	size_t size = 0;

	while (f && !shared && getline(&line, &size, f) > 0) {
		unsigned major, minor;
		int at = 0;

		shared = sscanf(line, "%*d %*d %u:%u %*s %n", &major, &minor, &at) == 2 && at > 0 &&
			 makedev(major, minor) == disk && strncmp(line + at, own, strlen(own)) != 0;
	}
	return shared;
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
	cleanup_free char *path = volume_disk_path(c, m);
	struct error err = ERROR_INIT;
	cleanup_close int fd = -1;
	struct stat st;

	if (!volume_is_mounted(path))
		return;
	if (stat(path, &st) == 0 && !is_shared(c, st.st_dev)) {
		if (make_readonly(path, &err) == 0)
			return;
		log_debug("%s", err.msg);
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		log_warn("container %s: disk \"%s\": sync: %s", c->id, m->serial, strerror(errno));
}

bool volumes_have_disk(const struct container *c)
{
	for (size_t i = 0; i < c->n_mounts; i++)
		if (c->mounts[i].from == PROTO_MOUNT_DISK)
			return true;
	return false;
}

void volumes_settle(const struct container *c)
{
	for (size_t i = 0; i < c->n_mounts; i++)
		if (c->mounts[i].from == PROTO_MOUNT_DISK)
			settle_disk(c, &c->mounts[i]);
}
