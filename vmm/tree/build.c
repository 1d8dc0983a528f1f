/*
 * Makes the tree of a directory (format.h, erofs.h) in one walk.
 *
 * The walk goes depth first, with a stack of levels, one for each directory between the root and
 * where it is. Entering a directory reads its names, sorts them, looks at all that are not
 * directories and writes their inodes: their places in the metadata are known from then on. Then
 * the subdirectories are entered one after the other. When the last is done the numbers of all
 * members are known, and the directory is written with its inode; its level is left, and its
 * members and names are forgotten: they are the tops of two stacks. So what is held besides the
 * result is the directories on the way, never the whole tree.
 *
 * What is not yet known is patched in the end (finish.c): ".." of a directory, whose parent is
 * written after it; link counts, which are the names that were found; and block numbers of file
 * data, which lie behind the metadata. The root's number has only 16 bits in the superblock, so its
 * inode is reserved first, and its entries get blocks of their own.
 *
 *	block 0		superblock, root inode
 *	metadata	inodes in the order of the walk; a directory's last entries, a symlink's
 *			target, the block map of a sparse file follow the inode if they fit into its
 *			block; full blocks of directories and long symlinks lie between
 *	data		one extent a file (a sparse file: one for each run of data)
 *
 * Small things go into one block until something does not fit; the end of a block that is left
 * so takes inodes that come later.
 *
 * It runs in a thread of its own with a working directory of its own, which is the directory at
 * hand: xattr.h says why.
 *
 * Only descriptors of directories are used to get on, and single names: nothing that is renamed
 * meanwhile leads outside. Members that vanish before they were looked at are not there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "vmm/tree/builder.h"

#define PATH_SHOWN 500u /* of both ends of a path in a message */
#define FDS_MAX 128u	/* directories of the way that stay open */

/* Not in every linux/magic.h. */
#define MAGIC_FUSECTL 0x65735543
#define MAGIC_MQUEUE 0x19800202
#define MAGIC_CONFIGFS 0x62656570
#define MAGIC_RPC_PIPEFS 0x67596969
#define MAGIC_NFSD 0x6e667364

static const unsigned long pseudo_magics[] = {
	PROC_SUPER_MAGIC,    SYSFS_MAGIC,     DEVPTS_SUPER_MAGIC, CGROUP_SUPER_MAGIC,
	CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,   TRACEFS_MAGIC,	  SECURITYFS_MAGIC,
	BPF_FS_MAGIC,	     PSTOREFS_MAGIC,  EFIVARFS_MAGIC,	  SELINUX_MAGIC,
	SMACK_MAGIC,	     HUGETLBFS_MAGIC, NSFS_MAGIC,	  BINFMTFS_MAGIC,
	AUTOFS_SUPER_MAGIC,  MAGIC_FUSECTL,   MAGIC_MQUEUE,	  MAGIC_CONFIGFS,
	MAGIC_RPC_PIPEFS,    MAGIC_NFSD,
};

char *builder_path(const struct builder *b, const char *name)
{
	struct tbuf t = {0};
	char *path;

	for (unsigned i = 1; i < b->depth; i++) {
		const struct member *m = member_at(b, b->level[i - 1].next - 1);
		char *p = tbuf_add(&t, (size_t)m->len + 1);

		if (p) {
			memcpy(p, member_name(b, m), m->len);
			p[m->len] = '/';
		}
	}
	if (name)
		path = xasprintf("%.*s%s", (int)t.len, t.p ? (char *)t.p : "", name);
	else
		path = t.len ? xasprintf("%.*s", (int)t.len - 1, t.p) : xstrdup(".");
	tbuf_free(&t);
	replace_controls(path, '?');
	if (strlen(path) > 2 * PATH_SHOWN) { /* leave room for what is said about it */
		char *cut = xasprintf("%.*s[...]%s", (int)PATH_SHOWN, path,
				      path + strlen(path) - PATH_SHOWN);

		free(path);
		return cut;
	}
	return path;
}

int builder_wrap(const struct builder *b, const char *name, struct error *err)
{
	cleanup_free char *path = builder_path(b, name);

	return error_wrap(err, "%s", path);
}

/* The member of the deepest level that the walk is at. */
static int wrap_child(const struct builder *b, struct error *err)
{
	if (!b->depth)
		return -1;
	return builder_wrap(b, member_name(b, member_at(b, b->level[b->depth - 1].next - 1)), err);
}

