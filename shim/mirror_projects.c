/*
 * Projected files and directories while the container runs.
 *
 * A file is the inode that the container was made with, as with a bind mount: it is open here, and
 * a new file under its name is another file. (Docker rewrites its resolv.conf and hosts in place.)
 * A directory is the one it was made with, too; its content may be exchanged in any way, as
 * Kubernetes does by renaming ..data, so that it is told as a whole again whenever something in it
 * has changed. Events only say when to look.
 *
 * A file that both sides may write has a *base*: a hash of what both had when they were last alike.
 * The side that differs from the base has written. If both do, the host's stays: the engine wrote
 * it, and the container can write again. The first base is the host's file as it is when nothing
 * was written to it since the container was made, otherwise there is none and the host's is sent.
 *
 * What the guest sends is bounded, only names that it may write are taken, and only content and the
 * permission bits for reading, writing and executing are: an owner or a set-uid bit on a host's
 * file is not the container's to give.
 */
#include "shim/mirror_projects.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/mount_plan.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define QUIET_US (PM_QUIET_MS * 1000ull)
#define RESTLESS_US 500000ull
#define FILE_EVENTS (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB)
#define DIR_EVENTS (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | FILE_EVENTS)
#define DEPTH_MAX 64
#define FNV_BASIS 14695981039346656037ull
#define FNV_PRIME 1099511628211ull

struct member {
	struct planned_mount *m;
	int fd; /* of the file or directory; -1: it was gone before we came */
	bool changed, based, given_up, taken;
	uint64_t first_us, last_us;
	uint64_t base; /* based: hash of the content that both sides have */
	mode_t mode;   /* based: permission bits that both have */
};

struct watched {
	int wd;
	size_t member;
};

struct projects_mirror {
	struct mount_plan plan;
	struct member *v;
	size_t n;
	int inotify;
	struct timespec
		looked; /* what is not older may have changed since pm_open() looked at it */
	struct watched *watches;
	size_t n_watches, size_watches;
	char **names; /* pm_take() */
	int *fds;
};

static uint64_t hash_add(uint64_t h, const unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * FNV_PRIME;
	return h;
}

/* Content of a host's file. False if it cannot be read or is too large to be projected. */
static bool hash_file(int fd, uint64_t *hash, mode_t *mode)
{
	unsigned char buf[4096];
	uint64_t h = FNV_BASIS;
	off_t at = 0;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0 || st.st_size > PROJECT_GROWN_BYTES)
		return false;
	while ((n = pread(fd, buf, sizeof(buf), at)) > 0 && at <= PROJECT_GROWN_BYTES) {
		h = hash_add(h, buf, (size_t)n);
		at += n;
	}
	*hash = h;
	*mode = st.st_mode & 0777;
	return n == 0;
}

/* ---- watching */

static void add_watch(struct projects_mirror *p, size_t member, const char *path, uint32_t mask)
{
	int wd = inotify_add_watch(p->inotify, path, mask);

	if (wd < 0) {
		if (errno == ENOSPC)
			log_warn("mount %s: cannot be watched for changes: too many watches: see "
				 "/proc/sys/fs/inotify/max_user_watches",
				 p->v[member].m->source);
		return;
	}
	for (size_t i = 0; i < p->n_watches; i++)
		if (p->watches[i].wd == wd && p->watches[i].member == member)
			return;
	if (p->n_watches == p->size_watches) {
		struct watched *more = xcalloc(p->size_watches * 2 + 8, sizeof(*more));

		if (p->n_watches)
			memcpy(more, p->watches, p->n_watches * sizeof(*more));
		free(p->watches);
		p->watches = more;
		p->size_watches = p->size_watches * 2 + 8;
	}
	p->watches[p->n_watches++] = (struct watched){.wd = wd, .member = member};
}

struct survey {
	struct projects_mirror *p;
	size_t member;
	uint64_t entries, bytes;
	struct timespec newest; /* change time */
};

