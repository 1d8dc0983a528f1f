#include "agent/exec.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define PASSWD_MAX (4u << 20)

const char *exec_reason(int errnum)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s", strerror(errnum));
	if (text[0] >= 'A' && text[0] <= 'Z' && !(text[1] >= 'A' && text[1] <= 'Z'))
		text[0] = (char)(text[0] - 'A' + 'a');
	return text;
}

/* ---- environment */

static size_t name_len(const char *setting)
{
	return strcspn(setting, "=");
}

static bool same_name(const char *a, const char *b)
{
	size_t n = name_len(a);

	return n == name_len(b) && strncmp(a, b, n) == 0;
}

char **exec_environment(char *const *env, size_t n, const char *home)
{
	char **out = xcalloc(n + 2, sizeof(*out));
	size_t k = 0;
	bool has_home = false;

	for (size_t i = 0; i < n; i++) {
		bool later = false;

		for (size_t j = i + 1; j < n && !later; j++)
			later = same_name(env[i], env[j]);
		if (later || strcmp(env[i], "HOME=") == 0)
			continue;
		has_home |= strncmp(env[i], "HOME=", 5) == 0;
		out[k++] = xstrdup(env[i]);
	}
	if (!has_home)
		out[k++] = xasprintf("HOME=%s", home);
	return out;
}

const char *exec_getenv(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

/* Field i (from 0) of a line of fields with colons between them; *len is its length. */
static const char *passwd_field(const char *line, size_t line_len, int i, size_t *len)
{
	const char *end = line + line_len, *p = line;

	for (; i > 0; i--) {
		p = memchr(p, ':', (size_t)(end - p));
		if (!p)
			return NULL;
		p++;
	}
	*len = 0;
	while (p + *len < end && p[*len] != ':')
		(*len)++;
	return p;
}

char *exec_home(const char *passwd, uint32_t uid)
{
	char want[16];

	snprintf(want, sizeof(want), "%u", uid);
	while (*passwd) {
		size_t line = strcspn(passwd, "\n"), len = 0;
		const char *f = passwd_field(passwd, line, 2, &len);

		if (f && len == strlen(want) && strncmp(f, want, len) == 0) {
			f = passwd_field(passwd, line, 5, &len);
			if (f && len > 0) {
				char *home = xcalloc(len + 1, 1);

				memcpy(home, f, len);
				return home;
			}
			break;
		}
		passwd += line + (passwd[line] == '\n');
	}
	return xstrdup("/");
}

char *exec_home_of(uint32_t uid)
{
	/* An image decides what this is: it must not be able to make us wait. */
	cleanup_close int fd = open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	cleanup_free char *text = NULL;
	struct stat st;
	ssize_t n = 0, k;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > PASSWD_MAX)
		return xstrdup("/");
	text = xcalloc((size_t)st.st_size + 1, 1);
	while (n < st.st_size && (k = read(fd, text + n, (size_t)(st.st_size - n))) > 0)
		n += k;
	return exec_home(text, uid);
}

/* ---- the command */

/* 0, or the errno for which `path` cannot be executed. *op: the call that said so. */
static int check_executable(const char *path, const char **op)
{
	struct stat st;

	*op = "stat";
	if (stat(path, &st) < 0)
		return errno;
	*op = NULL;
	if (S_ISDIR(st.st_mode))
		return EACCES;
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
		return 0;
	/* EPERM: a seccomp filter that does not know the call; then the mode decides */
	if (errno != ENOSYS && errno != EPERM)
		return errno;
	return st.st_mode & 0111 ? 0 : EACCES;
}

static enum error_kind kind_of(int errnum)
{
	return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ENAMETOOLONG
		       ? ERR_CMD_NOT_FOUND
		       : ERR_CMD_NOT_EXEC;
}

static char *lookup_path(const char *command, struct error *err)
{
	const char *op;
	int e = check_executable(command, &op);

	if (e == 0)
		return xstrdup(command);
	if (op)
		error_kind(err, kind_of(e), "exec: \"%s\": %s %s: %s", command, op, command,
			   exec_reason(e));
	else
		error_kind(err, kind_of(e), "exec: \"%s\": %s", command, exec_reason(e));
	if (err)
		err->errnum = e;
	return NULL;
}

char *exec_lookup(const char *command, const char *path, struct error *err)
{
	const char *dir = path ? path : EXEC_PATH_DEFAULT;

	if (strchr(command, '/'))
		return lookup_path(command, err);
	for (;;) {
		size_t n = strcspn(dir, ":");
		const char *op;

		/* An empty entry would be the working directory, which is no place to search:
		 * runc refuses what it finds there. */
		if (n > 0 && dir[0] == '/') {
			cleanup_free char *try = xasprintf("%.*s/%s", (int)n, dir, command);

			if (command[0] && check_executable(try, &op) == 0)
				return steal_ptr(&try);
		}
		if (dir[n] == '\0')
			break;
		dir += n + 1;
	}
	error_kind(err, ERR_CMD_NOT_FOUND, "exec: \"%s\": executable file not found in $PATH",
		   command);
	return NULL;
}

int exec_now(const char *path, char *const *argv, char *const *env, struct error *err)
{
	int e;

	execve(path, argv, env);
	e = errno;
	error_kind(err, kind_of(e), "exec %s: %s", path, exec_reason(e));
	if (err)
		err->errnum = e;
	return -1;
}

/* ---- user and directory */

int exec_set_user(const struct oci_user *u, struct error *err)
{
	cleanup_free gid_t *groups = xcalloc(u->n_additional_gids, sizeof(*groups));

	for (size_t i = 0; i < u->n_additional_gids; i++)
		groups[i] = u->additional_gids[i];
	/* A user namespace may have given up setgroups; that matters if there is one to set. */
	if (setgroups(u->n_additional_gids, groups) < 0 &&
	    (errno != EPERM || u->n_additional_gids > 0))
		return error_errno(err, "process.user.additionalGids: setgroups");
	if (setresgid(u->gid, u->gid, u->gid) < 0)
		return error_errno(err, "process.user.gid: setgid %u", u->gid);
	if (setresuid(u->uid, u->uid, u->uid) < 0)
		return error_errno(err, "process.user.uid: setuid %u", u->uid);
	return 0;
}

int exec_chdir(const char *cwd, bool *retry, struct error *err)
{
	char now[PATH_MAX];

	if (chdir(cwd) < 0) {
		if (retry && (errno == EACCES || errno == EPERM)) {
			*retry = true;
			return 0;
		}
		return error_set(err, "chdir to cwd (\"%s\") set in config.json failed: %s", cwd,
				 exec_reason(errno));
	}
	/* The kernel says "(unreachable)..." of a directory that is not below our root. */
	if (!getcwd(now, sizeof(now)) && errno != ENAMETOOLONG && errno != ENOENT)
		return error_errno(err, "getcwd");
	if (now[0] != '/')
		return error_set(err, "current working directory is outside of the container's "
				      "root");
	return 0;
}
