#include "lib/changeset/apply_priv.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

/*
 * How it works: a directory of the stream is opened (or made) by one name in the directory before,
 * without following links; everything in it is named relative to that descriptor. So nothing that
 * anybody does to the tree meanwhile leads out of it. What is mounted beneath on the host is
 * entered, because that is what the directory shows; it is never removed.
 *
 * A directory's own attributes are set when it is left: by then its content does not change its
 * time any more. If it is opaque, what the stream did not name (a set of 64-bit hashes of names)
 * goes. A directory that we made ourselves has nothing to remove.
 *
 * Hard links: an entry with an id is remembered by path and inode. A LINK finds the path again
 * beneath the root, without links on the way, and takes it only if the inode is still that one.
 *
 * Link groups: a lower file with several names was written in the guest through some of them;
 * overlayfs (index=on) copied it once, and those names that nobody touched show the copy, too,
 * without being in the upper layer. They are what is left of the group's names at the end: not
 * named by the stream, and there. (What a whiteout or an opaque directory removed is not there.)
 *
 * Restart: a run that was interrupted leaves pieces of files, directories without their attributes,
 * perhaps CS_TEMPORARY in one directory. All of that differs from what the stream says, so that
 * the next run sets it right; the temporary name is removed when its directory is left.
 */

#define WARNINGS_MAX 10
#define ID_BYTES_MAX (256u << 20) /* memory for paths of files that have an id */

uint64_t apply_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325u;

	while (*s)
		h = (h ^ (unsigned char)*s++) * 0x100000001b3u;
	return h;
}

bool apply_same_time(const struct timespec *x, const struct timespec *y)
{
	return x->tv_sec == y->tv_sec && x->tv_nsec == y->tv_nsec;
}

int apply_path_set(struct apply *a, size_t dir_len, const char *name)
{
	size_t slash = dir_len && name ? 1 : 0, len = name ? strlen(name) : 0;

	if (dir_len + slash + len + 1 > a->path_room) {
		size_t room = (dir_len + slash + len + 1) * 2;
		char *p = realloc(a->path, room);

		if (!p)
			return error_set(a->err, "out of memory");
		a->path = p;
		a->path_room = room;
	}
	if (slash)
		a->path[dir_len] = '/';
	if (len)
		memcpy(a->path + dir_len + slash, name, len);
	a->path_len = dir_len + slash + len;
	a->path[a->path_len] = '\0';
	return 0;
}

const char *apply_path(const struct apply *a)
{
	return a->path_len ? a->path : ".";
}

void apply_refuse(struct apply *a, const char *why)
{
	a->n->refused++;
	if (a->warned < WARNINGS_MAX)
		log_warn("%s: refused: %s", apply_path(a), why);
	else if (a->warned == WARNINGS_MAX)
		log_warn("%s: refused: %s; further ones are not shown", apply_path(a), why);
	if (a->warned <= WARNINGS_MAX)
		a->warned++;
}

void apply_note_changed(struct apply *a, const struct stat *st)
{
	a->n->changed++;
	if (a->o->changed)
		a->o->changed(a->o->arg, apply_path(a), st);
}

struct level *apply_level(struct apply *a)
{
	return &a->level[a->n_levels - 1];
}

/* Puts a hash into a growing set; false if it was there. Open addressing, 0 is free. */
static bool set_add(struct hash_set *s, uint64_t h)
{
	size_t i;

	h += h == 0;
	if (s->n * 2 >= s->room) {
		struct hash_set larger = {.room = s->room ? s->room * 2 : 64};

		larger.v = xcalloc(larger.room, sizeof(*larger.v));
		for (i = 0; i < s->room; i++)
			if (s->v[i])
				set_add(&larger, s->v[i]);
		free(s->v);
		*s = larger;
	}
	for (i = h & (s->room - 1); s->v[i]; i = (i + 1) & (s->room - 1))
		if (s->v[i] == h)
			return false;
	s->v[i] = h;
	s->n++;
	return true;
}

/* A file with several names may stay for one entry only: for a second one it would be a link
 * between what the sender has as two files. */
bool apply_may_keep(struct apply *a, const struct cs_entry *e, const struct stat *st)
{
	uint64_t h = ((uint64_t)st->st_ino ^ (uint64_t)st->st_dev << 44) * 0x9e3779b97f4a7c15u;

	if (st->st_nlink == 1)
		return true;
	return e->id != 0 && !a->overlay && set_add(&a->kept, h ^ h >> 32);
}

