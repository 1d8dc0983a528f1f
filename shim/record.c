/*
 * Records, and what a crash at any moment leaves of them.
 *
 *	scratch		the disk; its lock says that somebody works on it
 *	links		names of hard-linked lower files, if there are any
 *	journal.json	whose rootfs it is: a directory without it is no record
 *	applied		the changes are in the rootfs; holds the host's boot id, and whether
 *			something had to be written
 *	written		a sync of the running container wrote something to the rootfs
 *
 * A directory without journal.json is a record that was being made or removed: whoever makes the
 * next one removes it, if it is older than a minute and not locked.
 *
 * What a guest has fsync'ed is on the disk of the scratch. When it was applied to the rootfs it may
 * be in the host's memory only, so that `applied` counts as long as the host runs, and the scratch
 * goes only after the rootfs's file system was synced. A lost, empty or old `applied` therefore
 * never loses anything: applying twice does no harm.
 */
#include "shim/record.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/journal.h"
#include "shim/scratch.h"
#include "shim/state.h"
#include "vmm/tree/read.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RECORDS "changes"
#define SCRATCH "scratch"
#define JOURNAL "journal.json"
#define LINKS "links"
#define APPLIED "applied"
#define WRITTEN "written"
#define PROXY "proxy"

#define NAME_ID_MAX 64 /* bytes of the container's id in a record's name */
#define LINKS_MAX (256u << 20)
#define UNFINISHED_AGE_S 60
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* ---- names */

char *record_name(const char *container)
{
	uint64_t r = 0;

	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		r = now_us();
	/* Ids are [A-Za-z0-9_+.-]+ and may begin with a dot: the names do not. */
	return xasprintf("r-%.*s-%016llx", NAME_ID_MAX, container, (unsigned long long)r);
}

static bool good_name(const char *name)
{
	return strncmp(name, "r-", 2) == 0 && !strchr(name, '/');
}

static char *record_path(const char *data, const char *name)
{
	return xasprintf("%s/" RECORDS "/%s", data, name);
}

/* ---- make */

/* Removes the directory `dirfd`, the journal first: from then on it is no record. */
static int remove_dir(int dirfd, const char *path, struct error *err)
{
	static const char *const files[] = {JOURNAL, APPLIED, WRITTEN, LINKS, SCRATCH};
	int copy = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (unlinkat(dirfd, files[i], 0) < 0 && errno != ENOENT)
			return error_errno(err, "unlink %s/%s", path, files[i]);
	/* What a killed recovery left: its control socket, a temporary file. */
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(dirfd, e->d_name, 0);
	if (rmdir(path) < 0 && errno != ENOENT)
		return error_errno(err, "rmdir %s", path);
	return 0;
}

static bool old_and_unlocked(int dirfd)
{
	cleanup_close int scratch = openat(dirfd, SCRATCH, O_RDWR | O_CLOEXEC);
	struct stat st;

	return fstat(dirfd, &st) == 0 && time(NULL) - st.st_mtime > UNFINISHED_AGE_S &&
	       (scratch < 0 || flock(scratch, LOCK_EX | LOCK_NB) == 0);
}

static void sweep_unfinished(const char *data)
{
	cleanup_free char *dir = xasprintf("%s/" RECORDS, data);
	cleanup_dir DIR *d = opendir(dir);

	for (struct dirent *e; d && (e = readdir(d));) {
		cleanup_free char *path = record_path(data, e->d_name);
		cleanup_close int fd = -1;

		if (!good_name(e->d_name))
			continue;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && faccessat(fd, JOURNAL, F_OK, 0) < 0 && errno == ENOENT &&
		    old_and_unlocked(fd))
			remove_dir(fd, path, NULL);
	}
}

