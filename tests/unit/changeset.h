/* Changesets in memory, and manifests of trees to compare them by. */
#ifndef HUSK_TESTS_UNIT_CHANGESET_H
#define HUSK_TESTS_UNIT_CHANGESET_H

#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "lib/changeset/apply.h"
#include "lib/changeset/collect.h"
#include "lib/changeset/write.h"

/* A literal where a char * is wanted. */
#define TEXT(s) ((char[]){s})

struct manifest {
	FILE *f;
	bool dir_times;
	struct {
		ino_t ino;
		char path[512];
	} links[4096];
	size_t n_links;
};

static int manifest_by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void manifest_xattrs(struct manifest *m, const char *path)
{
	char names[8192], *v[64] = {0};
	ssize_t len = llistxattr(path, names, sizeof(names));
	size_t n = 0;

	for (char *p = names; len > 0 && p < names + len && n < 64; p += strlen(p) + 1)
		v[n++] = p;
	qsort(v, n, sizeof(*v), manifest_by_name);
	for (size_t i = 0; i < n; i++) {
		unsigned char value[4096];
		ssize_t k = lgetxattr(path, v[i], value, sizeof(value));

		fprintf(m->f, " %s=", v[i]);
		for (ssize_t j = 0; j < k; j++)
			fprintf(m->f, "%02x", value[j]);
	}
}

static uint64_t manifest_content(const char *path)
{
	uint64_t h = 0xcbf29ce484222325u;
	static unsigned char buf[65536];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t off = 0;
	ssize_t n;

	/* Bytes that are not zero, and where they are: a hole and zeros are the same. */
	while (fd >= 0 && (off = lseek(fd, off, SEEK_DATA)) >= 0 &&
	       (n = pread(fd, buf, sizeof(buf), off)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (buf[i])
				h = (h ^ buf[i] ^ (uint64_t)(off + i) << 8) * 0x100000001b3u;
		off += n;
	}
	if (fd >= 0)
		close(fd);
	return h;
}

/* The first path with the file's inode. */
static const char *manifest_link(struct manifest *m, const struct stat *st, const char *rel)
{
	for (size_t i = 0; i < m->n_links; i++)
		if (m->links[i].ino == st->st_ino)
			return m->links[i].path;
	if (m->n_links < 4096) {
		m->links[m->n_links].ino = st->st_ino;
		snprintf(m->links[m->n_links++].path, sizeof(m->links[0].path), "%s", rel);
	}
	return rel;
}

static void manifest_walk(struct manifest *m, const char *root, const char *rel)
{
	char path[4096], target[4096], *names[4096];
	size_t n = 0;
	struct dirent *d;
	struct stat st;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/%s", root, rel);
	if (lstat(path, &st) < 0)
		return;
	fprintf(m->f, "%s %o %u:%u", rel, st.st_mode, st.st_uid, st.st_gid);
	if (!S_ISDIR(st.st_mode) || m->dir_times)
		fprintf(m->f, " %lld.%09ld", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	manifest_xattrs(m, path);
	if (S_ISREG(st.st_mode))
		fprintf(m->f, " %lld %016llx", (long long)st.st_size,
			(unsigned long long)manifest_content(path));
	if (S_ISLNK(st.st_mode)) {
		ssize_t k = readlink(path, target, sizeof(target) - 1);

		fprintf(m->f, " -> %.*s", (int)k, target);
	}
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		fprintf(m->f, " dev %llx", (unsigned long long)st.st_rdev);
	if (!S_ISDIR(st.st_mode) && st.st_nlink > 1)
		fprintf(m->f, " = %s", manifest_link(m, &st, rel));
	fputc('\n', m->f);
	if (!S_ISDIR(st.st_mode) || !(dir = opendir(path)))
		return;
	while ((d = readdir(dir)) && n < 4096)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			names[n++] = strdup(d->d_name);
	closedir(dir);
	qsort(names, n, sizeof(*names), manifest_by_name);
	for (size_t i = 0; i < n; i++) {
		char sub[4096];

		snprintf(sub, sizeof(sub), "%s%s%s", rel, *rel ? "/" : "", names[i]);
		manifest_walk(m, root, sub);
		free(names[i]);
	}
}

/* All that a tree is, as text; malloc'ed. */
static inline char *manifest(const char *root)
{
	static struct manifest m;
	char *text = NULL;
	size_t len = 0;

	m = (struct manifest){.f = open_memstream(&text, &len), .dir_times = true};
	manifest_walk(&m, root, "");
	fclose(m.f);
	return text;
}

static inline bool same_trees(const char *a, const char *b)
{
	char *x = manifest(a), *y = manifest(b);
	bool same = strcmp(x, y) == 0;

	if (!same)
		fprintf(stderr, "--- %s\n%s--- %s\n%s", a, x, b, y);
	free(x);
	free(y);
	return same;
}

/* Runs a shell script; true if it went well. */
static inline bool shell(const char *script)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		execl("/bin/sh", "sh", "-ec", script, (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static inline int stream_new(void)
{
	return memfd_create("changeset", MFD_CLOEXEC);
}

#endif