/* ---- directories */

/* A copy of the entry that outlives the reader's next call. */
static int keep_entry(struct level *l, const struct cs_entry *e, struct error *err)
{
	size_t bytes = 0;
	struct cs_xattr *x;
	char *p;

	l->e = *e;
	l->e.name = NULL;
	l->e.xattrs = NULL;
	if (e->n_xattrs == 0)
		return 0;
	for (size_t i = 0; i < e->n_xattrs; i++)
		bytes += sizeof(*x) + strlen(e->xattrs[i].name) + 1 + e->xattrs[i].len;
	l->keep = malloc(bytes);
	if (!l->keep)
		return error_set(err, "out of memory");
	x = l->keep;
	l->e.xattrs = x;
	p = (char *)(x + e->n_xattrs);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct cs_xattr *from = &e->xattrs[i];
		size_t name = strlen(from->name) + 1;

		memcpy(p, from->name, name);
		if (from->len)
			memcpy(p + name, from->value, from->len);
		x[i] = (struct cs_xattr){.name = p, .value = p + name, .len = from->len};
		p += name + from->len;
	}
	return 0;
}

/* Enters the directory `fd`, ours from now on. */
static int level_push(struct apply *a, int fd, bool fresh, const struct cs_entry *e)
{
	struct level *l;

	if (dirs_push(&a->dirs, fd, NULL, a->err) < 0)
		return error_wrap(a->err, "%s", apply_path(a));
	if (a->n_levels == a->levels_room) {
		size_t room = a->levels_room ? a->levels_room * 2 : 16;

		l = realloc(a->level, room * sizeof(*l));
		if (!l)
			return error_set(a->err, "out of memory");
		a->level = l;
		a->levels_room = room;
	}
	l = &a->level[a->n_levels++];
	*l = (struct level){.path_len = a->path_len, .fresh = fresh};
	/* What a new directory inherits it has from the one above. */
	if (!fresh || a->level[a->n_levels - 2].default_acl)
		l->default_acl = fgetxattr(fd, "system.posix_acl_default", NULL, 0) > 0;
	return e ? keep_entry(l, e, a->err) : 0;
}

static void level_drop(struct apply *a)
{
	struct level *l = &a->level[--a->n_levels];

	free(l->keep);
	free(l->named);
}

static int add_named(struct apply *a, const char *name)
{
	struct level *l = apply_level(a);

	if (!(l->e.flags & CS_OPAQUE) || l->fresh)
		return 0;
	if (l->n_named == l->named_room) {
		size_t room = l->named_room ? l->named_room * 2 : 64;
		uint64_t *v = realloc(l->named, room * sizeof(*v));

		if (!v)
			return error_set(a->err, "out of memory");
		l->named = v;
		l->named_room = room;
	}
	l->named[l->n_named++] = apply_hash(name);
	return 0;
}

static int by_hash(const void *x, const void *y)
{
	uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;

	return a < b ? -1 : a > b;
}

/* Removes what the stream did not name. */
static int prune(struct apply *a, int fd)
{
	struct level *l = apply_level(a);
	struct dir_names names;
	int r;

	if (l->n_named)
		qsort(l->named, l->n_named, sizeof(*l->named), by_hash);
	r = dir_names_read(fd, &names, a->err);
	for (size_t i = 0; i < names.n && r >= 0; i++) {
		uint64_t h = apply_hash(names.v[i].name);

		if (l->n_named && bsearch(&h, l->named, l->n_named, sizeof(*l->named), by_hash))
			continue;
		r = apply_path_set(a, l->path_len, names.v[i].name);
		if (r == 0)
			r = apply_remove(a, fd, names.v[i].name);
		if (r > 0 && strcmp(names.v[i].name, CS_TEMPORARY) != 0)
			apply_note_changed(a, NULL);
	}
	dir_names_free(&names);
	return r < 0 ? -1 : apply_path_set(a, l->path_len, NULL);
}

