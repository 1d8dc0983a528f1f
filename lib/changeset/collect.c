#include "lib/changeset/collect.h"
#include "lib/changeset/dirs.h"
#include "lib/changeset/write.h"
#include "lib/changeset/xattrs.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/*
 * How it works: one walk, in which each directory is listed, sorted (symbolic links last, otherwise
 * by inode number, which is the order on the disk) and sent name by name. A regular file is opened
 * first and then looked at, so that what is sent is one file even if the name changes hands; all
 * else is looked at by name, never opened.
 *
 * Hard links: a file with several links gets the next id when its first name is sent, and is
 * remembered by device and inode number; its other names become LINKs.
 *
 * What a failure means depends on whose it is. If the walk fails, the receiver is told by END. If
 * the receiver is gone, nobody is left to be told. In both cases the caller gets the error.
 *
 * An overlay's upper layer (kernel 6.12, fs/overlayfs) says the following in trusted.overlay.*:
 *	opaque		"y" on a directory: nothing shines through. "x": regular files in it that
 *			carry trusted.overlay.whiteout are whiteouts
 *	origin		of what was copied up: a header and the lower's file handle
 *	redirect, metacopy	content is elsewhere: not with our mount options; refused here
 *	overlay.NAME	what is trusted.overlay.NAME to those above (an overlay in the container)
 * and the rest (impure, nlink, upper, uuid, protattr) is its own bookkeeping.
 */

#define OVL "trusted.overlay."
#define OVL_LEN (sizeof(OVL) - 1)

struct walk {
	struct cs_writer w;
	struct dirs dirs;
	enum cs_collect_kind kind;
	bool opaque;	   /* directories are sent as such */
	unsigned with_top; /* 1: the lowest of dirs is the stream's top directory */
	struct cs_counts *n;
	struct xattr_list xattrs;
	struct cs_xattr kept[CS_XATTRS_MAX]; /* of them, without the overlay's own */
	struct error *err;
	/* Files with several links that were sent: open addressing, by device and inode number. */
	struct sent_file {
		dev_t dev;
		ino_t ino;
		uint64_t id; /* 0: free */
	} * sent;
	size_t n_sent, sent_room; /* a power of two */
	uint64_t last_id;
	bool nameless; /* what is sent now has no name in the tree */
};

/* ---- what the overlay says */

struct overlay_says {
	bool opaque, xwhiteouts, whiteout;
	uint64_t origin, origin_fs;
};

/* struct ovl_fb, then the handle: EROFS gives its inode number in two halves, the upper one first
 * (FILEID_INO64_GEN), other file systems a short one (FILEID_INO32_GEN). */
static void decode_origin(const unsigned char *p, size_t len, struct overlay_says *s)
{
	enum { INO32_GEN = 1, INO64_GEN = 0x81 };
	enum { BIG_ENDIAN_FLAG = 1, ANY_ENDIAN_FLAG = 2, PATH_UPPER_FLAG = 4 };
	enum { HEAD = 21, UUID_AT = 5 };
	uint32_t word[3] = {0};
	uint64_t fs;

	if (len < HEAD + 8 || p[0] != 0 || p[1] != 0xfb || p[2] != len ||
	    (p[3] & (PATH_UPPER_FLAG | ANY_ENDIAN_FLAG)) ||
	    !!(p[3] & BIG_ENDIAN_FLAG) != (BYTE_ORDER == BIG_ENDIAN))
		return;
	memcpy(word, p + HEAD, len - HEAD < sizeof(word) ? len - HEAD : sizeof(word));
	if (p[4] == INO64_GEN && len == HEAD + 12)
		s->origin = (uint64_t)word[0] << 32 | word[1];
	else if (p[4] == INO32_GEN && len == HEAD + 8)
		s->origin = word[0];
	memcpy(&fs, p + UUID_AT, sizeof(fs));
	s->origin_fs = le64toh(fs);
}

/* Reads one of the overlay's own attributes. */
static int overlay_xattr(const struct xattr_at *at, const struct cs_xattr *x,
			 struct overlay_says *s, struct error *err)
{
	const char *what = x->name + OVL_LEN;
	const unsigned char *v = x->value;

