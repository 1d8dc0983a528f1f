/*
 * manifest [-xt] [-e PATH]... DIR: one line for everything in a directory tree, in bytewise order
 * of names: path, type, mode, owner, size, time, links, device, target of a symlink, xattrs and
 * content. Two trees are equal if their manifests are. Needs nothing from the system, so that it
 * can run in a guest.
 *
 *	-x		stay in one file system: what is mounted there is an empty directory
 *	-t		times after 2020 are "recent", whichever they are
 *	-e PATH		leave this path (relative to DIR) and what is beneath it out
 *
 * Other names of the same file show as "=path of the first". The content is a digest of its
 * 4 KiB blocks that are not all zero, each with its number before it: a hole and zeros are equal,
 * and holes are not read. Sizes and link counts of directories belong to the file system and are
 * left out.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BLOCK 4096u
#define EXCLUDED_MAX 64
#define RECENT 1577836800 /* 2020-01-01 */

static void die(const char *what)
{
	fprintf(stderr, "manifest: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *get(void *p, size_t n)
{
	p = realloc(p, n);
	if (!p)
		die("memory");
	return p;
}

/* ---- digest */

/*
 * Two lanes, each of which is a bijection of its state for a given word and of the word for a given
 * state: one word that differs always shows. Fast also where a processor is emulated; nobody here
 * makes collisions on purpose.
 */
struct digest {
	uint64_t a, b;
};

static void digest_add(struct digest *d, uint64_t word)
{
	d->a = (d->a ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	d->a ^= d->a >> 29;
	d->b = (d->b + word) * UINT64_C(0xc2b2ae3d27d4eb4f);
	d->b = d->b << 31 | d->b >> 33;
}

/* Bytes after the last whole word count as a word with zeros behind them. */
static void digest_bytes(struct digest *d, const uint8_t *p, size_t len)
{
	uint64_t word;

	for (; len >= sizeof(word); p += sizeof(word), len -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		digest_add(d, word);
	}
	if (len) {
		word = 0;
		memcpy(&word, p, len);
		digest_add(d, word);
	}
}

/* ---- content */

static bool all_zero(const uint8_t *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void content(const char *name)
{
	int fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	static uint8_t buf[64 * BLOCK];
	struct digest d = {0};
	off_t pos = 0;

	if (fd < 0) {
		printf("(%s)", strerror(errno));
		return;
	}
	for (;;) {
		off_t data = lseek(fd, pos, SEEK_DATA);
		ssize_t n;

		if (data < 0 && errno == ENXIO)
			break;
		if (data > pos)
			pos = data & ~(off_t)(BLOCK - 1);
		n = pread(fd, buf, sizeof(buf), pos);
		if (n < 0) {
			printf("(%s)", strerror(errno));
			close(fd);
			return;
		}
		if (n == 0)
			break;
		for (ssize_t at = 0; at < n; at += BLOCK) {
			size_t len = n - at < (ssize_t)BLOCK ? (size_t)(n - at) : BLOCK;
			uint64_t number = (uint64_t)(pos + at) / BLOCK;

			if (all_zero(buf + at, len))
				continue;
			digest_add(&d, number);
			digest_bytes(&d, buf + at, len);
		}
		pos += n;
	}
	close(fd);
	printf("%016" PRIx64 "%016" PRIx64, d.a, d.b);
}

/* ---- names and xattrs */

static void print_escaped(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c > ' ' && c < 0x7f && c != '\\')
			putchar(c);
		else
			printf("\\x%02x", c);
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void xattrs(const char *name)
{
	static char list[65536], value[65536];
	static const char *names[4096];
	size_t n = 0;
	ssize_t len = llistxattr(name, list, sizeof(list));

	if (len < 0 && errno != EOPNOTSUPP)
		printf(" (xattrs: %s)", strerror(errno));
	for (ssize_t i = 0; i < len && n < 4096; i += (ssize_t)strlen(list + i) + 1)
		names[n++] = list + i;
	if (n)
		qsort(names, n, sizeof(names[0]), by_text);
	for (size_t i = 0; i < n; i++) {
		ssize_t r = lgetxattr(name, names[i], value, sizeof(value));

		putchar(' ');
		print_escaped(names[i], strlen(names[i]));
		putchar('=');
		if (r < 0)
			printf("(%s)", strerror(errno));
		for (ssize_t j = 0; j < r; j++)
			printf("%02x", (unsigned char)value[j]);
	}
}

/* ---- the walk */

/* The names from the root to here; the parts are on the stack of walk(). */
struct path {
	const struct path *up;
	const char *name;
};

static char *path_text(const struct path *p, const char *name)
{
	size_t len = strlen(name) + 1;
	char *text, *at;

	for (const struct path *q = p; q; q = q->up)
		len += strlen(q->name) + 1;
	text = get(NULL, len);
	at = text + len - strlen(name) - 1;
	strcpy(at, name);
	for (; p; p = p->up) {
		*--at = '/';
		at -= strlen(p->name);
		memcpy(at, p->name, strlen(p->name));
	}
	return text;
}

/* Files with several names that were seen. */
static struct seen {
	dev_t dev;
	ino_t ino;
	char *path;
} * seen;
static size_t n_seen, seen_size;

static struct seen *seen_slot(dev_t dev, ino_t ino)
{
	size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (seen_size - 1);

	while (seen[i].path && (seen[i].dev != dev || seen[i].ino != ino))
		i = (i + 1) & (seen_size - 1);
	return &seen[i];
}

/* The path it was seen with before, or NULL. */
static const char *seen_before(const struct stat *st, const char *path)
{
	struct seen *s, *old = seen;

	if (n_seen * 2 >= seen_size) {
		size_t n = seen_size;

		seen_size = n ? n * 2 : 1024;
		seen = get(NULL, seen_size * sizeof(*seen));
		memset(seen, 0, seen_size * sizeof(*seen));
		for (size_t i = 0; i < n; i++)
			if (old[i].path)
				*seen_slot(old[i].dev, old[i].ino) = old[i];
		free(old);
	}
	s = seen_slot(st->st_dev, st->st_ino);
	if (s->path)
		return s->path;
	*s = (struct seen){st->st_dev, st->st_ino, strdup(path)};
	n_seen++;
	return NULL;
}

static char excluded[EXCLUDED_MAX][4096];
static size_t n_excluded;
static bool one_fs, recent_alike;

static char type_letter(mode_t mode)
{
	return S_ISREG(mode)	? 'f'
	       : S_ISDIR(mode)	? 'd'
	       : S_ISLNK(mode)	? 'l'
	       : S_ISCHR(mode)	? 'c'
	       : S_ISBLK(mode)	? 'b'
	       : S_ISFIFO(mode) ? 'p'
				: 's';
}

/* `name` is in the working directory. */
static void line(const char *path, const char *name, const struct stat *st)
{
	char target[BLOCK + 1];
	const char *first;
	ssize_t n;

	print_escaped(path, strlen(path));
	printf("\t%c %04o %u:%u", type_letter(st->st_mode), st->st_mode & 07777,
	       (unsigned)st->st_uid, (unsigned)st->st_gid);
	if (!S_ISDIR(st->st_mode)) {
		first = st->st_nlink > 1 ? seen_before(st, path) : NULL;
		printf(" links %lu", (unsigned long)st->st_nlink);
		if (first) {
			printf(" =");
			print_escaped(first, strlen(first));
			putchar('\n');
			return;
		}
	}
	if (recent_alike && st->st_mtim.tv_sec > RECENT)
		fputs(" recent", stdout);
	else
		printf(" %lld.%09ld", (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		printf(" %u:%u", major(st->st_rdev), minor(st->st_rdev));
	if (S_ISLNK(st->st_mode)) {
		n = readlink(name, target, sizeof(target));
		printf(" -> ");
		print_escaped(target, n > 0 ? (size_t)n : 0);
	}
	if (S_ISREG(st->st_mode)) {
		printf(" %lld ", (long long)st->st_size);
		content(name);
	}
	xattrs(name);
	putchar('\n');
}

static char **names_of(int fd, size_t *n)
{
	DIR *d = fdopendir(dup(fd));
	const struct dirent *e;
	char **names = NULL;

	*n = 0;
	if (!d)
		die("fdopendir");
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if ((*n & (*n - 1)) == 0)
			names = get(names, (*n ? *n * 2 : 1) * sizeof(*names));
		names[(*n)++] = strdup(e->d_name);
	}
	closedir(d);
	if (*n)
		qsort(names, *n, sizeof(*names), by_text);
	return names;
}

static bool is_excluded(const char *path)
{
	for (size_t i = 0; i < n_excluded; i++)
		if (strcmp(path, excluded[i]) == 0)
			return true;
	return false;
}

/* The members of directory `fd`, which is the working directory. */
static void walk(int fd, dev_t dev, const struct path *here)
{
	size_t n;
	char **names = names_of(fd, &n);

	for (size_t i = 0; i < n; i++) {
		char *path = path_text(here, names[i]);
		struct path down = {here, names[i]};
		struct stat st;

		if (is_excluded(path)) {
			free(path);
			continue;
		}
		if (lstat(names[i], &st) < 0)
			die(path);
		line(path, names[i], &st);
		if (S_ISDIR(st.st_mode) && (!one_fs || st.st_dev == dev)) {
			int sub = open(names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (sub < 0 || fchdir(sub) < 0)
				die(path);
			walk(sub, dev, &down);
			close(sub);
			if (fchdir(fd) < 0)
				die(path);
		}
		free(path);
	}
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

static void exclude(const char *path)
{
	if (n_excluded == EXCLUDED_MAX || strlen(path) >= sizeof(excluded[0])) {
		fputs("manifest: -e: too many or too long\n", stderr);
		exit(2);
	}
	strcpy(excluded[n_excluded++], path);
}

int main(int argc, char **argv)
{
	struct rlimit lim;
	struct stat st;
	int c, fd;

	while ((c = getopt(argc, argv, "xte:")) >= 0) {
		if (c == 'x')
			one_fs = true;
		else if (c == 't')
			recent_alike = true;
		else if (c == 'e')
			exclude(optarg);
		else
			return 2;
	}
	if (argc - optind != 1) {
		fputs("usage: manifest [-xt] [-e PATH]... DIR\n", stderr);
		return 2;
	}
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) { /* one for each level */
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	fd = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || fchdir(fd) < 0)
		die(argv[optind]);
	line(".", ".", &st);
	walk(fd, st.st_dev, NULL);
	for (size_t i = 0; i < seen_size; i++)
		free(seen[i].path);
	free(seen);
	return fflush(stdout) || ferror(stdout);
}