/* Before the directory is left: what is to go, and its attributes. */
static int level_finish(struct apply *a)
{
	struct level *l = apply_level(a);
	int fd = dirs_fd(&a->dirs);
	bool changed = l->fresh, clean;
	struct stat st;

	if (apply_path_set(a, l->path_len, NULL) < 0)
		return -1;
	if (!l->fresh && apply_remove_temporary(a, fd) < 0)
		return -1;
	if ((l->e.flags & CS_OPAQUE) && !l->fresh && prune(a, fd) < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	clean = l->fresh && a->n_levels > 1 && !l[-1].default_acl;
	if (l->e.flags & CS_ATTRS) {
		struct xattr_at at = {.fd = fd, .name = apply_path(a)};

		if (apply_attrs(a, &at, &l->e, &st, clean, &changed) < 0)
			return -1;
	}
	if (!changed)
		return 0;
	if (a->o->changed && fstat(fd, &st) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	apply_note_changed(a, &st);
	return 0;
}

static int leave(struct apply *a)
{
	if (level_finish(a) < 0)
		return -1;
	level_drop(a);
	if (dirs_pop(&a->dirs, a->err) < 0)
		return error_wrap(a->err, "%s", apply_path(a));
	return 0;
}

/* Something else, or nothing, has the directory's name: makes it. 1; 0: refused. */
static int make_dir(struct apply *a, int dirfd, const struct cs_entry *e, bool there)
{
	/* A directory that is only the way to what is beneath it: the receiver knows better. */
	if (there && !(e->flags & CS_ATTRS)) {
		apply_refuse(a, "it is no directory here");
		return 0;
	}
	if (there && apply_remove(a, dirfd, e->name) < 0)
		return -1;
	if (mkdirat(dirfd, e->name, e->flags & CS_ATTRS ? 0700 : 0755) < 0)
		return error_errno(a->err, "make directory %s", apply_path(a));
	return 1;
}

static int apply_dir(struct apply *a, const struct cs_entry *e)
{
	int parent = dirs_fd(&a->dirs), fd = dirs_open(parent, e->name, false);
	bool fresh = false;

	if (fd < 0) {
		bool there = errno == ENOTDIR || errno == ELOOP;
		int r;

		if (!there && errno != ENOENT)
			return error_errno(a->err, "open %s", apply_path(a));
		r = make_dir(a, parent, e, there);
		if (r <= 0) {
			a->skip = r == 0 ? 1 : 0;
			return r;
		}
		fd = dirs_open(parent, e->name, false);
		if (fd < 0)
			return error_errno(a->err, "open %s", apply_path(a));
		fresh = true;
	}
	return level_push(a, fd, fresh, e);
}

/* ---- names of link groups */

static struct group_name *group_slot(const struct apply *a, uint64_t hash)
{
	size_t i = hash & (a->group_room - 1);

	while (a->group_names[i].group && a->group_names[i].hash != hash)
		i = (i + 1) & (a->group_room - 1);
	return &a->group_names[i];
}

static int by_origin(const void *x, const void *y, void *links)
{
	const struct cs_link_group *l = links, *a = &l[*(const size_t *)x],
				   *b = &l[*(const size_t *)y];

	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

static void groups_begin(struct apply *a)
{
	size_t n = 0;

	for (size_t g = 0; g < a->o->n_links; g++)
		n += a->o->links[g].n;
	if (n == 0)
		return;
	for (a->group_room = 64; a->group_room < n * 2;)
		a->group_room *= 2;
	a->group_names = xcalloc(a->group_room, sizeof(*a->group_names));
	a->groups = xcalloc(a->o->n_links, sizeof(*a->groups));
	for (size_t g = 0; g < a->o->n_links; g++) {
		a->groups[g] = g;
		for (size_t i = 0; i < a->o->links[g].n; i++) {
			uint64_t h = apply_hash(a->o->links[g].paths[i]);

			*group_slot(a, h) = (struct group_name){.hash = h, .group = g + 1};
		}
	}
	qsort_r(a->groups, a->o->n_links, sizeof(*a->groups), by_origin, (void *)a->o->links);
}

/* The stream says what a->path is. */
static void group_named(struct apply *a)
{
	struct group_name *s;

	if (!a->group_room)
		return;
	s = group_slot(a, apply_hash(a->path));
	s->named = s->group != 0;
}

/* The group of an entry, by where it comes from. */
static size_t group_of(const struct apply *a, const struct cs_entry *e)
{
	size_t from = 0, to = a->o->n_links;

	if (!e->origin || !a->groups)
		return 0;
	while (from < to) {
		size_t mid = from + (to - from) / 2;

		if (a->o->links[a->groups[mid]].ino < e->origin)
			from = mid + 1;
		else
			to = mid;
	}
	if (from == a->o->n_links || a->o->links[a->groups[from]].ino != e->origin)
		return 0;
	return a->groups[from] + 1;
}

/* ---- hard links */

/* Remembers what became of an entry with an id; st NULL: nothing. */
static int add_id(struct apply *a, const struct cs_entry *e, const struct stat *st)
{
	struct id_file *f;

	if (!e->id)
		return 0;
	if (a->n_ids == a->ids_room) {
		size_t room = a->ids_room ? a->ids_room * 2 : 64;

		f = realloc(a->ids, room * sizeof(*f));
		if (!f)
			return error_set(a->err, "out of memory");
		a->ids = f;
		a->ids_room = room;
	}
	f = &a->ids[a->n_ids++];
	*f = (struct id_file){0};
	a->id_bytes += sizeof(*f) + a->path_len + 32;
	if (a->id_bytes > ID_BYTES_MAX)
		return error_kind(a->err, ERR_PEER,
				  "changeset: more files with several names than fit in %u MiB",
				  ID_BYTES_MAX >> 20);
	if (!st)
		return 0;
	f->path = xstrdup(a->path);
	f->dev = st->st_dev;
	f->ino = st->st_ino;
	f->type = st->st_mode & S_IFMT;
	f->group = group_of(a, e);
	return 0;
}

/* Opens the directory part of `path` beneath the root, without links on the way, in pieces that the
 * kernel takes; *name is the last name. -1 and errno. */
static int open_parent(int rootfd, const char *path, const char **name)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					  RESOLVE_NO_MAGICLINKS};
	const char *last = strrchr(path, '/'), *end = last ? last : path;
	cleanup_close int fd = fcntl(rootfd, F_DUPFD_CLOEXEC, 0);

	*name = last ? last + 1 : path;
	while (fd >= 0 && path < end) {
		char part[3072];
		size_t n = (size_t)(end - path);
		int next;

		if (n >= sizeof(part))
			for (n = sizeof(part) - 1; path[n] != '/';)
				n--;
		memcpy(part, path, n);
		part[n] = '\0';
		next = (int)syscall(SYS_openat2, fd, part, &how, sizeof(how));
		close_fd(&fd);
		fd = next;
		path += path[n] == '/' ? n + 1 : n;
	}
	return steal_fd(&fd);
}

/* The file with an id, as an O_PATH descriptor that stays a's. */
static int id_open(struct apply *a, uint64_t id)
{
	const struct id_file *f = &a->ids[id - 1];
	cleanup_close int dir = -1, fd = -1;
	const char *name;
	struct stat st;

	if (a->link_id == id)
		return a->link_fd;
	dir = open_parent(a->root, f->path, &name);
	if (dir >= 0)
		fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_errno(a->err, "link %s to %s", apply_path(a), f->path);
	if (st.st_dev != f->dev || st.st_ino != f->ino)
		return error_set(a->err, "link %s to %s: it was replaced meanwhile", apply_path(a),
				 f->path);
	close_fd(&a->link_fd);
	a->link_fd = steal_fd(&fd);
	a->link_id = id;
	return a->link_fd;
}

static int link_fd_at(int fd, int dirfd, const char *name)
{
	char proc[64];

	if (linkat(fd, "", dirfd, name, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOENT)
		return -1;
	/* Without CAP_DAC_READ_SEARCH. */
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, proc, dirfd, name, AT_SYMLINK_FOLLOW);
}

/* Makes `name` one more name of the file with the id. */
static int make_link(struct apply *a, uint64_t id, int dirfd, const char *name)
{
	struct id_file *f = &a->ids[id - 1];
	struct stat old, st;
	int fd = id_open(a, id), r;

	if (fd < 0)
		return -1;
	r = fstatat(dirfd, name, &old, AT_SYMLINK_NOFOLLOW);
	if (r < 0 && errno != ENOENT)
		return error_errno(a->err, "stat %s", apply_path(a));
	if (r == 0 && old.st_dev == f->dev && old.st_ino == f->ino)
		return 0;
	if (r == 0 && apply_remove_temporary(a, dirfd) < 0)
		return -1;
	if (link_fd_at(fd, dirfd, r == 0 ? CS_TEMPORARY : name) < 0)
		return error_errno(a->err, "link %s to %s", apply_path(a), f->path);
	if (r == 0 && apply_replace(a, dirfd, name, &old) < 0)
		return -1;
	/* An overlay may have copied the file up for the link: another inode. */
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(a->err, "stat %s", apply_path(a));
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	apply_note_changed(a, &st);
	return 0;
}

static int apply_link(struct apply *a, const struct cs_entry *e)
{
	struct id_file *f = &a->ids[e->id - 1];

	group_named(a);
	a->n->links++;
	if (!f->path) {
		apply_refuse(a, "a link to what was refused");
		return 0;
	}
	return make_link(a, e->id, dirs_fd(&a->dirs), e->name);
}

/* One name of a group which the stream left alone: linked if it is there. The directory keeps its
 * time: nothing happened in it as far as the sender can see. */
static int link_left_alone(struct apply *a, uint64_t id, const char *path)
{
	cleanup_close int dir = -1, open_dir = -1;
	struct stat st, parent;
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}};
	const char *name;

	if (apply_path_set(a, 0, path) < 0)
		return -1;
	dir = open_parent(dirs_fd(&a->dirs), path, &name);
	if (dir < 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (st.st_mode & S_IFMT) != a->ids[id - 1].type)
		return 0;
	open_dir = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (open_dir < 0 || fstat(open_dir, &parent) < 0)
		return error_errno(a->err, "open the directory of %s", path);
	if (make_link(a, id, open_dir, name) < 0)
		return -1;
	t[1] = parent.st_mtim;
	if (fstat(open_dir, &parent) == 0 && !apply_same_time(&parent.st_mtim, &t[1]) &&
	    futimens(open_dir, t) < 0)
		return error_errno(a->err, "set the time of the directory of %s", path);
	return 0;
}