	if (strcmp(what, "opaque") == 0 && x->len == 1) {
		s->opaque = v[0] == 'y';
		s->xwhiteouts = v[0] == 'x';
	} else if (strcmp(what, "whiteout") == 0) {
		s->whiteout = true;
	} else if (strcmp(what, "origin") == 0) {
		decode_origin(v, x->len, s);
	} else if (strcmp(what, "redirect") == 0 || strcmp(what, "metacopy") == 0) {
		return error_kind(err, ERR_UNSUPPORTED,
				  "%s: the overlay has its content elsewhere (%s)", at->name,
				  x->name);
	}
	return 0;
}

/* The entry's attributes; of an upper layer without the overlay's own, which *s tells. */
static int take_xattrs(struct walk *k, const struct xattr_at *at, struct cs_entry *e,
		       struct overlay_says *s)
{
	*s = (struct overlay_says){0};
	if (cs_xattrs_read(at, &k->xattrs, k->err) < 0)
		return -1;
	e->xattrs = k->kept;
	for (size_t i = 0; i < k->xattrs.n; i++) {
		struct cs_xattr x = k->xattrs.v[i];

		if (k->kind == CS_COLLECT_UPPER && strncmp(x.name, OVL, OVL_LEN) == 0) {
			char *name = (char *)x.name;

			if (strncmp(name + OVL_LEN, "overlay.", 8) != 0) {
				if (overlay_xattr(at, &x, s, k->err) < 0)
					return -1;
				continue;
			}
			/* Unescaped in place: the list's text is ours. */
			memmove(name + OVL_LEN, name + OVL_LEN + 8, strlen(name + OVL_LEN + 8) + 1);
		}
		k->kept[e->n_xattrs++] = x;
	}
	return 0;
}

/* ---- hard links */

static struct sent_file *sent_slot(struct sent_file *v, size_t room, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ (uint64_t)dev << 48) * 0x9e3779b97f4a7c15u;
	size_t i = (size_t)(h >> 20) & (room - 1);

	while (v[i].id && (v[i].dev != dev || v[i].ino != ino))
		i = (i + 1) & (room - 1);
	return &v[i];
}

static void sent_grow(struct walk *k)
{
	size_t room = k->sent_room ? k->sent_room * 2 : 256;
	struct sent_file *v = xcalloc(room, sizeof(*v));

	for (size_t i = 0; i < k->sent_room; i++)
		if (k->sent[i].id)
			*sent_slot(v, room, k->sent[i].dev, k->sent[i].ino) = k->sent[i];
	free(k->sent);
	k->sent = v;
	k->sent_room = room;
}

/* True if the file was sent before (as *id); otherwise *id is its new one. 0 without links. */
static bool was_sent(struct walk *k, const struct stat *st, uint64_t *id)
{
	struct sent_file *f;

	*id = 0;
	if (st->st_nlink < 2)
		return false;
	if (k->n_sent * 2 >= k->sent_room)
		sent_grow(k);
	f = sent_slot(k->sent, k->sent_room, st->st_dev, st->st_ino);
	if (f->id) {
		*id = f->id;
		return true;
	}
	*f = (struct sent_file){.dev = st->st_dev, .ino = st->st_ino, .id = ++k->last_id};
	k->n_sent++;
	*id = f->id;
	return false;
}

/* ---- one entry */

static int put(struct walk *k, const struct cs_entry *e)
{
	if (e->type == CS_WHITEOUT)
		k->n->whiteouts++;
	else if (e->type == CS_LINK)
		k->n->links++;
	else
		k->n->entries++;
	return cs_put_entry(&k->w, e, k->err);
}

static int put_whiteout(struct walk *k, const char *name)
{
	return put(k, &(struct cs_entry){.type = CS_WHITEOUT, .name = name});
}

static struct cs_entry entry_of(enum cs_type type, const char *name, const struct stat *st)
{
	struct cs_entry e = {.type = type,
			     .name = name,
			     .mode = st->st_mode & 07777,
			     .uid = st->st_uid,
			     .gid = st->st_gid,
			     .mtime = st->st_mtim};

	if (type == CS_CHAR || type == CS_BLOCK) {
		e.major = major(st->st_rdev);
		e.minor = minor(st->st_rdev);
	}
	if (type == CS_FILE)
		e.size = (uint64_t)st->st_size;
	return e;
}

