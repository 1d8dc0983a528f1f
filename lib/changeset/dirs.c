#include "lib/changeset/dirs.h"
#include "lib/cleanup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>

#define OPEN_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int dirs_open(int dirfd, const char *name, bool one_fs)
{
	struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_NO_XDEV};

	if (!one_fs)
		return openat(dirfd, name, OPEN_FLAGS);
	return (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
}

int dirs_push(struct dirs *d, int fd, struct stat *st, struct error *err)
{
	struct stat own;

	if (!st)
		st = &own;
	if (fstat(fd, st) < 0) {
		error_errno(err, "stat a directory");
		close(fd);
		return -1;
	}
	if (d->n == d->room) {
		size_t room = d->room ? d->room * 2 : 16;
		struct dirs_level *l = realloc(d->level, room * sizeof(*l));

		if (!l) {
			close(fd);
			return error_set(err, "out of memory");
		}
		d->level = l;
		d->room = room;
	}
	if (d->n >= DIRS_OPEN)
		close_fd(&d->level[d->n - DIRS_OPEN].fd);
	d->level[d->n++] = (struct dirs_level){.fd = fd, .dev = st->st_dev, .ino = st->st_ino};
	return 0;
}

int dirs_pop(struct dirs *d, struct error *err)
{
	struct dirs_level *low = &d->level[d->n - 1], *up = low - 1;

	if (d->n > 1 && up->fd < 0) {
		cleanup_close int fd = openat(low->fd, "..", OPEN_FLAGS);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0)
			return error_errno(err, "open the parent directory");
		if (st.st_dev != up->dev || st.st_ino != up->ino)
			return error_set(err, "a directory was moved meanwhile");
		up->fd = steal_fd(&fd);
	}
	close_fd(&low->fd);
	d->n--;
	return 0;
}

int dirs_fd(const struct dirs *d)
{
	return d->level[d->n - 1].fd;
}

void dirs_free(struct dirs *d)
{
	for (size_t i = 0; i < d->n; i++)
		close_fd(&d->level[i].fd);
	free(d->level);
	*d = (struct dirs){0};
}

struct kernel_dirent {
	uint64_t ino;
	int64_t off;
	unsigned short reclen;
	unsigned char type;
	char name[];
};

/* One name to the end of `text`: inode number, type, the name with its NUL. */
struct packed_name {
	uint64_t ino;
	unsigned char type;
} __attribute__((packed));

struct text {
	char *p;
	size_t len, room, names;
};

static int add(struct text *t, const struct kernel_dirent *e, struct error *err)
{
	struct packed_name head = {.ino = e->ino, .type = e->type};
	size_t name = strlen(e->name) + 1;

	if (strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0)
		return 0;
	if (t->room - t->len < sizeof(head) + name) {
		size_t room = t->room * 2 + 4096;
		char *p = realloc(t->p, room);

		if (!p)
			return error_set(err, "out of memory");
		t->p = p;
		t->room = room;
	}
	memcpy(t->p + t->len, &head, sizeof(head));
	memcpy(t->p + t->len + sizeof(head), e->name, name);
	t->len += sizeof(head) + name;
	t->names++;
	return 0;
}

static int read_all(int fd, struct text *t, struct error *err)
{
	_Alignas(struct kernel_dirent) char buf[32768];

	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "rewind a directory");
	for (;;) {
		long n = syscall(SYS_getdents64, fd, buf, sizeof(buf));

		if (n < 0)
			return error_errno(err, "read a directory");
		if (n == 0)
			return 0;
		for (long at = 0; at < n;) {
			const struct kernel_dirent *e = (const void *)(buf + at);

			if (add(t, e, err) < 0)
				return -1;
			at += e->reclen;
		}
	}
}

int dir_names_read(int fd, struct dir_names *l, struct error *err)
{
	struct text t = {0};

	*l = (struct dir_names){0};
	if (read_all(fd, &t, err) < 0) {
		free(t.p);
		return -1;
	}
	l->text = t.p;
	l->v = calloc(t.names ? t.names : 1, sizeof(*l->v));
	if (!l->v) {
		dir_names_free(l);
		return error_set(err, "out of memory");
	}
	for (const char *p = t.p; l->n < t.names; l->n++) {
		struct packed_name head;

		memcpy(&head, p, sizeof(head));
		p += sizeof(head);
		l->v[l->n] = (struct dir_name){.ino = head.ino, .type = head.type, .name = p};
		p += strlen(p) + 1;
	}
	return 0;
}

void dir_names_free(struct dir_names *l)
{
	free(l->v);
	free(l->text);
	*l = (struct dir_names){0};
}