static int link_groups(struct apply *a)
{
	for (size_t i = 0; i < a->n_ids; i++) {
		const struct id_file *f = &a->ids[i];
		const struct cs_link_group *g;

		if (!f->path || !f->group)
			continue;
		g = &a->o->links[f->group - 1];
		for (size_t k = 0; k < g->n; k++) {
			const struct group_name *s = group_slot(a, apply_hash(g->paths[k]));

			if (!s->named && link_left_alone(a, i + 1, g->paths[k]) < 0)
				return -1;
		}
	}
	return 0;
}

/* ---- the stream */

static int apply_entry(struct apply *a, const struct cs_entry *e)
{
	int dirfd = dirs_fd(&a->dirs), r;
	struct stat st;

	group_named(a);
	r = e->type == CS_FILE ? (apply_file(a, dirfd, e, &st) < 0 ? -1 : 1)
			       : apply_special(a, dirfd, e, &st);
	if (r < 0)
		return -1;
	if (add_id(a, e, r > 0 ? &st : NULL) < 0)
		return -1;
	return 0;
}

static int apply_whiteout(struct apply *a, const struct cs_entry *e)
{
	int r;

	a->n->whiteouts++;
	group_named(a);
	r = apply_remove(a, dirs_fd(&a->dirs), e->name);
	if (r > 0)
		apply_note_changed(a, NULL);
	return r < 0 ? -1 : 0;
}

