/*
 * Projects: what is kept, watched and removed.
 *
 * A project is a member of one tmpfs, pushed by the host before the container that names it. The
 * container binds it, so that the inode that was there at projects_use() is the one that matters
 * for as long as the container lives: the set keeps a descriptor of it, watches that inode, and
 * sends back what is in that inode. A push rewrites files in place for the same reason.
 *
 * Watching is inotify on the inode (by way of /proc/self/fd), which sees writes through every bind
 * mount of it. A writer that closes the file is told of at once, so that a termination log is on
 * the host before anybody asks; one that keeps it open, a change of mode or owner, and whoever
 * closes again and again, QUIET_US later. While that timer runs the inotify descriptor is not
 * polled: the kernel folds like events into one meanwhile, and PID 1 is not woken by each write of
 * a busy log. Nothing is lost by it: before a report everything queued is read, and the host reads
 * the file after the report. A queue that has overflowed means that everything may have changed.
 *
 * A project of a container that is gone may hold whatever its root has made of it: removal follows
 * no link, and needs neither stack nor descriptors for each level of a tree (see remove_tree()).
 */
#include "agent/projects.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define QUIET_US 100000
#define WATCHED (IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB)

struct project {
	struct project *next;
	char *name;
	int fd; /* O_PATH of the inode that containers have bound */
	int wd; /* inotify's, -1: not watched */
	bool closed, dirty;
	uint64_t reported_us;
};

struct use {
	struct use *next;
	char *container;
	struct project *p;
	bool writable;
};

struct projects {
	struct loop *loop;
	project_changed_fn fn;
	void *arg;
	int dir;    /* O_PATH of the tmpfs, -1: not mounted */
	int notify; /* inotify, -1: nothing was watched yet */
	struct loop_source *readable, *timer;
	struct project *all;
	struct use *uses;
	/* answer of projects_writable() */
	char **names;
	int *fds;
};

struct projects *projects_new(struct loop *loop, project_changed_fn fn, void *arg)
{
	struct projects *set = xcalloc(1, sizeof(*set));

	*set = (struct projects){.loop = loop, .fn = fn, .arg = arg, .dir = -1, .notify = -1};
	return set;
}

static void project_free(struct project *p)
{
	close_fd(&p->fd);
	free(p->name);
	free(p);
}

static void use_free(struct use *u)
{
	free(u->container);
	free(u);
}

void projects_free(struct projects *set)
{
	if (!set)
		return;
	loop_remove(set->readable);
	loop_remove(set->timer);
	while (set->uses) {
		struct use *u = set->uses;

		set->uses = u->next;
		use_free(u);
	}
	while (set->all) {
		struct project *p = set->all;

		set->all = p->next;
		project_free(p);
	}
	close_fd(&set->notify);
	close_fd(&set->dir);
	free(set->names);
	free(set->fds);
	free(set);
}

