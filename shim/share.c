/*
 * Theory of operation.
 *
 *	husk ── minder (PID 1 of a pid namespace) ── virtiofsd (namespaces of its own)
 *
 * What virtiofsd may see is a tmpfs with one entry for each shared mount: "m3" is an empty file or
 * directory with the source of config.json's mounts[3] mounted on it. husk makes the tmpfs and
 * clones of the sources as mounts that are in no namespace (fsmount, open_tree); the child that
 * becomes virtiofsd puts them together in a mount namespace of its own. A mount that config.json
 * has as read-only is so here, all of it: a guest that ignores its own mount flags cannot write
 * either. Clones are private: nothing that is mounted there comes to the host, nor does it keep
 * the host from unmounting.
 *
 * virtiofsd makes that tmpfs its root (pivot_root, its own mount, pid and net namespaces), keeps
 * eight capabilities (CAP_MKNOD only if the container has it) and a seccomp filter. It wants to
 * accept its connection. The listening socket is bound in the same tmpfs, where nobody else can
 * reach it, and husk connects at once: the connection waits in the queue until virtiofsd is up,
 * while husk-vmm already has the other end.
 *
 * Ends. virtiofsd ends when its connection does, which is when husk-vmm and QEMU are gone. The
 * minder is there for every other case: it ends when the lifeline has no writer any more, or when
 * virtiofsd has ended; and when the minder ends, however it does, the kernel kills its pid
 * namespace. The mounts are in namespaces that are gone then. The minder stays in the host's mount
 * namespace, so that it does not keep alive mounts that the host gives up; but its root is an empty
 * directory that is mounted nowhere, and it has no capabilities.
 * It also turns what virtiofsd says into lines of husk's log.
 *
 * The minder's end is nobody's business: whoever adopts it reaps it.
 */
#include "shim/share.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/userns.h"
#include "shim/oom.h"
#include "shim/paths.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Where the tmpfs is put in virtiofsd's namespace: a directory that every host has, that no program
 * is in and that virtiofsd does not need. */
#define STAGE_DIR "/sys"
#define CHILD_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define FILES_MAX (1u << 20) /* virtiofsd has a descriptor for each inode that the guest knows */
#define LINES_MAX 200	     /* of virtiofsd in the log: a guest can provoke them */
#define LINE_LEN 512
#define BLAME_MS 200
#define FD_LISTEN 3 /* in virtiofsd */

/* ---- what is shared, prepared in mounts that are in no namespace */

struct stage {
	int fs; /* the tmpfs */
	int listener;
	char **names; /* owned by the plan */
	int *trees;
	size_t n;
	bool mknod;
};

static void stage_free(struct stage *s)
{
	for (size_t i = 0; i < s->n; i++)
		close_fd(&s->trees[i]);
	close_fd(&s->fs);
	close_fd(&s->listener);
	free(s->trees);
	free(s->names);
}
#define cleanup_stage __attribute__((cleanup(stage_free)))

