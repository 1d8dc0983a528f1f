/*
 * Sees what an engine writes into the rootfs of a running container.
 *
 * The writer goes through the rootfs directory, which may be the mount of an overlay. An overlay
 * gives no events for directories that nobody watches in it, and watching all of an image's
 * thousands would be a waste: what others change appears in the upper directory, which is small.
 * Its files are opened by the kernel without notification, though, so that creations, removals,
 * renames and changes of attributes are seen there, but no writes. Hence, for each directory of the
 * upper layer, two watches: one on it, and one on the same directory of the overlay for writes to
 * files that exist already. A plain directory needs one.
 *
 * An event only makes a path *dirty*. It is told when nothing happened to it for a while and its
 * size and times stayed the same over that while (the file that docker cp makes is created, written
 * and given its times one after the other); what never comes to rest is told now and then.
 *
 * Directories: one that is *fresh* (the overlay made it for a writer) is told as a whole. One that
 * an overlay copied up is nothing new, it only leads to something: it carries the attribute
 * trusted.overlay.origin. Changed attributes of a directory that is not fresh are not told, since a
 * directory can only be told with all that is in it.
 *
 * What changed before the watches were there is found by its change time; so is what happened while
 * events were lost (but removals then, which leave no trace).
 *
 * Names may be renamed under us at any time and links planted: paths are opened beneath the rootfs
 * without following links, and what is told is only a hint, looked at again by whoever sends it.
 */
#include "shim/watch.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <search.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#define QUIET_US (WATCH_QUIET_MS * 1000ull)
#define RESTLESS_US 500000ull	     /* when a small file that keeps changing is told */
#define RESTLESS_LARGE_US 5000000ull /* the same for a large one */
#define RESTLESS_SMALL (1 << 20)
/* Change times are of the kernel's coarse clock: they may lie a tick behind. For the first look
 * that does not matter: what changed in the very tick in which the other side's view was taken is
 * in it, and to tell it would undo what the other side has done to it since. */
#define SLACK_NS 10000000

/* Memory for what a sync changed, as many and as deep as the guest likes. Beyond that nobody can
 * tell what was changed by others meanwhile. */
#define OWN_BYTES_MAX (128u << 20)

#define CHANGES                                                                             \
	(IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | \
	 IN_ATTRIB)
#define WRITES (IN_MODIFY | IN_CLOSE_WRITE)

struct node {
	int wd;
	char path[]; /* relative; "" is the top */
};

/* What a path looked like. */
struct look {
	bool there;
	off_t size;
	struct timespec mtime, ctime;
};

struct dirty {
	uint64_t first_us, last_us;
	struct look look;
	char path[];
};

struct own {
	bool there, dir;
	ino_t ino;
	off_t size;
	struct timespec mtime; /* not the change time: a rename into place comes after */
	char path[];
};

struct watch {
	struct watch_options o;
	char *events, *merged;
	void *nodes, *dirty, *own; /* trees of search.h */
	size_t n_dirs, n_dirty, own_bytes;
	bool warned;
	bool own_lost; /* more than OWN_BYTES_MAX since watch_own_done() */
	struct timespec since;
};

/* ---- paths */

int watch_path_cmp(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	/* The slash before all else, so that what is beneath a directory follows it. */
	return (*a == '/' ? 1 : (unsigned char)*a * 2) - (*b == '/' ? 1 : (unsigned char)*b * 2);
}

