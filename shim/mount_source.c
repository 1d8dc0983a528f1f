/*
 * What the source of a mount is.
 *
 * A path is resolved once; everything after that is asked of the descriptor, which is also what is
 * projected, shared or attached in the end.
 *
 * Disks. A file system must not be changed by two kernels, nor read by one while another one
 * changes it. Four things could: the host, having mounted the device; the host, by a loop device on
 * the image; another user of the device (device-mapper, swap); another VM of husk's. Against the
 * first three there is O_EXCL on a block device, which fails when the device is claimed. A VM that
 * writes keeps this claim as long as it has the device. VMs that only read must not keep each
 * other out: they hold a shared flock, one that writes an exclusive one; the lock belongs to the
 * open file, and so ends with husk-vmm. A device that the host has mounted read-only may be read.
 * For an image file the loop devices are looked through.
 */
#include "shim/mount_source.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/mount_plan.h"
#include "shim/mountinfo.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define MQUEUE_FS_MAGIC 0x19800202
#define CONFIGFS_FS_MAGIC 0x62656570
#define FUSECTL_FS_MAGIC 0x65735543
#define MOUNTINFO_MAX (16u << 20)

#define refuse(err, ...) error_kind(err, ERR_UNSUPPORTED, __VA_ARGS__)

/* ---- what only the host's kernel can give */

static const char *pseudo_filesystem(int fd)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} known[] = {
		{PROC_SUPER_MAGIC, "proc"},
		{SYSFS_MAGIC, "sysfs"},
		{CGROUP_SUPER_MAGIC, "cgroup"},
		{CGROUP2_SUPER_MAGIC, "cgroup2"},
		{DEVPTS_SUPER_MAGIC, "devpts"},
		{MQUEUE_FS_MAGIC, "mqueue"},
		{DEBUGFS_MAGIC, "debugfs"},
		{TRACEFS_MAGIC, "tracefs"},
		{SECURITYFS_MAGIC, "securityfs"},
		{CONFIGFS_FS_MAGIC, "configfs"},
		{BPF_FS_MAGIC, "bpf"},
		{FUSECTL_FS_MAGIC, "fusectl"},
		{BINFMTFS_MAGIC, "binfmt_misc"},
		{SELINUX_MAGIC, "selinuxfs"},
		{SMACK_MAGIC, "smackfs"},
		{PSTOREFS_MAGIC, "pstore"},
		{EFIVARFS_MAGIC, "efivarfs"},
		{NSFS_MAGIC, "nsfs"},
		{BINDERFS_SUPER_MAGIC, "binderfs"},
		{HUGETLBFS_MAGIC, "hugetlbfs"},
	};
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if ((uint32_t)fs.f_type == known[i].magic)
			return known[i].name;
	return NULL;
}

static int check_kind(const struct mount_source *s, struct error *err)
{
	const char *pseudo = S_ISCHR(s->st.st_mode) ? NULL : pseudo_filesystem(s->fd);

	if (pseudo)
		return refuse(err,
			      "%s: is of the host kernel's %s, which is not a microVM's: mount the "
			      "guest's own",
			      s->path, pseudo);
	if (strcmp(s->path, "/dev") == 0)
		return refuse(err, "%s: the host's devices cannot be given to a microVM", s->path);
	if (S_ISSOCK(s->st.st_mode))
		return refuse(err, "%s: a socket of the host cannot be reached from a microVM",
			      s->path);
	if (S_ISFIFO(s->st.st_mode))
		return refuse(err, "%s: a fifo of the host cannot be reached from a microVM",
			      s->path);
	if (S_ISCHR(s->st.st_mode) && !mount_source_device(s))
		return refuse(err, "%s: this device of the host cannot be given to a microVM",
			      s->path);
	return 0;
}

/* The path of what is open: no second look-up that could end elsewhere. */
static char *path_of(int fd, struct error *err)
{
	cleanup_free char *self = xasprintf("/proc/self/fd/%d", fd);
	char buf[PATH_MAX];
	ssize_t n = readlink(self, buf, sizeof(buf) - 1);

	if (n < 0) {
		error_errno(err, "readlink %s", self);
		return NULL;
	}
	buf[n] = '\0';
	return xstrdup(buf);
}

