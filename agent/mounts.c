/*
 * How a mount of config.json is made.
 *
 * With the mount API of file descriptors: a filesystem (fsopen, fsconfig, fsmount) or a copy of an
 * existing mount (open_tree) is made detached, gets its attributes, and is moved to its place as
 * the last step. The place is an fd, too, found beneath the container's root (resolve.h). So no
 * path is looked up twice, nothing in the image can lead a mount elsewhere, and a mount is never
 * visible without its flags. Where the kernel has words for what it dislikes (fsconfig), they are
 * passed on.
 *
 * Rules taken from runc, since configurations are written for it:
 *
 *  - cgroup and cgroup2 both mean the container's view of cgroup v2;
 *  - a tmpfs without mode= gets the mode of the directory that it covers;
 *  - tmpfs and /dev become read-only at the end, so that what is mounted and made in them can be;
 *  - nothing may be mounted over files of procfs, but for a few that are commonly replaced;
 *  - proc and sysfs go on real directories only, not on a link in the image.
 *
 * A user namespace that does not own the network namespace may not mount sysfs, and the network is
 * the guest's: for such containers the agent makes a sysfs mount beforehand, and they bind it.
 */
#include "agent/mounts.h"
#include "agent/copy_up.h"
#include "agent/filesystem.h"
#include "agent/namespaces.h"
#include "agent/resolve.h"
#include "agent/volumes.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/mount_options.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/statfs.h>

/* One mount on its way. */
struct mnt {
	const struct container *c;
	const struct oci_mount *m;
	const struct proto_mount *volume; /* NULL: needs nothing of the host */
	struct mount_options o;
	const char *type; /* of the kernel's names, or "bind" */
	int root_fd;
	int at; /* O_PATH of the mount point */
	int fd; /* the detached mount */
	bool made_at;
};

static void mnt_free(struct mnt *m)
{
	mount_options_free(&m->o);
	close_fd(&m->at);
	close_fd(&m->fd);
}

/* ---- attributes */

static const struct {
	unsigned long flag;
	uint64_t attr;
} attributes[] = {
	{MS_RDONLY, MOUNT_ATTR_RDONLY},		{MS_NOSUID, MOUNT_ATTR_NOSUID},
	{MS_NODEV, MOUNT_ATTR_NODEV},		{MS_NOEXEC, MOUNT_ATTR_NOEXEC},
	{MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
};

void mounts_attributes(unsigned long flags, unsigned long clear_flags, uint64_t *set,
		       uint64_t *clear)
{
	*set = 0;
	*clear = 0;
	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		if (flags & attributes[i].flag)
			*set |= attributes[i].attr;
		else if (clear_flags & attributes[i].flag)
			*clear |= attributes[i].attr;
	}
	/* The access time is a number of its own: whoever sets it clears it first. */
	if (flags & MS_NOATIME)
		*set |= MOUNT_ATTR_NOATIME;
	else if (flags & MS_STRICTATIME)
		*set |= MOUNT_ATTR_STRICTATIME;
	if ((flags | clear_flags) & (MS_NOATIME | MS_STRICTATIME | MS_RELATIME))
		*clear |= MOUNT_ATTR__ATIME;
}

static int set_attributes(int fd, bool recursive, uint64_t set, uint64_t clear, unsigned long prop,
			  struct error *err)
{
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = prop};

	if (!set && !clear && !prop)
		return 0;
	if (mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return error_errno(err, "set mount attributes");
	return 0;
}

/* ---- making the detached mount */

static int make_filesystem(struct mnt *m, struct error *err)
{
	struct filesystem f = {
		.type = m->type,
		.source = m->m->source ? m->m->source : m->type,
		.o = &m->o,
	};
	char mode[16];
	struct stat st;

	if (strcmp(m->type, "tmpfs") == 0 && !m->made_at && fstat(m->at, &st) == 0) {
		snprintf(mode, sizeof(mode), "%o", st.st_mode & 07777);
		f.mode = mode;
	}
	m->fd = filesystem_make(&f, err);
	return m->fd < 0 ? -1 : 0;
}

static int make_copy(struct mnt *m, const char *source, bool recursive, struct error *err)
{
	m->fd = open_tree(AT_FDCWD, source,
			  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
				  (recursive ? AT_RECURSIVE : 0));
	return m->fd < 0 ? error_errno(err, "bind %s", source) : 0;
}

