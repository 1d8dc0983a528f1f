/* Changesets from somebody who wants out: refused by the reader, or kept beneath the directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "lib/changeset/reader.h"
#include "lib/changeset/wire.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "tests/unit/changeset.h"
#include "tests/unit/tmpdir.h"

/* root: what is applied to; outside: must stay as it is. */
struct place {
	struct tmpdir *t;
	char root[96], outside[96];
	int fd;
	char *before;
	struct cs_writer w;
	int stream;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	char name[128];
	int fd;

	if (!p || tmpdir_make((void **)&p->t) < 0)
		return -1;
	snprintf(p->root, sizeof(p->root), "%s/root", p->t->path);
	snprintf(p->outside, sizeof(p->outside), "%s/outside", p->t->path);
	if (mkdir(p->root, 0755) < 0 || mkdir(p->outside, 0755) < 0)
		return -1;
	snprintf(name, sizeof(name), "%s/canary", p->outside);
	fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (write(fd, "alive", 5) != 5)
		return -1;
	close(fd);
	p->fd = open(p->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	p->before = manifest(p->outside);
	p->stream = stream_new();
	cs_writer_init(&p->w, p->stream);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	char *after = manifest(p->outside);
	bool same = strcmp(p->before, after) == 0;
	int r;

	free(after);
	free(p->before);
	close(p->fd);
	close(p->stream);
	cs_writer_free(&p->w);
	r = tmpdir_remove((void **)&p->t);
	free(p);
	return same ? r : -1;
}

static void put(struct place *p, struct cs_entry e)
{
	assert_int_equal(cs_put_entry(&p->w, &e, NULL), 0);
}

#define DIR_ENTRY(n, ...) \
	((struct cs_entry){.type = CS_DIR, .name = n, .flags = CS_ATTRS, .mode = 0755, __VA_ARGS__})
#define FILE_ENTRY(n, ...) \
	((struct cs_entry){.type = CS_FILE, .name = n, .mode = 0644, __VA_ARGS__})

/* Ends the stream and applies it. */
static int apply(struct place *p, const struct cs_apply_options *o, struct cs_counts *n,
		 struct error *err)
{
	static const struct cs_apply_options none;

	assert_int_equal(cs_put_end(&p->w, NULL, NULL), 0);
	lseek(p->stream, 0, SEEK_SET);
	return cs_apply(p->stream, p->fd, o ? o : &none, n, err);
}

static void assert_refused(struct place *p, const char *why)
{
	struct error err = ERROR_INIT;

	assert_int_equal(apply(p, NULL, NULL, &err), -1);
	assert_int_equal(err.kind, ERR_PEER);
	if (!strstr(err.msg, why))
		fail_msg("\"%s\" is not about \"%s\"", err.msg, why);
}

static void again(struct place *p)
{
	cs_writer_free(&p->w);
	assert_int_equal(ftruncate(p->stream, 0), 0);
	lseek(p->stream, 0, SEEK_SET);
	cs_writer_init(&p->w, p->stream);
}

static void names_that_lead_elsewhere(void **state)
{
	static const char *const names[] = {"..",	   "a/b",	   "", "/",
					    "/etc/passwd", "../outside/x", "."};
	struct place *p = *state;
	char longer[300];

	memset(longer, 'x', 256);
	longer[256] = '\0';
	for (size_t i = 0; i <= ARRAY_LEN(names); i++) {
		const char *name = i < ARRAY_LEN(names) ? names[i] : longer;
		static const enum cs_type types[] = {CS_FILE, CS_SYMLINK, CS_FIFO, CS_WHITEOUT};

		for (size_t k = 0; k < ARRAY_LEN(types); k++) {
			struct cs_entry e = {.type = types[k], .name = name};

			if (e.type == CS_SYMLINK)
				e.target = "t";
			put(p, e);
			assert_refused(p, "a name");
			again(p);
		}
		put(p, DIR_ENTRY("d"));
		put(p, DIR_ENTRY(name));
		assert_refused(p, strcmp(name, ".") == 0 ? "the top directory" : "a name");
		again(p);
	}
}

/* Byte `at` of the payload of the first record is `with`. */
static void patch(struct place *p, size_t at, unsigned char with)
{
	p->w.buf[8 + WIRE_HEADER + at] = with;
}

static void a_nul_inside_a_name(void **state)
{
	struct place *p = *state;

	put(p, FILE_ENTRY("abc"));
	patch(p, WIRE_FIXED + 1, 0);
	assert_refused(p, "a name");
	again(p);
	put(p, FILE_ENTRY("abc"));
	patch(p, WIRE_FIXED + 3, 'x');
	assert_refused(p, "a name");
}

static void numbers_that_cannot_be(void **state)
{
	static const struct {
		struct cs_entry e;
		const char *why;
	} cases[] = {
		{{.type = CS_FILE, .name = "f", .mode = S_IFCHR | 0644}, "a mode"},
		{{.type = CS_FILE, .name = "f", .uid = (uid_t)-1}, "an owner"},
		{{.type = CS_FILE, .name = "f", .gid = (gid_t)-1}, "an owner"},
		{{.type = CS_FILE, .name = "f", .mtime = {.tv_nsec = 1000000000}}, "a time"},
		{{.type = CS_FILE, .name = "f", .size = UINT64_MAX}, "a size"},
		{{.type = CS_FIFO, .name = "f", .size = 1}, "a size"},
		{{.type = CS_FIFO, .name = "f", .major = 1}, "a device number"},
		{{.type = CS_CHAR, .name = "f", .major = 0x1000}, "a device number"},
		{{.type = CS_FILE, .name = "f", .flags = CS_OPAQUE}, "flags"},
		{{.type = CS_DIR, .name = "f", .flags = 4}, "flags"},
		{{.type = CS_FILE, .name = "f", .target = "x"}, "a target"},
		{{.type = CS_SYMLINK, .name = "f"}, "a target"},
		{{.type = CS_SYMLINK, .name = "f", .target = ""}, "a target"},
		{{.type = CS_FILE, .name = "f", .id = 2}, "an id"},
		{{.type = CS_DIR, .name = "f", .id = 1}, "an id"},
		{{.type = CS_LINK, .name = "f", .id = 1}, "unknown id"},
		{{.type = CS_LINK, .name = "f", .id = 0}, "unknown id"},
		{{.type = 0, .name = "f"}, "unknown type"},
		{{.type = 99, .name = "f"}, "unknown type"},
	};
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		put(p, cases[i].e);
		assert_refused(p, cases[i].why);
		again(p);
	}
}

