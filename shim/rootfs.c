/*
 * What kind of thing a rootfs directory is, and how it is known again.
 *
 * The kernel is asked for the number of the mount that the directory is on, so that the mount meant
 * is always the topmost one at that path; mountinfo then says what it is. Only the root of a mount
 * can be more than a plain directory, and only if nothing is mounted beneath it: what the container
 * is to see there is then not in the layers or on the device.
 *
 * Everything that is not sure becomes a plain directory, which is always right: a tree of what the
 * mount shows. An overlay is taken apart into its layers for speed (the lower ones are the same for
 * all containers of an image, and their tree is in the cache), a device is attached for speed.
 *
 * Docker puts a layer of the container's own (<id>-init) between the image and the upper directory.
 * It is not part of the chain, which would otherwise be another one for each container: it gets a
 * small tree of its own.
 */
#include "shim/rootfs.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x00002000
#endif
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x00001000U
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

/* ---- looks */

static int look(int fd, const char *path, struct statx *sx, struct error *err)
{
	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_INO | STATX_BTIME | STATX_MNT_ID,
		  sx) < 0)
		return error_errno(err, "stat %s", path);
	return 0;
}

static void take_identity(struct rootfs_id *id, const struct statx *sx)
{
	id->dev = makedev(sx->stx_dev_major, sx->stx_dev_minor);
	id->ino = sx->stx_ino;
	id->born = sx->stx_mask & STATX_BTIME
			   ? (uint64_t)sx->stx_btime.tv_sec * 1000000000 + sx->stx_btime.tv_nsec
			   : 0;
}

static bool unstable_inodes(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) < 0 || fs.f_type == OVERLAYFS_SUPER_MAGIC ||
	       fs.f_type == FUSE_SUPER_MAGIC;
}

/* ---- overlay */

/* A layer "<id>-init/diff" as Docker makes it: engines name layers by symbolic links. */
static bool is_init_layer(const char *lower)
{
	cleanup_free char *real = realpath(lower, NULL);
	size_t n = real ? strlen(real) : 0;

	return n > 10 && strcmp(real + n - 10, "-init/diff") == 0;
}

/* Where upper and lower directories are on one file system, the overlay's root has the inode number
 * of the upper directory: the paths of the mount then still name what it is made of. */
static bool upper_matches(const struct rootfs *r, const struct statx *merged,
			  const struct statx *upper)
{
	for (size_t i = 0; i < r->layers.n; i++) {
		struct stat st;

		if (stat(r->layers.lowers[i], &st) < 0 || !S_ISDIR(st.st_mode))
			return false;
		if (st.st_dev != makedev(upper->stx_dev_major, upper->stx_dev_minor))
			return true;
	}
	return merged->stx_ino == upper->stx_ino;
}

/* Engines give a container with a user namespace the layers of its image by mounts that map ids.
 * The layers' directories have other ids than the overlay shows then; or nothing any more, when
 * these mounts were taken away after the overlay was made. */
static bool lowers_are_plain(const struct rootfs *r, const struct statx *upper)
{
	for (size_t i = 0; i < r->layers.n; i++) {
		cleanup_mount_entry struct mount_entry m = {0};
		cleanup_close int fd = open(r->layers.lowers[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		struct statx sx;

		if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) < 0)
			return false;
		if (sx.stx_mnt_id != upper->stx_mnt_id &&
		    (mountinfo_of(fd, &m, NULL) <= 0 || m.idmapped))
			return false;
	}
	return !dir_is_empty(AT_FDCWD, r->layers.lowers[r->layers.n - 1]);
}