int mount_source_open(const char *source, const char *bundle, struct mount_source *s,
		      struct error *err)
{
	cleanup_free char *joined =
		source[0] == '/' ? xstrdup(source) : xasprintf("%s/%s", bundle, source);

	*s = (struct mount_source){.fd = open(joined, O_PATH | O_CLOEXEC)};
	if (s->fd < 0 || fstat(s->fd, &s->st) < 0)
		error_errno(err, "%s", joined);
	else if ((s->path = path_of(s->fd, err)) && check_kind(s, err) == 0)
		return 0;
	mount_source_free(s);
	return -1;
}

void mount_source_free(struct mount_source *s)
{
	free(s->path);
	close_fd(&s->fd);
	s->path = NULL;
}

const char *mount_source_device(const struct mount_source *s)
{
	static const struct {
		unsigned major, minor;
		const char *name;
	} devices[] = {{1, 3, "null"},	 {1, 5, "zero"},    {1, 7, "full"},
		       {1, 8, "random"}, {1, 9, "urandom"}, {5, 0, "tty"}};

	for (size_t i = 0; S_ISCHR(s->st.st_mode) && i < ARRAY_LEN(devices); i++)
		if (s->st.st_rdev == makedev(devices[i].major, devices[i].minor))
			return devices[i].name;
	return NULL;
}

/* Docker, containerd, CRI-O and podman all mount a tmpfs called "shm" for this; a user who means
 * the host's own shared memory names /dev/shm. */
bool mount_source_is_shm(const struct mount_source *s, uint64_t *bytes)
{
	cleanup_mount_entry struct mount_entry m = {0};
	struct statfs fs;

	if (strcmp(s->path, "/dev/shm") == 0 || mountinfo_of(s->fd, &m, NULL) <= 0 ||
	    strcmp(m.type, "tmpfs") != 0 || strcmp(m.source, "shm") != 0 ||
	    strcmp(m.root, "/") != 0 || strcmp(m.point, s->path) != 0 || fstatfs(s->fd, &fs) < 0)
		return false;
	*bytes = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	return true;
}

/* ---- directories that may be projected */

struct measure {
	dev_t dev;
	uint64_t entries, bytes;
};

static bool is_small(int dirfd, const char *name, unsigned depth, struct measure *m);

static bool entry_is_small(int dirfd, const char *name, unsigned depth, struct measure *m)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != m->dev ||
	    ++m->entries > PROJECT_DIR_ENTRIES)
		return false;
	if (S_ISLNK(st.st_mode))
		return true;
	if (S_ISDIR(st.st_mode))
		return depth < PROJECT_DIR_DEPTH && is_small(dirfd, name, depth + 1, m);
	m->bytes += (uint64_t)st.st_size;
	return S_ISREG(st.st_mode) && m->bytes <= PROJECT_DIR_BYTES;
}

static bool is_small(int dirfd, const char *name, unsigned depth, struct measure *m)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		close_fd(&fd);
		return false;
	}
	while ((errno = 0, e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    !entry_is_small(fd, e->d_name, depth, m))
			return false;
	return errno == 0;
}

bool mount_source_is_small_tree(const struct mount_source *s)
{
	struct measure m = {.dev = s->st.st_dev};

	return S_ISDIR(s->st.st_mode) && is_small(s->fd, ".", 1, &m) && m.entries > 0;
}

/* ---- disks */

enum host_use { USE_NONE, USE_READ, USE_WRITE };

