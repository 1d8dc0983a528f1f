/* Bind mounts of what the host has given: sources, flags, mount points, user namespaces. */
#include "agent/mounts.h"
#include "agent/projects.h"
#include "agent/volumes.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <cmocka.h>

#define ROOT "/run/root"
#define OPTIONS_MAX 8

static void put(const char *path, const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void expect_text(const char *path, const char *text)
{
	char buf[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_true(read(fd, buf, sizeof(buf) - 1) >= 0);
	assert_string_equal(buf, text);
	close(fd);
}

/* A mount namespace of our own; in it a guest's directories and an empty root. */
static int setup(void **state UNUSED)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("run", "/run", "tmpfs", 0, NULL) < 0 || mkdir(PROJECTS_DIR, 0755) < 0 ||
	    mkdir(PROJECTS_DIR "/c", 0755) < 0 || mkdir(SHARE_DIR, 0755) < 0 ||
	    mkdir(SHARE_DIR "/d", 0755) < 0 || mkdir(SHARE_DIR "/d/sub", 0755) < 0 ||
	    mount("sub", SHARE_DIR "/d/sub", "tmpfs", 0, NULL) < 0 || mkdir(ROOT, 0755) < 0 ||
	    mount("root", ROOT, "tmpfs", 0, NULL) < 0 || mkdir(SHARE_DIR "/e", 0700) < 0)
		return -1;
	put(PROJECTS_DIR "/c/f", "file");
	put(SHARE_DIR "/d/x", "x");
	put(SHARE_DIR "/d/sub/y", "y");
	return 0;
}

static int teardown(void **state UNUSED)
{
	return umount2("/run", MNT_DETACH);
}

/* ---- a container with one mount */

struct one {
	struct oci_spec spec;
	struct oci_mount mount;
	char *options[OPTIONS_MAX];
	struct proto_mount plan;
	struct container c;
};

static void init_one(struct one *o, enum proto_mount_from from, const char *name, bool writable,
		     const char *dest, const char *options)
{
	char *rest = xstrdup(options), *word;

	*o = (struct one){.plan = {.from = from, .writable = writable}};
	snprintf(o->plan.name, sizeof(o->plan.name), "%s", name);
	o->options[0] = rest;
	while ((word = strsep(&rest, ",")))
		o->options[o->mount.n_options++] = word;
	o->mount.destination = xstrdup(dest);
	o->mount.source = xstrdup("/host/source");
	o->mount.type = xstrdup("bind");
	o->mount.options = o->options;
	o->spec.mounts = &o->mount;
	o->spec.n_mounts = 1;
	o->c = (struct container){.id = (char *)"c",
				  .spec = &o->spec,
				  .mounts = &o->plan,
				  .n_mounts = 1,
				  .dir = (char *)"/run/c"};
}

static void free_one(struct one *o)
{
	free(o->options[0]);
	free(o->mount.destination);
	free(o->mount.source);
	free(o->mount.type);
}