/* True if it can be taken apart. */
static bool open_overlay(struct rootfs *r, const struct mount_entry *m, const struct statx *merged)
{
	cleanup_close int upper = -1;
	struct statx sx;

	if (!overlay_parse(m->options, &r->layers))
		return false;
	if (!r->layers.upper)
		return false;
	upper = open(r->layers.upper, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (upper < 0 || look(upper, r->layers.upper, &sx, NULL) < 0 ||
	    !upper_matches(r, merged, &sx) || !lowers_are_plain(r, &sx))
		return false;
	take_identity(&r->id, &sx);
	r->id.upper = xstrdup(r->layers.upper);
	r->mutable_dir = xstrdup(r->layers.upper);
	if (r->layers.n > 1 && is_init_layer(r->layers.lowers[0]))
		r->n_init = 1;
	r->kind = ROOTFS_OVERLAY;
	return true;
}

/* ---- device */

static int open_device(const struct mount_entry *m)
{
	cleanup_close int fd = open(m->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (S_ISBLK(st.st_mode))
		return st.st_rdev == makedev(m->major, m->minor) ? steal_fd(&fd) : -1;
	/* erofs mounts image files without a loop device */
	return S_ISREG(st.st_mode) && strcmp(m->type, "erofs") == 0 ? steal_fd(&fd) : -1;
}

/* True if the mount is one whole device that a guest can mount, too. */
static bool open_block(struct rootfs *r, const struct mount_entry *m)
{
	static const char *const types[] = {"ext4", "xfs", "erofs", "squashfs"};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcmp(m->type, types[i]) == 0)
			r->disks[0].type = types[i];
	if (!r->disks[0].type || strcmp(r->id.path, "/") == 0 ||
	    /* data elsewhere than on that one device */
	    mount_has_option(m->options, "device", NULL) ||
	    mount_has_option(m->options, "fsid", NULL) ||
	    mount_has_option(m->options, "logdev", NULL) ||
	    mount_has_option(m->options, "rtdev", NULL))
		return false;
	r->device = open_device(m);
	if (r->device < 0)
		return false;
	r->device_written = !mount_has_option(m->options, "ro", NULL);
	r->kind = ROOTFS_BLOCK;
	return true;
}

/* ---- open */

static int look_at_mount(struct rootfs *r, const struct statx *sx, bool children, struct error *err)
{
	cleanup_mount_entry struct mount_entry m = {0};
	int found = mountinfo_of(r->dirfd, &m, err);

	if (found < 0)
		return -1;
	if (found == 0 || strcmp(m.root, "/") != 0)
		return 0;
	if (m.idmapped) {
		log_debug("%s: maps ids: taken as a plain directory", r->id.path);
		return 0;
	}
	if (m.has_children && !children) {
		log_debug("%s: has mounts beneath it: taken as a plain directory", r->id.path);
		return 0;
	}
	if (strcmp(m.type, "overlay") == 0 && !open_overlay(r, &m, sx)) {
		overlay_layers_free(&r->layers);
		log_debug("%s: an overlay that cannot be taken apart (%s): taken as one directory",
			  r->id.path, m.options);
	} else if (r->kind == ROOTFS_PLAIN) {
		open_block(r, &m);
	}
	return 0;
}

bool rootfs_upper_is_bare(const struct rootfs *r)
{
	struct stat upper, below;

	return dir_is_empty(AT_FDCWD, r->layers.upper) && stat(r->layers.upper, &upper) == 0 &&
	       stat(r->layers.lowers[0], &below) == 0 && upper.st_mode == below.st_mode &&
	       upper.st_uid == below.st_uid && upper.st_gid == below.st_gid;
}

static void count_disks(struct rootfs *r, bool may_change)
{
	r->n_disks = 1;
	if (r->kind != ROOTFS_OVERLAY)
		return;
	r->n_disks += r->n_init;
	if (may_change || !rootfs_upper_is_bare(r))
		r->n_disks++;
}

/* `children`: mounts beneath it do not matter. */
static int open_rootfs(const char *path, bool may_change, bool children, struct rootfs *r,
		       struct error *err)
{
	struct statx sx;

	*r = (struct rootfs){.dirfd = -1, .device = -1};
	for (unsigned i = 0; i < ROOTFS_DISKS_MAX; i++)
		r->disks[i].tree = r->disks[i].dir = r->disks[i].device = -1;
	r->dirfd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r->dirfd < 0)
		return error_errno(err, "open %s", path);
	r->id.path = realpath(path, NULL);
	if (!r->id.path || look(r->dirfd, path, &sx, err) < 0) {
		if (!r->id.path)
			error_errno(err, "resolve %s", path);
		rootfs_free(r);
		return -1;
	}
	take_identity(&r->id, &sx);
	r->id.mounted = sx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
	r->unstable = unstable_inodes(r->dirfd);
	if (r->id.mounted && look_at_mount(r, &sx, children, err) < 0) {
		rootfs_free(r);
		return error_wrap(err, "%s", path);
	}
	if (r->unstable && r->kind == ROOTFS_PLAIN)
		r->id.ino = r->id.born = 0;
	if (!r->mutable_dir)
		r->mutable_dir = xstrdup(r->id.path);
	count_disks(r, may_change);
	return 0;
}

