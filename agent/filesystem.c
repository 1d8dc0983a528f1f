#include "agent/filesystem.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>

/* The reason that the filesystem gave, if it gave one ("e tmpfs: Bad value for 'size'"). */
static int fs_error(int fs, struct error *err, const char *what)
{
	int saved = errno;
	char text[512];
	ssize_t n = read(fs, text, sizeof(text) - 1);

	errno = saved;
	if (n <= 2)
		return error_errno(err, "%s", what);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return error_errno(err, "%s: %s", what, text + 2);
}

static int set_flag(int fs, const char *name, struct error *err)
{
	return fsconfig(fs, FSCONFIG_SET_FLAG, name, NULL, 0) < 0 ? fs_error(fs, err, name) : 0;
}

static int set_string(int fs, const char *name, const char *value, struct error *err)
{
	return fsconfig(fs, FSCONFIG_SET_STRING, name, value, 0) < 0 ? fs_error(fs, err, name) : 0;
}

static int set_word(int fs, char *word, struct error *err)
{
	char *eq = strchr(word, '=');

	if (!*word)
		return 0;
	if (!eq)
		return set_flag(fs, word, err);
	*eq = '\0';
	return set_string(fs, word, eq + 1, err);
}

/* Flags of mount(2) that are the filesystem's and not the mount's. */
static int set_flags(int fs, unsigned long flags, struct error *err)
{
	static const struct {
		unsigned long flag;
		const char *name;
	} names[] = {{MS_SYNCHRONOUS, "sync"},
		     {MS_DIRSYNC, "dirsync"},
		     {MS_LAZYTIME, "lazytime"},
		     {MS_MANDLOCK, "mand"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if ((flags & names[i].flag) && set_flag(fs, names[i].name, err) < 0)
			return -1;
	return 0;
}

static int set_options(int fs, const struct filesystem *f, struct error *err)
{
	cleanup_free char *data = f->o && f->o->data ? xstrdup(f->o->data) : NULL;
	char *rest = data, *word;

	if (f->readonly && set_flag(fs, "ro", err) < 0)
		return -1;
	if (f->o && set_flags(fs, f->o->flags, err) < 0)
		return -1;
	if (f->mode && set_string(fs, "mode", f->mode, err) < 0)
		return -1;
	while ((word = strsep(&rest, ",")))
		if (set_word(fs, word, err) < 0)
			return -1;
	return 0;
}

int filesystem_make(const struct filesystem *f, struct error *err)
{
	cleanup_close int fs = fsopen(f->type, FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0)
		return error_errno(err, "filesystem type \"%s\"", f->type);
	if (set_string(fs, "source", f->source, err) < 0 || set_options(fs, f, err) < 0)
		return -1;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fs_error(fs, err, f->type);
	fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? fs_error(fs, err, f->type) : fd;
}

int filesystem_attach(int fd, int at, struct error *err)
{
	if (move_mount(fd, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_errno(err, "move the mount to its place");
	return 0;
}
