/*
 * Volumes: from the host's data to a path that can be bound.
 *
 *	project	PROJECTS_DIR/<id>/<name>	a tmpfs of the container's (projects.c)
 *	share	SHARE_DIR/<name>		the virtio-fs with tag SHARE_TAG
 *	disk	<c->dir>/disk<i>		mounted by its serial (volume_disks.c)
 *	device	/dev/<name>			the guest's own
 *	pod	POD_DIR/<name>			a tmpfs that the pod's containers share: /dev/shm
 *	notify	<c->dir>/notify			with the container's notification socket (ready.c)
 *
 * All of it is mounted by the agent, and seen by the container's init in the copy of the mount
 * namespace that it starts with. The init could not do it: a container's device filter keeps it
 * from disks, and a user namespace from all but a few file systems.
 *
 * These mounts have no flags: each mount of config.json sets its own, on its own copy, and in a
 * user namespace flags that are inherited could not be taken back.
 *
 * One flag is inherited always, the way of updating access times, and a user namespace may not
 * change it: for a container with one, whose mount asks for another way, there is a copy with that
 * in <c->dir>/copy<i>. The same for a mount with mappings of ids, which nobody can change later:
 * what is on the disk or in the project keeps its ids, the copy shows other ones. A member of the
 * share is mapped on the host, by whose file system it is.
 *
 * But for that PID 1 does not look at what is in the virtio-fs, not even at its root directory: a
 * host end that does not answer blocks whoever asks, and that should be a container's process.
 */
#include "agent/volumes.h"
#include "agent/filesystem.h"
#include "agent/mounts.h"
#include "agent/namespaces.h"
#include "agent/projects.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/userns.h"
#include "oci/idmap.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORGET_US 100000
#define FORGET_TRIES 20
#define ATIME_FLAGS (MS_NOATIME | MS_STRICTATIME | MS_RELATIME | MS_NODIRATIME)
#define ATIME_ATTRS ((uint64_t)(MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME))

/* Mappings of ids, or options of access times that a container in a user namespace cannot set. */
static bool needs_copy(const struct container *c, const struct proto_mount *m,
		       const struct mount_options *o)
{
	cleanup_idmap struct oci_idmap map = {0};

	if (m->from != PROTO_MOUNT_SHARE &&
	    oci_mount_idmap(c->spec, &c->spec->mounts[m->index], &map))
		return true;
	return ns_own(c->spec, OCI_NS_USER) && (((o->flags | o->clear_flags) & ATIME_FLAGS) ||
						((o->rec_set | o->rec_clear) & ATIME_ATTRS));
}

/* Where the data is before any copy. */
static char *original(const struct container *c, const struct proto_mount *m)
{
	switch (m->from) {
	case PROTO_MOUNT_PROJECT:
		return xasprintf("%s/%s/%s", PROJECTS_DIR, c->id, m->name);
	case PROTO_MOUNT_SHARE:
		return xasprintf("%s/%s", SHARE_DIR, m->name);
	case PROTO_MOUNT_DEVICE:
		return xasprintf("/dev/%s", m->name);
	case PROTO_MOUNT_POD:
		return xasprintf("%s/%s", POD_DIR, m->name);
	case PROTO_MOUNT_NOTIFY:
		return xasprintf("%s/notify", c->dir);
	case PROTO_MOUNT_DISK:
		break;
	}
	return volume_disk_path(c, m);
}

char *volumes_path(const struct container *c, const struct proto_mount *m)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	const struct oci_mount *om = &c->spec->mounts[m->index];

	mount_options_parse(om->options, om->n_options, &o);
	if (needs_copy(c, m, &o))
		return xasprintf("%s/copy%zu", c->dir, m->index);
	return original(c, m);
}

/* ---- virtio-fs */