/* The first of the group's names that the stream left alone and that is there; its directory. */
static int find_left_alone(struct apply *a, const struct cs_link_group *g, mode_t type,
			   const char **name)
{
	for (size_t k = 0; k < g->n; k++) {
		cleanup_close int dir = -1;
		struct stat st;

		if (group_slot(a, apply_hash(g->paths[k]))->named)
			continue;
		dir = open_parent(dirs_fd(&a->dirs), g->paths[k], name);
		if (dir < 0 || fstatat(dir, *name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    (st.st_mode & S_IFMT) != type)
			continue;
		if (apply_path_set(a, 0, g->paths[k]) < 0)
			return -1;
		return openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return -1;
}

/* The content goes to one name of the group, and from there (link_groups) to the others. */
static int apply_nameless(struct apply *a, const struct cs_entry *e)
{
	static const mode_t types[] = {
		[CS_FILE] = S_IFREG,	[CS_SYMLINK] = S_IFLNK, [CS_FIFO] = S_IFIFO,
		[CS_SOCKET] = S_IFSOCK, [CS_CHAR] = S_IFCHR,	[CS_BLOCK] = S_IFBLK};
	/* Only these have the flag (reader.c). */
	mode_t type = e->type < ARRAY_LEN(types) ? types[e->type] : 0;
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}};
	size_t group = group_of(a, e);
	cleanup_close int dir = -1;
	struct level *top = apply_level(a);
	bool default_acl = top->default_acl;
	struct cs_entry named = *e;
	struct stat st, parent;
	int r;

	if (group)
		dir = find_left_alone(a, &a->o->links[group - 1], type, &named.name);
	if (dir < 0)
		return add_id(a, e, NULL);
	if (fstat(dir, &parent) < 0)
		return error_errno(a->err, "stat the directory of %s", apply_path(a));
	/* That directory may have one. */
	top->default_acl = true;
	r = e->type == CS_FILE ? (apply_file(a, dir, &named, &st) < 0 ? -1 : 1)
			       : apply_special(a, dir, &named, &st);
	top->default_acl = default_acl;
	if (r < 0 || add_id(a, &named, r > 0 ? &st : NULL) < 0)
		return -1;
	t[1] = parent.st_mtim;
	return futimens(dir, t) < 0
		       ? error_errno(a->err, "set the time of the directory of %s", apply_path(a))
		       : 0;
}