static void data_out_of_order_or_beyond_the_size(void **state)
{
	struct place *p = *state;

	put(p, FILE_ENTRY("f", .size = 10));
	cs_put_data(&p->w, 8, "abc", 3, NULL);
	assert_refused(p, "beyond the size");
	again(p);
	put(p, FILE_ENTRY("f", .size = 10));
	cs_put_data(&p->w, 4, "abc", 3, NULL);
	cs_put_data(&p->w, 6, "abc", 3, NULL);
	assert_refused(p, "out of order");
	again(p);
	put(p, FILE_ENTRY("f", .size = 10));
	cs_put_data(&p->w, UINT64_MAX - 1, "abc", 3, NULL);
	assert_refused(p, "beyond the size");
	again(p);
	put(p, DIR_ENTRY("d"));
	cs_put_data(&p->w, 0, "abc", 3, NULL);
	assert_refused(p, "data of no file");
}

static void bounds_of_the_caller(void **state)
{
	struct place *p = *state;
	struct error err = ERROR_INIT;

	put(p, FILE_ENTRY("f", .size = 100));
	cs_put_data(&p->w, 0, "0123456789", 10, NULL);
	assert_int_equal(apply(p, &(struct cs_apply_options){.max_bytes = 9}, NULL, &err), -1);
	assert_non_null(strstr(err.msg, "more data than is allowed"));
	again(p);
	for (int i = 0; i < 5; i++)
		put(p, FILE_ENTRY("f"));
	assert_int_equal(apply(p, &(struct cs_apply_options){.max_entries = 4}, NULL, &err), -1);
	assert_non_null(strstr(err.msg, "more entries than are allowed"));
}

static void a_size_without_data_takes_no_space(void **state)
{
	struct place *p = *state;
	struct error err = ERROR_INIT;
	struct stat st;

	put(p, FILE_ENTRY("f", .size = (uint64_t)1 << 40));
	assert_int_equal(apply(p, NULL, NULL, &err), 0);
	assert_int_equal(fstatat(p->fd, "f", &st, 0), 0);
	assert_int_equal(st.st_blocks, 0);
	again(p);
	put(p, FILE_ENTRY("g", .size = INT64_MAX));
	assert_int_equal(apply(p, NULL, NULL, &err), -1);
	assert_string_equal(err.msg, "g: set the size to 9223372036854775807: File too large");
}

