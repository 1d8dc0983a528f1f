/* What kind of thing a rootfs directory is: mountinfo, overlay options, identities; and, where the
 * test may mount (in a mount namespace of its own), real overlays and devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/mountinfo.h"
#include "shim/rootfs.h"
#include "tests/unit/tmpdir.h"

/* ---- mountinfo */

#define LINES                                                                                     \
	"24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"                                \
	"36 24 0:39 /sub /mnt/a\\040b\\134c rw master:7 propagate_from:2 - overlay over\\011lay " \
	"rw,lowerdir=/x\\054y\n"                                                                  \
	"37 36 0:40 / /mnt/deep rw - tmpfs  rw\n"                                                 \
	"39 24 0:42 / /mapped rw,relatime,idmapped - tmpfs none rw\n"                             \
	"38 24 0:41 / /last rw - tmpfs none rw"

static void a_mount_is_found_by_its_number(void **state)
{
	struct mount_entry m;

	(void)state;
	assert_int_equal(mountinfo_find(LINES, strlen(LINES), 36, &m, NULL), 1);
	assert_string_equal(m.root, "/sub");
	assert_string_equal(m.point, "/mnt/a b\\c");
	assert_string_equal(m.type, "overlay");
	assert_string_equal(m.source, "over\tlay");
	assert_string_equal(m.options, "rw,lowerdir=/x\\054y");
	assert_true(m.has_children);
	mount_entry_free(&m);
	assert_int_equal(mountinfo_find(LINES, strlen(LINES), 24, &m, NULL), 1);
	assert_int_equal(m.major, 254);
	assert_string_equal(m.source, "/dev/vda");
	assert_false(m.idmapped);
	mount_entry_free(&m);
	assert_int_equal(mountinfo_find(LINES, strlen(LINES), 38, &m, NULL), 1);
	assert_false(m.has_children);
	mount_entry_free(&m);
	assert_int_equal(mountinfo_find(LINES, strlen(LINES), 39, &m, NULL), 1);
	assert_true(m.idmapped);
	mount_entry_free(&m);
	assert_int_equal(mountinfo_find(LINES, strlen(LINES), 99, &m, NULL), 0);
}

static void lines_that_are_none(void **state)
{
	static const char *const bad[] = {
		"1",
		"1 2",
		"1 2 3 / / rw - ext4 /dev/vda rw",
		"1 2 3:x / / rw - ext4 /dev/vda rw",
		"1 2 3:4 / / rw shared:1",
		"1 2 3:4 / / rw -",
		"1 2 3:4 / / rw - ext4",
		"1 2 99999999999999999999999:4 / / rw - ext4 a rw",
	};
	struct error err = ERROR_INIT;
	struct mount_entry m;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int r = mountinfo_find(bad[i], strlen(bad[i]), 1, &m, &err);

		if (r > 0)
			fail_msg("taken: %s", bad[i]);
		mount_entry_free(&m);
	}
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(mountinfo_find("1 2 3:4 / /\0 rw - a b rw", 25, 1, &m, &err), -1);
}

/* ---- overlay options */

static void layers_are_told_apart(void **state)
{
	struct overlay_layers l;

	(void)state;
	/* "\:" is a colon of a name; mountinfo writes the backslash as \134, a comma as \054 */
	assert_true(overlay_parse("rw,lowerdir=/a:/b\\134:x:/c\\134\\054d\\040e,upperdir=/u\\134:p,"
				  "workdir=/w,uuid=on",
				  &l));
	assert_int_equal(l.n, 3);
	assert_string_equal(l.lowers[0], "/a");
	assert_string_equal(l.lowers[1], "/b:x");
	assert_string_equal(l.lowers[2], "/c,d e");
	assert_string_equal(l.upper, "/u:p");
	overlay_layers_free(&l);
	/* one by one, as fsconfig(2) gives them: taken as they are */
	assert_true(overlay_parse("ro,lowerdir+=/a:b,lowerdir+=/c", &l));
	assert_int_equal(l.n, 2);
	assert_string_equal(l.lowers[0], "/a:b");
	assert_null(l.upper);
	overlay_layers_free(&l);
}

