/* Trees of directories: what is in the image, limits, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/tree/crc.c" /* both ways to compute it */

#include "tests/unit/treedir.h"

#include <errno.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "lib/cleanup.h"
#include "lib/log.h"
#include "vmm/tree/erofs.h"

static int dir_of(void **state)
{
	return ((struct tmpdir *)*state)->fd;
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

/* ---- looking at the image */

/* The inode that `path` leads to; the entry's nid is found by reading directories one entry after
 * the other, not by the search that is tested. */
static bool entry(const uint8_t *meta, uint64_t dir, const char *name, size_t len, uint64_t *nid)
{
	struct erofs_inode in;
	uint64_t body = dir * EROFS_SLOT + sizeof(in);

	memcpy(&in, meta + dir * EROFS_SLOT, sizeof(in));
	assert_true(S_ISDIR(in.mode));
	if (in.xattr_count)
		body += sizeof(struct erofs_xattr_head) + (in.xattr_count - 1u) * 4;
	for (uint64_t at = 0; at < in.size; at += TREE_BLOCK) {
		bool tail = EROFS_FORMAT_LAYOUT(in.format) == EROFS_INLINE &&
			    at / TREE_BLOCK == in.size / TREE_BLOCK;
		const uint8_t *p = meta + (tail ? body : (uint64_t)in.u * TREE_BLOCK + at);
		uint64_t end = in.size - at < TREE_BLOCK ? in.size - at : TREE_BLOCK;
		const struct erofs_dirent *e = (const void *)p;
		unsigned n = e->name / sizeof(*e);

		for (unsigned i = 0; i < n; i++) {
			uint64_t stop = i + 1 < n ? e[i + 1].name : end;

			if (strnlen((const char *)p + e[i].name, stop - e[i].name) == len &&
			    memcmp(p + e[i].name, name, len) == 0) {
				*nid = e[i].nid;
				return true;
			}
		}
	}
	return false;
}

static bool find_inode(const struct tree *t, const char *path, struct erofs_inode *in,
		       const uint8_t **body)
{
	const uint8_t *meta;
	struct erofs_super super;
	uint64_t len, nid;

	meta = tree_meta(t, &len);
	memcpy(&super, meta + EROFS_SUPER_AT, sizeof(super));
	nid = super.root_nid;
	while (*path) {
		size_t n = strcspn(path, "/");

		if (!entry(meta, nid, path, n, &nid))
			return false;
		path += n + (path[n] == '/');
	}
	memcpy(in, meta + nid * EROFS_SLOT, sizeof(*in));
	if (body)
		*body = meta + nid * EROFS_SLOT + sizeof(*in);
	return true;
}

static struct erofs_inode inode(const struct tree *t, const char *path)
{
	struct erofs_inode in;

	if (!find_inode(t, path, &in, NULL))
		fail_msg("%s is not in the image", path);
	return in;
}

/* ---- tests */

static void checksum_by_table_and_by_instruction(void **state)
{
	uint8_t data[1000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i);
	assert_int_equal(~crc32c(~0u, "123456789", 9), 0xe3069283);
	assert_int_equal(~by_table(~0u, "123456789", 9), 0xe3069283);
	if (!have_instruction())
		skip();
	for (size_t n = 0; n < 40; n++)
		assert_int_equal(by_table(7, data + n, sizeof(data) - 3 * n),
				 by_instruction(7, data + n, sizeof(data) - 3 * n));
}

static void superblock_has_its_checksum_and_a_uuid(void **state)
{
	int fd = tree_of_dir(dir_of(state), false, false, NULL);
	struct tree *t = opened(fd);
	uint8_t block[TREE_BLOCK];
	struct erofs_super s;
	static const uint8_t null[16];
	uint64_t len;

	memcpy(block, tree_meta(t, &len), sizeof(block));
	memcpy(&s, block + EROFS_SUPER_AT, sizeof(s));
	assert_int_equal(s.magic, EROFS_MAGIC);
	assert_int_equal(s.blocks * (uint64_t)TREE_BLOCK, tree_image_bytes(t));
	assert_memory_not_equal(s.uuid, null, sizeof(null));
	memset(block + EROFS_SUPER_AT + offsetof(struct erofs_super, checksum), 0, 4);
	assert_int_equal(crc32c(~0u, block + EROFS_SUPER_AT, sizeof(block) - EROFS_SUPER_AT),
			 s.checksum);
	tree_free(t);
	close(fd);
}

static void same_directory_gives_the_same_bytes(void **state)
{
	int dir = dir_of(state), a, b;
	struct stat sa, sb;
	uint8_t *pa, *pb;

	put_pattern(dir, "b", 5000, 1);
	put_pattern(dir, "a", 1, 2);
	assert_int_equal(mkdirat(dir, "d", 0755), 0);
	assert_int_equal(linkat(dir, "a", dir, "d/c", 0), 0);
	a = tree_of_dir(dir, false, false, NULL);
	b = tree_of_dir(dir, false, false, NULL);
	assert_int_equal(fstat(a, &sa) | fstat(b, &sb), 0);
	assert_int_equal(sa.st_size, sb.st_size);
	pa = mmap(NULL, (size_t)sa.st_size, PROT_READ, MAP_SHARED, a, 0);
	pb = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, b, 0);
	assert_memory_equal(pa, pb, (size_t)sa.st_size);
	munmap(pa, (size_t)sa.st_size);
	munmap(pb, (size_t)sb.st_size);
	close(a);
	close(b);
}

