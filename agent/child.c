/*
 * From clone3 to execve.
 *
 * The order is runc's, which engines, profiles and programs have come to depend on:
 *
 *   both     descriptors: all but our own are closed, at once: while this process waits it must not
 *            keep other containers' pipes open. Signals, session.
 *   agent    writes id maps, OOM score, scheduler, hard limits; SYNC_GO
 *   init     namespaces, sysctls, mounts, devices, pivot_root, working directory made
 *   exec     joins the init's namespaces: root and mounts come with them
 *   both     terminal
 *   init     read-only and masked paths, read-only root, personality
 *   both     limits, no_new_privs; the seccomp filter if it needs CAP_SYS_ADMIN (no no_new_privs);
 *            bounding set, user, working directory, capabilities, umask; the command is looked up
 *            as that user; the filter if no_new_privs lets it be loaded this late
 *   init     ready; waits for SYNC_START and runs startContainer hooks
 *   both     says that execve comes
 *   both     execve
 *
 * Until execve this process has the agent's memory. It is not dumpable (as the agent is not), so
 * that processes of a container, which see it once it is in their pid namespace, can neither trace
 * it nor reach its files through /proc.
 */
#include "agent/child.h"
#include "agent/console.h"
#include "agent/devices.h"
#include "agent/exec.h"
#include "agent/hooks.h"
#include "agent/mounts.h"
#include "agent/namespaces.h"
#include "agent/resolve.h"
#include "agent/root.h"
#include "agent/seccomp.h"
#include "agent/security.h"
#include "agent/sync.h"
#include "agent/sysctl.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define HIGH_FD 512 /* above all that we are about to lay out */

/* ---- descriptors, signals, session */

/* Lays out 0, 1, 2 and then the ones of `keep`, and closes the rest. */
static int arrange_fds(struct child *ch, int **keep, size_t n, struct error *err)
{
	int std[3] = {ch->io.in, ch->io.out, ch->io.err};
	cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return error_errno(err, "open /dev/null");
	for (size_t i = 0; i < 3; i++) {
		std[i] = fcntl(ch->p->terminal ? null : std[i], F_DUPFD_CLOEXEC, HIGH_FD);
		if (std[i] < 0)
			return error_errno(err, "stdio");
	}
	for (size_t i = 0; i < n; i++) {
		*keep[i] = fcntl(*keep[i], F_DUPFD_CLOEXEC, HIGH_FD);
		if (*keep[i] < 0)
			return error_errno(err, "descriptors");
	}
	for (int i = 0; i < 3; i++)
		if (dup2(std[i], i) < 0)
			return error_errno(err, "stdio");
	for (size_t i = 0; i < n; i++) {
		if (dup3(*keep[i], 3 + (int)i, O_CLOEXEC) < 0)
			return error_errno(err, "descriptors");
		*keep[i] = 3 + (int)i;
	}
	null = -1; /* closed with the rest */
	if (syscall(SYS_close_range, 3 + (unsigned)n, ~0U, 0) < 0)
		return error_errno(err, "close_range");
	return 0;
}

/* What the agent ignores or blocks is not to be ignored or blocked in the container. */
static int reset_signals(struct error *err)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i <= SIGRTMAX; i++)
		sigaction(i, &dfl, NULL); /* EINVAL for SIGKILL, SIGSTOP and libc's own */
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return error_errno(err, "sigprocmask");
	return 0;
}

/* ---- the init's own part */

/* Missing directories of process.cwd are made, as runc does; if they cannot be, chdir will tell. */
static void make_cwd(const char *cwd)
{
	cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int made = root < 0 ? -1 : resolve_make(root, cwd, RESOLVE_DIR, NULL, NULL);

	(void)made;
}

static int set_rootfs_propagation(unsigned long flags, struct error *err)
{
	if (flags && !(flags & MS_PRIVATE) && mount(NULL, "/", NULL, flags, NULL) < 0)
		return error_errno(err, "linux.rootfsPropagation");
	return 0;
}

/* In a user namespace the mount that the agent made is locked: it can be neither moved nor made the
 * root. A copy of it, mounted over it, can. */
