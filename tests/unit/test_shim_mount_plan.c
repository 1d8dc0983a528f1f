/* Where the data of each mount comes from. Devices and image files need root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "shim/mount_plan.h"
#include "tests/unit/tmpdir.h"

/* ---- what a test says */

struct wish {
	const char *type, *source, *options[4];
};

static int make(const struct tmpdir *t, const struct wish *w, size_t n, struct mount_plan *p,
		struct error *err)
{
	struct oci_mount mounts[8] = {0};
	struct oci_spec spec = {.mounts = mounts, .n_mounts = n};

	for (size_t i = 0; i < n; i++) {
		mounts[i].destination = (char *)"/d";
		mounts[i].type = (char *)w[i].type;
		mounts[i].source = (char *)w[i].source;
		mounts[i].options = (char **)w[i].options;
		while (mounts[i].n_options < 4 && w[i].options[mounts[i].n_options])
			mounts[i].n_options++;
	}
	return mount_plan_make(&spec, t->path, p, err);
}

static void assert_from(const struct tmpdir *t, struct wish w, enum mount_from from)
{
	cleanup_mount_plan struct mount_plan p = {0};
	struct error err = ERROR_INIT;

	if (make(t, &w, 1, &p, &err) < 0)
		fail_msg("%s: %s", w.source, err.msg);
	assert_int_equal(p.n, 1);
	if (p.v[0].from != from)
		fail_msg("%s: from %d, not %d", w.source, p.v[0].from, from);
}

static void assert_refused(const struct tmpdir *t, struct wish w, const char *why)
{
	cleanup_mount_plan struct mount_plan p = {0};
	struct error err = ERROR_INIT;

	if (make(t, &w, 1, &p, &err) == 0)
		fail_msg("%s: accepted", w.source);
	assert_null(p.v);
	if (strncmp(err.msg, "mounts[0].source: /d: ", 22) != 0 || !strstr(err.msg, why))
		fail_msg("%s: %s", w.source, err.msg);
}

#define BIND(path, ...) ((struct wish){"bind", path, {"rbind", __VA_ARGS__}})