static void every_name_is_found(void **state)
{
	int dir = dir_of(state), fd;
	char longest[256], name[32];
	const char *const odd[] = {"new\nline", "\xff\xfe", "!", "-", "...", "a", "ab", longest};
	struct tree *t;
	uint32_t file;

	memset(longest, 'n', 255);
	longest[255] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		put_pattern(dir, odd[i], i + 1, 0);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%u-entry", i * 7919 % 3001);
		put_file(dir, name, "x", 1);
	}
	fd = tree_of_dir(dir, false, false, NULL);
	t = opened(fd);
	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		assert_int_equal(inode(t, odd[i]).size, i + 1);
		assert_int_equal(tree_lookup(t, odd[i], &file), 1);
	}
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%u-entry", i * 7919 % 3001);
		assert_int_equal(tree_lookup(t, name, &file), 1);
		snprintf(name, sizeof(name), "%u-entrx", i);
		assert_int_equal(tree_lookup(t, name, &file), 0);
	}
	assert_int_equal(tree_lookup(t, "a/b", &file), 0);
	assert_int_equal(tree_lookup(t, "", &file), 0);
	tree_free(t);
	close(fd);
}

static void metadata_are_the_files_own(void **state)
{
	int dir = dir_of(state), fd;
	struct timespec old[2] = {{0, 0}, {-2147483640, 123456789}};
	const uint8_t *body;
	struct erofs_inode in;
	struct tree *t;

	put_file(dir, "f", "", 0);
	assert_int_equal(fchmodat(dir, "f", 04751, 0), 0);
	assert_int_equal(utimensat(dir, "f", old, 0), 0);
	assert_int_equal(symlinkat("where/to", dir, "l"), 0);
	assert_int_equal(mkfifoat(dir, "p", 0600), 0);
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_int_equal(mkdirat(dir, "d/e", 0700), 0);
	fd = tree_of_dir(dir, false, false, NULL);
	t = opened(fd);
	in = inode(t, "f");
	assert_int_equal(in.mode, S_IFREG | 04751);
	assert_int_equal(in.size, 0);
	assert_int_equal(in.mtime, -2147483640);
	assert_int_equal(in.mtime_nsec, 123456789);
	assert_true(find_inode(t, "l", &in, &body));
	assert_int_equal(in.size, 8);
	assert_memory_equal(body, "where/to", 8);
	assert_int_equal(inode(t, "p").mode, S_IFIFO | 0600);
	assert_int_equal(inode(t, "d").nlink, 3);
	assert_int_equal(inode(t, "").nlink, 3);
	tree_free(t);
	close(fd);
}