/* The data of a mount that the host's plan knows about: volumes.h. */
static int make_volume(struct mnt *m, struct error *err)
{
	static const char *const what[] = {
		[PROTO_MOUNT_PROJECT] = "project",
		[PROTO_MOUNT_SHARE] = "share",
		[PROTO_MOUNT_DISK] = "disk",
		[PROTO_MOUNT_DEVICE] = "device",
		[PROTO_MOUNT_POD] = "tmpfs of the pod",
		[PROTO_MOUNT_NOTIFY] = "notification socket",
	};
	const struct proto_mount *v = m->volume;
	const char *name = v->from == PROTO_MOUNT_DISK ? v->serial : v->name;
	const char *source = m->m->source ? m->m->source : "none";
	cleanup_free char *path = volumes_path(m->c, v);

	if (make_copy(m, path, m->o.flags & MS_REC, NULL) == 0)
		return 0;
	if (errno == ENOENT)
		return error_set(err, "source %s: the guest has no %s \"%s\"", source,
				 what[v->from], name);
	return error_errno(err, "source %s: bind %s \"%s\"", source, what[v->from], name);
}

/* cgroup2 in a user namespace needs a cgroup namespace of its own: without one, as in runc, the
 * container sees what the agent sees. */
static int make_cgroup(struct mnt *m, struct error *err)
{
	if (ns_own(m->c->spec, OCI_NS_USER) && !ns_own(m->c->spec, OCI_NS_CGROUP))
		return make_copy(m, "/sys/fs/cgroup", false, err);
	return make_filesystem(m, err);
}

static int make_mount(struct mnt *m, struct error *err)
{
	cleanup_free char *sys = NULL;

	if (m->volume)
		return make_volume(m, err);
	if (strcmp(m->type, "cgroup2") == 0)
		return make_cgroup(m, err);
	if (strcmp(m->type, "sysfs") == 0 && ns_own(m->c->spec, OCI_NS_USER)) {
		sys = xasprintf("%s/sys", m->c->dir);
		return make_copy(m, sys, false, err);
	}
	return make_filesystem(m, err);
}

/* ---- the mount point */

/* Files of procfs that are replaced by tools like lxcfs, and do no harm. */
static bool replaceable_proc_file(const char *dest)
{
	static const char *const names[] = {"/proc/cpuinfo",
					    "/proc/diskstats",
					    "/proc/meminfo",
					    "/proc/stat",
					    "/proc/swaps",
					    "/proc/uptime",
					    "/proc/loadavg",
					    "/proc/slabinfo",
					    "/proc/net/dev",
					    "/proc/sys/kernel/ns_last_pid",
					    "/proc/sys/crypto/fips_enabled"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(names[i], dest) == 0)
			return true;
	return false;
}

/* proc and sysfs: the destination itself, and what leads to it, must not be a link. */
static int check_plain_directory(const struct mnt *m, struct error *err)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | O_DIRECTORY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	const char *dest = m->m->destination + strspn(m->m->destination, "/");
	cleanup_close int fd = resolve_how(m->root_fd, *dest ? dest : ".", &how);

	if (fd < 0)
		return error_set(err, "filesystem \"%s\" must be mounted on an ordinary directory",
				 m->type);
	return 0;
}

/* A directory, but for a mount of what is not one. */
static int find_mount_point(struct mnt *m, struct error *err)
{
	enum resolve_want want = RESOLVE_DIR;
	struct statfs sfs;
	struct stat st;

	if (m->fd >= 0 && fstat(m->fd, &st) < 0)
		return error_errno(err, "stat the source");
	if (m->fd >= 0 && S_ISLNK(st.st_mode))
		return error_kind(err, ERR_INVALID, "the source is a symbolic link");
	if (m->fd >= 0 && !S_ISDIR(st.st_mode))
		want = RESOLVE_FILE;
	m->at = resolve_make(m->root_fd, m->m->destination, want, &m->made_at, err);
	if (m->at < 0)
		return -1;
	if (fstat(m->at, &st) < 0 || fstatfs(m->at, &sfs) < 0)
		return error_errno(err, "stat the mount point");
	if (S_ISDIR(st.st_mode) != (want == RESOLVE_DIR)) /* engines look for these words */
		return error_set(err, "not a directory: are you trying to mount a directory onto a "
				      "file (or vice-versa)?");
	if (sfs.f_type == PROC_SUPER_MAGIC && !(strcmp(m->type, "proc") == 0 && st.st_ino == 1) &&
	    !replaceable_proc_file(m->m->destination))
		return error_kind(err, ERR_INVALID,
				  "cannot be mounted because it is inside procfs");
	if (strcmp(m->type, "proc") == 0 || strcmp(m->type, "sysfs") == 0)
		return check_plain_directory(m, err);
	return 0;
}

