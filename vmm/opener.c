/*
 * Theory of operation.
 *
 *	husk-vmm ──(socket pair)── opener
 *
 * A request is one message: a path, and the directory's descriptor riding on it. The answer is one
 * message: an error number, and if that is 0 the file's descriptor. There is one request at a time;
 * threads take turns by a lock.
 *
 * The opener has husk-vmm's namespaces (but its own empty mount namespace), user root, and of
 * root's capabilities one: CAP_DAC_READ_SEARCH, which reads what any user may own. A path is
 * resolved with openat2(2) beneath the directory alone: no ".." above it, no symbolic link, no
 * magic link; mounts may be crossed, as a root file system has them. It is opened for reading, and
 * only if it is a regular file: no device, no socket, no pipe that somebody waits at, no directory
 * from which more could be opened. Of all but regular files there is a look at where they are
 * (O_PATH) and no more, since an open(2) of a device or a pipe is an act of its own: it starts a
 * watchdog, rewinds a tape, lets a writer go on. Something else may be there a moment later: what
 * keeps devices closed for good is that husk gives directories of mounts without them
 * (shim/vmm_client.c). Directories come from husk-vmm, which has those that husk gave it.
 *
 * A path that is longer than one system call takes is walked in pieces, here, so that husk-vmm
 * never has a directory but those.
 *
 * It ends when husk-vmm's end of the socket is closed, and with husk-vmm's pid namespace.
 */
#include "vmm/opener.h"
#include "lib/cleanup.h"
#include "lib/fds.h"
#include "lib/file.h"
#include "vmm/jail.h"
#include "vmm/minder.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* syscalls opener: recvmsg sendmsg openat2 fstat close write clock_gettime exit_group
 *	rt_sigreturn */
/* syscalls loop: shutdown */
/* syscalls loop block: sendmsg recvmsg futex close */

#define FILES_MAX 16 /* descriptors of the opener */

struct opener {
	int sock;
	pid_t pid;
	pthread_mutex_t lock; /* from a request to its answer */
	bool ready;	      /* it said that it is in its jail */
};

/* ---- opening; also what is done where there is no opener */

