#include "agent/resolve.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LINKS_MAX 40 /* as the kernel */

int resolve_how(int dir_fd, const char *path, const struct open_how *how)
{
	long fd;

	do
		fd = syscall(SYS_openat2, dir_fd, path, how, sizeof(*how));
	while (fd < 0 && errno == EAGAIN); /* a rename elsewhere made ".." uncertain */
	return (int)fd;
}

int resolve_open(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return resolve_how(root_fd, path[0] ? path : "/", &how);
}

/* The state of a walk: `done` is resolved (no links in it, "" or "/a/b"), `rest` is still to go. */
struct walk {
	int root_fd;
	const char *path; /* for errors */
	char *done;
	char *rest;
	unsigned links;
	bool created;
};

static void walk_free(struct walk *w)
{
	free(w->done);
	free(w->rest);
}

/* Takes the first part off w->rest; NULL if none is left. */
static char *next_part(struct walk *w)
{
	const char *s = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(s, "/");
	char *part, *rest;

	if (n == 0)
		return NULL;
	part = xcalloc(n + 1, 1);
	memcpy(part, s, n);
	rest = xstrdup(s + n);
	free(w->rest);
	w->rest = rest;
	return part;
}

static void go_up(struct walk *w)
{
	char *slash = strrchr(w->done, '/');

	if (slash)
		*slash = '\0';
}

static void go_down(struct walk *w, const char *part)
{
	char *s = xasprintf("%s/%s", w->done, part);

	free(w->done);
	w->done = s;
}

/* w->done/part is a symbolic link: its target comes before the rest. */
static int follow(struct walk *w, int link_fd, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(link_fd, "", target, sizeof(target) - 1);
	char *rest;

	if (n < 0)
		return error_errno(err, "readlink %s", w->path);
	target[n] = '\0';
	if (++w->links > LINKS_MAX)
		return error_set(err, "%s: too many levels of symbolic links", w->path);
	rest = xasprintf("%s/%s", target, w->rest);
	free(w->rest);
	w->rest = rest;
	if (target[0] == '/')
		w->done[0] = '\0';
	return 0;
}

static int make_part(struct walk *w, const char *part, enum resolve_want want, struct error *err)
{
	cleanup_close int dir = resolve_open(w->root_fd, w->done, O_PATH | O_DIRECTORY);
	bool last = w->rest[strspn(w->rest, "/")] == '\0';
	cleanup_close int file = -1;

	if (dir < 0)
		return error_errno(err, "%s", w->path);
	if (last && want == RESOLVE_FILE) {
		file = openat(dir, part, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC,
			      0644);
		if (file < 0)
			return error_errno(err, "create %s", w->path);
	} else if (mkdirat(dir, part, 0755) < 0) {
		return error_errno(err, "mkdir %s (%s/%s)", w->path, w->done, part);
	}
	w->created = last;
	return 0;
}

static int walk_part(struct walk *w, const char *part, enum resolve_want want, struct error *err)
{
	cleanup_free char *here = xasprintf("%s/%s", w->done, part);
	cleanup_close int fd = resolve_open(w->root_fd, here, O_PATH | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 && errno != ENOENT)
		return error_errno(err, "%s", w->path);
	if (fd < 0 && make_part(w, part, want, err) < 0)
		return -1;
	if (fd >= 0 && fstat(fd, &st) < 0)
		return error_errno(err, "stat %s", w->path);
	if (fd >= 0 && S_ISLNK(st.st_mode))
		return follow(w, fd, err);
	go_down(w, part);
	return 0;
}

int resolve_make(int root_fd, const char *path, enum resolve_want want, bool *created,
		 struct error *err)
{
	__attribute__((cleanup(walk_free))) struct walk w = {
		.root_fd = root_fd, .path = path, .done = xstrdup(""), .rest = xstrdup(path)};
	int fd;

	/* Nearly always it is there. */
	if (created)
		*created = false;
	fd = resolve_open(root_fd, path, O_PATH);
	if (fd >= 0 || errno != ENOENT)
		return fd >= 0 ? fd : error_errno(err, "%s", path);
	for (;;) {
		cleanup_free char *part = next_part(&w);

		if (!part)
			break;
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0)
			go_up(&w);
		else if (walk_part(&w, part, want, err) < 0)
			return -1;
	}
	fd = resolve_open(root_fd, w.done, O_PATH);
	if (fd < 0)
		return error_errno(err, "%s", path);
	if (created)
		*created = w.created;
	return fd;
}

int resolve_parent(int root_fd, const char *path, const char **name, struct error *err)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *dir = NULL;

	*name = slash ? slash + 1 : path;
	if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0)
		return error_kind(err, ERR_INVALID, "%s: not the path of a file", path);
	dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;
	return resolve_make(root_fd, dir ? dir : "", RESOLVE_DIR, NULL, err);
}