static int unlocked_root(int root, struct error *err)
{
	cleanup_close int tree =
		open_tree(root, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0 ||
	    move_mount(tree, "", root, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_errno(err, "bind the root on itself");
	return steal_fd(&tree);
}

/* Everything up to the change of root. */
static int build_root(const struct child *ch, struct late_ro *late, struct error *err)
{
	const struct container *c = ch->c;
	cleanup_free char *path = xasprintf("%s/root", c->dir);
	cleanup_close int root = -1;

	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return error_errno(err, "make the mounts private");
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return error_errno(err, "open %s", path);
	if (ns_own(c->spec, OCI_NS_USER)) {
		int copy = unlocked_root(root, err);

		if (copy < 0)
			return -1;
		close_fd(&root);
		root = copy;
	}
	if (mounts_apply(c, root, late, err) < 0 || devices_make(c, root, err) < 0)
		return -1;
	return root_enter(root, err);
}

static int init_part(const struct child *ch, struct error *err)
{
	const struct oci_spec *s = ch->c->spec;
	struct late_ro late = {0};

	if (ns_enter(ch->c, err) < 0 || sysctl_apply(s, err) < 0 ||
	    build_root(ch, &late, err) < 0 ||
	    set_rootfs_propagation(s->lnx.rootfs_propagation, err) < 0)
		return -1;
	make_cwd(ch->p->cwd);
	if (ch->p->terminal && console_setup(ch->p, ch->io.console_sock, true, err) < 0)
		return -1;
	if (mounts_finish(ch->c, &late, err) < 0 || mounts_restrict(&s->lnx, err) < 0)
		return -1;
	return security_personality(&s->lnx, err);
}

/* ---- an exec'd process's own part */

static int exec_part(const struct child *ch, int pidfd, struct error *err)
{
	const struct oci_spec *s = ch->c->spec;

	if (setns(pidfd, ns_join_flags(s)) < 0) {
		error_errno(err, "join the container's namespaces");
		if (err && err->errnum == ESRCH)
			err->kind = ERR_NOT_RUNNING;
		return -1;
	}
	if (ns_own(s, OCI_NS_USER) && ns_become_root(err) < 0)
		return -1;
	if (ch->p->terminal && console_setup(ch->p, ch->io.console_sock, false, err) < 0)
		return -1;
	return security_personality(&s->lnx, err);
}

/* ---- what both do */

/* The user has to be able to open its own stdio again (/dev/stdout, /proc/self/fd/1). */
static void give_stdio(const struct oci_user *u)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st, null;

		/* the guest's /dev/null stays root's */
		if (fstat(fd, &st) < 0 || st.st_uid == u->uid ||
		    (stat("/dev/null", &null) == 0 && st.st_rdev == null.st_rdev &&
		     S_ISCHR(st.st_mode)))
			continue;
		/* EINVAL: an id without a mapping; sockets and read-only files are as they are */
		if (fchown(fd, u->uid, (gid_t)-1) < 0)
			continue;
	}
}

static int become_user(const struct child *ch, struct error *err)
{
	const struct oci_process *p = ch->p;
	bool retry = false;

	if (security_caps_before_user(ch->caps, err) < 0)
		return -1;
	/* Root may reach directories that the user cannot, and the other way round. */
	if (exec_chdir(p->cwd, &retry, err) < 0)
		return -1;
	give_stdio(&p->user);
	if (exec_set_user(&p->user, err) < 0)
		return -1;
	if (retry && exec_chdir(p->cwd, NULL, err) < 0)
		return -1;
	umask(p->user.umask.has ? p->user.umask.v : 022);
	return security_caps_after_user(ch->caps, err);
}

/* Ends in execve. */
static int become_process(const struct child *ch, struct error *err)
{
	const struct oci_process *p = ch->p;
	const struct seccomp_prog *filter = ch->c->seccomp;
	cleanup_free char *home = exec_home_of(p->user.uid);
	char **env = exec_environment(p->env, p->n_env, home);
	char *path;

	if (security_rlimits(p, err) < 0 || security_no_new_privs(p, err) < 0)
		return -1;
	if (filter && !p->no_new_privileges && seccomp_prog_load(filter, err) < 0)
		return -1;
	if (become_user(ch, err) < 0)
		return -1;
	path = exec_lookup(p->args[0], exec_getenv(env, "PATH"), err);
	if (!path)
		return -1;
	if (filter && p->no_new_privileges && seccomp_prog_load(filter, err) < 0)
		return -1;
	if (ch->is_init &&
	    (sync_ready(ch->sync, err) < 0 || sync_await(ch->sync, SYNC_START, err) < 0 ||
	     hooks_start_container(ch->c, err) < 0))
		return -1;
	if (sync_exec(ch->sync, err) < 0)
		return -1;
	return exec_now(path, p->args, env, err);
}

static int run(struct child *ch, struct error *err)
{
	int pidfd = ch->c->init_pidfd;
	int *keep[3] = {&ch->sync};
	size_t n = 1;

	if (!ch->is_init)
		keep[n++] = &pidfd;
	if (ch->p->terminal)
		keep[n++] = &ch->io.console_sock;
	if (arrange_fds(ch, keep, n, err) < 0 || reset_signals(err) < 0)
		return -1;
	umask(0);
	if (setsid() < 0)
		return error_errno(err, "setsid");
	if (sync_await(ch->sync, SYNC_GO, err) < 0 || security_keyring(ch->c->id, err) < 0)
		return -1;
	if ((ch->is_init ? init_part(ch, err) : exec_part(ch, pidfd, err)) < 0)
		return -1;
	return become_process(ch, err);
}

void child_run(struct child *ch)
{
	struct error err = ERROR_INIT;

	log_setup(-1, LOG_FMT_TEXT, LOG_LVL_ERROR, "husk-agent");
	run(ch, &err);
	sync_failed(ch->sync, &err);
	_exit(1);
}