int builder_oom(struct error *err)
{
	return error_set(err, "out of memory");
}

static bool same_file(const struct statx *a, const struct statx *b)
{
	return a->stx_ino == b->stx_ino && a->stx_dev_major == b->stx_dev_major &&
	       a->stx_dev_minor == b->stx_dev_minor;
}

static bool is_pseudo(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(pseudo_magics); i++)
		if ((unsigned long)fs.f_type == pseudo_magics[i])
			return true;
	return false;
}

static bool other_device(const struct builder *b, const struct statx *st)
{
	const struct statx *up = &b->level[b->depth - 1].st;

	return st->stx_dev_major != up->stx_dev_major || st->stx_dev_minor != up->stx_dev_minor;
}

static int add_dir(struct builder *b, uint32_t *dir, struct error *err)
{
	struct tree_dir *d = tbuf_add(&b->dirs, sizeof(*d));

	if (!d || !tbuf_add(&b->dir_nids, sizeof(uint32_t)) ||
	    !tbuf_add(&b->dotdots, sizeof(uint32_t)))
		return builder_oom(err);
	d->parent = b->depth ? b->level[b->depth - 1].dir : 0;
	*dir = (uint32_t)(b->dirs.len / sizeof(*d) - 1);
	return 0;
}

/* The directory `fd` (taken over) becomes the deepest level, its members are read. */
static int enter(struct builder *b, int fd, struct error *err)
{
	cleanup_close int own = fd;
	struct level *l = &b->level[b->depth];
	struct statx st;
	uint32_t dir = 0;
	bool pseudo;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) < 0) {
		error_errno(err, "statx");
		return wrap_child(b, err);
	}
	if (b->depth > TREE_DEPTH_MAX) {
		error_kind(err, ERR_UNSUPPORTED,
			   "more than %d directories below one another (TREE_DEPTH_MAX)",
			   TREE_DEPTH_MAX);
		return wrap_child(b, err);
	}
	pseudo = b->depth && other_device(b, &st) && is_pseudo(fd);
	if (add_dir(b, &dir, err) < 0)
		return -1;
	b->depth++;
	*l = (struct level){
		.fd = steal_fd(&own),
		.dir = dir,
		.first = (uint32_t)(b->members.len / sizeof(struct member)),
		.names = (uint32_t)b->names.len,
		.pseudo = pseudo,
		.st = st,
	};
	l->next = l->first;
	if (fchdir(l->fd) < 0) {
		error_errno(err, "fchdir");
		return builder_wrap(b, NULL, err);
	}
	if (pseudo)
		memset(&l->st.stx_mtime, 0, sizeof(l->st.stx_mtime));
	if (b->depth == 1 && dir_reserve_root(b, err) < 0)
		return builder_wrap(b, NULL, err);
	if (dir_read_names(b, err) < 0)
		return builder_wrap(b, NULL, err);
	for (uint32_t i = l->first; i < l->first + l->members; i++)
		if (member_read(b, i, err) < 0)
			return -1;
	return 0;
}

static int open_dir(int at, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, at, name, &how, sizeof(how));
}

/* Enters member i of the deepest level, a directory when it was looked at. */
static int descend(struct builder *b, uint32_t i, struct error *err)
{
	struct level *l = &b->level[b->depth - 1];
	struct member *m = member_at(b, i);
	int fd = open_dir(l->fd, member_name(b, m));

	if (fd < 0 && is_gone(errno)) {
		m->type = 0;
		return 0;
	}
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) { /* replaced since */
		m->type = 0;
		m->dir = NONE;
		if (fchdir(l->fd) < 0) {
			error_errno(err, "fchdir");
			return builder_wrap(b, NULL, err);
		}
		if (member_read(b, i, err) < 0)
			return -1;
		if (member_at(b, i)->type != EROFS_DIR)
			return 0;
		errno = EAGAIN;
	}
	if (fd < 0) {
		error_errno(err, "open");
		return builder_wrap(b, member_name(b, m), err);
	}
	if (b->depth >= FDS_MAX && b->depth > 1)
		close_fd(&b->level[b->depth - FDS_MAX].fd);
	m->dir = (uint32_t)(b->dirs.len / sizeof(struct tree_dir));
	l->subdirs++;
	if (enter(b, fd, err) < 0)
		return -1;
	return 0;
}