/* Two containers that are made at once mount it once. */
static int mount_share(struct error *err)
{
	cleanup_close int lock = open("/run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return error_errno(err, "lock /run");
	if (volume_is_mounted(SHARE_DIR))
		return 0;
	if (mkdir(SHARE_DIR, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", SHARE_DIR);
	if (mount(SHARE_TAG, SHARE_DIR, "virtiofs", 0, NULL) == 0)
		return 0;
	if (errno == EINVAL)
		return error_set(err, "the machine has no virtio-fs \"%s\"", SHARE_TAG);
	return error_errno(err, "mount virtio-fs \"%s\" on %s", SHARE_TAG, SHARE_DIR);
}

/* ---- tmpfs of the pod */

/* As /dev/shm is on a host. */
static int mount_of_pod(const struct proto_mount *m, struct error *err)
{
	cleanup_free char *at = xasprintf("%s/%s", POD_DIR, m->name);
	cleanup_free char *data =
		m->size ? xasprintf("mode=1777,size=%" PRIu64, m->size) : xstrdup("mode=1777");

	if (volume_is_mounted(at))
		return 0;
	if (mkdir_p(at, 0755, err) < 0)
		return -1;
	/* No flags: in a user namespace a bind mount could not be without them. */
	if (mount("pod", at, "tmpfs", 0, data) < 0)
		return error_errno(err, "mount a tmpfs on %s", at);
	return 0;
}

int volumes_of_pod(const struct container *c, struct error *err)
{
	for (size_t i = 0; i < c->n_mounts; i++)
		if (c->mounts[i].from == PROTO_MOUNT_POD && mount_of_pod(&c->mounts[i], err) < 0)
			return error_wrap(err, "mounts[%zu] (%s)", c->mounts[i].index,
					  c->spec->mounts[c->mounts[i].index].destination);
	return 0;
}

/* What the kernel has looked up it believes for a second (virtiofsd's cache=auto). */
void volumes_forget(const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s", SHARE_DIR, name);
	struct stat st;

	for (unsigned i = 0; i < FORGET_TRIES && lstat(path, &st) == 0; i++)
		usleep(FORGET_US);
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

/* The mount's ids by the mappings of its member of config.mounts, if it has any. */
static int map_ids(const struct container *c, const struct proto_mount *m, int fd,
		   struct error *err)
{
	cleanup_idmap struct oci_idmap map = {0};
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
	cleanup_close int ns = -1;

	if (m->from == PROTO_MOUNT_SHARE ||
	    !oci_mount_idmap(c->spec, &c->spec->mounts[m->index], &map))
		return 0;
	ns = userns_make(map.uid_map, map.gid_map, err);
	if (ns < 0)
		return error_wrap(err, "uidMappings, gidMappings");
	attr.userns_fd = (uint64_t)ns;
	if (mount_setattr(fd, "", AT_EMPTY_PATH | (map.recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return error_errno(err, "map the mount's ids");
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
	if (!needs_copy(c, m, &o))
		return 0;
	fd = open_tree(AT_FDCWD, from,
		       OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW |
			       (o.flags & MS_REC ? AT_RECURSIVE : 0));
	if (fd < 0) /* what is missing is the init's error */
		return errno == ENOENT ? 0 : error_errno(err, "bind %s", from);
	mounts_attributes(o.flags, o.clear_flags, &set, &clear);
	if (set_atime(fd, false, set, clear, err) < 0 ||
	    set_atime(fd, true, o.rec_set, o.rec_clear, err) < 0 || map_ids(c, m, fd, err) < 0)
		return -1;
	at = make_mount_point(to, fd, err);
	return at < 0 ? -1 : filesystem_attach(fd, at, err);
}

static int remove_copy(const struct container *c, const struct proto_mount *m, struct error *err)
{
	cleanup_free char *from = original(c, m);
	cleanup_free char *to = volumes_path(c, m);

	return strcmp(from, to) == 0 ? 0 : volume_unmount(to, err);
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
			r = volume_disk_mount(c, m, err);
		if (r < 0 || make_copy(c, m, err) < 0)
			return error_wrap(err, "mounts[%zu] (%s)", m->index,
					  c->spec->mounts[m->index].destination);
	}
	return 0;
}

int volumes_release(const struct container *c, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < c->n_mounts; i++) {
		const struct proto_mount *m = &c->mounts[i];

		if (remove_copy(c, m, r < 0 ? NULL : err) < 0 ||
		    (m->from == PROTO_MOUNT_DISK &&
		     volume_disk_unmount(c, m, r < 0 ? NULL : err) < 0))
			r = -1;
	}
	return r;
}