static void what_is_more_than_layers_is_left_to_the_kernel(void **state)
{
	static const char *const bad[] = {
		"rw",
		"rw,lowerdir=",
		"rw,lowerdir=a:/b",
		"rw,lowerdir=/a:l/XYZ",
		"rw,lowerdir=/a::/data",
		"rw,lowerdir=/a\\134",
		"rw,lowerdir=/a,upperdir=u",
		"rw,lowerdir=/a,upperdir=",
		"rw,lowerdir+=/a,datadir+=/d",
		"rw,lowerdir=/a,userxattr",
		"rw,lowerdir=/a,metacopy=on",
		"rw,lowerdir=/a,redirect_dir=on",
	};
	struct overlay_layers l;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (overlay_parse(bad[i], &l))
			fail_msg("taken: %s", bad[i]);
	assert_true(
		overlay_parse("rw,lowerdir=/a,metacopy=off,redirect_dir=nofollow,xino=off", &l));
	overlay_layers_free(&l);
}

static void options_by_name(void **state)
{
	(void)state;
	assert_true(mount_has_option("ro,device=/dev/x", "ro", NULL));
	assert_true(mount_has_option("ro,device=/dev/x", "device", NULL));
	assert_true(mount_has_option("ro,a=b", "a", "b"));
	assert_false(mount_has_option("ro,a=b", "a", "c"));
	assert_false(mount_has_option("errors=remount-ro", "ro", NULL));
}

/* ---- directories */

static char *sub(const struct tmpdir *t, const char *name)
{
	return xasprintf("%s/%s", t->path, name);
}

static void make_dirs(const struct tmpdir *t, const char *const *names)
{
	for (; *names; names++)
		assert_int_equal(mkdirat(t->fd, *names, 0755), 0);
}

static void put(const struct tmpdir *t, const char *path, const char *text)
{
	cleanup_close int fd = openat(t->fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write_all(fd, text, strlen(text), NULL), 0);
}

static struct rootfs open_rootfs(const char *path, bool may_change)
{
	struct error err = ERROR_INIT;
	struct rootfs r;

	if (rootfs_open(path, may_change, &r, &err) < 0)
		fail_msg("%s", err.msg);
	return r;
}

static void build(struct rootfs *r, const char *data)
{
	struct error err = ERROR_INIT;

	if (rootfs_build(r, data, &err) < 0)
		fail_msg("%s", err.msg);
}

static void a_directory_is_one_tree(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "r"), *data = sub(t, "data");
	struct rootfs r;

	make_dirs(t, (const char *const[]){"r", "data", NULL});
	put(t, "r/a", "1");
	r = open_rootfs(path, true);
	assert_int_equal(r.kind, ROOTFS_PLAIN);
	assert_int_equal(r.n_disks, 1);
	assert_string_equal(r.mutable_dir, path);
	assert_null(r.id.upper);
	build(&r, data);
	assert_int_equal(r.n_disks, 1);
	assert_string_equal(r.disks[0].serial, "root");
	assert_string_equal(r.disks[0].type, "erofs");
	assert_false(r.disks[0].stable);
	assert_false(r.index);
	rootfs_free(&r);
	/* a hard link is to be kept */
	assert_int_equal(linkat(t->fd, "r/a", t->fd, "r/b", 0), 0);
	r = open_rootfs(path, false);
	build(&r, data);
	assert_true(r.index);
	rootfs_free(&r);
}

static void no_directory_is_an_error_that_names_it(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "none");
	cleanup_free char *want = xasprintf("open %s: No such file or directory", path);
	struct error err = ERROR_INIT;
	struct rootfs r;

	assert_int_equal(rootfs_open(path, false, &r, &err), -1);
	assert_string_equal(err.msg, want);
}

static struct rootfs_id keep_id(const struct rootfs *r)
{
	struct rootfs_id id = r->id;

	id.path = xstrdup(id.path);
	id.upper = id.upper ? xstrdup(id.upper) : NULL;
	return id;
}

static void a_directory_is_known_again(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "r");
	struct rootfs_id id;
	struct rootfs r;

	make_dirs(t, (const char *const[]){"r", NULL});
	r = open_rootfs(path, false);
	id = keep_id(&r);
	rootfs_free(&r);
	put(t, "r/a", "1");
	assert_true(rootfs_is(&id));
	assert_true(rootfs_may_return(&id));
	/* another one in its place */
	make_dirs(t, (const char *const[]){"other", NULL});
	assert_int_equal(renameat(t->fd, "r", t->fd, "away"), 0);
	assert_int_equal(renameat(t->fd, "other", t->fd, "r"), 0);
	assert_false(rootfs_is(&id));
	assert_false(rootfs_may_return(&id));
	/* none at all */
	assert_int_equal(unlinkat(t->fd, "r", AT_REMOVEDIR), 0);
	assert_false(rootfs_is(&id));
	assert_false(rootfs_may_return(&id));
	rootfs_id_free(&id);
}

