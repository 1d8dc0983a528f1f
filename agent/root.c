/*
 * The root of a container, and of PID 1.
 *
 * PID 1 starts on the initramfs, whose mount is the one that has no parent: pivot_root(2) refuses
 * (EINVAL) to move it away, for PID 1 and for every mount namespace copied from its own. So before
 * anything else PID 1 mounts a tmpfs, moves it over "/" and changes its root there. In a copy of
 * that namespace pivot_root() works as on any host: the tmpfs is taken off with all that is mounted
 * beneath it, and what lies under the container's root is an initramfs with nothing mounted in it.
 *
 * A container's root is put together in PID 1's mount namespace, where it outlives the container's
 * processes (the upper layer is read when they have ended):
 *
 *	/run/husk/<id>/lower0	a disk, read-only: EROFS made of the bundle's directory, or whatever
 *	/run/husk/<id>/lower1	file system the bundle's root was; each above the next (to lower2)
 *	/run/husk/<id>/scratch	the ext4 disk, holding upper/ and work/; without one a tmpfs
 *	/run/husk/<id>/root	overlayfs of them all
 *
 * The tmpfs takes nothing but the mount points that the root lacks: without a scratch disk the
 * container sees its root read-only. Overlayfs makes neither redirects nor metadata-only copies, so
 * that the upper layer is nothing but whiteouts, opaque directories and whole files. Where the
 * lower has hard links it keeps an index (in work/), so that a file with several names is copied up
 * once for all of them.
 *
 * The scratch has a journal: what was synced survives the end of the machine, and is read by
 * another guest then (agent/tools.c). Lower disks are never written to, not even to replay theirs.
 *
 * The container's processes see it through mounts of their own, which vanish with their mount
 * namespace. The kernel does that a moment after the last process is reaped, and until then the
 * disks are busy although PID 1 has unmounted them: root_unmount() waits for the devices.
 */
#include "agent/root.h"
#include "agent/disk.h"
#include "agent/namespaces.h"
#include "agent/slots.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define SCRATCH_TMPFS "mode=755,size=4m"
#define UNUSED_WAIT_US 3000000

int agent_leave_initramfs(struct error *err)
{
	static const char *const dirs[] = {"/proc", "/sys", "/dev", "/run", "/tmp"};

	if (mkdir("/root", 0755) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir /root");
	if (mount("root", "/root", "tmpfs", MS_NOSUID, "mode=755,size=1m") < 0)
		return error_errno(err, "mount a tmpfs on /root");
	if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return error_errno(err, "make a tmpfs the root");
	for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
		if (mkdir(dirs[i], 0755) < 0)
			return error_errno(err, "mkdir %s", dirs[i]);
	return 0;
}

static char *sub(const struct container *c, const char *name)
{
	return xasprintf("%s/%s", c->dir, name);
}

static char *sub_n(const struct container *c, const char *name, size_t n)
{
	return xasprintf("%s/%s%zu", c->dir, name, n);
}

static int make_dir(const char *path, mode_t mode, struct error *err)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", path);
	return 0;
}

/* How a disk of that type is mounted without a write to it, whatever state it was left in. */
static const char *lower_options(const char *type)
{
	if (strcmp(type, "ext4") == 0)
		return "noload";
	return strcmp(type, "xfs") == 0 ? "norecovery,nouuid" : NULL;
}

static int mount_lower(const struct container *c, size_t i, struct error *err)
{
	const struct proto_lower *l = &c->root.lower[i];
	cleanup_free char *at = sub_n(c, "lower", i);
	uint64_t deadline = now_us() + UNUSED_WAIT_US;
	unsigned long pause = 0;
	struct disk d;

	if (disk_find(l->serial, &d, err) < 0)
		return error_wrap(err, "root (lower)");
	if (make_dir(at, 0755, err) < 0)
		return -1;
	/* Another container that had it may be leaving: its last unmount takes a moment. */
	while (mount(d.node, at, l->type, MS_RDONLY | MS_NODEV | MS_NOSUID,
		     lower_options(l->type)) < 0) {
		if (errno != EBUSY || now_us() >= deadline)
			return error_errno(err, "root (lower): mount disk \"%s\" (%s) as %s",
					   l->serial, d.node, l->type);
		slots_pause(&pause);
	}
	return 0;
}