/* ---- one mount */

static bool is_dev(const struct oci_mount *m)
{
	const char *d = m->destination + strspn(m->destination, "/");

	return strcmp(d, "dev") == 0 || strcmp(d, "dev/") == 0;
}

/* Moves the finished mount to its place, and remembers those that become read-only later. */
static int attach(struct mnt *m, struct late_ro *late, struct error *err)
{
	uint64_t set, clear;
	bool later = strcmp(m->type, "tmpfs") == 0 || is_dev(m->m);

	mounts_attributes(m->o.flags, m->o.clear_flags, &set, &clear);
	/* What is written to such a project would stay in the guest. */
	if (m->volume && m->volume->from == PROTO_MOUNT_PROJECT && !m->volume->writable)
		set |= MOUNT_ATTR_RDONLY;
	later = later && (set & MOUNT_ATTR_RDONLY);
	if (later)
		set &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	if (set_attributes(m->fd, false, set, clear, 0, err) < 0 ||
	    set_attributes(m->fd, true, m->o.rec_set, m->o.rec_clear, 0, err) < 0)
		return -1;
	if (filesystem_attach(m->fd, m->at, err) < 0)
		return -1;
	for (size_t i = 0; i < m->o.n_propagation; i++) {
		unsigned long p = m->o.propagation[i];

		if (set_attributes(m->fd, p & MS_REC, 0, 0, p & ~(unsigned long)MS_REC, err) < 0)
			return -1;
	}
	if (later)
		late->fds[late->n++] = steal_fd(&m->fd);
	return 0;
}

static const char *kernel_type(const struct oci_mount *m, const struct mount_options *o)
{
	if ((o->flags & MS_BIND) || (m->type && strcmp(m->type, "bind") == 0))
		return "bind";
	if (!m->type)
		return NULL;
	return strcmp(m->type, "cgroup") == 0 ? "cgroup2" : m->type;
}

static int check_one(const struct mnt *m, struct error *err)
{
	if (!m->type)
		return error_kind(err, ERR_INVALID, "type: missing");
	if (m->o.flags & MS_REMOUNT)
		return error_kind(err, ERR_UNSUPPORTED, "option \"remount\" is not supported");
	if (!m->volume &&
	    (m->o.idmap != MOUNT_IDMAP_NONE || m->m->n_uid_mappings || m->m->n_gid_mappings))
		return error_kind(err, ERR_UNSUPPORTED,
				  "only bind mounts and volumes can be id-mapped");
	if (strcmp(m->type, "bind") == 0 && !m->volume)
		return error_kind(err, ERR_INVALID, "source %s: the host does not say what it is",
				  m->m->source ? m->m->source : "none");
	return 0;
}

/* What exists is copied before the mount point is looked for, which is to be of the same kind; a
 * new filesystem is made after it, since a tmpfs takes its mode from there. */
static int make_and_find(struct mnt *m, struct error *err)
{
	if (m->volume)
		return make_mount(m, err) < 0 ? -1 : find_mount_point(m, err);
	return find_mount_point(m, err) < 0 ? -1 : make_mount(m, err);
}

static int apply_one(const struct container *c, size_t i, int root_fd, struct late_ro *late,
		     struct error *err)
{
	const struct oci_mount *om = &c->spec->mounts[i];
	__attribute__((cleanup(mnt_free))) struct mnt m = {
		.c = c, .m = om, .root_fd = root_fd, .at = -1, .fd = -1};

	mount_options_parse(om->options, om->n_options, &m.o);
	m.volume = container_mount(c, i);
	m.type = m.volume ? "bind" : kernel_type(om, &m.o);
	if (check_one(&m, err) < 0 || make_and_find(&m, err) < 0)
		return -1;
	/* As in runc, the option is a tmpfs's: elsewhere it would write into a volume. */
	if (m.o.tmpcopyup && strcmp(m.type, "tmpfs") == 0 && copy_up(m.at, m.fd, err) < 0)
		return error_wrap(err, "tmpcopyup");
	return attach(&m, late, err);
}

int mounts_apply(const struct container *c, int root_fd, struct late_ro *late, struct error *err)
{
	const struct oci_spec *s = c->spec;

	late->fds = xcalloc(s->n_mounts, sizeof(*late->fds));
	late->n = 0;
	for (size_t i = 0; i < s->n_mounts; i++)
		if (apply_one(c, i, root_fd, late, err) < 0)
			return error_wrap(err, "mounts[%zu] (%s)", i, s->mounts[i].destination);
	return 0;
}

