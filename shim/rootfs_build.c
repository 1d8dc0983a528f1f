/*
 * The disks of a rootfs: trees, or the device that it is.
 *
 * The chain of an overlay's lower directories is read through an overlay of its own: read-only, of
 * these layers and nothing else, mounted nowhere. It lives as long as a descriptor of it does. So
 * whiteouts and opaque directories among the layers are the kernel's business, and what the tree
 * says of a file can be opened at the same path. A chain of one layer is read as it is, since an
 * overlay has at least two.
 */
#include "shim/rootfs.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/tree_cache.h"
#include "vmm/tree/build.h"
#include "vmm/tree/format.h"
#include "vmm/tree/read.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* ---- trees */

struct building {
	int dir;
	struct tree_build_options options;
};

static int build(void *arg, int out, struct error *err)
{
	const struct building *b = arg;
	struct tree_stats st = {0};
	uint64_t t = now_us();

	if (tree_build(b->dir, &b->options, out, &st, err) < 0)
		return -1;
	log_debug("tree: %llu members, %llu bytes", (unsigned long long)st.members,
		  (unsigned long long)st.tree_bytes);
	log_elapsed("walk of the tree", t);
	return 0;
}

static int open_dir(const char *path, struct error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? error_errno(err, "open %s", path) : fd;
}

static struct rootfs_disk *add_disk(struct rootfs *r, const char *serial, bool stable)
{
	struct rootfs_disk *d = &r->disks[r->n_disks++];

	*d = (struct rootfs_disk){
		.type = "erofs", .tree = -1, .dir = -1, .device = -1, .stable = stable};
	snprintf(d->serial, sizeof(d->serial), "%s", serial);
	return d;
}

static void drop_disks(struct rootfs *r)
{
	for (unsigned i = 0; i < r->n_disks; i++) {
		close_fd(&r->disks[i].tree);
		close_fd(&r->disks[i].dir);
	}
	r->n_disks = 0;
}

/* One tree of all that the directory shows. */
static int build_plain(struct rootfs *r, struct error *err)
{
	struct rootfs_disk *d = add_disk(r, "root", false);
	struct building b = {.options = {.inodes_unstable = r->unstable}};
	struct tree *tree;
	int copy;

	d->dir = openat(r->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->dir < 0)
		return error_errno(err, "open %s", r->id.path);
	b.dir = d->dir;
	d->tree = tree_in_memory(build, &b, err);
	if (d->tree < 0)
		return -1;
	copy = fcntl(d->tree, F_DUPFD_CLOEXEC, 3);
	tree = copy < 0 ? NULL : tree_open(copy, false, err);
	if (!tree)
		return -1;
	r->index = tree_hard_links(tree) > 0;
	tree_free(tree);
	return 0;
}

/* ---- overlay */

/* Hands the layers to the new overlay as /proc/self/fd/N: what was opened is what is meant, and the
 * name is short. */
static int name_each_layer(int fs, const int *fds, size_t n)
{
	char path[32];

	for (size_t i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fds[i]);
		if (fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir+", path, 0) < 0)
			return -1;
	}
	return 0;
}

/* The same in one value, of at most 255 bytes: relative names make it fit. */
static int name_all_layers(int fs, const int *fds, size_t n)
{
	char all[256] = "";
	size_t len = 0;
	int cwd, r;

	for (size_t i = 0; i < n; i++) {
		len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%d", i ? ":" : "", fds[i]);
		if (len >= sizeof(all)) {
			errno = E2BIG;
			return -1;
		}
	}
	cwd = open(".", O_PATH | O_CLOEXEC);
	if (cwd < 0)
		return -1;
	r = chdir("/proc/self/fd");
	if (r == 0)
		r = fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", all, 0);
	if (r == 0) /* an old kernel resolves the names here */
		r = fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (fchdir(cwd) < 0)
		r = -1;
	close(cwd);
	return r;
}

/* A new overlay of the layers, not mounted yet. "lowerdir+" is for those that do not fit in one
 * value: kernels before 6.5 do not know it, and complain of it in their log. */