int projects_dir(struct projects *set, struct error *err)
{
	if (set->dir >= 0)
		return set->dir;
	if (mkdir_p(PROJECTS_DIR, 0755, err) < 0)
		return -1;
	/* No flags: in a user namespace a bind mount could not be without them. */
	if (mount("projects", PROJECTS_DIR, "tmpfs", 0, PROJECTS_SIZE) < 0)
		return error_errno(err, "mount a tmpfs on %s", PROJECTS_DIR);
	set->dir = open(PROJECTS_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return set->dir < 0 ? error_errno(err, "open %s", PROJECTS_DIR) : set->dir;
}

/* ---- reports */

/* Calls back for every container that may write the project. */
static void report(struct projects *set, struct project *p)
{
	p->closed = p->dirty = false;
	p->reported_us = now_us();
	for (struct use *u = set->uses, *next; u; u = next) {
		next = u->next;
		if (u->p == p && u->writable)
			set->fn(set->arg, u->container, p->name);
	}
}

static void mark(struct projects *set, const struct inotify_event *e)
{
	for (struct project *p = set->all; p; p = p->next) {
		if (p->wd < 0 || (p->wd != e->wd && !(e->mask & IN_Q_OVERFLOW)))
			continue;
		if (e->mask & IN_CLOSE_WRITE)
			p->closed = true;
		else if (e->mask & (IN_MODIFY | IN_ATTRIB | IN_Q_OVERFLOW))
			p->dirty = true;
	}
}

static void read_events(struct projects *set)
{
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n;

	while ((n = read(set->notify, buf, sizeof(buf))) > 0)
		for (char *at = buf; at < buf + n;) {
			const struct inotify_event *e = (const void *)at;

			mark(set, e);
			at += sizeof(*e) + e->len;
		}
}

static void on_quiet(void *arg, uint32_t events UNUSED)
{
	struct projects *set = arg;

	set->timer = NULL;
	read_events(set);
	for (struct project *p = set->all; p; p = p->next)
		if (p->closed || p->dirty)
			report(set, p);
	loop_set(set->readable, EPOLLIN);
}

static void on_events(void *arg, uint32_t events UNUSED)
{
	struct projects *set = arg;
	struct error err = ERROR_INIT;
	uint64_t now = now_us();
	bool later = false;

	read_events(set);
	for (struct project *p = set->all; p; p = p->next) {
		if (p->closed && now - p->reported_us >= QUIET_US)
			report(set, p);
		later = later || p->closed || p->dirty;
	}
	if (!later || set->timer)
		return;
	set->timer = loop_timer(set->loop, QUIET_US, on_quiet, set, &err);
	if (set->timer)
		loop_set(set->readable, 0);
	else
		log_warn("projects: changes are told of later: %s", err.msg);
}

/* ---- use */

static int watch(struct projects *set, struct project *p, struct error *err)
{
	char path[32];

	if (p->wd >= 0)
		return 0;
	if (set->notify < 0) {
		set->notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (set->notify < 0)
			return error_errno(err, "inotify");
	}
	if (!set->readable)
		set->readable = loop_add(set->loop, set->notify, EPOLLIN, on_events, set, err);
	if (!set->readable)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	p->wd = inotify_add_watch(set->notify, path, WATCHED);
	return p->wd < 0 ? error_errno(err, "watch project \"%s\"", p->name) : 0;
}

static bool same_inode(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* The project of that name, which the set knows already or makes known now. */
static struct project *find(struct projects *set, const char *name, struct error *err)
{
	int dir = projects_dir(set, err);
	cleanup_close int fd = -1;
	struct project *p;

	if (dir < 0)
		return NULL;
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		error_errno(err, "project \"%s\"", name);
		return NULL;
	}
	for (p = set->all; p; p = p->next) {
		if (strcmp(p->name, name) != 0)
			continue;
		if (same_inode(fd, p->fd))
			return p;
		error_set(err, "project \"%s\" was replaced while a container uses it", name);
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	*p = (struct project){
		.next = set->all, .name = xstrdup(name), .fd = steal_fd(&fd), .wd = -1};
	set->all = p;
	return p;
}

static int check_kind(const struct project *p, bool writable, struct error *err)
{
	struct stat st;

	if (fstat(p->fd, &st) < 0)
		return error_errno(err, "project \"%s\"", p->name);
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return error_kind(err, ERR_INVALID,
				  "project \"%s\" is neither a file nor a directory", p->name);
	if (writable && !S_ISREG(st.st_mode))
		return error_kind(err, ERR_INVALID,
				  "project \"%s\" is a directory: only files can be writable",
				  p->name);
	return 0;
}

static bool is_used(const struct projects *set, const struct project *p)
{
	for (const struct use *u = set->uses; u; u = u->next)
		if (u->p == p)
			return true;
	return false;
}

static void forget(struct projects *set, struct project *p)
{
	struct project **at = &set->all;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	if (p->wd >= 0)
		inotify_rm_watch(set->notify, p->wd);
	project_free(p);
}

int projects_use(struct projects *set, const char *container, const char *name, bool writable,
		 struct error *err)
{
	struct project *p = find(set, name, err);
	struct use *u;

	if (!p)
		return -1;
	if (check_kind(p, writable, err) < 0 || (writable && watch(set, p, err) < 0)) {
		if (!is_used(set, p))
			forget(set, p);
		return -1;
	}
	u = xcalloc(1, sizeof(*u));
	*u = (struct use){
		.next = set->uses, .container = xstrdup(container), .p = p, .writable = writable};
	set->uses = u;
	return 0;
}

/* ---- removal */

/* Where the directories of a tree are put before they are emptied: its top, by number. */
struct removal {
	int top;
	unsigned long next;
};

/* Removes `name` of directory `at`, or moves it, a directory that is not empty, up to the top. */
static int remove_entry(struct removal *r, int at, const char *name)
{
	char moved[32];

	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -1;
	if (unlinkat(at, name, AT_REMOVEDIR) == 0)
		return 0;
	if (at == r->top)
		return -1;
	do
		snprintf(moved, sizeof(moved), ".husk-%lu", r->next++);
	while (renameat2(at, name, r->top, moved, RENAME_NOREPLACE) < 0 && errno == EEXIST);
	return faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? -1 : 0;
}

/* Removes what is in directory `name` of the top, or moves it up. */
static int empty_directory(struct removal *r, const char *name)
{
	cleanup_close int fd =
		openat(r->top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_dir DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	int failed = 0;

	if (!d)
		return -1;
	fd = -1; /* closedir() closes it */
	while ((e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		    remove_entry(r, dirfd(d), e->d_name) < 0)
			failed = -1;
	return failed;
}

/* One round over the top: true if something was removed. */
static bool remove_round(struct removal *r)
{
	cleanup_close int again = openat(r->top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = again >= 0 ? fdopendir(again) : NULL;
	const struct dirent *e;
	bool progress = false;

	if (!d)
		return false;
	again = -1;
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (remove_entry(r, r->top, e->d_name) < 0 &&
		    (empty_directory(r, e->d_name) < 0 ||
		     unlinkat(r->top, e->d_name, AT_REMOVEDIR) < 0))
			continue;
		progress = true;
	}
	return progress;
}

/* However deep a tree is: the directories in a directory are moved up beside it, and then it is
 * empty. What cannot be removed (an immutable file) stays, and is told of. */
static void remove_tree(int dir, const char *name)
{
	struct removal r = {.top = -1};

	if (unlinkat(dir, name, 0) == 0)
		return;
	r.top = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	while (r.top >= 0 && remove_round(&r))
		;
	close_fd(&r.top);
	if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		log_warn("remove project \"%s\": %s", name, strerror(errno));
}

void projects_release(struct projects *set, const char *container)
{
	for (struct use **at = &set->uses; *at;) {
		struct use *u = *at;

		if (strcmp(u->container, container) != 0) {
			at = &u->next;
			continue;
		}
		*at = u->next;
		use_free(u);
	}
	for (struct project *p = set->all, *next; p; p = next) {
		next = p->next;
		if (is_used(set, p))
			continue;
		remove_tree(set->dir, p->name);
		forget(set, p);
	}
}

size_t projects_writable(struct projects *set, const char *container, char ***names, int **fds)
{
	size_t n = 0;

	for (const struct use *u = set->uses; u; u = u->next)
		n += u->writable;
	free(set->names);
	free(set->fds);
	set->names = xcalloc(n + 1, sizeof(*set->names));
	set->fds = xcalloc(n + 1, sizeof(*set->fds));
	n = 0;
	for (const struct project *p = set->all; p; p = p->next)
		for (const struct use *u = set->uses; u; u = u->next) {
			if (u->p != p || !u->writable || strcmp(u->container, container) != 0)
				continue;
			set->names[n] = p->name;
			set->fds[n++] = p->fd;
			break; /* once, however many mounts it has */
		}
	*names = set->names;
	*fds = set->fds;
	return n;
}
