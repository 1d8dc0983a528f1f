#include "lib/changeset/apply_priv.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* ---- attributes */

static int do_chown(const struct xattr_at *at, const struct cs_entry *e)
{
	return at->fd >= 0 ? fchown(at->fd, e->uid, e->gid)
			   : fchownat(at->dirfd, at->name, e->uid, e->gid, AT_SYMLINK_NOFOLLOW);
}

static int do_chmod(const struct xattr_at *at, const struct cs_entry *e)
{
	return at->fd >= 0 ? fchmod(at->fd, e->mode)
			   : fchmodat(at->dirfd, at->name, e->mode, AT_SYMLINK_NOFOLLOW);
}

/* The time of the last access is nobody's change: it stays. */
static int do_times(const struct xattr_at *at, const struct cs_entry *e)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};

	return at->fd >= 0 ? futimens(at->fd, t)
			   : utimensat(at->dirfd, at->name, t, AT_SYMLINK_NOFOLLOW);
}

static void refuse_overlays(struct apply *a, const struct cs_entry *e)
{
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (xattr_is_overlays(e->xattrs[i].name)) {
			apply_refuse(a, "an extended attribute that is an overlay's own");
			return;
		}
}

/* The order matters: chown drops set-id bits and capabilities, an ACL changes the mode. */
int apply_attrs(struct apply *a, const struct xattr_at *at, const struct cs_entry *e,
		const struct stat *have, bool clean, bool *changed)
{
	bool owner = have->st_uid != e->uid || have->st_gid != e->gid, xattrs = false;
	bool mode = e->type != CS_SYMLINK && (have->st_mode & 07777) != e->mode;
	bool times = !apply_same_time(&have->st_mtim, &e->mtime);

	refuse_overlays(a, e);
	if (owner && do_chown(at, e) < 0)
		return error_errno(a->err, "change the owner of %s", apply_path(a));
	if (!clean || e->n_xattrs) {
		if (clean)
			a->there.n = 0;
		else if (cs_xattrs_read(at, &a->there, a->err) < 0)
			return -1;
		xattrs = !xattrs_equal(a->there.v, a->there.n, e->xattrs, e->n_xattrs);
	}
	if (xattrs) {
		uint64_t refused = 0;

		if (xattrs_set(at, &a->there, e->xattrs, e->n_xattrs, &refused, a->err) < 0)
			return -1;
		if (refused)
			apply_refuse(a, "an extended attribute that the file system does not take");
	}
	if ((mode || ((owner || xattrs) && e->type != CS_SYMLINK)) && do_chmod(at, e) < 0)
		return error_errno(a->err, "change the mode of %s", apply_path(a));
	if (times && do_times(at, e) < 0)
		return error_errno(a->err, "set the time of %s", apply_path(a));
	*changed |= owner || mode || times || xattrs;
	return 0;
}

/* ---- removal */

static int before_replace(struct apply *a, const struct stat *st)
{
	if (!a->o->before_replace || !S_ISREG(st->st_mode))
		return 0;
	return a->o->before_replace(a->o->arg, apply_path(a), a->err);
}

/* What is no directory. 1: removed; 0: was not there; 2: is a directory. */
static int remove_file(struct apply *a, int dirfd, const char *name)
{
	struct stat st;

	if (a->o->before_replace) {
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return errno == ENOENT ? 0 : error_errno(a->err, "stat %s", apply_path(a));
		if (S_ISDIR(st.st_mode))
			return 2;
		if (before_replace(a, &st) < 0)
			return -1;
	}
	if (unlinkat(dirfd, name, 0) == 0)
		return 1;
	if (errno == ENOENT)
		return 0;
	if (errno == EISDIR)
		return 2;
	return error_errno(a->err, "remove %s", apply_path(a));
}

/* The way down in a removal: a descriptor and a list of names for each directory. */
struct removal {
	struct dirs dirs;
	struct removal_level {
		struct dir_names names;
		size_t next;	 /* the name that comes next */
		size_t path_len; /* of the directory's path */
	} * level;
	size_t room;
};

