/*
 * file.h - small helpers for strings, files and processes that every part needs.
 */
#ifndef HUSK_LIB_FILE_H
#define HUSK_LIB_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"

/* asprintf that never fails: out of memory ends the process with a message. */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *xstrdup(const char *s);
void *xcalloc(size_t n, size_t size);

/* Puts `with` in the place of every byte that could drive a terminal: C0 and C1 (also as UTF-8)
 * control characters and DEL. */
void replace_controls(char *s, char with);

/* The whole file at `path` relative to `dirfd` (or AT_FDCWD), NUL-terminated, malloc'ed. Larger
 * than `max` bytes is an error. */
int file_read(int dirfd, const char *path, size_t max, char **text, size_t *len, struct error *err);

/* Writes all bytes (retrying short writes and EINTR). */
int write_all(int fd, const void *buf, size_t len, struct error *err);

/* Replaces `name` in `dirfd` atomically: temporary file, fsync not asked for, rename. */
int file_write_atomic(int dirfd, const char *name, const char *text, size_t len, mode_t mode,
		      struct error *err);

/* Writes `text` to an existing file such as one in /proc, /sys or a cgroup, with one write. */
int file_put(int dirfd, const char *path, const char *text, struct error *err);

/* pipe2(2), both ends O_CLOEXEC. */
int pipe_make(int *reader, int *writer, struct error *err);

/* True if the directory `path`, relative to `dirfd` (or AT_FDCWD), can be read and has nothing in
 * it. */
bool dir_is_empty(int dirfd, const char *path);

/* Creates `path` and its missing parents. */
int mkdir_p(const char *path, mode_t mode, struct error *err);

/* fstat(2) by the system call of that name. glibc's makes newfstatat(2), which can look at paths
 * too and so is not for a process in a jail. */
struct stat;
int fd_stat(int fd, struct stat *st);

int set_nonblock(int fd, bool on);
int set_cloexec(int fd, bool on);

/* For whoever was told EAGAIN by `fd`: waits for `events`. -1 and errno ETIMEDOUT when the socket's
 * own bound (SO_RCVTIMEO for POLLIN, SO_SNDTIMEO for POLLOUT) is over; without one waits for ever.
 */
int fd_await(int fd, short events);

/* Start time of process `pid` in clock ticks since boot (field 22 of /proc/pid/stat): with the
 * pid it names a process for good. 0 if there is no such process (or it is a zombie: all of its
 * threads have ended, and nothing is open any more). */
uint64_t proc_start_time(pid_t pid);
/* True if the process has gone, or has been killed and has not got to its end yet. */
bool proc_is_ending(pid_t pid);

#endif
