/*
 * mutate SEED STEPS DIR: changes a tree at random, the same way for the same seed and tree.
 *
 * What a container's workload may do to its files: create, append, overwrite, truncate, rename,
 * hard link, symlink, chmod, chown, xattrs, special files, remove files and whole directories that
 * were in the image, and make them again. Every choice is made from the seed and from sorted
 * listings, and nothing depends on inode numbers or times, so that two kernels end up with the same
 * tree.
 *
 * A directory is only renamed when it was made here: those of a lower layer give EXDEV on an
 * overlay without redirects, as on every engine's own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PATHS_MAX 4096
#define PATH_LEN 512

static uint64_t state;
static unsigned made; /* names made so far */

static uint64_t rnd(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static unsigned below(unsigned n)
{
	return n ? (unsigned)(rnd() % n) : 0;
}

static void die(const char *what, const char *path)
{
	fprintf(stderr, "mutate: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

/* ---- what is there */

struct list {
	char v[PATHS_MAX][PATH_LEN];
	unsigned n;
};

static struct list dirs, files, all;

static void add(struct list *l, const char *path)
{
	if (l->n < PATHS_MAX)
		snprintf(l->v[l->n++], PATH_LEN, "%s", path);
}

static void scan(const char *path)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);

	if (n < 0)
		die("scan", path);
	for (int i = 0; i < n; i++) {
		char sub[PATH_LEN];
		struct stat st;

		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0 &&
		    snprintf(sub, sizeof(sub), "%s/%s", path, names[i]->d_name) < PATH_LEN &&
		    lstat(sub, &st) == 0) {
			add(&all, sub);
			if (S_ISDIR(st.st_mode)) {
				add(&dirs, sub);
				scan(sub);
			} else if (S_ISREG(st.st_mode)) {
				add(&files, sub);
			}
		}
		free(names[i]);
	}
	free(names);
}

static const char *pick(const struct list *l)
{
	return l->n ? l->v[below(l->n)] : NULL;
}

/* A new name, or one of a file that is there (or was: names come back). */
static void new_path(char *to)
{
	const char *old = pick(&all);

	if (old && below(8) == 0) {
		snprintf(to, PATH_LEN, "%s", old);
		return;
	}
	snprintf(to, PATH_LEN, "%.400s/n%u", pick(&dirs), made++ % 97);
}

/* ---- what is done */

/* A step that is not possible (EEXIST, ENOTEMPTY, ...) is none. */
static void tried(int result)
{
	(void)result;
}

static void fill(int fd, unsigned len)
{
	char buf[4096];

	while (len) {
		unsigned n = len < sizeof(buf) ? len : (unsigned)sizeof(buf);

		for (unsigned i = 0; i < n; i += 8) {
			uint64_t v = rnd();

			memcpy(buf + i, &v, n - i < 8 ? n - i : 8);
		}
		if (write(fd, buf, n) != (ssize_t)n)
			die("write", "");
		len -= n;
	}
}

static unsigned some_size(void)
{
	static const unsigned sizes[] = {0, 1, 7, 4095, 4096, 4097, 20000, 300000};

	return sizes[below(sizeof(sizes) / sizeof(sizes[0]))];
}

static void write_file(const char *path, int flags)
{
	/* A fifo is opened without waiting for who reads it. */
	int fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | flags, 0644);
	struct stat st;

	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		if (!(flags & O_APPEND) && !(flags & O_TRUNC) && st.st_size > 0)
			lseek(fd, (off_t)below((unsigned)st.st_size), SEEK_SET);
		fill(fd, some_size());
	}
	close(fd);
}

static void make_new(void)
{
	char path[PATH_LEN], target[64];

	new_path(path);
	switch (below(9)) {
	case 0:
	case 1:
		mkdir(path, below(2) ? 0755 : 0700);
		break;
	case 2:
		snprintf(target, sizeof(target), "../t%u", below(50));
		tried(symlink(target, path));
		break;
	case 3:
		tried(mkfifo(path, 0640));
		break;
	case 4:
		tried(mknod(path, S_IFCHR | 0600, makedev(1, 3 + below(6))));
		break;
	case 5:
		tried(mknod(path, S_IFSOCK | 0600, 0));
		break;
	default:
		write_file(path, O_CREAT | O_EXCL);
	}
}

