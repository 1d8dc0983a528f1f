/*
 * Scratch disks are clones of a template, since mkfs.ext4 takes tens of milliseconds and a clone of
 * what it wrote one: 16 MiB of journal are a hole, and so are all tables that hold nothing but
 * zeros. mkfs.ext4 is told that it writes to zeros, so that the guest's kernel does not wipe the
 * inode tables behind the container's back; copies of superblock and group descriptors, and room
 * for growth, serve nobody who never repairs or resizes the disk.
 *
 * The journal is what lets the disk outlive its VM: docs/rootfs.md, "Changes".
 */
#include "shim/scratch.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/size.h"
#include "shim/paths.h"
#include "shim/spawn.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MKFS_US (60u * 1000000)
#define MIB (UINT64_C(1) << 20)
#define JOURNAL_SMALL_BELOW (256 * MIB) /* these get the smallest journal there is */
/* The version changes with what is in it: an older husk's template is left alone. */
#define TEMPLATE_VERSION 3

/* ---- size */

static int bad_size(const char *text, struct error *err)
{
	return error_kind(err, ERR_INVALID,
			  "annotations[\"" SCRATCH_ANNOTATION
			  "\"]: \"%s\": give a size from 16M to 1T, such as 500M or 10G",
			  text);
}

int scratch_size(const char *text, uint64_t def, uint64_t max, uint64_t *bytes, struct error *err)
{
	char most[SIZE_TEXT];
	uint64_t v;

	*bytes = def   ? def
		 : max ? (max < SCRATCH_DEFAULT ? max : SCRATCH_DEFAULT)
		       : SCRATCH_DEFAULT;
	if (!text)
		return 0;
	if (!size_parse(text, &v) || v < SCRATCH_MIN || v > SCRATCH_MAX)
		return bad_size(text, err);
	if (max && v > max)
		return error_kind(
			err, ERR_UNSUPPORTED,
			"annotations[\"" SCRATCH_ANNOTATION
			"\"]: \"%s\": more than scratch.maximum of the configuration file "
			"(%s)",
			text, size_text(max, most));
	*bytes = (v + MIB - 1) / MIB * MIB;
	return 0;
}

/* ---- template */

/* The last line that a program wrote to `fd`, in `buf`. */
static void last_line(int fd, char *buf, size_t size)
{
	char text[4096];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	char *p;

	text[n > 0 ? n : 0] = '\0';
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		text[--n] = '\0';
	p = strrchr(text, '\n');
	snprintf(buf, size, "%.*s", (int)size - 1, p ? p + 1 : text);
}

static int check_status(int status, const char *what, int log_fd, struct error *err)
{
	char why[256];

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	last_line(log_fd, why, sizeof(why));
	if (WIFSIGNALED(status))
		return error_set(err, "%s: killed by signal %d", what, WTERMSIG(status));
	return error_set(err, "%s: %s", what, why[0] ? why : "failed without a message");
}

/* What a new scratch disk holds: the directories of the overlay, upper/ with mode 0 to say that
 * it was never used (agent/root.c). */
static int make_content(const char *dir, struct error *err)
{
	cleanup_free char *upper = xasprintf("%s/upper", dir);
	cleanup_free char *work = xasprintf("%s/work", dir);

	if (mkdir_p(dir, 0700, err) < 0)
		return -1;
	if ((mkdir(upper, 0) < 0 && errno != EEXIST) || (mkdir(work, 0755) < 0 && errno != EEXIST))
		return error_errno(err, "mkdir in %s", dir);
	return 0;
}

static void remove_content(const char *dir)
{
	cleanup_free char *upper = xasprintf("%s/upper", dir);
	cleanup_free char *work = xasprintf("%s/work", dir);

	rmdir(upper);
	rmdir(work);
	rmdir(dir);
}

