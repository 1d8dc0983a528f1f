/*
 * The terminal of a process.
 *
 * The pty belongs to the container's own instance of devpts, so that the names that programs see
 * (ttyname, /dev/pts) are right. An image could put anything at /dev/pts/ptmx: it is opened without
 * following links, and has to be on devpts. The slave is opened through the master (TIOCGPTPEER),
 * by no name at all, and mounted over /dev/console from its descriptor.
 */
#include "agent/console.h"
#include "agent/mounts.h"
#include "agent/resolve.h"
#include "lib/cleanup.h"
#include "lib/fds.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

static int open_master(struct error *err)
{
	struct open_how how = {
		.flags = O_RDWR | O_NOCTTY | O_CLOEXEC,
		.resolve = RESOLVE_NO_SYMLINKS,
	};
	cleanup_close int fd = resolve_how(AT_FDCWD, "/dev/pts/ptmx", &how);
	struct statfs sfs;
	int unlock = 0;

	if (fd < 0)
		return error_errno(err, "open /dev/pts/ptmx");
	if (fstatfs(fd, &sfs) < 0 || sfs.f_type != DEVPTS_SUPER_MAGIC)
		return error_set(err, "/dev/pts/ptmx is not on a devpts");
	if (ioctl(fd, TIOCSPTLCK, &unlock) < 0)
		return error_errno(err, "unlock the pty");
	return steal_fd(&fd);
}

static int send_fd(int sock, int fd, struct error *err)
{
	char byte = 0;
	struct iovec iov = {&byte, 1};

	if (fds_send(sock, &iov, 1, &fd, 1, 0) != 1)
		return error_errno(err, "send the pty to the agent");
	return 0;
}

static int mount_console(int slave, struct error *err)
{
	cleanup_close int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int at = -1;

	if (root < 0)
		return error_errno(err, "open /");
	at = resolve_make(root, "/dev/console", RESOLVE_FILE, NULL, err);
	return at < 0 ? -1 : mounts_bind_fd(slave, at, "/dev/console", err);
}

int console_setup(const struct oci_process *p, int sock, bool is_init, struct error *err)
{
	struct winsize size = {.ws_row = p->console_height, .ws_col = p->console_width};
	cleanup_close int master = open_master(err);
	cleanup_close int slave = -1;

	if (master < 0)
		return error_wrap(err, "process.terminal");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return error_errno(err, "process.terminal: open the pty's other side");
	if ((size.ws_row || size.ws_col) && ioctl(master, TIOCSWINSZ, &size) < 0)
		return error_errno(err, "process.consoleSize");
	if (is_init && mount_console(slave, err) < 0)
		return error_wrap(err, "process.terminal");
	if (send_fd(sock, master, err) < 0)
		return error_wrap(err, "process.terminal");
	for (int fd = 0; fd < 3; fd++)
		if (dup2(slave, fd) < 0)
			return error_errno(err, "process.terminal: dup2");
	if (ioctl(0, TIOCSCTTY, 0) < 0)
		return error_errno(err, "process.terminal: make it the controlling terminal");
	return 0;
}