static void a_file_system_that_is_not_mounted_may_return(void **state)
{
	const struct tmpdir *t = *state;
	struct rootfs_id id = {.path = sub(t, "disk/r"), .ino = 5, .dev = 0x7777};

	assert_true(rootfs_may_return(&id));
	id.upper = sub(t, "disk/upper");
	assert_true(rootfs_may_return(&id));
	rootfs_id_free(&id);
}

static void a_directory_beneath_the_mount_point_is_not_in_its_place(void **state)
{
	const struct tmpdir *t = *state;
	struct rootfs_id id = {.path = sub(t, "disk"), .ino = 5, .dev = 0x7777};

	make_dirs(t, (const char *const[]){"disk", NULL});
	assert_false(rootfs_is(&id));
	assert_true(rootfs_may_return(&id));
	rootfs_id_free(&id);
}

/* ---- with mounts */

/* Mounts go with the namespace, that is with this program. */
static bool may_mount(void)
{
	static int made;

	if (!made)
		made = unshare(CLONE_NEWNS) == 0 &&
				       mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
			       ? 1
			       : -1;
	return made > 0;
}

static const char *const OVERLAY_DIRS[] = {"l1", "l2", "l2/gone", "u", "w", "m", "data", NULL};

static void mount_overlay(const struct tmpdir *t, const char *more)
{
	cleanup_free char *at = sub(t, "m");
	cleanup_free char *options = xasprintf(
		"lowerdir=%1$s/l2:%1$s/l1,upperdir=%1$s/u,workdir=%1$s/w%2$s", t->path, more);

	if (mount("overlay", at, "overlay", 0, options) < 0)
		fail_msg("mount %s: %s", options, strerror(errno));
}

static void unmount(const struct tmpdir *t, const char *name)
{
	cleanup_free char *at = sub(t, name);

	assert_int_equal(umount2(at, UMOUNT_NOFOLLOW), 0);
}

static void an_overlay_is_chain_and_upper(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "m"), *data = sub(t, "data"), *upper = sub(t, "u");
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, OVERLAY_DIRS);
	put(t, "l1/a", "1");
	put(t, "l2/b", "2");
	mount_overlay(t, "");
	r = open_rootfs(path, false);
	assert_int_equal(r.kind, ROOTFS_OVERLAY);
	assert_string_equal(r.id.upper, upper);
	assert_string_equal(r.mutable_dir, upper);
	/* nothing in the upper directory, and nobody who would put something there */
	assert_int_equal(r.n_disks, 1);
	build(&r, data);
	assert_int_equal(r.kind, ROOTFS_OVERLAY);
	assert_int_equal(r.n_disks, 1);
	assert_true(r.disks[0].stable);
	assert_int_equal(faccessat(r.disks[0].dir, "a", F_OK, 0), 0);
	assert_int_equal(faccessat(r.disks[0].dir, "b", F_OK, 0), 0);
	rootfs_free(&r);
	r = open_rootfs(path, true);
	assert_int_equal(r.n_disks, 2);
	rootfs_free(&r);

	put(t, "m/c", "3");
	r = open_rootfs(path, false);
	assert_int_equal(r.n_disks, 2);
	build(&r, data);
	assert_string_equal(r.disks[0].serial, "upper");
	assert_false(r.disks[0].stable);
	assert_string_equal(r.disks[1].serial, "root");
	assert_int_equal(faccessat(r.disks[0].dir, "c", F_OK, 0), 0);
	assert_int_equal(faccessat(r.disks[1].dir, "c", F_OK, 0), -1);
	rootfs_free(&r);
	unmount(t, "m");
}

static struct stat chain_file(const struct tmpdir *t)
{
	cleanup_free char *path = sub(t, "m"), *data = sub(t, "data");
	struct rootfs r = open_rootfs(path, false);
	struct stat st;

	build(&r, data);
	assert_int_equal(fstat(r.disks[r.n_disks - 1].tree, &st), 0);
	rootfs_free(&r);
	return st;
}