static int run_mkfs(const char *content, const char *image, uint64_t bytes, int intr_fd,
		    struct error *err)
{
	cleanup_free char *mkfs = path_program("mkfs.ext4", "e2fsprogs", err);
	cleanup_free char *size = xasprintf("%" PRIu64 "K", bytes / 1024);
	cleanup_close int log = memfd_create("mkfs.ext4", MFD_CLOEXEC);
	const char *args[] = {mkfs,
			      "-q",
			      "-F",
			      "-b",
			      "4096",
			      "-m",
			      "0",
			      "-J",
			      bytes < JOURNAL_SMALL_BELOW ? "size=4" : "size=16",
			      "-O",
			      "^resize_inode,sparse_super2",
			      "-E",
			      "assume_storage_prezeroed,nodiscard,num_backup_sb=0,root_owner=0:0",
			      "-d",
			      content,
			      image,
			      size,
			      NULL};
	int status = 0;
	pid_t pid;

	if (!mkfs)
		return -1;
	pid = spawn_process(&(struct spawn){.path = mkfs,
					    .argv = (char *const *)args,
					    .fds = (int[]){-1, -1, log},
					    .nfds = 3,
					    .die_with_parent = true},
			    err);
	if (pid < 0 || spawn_wait(pid, intr_fd, now_us() + MKFS_US, &status, err) < 0)
		return -1;
	return check_status(status, "mkfs.ext4", log, err);
}

/* Called with the data directory locked: nobody else works on these names. */
static int make_template(int dirfd, const char *data, const char *name, uint64_t bytes, int intr_fd,
			 struct error *err)
{
	cleanup_free char *image = xasprintf("%s/.%s.new", data, name);
	cleanup_free char *content = xasprintf("%s/.%s.d", data, name);
	int r;

	unlink(image);
	r = make_content(content, err);
	if (r == 0)
		r = run_mkfs(content, image, bytes, intr_fd, err);
	remove_content(content);
	if (r == 0 && renameat(AT_FDCWD, image, dirfd, name) < 0)
		r = error_errno(err, "rename %s", image);
	if (r < 0) {
		unlink(image);
		return error_wrap(err, "make the scratch template in %s", data);
	}
	return 0;
}

static int open_template(const char *data, uint64_t bytes, int intr_fd, struct error *err)
{
	cleanup_free char *name =
		xasprintf("scratch-%d-%" PRIu64 "m.ext4", TEMPLATE_VERSION, bytes / MIB);
	cleanup_close int dirfd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (dirfd < 0)
		return error_errno(err, "open %s", data);
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	/* One maker at a time; the others find it made. */
	while (flock(dirfd, LOCK_EX | LOCK_NB) < 0) {
		struct pollfd p = {.fd = intr_fd, .events = POLLIN};

		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_errno(err, "lock %s", data);
		if (poll(&p, 1, 10) > 0)
			return error_kind(err, ERR_INTERRUPTED, "interrupted by a signal");
	}
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && make_template(dirfd, data, name, bytes, intr_fd, err) < 0)
		return -1;
	if (fd < 0)
		fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, "open %s/%s", data, name) : fd;
}

/* ---- clone */

static int copy_range(int from, int to, off_t off, off_t end, struct error *err)
{
	off_t in = off, out = off;

	while (in < end) {
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);

		if (n < 0)
			return error_errno(err, "copy the scratch template");
		if (n == 0)
			return error_set(err, "copy the scratch template: it became shorter");
	}
	return 0;
}

/* Copies the parts of `from` that hold data; the rest of `to` stays a hole. */
static int copy_sparse(int from, int to, struct error *err)
{
	struct stat st;
	off_t off = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return error_errno(err, "size of the scratch disk");
	while (off < st.st_size) {
		off_t data = lseek(from, off, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break; /* only a hole is left */
		hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return error_errno(err, "read the scratch template");
		if (copy_range(from, to, data, hole, err) < 0)
			return -1;
		off = hole;
	}
	return 0;
}

int scratch_fill(const char *data, uint64_t bytes, int to, int intr_fd, struct error *err)
{
	cleanup_close int from = open_template(data, bytes, intr_fd, err);

	if (from < 0)
		return -1;
	return copy_sparse(from, to, err) < 0 ? error_wrap(err, "scratch disk in %s", data) : 0;
}