static int make_dir(const char *data, const char *path, struct error *err)
{
	cleanup_free char *parent = xasprintf("%s/" RECORDS, data);
	int fd;

	if (mkdir(parent, 0700) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", parent);
	if (mkdir(path, 0700) < 0)
		return error_errno(err, "mkdir %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, "open %s", path) : fd;
}

static int make_scratch(struct record *r, const char *data, uint64_t bytes, int intr_fd,
			struct error *err)
{
	r->scratch = openat(r->dirfd, SCRATCH, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (r->scratch < 0)
		return error_errno(err, "create the scratch disk");
	if (flock(r->scratch, LOCK_EX | LOCK_NB) < 0)
		return error_errno(err, "lock the scratch disk");
	return scratch_fill(data, bytes, r->scratch, intr_fd, err);
}

static int put_link(void *arg, uint64_t ino, const char *path)
{
	return fprintf(arg, "%llu%c%s%c", (unsigned long long)ino, 0, path, 0) < 0 ? -1 : 0;
}

static int save_links(struct record *r, const struct rootfs *rootfs, struct error *err)
{
	int copy, fd, bad;
	struct tree *tree;
	FILE *f;

	copy = fcntl(rootfs->disks[0].tree, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return error_errno(err, "dup");
	tree = tree_open(copy, false, err);
	if (!tree)
		return -1;
	fd = openat(r->dirfd, LINKS, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	bad = !f || tree_each_link(tree, put_link, f) != 0;
	/* Nobody would read them: better now than when the container has ended. */
	if (!bad && ftello(f) > LINKS_MAX) {
		fclose(f);
		tree_free(tree);
		return error_kind(err, ERR_UNSUPPORTED,
				  "the names of hard links take more than %u MiB", LINKS_MAX >> 20);
	}
	if (f)
		bad |= fclose(f) != 0;
	tree_free(tree);
	return bad ? error_errno(err, "write the list of hard links") : 0;
}

static int save_journal(const struct record *r, struct error *err)
{
	cleanup_free char *text = NULL;
	size_t len;

	text = journal_text(r, &len, err);
	return text ? file_write_atomic(r->dirfd, JOURNAL, text, len, 0600, err) : -1;
}

int record_keep_rootfs(struct record *r, const struct rootfs *rootfs, struct error *err)
{
	r->held[0] = '\0';
	for (unsigned i = 0; i < rootfs->n_disks; i++)
		if (!rootfs->disks[i].stable)
			memcpy(r->held, rootfs->disks[i].serial, sizeof(r->held));
	if ((rootfs->index && save_links(r, rootfs, err) < 0) || save_journal(r, err) < 0)
		return error_wrap(err, "record of changes %s", r->name);
	return 0;
}

int record_make(const char *data, const char *name, const char *container,
		const struct rootfs *rootfs, uint64_t bytes, bool mknod, int intr_fd,
		struct record *r, struct error *err)
{
	cleanup_free char *path = record_path(data, name);

	*r = (struct record){.scratch = -1, .mknod = mknod, .block = rootfs->kind == ROOTFS_BLOCK};
	sweep_unfinished(data);
	r->dirfd = make_dir(data, path, err);
	if (r->dirfd < 0)
		return -1;
	r->name = xstrdup(name);
	r->container = xstrdup(container);
	r->rootfs = rootfs->id;
	r->rootfs.path = xstrdup(rootfs->id.path);
	r->rootfs.upper = rootfs->id.upper ? xstrdup(rootfs->id.upper) : NULL;
	if (make_scratch(r, data, bytes, intr_fd, err) == 0 && save_journal(r, err) == 0)
		return 0;
	remove_dir(r->dirfd, path, NULL);
	record_close(r);
	return error_wrap(err, "record of changes %s", path);
}

int record_sync(const struct record *r, struct error *err)
{
	static const char *const files[] = {JOURNAL, LINKS, ".", ".."};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		cleanup_close int fd = openat(r->dirfd, files[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0 || fsync(fd) < 0)
			return error_errno(err, "sync %s of the record %s", files[i], r->name);
	}
	return 0;
}

int record_note_proxy(const struct record *r, pid_t pid, uint64_t start, struct error *err)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%d %llu\n", (int)pid, (unsigned long long)start);

	return file_write_atomic(r->dirfd, PROXY, text, (size_t)n, 0600, err);
}

bool record_is_used(const struct record *r)
{
	cleanup_free char *text = NULL;
	unsigned long long start;
	size_t len;
	int pid;

	/* Not noted yet: its create is at work. */
	if (file_read(r->dirfd, PROXY, 64, &text, &len, NULL) < 0 ||
	    sscanf(text, "%d %llu", &pid, &start) != 2)
		return true;
	/* A killed one uses nothing any more, however long it takes to end. */
	return process_alive(pid, start) && !proc_is_ending(pid);
}

/* ---- open */

static int gone(const char *name, struct error *err)
{
	return error_kind(err, ERR_NOT_FOUND, "there is no record of changes \"%s\"", name);
}

static void load_applied(struct record *r)
{
	cleanup_free char *boot = NULL, *text = NULL;
	size_t n, len;

	if (file_read(AT_FDCWD, BOOT_ID, 128, &boot, &n, NULL) < 0 ||
	    file_read(r->dirfd, APPLIED, 256, &text, &len, NULL) < 0)
		return;
	if (n == 0 || len < n || memcmp(text, boot, n) != 0)
		return;
	r->state = RECORD_APPLIED;
	r->unchanged =
		faccessat(r->dirfd, WRITTEN, F_OK, 0) < 0 && strcmp(text + n, "unchanged\n") == 0;
}

static int load(struct record *r, struct error *err)
{
	cleanup_free char *text = NULL, *links = NULL;
	size_t len;

	if (faccessat(r->dirfd, JOURNAL, F_OK, 0) < 0 && errno == ENOENT)
		return gone(r->name, err);
	if (file_read(r->dirfd, JOURNAL, JOURNAL_MAX, &text, &len, err) < 0 ||
	    journal_parse(text, len, r, err) < 0)
		return error_wrap(err, JOURNAL);
	load_applied(r);
	if (faccessat(r->dirfd, LINKS, F_OK, 0) < 0)
		return 0;
	if (file_read(r->dirfd, LINKS, LINKS_MAX, &links, &len, err) < 0 ||
	    links_parse(links, len, r, err) < 0)
		return error_wrap(err, LINKS);
	return 0;
}

static int lock(struct record *r, unsigned wait_ms, struct error *err)
{
	uint64_t end = now_us() + (uint64_t)wait_ms * 1000;
	struct stat st;

	r->scratch = openat(r->dirfd, SCRATCH, O_RDWR | O_CLOEXEC);
	if (r->scratch < 0 && errno == ENOENT)
		return gone(r->name, err);
	if (r->scratch < 0)
		return error_errno(err, "open the scratch disk");
	while (flock(r->scratch, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_errno(err, "lock the scratch disk");
		if (now_us() >= end)
			return error_kind(err, ERR_TIMEOUT,
					  "in use: its container still runs, or another husk "
					  "command works on it");
		poll(NULL, 0, 2);
	}
	/* Removed while we waited. */
	if (fstat(r->scratch, &st) < 0 || st.st_nlink == 0)
		return gone(r->name, err);
	return 0;
}

int record_open(const char *data, const char *name, bool locked, unsigned wait_ms, struct record *r,
		struct error *err)
{
	cleanup_free char *path = record_path(data, name);

	*r = (struct record){.dirfd = -1, .scratch = -1};
	if (!good_name(name))
		return error_kind(err, ERR_INVALID, "\"%s\" is no name of a record", name);
	r->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->dirfd < 0)
		return errno == ENOENT ? gone(name, err) : error_errno(err, "open %s", path);
	r->name = xstrdup(name);
	if ((locked && lock(r, wait_ms, err) < 0) || load(r, err) < 0) {
		record_close(r);
		return error_wrap(err, "record of changes %s", path);
	}
	return 0;
}

void record_close(struct record *r)
{
	close_fd(&r->scratch);
	close_fd(&r->dirfd);
	free(r->name);
	free(r->container);
	r->name = r->container = NULL;
	rootfs_id_free(&r->rootfs);
	links_free(r);
}

/* ---- state and end */

int record_set_state(struct record *r, enum record_state state, struct error *err)
{
	cleanup_free char *boot = NULL, *text = NULL;
	size_t n;

	if (state == RECORD_ACTIVE) {
		if (unlinkat(r->dirfd, APPLIED, 0) < 0 && errno != ENOENT)
			return error_errno(err, "record %s", r->name);
	} else {
		if (file_read(AT_FDCWD, BOOT_ID, 128, &boot, &n, err) < 0)
			return -1;
		if (faccessat(r->dirfd, WRITTEN, F_OK, 0) == 0)
			r->unchanged = false;
		text = xasprintf("%s%s", boot, r->unchanged ? "unchanged\n" : "changed\n");
		if (file_write_atomic(r->dirfd, APPLIED, text, strlen(text), 0600, err) < 0)
			return error_wrap(err, "record %s", r->name);
	}
	r->state = state;
	return 0;
}

int record_note_written(struct record *r, struct error *err)
{
	r->unchanged = false;
	return file_write_atomic(r->dirfd, WRITTEN, "", 0, 0600, err);
}

/* To the disk with what was applied. If the rootfs is not there any more it was unmounted, and
 * with that synced, or removed. */
static int sync_rootfs(const struct record *r, struct error *err)
{
	const char *path = r->rootfs.upper ? r->rootfs.upper : r->rootfs.path;
	cleanup_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t t = now_us();

	if (fd < 0)
		return 0;
	if (syncfs(fd) < 0)
		return error_errno(err, "sync the file system of %s", path);
	log_elapsed("sync of the rootfs's file system", t);
	return 0;
}

int record_discard(const char *data, const char *name, struct error *err)
{
	cleanup_free char *path = record_path(data, name);
	cleanup_close int fd = -1;

	if (!good_name(name))
		return error_kind(err, ERR_INVALID, "\"%s\" is no name of a record", name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_errno(err, "open %s", path);
	return remove_dir(fd, path, err);
}

/* Closes the last descriptor of a removed scratch in a process of its own: freeing the blocks of a
 * large file takes some file systems a while (one with online discard milliseconds for each
 * extent), and nobody has to wait for that. */
static void free_aside(int *fd)
{
	pid_t pid = *fd >= 0 ? fork() : -1;

	if (pid == 0) {
		/* A grandchild, so that nobody here has to reap it; with nothing else open. */
		if (dup2(*fd, 0) < 0 || fork() != 0)
			_exit(0);
		close_range(1, ~0U, 0);
		_exit(0);
	}
	if (pid > 0)
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	close_fd(fd);
}

int record_remove(const char *data, struct record *r, struct error *err)
{
	cleanup_free char *path = record_path(data, r->name);

	if (r->state == RECORD_APPLIED && !r->unchanged && sync_rootfs(r, err) < 0)
		return error_wrap(err, "record of changes %s", path);
	if (remove_dir(r->dirfd, path, err) < 0)
		return -1;
	free_aside(&r->scratch);
	return 0;
}

char **record_list(const char *data, struct error *err)
{
	cleanup_free char *path = xasprintf("%s/" RECORDS, data);

	return dir_list(path, good_name, err);
}