/* Watches a directory and those in it, counts what it holds. `fd` is taken over. */
static int survey_dir(struct survey *s, int fd, int depth)
{
	cleanup_dir DIR *dir = fdopendir(fd);
	char link[64];

	if (!dir) {
		close(fd);
		return -1;
	}
	if (s->p->inotify >= 0) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd(dir));
		add_watch(s->p, s->member, link, DIR_EVENTS | IN_ONLYDIR);
	}
	for (struct dirent *e; (e = readdir(dir));) {
		struct stat st;

		if (strcmp(e->d_name, "..") == 0 ||
		    fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (st.st_ctim.tv_sec > s->newest.tv_sec ||
		    (st.st_ctim.tv_sec == s->newest.tv_sec &&
		     st.st_ctim.tv_nsec > s->newest.tv_nsec))
			s->newest = st.st_ctim;
		if (strcmp(e->d_name, ".") == 0)
			continue;
		s->entries++;
		s->bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
		if (s->entries > PROJECT_GROWN_ENTRIES || s->bytes > PROJECT_GROWN_BYTES ||
		    depth > DEPTH_MAX)
			return -1;
		if (S_ISDIR(st.st_mode)) {
			int sub = openat(dirfd(dir), e->d_name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (sub >= 0 && survey_dir(s, sub, depth + 1) < 0)
				return -1;
		}
	}
	return 0;
}

/* Too much of it: said once, then it stays as the guest has it. */
static void give_up(struct member *b)
{
	if (!b->given_up)
		log_error("mount %s: has grown beyond what is projected (%u MiB, %u entries): the "
			  "container sees no further changes of it",
			  b->m->source, PROJECT_GROWN_BYTES >> 20, PROJECT_GROWN_ENTRIES);
	b->given_up = true;
	b->changed = false;
}

static bool survey_member(struct projects_mirror *p, size_t i, struct timespec *newest)
{
	struct survey s = {.p = p, .member = i};
	struct member *b = &p->v[i];
	char link[64];
	struct stat st;
	int fd;

	if (!b->m->dir) {
		if (fstat(b->fd, &st) < 0)
			return false;
		*newest = st.st_ctim;
		snprintf(link, sizeof(link), "/proc/self/fd/%d", b->fd);
		if (p->inotify >= 0)
			add_watch(p, i, link, FILE_EVENTS);
		if (st.st_size <= PROJECT_GROWN_BYTES)
			return true;
		give_up(b);
		return false;
	}
	fd = openat(b->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (survey_dir(&s, fd, 0) < 0) {
		give_up(b);
		return false;
	}
	*newest = s.newest;
	return true;
}

static void mark(struct member *b)
{
	uint64_t now = now_us();

	if (b->given_up || b->fd < 0)
		return;
	if (!b->changed)
		b->first_us = now;
	b->changed = true;
	b->last_us = now;
}

/* The source, if it is still what the container was made with: a path may have been made to lead to
 * a file that the container was not given. -1 and errno. */
static int open_source(const struct planned_mount *m)
{
	cleanup_close int fd = open(m->source, O_PATH | O_CLOEXEC);
	char identity[MOUNT_IDENTITY_LEN], link[64];

	if (fd < 0)
		return -1;
	if (mount_identity(fd, identity, NULL) < 0 || strcmp(identity, m->identity) != 0) {
		errno = ESTALE;
		return -1;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return open(link, m->dir ? O_RDONLY | O_DIRECTORY | O_CLOEXEC
				 : (m->writable ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
}

static bool is_since(const struct timespec *t, const struct timespec *since)
{
	return t->tv_sec != since->tv_sec ? t->tv_sec > since->tv_sec
					  : t->tv_nsec >= since->tv_nsec;
}

static void open_member(struct projects_mirror *p, size_t i, struct timespec since)
{
	struct member *b = &p->v[i];
	struct timespec newest;
	bool later;

	b->fd = open_source(b->m);
	if (b->fd < 0) {
		log_warn("mount %s: %s: neither side sees further changes of the other's",
			 b->m->source,
			 errno == ESTALE ? "is another one than when the container was made"
					 : strerror(errno));
		return;
	}
	if (!survey_member(p, i, &newest))
		return;
	later = is_since(&newest, &since);
	if (!b->m->dir && !later)
		b->based = hash_file(b->fd, &b->base, &b->mode);
	if (later)
		mark(b);
}

struct projects_mirror *pm_open(int dirfd, struct timespec since, struct error *err)
{
	struct projects_mirror *p;

	if (faccessat(dirfd, "mounts.json", F_OK, 0) < 0 && errno == ENOENT)
		return NULL;
	p = xcalloc(1, sizeof(*p));
	p->inotify = -1;
	if (mount_plan_load(&p->plan, dirfd, err) < 0) {
		free(p);
		return NULL;
	}
	p->v = xcalloc(p->plan.n + 1, sizeof(*p->v));
	p->names = xcalloc(p->plan.n + 1, sizeof(*p->names));
	p->fds = xcalloc(p->plan.n + 1, sizeof(*p->fds));
	for (size_t i = 0; i < p->plan.n; i++)
		if (p->plan.v[i].from == MOUNT_FROM_PROJECT)
			p->v[p->n++] = (struct member){.m = &p->plan.v[i], .fd = -1};
	/* Change times are of this clock. */
	clock_gettime(CLOCK_REALTIME_COARSE, &p->looked);
	for (size_t i = 0; i < p->n; i++)
		open_member(p, i, since);
	if (p->n > 0)
		return p;
	pm_free(p);
	return NULL;
}

void pm_free(struct projects_mirror *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++)
		close_fd(&p->v[i].fd);
	mount_plan_free(&p->plan);
	free(p->v);
	free(p->names);
	free(p->fds);
	free(p->watches);
	free(p);
}

void pm_watch(struct projects_mirror *p, int inotify)
{
	struct timespec newest;

	p->inotify = inotify;
	for (size_t i = 0; i < p->n; i++) {
		struct member *b = &p->v[i];

		/* Between pm_open() and here nothing gave events. */
		if (b->fd >= 0 && !b->given_up && survey_member(p, i, &newest) &&
		    is_since(&newest, &p->looked))
			mark(b);
	}
}

bool pm_event(struct projects_mirror *p, const struct inotify_event *e)
{
	bool ours = false;

	for (size_t i = 0; i < p->n_watches; i++) {
		if (p->watches[i].wd != e->wd)
			continue;
		ours = true;
		if (e->mask & IN_IGNORED)
			p->watches[i--] = p->watches[--p->n_watches];
		else
			mark(&p->v[p->watches[i].member]);
	}
	return ours;
}

void pm_rescan(struct projects_mirror *p)
{
	for (size_t i = 0; i < p->n; i++)
		mark(&p->v[i]);
}

bool pm_writable(const struct projects_mirror *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].m->writable && p->v[i].fd >= 0)
			return true;
	return false;
}

bool pm_pending(const struct projects_mirror *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].changed)
			return true;
	return false;
}

