#include "agent/copy_up.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static int copy_dir(int src, int dst, const struct stat *root, int depth, struct error *err);

/* A tmpfs takes few kinds of attributes: what it refuses is left behind, as cp does. */
static void copy_xattrs(int src, int dst)
{
	ssize_t n = flistxattr(src, NULL, 0); /* nearly always nothing */
	cleanup_free char *names = n > 0 ? xcalloc((size_t)n, 1) : NULL;
	cleanup_free char *value = n > 0 ? xcalloc(XATTR_SIZE_MAX, 1) : NULL;

	if (!names)
		return;
	n = flistxattr(src, names, (size_t)n);
	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
		ssize_t len = fgetxattr(src, names + i, value, XATTR_SIZE_MAX);

		if (len >= 0 && fsetxattr(dst, names + i, value, (size_t)len, 0) < 0)
			continue;
	}
}

static int copy_inode(int src, int dst, const struct stat *st, struct error *err)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	if (fchown(dst, st->st_uid, st->st_gid) < 0 || fchmod(dst, st->st_mode & 07777) < 0)
		return error_errno(err, "owner and mode");
	copy_xattrs(src, dst);
	if (futimens(dst, times) < 0)
		return error_errno(err, "times");
	return 0;
}

/* Data alone: a tmpfs is memory, and a hole would become some. */
static int copy_data(int in, int out, off_t size, struct error *err)
{
	off_t at = 0, end;

	while ((at = lseek(in, at, SEEK_DATA)) >= 0) {
		end = lseek(in, at, SEEK_HOLE);
		if (end < 0 || lseek(out, at, SEEK_SET) < 0)
			return error_errno(err, "seek");
		while (at < end) {
			ssize_t n = sendfile(out, in, &at, (size_t)(end - at));

			if (n < 0)
				return error_errno(err, "copy");
			if (n == 0) /* it has become shorter */
				return 0;
		}
	}
	if (errno != ENXIO)
		return error_errno(err, "seek");
	return ftruncate(out, size) < 0 ? error_errno(err, "size") : 0;
}

static int copy_file(int src_dir, int dst_dir, const char *name, const struct stat *st,
		     struct error *err)
{
	cleanup_close int in =
		openat(src_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_close int out =
		openat(dst_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (in < 0 || out < 0)
		return error_errno(err, "open");
	if (copy_data(in, out, st->st_size, err) < 0)
		return -1;
	return copy_inode(in, out, st, err);
}

/* Links, device nodes, pipes, sockets. */
static int copy_special(int src_dir, int dst_dir, const char *name, const struct stat *st,
			struct error *err)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};
	char target[PATH_MAX];
	ssize_t n;

	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(src_dir, name, target, sizeof(target) - 1);
		if (n < 0)
			return error_errno(err, "readlink");
		target[n] = '\0';
		if (symlinkat(target, dst_dir, name) < 0)
			return error_errno(err, "symlink");
	} else if (mknodat(dst_dir, name, st->st_mode, st->st_rdev) < 0) {
		return error_errno(err, "mknod");
	}
	if (fchownat(dst_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "owner");
	if (!S_ISLNK(st->st_mode) && fchmodat(dst_dir, name, st->st_mode & 07777, 0) < 0)
		return error_errno(err, "mode");
	if (utimensat(dst_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "times");
	return 0;
}

static int copy_subdir(int src_dir, int dst_dir, const char *name, const struct stat *root,
		       int depth, struct error *err)
{
	cleanup_close int in =
		openat(src_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int out = -1;

	if (in < 0)
		return error_errno(err, "open");
	if (mkdirat(dst_dir, name, 0700) < 0)
		return error_errno(err, "mkdir");
	out = openat(dst_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return error_errno(err, "open");
	return copy_dir(in, out, root, depth + 1, err);
}

static int copy_entry(int src, int dst, const char *name, const struct stat *root, int depth,
		      struct error *err)
{
	struct stat st;

	if (fstatat(src, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, "stat");
	if (S_ISDIR(st.st_mode) && st.st_dev != root->st_dev)
		return 0; /* a mount */
	if (S_ISDIR(st.st_mode))
		return copy_subdir(src, dst, name, root, depth, err);
	if (S_ISREG(st.st_mode))
		return copy_file(src, dst, name, &st, err);
	return copy_special(src, dst, name, &st, err);
}

static int copy_dir(int src, int dst, const struct stat *root, int depth, struct error *err)
{
	cleanup_close int again = openat(src, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = again >= 0 ? fdopendir(again) : NULL;
	const struct dirent *e;
	struct stat st;

	if (!d || fstat(again, &st) < 0)
		return error_errno(err, "open directory");
	again = -1; /* closedir() closes it */
	if (depth > COPY_UP_DEPTH_MAX)
		return error_set(err, "directories are nested more than %d deep",
				 COPY_UP_DEPTH_MAX);
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (copy_entry(src, dst, e->d_name, root, depth, err) < 0)
			return error_wrap(err, "%s", e->d_name);
	}
	return copy_inode(dirfd(d), dst, &st, err);
}

int copy_up(int src_fd, int dst_fd, struct error *err)
{
	cleanup_close int dst = openat(dst_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (dst < 0 || fstat(src_fd, &st) < 0)
		return error_errno(err, "open");
	return copy_dir(src_fd, dst, &st, 0, err);
}