static void devices_and_owners_with_large_numbers(void **state)
{
	int dir = dir_of(state), fd;
	struct erofs_inode in;
	struct tree *t;

	need_root();
	assert_int_equal(mknodat(dir, "c", S_IFCHR | 0600, makedev(0xabc, 0x12345)), 0);
	assert_int_equal(fchownat(dir, "c", 70000, 4000000000u, 0), 0);
	fd = tree_of_dir(dir, false, false, NULL);
	t = opened(fd);
	in = inode(t, "c");
	assert_int_equal(in.u, 0x45 | 0xabc << 8 | 0x12300 << 12);
	assert_int_equal(in.uid, 70000);
	assert_int_equal(in.gid, 4000000000u);
	tree_free(t);
	close(fd);
}

struct seen_links {
	unsigned n;
	uint64_t ino[8];
	char path[8][64];
};

static int see_link(void *arg, uint64_t ino, const char *path)
{
	struct seen_links *s = arg;

	assert_true(s->n < ARRAY_LEN(s->ino));
	s->ino[s->n] = ino;
	snprintf(s->path[s->n++], sizeof(s->path[0]), "%s", path);
	return 0;
}

static void links_are_counted_as_found_and_listed(void **state)
{
	int dir = dir_of(state), fd;
	struct seen_links s = {0};
	struct tree_stats st;
	struct tree *t;

	assert_int_equal(mkdirat(dir, "in", 0755) | mkdirat(dir, "in/d", 0755), 0);
	put_pattern(dir, "outside", 100, 1);
	assert_int_equal(linkat(dir, "outside", dir, "in/one", 0), 0);
	put_pattern(dir, "in/a", 100, 2);
	assert_int_equal(linkat(dir, "in/a", dir, "in/b", 0), 0);
	assert_int_equal(linkat(dir, "in/a", dir, "in/d/c", 0), 0);
	dir = openat(dir, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = tree_of_dir(dir, false, false, &st);
	t = opened(fd);
	assert_int_equal(inode(t, "a").nlink, 3);
	assert_int_equal(inode(t, "a").ino, inode(t, "d/c").ino);
	assert_int_equal(inode(t, "one").nlink, 1);
	assert_int_equal(st.hard_links, 1);
	assert_int_equal(tree_hard_links(t), 1);
	assert_int_equal(tree_each_link(t, see_link, &s), 0);
	assert_int_equal(s.n, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(s.ino[i], s.ino[0]);
	assert_true(strcmp(s.path[0], "d/c") == 0 || strcmp(s.path[2], "d/c") == 0);
	tree_free(t);
	close(fd);
	close(dir);
}

static void holes_take_no_room(void **state)
{
	int dir = dir_of(state), fd, f;
	struct tree_stats st;
	struct tree *t;

	f = openat(dir, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(f, INT64_C(10) << 30), 0);
	assert_int_equal(pwrite(f, "x", 1, INT64_C(5) << 30), 1);
	close(f);
	f = openat(dir, "hole", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(ftruncate(f, INT64_C(1) << 30), 0);
	close(f);
	fd = tree_of_dir(dir, false, false, &st);
	t = opened(fd);
	assert_int_equal(EROFS_FORMAT_LAYOUT(inode(t, "sparse").format), EROFS_CHUNKED);
	assert_int_equal(inode(t, "sparse").size, INT64_C(10) << 30);
	assert_true(st.meta_bytes < 65536);
	assert_true(st.image_bytes < 8 << 20);
	tree_free(t);
	close(fd);
}

static void metadata_are_small(void **state)
{
	int dir = dir_of(state), fd;
	struct tree_stats st;
	char name[64];

	for (unsigned d = 0; d < 100; d++) {
		snprintf(name, sizeof(name), "dir-%u", d);
		assert_int_equal(mkdirat(dir, name, 0755), 0);
		for (unsigned i = 0; i < 20; i++) {
			snprintf(name, sizeof(name), "dir-%u/file-%u", d, i);
			put_file(dir, name, "content", 7);
		}
	}
	fd = tree_of_dir(dir, false, false, &st);
	assert_int_equal(st.members, 2100);
	assert_true(st.tree_bytes - st.name_bytes <= 150 * st.members);
	close(fd);
}

/* The value of xattr `name` of an index, or NULL. */
static const uint8_t *xattr_of(const struct tree *t, const char *path, uint8_t index,
			       const char *name, size_t *len)
{
	struct erofs_inode in;
	const uint8_t *p, *end;

	assert_true(find_inode(t, path, &in, &p));
	if (!in.xattr_count)
		return NULL;
	end = p + sizeof(struct erofs_xattr_head) + (in.xattr_count - 1u) * 4;
	for (p += sizeof(struct erofs_xattr_head); p < end;) {
		struct erofs_xattr e;

		memcpy(&e, p, sizeof(e));
		*len = e.value_len;
		if (e.index == index && e.name_len == strlen(name) &&
		    memcmp(p + sizeof(e), name, e.name_len) == 0)
			return p + sizeof(e) + e.name_len;
		p += (sizeof(e) + e.name_len + e.value_len + 3) & ~UINT64_C(3);
	}
	return NULL;
}

static void set_xattr(int dir, const char *file, const char *name, const char *value)
{
	int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fsetxattr(fd, name, value, strlen(value), 0), 0);
	close(fd);
}

static void xattrs_are_kept_but_not_the_overlays(void **state)
{
	int dir = dir_of(state), fd;
	struct tree *t;
	size_t len = 0;

	need_root();
	put_file(dir, "f", "", 0);
	assert_int_equal(mkdirat(dir, "d", 0755), 0);
	set_xattr(dir, "f", "user.long", "0123456789abcdef");
	set_xattr(dir, "f", "trusted.mine", "t");
	set_xattr(dir, "f", "security.mine", "");
	set_xattr(dir, "d", "trusted.overlay.opaque", "y");
	set_xattr(dir, "d", "trusted.overlay.origin", "o");
	fd = tree_of_dir(dir, false, false, NULL);
	t = opened(fd);
	assert_memory_equal(xattr_of(t, "f", EROFS_XATTR_USER, "long", &len), "0123456789abcdef",
			    16);
	assert_int_equal(len, 16);
	assert_non_null(xattr_of(t, "f", EROFS_XATTR_TRUSTED, "mine", &len));
	assert_non_null(xattr_of(t, "f", EROFS_XATTR_SECURITY, "mine", &len));
	assert_int_equal(len, 0);
	assert_null(xattr_of(t, "d", EROFS_XATTR_TRUSTED, "overlay.opaque", &len));
	tree_free(t);
	close(fd);
	fd = tree_of_dir(dir, true, false, NULL);
	t = opened(fd);
	assert_non_null(xattr_of(t, "d", EROFS_XATTR_TRUSTED, "overlay.opaque", &len));
	assert_null(xattr_of(t, "d", EROFS_XATTR_TRUSTED, "overlay.origin", &len));
	tree_free(t);
	close(fd);
}

static void whiteouts_are_kept_in_an_upper_layer_only(void **state)
{
	int dir = dir_of(state), fd;
	struct erofs_inode in;
	struct tree *t;

	need_root();
	assert_int_equal(mknodat(dir, "gone", S_IFCHR, 0), 0);
	assert_int_equal(linkat(dir, "gone", dir, "gone-too", 0), 0);
	fd = tree_of_dir(dir, true, false, NULL);
	t = opened(fd);
	assert_int_equal(inode(t, "gone").u, 0);
	assert_int_equal(tree_hard_links(t), 0);
	tree_free(t);
	close(fd);
	fd = tree_of_dir(dir, false, false, NULL);
	t = opened(fd);
	assert_false(find_inode(t, "gone", &in, NULL));
	tree_free(t);
	close(fd);
}

static void build_fails(int dir, bool upper, enum error_kind kind, const char *has)
{
	struct tree_build_options o = {.upper = upper};
	struct error err = ERROR_INIT;
	int fd = memfd_create("tree", MFD_CLOEXEC);

	assert_int_equal(tree_build(dir, &o, fd, NULL, &err), -1);
	assert_int_equal(err.kind, kind);
	if (!strstr(err.msg, has))
		fail_msg("%s", err.msg);
	close(fd);
}

static void redirects_are_refused_by_name(void **state)
{
	int dir = dir_of(state);

	need_root();
	assert_int_equal(mkdirat(dir, "a", 0755) | mkdirat(dir, "a/moved", 0755), 0);
	set_xattr(dir, "a/moved", "trusted.overlay.redirect", "/b");
	build_fails(dir, true, ERR_UNSUPPORTED, "a/moved: xattr trusted.overlay.redirect");
}

#define LEVEL "a-level-of-the-deep"

/* Replaces *fd by what `name` is from there. */
static void move_to(int *fd, const char *name)
{
	int next = openat(*fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(next >= 0);
	close(*fd);
	*fd = next;
}

/* Levels below one another, for a time: nftw() wants short paths. */
static void with_levels(int dir, unsigned levels, void (*fn)(int dir))
{
	int at = dup(dir);

	for (unsigned i = 0; i < levels; i++) {
		assert_int_equal(mkdirat(at, LEVEL, 0755), 0);
		move_to(&at, LEVEL);
	}
	put_pattern(at, "bottom", 5000, 9);
	fn(dir);
	assert_int_equal(unlinkat(at, "bottom", 0), 0);
	for (unsigned i = 0; i < levels; i++) {
		move_to(&at, "..");
		assert_int_equal(unlinkat(at, LEVEL, AT_REMOVEDIR), 0);
	}
	close(at);
}

static void depth_fails(int dir)
{
	build_fails(dir, false, ERR_UNSUPPORTED, "TREE_DEPTH_MAX");
}

static void bottom_is_read(int dir)
{
	int fd = tree_of_dir(dir, false, false, NULL);
	uint8_t *want = pattern(5000, 9), got[8192];
	struct block_source *s = source_of(fd, dir);
	struct tree *t = opened(fd);
	uint64_t off;

	tree_meta(t, &off);
	assert_int_equal(read_at(s, got, sizeof(got), off), 0);
	assert_memory_equal(got, want, 5000);
	s->ops->destroy(s);
	tree_free(t);
	free(want);
	close(fd);
}

static void paths_longer_than_path_max(void **state)
{
	with_levels(dir_of(state), 600, bottom_is_read);
}

static void too_deep_is_refused(void **state)
{
	with_levels(dir_of(state), 1025, depth_fails);
}

/* ---- damage */

static void open_fails(const uint8_t *p, size_t len, const char *has)
{
	struct error err = ERROR_INIT;
	int fd = memfd_create("tree", MFD_CLOEXEC);

	assert_int_equal(write(fd, p, len), (ssize_t)len);
	assert_null(tree_open(fd, true, &err));
	assert_int_equal(err.kind, ERR_INVALID);
	if (!strstr(err.msg, has))
		fail_msg("%s", err.msg);
}

static void what_is_no_tree_is_refused(void **state)
{
	int fd;
	struct stat st;
	uint8_t *p;

	put_pattern(dir_of(state), "f", 10000, 1);
	fd = tree_of_dir(dir_of(state), false, false, NULL);
	assert_int_equal(fstat(fd, &st), 0);
	p = malloc((size_t)st.st_size + 1);
	assert_int_equal(pread(fd, p, (size_t)st.st_size, 0), st.st_size);
	open_fails(p, 0, "too small");
	open_fails(p, 100, "too small");
	open_fails(p, (size_t)st.st_size - 1, "cut off");
	open_fails(p, (size_t)st.st_size + 1, "longer");
	p[st.st_size - 1] ^= 1;
	open_fails(p, (size_t)st.st_size, "checksum");
	p[8]++;
	open_fails(p, (size_t)st.st_size, "version");
	p[0]++;
	open_fails(p, (size_t)st.st_size, "not a tree");
	free(p);
	close(fd);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, tmpdir_make, tmpdir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum_by_table_and_by_instruction),
		T(superblock_has_its_checksum_and_a_uuid),
		T(same_directory_gives_the_same_bytes),
		T(every_name_is_found),
		T(metadata_are_the_files_own),
		T(devices_and_owners_with_large_numbers),
		T(links_are_counted_as_found_and_listed),
		T(holes_take_no_room),
		T(metadata_are_small),
		T(xattrs_are_kept_but_not_the_overlays),
		T(whiteouts_are_kept_in_an_upper_layer_only),
		T(redirects_are_refused_by_name),
		T(paths_longer_than_path_max),
		T(too_deep_is_refused),
		T(what_is_no_tree_is_refused),
	};

	log_setup(2, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
