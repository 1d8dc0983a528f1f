#include "lib/changeset/apply_priv.h"
#include "lib/cleanup.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/*
 * A regular file of a changeset, in the place of whatever has its name.
 *
 * Nothing there: it is made under its own name. If that is interrupted, a piece of it is there,
 * which the next run replaces.
 *
 * A file with the same size and time may be the same one. Only its content can tell: it is compared
 * with the stream as it comes, and at the first difference what was alike so far is copied
 * to a temporary file that takes the rest of the stream. If all is alike, the file stays, and the
 * attributes that differ are set.
 *
 * Anything else: a temporary file, and a rename.
 */

/* ---- the stream's data into a new file */

static int write_at(struct apply *a, int fd, const void *buf, size_t len, uint64_t off)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(a->err, "write %s", apply_path(a));
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* All data that still comes; `end` is where the file ends so far. */
static int take_data(struct apply *a, int fd, const struct cs_entry *e, uint64_t end)
{
	const void *buf;
	uint64_t off;
	size_t len;
	int r;

	while ((r = cs_next_data(a->r, &off, &buf, &len, a->err)) > 0) {
		if (write_at(a, fd, buf, len, off) < 0)
			return -1;
		end = off + len;
		a->n->data_bytes += len;
	}
	if (r == 0 && end != e->size && ftruncate(fd, (off_t)e->size) < 0)
		return error_errno(a->err, "%s: set the size to %llu", apply_path(a),
				   (unsigned long long)e->size);
	return r;
}