static void ends_that_are_none(void **state)
{
	struct place *p = *state;

	put(p, DIR_ENTRY("d"));
	assert_refused(p, "inside a directory");
	again(p);
	cs_put_leave(&p->w, NULL);
	assert_refused(p, "a wrong leave");
	again(p);
	put(p, DIR_ENTRY("."));
	cs_put_leave(&p->w, NULL);
	assert_refused(p, "a wrong leave");
	again(p);
	put(p, FILE_ENTRY("f"));
	p->w.records++;
	assert_refused(p, "counts other records");
	again(p);
	memcpy(p->w.buf, "HUSKCS99", 8);
	assert_refused(p, "does not begin");
}

static void a_stream_that_stands_still(void **state)
{
	static const struct timeval bound = {.tv_usec = 20000};
	static const struct cs_apply_options none;
	struct place *p = *state;
	struct error err = ERROR_INIT;
	int s[2];

	for (int nonblock = 0; nonblock < 2; nonblock++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
		setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof(bound));
		set_nonblock(s[0], nonblock);
		assert_int_equal(write(s[1], "HUSKCS01", 8), 8);
		assert_int_equal(cs_apply(s[0], p->fd, &none, NULL, &err), -1);
		assert_int_equal(err.kind, ERR_TIMEOUT);
		assert_string_equal(err.msg, "changeset: stands still after 0 records");
		close(s[0]);
		close(s[1]);
	}
}

static void a_receiver_that_stands_still(void **state)
{
	static const struct timeval bound = {.tv_usec = 20000};
	static const char data[65536];
	struct error err = ERROR_INIT;
	struct cs_writer w;
	int s[2], r = 0;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &bound, sizeof(bound));
	cs_writer_init(&w, s[0]);
	assert_int_equal(cs_put_entry(&w, &FILE_ENTRY("f", .size = INT64_MAX), NULL), 0);
	for (uint64_t i = 0; r == 0 && i < 4096; i++)
		r = cs_put_data(&w, i * sizeof(data), data, sizeof(data), &err);
	assert_int_equal(r, -1);
	assert_string_equal(err.msg, "write the changeset: Connection timed out");
	cs_writer_free(&w);
	close(s[0]);
	close(s[1]);
}

static void deeper_than_allowed(void **state)
{
	struct place *p = *state;

	for (int i = 0; i <= CS_DEPTH_MAX; i++)
		put(p, DIR_ENTRY("d"));
	assert_refused(p, "too deep");
}

static void attributes_beyond_the_bounds(void **state)
{
	static struct cs_xattr many[CS_XATTRS_MAX + 1];
	static char value[CS_XATTR_BYTES_MAX];
	struct cs_xattr large = {.name = "user.x", .value = value, .len = sizeof(value)};
	struct place *p = *state;

	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = (struct cs_xattr){.name = "user.x", .value = "", .len = 0};
	put(p, FILE_ENTRY("f", .xattrs = many, .n_xattrs = ARRAY_LEN(many)));
	assert_refused(p, "too many extended attributes");
	again(p);
	put(p, FILE_ENTRY("f", .xattrs = &large, .n_xattrs = 1));
	assert_refused(p, "too large");
	again(p);
	large.len = 10;
	put(p, FILE_ENTRY("f", .xattrs = &large, .n_xattrs = 1));
	patch(p, WIRE_FIXED + 2 + 4, 200);
	assert_refused(p, "cut off");
}