static void put(const struct tmpdir *t, const char *name, uint64_t size)
{
	int fd = openat(t->fd, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void dir(const struct tmpdir *t, const char *name)
{
	assert_int_equal(mkdirat(t->fd, name, 0755), 0);
}

/* ---- files and directories */

static void small_files_are_projected(void **state)
{
	const struct tmpdir *t = *state;

	put(t, "empty", 0);
	put(t, "most", PROJECT_FILE_MAX);
	put(t, "large", PROJECT_FILE_MAX + 1);
	assert_int_equal(symlinkat("empty", t->fd, "link"), 0);
	assert_from(t, BIND("empty"), MOUNT_FROM_PROJECT);
	assert_from(t, BIND("link", "ro"), MOUNT_FROM_PROJECT);
	assert_from(t, BIND("most"), MOUNT_FROM_PROJECT);
	assert_from(t, BIND("large"), MOUNT_FROM_SHARE);
	assert_from(t, BIND("large", "ro"), MOUNT_FROM_SHARE);
}

static void small_readonly_directories_are_projected(void **state)
{
	const struct tmpdir *t = *state;

	dir(t, "cfg");
	assert_from(t, BIND("cfg", "ro"), MOUNT_FROM_SHARE); /* empty: nobody knows what comes */
	dir(t, "cfg/..1");
	put(t, "cfg/..1/key", 10);
	assert_int_equal(symlinkat("..1", t->fd, "cfg/..data"), 0);
	assert_int_equal(symlinkat("..data/key", t->fd, "cfg/key"), 0);
	assert_from(t, BIND("cfg", "ro"), MOUNT_FROM_PROJECT);
	assert_from(t, BIND("cfg", "rro"), MOUNT_FROM_PROJECT);
	assert_from(t, BIND("cfg"), MOUNT_FROM_SHARE);
	assert_from(t, BIND("cfg", "ro", "rw"), MOUNT_FROM_SHARE);
}

static void large_directories_are_shared(void **state)
{
	const struct tmpdir *t = *state;
	char name[64];

	dir(t, "bytes");
	put(t, "bytes/a", PROJECT_DIR_BYTES);
	assert_from(t, BIND("bytes", "ro"), MOUNT_FROM_PROJECT);
	put(t, "bytes/b", 1);
	assert_from(t, BIND("bytes", "ro"), MOUNT_FROM_SHARE);
	dir(t, "many");
	for (int i = 0; i < PROJECT_DIR_ENTRIES; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		put(t, name, 0);
	}
	assert_from(t, BIND("many", "ro"), MOUNT_FROM_PROJECT);
	put(t, "many/x", 0);
	assert_from(t, BIND("many", "ro"), MOUNT_FROM_SHARE);
	snprintf(name, sizeof(name), "deep");
	for (int i = 0; i < PROJECT_DIR_DEPTH; i++) {
		dir(t, name);
		strcat(name, "/d");
	}
	assert_from(t, BIND("deep", "ro"), MOUNT_FROM_PROJECT);
	dir(t, name);
	assert_from(t, BIND("deep", "ro"), MOUNT_FROM_SHARE);
}

static void directories_with_special_files_are_shared(void **state)
{
	const struct tmpdir *t = *state;

	dir(t, "d");
	put(t, "d/file", 1);
	assert_int_equal(mkfifoat(t->fd, "d/fifo", 0600), 0);
	assert_from(t, BIND("d", "ro"), MOUNT_FROM_SHARE);
}

static void names_that_json_cannot_say_are_shared(void **state)
{
	const struct tmpdir *t = *state;

	put(t, "\xc3\xa9", 1);
	put(t, "\xff", 1);
	assert_int_equal(symlinkat("\xff", t->fd, "link"), 0);
	assert_from(t, BIND("\xc3\xa9"), MOUNT_FROM_PROJECT);
	assert_from(t, BIND("link"), MOUNT_FROM_SHARE);
}

/* ---- devices, and what a guest cannot have */

static void guest_devices(void **state)
{
	const struct tmpdir *t = *state;
	cleanup_mount_plan struct mount_plan p = {0};
	const struct wish w = BIND("/dev/urandom");

	assert_from(t, BIND("/dev/null"), MOUNT_FROM_DEVICE);
	assert_int_equal(make(t, &w, 1, &p, NULL), 0);
	assert_string_equal(p.v[0].name, "urandom");
	assert_int_equal(p.v[0].fd, -1);
}

static void what_only_the_host_has(void **state)
{
	const struct tmpdir *t = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/docker.sock", t->path);
	assert_int_equal(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(mkfifoat(t->fd, "fifo", 0600), 0);
	assert_refused(t, BIND("none"), "No such file or directory");
	assert_refused(t, BIND("docker.sock"), "a socket of the host cannot be reached");
	assert_refused(t, BIND("fifo"), "a fifo of the host cannot be reached");
	assert_refused(t, BIND("/proc"), "is of the host kernel's proc");
	assert_refused(t, BIND("/proc/sys/kernel/ostype", "ro"), "is of the host kernel's proc");
	assert_refused(t, BIND("/proc/self/ns/net"), "is of the host kernel's nsfs");
	assert_refused(t, BIND("/sys"), "/sys: is of the host kernel's sysfs");
	assert_refused(t, BIND("/dev"), "devices cannot be given");
	assert_refused(t, BIND("/dev/ptmx"), "cannot be given to a microVM");
}

static void guest_filesystems_need_nothing(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish w[] = {{"proc", "proc", {NULL}}, {"tmpfs", "tmpfs", {"ro"}}};
	cleanup_mount_plan struct mount_plan p = {0};
	cleanup_free char *text = NULL;

	assert_int_equal(make(t, w, 2, &p, NULL), 0);
	assert_int_equal(p.n, 0);
	text = mount_plan_text(&p, NULL);
	assert_string_equal(text, "[]");
}

/* ---- disks */

static void image_files(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish rw = {"ext4", "img", {NULL}}, ro = {"ext4", "img", {"ro"}};
	cleanup_mount_plan struct mount_plan p = {0}, q = {0};
	struct error err = ERROR_INIT;

	put(t, "img", 4096);
	assert_int_equal(make(t, &rw, 1, &p, NULL), 0);
	assert_int_equal(p.v[0].from, MOUNT_FROM_DISK);
	assert_int_equal(p.writable_disks, 1);
	assert_string_equal(p.v[0].serial, "vol0");
	assert_int_equal(fcntl(p.v[0].fd, F_GETFL) & O_ACCMODE, O_RDWR);
	assert_refused(t, rw, "is in use by another container");
	assert_refused(t, ro, "is in use by another container");
	mount_plan_free(&p);
	assert_int_equal(make(t, &ro, 1, &p, NULL), 0);
	assert_int_equal(make(t, &ro, 1, &q, &err), 0);
	assert_int_equal(fcntl(p.v[0].fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(p.readonly_disks, 1);
	assert_refused(t, rw, "is in use by another container");
}

static void images_that_nobody_writes(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish w[] = {{"erofs", "img", {NULL}}, {"squashfs", "img", {NULL}}};
	cleanup_mount_plan struct mount_plan p = {0};

	put(t, "img", 4096);
	assert_int_equal(make(t, w, 2, &p, NULL), 0);
	assert_int_equal(p.readonly_disks, 2);
	assert_false(p.v[0].writable);
}

static void volumes_beyond_the_machines_disks(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish w[] = {{"erofs", "img", {NULL}}, {"erofs", "img", {NULL}}};
	cleanup_mount_plan struct mount_plan p = {0};
	struct error err = ERROR_INIT;

	put(t, "img", 4096);
	assert_int_equal(make(t, w, 2, &p, NULL), 0);
	assert_int_equal(mount_plan_check_disks(&p, 2, 4, NULL), 0);
	assert_int_equal(mount_plan_check_disks(&p, 3, 4, &err), -1);
	assert_int_equal(strncmp(err.msg, "mounts[1]: ", 11), 0);
}

static void not_a_disk(void **state)
{
	const struct tmpdir *t = *state;

	assert_refused(t, (struct wish){"xfs", ".", {NULL}}, "neither a block device nor an image");
	assert_refused(t, (struct wish){"xfs", "/dev/null", {NULL}}, "neither a block device");
}

/* ---- texts */

static void text_for_the_agent(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish w[] = {{"proc", "proc", {NULL}},
				 BIND("f"),
				 BIND("."),
				 {"ext4", "img", {"ro"}},
				 {NULL, "/dev/null", {"bind", "ro"}},
				 BIND("f", "ro")};
	cleanup_mount_plan struct mount_plan p = {0};
	cleanup_free char *text = NULL;

	put(t, "f", 1);
	put(t, "img", 4096);
	assert_int_equal(make(t, w, ARRAY_LEN(w), &p, NULL), 0);
	text = mount_plan_text(&p, NULL);
	assert_string_equal(
		text, "[{\"mount\":1,\"from\":\"project\",\"name\":\"m1\",\"writable\":true},"
		      "{\"mount\":2,\"from\":\"share\",\"name\":\"m2\"},"
		      "{\"mount\":3,\"from\":\"disk\",\"serial\":\"vol3\",\"type\":\"ext4\"},"
		      "{\"mount\":4,\"from\":\"device\",\"name\":\"null\"},"
		      "{\"mount\":5,\"from\":\"project\",\"name\":\"m5\",\"writable\":false}]");
	assert_int_equal(p.projects, 2);
	assert_int_equal(p.shares, 1);
}

/* In a VM that others' mounts are in, too; projects are their container's there anyway. */
static void names_for_a_pod(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish w[] = {
		BIND("dir"), BIND("file"), {"ext4", "image", {"rw"}}, BIND("/dev/null")};
	cleanup_mount_plan struct mount_plan p = {0};
	cleanup_free char *text = NULL;

	dir(t, "dir");
	put(t, "file", 1);
	put(t, "image", 4096);
	assert_int_equal(make(t, w, ARRAY_LEN(w), &p, NULL), 0);
	mount_plan_tag(&p, "0a1b2c3d");
	text = mount_plan_text(&p, NULL);
	assert_string_equal(
		text,
		"[{\"mount\":0,\"from\":\"share\",\"name\":\"m0.0a1b2c3d\"},"
		"{\"mount\":1,\"from\":\"project\",\"name\":\"m1\",\"writable\":true},"
		"{\"mount\":2,\"from\":\"disk\",\"serial\":\"vol2.0a1b2c3d\",\"type\":\"ext4\"},"
		"{\"mount\":3,\"from\":\"device\",\"name\":\"null\"}]");
}

static void projects_come_back(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish w[] = {BIND("."), BIND("f"), BIND("cfg", "ro")};
	cleanup_mount_plan struct mount_plan p = {0}, q = {0};
	cleanup_free char *path = xasprintf("%s/cfg", t->path);
	char identity[MOUNT_IDENTITY_LEN];

	put(t, "f", 1);
	dir(t, "cfg");
	put(t, "cfg/key", 1);
	assert_int_equal(make(t, w, 3, &p, NULL), 0);
	assert_int_equal(mount_plan_save(&p, t->fd, NULL), 0);
	assert_int_equal(mount_plan_load(&q, t->fd, NULL), 0);
	assert_int_equal(q.n, 2);
	assert_int_equal(q.projects, 2);
	assert_int_equal(q.v[0].index, 1);
	assert_string_equal(q.v[0].name, "m1");
	assert_true(q.v[0].writable);
	assert_false(q.v[0].dir);
	assert_string_equal(q.v[1].source, path);
	assert_true(q.v[1].dir);
	assert_false(q.v[1].writable);
	assert_int_equal(q.v[1].fd, -1);
	assert_int_equal(mount_identity(p.v[2].fd, identity, NULL), 0);
	assert_string_equal(q.v[1].identity, identity);
}

static void no_projects_no_file(void **state)
{
	const struct tmpdir *t = *state;
	const struct wish w = BIND(".");
	cleanup_mount_plan struct mount_plan p = {0}, q = {0};

	assert_int_equal(make(t, &w, 1, &p, NULL), 0);
	assert_int_equal(mount_plan_save(&p, t->fd, NULL), 0);
	assert_int_equal(faccessat(t->fd, "mounts.json", F_OK, 0), -1);
	assert_int_equal(mount_plan_load(&q, t->fd, NULL), 0);
	assert_int_equal(q.n, 0);
}

static void damaged_plans(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"projects\":{}}",
		"{\"projects\":[7]}",
		"{\"projects\":[{\"mount\":0,\"name\":\"..\",\"source\":\"/"
		"a\",\"identity\":\"1:2\"}]}",
		"{\"projects\":[{\"mount\":0,\"name\":\"a/b\",\"source\":\"/"
		"a\",\"identity\":\"1:2\"}]}",
		"{\"projects\":[{\"mount\":0,\"name\":\"m0\",\"source\":\"a\",\"identity\":\"1:2\"}"
		"]}",
		"{\"projects\":[{\"mount\":0,\"name\":\"m0\",\"source\":\"/a\"}]}",
		"{\"projects\":[{\"mount\":-1,\"name\":\"m0\",\"source\":\"/"
		"a\",\"identity\":\"1:2\"}]}",
	};
	const struct tmpdir *t = *state;
	struct error err = ERROR_INIT;
	struct mount_plan p;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		file_write_atomic(t->fd, "mounts.json", bad[i], strlen(bad[i]), 0600, NULL);
		if (mount_plan_load(&p, t->fd, &err) == 0)
			fail_msg("accepted: %s", bad[i]);
		assert_non_null(strstr(err.msg, "mounts.json"));
	}
}

#define DIR_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DIR_TEST(small_files_are_projected),
		DIR_TEST(small_readonly_directories_are_projected),
		DIR_TEST(large_directories_are_shared),
		DIR_TEST(directories_with_special_files_are_shared),
		DIR_TEST(names_that_json_cannot_say_are_shared),
		DIR_TEST(guest_devices),
		DIR_TEST(what_only_the_host_has),
		DIR_TEST(guest_filesystems_need_nothing),
		DIR_TEST(image_files),
		DIR_TEST(images_that_nobody_writes),
		DIR_TEST(volumes_beyond_the_machines_disks),
		DIR_TEST(not_a_disk),
		DIR_TEST(text_for_the_agent),
		DIR_TEST(names_for_a_pod),
		DIR_TEST(projects_come_back),
		DIR_TEST(no_projects_no_file),
		DIR_TEST(damaged_plans),
	};

	return cmocka_run_group_tests_name("mount plan", tests, NULL, NULL);
}