int rootfs_open(const char *path, bool may_change, struct rootfs *r, struct error *err)
{
	return open_rootfs(path, may_change, false, r, err);
}

void rootfs_free(struct rootfs *r)
{
	for (unsigned i = 0; i < r->n_disks; i++) {
		close_fd(&r->disks[i].tree);
		close_fd(&r->disks[i].dir);
		close_fd(&r->disks[i].device);
	}
	close_fd(&r->device);
	close_fd(&r->dirfd);
	overlay_layers_free(&r->layers);
	rootfs_id_free(&r->id);
	free(r->mutable_dir);
	r->mutable_dir = NULL;
	r->n_disks = 0;
}

/* ---- identity */

void rootfs_id_free(struct rootfs_id *id)
{
	free(id->path);
	free(id->upper);
	id->path = id->upper = NULL;
}

static bool same_node(const struct rootfs_id *a, const struct rootfs_id *b)
{
	return a->ino == b->ino && (a->born == b->born || !a->born || !b->born);
}

int rootfs_reopen(const struct rootfs_id *id)
{
	struct rootfs now;
	int fd = -1;

	/* `docker cp` mounts volumes beneath it for a moment: it is the same overlay. */
	if (open_rootfs(id->path, false, id->upper != NULL, &now, NULL) < 0)
		return -1;
	/* Where the node says nothing, at least something has to be mounted as it was. */
	if (strcmp(now.id.path, id->path) == 0 && !now.id.upper == !id->upper &&
	    (!id->upper || strcmp(now.id.upper, id->upper) == 0) && same_node(&now.id, id) &&
	    (id->ino != 0 || now.id.mounted == id->mounted))
		fd = openat(now.dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rootfs_free(&now);
	return fd;
}

bool rootfs_is(const struct rootfs_id *id)
{
	cleanup_close int fd = rootfs_reopen(id);

	return fd >= 0;
}

/* True if the file system that held `path` is there, and `path` is not. A file system that is not
 * mounted now looks like another device. */
static bool removed(const char *path, uint64_t dev)
{
	cleanup_free char *at = xstrdup(path);
	struct stat st;

	if (stat(at, &st) == 0 || errno != ENOENT)
		return false;
	for (char *slash; (slash = strrchr(at, '/'));) {
		*slash = '\0';
		if (stat(at[0] ? at : "/", &st) == 0)
			return st.st_dev == dev;
		if (errno != ENOENT)
			return false;
	}
	return false;
}

bool rootfs_may_return(const struct rootfs_id *id)
{
	struct rootfs_id now = {0};
	struct statx sx;

	if (id->upper)
		return !removed(id->upper, id->dev);
	if (id->mounted)
		return true;
	if (removed(id->path, id->dev))
		return false;
	if (statx(AT_FDCWD, id->path, AT_NO_AUTOMOUNT, STATX_INO | STATX_BTIME, &sx) < 0)
		return true;
	take_identity(&now, &sx);
	/* Another directory in its place; a mount over it may be taken off again, and one that it
	 * was on may come back. */
	return (sx.stx_attributes & STATX_ATTR_MOUNT_ROOT) || id->ino == 0 || now.dev != id->dev ||
	       same_node(&now, id);
}
