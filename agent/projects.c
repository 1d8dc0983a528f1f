/*
 * Projects: what is kept, watched and removed.
 *
 * A container's projects are members of a tmpfs of its own, PROJECTS_DIR/<id>, pushed by the host
 * before the container is made: names mean nothing beyond it, and what a container writes takes no
 * other's room. The container binds them, so that the inode that was there at projects_use() is the
 * one that matters for as long as it lives: the set keeps a descriptor of it, watches that inode,
 * and sends back what is in that inode. A push rewrites files in place for the same reason.
 *
 * Watching is inotify on the inode (by way of /proc/self/fd), which sees writes through every bind
 * mount of it. A writer that closes the file is told of at once, so that a termination log is on
 * the host before anybody asks; one that keeps it open, a change of mode or owner, and whoever
 * closes again and again, QUIET_US later. While that timer runs the inotify descriptor is not
 * polled: the kernel folds like events into one meanwhile, and PID 1 is not woken by each write of
 * a busy log. Nothing is lost by it: before a report everything queued is read, and the host reads
 * the file after the report. A queue that has overflowed means that everything may have changed.
 *
 * The tmpfs goes with the container, or with the connection that pushed, if that never made one.
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

/* A container's. */
struct home {
	struct home *next;
	char *container;
	int dir; /* O_PATH of the tmpfs */
	const void
		*pusher; /* the connection that pushed first; NULL: the container is being made */
};

struct project {
	struct project *next;
	struct home *home;
	char *name;
	int fd; /* O_PATH of the inode that the container has bound */
	int wd; /* inotify's, -1: not watched, and not writable */
	bool closed, dirty;
	uint64_t reported_us;
};

struct projects {
	struct loop *loop;
	project_changed_fn fn;
	void *arg;
	int notify; /* inotify, -1: nothing was watched yet */
	struct loop_source *readable, *timer;
	struct home *homes;
	struct project *all;
	/* answer of projects_writable() */
	char **names;
	int *fds;
};

struct projects *projects_new(struct loop *loop, project_changed_fn fn, void *arg)
{
	struct projects *set = xcalloc(1, sizeof(*set));

	*set = (struct projects){.loop = loop, .fn = fn, .arg = arg, .notify = -1};
	return set;
}

static void project_free(struct project *p)
{
	close_fd(&p->fd);
	free(p->name);
	free(p);
}

/* The tmpfs is gone when the last mount namespace that has it is. */
static void home_free(struct home *h)
{
	cleanup_free char *at = xasprintf("%s/%s", PROJECTS_DIR, h->container);

	close_fd(&h->dir);
	if (umount2(at, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 || rmdir(at) < 0)
		log_warn("remove the projects of %s: %s", h->container, strerror(errno));
	free(h->container);
	free(h);
}

void projects_free(struct projects *set)
{
	if (!set)
		return;
	loop_remove(set->readable);
	loop_remove(set->timer);
	while (set->all) {
		struct project *p = set->all;

		set->all = p->next;
		project_free(p);
	}
	while (set->homes) {
		struct home *h = set->homes;

		set->homes = h->next;
		home_free(h);
	}
	close_fd(&set->notify);
	free(set->names);
	free(set->fds);
	free(set);
}

static struct home *home_of(const struct projects *set, const char *container)
{
	struct home *h = set->homes;

	while (h && strcmp(h->container, container) != 0)
		h = h->next;
	return h;
}

static int open_home(const char *at, struct error *err)
{
	int fd;

	if (mkdir_p(at, 0755, err) < 0)
		return -1;
	/* No flags: in a user namespace a bind mount could not be without them. */
	if (mount("projects", at, "tmpfs", 0, PROJECTS_SIZE) < 0)
		return error_errno(err, "mount a tmpfs on %s", at);
	fd = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, "open %s", at) : fd;
}

int projects_dir(struct projects *set, const char *container, const void *pusher, struct error *err)
{
	cleanup_free char *at = xasprintf("%s/%s", PROJECTS_DIR, container);
	struct home *h = home_of(set, container);
	int dir;

	if (h)
		return h->dir;
	dir = open_home(at, err);
	if (dir < 0)
		return -1;
	h = xcalloc(1, sizeof(*h));
	*h = (struct home){
		.next = set->homes, .container = xstrdup(container), .dir = dir, .pusher = pusher};
	set->homes = h;
	return dir;
}

/* ---- reports */

static void report(struct projects *set, struct project *p)
{
	p->closed = p->dirty = false;
	p->reported_us = now_us();
	set->fn(set->arg, p->home->container, p->name);
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
static struct project *find(struct projects *set, struct home *h, const char *name,
			    struct error *err)
{
	cleanup_close int fd = openat(h->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct project *p;

	if (fd < 0) {
		error_errno(err, "project \"%s\"", name);
		return NULL;
	}
	for (p = set->all; p; p = p->next) {
		if (p->home != h || strcmp(p->name, name) != 0)
			continue;
		if (same_inode(fd, p->fd))
			return p;
		error_set(err, "project \"%s\" was replaced while a container uses it", name);
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	*p = (struct project){
		.next = set->all, .home = h, .name = xstrdup(name), .fd = steal_fd(&fd), .wd = -1};
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
	struct home *h = home_of(set, container);
	struct project *p;

	if (!h)
		return error_kind(err, ERR_NOT_FOUND, "project \"%s\": none was pushed for %s",
				  name, container);
	p = find(set, h, name, err);
	if (!p)
		return -1;
	h->pusher = NULL;
	return check_kind(p, writable, err) < 0 ? -1 : writable ? watch(set, p, err) : 0;
}

/* ---- removal */

void projects_release(struct projects *set, const char *container)
{
	struct home *h = home_of(set, container);
	struct home **at = &set->homes;

	if (!h)
		return;
	for (struct project *p = set->all, *next; p; p = next) {
		next = p->next;
		if (p->home == h)
			forget(set, p);
	}
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	home_free(h);
}

void projects_client_gone(struct projects *set, const void *client)
{
	for (struct home *h = set->homes, *next; h; h = next) {
		next = h->next;
		if (h->pusher == client)
			projects_release(set, h->container);
	}
}

size_t projects_writable(struct projects *set, const char *container, char ***names, int **fds)
{
	const struct home *h = home_of(set, container);
	size_t n = 0;

	for (const struct project *p = set->all; p; p = p->next)
		n += p->home == h && p->wd >= 0;
	free(set->names);
	free(set->fds);
	set->names = xcalloc(n + 1, sizeof(*set->names));
	set->fds = xcalloc(n + 1, sizeof(*set->fds));
	n = 0;
	for (const struct project *p = set->all; p; p = p->next) {
		if (p->home != h || p->wd < 0)
			continue;
		set->names[n] = p->name;
		set->fds[n++] = p->fd;
	}
	*names = set->names;
	*fds = set->fds;
	return n;
}