static void a_chain_is_read_once(void **state)
{
	const struct tmpdir *t = *state;
	struct stat first, again, touched;

	if (!may_mount())
		skip();
	make_dirs(t, OVERLAY_DIRS);
	put(t, "l1/a", "1");
	mount_overlay(t, "");
	first = chain_file(t);
	unmount(t, "m");
	mount_overlay(t, "");
	again = chain_file(t);
	assert_int_equal(first.st_ino, again.st_ino);
	unmount(t, "m");
	/* a layer that was written to at its top is another one */
	put(t, "l2/new", "1");
	mount_overlay(t, "");
	touched = chain_file(t);
	assert_int_not_equal(first.st_ino, touched.st_ino);
	unmount(t, "m");
}

static void a_chain_of_one_layer_keeps_its_whiteouts_to_itself(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "m"), *data = sub(t, "data");
	cleanup_free char *options =
		xasprintf("lowerdir=%1$s/l1,upperdir=%1$s/u,workdir=%1$s/w", t->path);
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, OVERLAY_DIRS);
	put(t, "l1/a", "1");
	assert_int_equal(mount("overlay", path, "overlay", 0, options), 0);
	r = open_rootfs(path, false);
	build(&r, data);
	assert_int_equal(r.kind, ROOTFS_OVERLAY);
	assert_int_equal(r.n_disks, 1);
	assert_int_equal(faccessat(r.disks[0].dir, "a", F_OK, 0), 0);
	rootfs_free(&r);
	unmount(t, "m");
}

static void dockers_own_layer_is_not_of_the_chain(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "m"), *data = sub(t, "data"), *link = sub(t, "l/X");
	cleanup_free char *options =
		xasprintf("lowerdir=%1$s/l/X:%1$s/l1,upperdir=%1$s/u,workdir=%1$s/w", t->path);
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, OVERLAY_DIRS);
	make_dirs(t, (const char *const[]){"l", "c-init", "c-init/diff", NULL});
	assert_int_equal(symlink("../c-init/diff", link), 0);
	put(t, "l1/a", "1");
	put(t, "c-init/diff/hosts", "1");
	put(t, "u/x", "1");
	assert_int_equal(mount("overlay", path, "overlay", 0, options), 0);
	r = open_rootfs(path, false);
	assert_int_equal(r.n_disks, 3);
	build(&r, data);
	assert_int_equal(r.n_disks, 3);
	assert_string_equal(r.disks[0].serial, "upper");
	assert_string_equal(r.disks[1].serial, "init");
	assert_true(r.disks[1].stable);
	assert_string_equal(r.disks[2].serial, "root");
	assert_int_equal(faccessat(r.disks[2].dir, "hosts", F_OK, 0), -1);
	rootfs_free(&r);
	unmount(t, "m");
}

static void a_redirect_in_the_upper_layer_makes_it_one_tree(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "m"), *data = sub(t, "data");
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, OVERLAY_DIRS);
	make_dirs(t, (const char *const[]){"l1/d", NULL});
	put(t, "l1/d/a", "1");
	mount_overlay(t, ",redirect_dir=on");
	assert_int_equal(renameat(t->fd, "m/d", t->fd, "m/e"), 0);
	unmount(t, "m");
	mount_overlay(t, ",redirect_dir=follow");
	r = open_rootfs(path, false);
	assert_int_equal(r.kind, ROOTFS_OVERLAY);
	build(&r, data);
	assert_int_equal(r.kind, ROOTFS_PLAIN);
	assert_int_equal(r.n_disks, 1);
	assert_int_equal(faccessat(r.disks[0].dir, "e/a", F_OK, 0), 0);
	assert_true(rootfs_is(&r.id));
	rootfs_free(&r);
	unmount(t, "m");
}

static void a_mount_beneath_is_part_of_the_root(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "m"), *beneath = sub(t, "m/d");
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, OVERLAY_DIRS);
	make_dirs(t, (const char *const[]){"l1/d", NULL});
	mount_overlay(t, "");
	assert_int_equal(mount("none", beneath, "tmpfs", 0, NULL), 0);
	r = open_rootfs(path, false);
	assert_int_equal(r.kind, ROOTFS_PLAIN);
	rootfs_free(&r);
	unmount(t, "m/d");
	unmount(t, "m");
}

static void an_overlay_is_known_again_by_its_upper_directory(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "m");
	struct rootfs_id id;
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, OVERLAY_DIRS);
	put(t, "l1/a", "1");
	mount_overlay(t, "");
	r = open_rootfs(path, false);
	id = keep_id(&r);
	rootfs_free(&r);
	unmount(t, "m");
	assert_false(rootfs_is(&id));
	assert_true(rootfs_may_return(&id));
	put(t, "u/x", "1");
	mount_overlay(t, "");
	assert_true(rootfs_is(&id));
	unmount(t, "m");
	assert_int_equal(renameat(t->fd, "u", t->fd, "away"), 0);
	assert_false(rootfs_may_return(&id));
	make_dirs(t, (const char *const[]){"u", NULL});
	mount_overlay(t, "");
	assert_false(rootfs_is(&id));
	unmount(t, "m");
	rootfs_id_free(&id);
}

