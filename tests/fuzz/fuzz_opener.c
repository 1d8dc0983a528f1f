/*
 * A request to the opener: any path, with a directory, without one, with descriptors that are none.
 * What comes back is a regular file below the directory, open for reading, and nothing else stays
 * open.
 *
 * The first byte of the input says which descriptors ride on the request, the rest is the path.
 */
#include "vmm/opener.c" /* serve() */

#include <dirent.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char base[] = "/tmp/fuzz-opener-XXXXXX";
static int dir = -1, sv[2];
static struct stat files[3];

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void make(int at, const char *name, struct stat *st)
{
	cleanup_close int fd = openat(at, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	expect(fd >= 0 && fstat(fd, st) == 0);
}

static void clean_up(void)
{
	static const char *const names[] = {"d/b", "d/c", "a", "l", "u", "m", "f", "../o"};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		unlinkat(dir, names[i], 0);
	unlinkat(dir, "d", AT_REMOVEDIR);
	unlinkat(dir, "../r", AT_REMOVEDIR);
	rmdir(base);
}

/* Names of one letter: a path is soon one that leads somewhere. */
static void set_up(void)
{
	cleanup_close int top = -1;
	int room = OPENER_PATH_MAX;
	struct stat outside;

	expect(mkdtemp(base) != NULL);
	top = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	expect(mkdirat(top, "r", 0755) == 0);
	dir = openat(top, "r", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	atexit(clean_up);
	make(top, "o", &outside);
	expect(mkdirat(dir, "d", 0755) == 0);
	make(dir, "a", &files[0]);
	make(dir, "d/b", &files[1]);
	make(dir, "d/c", &files[2]);
	expect(symlinkat("../o", dir, "l") == 0 && symlinkat("..", dir, "u") == 0 &&
	       symlinkat("/", dir, "m") == 0 && mkfifoat(dir, "f", 0600) == 0);
	expect(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) == 0);
	setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

static unsigned open_files(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	expect(d != NULL);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void check_file(int fd)
{
	struct stat st;
	bool known = false;

	expect(fstat(fd, &st) == 0 && (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
	for (unsigned i = 0; i < ARRAY_LEN(files); i++)
		known = known || (st.st_dev == files[i].st_dev && st.st_ino == files[i].st_ino);
	expect(known);
}

static void request(const void *path, size_t len, const int *fds, unsigned n)
{
	union {
		char buf[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr head;
	} ctl = {.head = {.cmsg_level = SOL_SOCKET,
			  .cmsg_type = SCM_RIGHTS,
			  .cmsg_len = CMSG_LEN(n * sizeof(int))}};
	struct iovec iov = {(void *)(uintptr_t)path, len};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = n ? ctl.buf : NULL,
			   .msg_controllen = n ? CMSG_SPACE(n * sizeof(int)) : 0};

	memcpy(CMSG_DATA(&ctl.head), fds, n * sizeof(int));
	expect(sendmsg(sv[0], &m, 0) == (ssize_t)len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char path[OPENER_PATH_MAX];
	int fds[3], answer = -1, fd = -1;
	unsigned before;

	if (dir < 0)
		set_up();
	if (size < 2 || size - 1 > OPENER_PATH_MAX)
		return -1;
	fds[0] = data[0] & 4 ? sv[0] : dir;
	fds[1] = data[0] & 8 ? sv[1] : dir;
	fds[2] = dir;
	before = open_files();
	request(data + 1, size - 1, fds, data[0] & 3);
	expect(serve(sv[1], path) == 0);
	expect(receive_fd(sv[0], &answer, sizeof(answer), &fd) == sizeof(answer));
	expect((answer == 0) == (fd >= 0));
	if (fd >= 0)
		check_file(fd);
	close_fd(&fd);
	expect(open_files() == before);
	return 0;
}
