/*
 * Theory of operation.
 *
 * What a virtiofsd shows is a tmpfs in a mount namespace of its own (share.c): its root directory,
 * which is read-only, with one mount for each share. A container that joins the pod later has its
 * sources mounted in there, as the first ones were: husk clones them, and a child of husk enters
 * the namespace (the minder's child is in it) and moves the clones to their names.
 *
 * The names are made in a clone of the tmpfs that is writable and mounted nowhere, so that the
 * guest at no time may write to the directory itself. Before anything is done the child looks
 * whether the root is that tmpfs: virtiofsd has its root directory before it answers its first
 * request, and the machine does not run before that, but a look costs nothing.
 *
 * The namespace, and all that is in it, ends with virtiofsd. What a killed husk left there is taken
 * away by the container's `delete`, which knows its names by what they end with.
 */
#include "shim/share_join.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/share.h"
#include "shim/state.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the namespace */

/* Where virtiofsd is: its namespace, and its root in it, which is not the namespace's own root
 * where husk itself lives in a chroot. */
struct place {
	int ns, root;
};

static void place_close(struct place *p)
{
	close_fd(&p->ns);
	close_fd(&p->root);
}
#define cleanup_place __attribute__((cleanup(place_close)))

static int open_of(int pid, const char *what, int flags, struct error *err)
{
	cleanup_free char *path = xasprintf("/proc/%d/%s", pid, what);
	int fd = open(path, flags | O_CLOEXEC);

	return fd < 0 ? error_errno(err, "open %s", path) : fd;
}

static int open_place(pid_t minder, struct place *p, struct error *err)
{
	cleanup_free char *list = xasprintf("/proc/%d/task/%d/children", (int)minder, (int)minder);
	cleanup_free char *text = NULL;
	int child;

	*p = (struct place){-1, -1};
	if (file_read(AT_FDCWD, list, 4096, &text, NULL, err) < 0)
		return error_wrap(err, "find the pod's virtiofsd");
	if (sscanf(text, "%d", &child) != 1)
		return error_kind(err, ERR_NOT_RUNNING, "the pod's virtiofsd has ended");
	p->ns = open_of(child, "ns/mnt", O_RDONLY, err);
	p->root = p->ns < 0 ? -1 : open_of(child, "root", O_PATH | O_DIRECTORY, err);
	return p->root < 0 ? -1 : 0;
}

/* In the child: its root is then what virtiofsd shows. Returns a writable clone of the tmpfs. */
static int enter(const struct place *p, struct error *err)
{
	struct mount_attr rw = {.attr_clr = MOUNT_ATTR_RDONLY};
	cleanup_close int top = -1;
	struct statfs fs;

	if (setns(p->ns, CLONE_NEWNS) < 0 || fchdir(p->root) < 0 || chroot(".") < 0)
		return error_errno(err, "enter the mount namespace of virtiofsd");
	if (statfs("/", &fs) < 0 || fs.f_type != TMPFS_MAGIC ||
	    faccessat(AT_FDCWD, "/proc", F_OK, 0) == 0)
		return error_set(err, "virtiofsd is not where it should be");
	top = open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (top < 0 || mount_setattr(top, "", AT_EMPTY_PATH, &rw, sizeof(rw)) < 0)
		return error_errno(err, "clone the directory of shares");
	return steal_fd(&top);
}

typedef int (*work_fn)(int top, const void *arg, struct error *err);

static _Noreturn void child_main(const struct place *p, work_fn work, const void *arg, int out)
{
	struct error err = ERROR_INIT;
	int top = enter(p, &err);

	if (top < 0 || work(top, arg, &err) < 0)
		write_all(out, err.msg, strlen(err.msg), NULL);
	_exit(0);
}

