#include "lib/file.h"
#include "lib/cleanup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>

static void *or_die(void *p)
{
	static const char msg[] = "husk: out of memory\n";

	if (p)
		return p;
	if (write(STDERR_FILENO, msg, sizeof(msg) - 1) < 0)
		_exit(1);
	_exit(1);
}

char *xasprintf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		s = NULL;
	va_end(ap);
	return or_die(s);
}

char *xstrdup(const char *s)
{
	return or_die(strdup(s));
}

void *xcalloc(size_t n, size_t size)
{
	return or_die(calloc(n ? n : 1, size ? size : 1));
}

void replace_controls(char *s, char with)
{
	for (; *s; s++) {
		unsigned char c = (unsigned char)s[0], next = (unsigned char)s[1];

		if (c == 0xc2 && next >= 0x80 && next <= 0x9f)
			s[0] = s[1] = with;
		else if (c < ' ' || c == 0x7f)
			s[0] = with;
	}
}

int file_read(int dirfd, const char *path, size_t max, char **text, size_t *len, struct error *err)
{
	cleanup_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	cleanup_free char *buf = NULL;
	size_t n = 0, size = 0;

	if (fd < 0)
		return error_errno(err, "open %s", path);
	for (;;) {
		ssize_t r;

		if (n + 1 >= size) {
			char *p = realloc(buf, size ? size * 2 : 4096);

			if (!p)
				return error_set(err, "%s: out of memory", path);
			buf = p;
			size = size ? size * 2 : 4096;
		}
		r = read(fd, buf + n, size - n - 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return error_errno(err, "read %s", path);
		if (r == 0)
			break;
		n += (size_t)r;
		if (n > max)
			return error_kind(err, ERR_INVALID, "%s: larger than %zu bytes", path, max);
	}
	buf[n] = '\0';
	*text = steal_ptr(&buf);
	if (len)
		*len = n;
	return 0;
}

int write_all(int fd, const void *buf, size_t len, struct error *err)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, "write");
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int file_write_atomic(int dirfd, const char *name, const char *text, size_t len, mode_t mode,
		      struct error *err)
{
	cleanup_free char *tmp = xasprintf(".%s.%d", name, (int)getpid());
	cleanup_close int fd =
		openat(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

	if (fd < 0)
		return error_errno(err, "create %s", tmp);
	if (write_all(fd, text, len, err) < 0) {
		unlinkat(dirfd, tmp, 0);
		return error_wrap(err, "%s", name);
	}
	if (renameat(dirfd, tmp, dirfd, name) < 0) {
		error_errno(err, "rename %s to %s", tmp, name);
		unlinkat(dirfd, tmp, 0);
		return -1;
	}
	return 0;
}

int file_put(int dirfd, const char *path, const char *text, struct error *err)
{
	cleanup_close int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return error_errno(err, "open %s", path);
	do
		n = write(fd, text, strlen(text));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_errno(err, "write \"%s\" to %s", text, path);
	return 0;
}

int pipe_make(int *reader, int *writer, struct error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	*reader = fds[0];
	*writer = fds[1];
	return 0;
}

bool dir_is_empty(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	unsigned n = 0;

	if (fd >= 0 && !d)
		close(fd);
	/* "." and ".." */
	while (d && n < 3 && readdir(d))
		n++;
	return d && n == 2;
}

int mkdir_p(const char *path, mode_t mode, struct error *err)
{
	cleanup_free char *copy = xstrdup(path);

	for (char *p = copy + (*copy ? 1 : 0);; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return error_errno(err, "mkdir %s", copy);
		if (c == '\0')
			return 0;
		*p = c;
	}
}

int fd_stat(int fd, struct stat *st)
{
	return (int)syscall(SYS_fstat, fd, st);
}

/* syscalls loop: fcntl(1==F_GETFL) fcntl(1==F_SETFL) */

int set_nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	return fl < 0 ? -1 : fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK);
}

int set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

int fd_await(int fd, short events)
{
	int which = events & POLLIN ? SO_RCVTIMEO : SO_SNDTIMEO, ms = -1, r;
	struct pollfd p = {.fd = fd, .events = events};
	struct timeval t = {0};
	socklen_t len = sizeof(t);

	if (getsockopt(fd, SOL_SOCKET, which, &t, &len) == 0 && (t.tv_sec || t.tv_usec))
		ms = (int)(t.tv_sec * 1000 + t.tv_usec / 1000);
	/* A descriptor that blocks says EAGAIN only when the bound is over. */
	r = ms >= 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK) ? 0 : poll(&p, 1, ms);
	if (r != 0)
		return r < 0 && errno != EINTR ? -1 : 0;
	errno = ETIMEDOUT;
	return -1;
}

/* Of proc(5), /proc/pid/stat. */
struct proc_stat {
	char state;
	unsigned flags;
	int threads;
	unsigned long long start, pending;
};

#define PF_EXITING 0x4u /* of the kernel's flags of a task */

static int read_stat(pid_t pid, struct proc_stat *s)
{
	char path[64];
	cleanup_free char *text = NULL;
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (pid <= 0 || file_read(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
		return -1;
	/* The command name may hold anything; the last ')' ends it. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1,
			 " %c %*d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
			 "%*d %d %*d %llu %*u %*d %*u %*u %*u %*u %*u %*u %llu",
			 &s->state, &s->flags, &s->threads, &s->start, &s->pending) != 5)
		return -1;
	return 0;
}

uint64_t proc_start_time(pid_t pid)
{
	struct proc_stat s;

	if (read_stat(pid, &s) < 0)
		return 0;
	/* A first thread that has ended is a zombie, whatever the others still hold and do. */
	return (s.state == 'Z' && s.threads <= 1) || s.state == 'X' ? 0 : s.start;
}

bool proc_is_ending(pid_t pid)
{
	struct proc_stat s;

	return read_stat(pid, &s) < 0 || s.state == 'Z' || s.state == 'X' || s.flags & PF_EXITING ||
	       s.pending & 1ull << (SIGKILL - 1);
}