bool mounts_own_dev(const struct oci_spec *spec)
{
	for (size_t i = 0; i < spec->n_mounts; i++) {
		cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
		const struct oci_mount *m = &spec->mounts[i];

		mount_options_parse(m->options, m->n_options, &o);
		if (is_dev(m) && kernel_type(m, &o) && strcmp(kernel_type(m, &o), "bind") == 0)
			return false;
	}
	return true;
}

/* ---- what comes after the root was changed */

int mounts_bind_fd(int src_fd, int dst_fd, const char *what, struct error *err)
{
	cleanup_close int tree =
		open_tree(src_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return error_errno(err, "bind %s", what);
	return filesystem_attach(tree, dst_fd, err) < 0 ? error_wrap(err, "bind %s", what) : 0;
}

int mounts_finish(const struct container *c, struct late_ro *late, struct error *err)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

	for (size_t i = 0; i < late->n; i++) {
		if (set_attributes(late->fds[i], false, MOUNT_ATTR_RDONLY, 0, 0, err) < 0)
			return -1;
		close_fd(&late->fds[i]);
	}
	late->n = 0;
	if ((c->spec->root_readonly || !c->root.upper[0]) &&
	    mount_setattr(AT_FDCWD, "/", 0, &ro, sizeof(ro)) < 0)
		return error_errno(err, "root.readonly: remount /");
	return 0;
}

static int make_readonly(const char *path, struct error *err)
{
	cleanup_close int at = open(path, O_PATH | O_CLOEXEC);
	cleanup_close int tree = -1;

	if (at < 0)
		return errno == ENOENT ? 0 : error_errno(err, "open %s", path);
	tree = open_tree(at, "",
			 AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (tree < 0)
		return error_errno(err, "bind %s", path);
	if (set_attributes(tree, false, MOUNT_ATTR_RDONLY, 0, 0, err) < 0)
		return -1;
	return filesystem_attach(tree, at, err) < 0 ? error_wrap(err, "%s", path) : 0;
}

/* A directory is covered by an empty tmpfs that stays empty. */
static int mask_directory(int at, struct error *err)
{
	char data[] = "nr_blocks=1,nr_inodes=1";
	const struct mount_options o = {.data = data};
	const struct filesystem f = {.type = "tmpfs", .source = "tmpfs", .o = &o};
	cleanup_close int fd = filesystem_make(&f, err);

	if (fd < 0 || set_attributes(fd, false, MOUNT_ATTR_RDONLY, 0, 0, err) < 0)
		return -1;
	return filesystem_attach(fd, at, err);
}

static int mask(const char *path, int null_fd, struct error *err)
{
	cleanup_close int at = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (at < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : error_errno(err, "open %s", path);
	if (fstat(at, &st) < 0)
		return error_errno(err, "stat %s", path);
	if (S_ISDIR(st.st_mode))
		return mask_directory(at, err);
	return mounts_bind_fd(null_fd, at, "/dev/null", err);
}

/* The container's own /dev/null: a mount of another namespace, such as the guest's, cannot be bound
 * here. An image cannot pass off something else for it. */
static int open_null(struct error *err)
{
	cleanup_close int fd = open("/dev/null", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(err, "open /dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return error_set(err, "/dev/null: not the null device");
	return steal_fd(&fd);
}

int mounts_restrict(const struct oci_linux *l, struct error *err)
{
	cleanup_close int null_fd = l->n_masked_paths > 0 ? open_null(err) : -1;

	if (l->n_masked_paths > 0 && null_fd < 0)
		return error_wrap(err, "linux.maskedPaths");
	for (size_t i = 0; i < l->n_readonly_paths; i++)
		if (make_readonly(l->readonly_paths[i], err) < 0)
			return error_wrap(err, "linux.readonlyPaths[%zu] (%s)", i,
					  l->readonly_paths[i]);
	for (size_t i = 0; i < l->n_masked_paths; i++)
		if (mask(l->masked_paths[i], null_fd, err) < 0)
			return error_wrap(err, "linux.maskedPaths[%zu] (%s)", i,
					  l->masked_paths[i]);
	return 0;
}

int mounts_prepare(const struct container *c, struct error *err)
{
	cleanup_free char *sys = xasprintf("%s/sys", c->dir);

	if (volumes_prepare(c, err) < 0)
		return -1;
	if (!ns_own(c->spec, OCI_NS_USER))
		return 0;
	if (mkdir(sys, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", sys);
	if (mount("sysfs", sys, "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return error_errno(err, "mount sysfs on %s", sys);
	return 0;
}