static int finish_new(struct apply *a, int fd, const struct cs_entry *e, struct stat *st)
{
	struct xattr_at at = {.fd = fd, .name = e->name};
	bool changed = false;

	if (fstat(fd, st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	if (apply_attrs(a, &at, e, st, !apply_level(a)->default_acl, &changed) < 0)
		return -1;
	if (a->o->changed && fstat(fd, st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	return 0;
}

static int open_new(int dirfd, const char *name, const struct cs_entry *e)
{
	return openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		      e->mode & 0777);
}

static int open_temporary(struct apply *a, int dirfd, const struct cs_entry *e)
{
	int fd = open_new(dirfd, CS_TEMPORARY, e);

	if (fd < 0 && errno == EEXIST) {
		if (apply_remove_temporary(a, dirfd) < 0)
			return -1;
		fd = open_new(dirfd, CS_TEMPORARY, e);
	}
	return fd < 0 ? error_errno(a->err, "make a temporary file for %s", apply_path(a)) : fd;
}

/* The temporary file is whole up to `end`: the rest of the stream, the attributes, the name. */
static int finish_temporary(struct apply *a, int dirfd, int fd, const struct cs_entry *e,
			    uint64_t end, const struct stat *old, struct stat *st)
{
	if (take_data(a, fd, e, end) < 0 || finish_new(a, fd, e, st) < 0 ||
	    apply_replace(a, dirfd, e->name, old) < 0) {
		unlinkat(dirfd, CS_TEMPORARY, 0);
		return -1;
	}
	apply_note_changed(a, st);
	return 0;
}

static int replace(struct apply *a, int dirfd, const struct cs_entry *e, const struct stat *old,
		   struct stat *st)
{
	cleanup_close int fd = open_temporary(a, dirfd, e);

	return fd < 0 ? -1 : finish_temporary(a, dirfd, fd, e, 0, old, st);
}

/* ---- comparing with what is there */

/* Reads up to COPY_SIZE bytes of `fd` into a->buf; fewer only at its end. */
static ssize_t read_at(struct apply *a, int fd, size_t len, uint64_t off)
{
	size_t got = 0;

	if (len > COPY_SIZE)
		len = COPY_SIZE;
	while (got < len) {
		ssize_t n = pread(fd, a->buf + got, len - got, (off_t)(off + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(a->err, "read %s", apply_path(a));
		if (n == 0)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* Where data begins at or after `off`; `end` if only a hole is before it. */
static uint64_t next_data(int fd, uint64_t off, uint64_t end)
{
	off_t d = lseek(fd, (off_t)off, SEEK_DATA);

	if (d < 0)
		return errno == ENXIO ? end : off;
	return (uint64_t)d < end ? (uint64_t)d : end;
}

/* Bytes [off, end) of `fd` are zeros: 1. */
static int is_zero(struct apply *a, int fd, uint64_t off, uint64_t end)
{
	while ((off = off < end ? next_data(fd, off, end) : end) < end) {
		ssize_t n = read_at(a, fd, end - off < COPY_SIZE ? end - off : COPY_SIZE, off);

		if (n < 0)
			return -1;
		if (n == 0)
			return 1;
		if (a->buf[0] != 0 || memcmp(a->buf, a->buf + 1, (size_t)n - 1) != 0)
			return 0;
		off += (uint64_t)n;
	}
	return 1;
}

static int is_same(struct apply *a, int fd, uint64_t off, const void *buf, size_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = read_at(a, fd, len, off);

		if (n < 0)
			return -1;
		if (n == 0 || memcmp(a->buf, p, (size_t)n) != 0)
			return 0;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 1;
}

static int copy_up_to(struct apply *a, int from, int to, uint64_t end)
{
	uint64_t off = 0;

	while ((off = off < end ? next_data(from, off, end) : end) < end) {
		ssize_t n = read_at(a, from, end - off < COPY_SIZE ? end - off : COPY_SIZE, off);

		if (n < 0)
			return -1;
		if (n == 0)
			break;
		if (write_at(a, to, a->buf, (size_t)n, off) < 0)
			return -1;
		off += (uint64_t)n;
	}
	if (ftruncate(to, (off_t)end) < 0)
		return error_errno(a->err, "%s: set the size", apply_path(a));
	return 0;
}

/* A temporary file with what `have` has up to `same`, the piece at hand, and the rest. */
static int replace_from(struct apply *a, int dirfd, int have, const struct cs_entry *e,
			uint64_t same, uint64_t off, const void *buf, size_t len,
			const struct stat *old, struct stat *st)
{
	cleanup_close int fd = open_temporary(a, dirfd, e);

	if (fd < 0)
		return -1;
	if (copy_up_to(a, have, fd, same) < 0 || (len && write_at(a, fd, buf, len, off) < 0)) {
		unlinkat(dirfd, CS_TEMPORARY, 0);
		return -1;
	}
	a->n->data_bytes += len;
	return finish_temporary(a, dirfd, fd, e, len ? off + len : same, old, st);
}

/* The content is the same: attributes that differ are set, unless other names share them. */
static int keep(struct apply *a, int dirfd, int have, const struct cs_entry *e,
		const struct stat *old, struct stat *st)
{
	struct xattr_at at = {.fd = have, .name = e->name};
	bool changed = false;

	*st = *old;
	if (old->st_nlink > 1) {
		bool alike = old->st_uid == e->uid && old->st_gid == e->gid &&
			     (old->st_mode & 07777) == e->mode;

		if (cs_xattrs_read(&at, &a->there, a->err) < 0)
			return -1;
		if (alike && xattrs_equal(a->there.v, a->there.n, e->xattrs, e->n_xattrs))
			return 0;
		return replace_from(a, dirfd, have, e, e->size, 0, NULL, 0, old, st);
	}
	if (apply_attrs(a, &at, e, old, false, &changed) < 0)
		return -1;
	if (!changed)
		return 0;
	/* An overlay has copied it up: another inode behind the name, not behind `have`. */
	if (fstatat(dirfd, e->name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	apply_note_changed(a, st);
	return 0;
}

static int compare(struct apply *a, int dirfd, int have, const struct cs_entry *e,
		   const struct stat *old, struct stat *st)
{
	uint64_t pos = 0, off;
	const void *buf;
	size_t len;
	int r;

	while ((r = cs_next_data(a->r, &off, &buf, &len, a->err)) > 0) {
		int same = is_zero(a, have, pos, off);

		if (same > 0) {
			pos = off;
			same = is_same(a, have, off, buf, len);
		}
		if (same < 0)
			return -1;
		if (same == 0)
			return replace_from(a, dirfd, have, e, pos, off, buf, len, old, st);
		pos = off + len;
		a->n->data_bytes += len;
	}
	if (r == 0)
		r = is_zero(a, have, pos, e->size);
	else
		return -1;
	if (r == 0)
		return replace_from(a, dirfd, have, e, pos, pos, NULL, 0, old, st);
	return r < 0 ? -1 : keep(a, dirfd, have, e, old, st);
}

/* ---- in place: a file whose inode others hold */

/* Bytes [off, end), or less if the file ends before, become zeros. */
static int zero_range(struct apply *a, int fd, uint64_t off, uint64_t end, bool *changed)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	if (end > (uint64_t)st.st_size)
		end = (uint64_t)st.st_size;
	if (off >= end)
		return 0;
	r = is_zero(a, fd, off, end);
	if (r != 0)
		return r < 0 ? -1 : 0;
	*changed = true;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
		      (off_t)(end - off)) == 0)
		return 0;
	memset(a->buf, 0, COPY_SIZE);
	for (; off < end; off += COPY_SIZE)
		if (write_at(a, fd, a->buf, end - off < COPY_SIZE ? end - off : COPY_SIZE, off) < 0)
			return -1;
	return 0;
}

static int write_in_place(struct apply *a, int fd, const struct cs_entry *e, bool *changed)
{
	uint64_t pos = 0, off;
	const void *buf;
	struct stat st;
	size_t len;
	int r;

	while ((r = cs_next_data(a->r, &off, &buf, &len, a->err)) > 0) {
		int same = is_same(a, fd, off, buf, len);

		if (same < 0 || zero_range(a, fd, pos, off, changed) < 0 ||
		    (same == 0 && write_at(a, fd, buf, len, off) < 0))
			return -1;
		*changed |= same == 0;
		pos = off + len;
		a->n->data_bytes += len;
	}
	if (r < 0 || zero_range(a, fd, pos, e->size, changed) < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	if ((uint64_t)st.st_size == e->size)
		return 0;
	*changed = true;
	if (ftruncate(fd, (off_t)e->size) < 0)
		return error_errno(a->err, "%s: set the size to %llu", apply_path(a),
				   (unsigned long long)e->size);
	return 0;
}

static int in_place(struct apply *a, int dirfd, const struct cs_entry *e, struct stat *st)
{
	cleanup_close int fd = openat(dirfd, e->name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct xattr_at at = {.fd = fd, .name = e->name};
	bool changed = false;

	if (fd < 0)
		return error_errno(a->err, "open %s", apply_path(a));
	if (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))
		return error_set(a->err, "%s: it was replaced meanwhile", apply_path(a));
	if (write_in_place(a, fd, e, &changed) < 0)
		return -1;
	/* Looked at after writing, which changed the time and dropped set-id bits. */
	if (fstat(fd, st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	if (apply_attrs(a, &at, e, st, false, &changed) < 0)
		return -1;
	if (!changed)
		return 0;
	if (fstat(fd, st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	apply_note_changed(a, st);
	return 0;
}

/* ---- the entry */

static int make(struct apply *a, int fd, const struct cs_entry *e, struct stat *st)
{
	if (take_data(a, fd, e, 0) < 0 || finish_new(a, fd, e, st) < 0)
		return -1;
	apply_note_changed(a, st);
	return 0;
}

int apply_file(struct apply *a, int dirfd, const struct cs_entry *e, struct stat *st)
{
	cleanup_close int fd = open_new(dirfd, e->name, e);
	struct stat old;

	if (fd >= 0)
		return make(a, fd, e, st);
	if (errno != EEXIST)
		return error_errno(a->err, "make %s", apply_path(a));
	if (fstatat(dirfd, e->name, &old, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	if (!S_ISREG(old.st_mode))
		return replace(a, dirfd, e, &old, st);
	if (a->o->in_place && a->n_levels == 1)
		return in_place(a, dirfd, e, st);
	if ((uint64_t)old.st_size != e->size || !apply_same_time(&old.st_mtim, &e->mtime) ||
	    !apply_may_keep(a, e, &old))
		return replace(a, dirfd, e, &old, st);
	fd = openat(dirfd, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return replace(a, dirfd, e, &old, st);
	if (fstat(fd, &old) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	if (!S_ISREG(old.st_mode) || (uint64_t)old.st_size != e->size)
		return replace(a, dirfd, e, &old, st);
	return compare(a, dirfd, fd, e, &old, st);
}