static bool is_beneath(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return n == 0 || (strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0'));
}

static char *join(const char *dir, const char *name)
{
	return dir[0] ? xasprintf("%s/%s", dir, name) : xstrdup(name);
}

static int open_beneath(const char *top, const char *path, int flags)
{
	cleanup_close int fd = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct open_how how = {.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};

	if (fd < 0)
		return -1;
	return (int)syscall(SYS_openat2, fd, path[0] ? path : ".", &how, sizeof(how));
}

static bool before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static struct timespec earlier(struct timespec t, long ns)
{
	t.tv_nsec -= ns;
	if (t.tv_nsec < 0) {
		t.tv_nsec += 1000000000;
		t.tv_sec--;
	}
	return t;
}

/* ---- what is dirty */

static int by_path(const void *a, const void *b)
{
	return watch_path_cmp(((const struct dirty *)a)->path, ((const struct dirty *)b)->path);
}

static struct look look_at(const struct watch *w, const char *path)
{
	cleanup_close int fd = open_beneath(w->merged, path, O_PATH);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return (struct look){0};
	return (struct look){
		.there = true, .size = st.st_size, .mtime = st.st_mtim, .ctime = st.st_ctim};
}

static bool looks_same(const struct look *a, const struct look *b)
{
	return a->there == b->there && a->size == b->size && same_time(&a->mtime, &b->mtime) &&
	       same_time(&a->ctime, &b->ctime);
}

static void mark(struct watch *w, const char *path)
{
	size_t len = strlen(path);
	struct dirty *d, **in;

	/* Nobody could open it to look at it. */
	if (w->own_lost || len >= PATH_MAX)
		return;
	d = xcalloc(1, sizeof(*d) + len + 1);
	memcpy(d->path, path, len + 1);
	d->first_us = now_us();
	in = tsearch(d, &w->dirty, by_path);
	if (in && *in == d) {
		d->look = look_at(w, path);
		w->n_dirty++;
	} else {
		free(d);
	}
	if (in)
		(*in)->last_us = now_us();
}

static void unmark(struct watch *w, struct dirty *d)
{
	tdelete(d, &w->dirty, by_path);
	w->n_dirty--;
	free(d);
}

bool watch_pending(const struct watch *w)
{
	return w->n_dirty > 0;
}

/* ---- directories */

static int by_wd(const void *a, const void *b)
{
	int x = ((const struct node *)a)->wd, y = ((const struct node *)b)->wd;

	return x < y ? -1 : x > y;
}

static struct node *find_node(const struct watch *w, int wd)
{
	struct node key = {.wd = wd};
	struct node **n = tfind(&key, &w->nodes, by_wd);

	return n ? *n : NULL;
}

static void forget_node(struct watch *w, int wd)
{
	struct node *n = find_node(w, wd);

	if (!n)
		return;
	tdelete(n, &w->nodes, by_wd);
	free(n);
	w->n_dirs--;
}

static void warn_limit(struct watch *w, const char *path)
{
	if (!w->warned)
		log_warn("rootfs %s: too many directories to watch (%zu; at %s): what others write "
			 "into the rest is not seen inside before a restart of the container: see "
			 "/proc/sys/fs/inotify/max_user_watches",
			 w->merged, w->n_dirs, path);
	w->warned = true;
}

/* Watches what `fd` is; a watch that exists gets the new path. */
static void add_watch(struct watch *w, int fd, const char *path, uint32_t mask)
{
	char link[64];
	size_t len = strlen(path);
	struct node *n;
	int wd;

	if (fd < 0)
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	wd = w->n_dirs < WATCH_DIRS_MAX
		     ? inotify_add_watch(w->o.inotify, link, mask | IN_ONLYDIR | IN_EXCL_UNLINK)
		     : -1;
	if (wd < 0) {
		if (w->n_dirs >= WATCH_DIRS_MAX || errno == ENOSPC || errno == ENOMEM)
			warn_limit(w, path);
		return;
	}
	forget_node(w, wd);
	n = xcalloc(1, sizeof(*n) + len + 1);
	n->wd = wd;
	memcpy(n->path, path, len + 1);
	tsearch(n, &w->nodes, by_wd);
	w->n_dirs++;
}

struct strings {
	char **v;
	size_t n, size;
};

static void push_string(struct strings *s, char *str)
{
	if (s->n + 1 >= s->size) {
		char **more;

		s->size = s->size ? s->size * 2 : 16;
		more = xcalloc(s->size, sizeof(*more));
		if (s->n)
			memcpy(more, s->v, s->n * sizeof(*more));
		free(s->v);
		s->v = more;
	}
	s->v[s->n++] = str;
	s->v[s->n] = NULL;
}

/* True if the directory itself is new, and did not only become visible in the upper layer. */
static bool is_fresh(const struct watch *w, int fd, const struct timespec *since)
{
	struct statx sx;
	struct timespec born;
	char path[64];

	if (w->o.overlay) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (getxattr(path, "trusted.overlay.origin", NULL, 0) >= 0)
			return false;
	}
	if (!since)
		return true;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME | STATX_CTIME, &sx) < 0)
		return false;
	born = sx.stx_mask & STATX_BTIME
		       ? (struct timespec){sx.stx_btime.tv_sec, sx.stx_btime.tv_nsec}
		       : (struct timespec){sx.stx_ctime.tv_sec, sx.stx_ctime.tv_nsec};
	return !before(&born, since);
}

/* One directory: watched, what is in it marked, its directories put onto `todo`. `since` NULL: all
 * that is in it is new. */