static void remove_tree(const char *path)
{
	struct dirent **names;
	int n;

	if (unlink(path) == 0 || rmdir(path) == 0)
		return;
	n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char sub[PATH_LEN];

		if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0 &&
		    snprintf(sub, sizeof(sub), "%s/%s", path, names[i]->d_name) < PATH_LEN)
			remove_tree(sub);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	rmdir(path);
}

/* Away with a directory, and the same name again as something else. */
static void remove_and_remake(void)
{
	const char *d = pick(&dirs);
	char path[PATH_LEN];

	if (!d || strcmp(d, dirs.v[0]) == 0)
		return;
	snprintf(path, sizeof(path), "%s", d);
	remove_tree(path);
	switch (below(4)) {
	case 0:
		mkdir(path, 0711);
		break;
	case 1:
		if (mkdir(path, 0755) == 0) {
			char sub[PATH_LEN];

			snprintf(sub, sizeof(sub), "%.500s/again", path);
			write_file(sub, O_CREAT | O_EXCL);
		}
		break;
	case 2:
		write_file(path, O_CREAT | O_EXCL);
		break;
	}
}

static void rename_one(void)
{
	const char *from = pick(&all);
	char to[PATH_LEN], old[PATH_LEN];
	struct stat st;

	if (!from || lstat(from, &st) < 0)
		return;
	snprintf(old, sizeof(old), "%s", from);
	new_path(to);
	/* made here: "n" and a number */
	if (S_ISDIR(st.st_mode) && strrchr(old, '/')[1] != 'n')
		return;
	rename(old, to);
}

static void change_xattr(const char *path)
{
	char name[32];

	snprintf(name, sizeof(name), "user.x%u", below(4));
	if (below(3) == 0)
		lremovexattr(path, name);
	else
		lsetxattr(path, name, "0123456789abcdef", below(16), 0);
}

static void step(void)
{
	const char *f = pick(&files), *a = pick(&all);
	char path[PATH_LEN];
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};

	switch (below(16)) {
	case 0:
	case 1:
	case 2:
		make_new();
		break;
	case 3:
		if (f)
			write_file(f, O_APPEND);
		break;
	case 4:
		if (f)
			write_file(f, O_TRUNC);
		break;
	case 5:
		if (f)
			write_file(f, 0);
		break;
	case 6:
		if (f)
			tried(truncate(f, (off_t)some_size()));
		break;
	case 7:
	case 8:
		rename_one();
		break;
	case 9:
		new_path(path);
		if (f)
			tried(link(f, path));
		break;
	case 10:
		if (f)
			chmod(f, (mode_t)(below(2) ? 04755 : 0600));
		else if (a)
			chmod(a, 0750);
		break;
	case 11:
		if (a)
			tried(lchown(a, below(3) * 70000, below(3) * 1000));
		break;
	case 12:
		if (f)
			change_xattr(f);
		break;
	case 13:
		if (a && strcmp(a, dirs.v[0]) != 0)
			unlink(a);
		break;
	case 14:
		if (f) {
			ts[1].tv_sec += below(100000);
			utimensat(AT_FDCWD, f, ts, AT_SYMLINK_NOFOLLOW);
		}
		break;
	case 15:
		remove_and_remake();
		break;
	}
}

int main(int argc, char **argv)
{
	unsigned steps;

	if (argc != 4) {
		fprintf(stderr, "usage: mutate SEED STEPS DIR\n");
		return 2;
	}
	state = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15u + 1;
	steps = (unsigned)strtoul(argv[2], NULL, 10);
	umask(022);
	for (unsigned i = 0; i < steps; i++) {
		/* a listing every few steps: so that names that are gone are used, too */
		if (i % 4 == 0) {
			dirs.n = files.n = all.n = 0;
			add(&dirs, argv[3]);
			scan(argv[3]);
		}
		step();
	}
	return 0;
}