/* The level above the deepest needs its descriptor again. */
static int reopen_parent(struct builder *b, struct error *err)
{
	struct level *l = &b->level[b->depth - 1], *up = l - 1;
	struct statx st;

	if (up->fd >= 0)
		return 0;
	up->fd = openat(l->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (up->fd < 0 || statx(up->fd, "", AT_EMPTY_PATH, STATX_INO, &st) < 0) {
		error_errno(err, "open its parent");
		return builder_wrap(b, NULL, err);
	}
	if (!same_file(&st, &up->st)) {
		error_set(err, "was moved while it was read");
		return builder_wrap(b, NULL, err);
	}
	return 0;
}

/* Writes the deepest level and leaves it. */
static int leave(struct builder *b, struct error *err)
{
	struct level *l = &b->level[b->depth - 1];
	uint32_t nid;

	if (dir_write(b, &nid, err) < 0)
		return builder_wrap(b, NULL, err);
	if (b->depth > 1 && reopen_parent(b, err) < 0)
		return -1;
	((uint32_t *)(void *)b->dir_nids.p)[l->dir] = nid;
	b->members.len = l->first * sizeof(struct member);
	b->names.len = l->names;
	close_fd(&l->fd);
	b->depth--;
	if (b->depth)
		member_at(b, l[-1].next - 1)->nid = nid;
	return 0;
}

static int walk(struct builder *b, int rootfd, struct error *err)
{
	int fd = open_dir(rootfd, ".");

	if (fd < 0)
		return error_errno(err, "open");
	if (enter(b, fd, err) < 0)
		return -1;
	while (b->depth) {
		struct level *l = &b->level[b->depth - 1];
		uint32_t end = l->first + l->members;
		const struct member *m = NULL;

		while (l->next < end && !m) {
			m = member_at(b, l->next++);
			if (m->type != EROFS_DIR || m->dir != NONE)
				m = NULL;
		}
		if (m ? descend(b, l->next - 1, err) < 0 : leave(b, err) < 0)
			return -1;
	}
	return 0;
}

static void builder_free(struct builder *b)
{
	while (b->depth)
		close_fd(&b->level[--b->depth].fd);
	tbuf_free(&b->meta.b);
	tbuf_free(&b->members);
	tbuf_free(&b->names);
	tbuf_free(&b->files);
	tbuf_free(&b->extents);
	tbuf_free(&b->dirs);
	tbuf_free(&b->links);
	tbuf_free(&b->dir_nids);
	tbuf_free(&b->dotdots);
	tbuf_free(&b->inodes);
	tbuf_free(&b->chunks);
	xattrs_free(&b->xattrs);
	free(b->hash);
	free(b->level);
	free(b->dents);
}

static int build(struct builder *b, int dirfd, int out, struct error *err)
{
	b->level = calloc(TREE_DEPTH_MAX + 2, sizeof(*b->level));
	b->dents = malloc(DENTS_BYTES);
	if (!b->level || !b->dents)
		return builder_oom(err);
	if (unshare(CLONE_FS) < 0)
		return error_errno(err, "unshare(CLONE_FS)");
	if (xattrs_init(&b->xattrs, err) < 0 || walk(b, dirfd, err) < 0)
		return -1;
	return tree_finish(b, out, err);
}

/* What the thread gets, and gives back. */
struct job {
	struct builder b;
	int dirfd, out, result;
	struct error *err;
};

static void *run(void *arg)
{
	struct job *j = arg;

	j->result = build(&j->b, j->dirfd, j->out, j->err);
	return NULL;
}

int tree_build(int dirfd, const struct tree_build_options *o, int out, struct tree_stats *st,
	       struct error *err)
{
	struct job j = {
		.b = {.o = *o, .xattrs = {.upper = o->upper}},
		.dirfd = dirfd,
		.out = out,
		.result = -1,
		.err = err,
	};
	sigset_t all, old;
	pthread_t thread;
	int r;

	/* signals are the caller's, not the thread's */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, NULL, run, &j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		errno = r;
		return error_errno(err, "thread that reads the root directory");
	}
	pthread_join(thread, NULL);
	if (j.result == 0 && st)
		*st = j.b.stats;
	builder_free(&j.b);
	return j.result;
}