/* How the host has mounted a block device, as far as our mount namespace shows. */
static int mounted_how(dev_t dev, enum host_use *use, struct error *err)
{
	cleanup_free char *text = NULL;
	char *save = NULL, word[32];

	*use = USE_NONE;
	if (file_read(AT_FDCWD, "/proc/thread-self/mountinfo", MOUNTINFO_MAX, &text, NULL, err) < 0)
		return -1;
	snprintf(word, sizeof(word), "%u:%u", major(dev), minor(dev));
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *super = strrchr(line, ' ');
		char number[32];

		if (sscanf(line, "%*d %*d %31s", number) != 1 || strcmp(number, word) != 0)
			continue;
		if (super && (strcmp(super, " ro") == 0 || strncmp(super, " ro,", 4) == 0))
			*use = *use == USE_WRITE ? USE_WRITE : USE_READ;
		else
			*use = USE_WRITE;
	}
	return 0;
}

static int open_block(const struct mount_source *s, bool writable, struct error *err)
{
	cleanup_free char *self = xasprintf("/proc/self/fd/%d", s->fd);
	int mode = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC;
	cleanup_close int fd = open(self, mode | O_EXCL);
	enum host_use use;

	if (fd < 0 && errno != EBUSY)
		return error_errno(err, "%s", s->path);
	if (fd < 0) {
		if (mounted_how(s->st.st_rdev, &use, err) < 0)
			return -1;
		if (use == USE_WRITE || (use == USE_READ && writable))
			return error_set(err,
					 "%s: is mounted on the host: unmount it, or bind a "
					 "directory of it",
					 s->path);
		if (use == USE_NONE)
			return error_set(err, "%s: is in use on the host", s->path);
	}
	/* Who only reads keeps no claim: others may read, too. */
	if (fd < 0 || !writable) {
		close_fd(&fd);
		fd = open(self, mode);
		if (fd < 0)
			return error_errno(err, "%s", s->path);
	}
	return steal_fd(&fd);
}

static int loop_backing(const char *name, char **path)
{
	cleanup_free char *file = xasprintf("/sys/block/%s/loop/backing_file", name);
	size_t len;

	if (file_read(AT_FDCWD, file, 8192, path, &len, NULL) < 0)
		return -1;
	if (len > 0 && (*path)[len - 1] == '\n')
		(*path)[len - 1] = '\0';
	return 0;
}

static bool loop_is_readonly(const char *name)
{
	cleanup_free char *file = xasprintf("/sys/block/%s/ro", name);
	cleanup_free char *text = NULL;

	return file_read(AT_FDCWD, file, 16, &text, NULL, NULL) == 0 && text[0] == '1';
}

/* No loop device of the host may stand on the image, unless all only read. */
static int check_loops(const struct mount_source *s, bool writable, struct error *err)
{
	cleanup_dir DIR *d = opendir("/sys/block");
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		cleanup_free char *path = NULL;

		if (strncmp(e->d_name, "loop", 4) != 0 || loop_backing(e->d_name, &path) < 0 ||
		    strcmp(path, s->path) != 0)
			continue;
		if (writable || !loop_is_readonly(e->d_name))
			return error_set(err,
					 "%s: is in use on the host by /dev/%s: detach it with "
					 "'losetup -d /dev/%s'",
					 s->path, e->d_name, e->d_name);
	}
	return 0;
}

static int open_image(const struct mount_source *s, bool writable, struct error *err)
{
	cleanup_free char *self = xasprintf("/proc/self/fd/%d", s->fd);
	int fd;

	if (check_loops(s, writable, err) < 0)
		return -1;
	fd = open(self, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	return fd < 0 ? error_errno(err, "%s", s->path) : fd;
}

int mount_source_open_disk(const struct mount_source *s, bool writable, struct error *err)
{
	cleanup_close int fd = -1;

	if (S_ISBLK(s->st.st_mode))
		fd = open_block(s, writable, err);
	else if (S_ISREG(s->st.st_mode))
		fd = open_image(s, writable, err);
	else
		return error_kind(err, ERR_INVALID, "%s: neither a block device nor an image file",
				  s->path);
	if (fd < 0)
		return -1;
	if (flock(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
		return steal_fd(&fd);
	if (errno == EWOULDBLOCK)
		return error_set(err, "%s: is in use by another container", s->path);
	return error_errno(err, "lock %s", s->path);
}