/* ---- host to guest */

/* True if it has to be sent. */
static bool has_news(struct projects_mirror *p, size_t i)
{
	struct member *b = &p->v[i];
	struct timespec newest;
	uint64_t hash;
	mode_t mode;

	/* New directories get their watches here, before they are read. */
	if (!survey_member(p, i, &newest))
		return false;
	if (b->m->dir)
		return true;
	if (!hash_file(b->fd, &hash, &mode))
		return false;
	if (b->based && hash == b->base && mode == b->mode)
		return false;
	b->based = true;
	b->base = hash;
	b->mode = mode;
	return true;
}

size_t pm_take(struct projects_mirror *p, bool all, char ***names, int **fds)
{
	uint64_t now = now_us();
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++) {
		struct member *b = &p->v[i];

		b->taken = false;
		if (!b->changed)
			continue;
		if (!all && now - b->last_us < QUIET_US && now - b->first_us < RESTLESS_US)
			continue;
		b->changed = false;
		if (!has_news(p, i))
			continue;
		b->taken = true;
		p->names[n] = b->m->name;
		p->fds[n++] = b->fd;
	}
	*names = p->names;
	*fds = p->fds;
	return n;
}

void pm_pushed(struct projects_mirror *p, bool ok)
{
	for (size_t i = 0; i < p->n; i++) {
		struct member *b = &p->v[i];

		/* What was sent in vain is not what the guest has. */
		if (b->taken && !ok)
			b->based = false;
		b->taken = false;
	}
}