/* What an overlay on the host would believe: never set, and never taken away. */
static void attributes_of_an_overlay(void **state)
{
	static const struct cs_xattr lies[] = {
		{.name = "trusted.overlay.redirect", .value = "/../outside", .len = 11},
		{.name = "trusted.overlay.metacopy", .value = "", .len = 0},
		{.name = "trusted.overlay.opaque", .value = "y", .len = 1},
		{.name = "trusted.mine", .value = "1", .len = 1}};
	struct place *p = *state;
	struct error err = ERROR_INIT;
	struct cs_counts n;
	char path[128], names[256];

	for (int round = 0; round < 2; round++) {
		put(p, DIR_ENTRY("d", .xattrs = lies, .n_xattrs = 4));
		cs_put_leave(&p->w, NULL);
		put(p, FILE_ENTRY("f", .xattrs = lies, .n_xattrs = 4));
		put(p, ((struct cs_entry){
			       .type = CS_FIFO, .name = "p", .xattrs = lies, .n_xattrs = 4}));
		if (apply(p, NULL, &n, &err) < 0)
			fail_msg("%s", err.msg);
		assert_int_equal(n.refused, round == 0 ? 3 : 2);
		assert_int_equal(n.changed, round == 0 ? 3 : 0);
		again(p);
	}
	for (const char *name = "dfp"; *name; name++) {
		snprintf(path, sizeof(path), "%s/%c", p->root, *name);
		assert_int_equal(llistxattr(path, names, sizeof(names)), sizeof("trusted.mine"));
		assert_string_equal(names, "trusted.mine");
	}
	snprintf(path, sizeof(path), "%s/d", p->root);
	assert_int_equal(setxattr(path, "trusted.overlay.origin", "o", 1, 0), 0);
	put(p, DIR_ENTRY("d", .uid = 9));
	cs_put_leave(&p->w, NULL);
	assert_int_equal(apply(p, NULL, &n, &err), 0);
	assert_int_equal(getxattr(path, "trusted.overlay.origin", names, 1), 1);
	assert_int_equal(getxattr(path, "trusted.mine", names, 1), -1);
}

