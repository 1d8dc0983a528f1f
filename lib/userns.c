/*
 * A user namespace needs a process to be made in, and its maps a process outside of it to be
 * written by: a child is made that does nothing at all, and ended when the namespace is open.
 */
#include "lib/userns.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_mapped(pid_t pid, const char *uid_map, const char *gid_map, struct error *err)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)pid);
	if (file_put(AT_FDCWD, path, uid_map, err) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/gid_map", (int)pid);
	if (file_put(AT_FDCWD, path, gid_map, err) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? error_errno(err, "open %s", path) : fd;
}

int userns_make(const char *uid_map, const char *gid_map, struct error *err)
{
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	int fd;

	if (pid < 0)
		return error_errno(err, "make a user namespace");
	if (pid == 0)
		for (;;)
			pause();
	fd = open_mapped(pid, uid_map, gid_map, err);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}
