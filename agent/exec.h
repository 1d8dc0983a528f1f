/*
 * exec.h - the last steps before execve: user, working directory, environment, command.
 */
#ifndef HUSK_AGENT_EXEC_H
#define HUSK_AGENT_EXEC_H

#include "agent/container.h"

#define EXEC_PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* strerror(3) with a small letter at its head, as engines expect it in errors about a command: they
 * look for "no such file or directory" to choose an exit code. In a static buffer. */
const char *exec_reason(int errnum);

/* The environment for execve, malloc'ed, NULL behind the last: the last of several settings of a
 * variable holds; HOME is added (or filled, if empty) from `home`. Pure. */
char **exec_environment(char *const *env, size_t n, const char *home);
/* The value of a variable, or NULL. */
const char *exec_getenv(char *const *env, const char *name);

/* The home directory of `uid` as a passwd file has it: malloc'ed, "/" if it has none. Pure. */
char *exec_home(const char *passwd, uint32_t uid);
/* The same from the container's /etc/passwd. */
char *exec_home_of(uint32_t uid);

/* Finds the command as the calling process would (effective ids): the path for execve, malloc'ed.
 * runc's words: `exec: "x": executable file not found in $PATH` and `exec: "/x": stat /x: no such
 * file or directory` (ERR_CMD_NOT_FOUND), `exec: "/x": permission denied` (ERR_CMD_NOT_EXEC; a
 * directory, too). */
char *exec_lookup(const char *command, const char *path, struct error *err);

/* setgroups, setgid, setuid. */
int exec_set_user(const struct oci_user *u, struct error *err);

/* chdir, and a look at where it led: what lies outside the container's root is refused. With
 * `retry` not NULL a refusal for want of permission is no error, but sets *retry: to be tried again
 * as the container's user. */
int exec_chdir(const char *cwd, bool *retry, struct error *err);

/* execve; returns only on failure. */
int exec_now(const char *path, char *const *argv, char *const *env, struct error *err);

#endif