/* Runs `work` in a process inside; what it has to say is the error. */
static int run_inside(const struct place *place, work_fn work, const void *arg, struct error *err)
{
	cleanup_close int out = -1, in = -1;
	char why[ERROR_MSG_MAX];
	size_t n = 0;
	ssize_t r;
	pid_t pid;
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	in = p[0];
	out = p[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, "fork");
	if (pid == 0)
		child_main(place, work, arg, out);
	close_fd(&out);
	while (n < sizeof(why) - 1 &&
	       ((r = read(in, why + n, sizeof(why) - 1 - n)) > 0 || (r < 0 && errno == EINTR)))
		n += r > 0 ? (size_t)r : 0;
	why[n] = '\0';
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return n > 0 ? error_set(err, "%s", why) : 0;
}

/* ---- join */

struct joining {
	const struct mount_plan *plan;
	const int *trees; /* one for each mount of the plan; -1 */
};

static int add(int top, const void *arg, struct error *err)
{
	const struct joining *j = arg;

	for (size_t i = 0; i < j->plan->n; i++) {
		const struct planned_mount *m = &j->plan->v[i];
		cleanup_free char *path = xasprintf("/%s", m->name ?: "");

		if (j->trees[i] < 0)
			continue;
		if (share_make_member(top, m, err) < 0)
			return error_wrap(err, "mounts[%zu]", m->index);
		if (move_mount(j->trees[i], "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			return error_errno(err, "mounts[%zu]: mount %s", m->index, path);
	}
	return 0;
}

static int join(pid_t minder, const struct joining *j, struct error *err)
{
	cleanup_place struct place place = {-1, -1};

	return open_place(minder, &place, err) < 0 ? -1 : run_inside(&place, add, j, err);
}

int share_join(pid_t minder, const struct mount_plan *p, struct error *err)
{
	cleanup_free int *trees = xcalloc(p->n + 1, sizeof(*trees));
	const struct joining j = {.plan = p, .trees = trees};
	int r = 0;

	for (size_t i = 0; i < p->n; i++)
		trees[i] = -1;
	for (size_t i = 0; i < p->n && r == 0; i++) {
		if (p->v[i].from != MOUNT_FROM_SHARE)
			continue;
		trees[i] = share_clone_source(&p->v[i], err);
		if (trees[i] < 0)
			r = error_wrap(err, "mounts[%zu]", p->v[i].index);
	}
	if (r == 0)
		r = join(minder, &j, err);
	for (size_t i = 0; i < p->n; i++)
		close_fd(&trees[i]);
	return r;
}

/* ---- leave */

static bool is_a_share(const char *name)
{
	return name[0] == 'm';
}

static bool ends_with(const char *name, const char *tag)
{
	size_t n = strlen(name), k = strlen(tag);

	return n > k && name[n - k - 1] == '.' && strcmp(name + n - k, tag) == 0;
}

static int drop(int top, const void *arg, struct error *err)
{
	for (char *const *name = arg; *name; name++) {
		cleanup_free char *path = xasprintf("/%s", *name);

		/* Whoever was killed before it was mounted left the name alone. */
		if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL)
			return error_errno(err, "unmount %s", path);
		if (unlinkat(top, *name, 0) < 0 &&
		    (errno != EISDIR || unlinkat(top, *name, AT_REMOVEDIR) < 0))
			return error_errno(err, "remove %s", path);
	}
	return 0;
}

int share_leave(pid_t minder, const char *tag, char ***names, struct error *err)
{
	cleanup_place struct place place = {-1, -1};
	cleanup_free char *root = NULL;
	size_t n = 0;

	*names = NULL;
	if (open_place(minder, &place, err) < 0)
		return -1;
	root = xasprintf("/proc/self/fd/%d", place.root);
	*names = dir_list(root, is_a_share, err);
	if (!*names)
		return -1;
	for (char **v = *names; *v; v++)
		if (ends_with(*v, tag))
			(*names)[n++] = *v;
		else
			free(*v);
	(*names)[n] = NULL;
	return n > 0 ? run_inside(&place, drop, *names, err) : 0;
}