/* On an overlay inode numbers say nothing. */
static void a_mount_point_without_its_mount_is_another_rootfs(void **state)
{
	const struct tmpdir *t = *state;
	struct rootfs_id id = {.path = sub(t, "m/own"), .mounted = true};

	if (!may_mount()) {
		rootfs_id_free(&id);
		skip();
	}
	make_dirs(t, OVERLAY_DIRS);
	mount_overlay(t, "");
	make_dirs(t, (const char *const[]){"m/own", NULL});
	assert_false(rootfs_is(&id));
	assert_true(rootfs_may_return(&id));
	id.mounted = false;
	assert_true(rootfs_is(&id));
	unmount(t, "m");
	rootfs_id_free(&id);
}

/* The exit status of a shell command with the path in the place of each %s. */
static int run(const char *fmt, const char *path)
{
	cleanup_free char *command = xasprintf(fmt, path, path);
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void a_device_is_attached_as_it_is(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *path = sub(t, "m"), *data = sub(t, "data");
	struct rootfs_id id;
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, (const char *const[]){"m", "data", NULL});
	if (run("truncate -s 16M %s/img && mkfs.ext4 -q %s/img", t->path) != 0 ||
	    run("mount -o loop %s/img %s/m 2>/dev/null", t->path) != 0)
		skip();
	put(t, "m/file", "on the disk");
	r = open_rootfs(path, true);
	assert_int_equal(r.kind, ROOTFS_BLOCK);
	assert_int_equal(r.n_disks, 1);
	build(&r, data);
	assert_string_equal(r.disks[0].type, "ext4");
	assert_true(r.disks[0].device >= 0);
	assert_int_equal(r.disks[0].tree, -1);
	id = keep_id(&r);
	rootfs_free(&r);
	/* it was thawed */
	put(t, "m/more", "1");
	assert_true(rootfs_is(&id));
	unmount(t, "m");
	assert_false(rootfs_is(&id));
	assert_true(rootfs_may_return(&id));
	rootfs_id_free(&id);
}

static void a_directory_of_a_device_is_a_plain_one(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_free char *from = sub(t, "a"), *path = sub(t, "m");
	struct rootfs r;

	if (!may_mount())
		skip();
	make_dirs(t, (const char *const[]){"a", "m", NULL});
	assert_int_equal(mount(from, path, NULL, MS_BIND, NULL), 0);
	r = open_rootfs(path, false);
	assert_int_equal(r.kind, ROOTFS_PLAIN);
	assert_true(r.id.mounted);
	assert_true(rootfs_is(&r.id));
	rootfs_free(&r);
	unmount(t, "m");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mount_is_found_by_its_number),
		cmocka_unit_test(lines_that_are_none),
		cmocka_unit_test(layers_are_told_apart),
		cmocka_unit_test(what_is_more_than_layers_is_left_to_the_kernel),
		cmocka_unit_test(options_by_name),
		TEST(a_directory_is_one_tree),
		TEST(no_directory_is_an_error_that_names_it),
		TEST(a_directory_is_known_again),
		TEST(a_file_system_that_is_not_mounted_may_return),
		TEST(a_directory_beneath_the_mount_point_is_not_in_its_place),
		TEST(a_mount_point_without_its_mount_is_another_rootfs),
		TEST(an_overlay_is_chain_and_upper),
		TEST(a_chain_is_read_once),
		TEST(a_chain_of_one_layer_keeps_its_whiteouts_to_itself),
		TEST(dockers_own_layer_is_not_of_the_chain),
		TEST(a_redirect_in_the_upper_layer_makes_it_one_tree),
		TEST(a_mount_beneath_is_part_of_the_root),
		TEST(an_overlay_is_known_again_by_its_upper_directory),
		TEST(a_device_is_attached_as_it_is),
		TEST(a_directory_of_a_device_is_a_plain_one),
	};

	log_setup(-1, LOG_FMT_TEXT, LOG_LVL_ERROR, "test");
	/* Before a test opens its directory: what it opened would be on the old mounts. */
	may_mount();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
