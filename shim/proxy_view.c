/*
 * The container's files, as the host finds them in the mount namespace of its pid.
 *
 * Engines enter it to copy files in and out (`podman cp` resolves paths from its root) and to look
 * at processes (`podman top` reads its /proc). Were it the host's, they would find the host's
 * files. So it is one whose root is the container's rootfs directory, which the mirror keeps like
 * the guest's (mirror.h), with the bind mounts of config.json on it; what comes from elsewhere, and
 * what is read, is as of the last sync, as in that directory.
 *
 * A mount namespace is a thread's. The init's proxy has two of them: the first one, for which the
 * pid stands, does nothing but be in here; the other one does the work, where the host's files are.
 *
 * What only the guest has (tmpfs, sysfs, disks, ...) is an empty directory that cannot be written
 * to: what is copied there fails, instead of being lost. In /proc there is the proxy, which stands
 * for the container's first process. A mount whose place is not in the rootfs is left out: its
 * place is made in the guest's.
 * For a husk that was started in a chroot the root of the namespace is beneath that, and stays.
 */
#include "shim/proxy_view.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/mount_options.h"
#include "oci/unsupported.h"
#include "shim/lifecycle.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ATTR_ALL (MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID)

static int in_root(int root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

static int set_attr(int tree, uint64_t attr, bool recursive, struct error *err)
{
	struct mount_attr a = {.attr_set = attr};

	if (mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &a, sizeof(a)) <
	    0)
		return error_errno(err, "mount_setattr");
	return 0;
}

/* Where there is no such place, or one of another kind, nothing is mounted. */
static int place(int root, int tree, const char *path, struct error *err)
{
	cleanup_close int at = in_root(root, path);

	if (at < 0 ||
	    move_mount(tree, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0) {
		if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EINVAL)
			return 0;
		return error_errno(err, "%s", path);
	}
	return 0;
}

static int new_tmpfs(struct error *err)
{
	cleanup_close int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd = -1;

	if (fs >= 0 && fsconfig(fs, FSCONFIG_SET_STRING, "mode", "755", 0) == 0 &&
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		fd = fsmount(fs, FSMOUNT_CLOEXEC, ATTR_ALL);
	return fd >= 0 ? fd : error_errno(err, "tmpfs");
}

static int place_empty(int root, const char *path, struct error *err)
{
	cleanup_close int fd = new_tmpfs(err);

	if (fd < 0 || set_attr(fd, MOUNT_ATTR_RDONLY, false, err) < 0)
		return -1;
	return place(root, fd, path, err);
}

static int tree_at(const char *path, bool recursive)
{
	return open_tree(AT_FDCWD, path,
			 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (recursive ? AT_RECURSIVE : 0));
}

/* A source that cannot be had (any more) is left out. */
static int place_bind(int root, const char *bundle, const struct oci_mount *m, struct error *err)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	cleanup_free char *source =
		m->source[0] == '/' ? xstrdup(m->source) : xasprintf("%s/%s", bundle, m->source);
	cleanup_close int tree = -1;
	uint64_t attr = ATTR_ALL;

	mount_options_parse(m->options, m->n_options, &o);
	tree = tree_at(source, o.flags & MS_REC);
	if (tree < 0)
		return 0;
	if (o.flags & MS_RDONLY || o.rec_set & MOUNT_ATTR_RDONLY)
		attr |= MOUNT_ATTR_RDONLY;
	if (set_attr(tree, attr, o.flags & MS_REC, err) < 0)
		return error_wrap(err, "%s", source);
	return place(root, tree, m->destination, err);
}

/* For those who ask what runs in the container: the proxy, and since when the host has. */
static int place_proc(int root, const char *path, struct error *err)
{
	cleanup_free char *self = xasprintf("/proc/%d", (int)getpid());
	const char *const shown[] = {self, "/proc/stat", "/proc/uptime"};
	cleanup_close int fd = new_tmpfs(err);

	if (fd < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
		const char *name = strrchr(shown[i], '/') + 1;

		if ((i == 0 ? mkdirat(fd, name, 0555) : mknodat(fd, name, S_IFREG | 0444, 0)) < 0)
			return error_errno(err, "make %s", shown[i]);
	}
	if (set_attr(fd, MOUNT_ATTR_RDONLY, false, err) < 0 || place(root, fd, path, err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
		cleanup_free char *at = xasprintf("%s/%s", path, strrchr(shown[i], '/') + 1);
		cleanup_close int tree = tree_at(shown[i], false);

		if (tree >= 0 && place(root, tree, at, err) < 0)
			return -1;
	}
	return 0;
}

static int place_mounts(int root, const char *bundle, const struct oci_spec *spec,
			struct error *err)
{
	for (size_t i = 0; i < spec->n_mounts; i++) {
		const struct oci_mount *m = &spec->mounts[i];
		int r;

		if (oci_mount_is_bind(m) && m->source)
			r = place_bind(root, bundle, m, err);
		else if (m->type && strcmp(m->type, "proc") == 0)
			r = place_proc(root, m->destination, err);
		else
			r = place_empty(root, m->destination, err);
		if (r < 0)
			return error_wrap(err, "mounts[%zu]", i);
	}
	return 0;
}

/* The root's mount comes over itself, since only what is in a namespace can be mounted on. */
static int make_root(const char *rootfs, bool readonly, struct error *err)
{
	cleanup_close int tree = tree_at(rootfs, false);
	int root;

	if (tree < 0 || move_mount(tree, "", AT_FDCWD, rootfs, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, "mount %s", rootfs);
	if (set_attr(tree, ATTR_ALL | (readonly ? MOUNT_ATTR_RDONLY : 0), false, err) < 0)
		return -1;
	root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0 ? error_errno(err, "open %s", rootfs) : root;
}

/* The old root ends up over the new one, and goes with all its mounts. */
static int change_root(int root, struct error *err)
{
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return error_errno(err, "pivot_root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_errno(err, "leave the host's root");
	return 0;
}

static int enter(int dirfd, struct error *err)
{
	struct container_dir d = {.fd = dirfd, .id = (char *)"", .path = (char *)"."};
	cleanup_state struct container_state st = {0};
	cleanup_oci_spec struct oci_spec *spec = NULL;
	cleanup_close int root = -1;

	if (state_load(&d, &st, err) < 0 || container_spec(&st, &spec, err) < 0)
		return -1;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(err, "unshare");
	root = make_root(st.rootfs, spec->root_readonly, err);
	if (root < 0 || place_mounts(root, st.bundle, spec, err) < 0)
		return -1;
	return change_root(root, err);
}

int view_enter(int dirfd, struct error *err)
{
	uint64_t t = now_us();

	if (enter(dirfd, err) < 0)
		return error_wrap(err, "mount namespace of the container's pid");
	log_elapsed("proxy's mount namespace", t);
	return 0;
}