/* A file that gets its content under a name in another directory has its own attributes only. */
static void a_nameless_entry_inherits_nothing(void **state)
{
	static const unsigned char acl[] = {2,	  0,	0,    0, 1,    0,    7,	   0,	 0xff,
					    0xff, 0xff, 0xff, 2, 0,    7,    0,	   77,	 0,
					    0,	  0,	4,    0, 0,    0,    0xff, 0xff, 0xff,
					    0xff, 16,	0,    7, 0,    0xff, 0xff, 0xff, 0xff,
					    32,	  0,	0,    0, 0xff, 0xff, 0xff, 0xff};
	char *paths[] = {TEXT("d/a"), TEXT("d/b")};
	const struct cs_link_group group = {.ino = 5, .paths = paths, .n = 2};
	struct cs_apply_options o = {.links = &group, .n_links = 1};
	struct place *p = *state;
	struct error err = ERROR_INIT;
	char path[128], names[256];
	struct stat a, b;

	assert_int_equal(mkdirat(p->fd, "d", 0755), 0);
	assert_int_equal(mknodat(p->fd, "d/a", S_IFREG | 0600, 0), 0);
	assert_int_equal(linkat(p->fd, "d/a", p->fd, "d/b", 0), 0);
	snprintf(path, sizeof(path), "%s/d", p->root);
	assert_int_equal(setxattr(path, "system.posix_acl_default", acl, sizeof(acl), 0), 0);
	put(p, FILE_ENTRY("n", .flags = CS_NAMELESS, .id = 1, .origin = 5, .size = 3));
	cs_put_data(&p->w, 0, "new", 3, NULL);
	if (apply(p, &o, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	snprintf(path, sizeof(path), "%s/d/a", p->root);
	assert_int_equal(llistxattr(path, names, sizeof(names)), 0);
	assert_int_equal(fstatat(p->fd, "d/a", &a, 0), 0);
	assert_int_equal(fstatat(p->fd, "d/b", &b, 0), 0);
	assert_int_equal(a.st_size, 3);
	assert_int_equal(a.st_mode & 07777, 0644);
	assert_int_equal(a.st_ino, b.st_ino);
}

/* A link planted where a directory is named is replaced, or the way there is refused. */
static void links_are_never_followed(void **state)
{
	struct place *p = *state;
	struct error err = ERROR_INIT;
	struct cs_counts n;
	struct stat st;

	put(p, (struct cs_entry){.type = CS_SYMLINK, .name = "d", .target = "../outside"});
	put(p, (struct cs_entry){.type = CS_DIR, .name = "d"});
	put(p, FILE_ENTRY("canary", .size = 0));
	put(p, (struct cs_entry){.type = CS_WHITEOUT, .name = "canary"});
	cs_put_leave(&p->w, NULL);
	if (apply(p, NULL, &n, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(n.refused, 1);
	again(p);
	put(p, ((struct cs_entry){
		       .type = CS_DIR, .name = "d", .flags = CS_ATTRS | CS_OPAQUE, .mode = 0755}));
	put(p, FILE_ENTRY("canary", .size = 0));
	cs_put_leave(&p->w, NULL);
	put(p, (struct cs_entry){.type = CS_SYMLINK, .name = "f", .target = "../outside/canary"});
	put(p, ((struct cs_entry){.type = CS_FILE, .name = "f", .mode = 0777, .uid = 77}));
	put(p, (struct cs_entry){
		       .type = CS_SYMLINK, .name = "l", .target = "../outside/canary", .uid = 5});
	put(p, (struct cs_entry){.type = CS_SYMLINK, .name = "w", .target = "../outside"});
	put(p, (struct cs_entry){.type = CS_WHITEOUT, .name = "w"});
	if (apply(p, NULL, &n, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(fstatat(p->fd, "d", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(fstatat(p->fd, "f", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
}

static void devices_only_where_allowed(void **state)
{
	struct place *p = *state;
	struct cs_apply_options o = {.mknod = true};
	struct cs_counts n;

	for (int allowed = 0; allowed < 2; allowed++) {
		again(p);
		put(p, (struct cs_entry){
			       .type = CS_CHAR, .name = "mem", .major = 1, .minor = 1, .id = 1});
		put(p, (struct cs_entry){.type = CS_LINK, .name = "mem2", .id = 1});
		put(p, (struct cs_entry){.type = CS_BLOCK, .name = "sda", .major = 8});
		put(p, (struct cs_entry){.type = CS_CHAR, .name = "whiteout"});
		assert_int_equal(apply(p, allowed ? &o : NULL, &n, NULL), 0);
		assert_int_equal(n.refused, allowed ? 1 : 4);
		assert_int_equal(faccessat(p->fd, "mem2", F_OK, 0), allowed ? 0 : -1);
		assert_int_equal(faccessat(p->fd, "whiteout", F_OK, 0), -1);
	}
}

static void names_of_temporary_files_are_refused(void **state)
{
	struct place *p = *state;
	struct cs_counts n;

	put(p, DIR_ENTRY(CS_TEMPORARY));
	put(p, FILE_ENTRY("in-it", .id = 1));
	cs_put_leave(&p->w, NULL);
	put(p, (struct cs_entry){.type = CS_LINK, .name = "to-it", .id = 1});
	put(p, FILE_ENTRY(CS_TEMPORARY, .id = 2));
	put(p, FILE_ENTRY("f", .id = 3));
	put(p, (struct cs_entry){.type = CS_LINK, .name = "g", .id = 3});
	assert_int_equal(apply(p, NULL, &n, NULL), 0);
	assert_int_equal(n.refused, 3);
	assert_int_equal(faccessat(p->fd, CS_TEMPORARY, F_OK, 0), -1);
	assert_int_equal(faccessat(p->fd, "g", F_OK, 0), 0);
}

/* A directory of the image that has the very name. */
static void a_temporary_name_that_is_taken(void **state)
{
	struct place *p = *state;
	struct error err = ERROR_INIT;

	mkdirat(p->fd, CS_TEMPORARY, 0755);
	mkdirat(p->fd, CS_TEMPORARY "/sub", 0755);
	mkdirat(p->fd, "f", 0755);
	put(p, FILE_ENTRY("f"));
	if (apply(p, NULL, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(faccessat(p->fd, CS_TEMPORARY, F_OK, 0), -1);
}

static void the_same_name_again(void **state)
{
	struct place *p = *state;
	struct error err = ERROR_INIT;
	struct stat st;

	put(p, FILE_ENTRY("f", .id = 1, .size = 3));
	cs_put_data(&p->w, 0, "one", 3, NULL);
	put(p, DIR_ENTRY("f"));
	put(p, FILE_ENTRY("f"));
	cs_put_leave(&p->w, NULL);
	put(p, FILE_ENTRY("f", .size = 3));
	cs_put_data(&p->w, 0, "two", 3, NULL);
	put(p, (struct cs_entry){.type = CS_WHITEOUT, .name = "f"});
	put(p, (struct cs_entry){.type = CS_FIFO, .name = "f"});
	if (apply(p, NULL, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(fstatat(p->fd, "f", &st, 0), 0);
	assert_true(S_ISFIFO(st.st_mode));
	/* The file of an id is not whatever has its name now. */
	again(p);
	put(p, FILE_ENTRY("f", .id = 1, .size = 3));
	put(p, (struct cs_entry){.type = CS_SYMLINK, .name = "f", .target = "../outside/canary"});
	put(p, (struct cs_entry){.type = CS_LINK, .name = "g", .id = 1});
	assert_int_equal(apply(p, NULL, NULL, &err), -1);
	assert_string_equal(err.msg, "link g to f: it was replaced meanwhile");
}

static void a_link_over_a_directory_on_its_way(void **state)
{
	struct place *p = *state;
	struct error err = ERROR_INIT;

	put(p, DIR_ENTRY("d"));
	put(p, FILE_ENTRY("f", .id = 1));
	cs_put_leave(&p->w, NULL);
	put(p, (struct cs_entry){.type = CS_SYMLINK, .name = "d", .target = "../outside"});
	put(p, (struct cs_entry){.type = CS_LINK, .name = "g", .id = 1});
	assert_int_equal(apply(p, NULL, NULL, &err), -1);
	assert_string_equal(err.msg, "link g to d/f: Too many levels of symbolic links");
}

/* A million entries: time and little memory. */
static void a_million_entries(void **state)
{
	struct place *p = *state;
	struct cs_reader *r;
	struct cs_entry e;
	uint64_t n = 0;

	for (int i = 0; i < 1000000; i++)
		put(p, (struct cs_entry){.type = CS_WHITEOUT, .name = "nothing"});
	cs_put_end(&p->w, NULL, NULL);
	lseek(p->stream, 0, SEEK_SET);
	r = cs_reader_new(p->stream, 0, 0);
	while (cs_next(r, &e, NULL) > 0)
		n++;
	cs_reader_free(r);
	assert_int_equal(n, 1000000);
}

/* ---- somebody who changes the tree meanwhile */

struct swapper {
	struct place *p;
	atomic_bool stop;
};

/* "d" is a directory, then a link to outside, then the directory again, ... */
static void *swap(void *arg)
{
	struct swapper *s = arg;

	while (!atomic_load(&s->stop))
		syscall(SYS_renameat2, s->p->fd, "d", s->p->fd, "trap", 2 /* RENAME_EXCHANGE */);
	return NULL;
}

static void a_race_with_a_link(void **state)
{
	struct place *p = *state;
	struct swapper s = {.p = p};
	pthread_t thread;

	mkdirat(p->fd, "d", 0755);
	symlinkat(p->outside, p->fd, "trap");
	assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
	for (int i = 0; i < 300; i++) {
		again(p);
		put(p, ((struct cs_entry){.type = CS_DIR,
					  .name = "d",
					  .flags = i % 2 ? CS_ATTRS : CS_ATTRS | CS_OPAQUE,
					  .mode = 0700 + (i & 7)}));
		put(p,
		    ((struct cs_entry){
			    .type = CS_FILE, .name = "canary", .size = 3, .mode = 0666, .id = 1}));
		cs_put_data(&p->w, 0, "bad", 3, NULL);
		put(p, ((struct cs_entry){
			       .type = CS_DIR, .name = "sub", .flags = CS_ATTRS | CS_OPAQUE}));
		put(p, (struct cs_entry){.type = CS_LINK, .name = "link", .id = 1});
		cs_put_leave(&p->w, NULL);
		put(p, (struct cs_entry){.type = CS_WHITEOUT, .name = "canary"});
		cs_put_leave(&p->w, NULL);
		put(p, (struct cs_entry){.type = CS_WHITEOUT, .name = i % 3 ? "x" : "d"});
		apply(p, NULL, NULL, NULL); /* may fail, may not escape */
		mkdirat(p->fd, "d", 0755);
		symlinkat(p->outside, p->fd, "trap");
	}
	atomic_store(&s.stop, true);
	pthread_join(thread, NULL);
	/* The fixture looks at the canary. */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(names_that_lead_elsewhere),
		T(a_nul_inside_a_name),
		T(numbers_that_cannot_be),
		T(data_out_of_order_or_beyond_the_size),
		T(bounds_of_the_caller),
		T(a_size_without_data_takes_no_space),
		T(ends_that_are_none),
		T(a_stream_that_stands_still),
		T(a_receiver_that_stands_still),
		T(deeper_than_allowed),
		T(attributes_beyond_the_bounds),
		T(attributes_of_an_overlay),
		T(a_nameless_entry_inherits_nothing),
		T(links_are_never_followed),
		T(devices_only_where_allowed),
		T(names_of_temporary_files_are_refused),
		T(a_temporary_name_that_is_taken),
		T(the_same_name_again),
		T(a_link_over_a_directory_on_its_way),
		T(a_million_entries),
		T(a_race_with_a_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