static int removal_enter(struct apply *a, struct removal *m, int dirfd, const char *name)
{
	int fd = dirs_open(dirfd, name, true);
	size_t n = m->dirs.n;

	/* Another file system that is mounted there is not the directory's to remove. */
	if (fd < 0 && errno == EXDEV)
		return error_set(a->err, "remove %s: it is a mount point", apply_path(a));
	if (fd < 0)
		return error_errno(a->err, "open %s", apply_path(a));
	if (n == m->room) {
		size_t room = m->room ? m->room * 2 : 16;
		struct removal_level *l = realloc(m->level, room * sizeof(*l));

		if (!l) {
			close(fd);
			return error_set(a->err, "out of memory");
		}
		m->level = l;
		m->room = room;
	}
	m->level[n] = (struct removal_level){.path_len = a->path_len};
	if (dirs_push(&m->dirs, fd, NULL, a->err) < 0)
		return -1;
	return dir_names_read(fd, &m->level[n].names, a->err);
}

/* The lowest directory is empty: removes it, by its name in the one above (or in `dirfd`). */
static int removal_leave(struct apply *a, struct removal *m, int dirfd, const char *name)
{
	size_t n = m->dirs.n - 1;

	dir_names_free(&m->level[n].names);
	if (n > 0) {
		const struct removal_level *up = &m->level[n - 1];

		name = up->names.v[up->next - 1].name;
	}
	if (dirs_pop(&m->dirs, a->err) < 0)
		return error_wrap(a->err, "remove %s", apply_path(a));
	if (unlinkat(n > 0 ? dirs_fd(&m->dirs) : dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_errno(a->err, "remove %s", apply_path(a));
	return 0;
}

static int removal_step(struct apply *a, struct removal *m, int dirfd, const char *name)
{
	struct removal_level *l = &m->level[m->dirs.n - 1];
	int r;

	if (l->next == l->names.n) {
		if (apply_path_set(a, l->path_len, NULL) < 0)
			return -1;
		return removal_leave(a, m, dirfd, name);
	}
	name = l->names.v[l->next++].name;
	if (apply_path_set(a, l->path_len, name) < 0)
		return -1;
	r = remove_file(a, dirs_fd(&m->dirs), name);
	return r == 2 ? removal_enter(a, m, dirs_fd(&m->dirs), name) : r;
}

static int remove_dir(struct apply *a, int dirfd, const char *name)
{
	struct removal m = {0};
	size_t path_len = a->path_len;
	int r = removal_enter(a, &m, dirfd, name);

	while (r >= 0 && m.dirs.n > 0)
		r = removal_step(a, &m, dirfd, name);
	while (m.dirs.n > 0) { /* after an error */
		dir_names_free(&m.level[m.dirs.n - 1].names);
		close_fd(&m.dirs.level[--m.dirs.n].fd);
	}
	dirs_free(&m.dirs);
	free(m.level);
	if (r >= 0 && apply_path_set(a, path_len, NULL) < 0)
		return -1;
	return r < 0 ? -1 : 1;
}

int apply_remove(struct apply *a, int dirfd, const char *name)
{
	int r = remove_file(a, dirfd, name);

	return r == 2 ? remove_dir(a, dirfd, name) : r;
}

int apply_remove_temporary(struct apply *a, int dirfd)
{
	if (unlinkat(dirfd, CS_TEMPORARY, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR) /* none of ours; but in the way for good */
		return remove_dir(a, dirfd, CS_TEMPORARY);
	return error_errno(a->err, "remove %s in %s", CS_TEMPORARY, apply_path(a));
}

int apply_replace(struct apply *a, int dirfd, const char *name, const struct stat *st)
{
	if (S_ISDIR(st->st_mode)) {
		if (apply_remove(a, dirfd, name) < 0)
			return -1;
	} else if (before_replace(a, st) < 0) {
		return -1;
	}
	if (renameat(dirfd, CS_TEMPORARY, dirfd, name) < 0)
		return error_errno(a->err, "replace %s", apply_path(a));
	return 0;
}

/* ---- links, pipes, sockets, devices */

static mode_t mode_type(enum cs_type t)
{
	switch (t) {
	case CS_SYMLINK:
		return S_IFLNK;
	case CS_FIFO:
		return S_IFIFO;
	case CS_SOCKET:
		return S_IFSOCK;
	case CS_CHAR:
		return S_IFCHR;
	default:
		return S_IFBLK;
	}
}

static bool same_target(int dirfd, const struct cs_entry *e)
{
	char target[CS_TARGET_MAX + 1];
	ssize_t n = readlinkat(dirfd, e->name, target, sizeof(target));

	return n >= 0 && (size_t)n == strlen(e->target) &&
	       memcmp(target, e->target, (size_t)n) == 0;
}

/* The same thing, whatever its attributes. */
static bool same_special(int dirfd, const struct cs_entry *e, const struct stat *st)
{
	if ((st->st_mode & S_IFMT) != mode_type(e->type))
		return false;
	if (e->type == CS_SYMLINK)
		return same_target(dirfd, e);
	return (e->type != CS_CHAR && e->type != CS_BLOCK) ||
	       st->st_rdev == makedev(e->major, e->minor);
}

/* Alike in every respect: 1. */
static int is_alike(struct apply *a, int dirfd, const struct cs_entry *e, const struct stat *st)
{
	struct xattr_at at = {.fd = -1, .dirfd = dirfd, .name = e->name};

	if (!same_special(dirfd, e, st) || st->st_uid != e->uid || st->st_gid != e->gid ||
	    !apply_same_time(&st->st_mtim, &e->mtime) ||
	    (e->type != CS_SYMLINK && (st->st_mode & 07777) != e->mode))
		return 0;
	if (cs_xattrs_read(&at, &a->there, a->err) < 0)
		return -1;
	return xattrs_equal(a->there.v, a->there.n, e->xattrs, e->n_xattrs) &&
	       apply_may_keep(a, e, st);
}

static int make_node(int dirfd, const char *name, const struct cs_entry *e)
{
	if (e->type == CS_SYMLINK)
		return symlinkat(e->target, dirfd, name);
	return mknodat(dirfd, name, mode_type(e->type) | (e->mode & 0777),
		       makedev(e->major, e->minor));
}

/* Makes it as `name`, with its attributes. 1; 0: something is there. */
static int make_special(struct apply *a, int dirfd, const char *name, const struct cs_entry *e,
			struct stat *st)
{
	struct xattr_at at = {.fd = -1, .dirfd = dirfd, .name = name};
	bool changed = false;

	if (make_node(dirfd, name, e) < 0)
		return errno == EEXIST ? 0 : error_errno(a->err, "make %s", apply_path(a));
	if (fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (st->st_mode & S_IFMT) != mode_type(e->type))
		return error_set(a->err, "make %s: it was replaced meanwhile", apply_path(a));
	if (apply_attrs(a, &at, e, st, !apply_level(a)->default_acl, &changed) < 0)
		return -1;
	if (changed && fstatat(dirfd, name, st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	return 1;
}

/* A device that may not be made: fine if it is there already, whoever put it there. */
static bool is_refused(struct apply *a, int dirfd, const struct cs_entry *e)
{
	bool whiteout = e->type == CS_CHAR && e->major == 0 && e->minor == 0;
	struct stat st;

	if (e->type != CS_CHAR && e->type != CS_BLOCK)
		return false;
	if (!whiteout && a->o->mknod)
		return false;
	if (fstatat(dirfd, e->name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !same_special(dirfd, e, &st))
		apply_refuse(a, whiteout ? "a device 0:0" : "a device");
	return true;
}

int apply_special(struct apply *a, int dirfd, const struct cs_entry *e, struct stat *st)
{
	struct stat old;
	int r;

	if (is_refused(a, dirfd, e))
		return 0;
	r = make_special(a, dirfd, e->name, e, st);
	if (r == 0) {
		if (fstatat(dirfd, e->name, &old, AT_SYMLINK_NOFOLLOW) < 0)
			return error_errno(a->err, "stat %s", apply_path(a));
		r = is_alike(a, dirfd, e, &old);
		*st = old;
		if (r != 0)
			return r;
		if (apply_remove_temporary(a, dirfd) < 0)
			return -1;
		r = make_special(a, dirfd, CS_TEMPORARY, e, st);
		if (r == 0)
			return error_set(a->err, "%s: the directory is changed by somebody else",
					 apply_path(a));
		if (r < 0 || apply_replace(a, dirfd, e->name, &old) < 0)
			return -1;
	}
	if (r > 0)
		apply_note_changed(a, st);
	return r;
}
