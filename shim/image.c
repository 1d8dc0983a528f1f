#include "shim/image.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/paths.h"
#include "shim/spawn.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MKFS_US (600u * 1000000u) /* a root file system of many GiB on a slow disk */
#define SCRATCH_SIZE "10G"
/* The name changes with what is in it: an older husk's template is left alone. */
#define TEMPLATE "scratch-10g-2.ext4"

static int nameless_file(const char *data, struct error *err)
{
	int fd = open(data, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		cleanup_free char *name = xasprintf("%s/.image.XXXXXX", data);

		fd = mkostemp(name, O_CLOEXEC);
		if (fd >= 0)
			unlink(name);
	}
	return fd < 0 ? error_errno(err, "make a file in %s", data) : fd;
}

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

/* ---- root file system */

int root_image_begin(const char *rootfs, const char *data, struct root_image *im, struct error *err)
{
	cleanup_free char *mkfs = path_program("mkfs.erofs", "erofs-utils", err);
	const char *args[] = {mkfs, "--quiet", "/proc/self/fd/3", rootfs, NULL};

	*im = (struct root_image){.fd = -1, .log_fd = -1};
	if (!mkfs)
		return -1;
	im->fd = nameless_file(data, err);
	if (im->fd < 0)
		return -1;
	im->log_fd = memfd_create("mkfs.erofs", MFD_CLOEXEC);
	im->mkfs = spawn_process(&(struct spawn){.path = mkfs,
						 .argv = (char *const *)args,
						 .fds = (int[]){-1, -1, im->log_fd, im->fd},
						 .nfds = 4,
						 .die_with_parent = true},
				 err);
	if (im->mkfs < 0) {
		im->mkfs = 0;
		root_image_free(im);
		return -1;
	}
	return 0;
}

int root_image_finish(struct root_image *im, const char *rootfs, const char *data, int intr_fd,
		      struct error *err)
{
	pid_t pid = im->mkfs;
	int status = 0;

	im->mkfs = 0;
	if (spawn_wait(pid, intr_fd, now_us() + MKFS_US, &status, err) < 0 ||
	    check_status(status, "mkfs.erofs", im->log_fd, err) < 0)
		return error_wrap(err, "root.path: make the image of %s in %s", rootfs, data);
	return steal_fd(&im->fd);
}

void root_image_free(struct root_image *im)
{
	if (im->mkfs > 0) {
		kill(im->mkfs, SIGKILL);
		while (waitpid(im->mkfs, NULL, 0) < 0 && errno == EINTR)
			;
	}
	close_fd(&im->fd);
	close_fd(&im->log_fd);
	im->mkfs = 0;
}

/* ---- scratch */

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
		off_t data = lseek(from, off, SEEK_DATA), hole, in, out;

		if (data < 0)
			break; /* ENXIO: only a hole is left */
		hole = lseek(from, data, SEEK_HOLE);
		for (in = out = data; in < hole;) {
			ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(hole - in), 0);

			if (n <= 0)
				return error_errno(err, "copy the scratch template");
		}
		off = hole;
	}
	return 0;
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

static int run_mkfs(const char *content, const char *image, int intr_fd, struct error *err)
{
	cleanup_free char *mkfs = path_program("mkfs.ext4", "e2fsprogs", err);
	cleanup_close int log = memfd_create("mkfs.ext4", MFD_CLOEXEC);
	/* No journal: the disk does not outlive its VM. Tables are written when they are used. */
	const char *args[] = {mkfs,	      "-q",    "-F",
			      "-m",	      "0",     "-O",
			      "^has_journal", "-E",    "lazy_itable_init=1,nodiscard",
			      "-d",	      content, image,
			      SCRATCH_SIZE,   NULL};
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
static int make_template(int dirfd, const char *data, int intr_fd, struct error *err)
{
	cleanup_free char *image = xasprintf("%s/.%s.new", data, TEMPLATE);
	cleanup_free char *content = xasprintf("%s/.%s.d", data, TEMPLATE);
	int r;

	unlink(image);
	r = make_content(content, err);
	if (r == 0)
		r = run_mkfs(content, image, intr_fd, err);
	remove_content(content);
	if (r == 0 && renameat(AT_FDCWD, image, dirfd, TEMPLATE) < 0)
		r = error_errno(err, "rename %s", image);
	if (r < 0) {
		unlink(image);
		return error_wrap(err, "make the scratch template in %s", data);
	}
	return 0;
}

static int open_template(const char *data, int intr_fd, struct error *err)
{
	cleanup_close int dirfd = open(data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (dirfd < 0)
		return error_errno(err, "open %s", data);
	fd = openat(dirfd, TEMPLATE, O_RDONLY | O_CLOEXEC);
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
	fd = openat(dirfd, TEMPLATE, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && make_template(dirfd, data, intr_fd, err) < 0)
		return -1;
	if (fd < 0)
		fd = openat(dirfd, TEMPLATE, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, "open %s/%s", data, TEMPLATE) : fd;
}

int scratch_make(const char *data, int intr_fd, struct error *err)
{
	cleanup_close int from = open_template(data, intr_fd, err);
	cleanup_close int to = -1;

	if (from < 0)
		return -1;
	to = nameless_file(data, err);
	if (to < 0 || copy_sparse(from, to, err) < 0)
		return error_wrap(err, "scratch disk in %s", data);
	return steal_fd(&to);
}
