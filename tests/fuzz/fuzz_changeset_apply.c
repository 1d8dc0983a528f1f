/* A changeset of arbitrary bytes, applied to a directory: whatever it says, nothing beside the
 * directory changes, and another changeset can empty it. Runs on a tmpfs of its own, in a mount
 * namespace of its own. First byte: options, and whether the rest is the stream or a list of what
 * to put into one, so that most of them are well-formed. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "lib/changeset/apply.h"
#include "lib/changeset/dirs.h"
#include "lib/changeset/write.h"
#include "lib/cleanup.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define PLACE "/mnt"

static int root = -1, outside = -1;
static struct stat canary, outside_dir;

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int fd;

	(void)argc;
	(void)argv;
	log_setup(-1, LOG_FMT_TEXT, LOG_LVL_ERROR, "fuzz");
	must(unshare(CLONE_NEWNS) == 0, "unshare");
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts");
	must(mount("tmpfs", PLACE, "tmpfs", 0, "size=64m") == 0, "mount " PLACE);
	must(mkdir(PLACE "/root", 0755) == 0 && mkdir(PLACE "/outside", 0755) == 0, "mkdir");
	root = open(PLACE "/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	outside = open(PLACE "/outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(outside, "canary", O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
	must(fd >= 0 && write(fd, "alive", 5) == 5, "canary");
	close(fd);
	must(fstatat(outside, "canary", &canary, 0) == 0 && fstat(outside, &outside_dir) == 0,
	     "stat");
	return 0;
}

static bool untouched(const struct stat *a, const struct stat *b)
{
	return a->st_mode == b->st_mode && a->st_nlink == b->st_nlink && a->st_size == b->st_size &&
	       a->st_uid == b->st_uid && a->st_gid == b->st_gid &&
	       memcmp(&a->st_mtim, &b->st_mtim, sizeof(a->st_mtim)) == 0 &&
	       memcmp(&a->st_ctim, &b->st_ctim, sizeof(a->st_ctim)) == 0;
}

static void look_outside(void)
{
	struct dir_names l;
	struct stat st;

	expect(fstatat(outside, "canary", &st, 0) == 0 && untouched(&canary, &st));
	expect(fstat(outside, &st) == 0 && untouched(&outside_dir, &st));
	expect(dir_names_read(outside, &l, NULL) == 0 && l.n == 1);
	dir_names_free(&l);
}

static void make_empty(void)
{
	struct cs_entry top = {
		.type = CS_DIR, .name = ".", .flags = CS_OPAQUE | CS_ATTRS, .mode = 0755};
	const struct cs_apply_options o = {0};
	cleanup_close int s = memfd_create("fuzz", MFD_CLOEXEC);
	struct error err = ERROR_INIT;
	struct dir_names l;
	struct cs_writer w;

	cs_writer_init(&w, s);
	cs_put_entry(&w, &top, NULL);
	cs_put_end(&w, NULL, NULL);
	cs_writer_free(&w);
	lseek(s, 0, SEEK_SET);
	if (cs_apply(s, root, &o, NULL, &err) < 0)
		fprintf(stderr, "%s\n", err.msg);
	expect(err.msg[0] == '\0');
	expect(dir_names_read(root, &l, NULL) == 0 && l.n == 0);
	dir_names_free(&l);
}

/* Three bytes an operation: what, which name, a number. */
static void build(struct cs_writer *w, const uint8_t *p, size_t n)
{
	static const char *const names[] = {"a",  "b",	 "d",	       "d2",
					    "..", "a/b", CS_TEMPORARY, "canary"};
	static const char *const targets[] = {"../outside", "/mnt/outside",	 ".",
					      "d",	    "../outside/canary", "a"};
	struct cs_xattr x = {.name = "user.x", .value = "1", .len = 1};
	uint64_t id = 0;
	unsigned depth = 0;

	for (; n >= 3; p += 3, n -= 3) {
		struct cs_entry e = {.type = p[0] & 15,
				     .name = names[p[1] % (p[1] & 128 ? 8 : 4)],
				     .mode = p[2] & 0777,
				     .uid = p[2] & 1,
				     .size = p[2] & 31};

		if (e.type == CS_DIR) {
			e.size = 0;
			e.flags = p[2] & 3;
			depth++;
		} else if (e.type == CS_LEAVE) {
			cs_put_leave(w, NULL);
			depth--;
			continue;
		} else if (e.type == CS_DATA) {
			cs_put_data(w, p[1] & 31, "data data data data", p[2] % 19 + 1, NULL);
			continue;
		} else if (e.type == CS_LINK) {
			e.id = id ? p[2] % id + 1 : 1;
		} else if (e.type == CS_SYMLINK) {
			e.target = targets[p[2] % ARRAY_LEN(targets)];
		} else if (e.type == CS_END || e.type == 0) {
			continue;
		}
		if (e.type != CS_FILE)
			e.size = 0;
		if (p[0] & 16 && e.type != CS_DIR && e.type < CS_LINK)
			e.id = ++id;
		e.origin = p[0] & 32 ? 7 : 0;
		e.xattrs = &x;
		e.n_xattrs = p[0] >> 7;
		cs_put_entry(w, &e, NULL);
	}
	while (depth-- > 0 && depth < CS_DEPTH_MAX)
		cs_put_leave(w, NULL);
	cs_put_end(w, NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *paths[] = {(char[]){"a"}, (char[]){"d/a"}, (char[]){"d/b"}, (char[]){"d2/a"},
			 (char[]){"d/d/a"}};
	struct cs_link_group group = {.ino = 7, .paths = paths, .n = ARRAY_LEN(paths)};
	struct cs_apply_options o = {
		.max_entries = 5000, .max_bytes = 1 << 20, .links = &group, .n_links = 1};
	cleanup_close int s = memfd_create("fuzz", MFD_CLOEXEC);
	struct cs_counts n;

	if (size < 1 || s < 0)
		return 0;
	o.in_place = data[0] & 1;
	if (data[0] & 2) {
		struct cs_writer w;

		cs_writer_init(&w, s);
		build(&w, data + 1, size - 1);
		cs_writer_free(&w);
	} else if (write(s, data + 1, size - 1) < 0) {
		return 0;
	}
	lseek(s, 0, SEEK_SET);
	cs_apply(s, root, &o, &n, NULL);
	look_outside();
	if (data[0] & 4) {
		lseek(s, 0, SEEK_SET);
		/* It may fail: a name that comes twice is replaced by itself. */
		cs_apply(s, root, &o, &n, NULL);
		look_outside();
	}
	make_empty();
	look_outside();
	return 0;
}
