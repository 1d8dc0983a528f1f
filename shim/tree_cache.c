/*
 * The cache is the directory <data>/trees. A file's name is the SHA-256 of what the tree is of, so
 * that another format, another chain or another directory at the same path is another file.
 *
 * A tree is written to a file without a name, which gets its name when it is whole. Two who make
 * the same one at a time do the same work twice, and one of them is linked. Nothing is synced: what
 * a power cut leaves of a file does not have the right CRC, and is made again.
 *
 * Use is remembered in the file's mtime. Who adds a file removes the longest unused ones when there
 * are too many; a tree that is in use is mapped, and lives on without its name.
 */
#include "shim/tree_cache.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/sha256.h"
#include "vmm/tree/read.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define DIR_NAME "trees"
#define UNFINISHED_AGE_S 600 /* of a file under a temporary name, whose maker was killed */

/* The same file, for reading only: a VM gets this one, and many share the file. */
static int open_readonly(int fd, struct error *err)
{
	char path[32];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? error_errno(err, "open a tree for reading") : ro;
}

int tree_in_memory(tree_make_fn make, void *arg, struct error *err)
{
	cleanup_close int fd = memfd_create("tree", MFD_CLOEXEC);

	if (fd < 0)
		return error_errno(err, "memfd_create");
	return make(arg, fd, err) < 0 ? -1 : open_readonly(fd, err);
}

/* ---- one that is there */

static bool whole(int fd, struct error *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct tree *t;

	if (copy < 0) {
		error_errno(err, "dup");
		return false;
	}
	t = tree_open(copy, true, err);
	tree_free(t);
	return t != NULL;
}

/* -1 if there is none that can be used. */
static int find(int dirfd, const char *key)
{
	cleanup_close int fd = openat(dirfd, key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct error why = ERROR_INIT;

	if (fd < 0)
		return -1;
	if (whole(fd, &why)) {
		futimens(fd, NULL);
		return steal_fd(&fd);
	}
	log_warn("tree cache: %s: %s: made again", key, why.msg);
	unlinkat(dirfd, key, 0);
	return -1;
}

/* ---- a new one */

/* A file that has no name yet, or (where the file system has no such thing) a temporary one. */
static int open_new(int dirfd, const char *temporary)
{
	int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		fd = openat(dirfd, temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd;
}

static bool give_name(int dirfd, int fd, const char *temporary, const char *key)
{
	char path[32];

	if (faccessat(dirfd, temporary, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return renameat(dirfd, temporary, dirfd, key) == 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, dirfd, key, AT_SYMLINK_FOLLOW) == 0 || errno == EEXIST;
}

static bool disk_is_full(const struct error *err)
{
	return err->errnum == ENOSPC || err->errnum == EDQUOT || err->errnum == EFBIG ||
	       err->errnum == EROFS;
}

static int make_new(int dirfd, const char *key, tree_make_fn make, void *arg, struct error *err)
{
	cleanup_free char *temporary = xasprintf(".%s.%d", key, (int)getpid());
	cleanup_close int fd = open_new(dirfd, temporary);
	struct error why = ERROR_INIT;

	if (fd < 0) {
		log_debug("tree cache: %s: %s", key, strerror(errno));
		return tree_in_memory(make, arg, err);
	}
	if (make(arg, fd, &why) < 0) {
		unlinkat(dirfd, temporary, 0);
		if (disk_is_full(&why)) {
			log_debug("tree cache: %s: %s", key, why.msg);
			return tree_in_memory(make, arg, err);
		}
		if (err)
			*err = why;
		return -1;
	}
	if (!give_name(dirfd, fd, temporary, key)) {
		log_debug("tree cache: %s: %s", key, strerror(errno));
		unlinkat(dirfd, temporary, 0);
	}
	return open_readonly(fd, err);
}

static int open_cache(const char *data)
{
	cleanup_free char *path = xasprintf("%s/" DIR_NAME, data);

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int tree_cache_get(const char *data, const void *identity, size_t len, tree_make_fn make, void *arg,
		   struct error *err)
{
	cleanup_close int dirfd = open_cache(data);
	char key[SHA256_HEX];
	uint64_t t = now_us();
	int fd;

	if (dirfd < 0) {
		log_debug("tree cache: %s/" DIR_NAME ": %s", data, strerror(errno));
		return tree_in_memory(make, arg, err);
	}
	sha256_hex(identity, len, key);
	fd = find(dirfd, key);
	if (fd >= 0) {
		log_elapsed("tree from the cache", t);
		return fd;
	}
	fd = make_new(dirfd, key, make, arg, err);
	log_elapsed("tree made for the cache", t);
	if (fd >= 0)
		tree_cache_trim(data, TREE_CACHE_FILES, TREE_CACHE_BYTES, TREE_CACHE_AGE_S);
	return fd;
}

/* ---- eviction */

struct cached {
	char *name;
	struct timespec used;
	uint64_t bytes;
};

struct cached_list {
	struct cached *v;
	size_t n, size;
	uint64_t bytes;
};

static void take(struct cached_list *l, int dirfd, const char *name)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return;
	if (name[0] == '.') {
		if (time(NULL) - st.st_mtime > UNFINISHED_AGE_S)
			unlinkat(dirfd, name, 0);
		return;
	}
	if (l->n == l->size) {
		struct cached *more = xcalloc(l->size ? l->size * 2 : 64, sizeof(*more));

		if (l->n)
			memcpy(more, l->v, l->n * sizeof(*more));
		free(l->v);
		l->v = more;
		l->size = l->size ? l->size * 2 : 64;
	}
	l->v[l->n++] = (struct cached){
		.name = xstrdup(name), .used = st.st_mtim, .bytes = (uint64_t)st.st_blocks * 512};
	l->bytes += (uint64_t)st.st_blocks * 512;
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct cached *)a)->used;
	const struct timespec *y = &((const struct cached *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

void tree_cache_trim(const char *data, unsigned files, uint64_t bytes, unsigned age_s)
{
	cleanup_free char *path = xasprintf("%s/" DIR_NAME, data);
	cleanup_dir DIR *dir = opendir(path);
	struct cached_list l = {0};
	time_t now = time(NULL);
	size_t left;

	for (struct dirent *e; dir && (e = readdir(dir));)
		take(&l, dirfd(dir), e->d_name);
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), by_use);
	left = l.n;
	for (size_t i = 0; i < l.n; i++) {
		const struct cached *c = &l.v[i];

		if ((left > files || l.bytes > bytes) && now - c->used.tv_sec >= (time_t)age_s &&
		    unlinkat(dirfd(dir), c->name, 0) == 0) {
			left--;
			l.bytes -= c->bytes;
		}
		free(c->name);
	}
	free(l.v);
}