static void scan_dir(struct watch *w, const char *path, const struct timespec *since,
		     struct strings *todo)
{
	cleanup_close int fd = open_beneath(w->events, path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	cleanup_dir DIR *dir = NULL;

	if (fd < 0)
		return;
	/* Before it is read: what comes later gives an event. */
	add_watch(w, fd, path, CHANGES);
	if (w->o.overlay) {
		cleanup_close int m = open_beneath(w->merged, path, O_PATH | O_DIRECTORY);

		add_watch(w, m, path, WRITES);
	}
	if (path[0] && is_fresh(w, fd, since))
		mark(w, path);
	dir = fdopendir(fd);
	if (!dir)
		return;
	steal_fd(&fd);
	for (struct dirent *e; (e = readdir(dir));) {
		struct stat st;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (e->d_type == DT_DIR) {
			push_string(todo, join(path, e->d_name));
		} else if (!since ||
			   (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			    (S_ISDIR(st.st_mode) || !before(&st.st_ctim, since)))) {
			cleanup_free char *child = join(path, e->d_name);

			if (e->d_type == DT_UNKNOWN && since && S_ISDIR(st.st_mode))
				push_string(todo, steal_ptr(&child));
			else
				mark(w, child);
		}
	}
}

static void scan(struct watch *w, const char *path, const struct timespec *since)
{
	struct strings todo = {0};

	push_string(&todo, xstrdup(path));
	while (todo.n > 0) {
		cleanup_free char *next = todo.v[--todo.n];

		scan_dir(w, next, since, &todo);
	}
	free(todo.v);
}

struct beneath {
	const char *dir;
	int *wds;
	size_t n;
};

static void note_beneath(const void *node, VISIT which, void *arg)
{
	const struct node *n = *(struct node *const *)node;
	struct beneath *b = arg;

	if ((which == postorder || which == leaf) && is_beneath(n->path, b->dir))
		b->wds[b->n++] = n->wd;
}

/* A directory was removed or moved away: what is beneath has no path any more. */
static void unwatch(struct watch *w, const char *dir)
{
	cleanup_free int *wds = xcalloc(w->n_dirs + 1, sizeof(*wds));
	struct beneath b = {.dir = dir, .wds = wds};

	twalk_r(w->nodes, note_beneath, &b);
	for (size_t i = 0; i < b.n; i++) {
		inotify_rm_watch(w->o.inotify, wds[i]);
		forget_node(w, wds[i]);
	}
}

struct watch *watch_new(const struct watch_options *o, struct error *err)
{
	struct watch *w;
	cleanup_close int fd = open(o->events, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0) {
		error_errno(err, "open %s", o->events);
		return NULL;
	}
	w = xcalloc(1, sizeof(*w));
	w->o = *o;
	w->events = xstrdup(o->events);
	w->merged = xstrdup(o->merged);
	w->since = o->since;
	watch_rescan(w);
	return w;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	tdestroy(w->nodes, free);
	tdestroy(w->dirty, free);
	tdestroy(w->own, free);
	free(w->events);
	free(w->merged);
	free(w);
}

void watch_rescan(struct watch *w)
{
	const struct timespec since = w->since;

	scan(w, "", &since);
}

bool watch_event(struct watch *w, const struct inotify_event *e)
{
	struct node *n = find_node(w, e->wd);
	cleanup_free char *path = NULL;

	if (!n)
		return false;
	if (e->mask & IN_IGNORED) {
		forget_node(w, e->wd);
		return true;
	}
	if (e->len == 0)
		return true;
	path = join(n->path, e->name);
	if (!(e->mask & IN_ISDIR)) {
		mark(w, path);
	} else if (e->mask & (IN_CREATE | IN_MOVED_TO)) {
		scan(w, path, NULL);
	} else if (e->mask & (IN_DELETE | IN_MOVED_FROM)) {
		unwatch(w, path);
		mark(w, path);
	}
	return true;
}

/* ---- what is told */

struct taking {
	struct watch *w;
	bool all;
	uint64_t now;
	struct dirty **v;
	size_t n;
};

static bool is_due(const struct watch *w, struct dirty *d, uint64_t now)
{
	struct look look;
	uint64_t restless;

	if (now - d->last_us < QUIET_US)
		return false;
	look = look_at(w, d->path);
	if (looks_same(&look, &d->look))
		return true;
	d->look = look;
	d->last_us = now;
	restless = look.size < RESTLESS_SMALL ? RESTLESS_US : RESTLESS_LARGE_US;
	return now - d->first_us >= restless;
}

static void note_due(const void *node, VISIT which, void *arg)
{
	struct dirty *d = *(struct dirty *const *)node;
	struct taking *t = arg;

	if ((which == postorder || which == leaf) && (t->all || is_due(t->w, d, t->now)))
		t->v[t->n++] = d;
}

/* A file in the making that was told stays dirty: there is more to come. */
static void told(struct watch *w, struct dirty *d, bool all, uint64_t now)
{
	if (all || d->last_us != now)
		unmark(w, d);
	else
		d->first_us = now;
}

static bool is_temporary(const char *path)
{
	const char *slash = strrchr(path, '/');

	return strncmp(slash ? slash + 1 : path, ".husk-", 6) == 0;
}

char **watch_take(struct watch *w, bool all, size_t *n)
{
	cleanup_free struct dirty **due = xcalloc(w->n_dirty + 1, sizeof(struct dirty *));
	struct taking t = {.w = w, .all = all, .now = now_us(), .v = due};
	struct strings out = {0};
	struct timespec start;

	clock_gettime(CLOCK_REALTIME, &start);
	twalk_r(w->dirty, note_due, &t);
	for (size_t i = 0; i < t.n; i++) {
		const char *last = out.n ? out.v[out.n - 1] : NULL;

		/* What an apply made and renamed again is nobody's business. */
		if (!(last && is_beneath(due[i]->path, last)) &&
		    !(!due[i]->look.there && is_temporary(due[i]->path)))
			push_string(&out, xstrdup(due[i]->path));
		told(w, due[i], all, t.now);
	}
	/* What is older has been told: a look for lost events starts from here. */
	if (w->n_dirty == 0)
		w->since = earlier(start, SLACK_NS);
	*n = out.n;
	return out.v;
}

/* ---- our own changes */

static int own_by_path(const void *a, const void *b)
{
	return strcmp(((const struct own *)a)->path, ((const struct own *)b)->path);
}

static void lose_own(struct watch *w)
{
	log_warn("rootfs %s: so much is synced at a time that what others write meanwhile is not "
		 "seen inside before a restart of the container",
		 w->merged);
	w->own_lost = true;
	tdestroy(w->own, free);
	w->own = NULL;
	while (w->dirty)
		unmark(w, *(struct dirty **)w->dirty);
}

void watch_own(struct watch *w, const char *path, const struct stat *st)
{
	size_t len = strlen(path);
	struct own *o, **in;

	if (w->own_lost || len >= PATH_MAX)
		return;
	o = xcalloc(1, sizeof(*o) + len + 1);
	memcpy(o->path, path, len + 1);
	in = tsearch(o, &w->own, own_by_path);
	if (in && *in != o) {
		free(o);
		o = *in;
	} else {
		w->own_bytes += sizeof(*o) + len + 1;
	}
	o->there = st != NULL;
	if (st) {
		o->dir = S_ISDIR(st->st_mode);
		o->ino = st->st_ino;
		o->size = st->st_size;
		o->mtime = st->st_mtim;
	}
	if (w->own_bytes > OWN_BYTES_MAX)
		lose_own(w);
}

/* True if the path is as we left it. A directory is ours as long as it is the same one: its times
 * change with what others do in it, which has events of its own. */
static bool is_own(const struct watch *w, const struct dirty *d)
{
	cleanup_free struct own *key = xcalloc(1, sizeof(*key) + strlen(d->path) + 1);
	cleanup_close int fd = open_beneath(w->merged, d->path, O_PATH);
	struct own **o;
	struct stat st;
	bool there = fd >= 0 && fstat(fd, &st) == 0;

	memcpy(key->path, d->path, strlen(d->path) + 1);
	o = tfind(key, &w->own, own_by_path);
	if (!o)
		return false;
	if (!there || !(*o)->there)
		return there == (*o)->there;
	if (S_ISDIR(st.st_mode))
		return (*o)->dir && (*o)->ino == st.st_ino;
	return (*o)->ino == st.st_ino && (*o)->size == st.st_size &&
	       same_time(&(*o)->mtime, &st.st_mtim);
}

static void note_own(const void *node, VISIT which, void *arg)
{
	struct dirty *d = *(struct dirty *const *)node;
	struct taking *t = arg;

	if ((which == postorder || which == leaf) && is_own(t->w, d))
		t->v[t->n++] = d;
}

void watch_own_done(struct watch *w)
{
	cleanup_free struct dirty **mine = xcalloc(w->n_dirty + 1, sizeof(struct dirty *));
	struct taking t = {.w = w, .v = mine};

	twalk_r(w->dirty, note_own, &t);
	for (size_t i = 0; i < t.n; i++)
		unmark(w, mine[i]);
	tdestroy(w->own, free);
	w->own = NULL;
	w->own_bytes = 0;
	w->own_lost = false;
}