/* ---- guest to host */

static struct member *find_writable(const struct projects_mirror *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].m->writable && !p->v[i].m->dir && p->v[i].fd >= 0 &&
		    strcmp(p->v[i].m->name, name) == 0)
			return &p->v[i];
	return NULL;
}

/* The content of the FILE entry, holes as zeros. Malloc'ed; NULL on error. */
static unsigned char *read_content(struct cs_reader *r, uint64_t size, struct error *err)
{
	unsigned char *content = calloc(1, size + 1);
	const void *buf;
	uint64_t off;
	size_t len;
	int more;

	if (!content) {
		error_set(err, "out of memory");
		return NULL;
	}
	while ((more = cs_next_data(r, &off, &buf, &len, err)) > 0) {
		if (off > size || len > size - off) {
			more = error_kind(err, ERR_PEER, "data beyond the size");
			break;
		}
		memcpy(content + off, buf, len);
	}
	if (more == 0)
		return content;
	free(content);
	return NULL;
}

/* In place, only what differs: readers on the host see no moment with an empty file unless it is
 * to be one. */
static int write_file(const struct member *b, const unsigned char *content, size_t size,
		      struct error *err)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(b->fd, content + done, size - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, "write %s", b->m->source);
		done += (size_t)n;
	}
	if (ftruncate(b->fd, (off_t)size) < 0)
		return error_errno(err, "truncate %s", b->m->source);
	return 0;
}

static int take_file(struct member *b, const struct cs_entry *e, const unsigned char *content,
		     struct error *err)
{
	uint64_t theirs = hash_add(FNV_BASIS, content, e->size), ours;
	mode_t mode = e->mode & 0777, our_mode;

	if (!hash_file(b->fd, &ours, &our_mode))
		return 0;
	if (ours == theirs && our_mode == mode) {
		b->based = true;
	} else if (b->based && theirs == b->base && mode == b->mode) {
		/* The container wrote nothing; the host did, which is on its way. */
		return 0;
	} else if (!b->based || ours != b->base || our_mode != b->mode) {
		mark(b);
		return 0;
	} else {
		if (ours != theirs && write_file(b, content, e->size, err) < 0)
			return -1;
		if (our_mode != mode && fchmod(b->fd, mode) < 0)
			return error_errno(err, "chmod %s", b->m->source);
	}
	b->base = theirs;
	b->mode = mode;
	return 0;
}

static int receive_file(struct projects_mirror *p, struct cs_reader *r, const struct cs_entry *e,
			struct error *err)
{
	struct member *b = find_writable(p, e->name);
	const struct cs_entry entry = *e; /* the reader's goes with the next call */
	cleanup_free unsigned char *content = NULL;

	if (!b)
		return 0;
	if (e->size > PROJECT_GROWN_BYTES) {
		give_up(b);
		return 0;
	}
	content = read_content(r, entry.size, err);
	if (!content)
		return error_wrap(err, "mount %s", b->m->source);
	return take_file(b, &entry, content, err);
}

int pm_receive(struct projects_mirror *p, int in, struct error *err)
{
	/* A guest that lies sends no more than it could have. */
	uint64_t most = (p->n + 1) * (uint64_t)PROJECT_GROWN_BYTES;
	struct cs_reader *r = cs_reader_new(in, p->n * 4 + 64, most);
	struct error why = ERROR_INIT;
	struct cs_entry e;
	int depth = 0, more, result = 0;

	while ((more = cs_next(r, &e, err)) > 0) {
		if (e.type == CS_DIR && strcmp(e.name, ".") != 0)
			depth++;
		else if (e.type == CS_LEAVE)
			depth--;
		/* One file that cannot be written keeps none of the others from it. */
		else if (e.type == CS_FILE && depth == 0 &&
			 receive_file(p, r, &e, result < 0 ? NULL : &why) < 0)
			result = -1;
	}
	cs_reader_free(r);
	if (more < 0)
		return -1;
	if (result < 0 && err)
		*err = why;
	return result;
}