static int open_beneath(int dir, const char *path, uint64_t flags)
{
	struct open_how how = {
		.flags = flags | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

/* Ends `path` where one system call must end, and returns what is left of it; NULL: nothing. */
static char *cut(char *path)
{
	size_t at;

	if (strlen(path) < PATH_MAX)
		return NULL;
	for (at = PATH_MAX - 1; at > 0 && path[at] != '/'; at--)
		;
	if (at == 0) /* a name that long: the kernel says so */
		return NULL;
	path[at] = '\0';
	return path + at + 1;
}

/* A descriptor if what is there is a regular file. */
static int open_regular(int dir, const char *path, uint64_t flags)
{
	cleanup_close int fd = open_beneath(dir, path, flags);
	struct stat st;

	if (fd < 0 || fd_stat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? steal_fd(&fd) : -ESTALE;
}

int opener_open_here(int dir, char *path)
{
	cleanup_close int at = -1;
	char *rest;
	int fd;

	while ((rest = cut(path)) != NULL) {
		fd = open_beneath(at < 0 ? dir : at, path, O_PATH | O_DIRECTORY);
		if (fd < 0)
			return -errno;
		close_fd(&at);
		at = fd;
		path = rest;
	}
	fd = open_regular(at < 0 ? dir : at, path, O_PATH);
	if (fd < 0)
		return fd;
	close(fd);
	return open_regular(at < 0 ? dir : at, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

/* ---- messages: some bytes, and at most one descriptor */

static int send_fd(int sock, const void *data, size_t len, int fd)
{
	struct iovec iov = {(void *)(uintptr_t)data, len};

	return fds_send(sock, &iov, 1, &fd, fd >= 0 ? 1 : 0, 0) == (ssize_t)len ? 0 : -1;
}

/* The message's length; 0: the other end is gone. *fd is -1 if none came. */
static ssize_t receive_fd(int sock, void *data, size_t size, int *fd)
{
	unsigned nfds = 1;
	ssize_t n;

	*fd = -1;
	n = fds_receive(sock, data, size, fd, &nfds, 0, NULL);
	return n < 0 ? -errno : n;
}

/* ---- the opener */

static int serve(int sock, char *path)
{
	int dir, file, answer;
	ssize_t n = receive_fd(sock, path, OPENER_PATH_MAX, &dir);

	if (n <= 0)
		return -1;
	file = -EINVAL;
	if (dir >= 0 && path[n - 1] == '\0')
		file = opener_open_here(dir, path);
	answer = file < 0 ? -file : 0;
	n = send_fd(sock, &answer, sizeof(answer), file);
	close_fd(&dir);
	if (file >= 0)
		close(file);
	return (int)n;
}

static int enter_jail(int root)
{
	const uint64_t keep = UINT64_C(1) << CAP_DAC_READ_SEARCH;
	const struct rlimit none = {0, 0}, files = {FILES_MAX, FILES_MAX};

	if (jail_change_root(root) < 0)
		return -1;
	close(root);
	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0 ||
	    setrlimit(RLIMIT_NPROC, &none) < 0 || syscall(SYS_setgroups, 0, NULL) < 0 ||
	    jail_bound_capabilities(keep) < 0 || jail_set_capabilities(keep) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -1;
	return jail_filter_opener();
}

static _Noreturn void run(int sock, int root)
{
	static char path[OPENER_PATH_MAX];
	int r;

	prctl(PR_SET_NAME, "husk-opener");
	/* Standard error stays: a denied system call is named there. */
	if (dup2(sock, 0) < 0 || dup2(root, 3) < 0)
		_exit(127);
	close(1);
	close_range(4, ~0u, 0);
	r = enter_jail(3) < 0 ? errno : 0;
	if (send_fd(0, &r, sizeof(r), -1) < 0 || r)
		_exit(127);
	while (serve(0, path) == 0)
		;
	_exit(0);
}

/* ---- for husk-vmm */

struct opener *opener_start(struct error *err)
{
	cleanup_close int root = minder_empty_root(err);
	int sv[2], room = OPENER_PATH_MAX;
	struct opener *o;

	if (root < 0)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0) {
		error_errno(err, "socketpair");
		return NULL;
	}
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	o = xcalloc(1, sizeof(*o));
	o->pid = fork();
	if (o->pid == 0)
		run(sv[1], root);
	o->sock = sv[0];
	close(sv[1]);
	pthread_mutex_init(&o->lock, NULL);
	if (o->pid < 0) {
		error_errno(err, "fork");
		opener_free(o);
		return NULL;
	}
	return o;
}

/* It says once whether it is in its jail. Nobody waits for that before it is needed. */
static int await_start(struct opener *o)
{
	int r = 0, none;

	if (o->ready)
		return 0;
	if (receive_fd(o->sock, &r, sizeof(r), &none) != sizeof(r))
		return -EPIPE;
	o->ready = r == 0;
	return -r;
}

int opener_open(struct opener *o, int dir, const char *path)
{
	size_t len = strlen(path) + 1;
	int r, answer = 0, fd = -1;

	if (len > OPENER_PATH_MAX)
		return -ENAMETOOLONG;
	pthread_mutex_lock(&o->lock);
	r = await_start(o);
	if (r == 0 && (send_fd(o->sock, path, len, dir) < 0 ||
		       receive_fd(o->sock, &answer, sizeof(answer), &fd) != sizeof(answer)))
		r = -EPIPE;
	pthread_mutex_unlock(&o->lock);
	if (r < 0 || answer)
		return r < 0 ? r : -answer;
	return fd < 0 ? -EMFILE : fd; /* a descriptor that finds no room is left out */
}

int opener_fd(const struct opener *o)
{
	return o->sock;
}

void opener_free(struct opener *o)
{
	int r = 0, none;

	if (!o)
		return;
	/* Its end closes its end of the socket. Nobody may wait for processes here. */
	shutdown(o->sock, SHUT_WR);
	receive_fd(o->sock, &r, sizeof(r), &none);
	close(o->sock);
	pthread_mutex_destroy(&o->lock);
	free(o);
}
