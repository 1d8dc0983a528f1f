/*
 * socket_file.c - for a program that wants to connect by path, and shall see no file system.
 *
 * The socket's file is on a tmpfs that is mounted nowhere. Through /proc/self/fd it can be reached
 * by whoever has the descriptor, and by nobody else.
 */
#include "vmm/socket_file.h"
#include "lib/cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

static int make_tmpfs(struct error *err)
{
	cleanup_close int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", "4096", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, "make a tmpfs for a socket");
	fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? error_errno(err, "mount a tmpfs for a socket") : fd;
}

int socket_file_listen(int *listener, int *file, struct error *err)
{
	cleanup_close int dir = make_tmpfs(err), sock = -1;
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (dir < 0)
		return -1;
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/socket", dir);
	if (sock < 0 || bind(sock, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(sock, 1) < 0)
		return error_errno(err, "make a listening socket");
	*file = openat(dir, "socket", O_PATH | O_CLOEXEC);
	if (*file < 0)
		return error_errno(err, "open a socket's file");
	*listener = steal_fd(&sock);
	return 0;
}