/* Bytes [off, end) of the file; less if it was made shorter meanwhile. */
static int send_range(struct walk *k, int fd, const char *name, uint64_t off, uint64_t end)
{
	while (off < end) {
		size_t room;
		void *p = cs_data_begin(&k->w, end - off > CS_DATA_MAX ? CS_DATA_MAX : end - off,
					&room, k->err);
		ssize_t n;

		if (!p)
			return -1;
		n = pread(fd, p, room, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(k->err, "read %s", name);
		if (n == 0)
			return 0;
		cs_data_end(&k->w, off, (size_t)n);
		k->n->data_bytes += (size_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

static int send_data(struct walk *k, int fd, const char *name, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size, off = 0;

	/* As many blocks as bytes: no holes to look for. */
	if ((uint64_t)st->st_blocks * 512 >= size)
		return send_range(k, fd, name, 0, size);
	while (off < size) {
		off_t data = lseek(fd, (off_t)off, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0) /* a file system that knows no holes */
			return send_range(k, fd, name, off, size);
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0 || (uint64_t)hole > size)
			hole = (off_t)size;
		if (send_range(k, fd, name, (uint64_t)data, (uint64_t)hole) < 0)
			return -1;
		off = (uint64_t)hole;
	}
	return 0;
}

static int put_link(struct walk *k, const char *name, uint64_t id)
{
	if (k->nameless) /* it has names, and was sent with them */
		return 0;
	return put(k, &(struct cs_entry){.type = CS_LINK, .name = name, .id = id});
}

/* False if nobody could say whose it is. */
static bool make_nameless(struct walk *k, struct cs_entry *e, const struct overlay_says *s)
{
	if (!s->origin)
		return false;
	e->flags = CS_NAMELESS;
	e->name = "-";
	if (!e->id)
		e->id = ++k->last_id;
	return true;
}

/* What is no directory: a link to what was sent before, or its attributes. 1: to be sent. */
static int begin_entry(struct walk *k, const struct stat *st, const struct xattr_at *at,
		       struct cs_entry *e, struct overlay_says *s)
{
	if (was_sent(k, st, &e->id))
		return put_link(k, e->name, e->id);
	if (take_xattrs(k, at, e, s) < 0)
		return -1;
	e->origin = s->origin;
	e->origin_fs = s->origin_fs;
	return !k->nameless || make_nameless(k, e, s);
}

static int send_file(struct walk *k, const char *name, int fd, const struct stat *st,
		     bool xwhiteouts)
{
	struct cs_entry e = entry_of(CS_FILE, name, st);
	struct xattr_at at = {.fd = fd, .name = name};
	struct overlay_says s = {0};
	int r;

	r = begin_entry(k, st, &at, &e, &s);
	if (r <= 0)
		return r;
	if (s.whiteout && xwhiteouts && st->st_size == 0)
		return put_whiteout(k, name);
	if (put(k, &e) < 0)
		return -1;
	return send_data(k, fd, name, st);
}

/* Links, devices, pipes and sockets: by name. */
static int send_special(struct walk *k, int dirfd, const char *name, const struct stat *st)
{
	enum cs_type type = S_ISLNK(st->st_mode)    ? CS_SYMLINK
			    : S_ISFIFO(st->st_mode) ? CS_FIFO
			    : S_ISSOCK(st->st_mode) ? CS_SOCKET
			    : S_ISCHR(st->st_mode)  ? CS_CHAR
						    : CS_BLOCK;
	struct cs_entry e = entry_of(type, name, st);
	struct xattr_at at = {.fd = -1, .dirfd = dirfd, .name = name};
	char target[CS_TARGET_MAX + 1];
	struct overlay_says s = {0};
	int r;

	if (k->kind == CS_COLLECT_UPPER && type == CS_CHAR && st->st_rdev == 0)
		return k->nameless ? 0 : put_whiteout(k, name);
	if (type == CS_SYMLINK) {
		ssize_t n = readlinkat(dirfd, name, target, sizeof(target));

		if (n < 0 && (errno == ENOENT || errno == EINVAL))
			return 0;
		if (n < 0 || (size_t)n == sizeof(target))
			return error_errno(k->err, "read link %s", name);
		target[n] = '\0';
		e.target = target;
	}
	r = begin_entry(k, st, &at, &e, &s);
	if (r <= 0)
		return r;
	return put(k, &e);
}

static int send_dir_content(struct walk *k, bool xwhiteouts);

/* The directory `fd` (ours from now on) and all that is in it; with `top` as the stream's own. */
static int send_dir(struct walk *k, const char *name, int fd, bool top)
{
	struct xattr_at at = {.fd = fd, .name = name};
	bool was_opaque = k->opaque;
	struct overlay_says s;
	struct cs_entry e;
	struct stat st;

	if (dirs_push(&k->dirs, fd, &st, k->err) < 0)
		return error_wrap(k->err, "%s", name);
	if (k->dirs.n - k->with_top > CS_DEPTH_MAX)
		return error_kind(k->err, ERR_UNSUPPORTED, "%s: more than %d directories deep",
				  name, CS_DEPTH_MAX);
	e = entry_of(CS_DIR, name, &st);
	e.flags = CS_ATTRS;
	if (take_xattrs(k, &at, &e, &s) < 0)
		return -1;
	/* Beneath an opaque directory the overlay says nothing: there is no lower to be hidden. */
	k->opaque |= s.opaque;
	if (k->opaque)
		e.flags |= CS_OPAQUE;
	if (put(k, &e) < 0 || send_dir_content(k, s.xwhiteouts) < 0)
		return -1;
	k->opaque = was_opaque;
	if (!top && cs_put_leave(&k->w, k->err) < 0)
		return -1;
	return dirs_pop(&k->dirs, k->err);
}

static int open_file(int dirfd, const char *name)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	int fd = openat(dirfd, name, flags | O_NOATIME);

	return fd < 0 && errno == EPERM ? openat(dirfd, name, flags) : fd;
}

/* Whatever `name` in the open directory is; nothing at all if it is not there any more. `type` is
 * what the directory said of it. */
static int send_name(struct walk *k, int dirfd, const char *name, unsigned char type,
		     bool xwhiteouts)
{
	struct stat st;

	/* Another round when a name was replaced between the two looks at it. */
	for (int tries = 0; tries < 8; tries++) {
		cleanup_close int fd = -1;

		if (type == DT_REG)
			fd = open_file(dirfd, name);
		else if (type == DT_DIR)
			fd = dirs_open(dirfd, name, false);
		if (fd >= 0 ? fstat(fd, &st) < 0
			    : fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				return 0;
			return error_errno(k->err, "stat %s", name);
		}
		if (fd >= 0 && S_ISREG(st.st_mode))
			return send_file(k, name, fd, &st, xwhiteouts);
		if (fd >= 0 && S_ISDIR(st.st_mode))
			return send_dir(k, name, steal_fd(&fd), false);
		if (fd < 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
			return send_special(k, dirfd, name, &st);
		if (fd < 0 && type == IFTODT(st.st_mode)) {
			fd = type == DT_REG ? open_file(dirfd, name)
					    : dirs_open(dirfd, name, false);
			if (fd < 0 && errno != ENOENT && errno != ELOOP && errno != ENOTDIR)
				return error_errno(k->err, "open %s", name);
		}
		type = IFTODT(st.st_mode);
	}
	return error_set(k->err, "%s: keeps changing while it is read", name);
}

static int by_place(const void *a, const void *b)
{
	const struct dir_name *x = a, *y = b;

	if ((x->type == DT_LNK) != (y->type == DT_LNK))
		return x->type == DT_LNK ? 1 : -1;
	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* File systems that do not say what a name is would mix up the order. */
static void learn_types(int dirfd, struct dir_names *l)
{
	struct stat st;

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].type == DT_UNKNOWN &&
		    fstatat(dirfd, l->v[i].name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			l->v[i].type = IFTODT(st.st_mode);
}

/* Recursion: at most CS_DEPTH_MAX small frames. */
static int send_dir_content(struct walk *k, bool xwhiteouts)
{
	struct dir_names l;
	int r = 0;

	if (dir_names_read(dirs_fd(&k->dirs), &l, k->err) < 0)
		return -1;
	learn_types(dirs_fd(&k->dirs), &l);
	qsort(l.v, l.n, sizeof(*l.v), by_place);
	for (size_t i = 0; i < l.n && r == 0; i++)
		if (strcmp(l.v[i].name, CS_TEMPORARY) != 0)
			r = send_name(k, dirs_fd(&k->dirs), l.v[i].name, l.v[i].type, xwhiteouts);
	dir_names_free(&l);
	return r;
}

/* ---- the three kinds */

static struct walk *walk_new(enum cs_collect_kind kind, bool opaque, int out, struct cs_counts *n,
			     struct error *err)
{
	struct walk *k = xcalloc(1, sizeof(*k));

	cs_writer_init(&k->w, out);
	k->kind = kind;
	k->opaque = opaque;
	k->with_top = 1;
	k->n = n;
	*n = (struct cs_counts){0};
	k->err = err;
	return k;
}

/* Ends the stream, well or (r < 0) not, and frees the walk. */
static int walk_end(struct walk *k, int r)
{
	if (r == 0)
		r = cs_put_end(&k->w, NULL, k->err);
	else
		cs_put_end(&k->w, k->err->msg, NULL);
	cs_writer_free(&k->w);
	dirs_free(&k->dirs);
	cs_xattrs_free(&k->xattrs);
	free(k->sent);
	free(k);
	return r;
}

/* A descriptor of our own for the directory `fd`, which may be O_PATH: "." of it. */
static int reopen_dir(int fd, struct error *err)
{
	int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return own < 0 ? error_errno(err, "open the directory") : own;
}

/* What only the index still holds: written through a name that was removed afterwards. */
static int send_index(struct walk *k, int index)
{
	int fd = reopen_dir(index, k->err), r = 0;
	struct dir_names l;

	if (fd < 0 || dirs_push(&k->dirs, fd, NULL, k->err) < 0 ||
	    dir_names_read(dirs_fd(&k->dirs), &l, k->err) < 0)
		return -1;
	learn_types(dirs_fd(&k->dirs), &l);
	qsort(l.v, l.n, sizeof(*l.v), by_place);
	k->nameless = true;
	for (size_t i = 0; i < l.n && r == 0; i++)
		if (l.v[i].type != DT_DIR)
			r = send_name(k, dirs_fd(&k->dirs), l.v[i].name, l.v[i].type, false);
	dir_names_free(&l);
	return r < 0 ? -1 : dirs_pop(&k->dirs, k->err);
}

int cs_collect_upper(int upper, int index, int out, struct cs_counts *n, struct error *err)
{
	struct error own = ERROR_INIT;
	struct cs_counts counts;
	struct walk *k = walk_new(CS_COLLECT_UPPER, false, out, n ? n : &counts, err ? err : &own);
	int fd = reopen_dir(upper, k->err);
	int r = fd < 0 ? -1 : send_dir(k, ".", fd, true);

	if (r == 0 && index >= 0)
		r = send_index(k, index);
	return walk_end(k, r);
}

int cs_collect(int dirfd, enum cs_collect_kind kind, int out, struct cs_counts *n,
	       struct error *err)
{
	struct error own = ERROR_INIT;
	struct cs_counts counts;
	struct walk *k =
		walk_new(kind, kind == CS_COLLECT_ALL, out, n ? n : &counts, err ? err : &own);
	int fd = reopen_dir(dirfd, k->err);

	return walk_end(k, fd < 0 ? -1 : send_dir(k, ".", fd, true));
}

/* Parent directories of one path that are entered at the moment. */
struct way {
	size_t n;
	struct {
		size_t end; /* of its name in the path */
	} at[CS_DEPTH_MAX];
	const char *path; /* the path before: they are its beginning */
};

static int leave_to(struct walk *k, struct way *y, size_t n)
{
	for (; y->n > n; y->n--)
		if (cs_put_leave(&k->w, k->err) < 0 || dirs_pop(&k->dirs, k->err) < 0)
			return -1;
	return 0;
}

/* How many of the entered directories are on the way to `path` too. */
static size_t shared(const struct way *y, const char *path)
{
	size_t i = 0;

	while (i < y->n && strncmp(y->path, path, y->at[i].end) == 0 && path[y->at[i].end] == '/')
		i++;
	return i;
}

static int check_path(const char *path, struct error *err)
{
	const char *p = path;

	for (;;) {
		size_t n = strcspn(p, "/");

		if (n == 0 || n > CS_NAME_MAX || (n == 1 && p[0] == '.') ||
		    (n == 2 && p[0] == '.' && p[1] == '.'))
			return error_set(err, "\"%s\" is no path beneath the directory", path);
		if (!p[n])
			return 0;
		p += n + 1;
	}
}

/* Enters the directories that lead to `path`. 1: the last name is in *name. 0: one of them is not
 * there, of which the stream says so. */
static int enter_parents(struct walk *k, struct way *y, const char *path, const char **name)
{
	char part[CS_NAME_MAX + 1];
	size_t from;

	if (leave_to(k, y, shared(y, path)) < 0)
		return -1;
	from = y->n ? y->at[y->n - 1].end + 1 : 0;
	y->path = path;
	for (;;) {
		size_t len = strcspn(path + from, "/");
		struct cs_entry e = {.type = CS_DIR, .name = part};
		int fd;

		memcpy(part, path + from, len);
		part[len] = '\0';
		*name = path + from;
		if (!path[from + len])
			return 1;
		if (y->n == CS_DEPTH_MAX)
			return error_kind(k->err, ERR_UNSUPPORTED,
					  "%s: more than %d directories deep", path, CS_DEPTH_MAX);
		fd = dirs_open(dirs_fd(&k->dirs), part, false);
		if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
			struct stat st;

			/* Not a directory any more: what it is now is not ours to tell. */
			if (fstatat(dirs_fd(&k->dirs), part, &st, AT_SYMLINK_NOFOLLOW) == 0)
				return 0;
			return put_whiteout(k, part);
		}
		if (fd < 0)
			return error_errno(k->err, "open %.*s", (int)(from + len), path);
		if (dirs_push(&k->dirs, fd, NULL, k->err) < 0 || put(k, &e) < 0)
			return -1;
		from += len;
		y->at[y->n++].end = from++;
	}
}

static int send_path(struct walk *k, struct way *y, const char *path)
{
	uint64_t before = k->w.records;
	const char *name;
	int r;

	if (check_path(path, k->err) < 0)
		return -1;
	r = enter_parents(k, y, path, &name);
	if (r <= 0)
		return r;
	before = k->w.records;
	if (send_name(k, dirs_fd(&k->dirs), name, DT_UNKNOWN, false) < 0)
		return -1;
	return k->w.records == before ? put_whiteout(k, name) : 0;
}

int cs_collect_paths(int dirfd, char *const *paths, size_t n_paths, int out, struct cs_counts *n,
		     struct error *err)
{
	struct error own = ERROR_INIT;
	struct cs_counts counts;
	struct walk *k = walk_new(CS_COLLECT_ALL, false, out, n ? n : &counts, err ? err : &own);
	cleanup_free struct way *y = xcalloc(1, sizeof(*y));
	int fd = reopen_dir(dirfd, k->err);
	int r = fd < 0 ? -1 : dirs_push(&k->dirs, fd, NULL, k->err);

	for (size_t i = 0; i < n_paths && r == 0; i++)
		r = send_path(k, y, paths[i]);
	if (r == 0)
		r = leave_to(k, y, 0);
	return walk_end(k, r);
}

static int send_member(struct walk *k, const char *name, int fd)
{
	char proc[64];
	cleanup_close int own = -1;
	struct stat st;

	if (check_path(name, k->err) < 0)
		return -1;
	if (strchr(name, '/'))
		return error_set(k->err, "\"%s\" is no name", name);
	if (fstat(fd, &st) < 0)
		return error_errno(k->err, "stat %s", name);
	if (S_ISDIR(st.st_mode)) {
		int dir = reopen_dir(fd, k->err);

		return dir < 0 ? error_wrap(k->err, "%s", name) : send_dir(k, name, dir, false);
	}
	if (!S_ISREG(st.st_mode))
		return error_kind(k->err, ERR_UNSUPPORTED, "%s: neither a file nor a directory",
				  name);
	/* The one way from O_PATH to something that can be read. */
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	own = open(proc, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (own < 0 || fstat(own, &st) < 0)
		return error_errno(k->err, "open %s", name);
	return send_file(k, name, own, &st, false);
}

int cs_collect_members(char *const *names, const int *fds, size_t n_members, int out,
		       struct cs_counts *n, struct error *err)
{
	struct error own = ERROR_INIT;
	struct cs_counts counts;
	struct walk *k = walk_new(CS_COLLECT_ALL, true, out, n ? n : &counts, err ? err : &own);
	int r = 0;

	k->with_top = 0;
	for (size_t i = 0; i < n_members && r == 0; i++)
		r = send_member(k, names[i], fds[i]);
	return walk_end(k, r);
}