/* One directory's extended attributes (ACLs, labels) to another that has none. */
static int copy_dir_xattrs(const char *from, const char *to, struct error *err)
{
	cleanup_free char *names = xcalloc(1, XATTR_LIST_MAX);
	cleanup_free char *value = xcalloc(1, XATTR_SIZE_MAX);
	ssize_t n = listxattr(from, names, XATTR_LIST_MAX);

	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
		ssize_t len;

		if (strncmp(names + i, "trusted.overlay.", 16) == 0)
			continue;
		len = getxattr(from, names + i, value, XATTR_SIZE_MAX);
		if (len < 0 || setxattr(to, names + i, value, (size_t)len, 0) < 0)
			return error_errno(err, "attribute %s of %s", names + i, to);
	}
	return 0;
}

/* The merged root directory takes its attributes from upper/: when that is new, from the topmost
 * lower. The host's template has it made already, with mode 0 to say that it is new. */
static int make_upper_dir(const struct container *c, const char *upper, struct error *err)
{
	cleanup_free char *lower = sub_n(c, "lower", 0);
	struct stat st;

	if (mkdir(upper, 0) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", upper);
	if (stat(upper, &st) == 0 && (st.st_mode & 07777) != 0)
		return 0;
	if (copy_dir_xattrs(lower, upper, err) < 0)
		return -1;
	/* The mode last: on a disk that was cut off, one other than 0 says that all this is done.
	 */
	if (stat(lower, &st) < 0 || chown(upper, st.st_uid, st.st_gid) < 0 ||
	    utimensat(AT_FDCWD, upper, (struct timespec[]){st.st_atim, st.st_mtim}, 0) < 0 ||
	    chmod(upper, st.st_mode & 07777) < 0)
		return error_errno(err, "owner, mode and times of %s", upper);
	return 0;
}

static int mount_upper(const struct container *c, struct error *err)
{
	cleanup_free char *at = sub(c, "scratch");
	cleanup_free char *upper = sub(c, "scratch/upper");
	cleanup_free char *work = sub(c, "scratch/work");
	struct disk d;

	if (make_dir(at, 0700, err) < 0)
		return -1;
	if (!c->root.upper[0]) {
		if (mount("scratch", at, "tmpfs", MS_NODEV | MS_NOSUID, SCRATCH_TMPFS) < 0)
			return error_errno(err, "mount a tmpfs on %s", at);
	} else {
		if (disk_find(c->root.upper, &d, err) < 0)
			return error_wrap(err, "root (upper)");
		if (mount(d.node, at, "ext4", MS_NOATIME | MS_NODEV | MS_NOSUID, "discard") < 0)
			return error_errno(err, "root (upper): mount disk \"%s\" (%s) as ext4",
					   c->root.upper, d.node);
	}
	if (make_upper_dir(c, upper, err) < 0)
		return -1;
	return make_dir(work, 0755, err);
}

/* "lower0:lower1:...", topmost first. */
static char *lower_dirs(const struct container *c)
{
	char *all = sub_n(c, "lower", 0);

	for (size_t i = 1; i < c->root.n_lower; i++) {
		cleanup_free char *above = all;

		all = xasprintf("%s:%s/lower%zu", above, c->dir, i);
	}
	return all;
}

static int mount_overlay(const struct container *c, struct error *err)
{
	cleanup_free char *lower = lower_dirs(c);
	cleanup_free char *at = sub(c, "root");
	cleanup_free char *data =
		xasprintf("lowerdir=%s,upperdir=%s/scratch/upper,workdir=%s/scratch/work,"
			  "redirect_dir=nofollow,metacopy=off,index=%s",
			  lower, c->dir, c->dir, c->root.index ? "on" : "off");

	if (make_dir(at, 0755, err) < 0)
		return -1;
	if (mount("overlay", at, "overlay", 0, data) < 0)
		return error_errno(err, "mount overlay (%s) on %s", data, at);
	return 0;
}

int root_note(struct container *c, struct error *err)
{
	cleanup_free char *upper = sub(c, "scratch/upper");
	cleanup_free char *lower = sub_n(c, "lower", 0);
	struct stat st;

	if (stat(lower, &st) < 0)
		return error_errno(err, "stat %s", lower);
	c->disk_major = major(st.st_dev);
	if (stat(upper, &st) < 0)
		return error_errno(err, "stat %s", upper);
	c->upper_ctime = st.st_ctim;
	return 0;
}

int root_mount(const struct container *c, struct error *err)
{
	/* 0711: the root of a user namespace goes through here, and is nobody special */
	if (mkdir_p(c->dir, 0711, err) < 0)
		return -1;
	for (size_t i = 0; i < c->root.n_lower; i++)
		if (mount_lower(c, i, err) < 0)
			return -1;
	return mount_upper(c, err) < 0 ? -1 : mount_overlay(c, err);
}

/* Whatever is made beneath the upper directory has something made, or changed, in it: copies of
 * the directories that lead there. */
bool root_is_clean(const struct container *c)
{
	cleanup_free char *upper = sub(c, "scratch/upper");
	struct stat st;

	if (!c->root.upper[0] || !ns_new(c, OCI_NS_PID) || stat(upper, &st) < 0)
		return false;
	return st.st_ctim.tv_sec == c->upper_ctime.tv_sec &&
	       st.st_ctim.tv_nsec == c->upper_ctime.tv_nsec && dir_is_empty(AT_FDCWD, upper);
}

/* True if something is mounted at `path`. */
static bool is_mount_point(const char *path)
{
	struct statx sx;

	return statx(AT_FDCWD, path, AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW, 0, &sx) == 0 &&
	       (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT);
}

static int unmount(const struct container *c, const char *name, struct error *err)
{
	cleanup_free char *at = sub(c, name);

	while (is_mount_point(at)) {
		if (umount2(at, UMOUNT_NOFOLLOW) == 0)
			continue;
		/* Last resort: it goes when its last user does, and the wait below sees that. */
		log_warn("umount %s: %s; detaching it", at, strerror(errno));
		if (umount2(at, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return error_errno(err, "umount %s", at);
	}
	if (rmdir(at) < 0 && errno != ENOENT)
		return error_errno(err, "rmdir %s", at);
	return 0;
}

static int wait_unused(const char *serial, struct error *err)
{
	struct disk d;

	if (!*serial || !disk_lookup(serial, &d) || disk_is_mounted(&d))
		return 0;
	if (disk_wait_unused(&d, UNUSED_WAIT_US, err) < 0)
		return error_wrap(err, "disk \"%s\"", serial);
	return 0;
}

int root_unmount(const struct container *c, struct error *err)
{
	static const char *const names[] = {"root",   "scratch", "lower0", "lower1",
					    "lower2", "sys",	 "dev"};
	int r = 0;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (unmount(c, names[i], r < 0 ? NULL : err) < 0)
			r = -1;
	if (r == 0 && rmdir(c->dir) < 0 && errno != ENOENT)
		r = error_errno(err, "rmdir %s", c->dir);
	if (wait_unused(c->root.upper, r < 0 ? NULL : err) < 0)
		r = -1;
	for (size_t i = 0; i < c->root.n_lower; i++)
		if (wait_unused(c->root.lower[i].serial, r < 0 ? NULL : err) < 0)
			r = -1;
	return r;
}

/* ---- for those who read or write it from outside */

static int open_dir(const struct container *c, const char *name, struct error *err)
{
	cleanup_free char *path = sub(c, name);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? error_errno(err, "open %s", path) : fd;
}

int root_open_upper(const struct container *c, struct error *err)
{
	return open_dir(c, "scratch/upper", err);
}

int root_open_merged(const struct container *c, struct error *err)
{
	return open_dir(c, "root", err);
}

int root_open_dir(const struct container *c, struct error *err)
{
	return open_dir(c, ".", err);
}

/* A mount without a mount point. Read-only: ext4 replays its journal all the same, if the disk can
 * be written. */
static int mount_scratch(const struct disk *d, struct error *err)
{
	cleanup_close int fs = fsopen("ext4", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", d->node, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, "mount %s as ext4", d->node);
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? error_errno(err, "mount %s", d->node) : fd;
}

int root_open_scratch(const char *serial, struct error *err)
{
	cleanup_close int top = -1;
	struct disk d;
	int fd;

	if (disk_find(serial, &d, err) < 0)
		return -1;
	if (disk_is_mounted(&d))
		return error_set(err, "disk \"%s\" is a container's", serial);
	top = mount_scratch(&d, err);
	if (top < 0)
		return error_wrap(err, "disk \"%s\"", serial);
	fd = openat(top, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? error_errno(err, "disk \"%s\": open upper", serial) : fd;
}

int root_enter(int root_fd, struct error *err)
{
	if (fchdir(root_fd) < 0)
		return error_errno(err, "chdir to the container's root");
	/* The old root ends up over the new one, and is taken off from there. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return error_errno(err, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0)
		return error_errno(err, "umount the old root");
	if (chdir("/") < 0)
		return error_errno(err, "chdir /");
	return 0;
}