/* Beneath a refused directory nothing happens; ids are counted. */
static int skip_record(struct apply *a, const struct cs_entry *e)
{
	if (e->type == CS_DIR)
		a->skip++;
	else if (e->type == CS_LEAVE)
		a->skip--;
	else if (e->type != CS_LINK && e->type != CS_WHITEOUT)
		return add_id(a, e, NULL);
	return 0;
}

static int apply_record(struct apply *a, const struct cs_entry *e)
{
	if (e->type != CS_LEAVE && e->type != CS_LINK && e->type != CS_WHITEOUT)
		a->n->entries++;
	if (a->skip)
		return skip_record(a, e);
	if (e->type == CS_LEAVE)
		return leave(a);
	if (e->type == CS_DIR && strcmp(e->name, ".") == 0)
		return keep_entry(apply_level(a), e, a->err);
	if (apply_path_set(a, apply_level(a)->path_len, e->name) < 0)
		return -1;
	if (e->flags & CS_NAMELESS && e->type != CS_DIR)
		return apply_nameless(a, e);
	if (strcmp(e->name, CS_TEMPORARY) == 0) {
		apply_refuse(a, "the name is used for temporary files");
		a->skip = e->type == CS_DIR ? 1 : 0;
		return e->type == CS_LINK || e->type == CS_WHITEOUT ? 0 : add_id(a, e, NULL);
	}
	if (e->type == CS_WHITEOUT)
		return apply_whiteout(a, e);
	if (add_named(a, e->name) < 0)
		return -1;
	if (e->type == CS_LINK)
		return apply_link(a, e);
	return e->type == CS_DIR ? apply_dir(a, e) : apply_entry(a, e);
}

static int apply_stream(struct apply *a)
{
	struct cs_entry e;
	int r;

	while ((r = cs_next(a->r, &e, a->err)) > 0)
		if (apply_record(a, &e) < 0)
			return -1;
	if (r < 0 || level_finish(a) < 0)
		return -1;
	return link_groups(a);
}

static int begin(struct apply *a, int rootfd)
{
	int fd = openat(rootfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0)
		return error_errno(a->err, "open the directory");
	a->overlay = fstatfs(fd, &fs) == 0 && fs.f_type == OVERLAYFS_SUPER_MAGIC;
	if (apply_path_set(a, 0, NULL) < 0) {
		close(fd);
		return -1;
	}
	groups_begin(a);
	return level_push(a, fd, false, NULL);
}

static void end(struct apply *a)
{
	while (a->n_levels > 0)
		level_drop(a);
	free(a->level);
	dirs_free(&a->dirs);
	for (size_t i = 0; i < a->n_ids; i++)
		free(a->ids[i].path);
	free(a->ids);
	close_fd(&a->link_fd);
	free(a->group_names);
	free(a->groups);
	free(a->kept.v);
	cs_xattrs_free(&a->there);
	free(a->path);
	free(a->buf);
	cs_reader_free(a->r);
}

int cs_apply(int in, int rootfd, const struct cs_apply_options *o, struct cs_counts *n,
	     struct error *err)
{
	struct error own = ERROR_INIT;
	struct cs_counts counts = {0};
	struct apply a = {.o = o,
			  .n = n ? n : &counts,
			  .err = err ? err : &own,
			  .r = cs_reader_new(in, o->max_entries, o->max_bytes),
			  .root = rootfd,
			  .link_fd = -1,
			  .buf = xcalloc(1, COPY_SIZE)};
	int r;

	*a.n = (struct cs_counts){0};
	r = begin(&a, rootfd) < 0 ? -1 : apply_stream(&a);
	end(&a);
	return r;
}