static int apply(const struct one *o, struct error *err)
{
	cleanup_close int root = open(ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct late_ro late = {0};
	int r = mounts_apply(&o->c, root, &late, err);

	free(late.fds);
	return r;
}

static void bind_it(enum proto_mount_from from, const char *name, const char *dest,
		    const char *options)
{
	struct error err = ERROR_INIT;
	struct one o;

	init_one(&o, from, name, true, dest, options);
	if (apply(&o, &err) < 0)
		fail_msg("%s: %s", options, err.msg);
	free_one(&o);
}

static void expect_error(struct one *o, const char *text)
{
	struct error err = ERROR_INIT;

	assert_int_equal(apply(o, &err), -1);
	assert_string_equal(err.msg, text);
	free_one(o);
}

#define NOSYMFOLLOW 0x2000 /* ST_NOSYMFOLLOW of the kernel */

/* The per-mount flags that the kernel tells of. */
static unsigned long flags_of(const char *path)
{
	const unsigned long known = ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_NOATIME |
				    ST_NODIRATIME | ST_RELATIME | NOSYMFOLLOW;
	struct statfs s;

	if (statfs(path, &s) < 0)
		fail_msg("%s: %s", path, strerror(errno));
	return (unsigned long)s.f_flags & known;
}

/* ---- sources and mount points */

static void a_file_gets_a_mount_point(void **state UNUSED)
{
	bind_it(PROTO_MOUNT_PROJECT, "f", "/etc/deep/resolv.conf", "rbind,rprivate");
	expect_text(ROOT "/etc/deep/resolv.conf", "file");
	put(ROOT "/etc/deep/resolv.conf", "changed");
	expect_text(PROJECTS_DIR "/c/f", "changed");
}

static void a_directory_gets_a_mount_point(void **state UNUSED)
{
	bind_it(PROTO_MOUNT_SHARE, "d", "/data", "bind");
	expect_text(ROOT "/data/x", "x");
	assert_int_equal(access(ROOT "/data/sub/y", F_OK), -1); /* not recursive */
}

static void rbind_has_what_is_mounted_below(void **state UNUSED)
{
	bind_it(PROTO_MOUNT_SHARE, "d", "/data", "rbind");
	expect_text(ROOT "/data/sub/y", "y");
}

static void links_in_the_root_lead_nowhere_else(void **state UNUSED)
{
	assert_int_equal(symlink("/run/projects", ROOT "/etc"), 0);
	bind_it(PROTO_MOUNT_PROJECT, "f", "/etc/hosts", "bind");
	expect_text(ROOT "/run/projects/hosts", "file");
	assert_int_equal(access(PROJECTS_DIR "/c/hosts", F_OK), -1);
}

static void a_device_is_the_guests_own(void **state UNUSED)
{
	struct stat st;

	put(ROOT "/masked", "secret");
	bind_it(PROTO_MOUNT_DEVICE, "null", "/masked", "bind,ro");
	assert_int_equal(stat(ROOT "/masked", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	assert_int_equal(st.st_rdev, makedev(1, 3));
	put(ROOT "/masked", "a device can be written to on a read-only mount");
}

static void what_is_missing_is_named(void **state UNUSED)
{
	struct one o;

	init_one(&o, PROTO_MOUNT_PROJECT, "absent", true, "/a", "bind");
	expect_error(&o, "mounts[0] (/a): source /host/source: the guest has no project "
			 "\"absent\"");
	init_one(&o, PROTO_MOUNT_SHARE, "absent", true, "/a", "bind");
	expect_error(&o, "mounts[0] (/a): source /host/source: the guest has no share \"absent\"");
	assert_int_equal(access(ROOT "/a", F_OK), -1);
}

static void a_bind_that_is_not_planned_is_refused(void **state UNUSED)
{
	struct one o;

	init_one(&o, PROTO_MOUNT_PROJECT, "f", true, "/a", "bind");
	o.c.n_mounts = 0;
	expect_error(&o, "mounts[0] (/a): source /host/source: the host does not say what it is");
}

static void a_link_is_no_source(void **state UNUSED)
{
	struct one o;

	assert_int_equal(symlink("/etc/passwd", SHARE_DIR "/l"), 0);
	init_one(&o, PROTO_MOUNT_SHARE, "l", true, "/a", "bind");
	expect_error(&o, "mounts[0] (/a): the source is a symbolic link");
}

static void files_and_directories_do_not_mix(void **state UNUSED)
{
	struct one o;

	assert_int_equal(mkdir(ROOT "/d", 0755), 0);
	init_one(&o, PROTO_MOUNT_PROJECT, "f", true, "/d", "bind");
	expect_error(&o, "mounts[0] (/d): not a directory: are you trying to mount a directory "
			 "onto a file (or vice-versa)?");
	put(ROOT "/f", "");
	init_one(&o, PROTO_MOUNT_SHARE, "d", true, "/f", "bind");
	expect_error(&o, "mounts[0] (/f): not a directory: are you trying to mount a directory "
			 "onto a file (or vice-versa)?");
}

static void tmpcopyup_writes_into_no_volume(void **state UNUSED)
{
	assert_int_equal(mkdir(ROOT "/d", 0755), 0);
	put(ROOT "/d/of-the-image", "");
	bind_it(PROTO_MOUNT_SHARE, "d", "/d", "bind,tmpcopyup");
	assert_int_equal(access(SHARE_DIR "/d/of-the-image", F_OK), -1);
}

/* ---- flags */

static void flags_hold(void **state UNUSED)
{
	static const struct {
		const char *options;
		unsigned long flags;
	} cases[] = {
		{"bind", ST_RELATIME},
		{"bind,ro", ST_RELATIME | ST_RDONLY},
		{"bind,nosuid,nodev,noexec", ST_RELATIME | ST_NOSUID | ST_NODEV | ST_NOEXEC},
		{"bind,noatime", ST_NOATIME},
		{"bind,nodiratime", ST_RELATIME | ST_NODIRATIME},
		{"bind,strictatime", 0},
		{"bind,ro,rw", ST_RELATIME},
		{"bind,nosymfollow", ST_RELATIME | NOSYMFOLLOW},
		{"rbind,rro,rnosuid", ST_RELATIME | ST_RDONLY | ST_NOSUID},
		{"bind,ro,rrw", ST_RELATIME},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_free char *dest = xasprintf("/m%zu", i);
		cleanup_free char *at = xasprintf("%s%s", ROOT, dest);

		bind_it(PROTO_MOUNT_SHARE, "d", dest, cases[i].options);
		if (flags_of(at) != cases[i].flags)
			fail_msg("%s: %lx", cases[i].options, flags_of(at));
		assert_int_equal(flags_of(SHARE_DIR "/d"), ST_RELATIME);
	}
}

static void recursive_flags_reach_what_is_below(void **state UNUSED)
{
	bind_it(PROTO_MOUNT_SHARE, "d", "/plain", "rbind,ro,noexec");
	assert_int_equal(flags_of(ROOT "/plain"), ST_RELATIME | ST_RDONLY | ST_NOEXEC);
	assert_int_equal(flags_of(ROOT "/plain/sub"), ST_RELATIME);
	bind_it(PROTO_MOUNT_SHARE, "d", "/all", "rbind,rro,rnoexec,rnoatime");
	assert_int_equal(flags_of(ROOT "/all/sub"), ST_NOATIME | ST_RDONLY | ST_NOEXEC);
	assert_int_equal(flags_of(SHARE_DIR "/d/sub"), ST_RELATIME);
}

static void a_project_that_stays_in_the_guest_is_readonly(void **state UNUSED)
{
	struct error err = ERROR_INIT;
	struct one o;

	init_one(&o, PROTO_MOUNT_PROJECT, "f", false, "/f", "bind,rw");
	assert_int_equal(apply(&o, &err), 0);
	free_one(&o);
	assert_int_equal(open(ROOT "/f", O_WRONLY | O_CLOEXEC), -1);
	assert_int_equal(errno, EROFS);
}

/* The optional fields of a mount in mountinfo, or NULL. */
static char *propagation_of(const char *path)
{
	cleanup_file FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	size_t size = 0;

	while (f && getline(&line, &size, f) > 0) {
		char at[256], rest[256];
		int n = 0;

		if (sscanf(line, "%*d %*d %*s %*s %255s %*s %n", at, &n) != 1 || n == 0 ||
		    strcmp(at, path) != 0)
			continue;
		snprintf(rest, sizeof(rest), "%s", line + n);
		*strstr(rest, "- ") = '\0';
		return xstrdup(rest);
	}
	return NULL;
}

static void propagation_acts_inside(void **state UNUSED)
{
	static const struct {
		const char *options, *starts;
	} cases[] = {
		{"rbind", ""},
		{"rbind,rprivate", ""},
		{"rbind,rshared", "shared:"},
		{"rbind,shared,slave", ""}, /* of a group with nobody else in it */
		{"rbind,unbindable", "unbindable"},
		{"rbind,shared,private", ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_free char *dest = xasprintf("/p%zu", i);
		cleanup_free char *at = xasprintf("%s%s", ROOT, dest);
		cleanup_free char *fields = NULL;

		bind_it(PROTO_MOUNT_SHARE, "d", dest, cases[i].options);
		fields = propagation_of(at);
		assert_non_null(fields);
		if (!cases[i].starts[0]
			    ? fields[0]
			    : strncmp(fields, cases[i].starts, strlen(cases[i].starts)) != 0)
			fail_msg("%s: \"%s\"", cases[i].options, fields);
	}
}

/* ---- in a user namespace, as the container's init does it */

static void put_map(pid_t pid, const char *file)
{
	cleanup_free char *path = xasprintf("/proc/%d/%s", (int)pid, file);

	put(path, "0 100000 65536");
}

/* As root of a new user namespace with a copy of the mounts: applies the mount, and exits with 0 if
 * it has the flags. */
static void apply_in_child(const struct one *o, const char *at, unsigned long flags, int sock)
{
	struct error err = ERROR_INIT;
	char byte = 0;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || write(sock, &byte, 1) != 1 ||
	    read(sock, &byte, 1) != 1 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 ||
	    mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		_exit(1);
	if (apply(o, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		_exit(2);
	}
	_exit(flags_of(at) == flags ? 0 : 3);
}

static void bind_in_user_namespace(enum proto_mount_from from, const char *name,
				   const char *options, unsigned long flags)
{
	struct oci_namespace ns = {.type = OCI_NS_USER};
	struct error err = ERROR_INIT;
	int pair[2], status;
	struct one o;
	char byte;
	pid_t pid;

	init_one(&o, from, name, true, "/made/here", options);
	o.spec.lnx.namespaces = &ns;
	o.spec.lnx.n_namespaces = 1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	if (from == PROTO_MOUNT_PROJECT && volumes_prepare(&o.c, &err) < 0)
		fail_msg("%s", err.msg);
	pid = fork();
	if (pid == 0)
		apply_in_child(&o, ROOT "/made/here", flags, pair[1]);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	put_map(pid, "uid_map");
	put_map(pid, "gid_map");
	assert_int_equal(write(pair[0], &byte, 1), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status != 0)
		fail_msg("%s: status %d", options, WEXITSTATUS(status));
	if (volumes_release(&o.c, &err) < 0)
		fail_msg("%s", err.msg);
	free_one(&o);
	close(pair[0]);
	close(pair[1]);
}

static void a_user_namespace_binds_the_same(void **state UNUSED)
{
	assert_int_equal(mkdir(ROOT "/made", 0755), 0);
	assert_int_equal(chown(ROOT "/made", 100000, 100000), 0);
	bind_in_user_namespace(PROTO_MOUNT_SHARE, "e", "bind", ST_RELATIME);
	bind_in_user_namespace(PROTO_MOUNT_SHARE, "e", "bind,rw,suid,dev,exec", ST_RELATIME);
	bind_in_user_namespace(PROTO_MOUNT_SHARE, "d", "rbind,ro,nosuid,nodev,noexec,nosymfollow",
			       ST_RELATIME | ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC |
				       NOSYMFOLLOW);
	bind_in_user_namespace(PROTO_MOUNT_SHARE, "d", "rbind,rro,rnoexec,rshared",
			       ST_RELATIME | ST_RDONLY | ST_NOEXEC);
	assert_int_equal(rmdir(ROOT "/made/here"), 0);
	bind_in_user_namespace(PROTO_MOUNT_PROJECT, "f", "bind,ro", ST_RELATIME | ST_RDONLY);
	bind_in_user_namespace(PROTO_MOUNT_DEVICE, "null", "bind", flags_of("/dev/null"));
}

static void access_times_are_updated_as_asked_for_in_a_user_namespace(void **state UNUSED)
{
	assert_int_equal(mkdir(ROOT "/made", 0777), 0);
	assert_int_equal(mkdir("/run/c", 0711), 0);
	assert_int_equal(mkdir(PROJECTS_DIR "/c/d", 0755), 0);
	assert_int_equal(chown(ROOT "/made", 100000, 100000), 0);
	bind_in_user_namespace(PROTO_MOUNT_PROJECT, "f", "bind,noatime,nodev",
			       ST_NOATIME | ST_NODEV);
	bind_in_user_namespace(PROTO_MOUNT_PROJECT, "f", "rbind,rnoatime,ro",
			       ST_NOATIME | ST_RDONLY);
	bind_in_user_namespace(PROTO_MOUNT_PROJECT, "f", "bind,strictatime", 0);
	bind_in_user_namespace(PROTO_MOUNT_PROJECT, "f", "bind,relatime", ST_RELATIME);
	assert_int_equal(unlink(ROOT "/made/here"), 0);
	bind_in_user_namespace(PROTO_MOUNT_PROJECT, "d", "bind,nodiratime",
			       ST_RELATIME | ST_NODIRATIME);
	assert_int_equal(rmdir("/run/c"), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_file_gets_a_mount_point),
		T(a_directory_gets_a_mount_point),
		T(rbind_has_what_is_mounted_below),
		T(links_in_the_root_lead_nowhere_else),
		T(a_device_is_the_guests_own),
		T(what_is_missing_is_named),
		T(a_bind_that_is_not_planned_is_refused),
		T(a_link_is_no_source),
		T(files_and_directories_do_not_mix),
		T(tmpcopyup_writes_into_no_volume),
		T(flags_hold),
		T(recursive_flags_reach_what_is_below),
		T(a_project_that_stays_in_the_guest_is_readonly),
		T(propagation_acts_inside),
		T(a_user_namespace_binds_the_same),
		T(access_times_are_updated_as_asked_for_in_a_user_namespace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