static int new_overlay(const int *fds, size_t n)
{
	cleanup_close int fs = fsopen("overlay", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -1;
	if (name_all_layers(fs, fds, n) == 0)
		return steal_fd(&fs);
	if (errno != E2BIG || name_each_layer(fs, fds, n) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return steal_fd(&fs);
}

/* The root directory of a read-only overlay of these layers. */
static int overlay_view(const int *fds, size_t n, struct error *err)
{
	cleanup_close int fs = new_overlay(fds, n);
	cleanup_close int mnt = -1;
	int dir;

	if (fs < 0)
		return error_errno(err, "an overlay of %zu lower directories", n);
	mnt = fsmount(fs, FSMOUNT_CLOEXEC,
		      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID |
			      MOUNT_ATTR_NOATIME);
	if (mnt < 0)
		return error_errno(err, "mount an overlay of %zu lower directories", n);
	dir = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? error_errno(err, "open an overlay") : dir;
}

static int layers_view(char *const *paths, size_t n, struct error *err)
{
	int *fds, r = 0;
	size_t i;

	if (n == 1)
		return open_dir(paths[0], err);
	fds = xcalloc(n, sizeof(*fds));
	for (i = 0; r == 0 && i < n; i++) {
		fds[i] = open(paths[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fds[i] < 0)
			r = error_errno(err, "open %s", paths[i]);
	}
	if (r == 0)
		r = overlay_view(fds, n, err);
	while (i-- > 0)
		close_fd(&fds[i]);
	free(fds);
	return r;
}

/* What tells the chain from all others: which directories, in which order. ctime changes with
 * whatever is done to a layer's top directory itself, `touch` included. */
static char *chain_identity(char *const *paths, size_t n, size_t *len, struct error *err)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);

	if (!f) {
		error_errno(err, "memory");
		return NULL;
	}
	fprintf(f, "husk tree %d of %s\n", TREE_VERSION, n == 1 ? "a layer" : "a chain");
	for (size_t i = 0; i < n; i++) {
		cleanup_free char *real = realpath(paths[i], NULL);
		struct statx sx;

		if (!real || statx(AT_FDCWD, real, AT_NO_AUTOMOUNT,
				   STATX_INO | STATX_BTIME | STATX_CTIME, &sx) < 0) {
			error_errno(err, "stat %s", paths[i]);
			fclose(f);
			free(text);
			return NULL;
		}
		fprintf(f, "%zu %s %u:%u %llu %lld.%09u %lld.%09u\n", strlen(real), real,
			sx.stx_dev_major, sx.stx_dev_minor, (unsigned long long)sx.stx_ino,
			sx.stx_mask & STATX_BTIME ? (long long)sx.stx_btime.tv_sec : 0,
			sx.stx_mask & STATX_BTIME ? sx.stx_btime.tv_nsec : 0,
			(long long)sx.stx_ctime.tv_sec, sx.stx_ctime.tv_nsec);
	}
	if (fclose(f) == 0)
		return text;
	error_errno(err, "memory");
	free(text);
	return NULL;
}

static int build_chain(struct rootfs *r, const char *data, struct error *err)
{
	char *const *paths = r->layers.lowers + r->n_init;
	size_t n = r->layers.n - r->n_init, len = 0;
	cleanup_free char *identity = chain_identity(paths, n, &len, err);
	struct rootfs_disk *d = add_disk(r, "root", true);
	/* Layers do not change, and an overlay's inode numbers are its own affair. */
	struct building b = {.options = {.upper = n == 1, .inodes_unstable = true}};

	if (!identity)
		return -1;
	d->dir = layers_view(paths, n, err);
	if (d->dir < 0)
		return -1;
	b.dir = d->dir;
	d->tree = tree_cache_get(data, identity, len, build, &b, err);
	return d->tree < 0 ? -1 : 0;
}

/* A tree of one layer, with its whiteouts. */
static int build_layer(struct rootfs *r, const char *serial, const char *path, bool stable,
		       struct error *err)
{
	struct rootfs_disk *d = add_disk(r, serial, stable);
	struct building b = {.options = {.upper = true}};

	d->dir = open_dir(path, err);
	if (d->dir < 0)
		return -1;
	b.dir = d->dir;
	d->tree = tree_in_memory(build, &b, err);
	return d->tree < 0 ? -1 : 0;
}

static int build_layers(struct rootfs *r, const char *data, struct error *err)
{
	r->n_disks = 0;
	if (!rootfs_upper_is_bare(r) && build_layer(r, "upper", r->layers.upper, false, err) < 0)
		return -1;
	for (unsigned i = 0; i < r->n_init; i++)
		if (build_layer(r, "init", r->layers.lowers[i], true, err) < 0)
			return -1;
	return build_chain(r, data, err);
}

/* What only the mounted overlay can resolve is left to it. */
static int build_overlay(struct rootfs *r, const char *data, struct error *err)
{
	struct error why = ERROR_INIT;

	if (build_layers(r, data, &why) == 0)
		return 0;
	log_debug("%s: %s: taken as one directory", r->id.path, why.msg);
	drop_disks(r);
	r->kind = ROOTFS_PLAIN;
	r->unstable = true;
	return build_plain(r, err);
}

/* ---- device */

/* Brings what the host wrote to the device: freezing ends in a state that can be mounted without
 * the log. Then the device's own page cache, through which the guest reads, is made to forget what
 * an earlier guest read. */
static int settle_device(struct rootfs *r, struct error *err)
{
	cleanup_close int dir = openat(r->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return error_errno(err, "open %s", r->id.path);
	/* EBUSY: somebody was killed between the two. */
	if (r->device_written && ioctl(dir, FIFREEZE, 0) < 0 && errno != EBUSY)
		return error_errno(err, "freeze the file system of %s", r->id.path);
	if (r->device_written && ioctl(dir, FITHAW, 0) < 0)
		return error_errno(err, "thaw the file system of %s", r->id.path);
	ioctl(r->device, BLKFLSBUF, 0); /* an image file has none */
	return 0;
}

static int build_block(struct rootfs *r, struct error *err)
{
	const char *type = r->disks[0].type;
	struct rootfs_disk *d;

	if (settle_device(r, err) < 0)
		return -1;
	r->n_disks = 0;
	d = add_disk(r, "root", true);
	d->type = type;
	d->device = steal_fd(&r->device);
	return 0;
}

/* ---- all */

int rootfs_build(struct rootfs *r, const char *data, struct error *err)
{
	int result;

	switch (r->kind) {
	case ROOTFS_OVERLAY:
		result = build_overlay(r, data, err);
		break;
	case ROOTFS_BLOCK:
		result = build_block(r, err);
		break;
	default:
		r->n_disks = 0;
		result = build_plain(r, err);
	}
	return result < 0 ? error_wrap(err, "rootfs %s", r->id.path) : 0;
}