static int make_tmpfs(struct error *err)
{
	cleanup_close int ctx = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (ctx < 0 || fsconfig(ctx, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
	    fsconfig(ctx, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, "make a tmpfs");
	fd = fsmount(ctx, FSMOUNT_CLOEXEC,
		     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? error_errno(err, "mount a tmpfs") : fd;
}

int share_make_member(int fs, const struct planned_mount *m, struct error *err)
{
	int fd;

	if (m->dir)
		return mkdirat(fs, m->name, 0755) < 0 ? error_errno(err, "make %s", m->name) : 0;
	fd = openat(fs, m->name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_errno(err, "make %s", m->name);
	close(fd);
	return 0;
}

/* The host's file system maps the ids, as far as it can: ext4, xfs, btrfs and tmpfs do. */
static int map_ids(const struct planned_mount *m, int fd, struct error *err)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP};
	cleanup_close int ns = -1;

	if (!m->idmap.uid_map)
		return 0;
	ns = userns_make(m->idmap.uid_map, m->idmap.gid_map, err);
	if (ns < 0)
		return error_wrap(err, "uidMappings, gidMappings");
	attr.userns_fd = (uint64_t)ns;
	if (mount_setattr(fd, "", AT_EMPTY_PATH | (m->idmap.recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) == 0)
		return 0;
	if (errno == EINVAL)
		return error_kind(err, ERR_UNSUPPORTED,
				  "%s: the host's file system there cannot map ids", m->source);
	return error_errno(err, "map the ids of the mount of %s", m->source);
}

int share_clone_source(const struct planned_mount *m, struct error *err)
{
	/* virtiofsd runs nothing, and opens no device: those that a guest finds or makes there are
	 * its own kernel's. */
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
					      MOUNT_ATTR_NOSUID |
					      (m->writable ? 0 : MOUNT_ATTR_RDONLY),
				  .propagation = MS_PRIVATE};
	int fd = open_tree(m->fd, "",
			   AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
				   (m->recursive ? AT_RECURSIVE : 0));

	if (fd < 0)
		return error_errno(err, "clone the mount of %s", m->source);
	if (mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		error_errno(err, "make the mount of %s private%s", m->source,
			    m->writable ? "" : " and read-only");
	else if (map_ids(m, fd, err) == 0)
		return fd;
	close(fd);
	return -1;
}

/* A listening socket, and in *ours its connected other end. Its name is gone afterwards. */
static int make_sockets(int fs, int *ours, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cleanup_close int end = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/sock", fs);
	if (listener < 0 || end < 0 || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(listener, 1) < 0 || connect(end, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    unlinkat(fs, "sock", 0) < 0)
		return error_errno(err, "socket for virtiofsd");
	*ours = steal_fd(&end);
	return steal_fd(&listener);
}

static int stage_make(const struct mount_plan *p, struct stage *s, int *ours, struct error *err)
{
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};

	s->mknod = p->mknod;
	s->names = xcalloc(p->n, sizeof(*s->names));
	s->trees = xcalloc(p->n, sizeof(*s->trees));
	s->fs = make_tmpfs(err);
	if (s->fs < 0)
		return -1;
	for (size_t i = 0; i < p->n; i++) {
		const struct planned_mount *m = &p->v[i];
		int tree;

		if (m->from != MOUNT_FROM_SHARE)
			continue;
		tree = share_make_member(s->fs, m, err) < 0 ? -1 : share_clone_source(m, err);
		if (tree < 0)
			return error_wrap(err, "mounts[%zu]", m->index);
		s->names[s->n] = m->name;
		s->trees[s->n++] = tree;
	}
	s->listener = make_sockets(s->fs, ours, err);
	if (s->listener < 0)
		return -1;
	if (mount_setattr(s->fs, "", AT_EMPTY_PATH, &ro, sizeof(ro)) < 0)
		return error_errno(err, "make a tmpfs read-only");
	return 0;
}

/* ---- the child that becomes virtiofsd. What it has to say goes to standard error. */

static _Noreturn void fail_child(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	fflush(stderr);
	_exit(127);
}

static void mount_stage(const struct stage *s)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		fail_child("make mounts private");
	if (move_mount(s->fs, "", AT_FDCWD, STAGE_DIR, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		fail_child("mount on " STAGE_DIR);
	for (size_t i = 0; i < s->n; i++)
		if (move_mount(s->trees[i], "", s->fs, s->names[i], MOVE_MOUNT_F_EMPTY_PATH) < 0)
			fail_child(s->names[i]);
}

/* As many descriptors as we may have: the guest's cache is what uses them up. */
static void raise_files(void)
{
	struct rlimit r = {FILES_MAX, FILES_MAX}, now;

	if (setrlimit(RLIMIT_NOFILE, &r) == 0 || getrlimit(RLIMIT_NOFILE, &now) < 0)
		return;
	now.rlim_cur = now.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &now) < 0)
		fail_child("RLIMIT_NOFILE");
}

static void default_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void become_virtiofsd(const char *path, const struct stage *s, int output)
{
	char *argv[] = {
		(char *)"virtiofsd", (char *)"--fd=3", (char *)"-f", (char *)"-o",
		(char *)"source=" STAGE_DIR, (char *)"-o",
		(char *)"sandbox=namespace,cache=auto,xattr,announce_submounts,log_level=warn",
		(char *)"--rlimit-nofile=0",
		/* A hostile guest has all that its container lacks. */
		s->mknod ? NULL : (char *)"-o", (char *)"modcaps=-mknod", NULL};
	char *env[] = {(char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL};
	struct rlimit no_core = {0, 0};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int listener = fcntl(s->listener, F_DUPFD_CLOEXEC, 16);

	if (dup2(output, STDERR_FILENO) < 0)
		_exit(127);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsid();
	default_signals();
	mount_stage(s);
	raise_files();
	if (null < 0 || listener < 0 || dup2(null, 0) < 0 || dup2(STDERR_FILENO, 1) < 0 ||
	    dup2(listener, FD_LISTEN) < 0 ||
	    close_range(FD_LISTEN + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		fail_child("descriptors");
	if (chdir("/") < 0 || setrlimit(RLIMIT_CORE, &no_core) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail_child("limits");
	execve(path, argv, env);
	fail_child(path);
}

/* ---- the minder */

/* The minder's descriptors, all that it has. */
enum {
	MINDER_LIFELINE,
	MINDER_PIDFD,
	MINDER_OUTPUT,
	MINDER_NEWS,
	MINDER_ROOT,
	MINDER_LOG,
	MINDER_FDS
};

struct lines {
	char buf[LINE_LEN];
	size_t len;
	unsigned said;
};

static void say(struct lines *l)
{
	/* How virtiofsd calls the end of its connection, when it gets it together with a message.
	 */
	static const char the_end[] = "virtio_loop: Unexpected poll revents";
	char news[LINE_LEN + 1];
	int n;

	l->buf[l->len] = '\0';
	replace_controls(l->buf, '?');
	if (l->len > 0 && l->said < LINES_MAX &&
	    strncmp(l->buf, the_end, sizeof(the_end) - 1) != 0) {
		n = snprintf(news, sizeof(news), "%s\n", l->buf);
		/* Whoever made us reads this if it fails; nobody does later. */
		if (send(MINDER_NEWS, news, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			errno = 0;
		log_warn("virtiofsd: %s", l->buf);
		if (++l->said == LINES_MAX)
			log_warn("virtiofsd: what else it says is left out");
	}
	l->len = 0;
}

/* False when there will be no more. */
static bool take_output(struct lines *l)
{
	char buf[1024];
	ssize_t n = read(MINDER_OUTPUT, buf, sizeof(buf));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	for (ssize_t i = 0; i < n; i++) {
		if (buf[i] == '\n' || l->len == sizeof(l->buf) - 1)
			say(l);
		if (buf[i] != '\n')
			l->buf[l->len++] = buf[i];
	}
	return n > 0;
}

static void drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {0};

	syscall(SYS_capset, &head, none);
}

/* It reads lines that a guest may have made virtiofsd write. A call that is not here fails, and
 * ends nobody: restart_syscall is the kernel's own, in a process that was stopped or frozen. */
static int filter_calls(void)
{
	static const int calls[] = {
		SCMP_SYS(poll),		SCMP_SYS(ppoll),     SCMP_SYS(restart_syscall),
		SCMP_SYS(read),		SCMP_SYS(write),     SCMP_SYS(sendto),
		SCMP_SYS(fcntl),	SCMP_SYS(wait4),     SCMP_SYS(clock_gettime),
		SCMP_SYS(brk),		SCMP_SYS(mmap),	     SCMP_SYS(munmap),
		SCMP_SYS(rt_sigreturn), SCMP_SYS(exit_group)};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = ctx ? 0 : -1;

	for (size_t i = 0; i < ARRAY_LEN(calls) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

static _Noreturn void end_with(pid_t child, struct lines *l)
{
	int st = 0;

	while (waitpid(child, &st, 0) < 0 && errno == EINTR)
		;
	while (set_nonblock(MINDER_OUTPUT, true) == 0 && take_output(l) && errno != EAGAIN)
		;
	say(l);
	if (WIFSIGNALED(st))
		log_warn("virtiofsd was ended by signal %d", WTERMSIG(st));
	_exit(WIFEXITED(st) ? WEXITSTATUS(st) : 1);
}

static _Noreturn void watch(pid_t child)
{
	struct pollfd p[] = {{.fd = MINDER_LIFELINE, .events = POLLIN},
			     {.fd = MINDER_PIDFD, .events = POLLIN},
			     {.fd = MINDER_OUTPUT, .events = POLLIN}};
	struct lines l = {.len = 0};

	for (;;) {
		if (poll(p, ARRAY_LEN(p), -1) < 0)
			continue;
		if (p[2].revents && !take_output(&l))
			p[2].fd = -1;
		if (p[1].revents)
			end_with(child, &l);
		/* The sandbox is over: what is left of virtiofsd goes with us. */
		if (p[0].revents)
			_exit(0);
	}
}

static void keep_only(const int fds[MINDER_FDS])
{
	int aside[MINDER_FDS];

	for (int i = 0; i < MINDER_FDS; i++)
		aside[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, 64);
	for (int i = 0; i < MINDER_FDS; i++)
		if (aside[i] >= 0 && dup2(aside[i], i) < 0)
			_exit(127);
	close_range(aside[MINDER_LOG] >= 0 ? MINDER_FDS : MINDER_LOG, ~0u, 0);
}

struct minding {
	const char *path;
	const struct stage *stage;
	const struct host_cgroup *cgroup;
	int lifeline, log_fd, news;
};

static void enter_cgroup(const struct host_cgroup *cgroup)
{
	struct error err = ERROR_INIT;

	if (!cgroup)
		return;
	oom_score_machine(&cgroup->oom_score_adj);
	if (host_cgroup_enter(cgroup, &err) == 0)
		return;
	log_warn("virtiofsd: %s", err.msg);
	_exit(127);
}

static _Noreturn void mind(const struct minding *m)
{
	enum log_format format = log_is_json() ? LOG_FMT_JSON : LOG_FMT_TEXT;
	int out[2], fds[MINDER_FDS], pidfd = -1;
	pid_t child;

	setsid();
	prctl(PR_SET_NAME, "husk-share");
	enter_cgroup(m->cgroup);
	if (pipe2(out, O_CLOEXEC) < 0)
		_exit(127);
	child = (pid_t)syscall(SYS_clone, CHILD_NAMESPACES | CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0,
			       0);
	if (child == 0)
		become_virtiofsd(m->path, m->stage, out[1]);
	fds[MINDER_LIFELINE] = m->lifeline;
	fds[MINDER_PIDFD] = pidfd;
	fds[MINDER_OUTPUT] = out[0];
	fds[MINDER_NEWS] = m->news;
	fds[MINDER_ROOT] = make_tmpfs(NULL);
	if (fds[MINDER_ROOT] < 0) /* its number would be that of something else */
		_exit(127);
	fds[MINDER_LOG] = m->log_fd;
	keep_only(fds);
	log_setup(m->log_fd < 0 ? -1 : MINDER_LOG, format, LOG_LVL_WARN, "husk");
	if (child < 0) {
		log_warn("virtiofsd: clone: %s", strerror(errno));
		_exit(127);
	}
	if (fchdir(MINDER_ROOT) < 0 || chroot(".") < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(127);
	close(MINDER_ROOT);
	drop_capabilities();
	if (filter_calls() < 0) {
		log_warn("virtiofsd: its minder's list of system calls cannot be loaded");
		_exit(127);
	}
	watch(child);
}

/* ---- for husk */

int share_start(const struct mount_plan *p, const struct host_cgroup *cgroup, int lifeline,
		int log_fd, struct share *s, struct error *err)
{
	cleanup_stage struct stage stage = {.fs = -1, .listener = -1};
	cleanup_free char *path = path_virtiofsd(err);
	cleanup_close int ours = -1;
	struct minding m = {.path = path,
			    .stage = &stage,
			    .lifeline = lifeline,
			    .log_fd = log_fd,
			    .cgroup = cgroup};
	int news[2];

	*s = (struct share){.sock = -1, .news = -1};
	if (!path)
		return -1;
	if (stage_make(p, &stage, &ours, err) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, news) < 0)
		return error_errno(err, "socketpair");
	m.news = news[1];
	s->pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
	if (s->pid == 0)
		mind(&m);
	close(news[1]);
	s->news = news[0];
	if (s->pid < 0) {
		s->pid = 0;
		error_errno(err, "virtiofsd: clone");
		share_free(s);
		return -1;
	}
	s->sock = steal_fd(&ours);
	return 0;
}

int share_blame(struct share *s, struct error *err)
{
	struct pollfd p = {.fd = s->news, .events = POLLRDHUP};
	char buf[2 * LINE_LEN], *end, *last;
	ssize_t n;

	/* When virtiofsd is the cause, its end is a moment away at most. */
	if (s->pid <= 0 || poll(&p, 1, BLAME_MS) != 1)
		return -1;
	n = recv(s->news, buf, sizeof(buf) - 1, MSG_DONTWAIT);
	buf[n < 0 ? 0 : n] = '\0';
	end = strrchr(buf, '\n');
	if (end)
		*end = '\0';
	last = strrchr(buf, '\n');
	last = last ? last + 1 : buf;
	return error_set(err, "virtiofsd ended: %s", last[0] ? last : "it did not say why");
}

void share_free(struct share *s)
{
	close_fd(&s->sock);
	close_fd(&s->news);
}
