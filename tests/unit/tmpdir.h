/* A temporary directory as a cmocka fixture. */
#ifndef HUSK_TESTS_UNIT_TMPDIR_H
#define HUSK_TESTS_UNIT_TMPDIR_H

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct tmpdir {
	char path[64];
	int fd;
};

static int tmpdir_remove_entry(const char *path, const struct stat *st, int type, struct FTW *f)
{
	(void)st;
	(void)type;
	(void)f;
	return remove(path);
}

static inline int tmpdir_make(void **state)
{
	struct tmpdir *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	snprintf(t->path, sizeof(t->path), "/tmp/husk-unit.XXXXXX");
	if (!mkdtemp(t->path)) {
		free(t);
		return -1;
	}
	t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = t;
	return t->fd < 0 ? -1 : 0;
}

static inline int tmpdir_remove(void **state)
{
	struct tmpdir *t = *state;
	int r;

	close(t->fd);
	r = nftw(t->path, tmpdir_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(t);
	return r;
}

#endif
