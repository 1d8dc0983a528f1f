/* The raw block source: a regular file or a block device, read and written in place. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/source.h"

/* One call for every vector of buffers, here and with a TAP: preadv2(2), pwritev2(2). */
/* syscalls block: preadv2 pwritev2 fdatasync ioctl(1==BLKZEROOUT) ioctl(1==BLKDISCARD)
 *	fallocate(1==FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE) */
/* syscalls loop: fstat fcntl(1==F_GETFL) ioctl(1==BLKGETSIZE64) close */

struct file_source {
	struct block_source s;
	int fd;
	bool blockdev, discardable;
};

static struct file_source *file_of(struct block_source *s)
{
	return (struct file_source *)s;
}

/* One segment, or what is left of it. A file that was made shorter under us reads as zeros where it
 * ended: an error there would only make the guest try again. */
static int read_rest(int fd, uint8_t *buf, uint64_t len, uint64_t off)
{
	while (len) {
		struct iovec iov = {buf, len};
		ssize_t r = preadv2(fd, &iov, 1, (off_t)off, 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (r == 0) {
			memset(buf, 0, len);
			return 0;
		}
		buf += r;
		len -= (uint64_t)r;
		off += (uint64_t)r;
	}
	return 0;
}

static int write_rest(int fd, uint8_t *buf, uint64_t len, uint64_t off)
{
	while (len) {
		struct iovec iov = {buf, len};
		ssize_t r = pwritev2(fd, &iov, 1, (off_t)off, 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		buf += r;
		len -= (uint64_t)r;
		off += (uint64_t)r;
	}
	return 0;
}

/* Finishes what one preadv2() or pwritev2() that moved `done` bytes left over. */
static int move_rest(int fd, const struct iovec *iov, unsigned n, uint64_t off, uint64_t done,
		     bool out)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t *base = iov[i].iov_base;
		uint64_t len = iov[i].iov_len;
		int r;

		if (done >= len) {
			done -= len;
		} else {
			r = out ? write_rest(fd, base + done, len - done, off + done)
				: read_rest(fd, base + done, len - done, off + done);
			if (r < 0)
				return r;
			done = 0;
		}
		off += len;
	}
	return 0;
}

static int file_move(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off,
		     bool out)
{
	int fd = file_of(s)->fd;
	ssize_t r;

	do {
		r = out ? pwritev2(fd, iov, (int)n, (off_t)off, 0)
			: preadv2(fd, iov, (int)n, (off_t)off, 0);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	return move_rest(fd, iov, n, off, (uint64_t)r, out);
}

static int file_readv(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off)
{
	return file_move(s, iov, n, off, false);
}

static int file_writev(struct block_source *s, const struct iovec *iov, unsigned n, uint64_t off)
{
	return file_move(s, iov, n, off, true);
}

static int file_flush(struct block_source *s)
{
	const struct file_source *f = file_of(s);

	if (f->discardable || s->readonly)
		return 0;
	return fdatasync(f->fd) < 0 ? -errno : 0;
}

static int file_discard(struct block_source *s, uint64_t off, uint64_t len, bool zero)
{
	const struct file_source *f = file_of(s);
	uint64_t range[2] = {off, len};
	int r;

	if (f->blockdev)
		r = ioctl(f->fd, zero ? BLKZEROOUT : BLKDISCARD, range);
	else
		r = fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
			      (off_t)len);
	return r < 0 ? -errno : 0;
}

static void file_destroy(struct block_source *s)
{
	close(file_of(s)->fd);
	free(s);
}

static const struct block_source_ops file_ops = {
	.readv = file_readv,
	.writev = file_writev,
	.flush = file_flush,
	.discard = file_discard,
	.destroy = file_destroy,
};

static int file_size(int fd, bool *blockdev, uint64_t *bytes, struct error *err)
{
	struct stat st;

	if (fd_stat(fd, &st) < 0)
		return error_errno(err, "block image: fstat");
	*blockdev = S_ISBLK(st.st_mode);
	if (S_ISREG(st.st_mode))
		*bytes = (uint64_t)st.st_size;
	else if (!*blockdev)
		return error_kind(err, ERR_INVALID,
				  "block image: neither a regular file nor a block device");
	else if (ioctl(fd, BLKGETSIZE64, bytes) < 0)
		return error_errno(err, "block image: BLKGETSIZE64");
	*bytes &= ~UINT64_C(511);
	if (*bytes == 0)
		return error_kind(err, ERR_INVALID, "block image: smaller than one sector");
	return 0;
}

/* The fd must be able to do what the source promises. O_APPEND would move every write to the
 * file's end, whatever its offset. */
static int check_mode(int fd, bool readonly, struct error *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return error_errno(err, "block image: F_GETFL");
	if ((flags & O_PATH) || (flags & O_ACCMODE) == O_WRONLY)
		return error_kind(err, ERR_INVALID, "block image: not open for reading");
	if (!readonly && ((flags & O_ACCMODE) != O_RDWR || (flags & O_APPEND)))
		return error_kind(err, ERR_INVALID, "block image: not open for writing in place");
	return 0;
}

struct block_source *source_file_new(int fd, bool readonly, bool discardable, struct error *err)
{
	cleanup_close int own = fd;
	struct file_source *f;
	uint64_t bytes = 0;
	bool blockdev = false;

	if (check_mode(fd, readonly, err) < 0 || file_size(fd, &blockdev, &bytes, err) < 0)
		return NULL;
	f = calloc(1, sizeof(*f));
	if (!f) {
		error_set(err, "out of memory");
		return NULL;
	}
	*f = (struct file_source){
		.s = {.ops = &file_ops, .bytes = bytes, .readonly = readonly},
		.fd = steal_fd(&own),
		.blockdev = blockdev,
		.discardable = discardable,
	};
	return &f->s;
}
