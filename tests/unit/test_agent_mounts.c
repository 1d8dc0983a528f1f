/* Paths beneath a container's root, mount attributes, tmpcopyup, which namespace a sysctl is of. */
#include "agent/copy_up.h"
#include "agent/mounts.h"
#include "agent/resolve.h"
#include "agent/sysctl.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "tmpdir.h"

#include <linux/mount.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cmocka.h>

/* ---- resolve */

/* Makes `path` beneath the directory and expects it to be what `real` is by its plain name. */
static void expect_made(const struct tmpdir *t, const char *path, enum resolve_want want,
			const char *real, bool created)
{
	struct error err = ERROR_INIT;
	struct stat a, b;
	bool made;
	int fd = resolve_make(t->fd, path, want, &made, &err);

	if (fd < 0)
		fail_msg("%s: %s", path, err.msg);
	assert_int_equal(fstat(fd, &a), 0);
	if (fstatat(t->fd, real, &b, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("%s: no %s", path, real);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(S_ISDIR(a.st_mode), want == RESOLVE_DIR);
	assert_int_equal(made, created);
	close(fd);
}

static void test_make_missing(void **state)
{
	const struct tmpdir *t = *state;

	expect_made(t, "/a/b/c", RESOLVE_DIR, "a/b/c", true);
	expect_made(t, "/a/b/c", RESOLVE_DIR, "a/b/c", false);
	expect_made(t, "a//x/./y/../file", RESOLVE_FILE, "a/x/file", true);
	expect_made(t, "/", RESOLVE_DIR, ".", false);
	expect_made(t, "/../../../up", RESOLVE_DIR, "up", true);
}

static void test_links_stay_inside(void **state)
{
	const struct tmpdir *t = *state;

	assert_int_equal(symlinkat("/etc", t->fd, "abs"), 0);
	assert_int_equal(symlinkat("../../../../../tmp", t->fd, "out"), 0);
	assert_int_equal(symlinkat("/run/systemd/resolv.conf", t->fd, "dangling"), 0);
	assert_int_equal(symlinkat("dangling", t->fd, "twice"), 0);
	expect_made(t, "/abs/passwd", RESOLVE_FILE, "etc/passwd", true);
	expect_made(t, "/out/x", RESOLVE_DIR, "tmp/x", true);
	expect_made(t, "/twice", RESOLVE_FILE, "run/systemd/resolv.conf", true);
}

static void test_link_loop(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;

	assert_int_equal(symlinkat("b", t->fd, "a"), 0);
	assert_int_equal(symlinkat("a", t->fd, "b"), 0);
	assert_int_equal(resolve_make(t->fd, "/a/x", RESOLVE_DIR, NULL, &err), -1);
	assert_non_null(strstr(err.msg, "symbolic links"));
}

static void test_file_in_the_way(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;

	expect_made(t, "/f", RESOLVE_FILE, "f", true);
	assert_int_equal(resolve_make(t->fd, "/f/x", RESOLVE_DIR, NULL, &err), -1);
	assert_int_equal(err.errnum, ENOTDIR);
}

static void test_parent(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	const char *name;
	int fd = resolve_parent(t->fd, "/dev/net/tun", &name, &err);

	assert_true(fd >= 0);
	assert_string_equal(name, "tun");
	assert_int_equal(faccessat(t->fd, "dev/net", F_OK, 0), 0);
	close(fd);
	assert_int_equal(resolve_parent(t->fd, "/dev/..", &name, &err), -1);
	assert_int_equal(resolve_parent(t->fd, "/dev/", &name, &err), -1);
}

/* ---- attributes */

static void expect_attributes(unsigned long flags, unsigned long clear_flags, uint64_t set,
			      uint64_t clear)
{
	uint64_t s, c;

	mounts_attributes(flags, clear_flags, &s, &c);
	assert_int_equal(s, set);
	assert_int_equal(c, clear);
}

static void test_attributes(void **state UNUSED)
{
	expect_attributes(0, 0, 0, 0);
	expect_attributes(
		MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_BIND | MS_REC, 0,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0);
	expect_attributes(0, MS_RDONLY | MS_NOSUID, 0, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
	/* access times: one number in several bits */
	expect_attributes(MS_NOATIME, 0, MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME);
	expect_attributes(MS_STRICTATIME, 0, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME);
	expect_attributes(MS_RELATIME, 0, 0, MOUNT_ATTR__ATIME);
	expect_attributes(MS_NODIRATIME, 0, MOUNT_ATTR_NODIRATIME, 0);
}

static void test_own_dev(void **state UNUSED)
{
	struct oci_mount m = {.destination = (char[]){"/dev/"}, .type = (char[]){"tmpfs"}};
	char *bind[] = {(char[]){"rbind"}};
	struct oci_spec s = {.mounts = &m, .n_mounts = 1};

	assert_true(mounts_own_dev(&s));
	m.options = bind;
	m.n_options = 1;
	assert_false(mounts_own_dev(&s));
}

/* ---- tmpcopyup */

static void test_copy_up(void **state)
{
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	char target[16] = "";
	struct stat st;
	int src, dst, fd;

	assert_int_equal(mkdirat(t->fd, "src", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "dst", 0755), 0);
	src = openat(t->fd, "src", O_PATH | O_DIRECTORY | O_CLOEXEC);
	dst = openat(t->fd, "dst", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(src, "d", 0750), 0);
	fd = openat(src, "d/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "hello", 5), 5);
	assert_int_equal(fchmod(fd, 04711), 0);
	close(fd);
	assert_int_equal(symlinkat("d/f", src, "l"), 0);
	assert_int_equal(mkfifoat(src, "p", 0620), 0);
	assert_int_equal(fchmodat(t->fd, "src", 01777, 0), 0);

	if (copy_up(src, dst, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(fstatat(dst, "d/f", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 04711);
	assert_int_equal(st.st_size, 5);
	assert_int_equal(fstatat(dst, "d", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0750);
	assert_int_equal(readlinkat(dst, "l", target, sizeof(target) - 1), 3);
	assert_string_equal(target, "d/f");
	assert_int_equal(fstatat(dst, "p", &st, 0), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(fstatat(t->fd, "dst", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 01777);
	close(src);
	close(dst);
}

static void copy_dirs(const struct tmpdir *t, int *src, int *dst)
{
	assert_int_equal(mkdirat(t->fd, "src", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "dst", 0755), 0);
	*src = openat(t->fd, "src", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*dst = openat(t->fd, "dst", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void test_copy_up_holes(void **state)
{
	const off_t size = (off_t)1 << 33;
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	char buf[8] = "";
	struct stat st;
	int src, dst, fd;

	copy_dirs(t, &src, &dst);
	fd = openat(src, "sparse", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_int_equal(pwrite(fd, "middle", 6, size / 2 + 5), 6);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
	if (copy_up(src, dst, &err) < 0)
		fail_msg("%s", err.msg);
	fd = openat(dst, "sparse", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_true(st.st_blocks < 1024);
	assert_int_equal(pread(fd, buf, 6, size / 2 + 5), 6);
	assert_string_equal(buf, "middle");
	close(fd);
	close(src);
	close(dst);
}

static void test_copy_up_xattrs_and_devices(void **state)
{
	/* security.capability, version 2: cap_net_raw+ep */
	static const unsigned char cap[20] = {1, 0, 0, 2, 0, 0x20};
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	unsigned char value[32];
	struct stat st;
	int src, dst, fd;

	copy_dirs(t, &src, &dst);
	fd = openat(src, "ping", O_CREAT | O_WRONLY | O_CLOEXEC, 0755);
	assert_int_equal(fchown(fd, 12, 34), 0);
	assert_int_equal(fsetxattr(fd, "security.capability", cap, sizeof(cap), 0), 0);
	close(fd);
	assert_int_equal(mknodat(src, "null", S_IFCHR | 0640, makedev(1, 3)), 0);
	assert_int_equal(fchownat(src, "null", 0, 5, 0), 0);
	if (copy_up(src, dst, &err) < 0)
		fail_msg("%s", err.msg);
	fd = openat(dst, "ping", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fgetxattr(fd, "security.capability", value, sizeof(value)), sizeof(cap));
	assert_memory_equal(value, cap, sizeof(cap));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_uid, 12);
	close(fd);
	assert_int_equal(fstatat(dst, "null", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFCHR | 0640);
	assert_int_equal(st.st_rdev, makedev(1, 3));
	assert_int_equal(st.st_gid, 5);
	close(src);
	close(dst);
}

/* ---- sysctl */

static void test_sysctl_homes(void **state UNUSED)
{
	assert_int_equal(sysctl_home("kernel/shmmax"), SYSCTL_IPC);
	assert_int_equal(sysctl_home("fs/mqueue/msg_max"), SYSCTL_IPC);
	assert_int_equal(sysctl_home("net/ipv4/ip_forward"), SYSCTL_NET);
	assert_int_equal(sysctl_home("kernel/domainname"), SYSCTL_UTS);
	assert_int_equal(sysctl_home("vm/swappiness"), SYSCTL_GLOBAL);
	assert_int_equal(sysctl_home("kernel/core_pattern"), SYSCTL_GLOBAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_make_missing, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_links_stay_inside, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_link_loop, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_file_in_the_way, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_parent, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_copy_up, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_copy_up_holes, tmpdir_make, tmpdir_remove),
		cmocka_unit_test_setup_teardown(test_copy_up_xattrs_and_devices, tmpdir_make,
						tmpdir_remove),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_own_dev),
		cmocka_unit_test(test_sysctl_homes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
