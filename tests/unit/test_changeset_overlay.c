/* Changesets of a real overlayfs: what its upper layer says, applied to the lower directory, makes
 * that directory what the merged one was. In a mount namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>

#include "lib/cleanup.h"
#include "tests/unit/changeset.h"
#include "tests/unit/tmpdir.h"

/* lower, upper, work and merged on a tmpfs; `copy` is a copy of lower. */
struct overlay {
	struct tmpdir *t;
	char dir[64];
};

static int private_mounts(void **state)
{
	(void)state;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		perror("unshare");
		return -1;
	}
	return 0;
}

static void run(const struct overlay *o, const char *script)
{
	char cmd[8192];

	snprintf(cmd, sizeof(cmd), "cd %s; %s", o->dir, script);
	assert_true(shell(cmd));
}

static int setup(void **state)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o || tmpdir_make((void **)&o->t) < 0)
		return -1;
	snprintf(o->dir, sizeof(o->dir), "%s", o->t->path);
	if (mount("tmpfs", o->dir, "tmpfs", 0, NULL) < 0)
		return -1;
	run(o, "mkdir lower upper work merged");
	*state = o;
	return 0;
}

static int teardown(void **state)
{
	struct overlay *o = *state;
	int r;

	umount2(o->dir, MNT_DETACH);
	r = tmpdir_remove((void **)&o->t);
	free(o);
	return r;
}

static void mount_overlay(const struct overlay *o, const char *index)
{
	char options[512], at[128];

	run(o, "cp -a lower copy");
	snprintf(options, sizeof(options),
		 "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work,redirect_dir=nofollow,"
		 "metacopy=off,index=%s",
		 o->dir, o->dir, o->dir, index);
	snprintf(at, sizeof(at), "%s/merged", o->dir);
	assert_int_equal(mount("overlay", at, "overlay", 0, options), 0);
}

static int open_in(const struct overlay *o, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", o->dir, name);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

/* upper's changes to the directory `to`. */
static struct cs_counts carry(const struct overlay *o, const char *to,
			      const struct cs_link_group *links, size_t n_links)
{
	struct cs_apply_options opt = {.mknod = true, .links = links, .n_links = n_links};
	cleanup_close int upper = open_in(o, "upper"), fd = open_in(o, to), s = stream_new();
	cleanup_close int index = openat(upper, "../work/index", O_RDONLY | O_DIRECTORY);
	struct error err = ERROR_INIT;
	struct cs_counts n;

	if (cs_collect_upper(upper, index, s, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	lseek(s, 0, SEEK_SET);
	if (cs_apply(s, fd, &opt, &n, &err) < 0)
		fail_msg("%s", err.msg);
	return n;
}

static void assert_same(const struct overlay *o, const char *a, const char *b)
{
	char x[128], y[128];

	snprintf(x, sizeof(x), "%s/%s", o->dir, a);
	snprintf(y, sizeof(y), "%s/%s", o->dir, b);
	assert_true(same_trees(x, y));
}

static const char tree[] =
	"cd lower; mkdir -p d/sub e f/g/h keep; for i in 1 2 3 4; do echo $i > d/$i; echo s$i > "
	"d/sub/$i; "
	"echo e$i > e/$i; echo $i > f/g/$i; done; ln -s d link; mknod null c 1 3; mkfifo pipe; "
	"setfattr -n user.k -v v d/1; chmod 4755 d/2; touch -d @1000 d/* d/sub/* e/* f/g/* d e f";

static const char changes[] =
	"cd merged; rm d/1; rm -r e; mkdir e; echo new > e/new; rm -r f; echo file > f; "
	"echo more >> d/2; chmod 600 d/3; touch -d @7 d/4; mv d/sub/1 d/sub/one; rm d/sub/2; "
	"mkdir d/sub/2; rm link; mkdir link; rm null; ln -s x null; setfattr -n user.n -v 1 d/sub; "
	"setfattr -n trusted.t -v 1 keep; chown 5:6 keep; mkdir -p n/n/n; ln d/2 n/two; mkfifo "
	"n/p; "
	"mknod n/dev c 4 5; truncate -s 1M n/hole; chmod 711 .; rm pipe; touch n/a; rm n/a";

static void every_change_arrives(void **state)
{
	const struct overlay *o = *state;

	run(o, tree);
	mount_overlay(o, "off");
	run(o, changes);
	carry(o, "copy", NULL, 0);
	assert_same(o, "merged", "copy");
	assert_int_equal(carry(o, "copy", NULL, 0).changed, 0);
}

static void whiteouts_and_opaque_directories_are_counted(void **state)
{
	const struct overlay *o = *state;

	run(o, "cd lower; mkdir a; touch a/x a/y z");
	mount_overlay(o, "off");
	run(o, "cd merged; rm z a/x");
	assert_int_equal(carry(o, "copy", NULL, 0).whiteouts, 2);
	assert_same(o, "merged", "copy");
}

/* ---- links of a lower that is EROFS, as in a guest */

static ino_t inode(const struct overlay *o, const char *rel)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", o->dir, rel);
	assert_int_equal(lstat(path, &st), 0);
	return st.st_ino;
}

/* Makes lower an EROFS image of itself, and the overlay. */
static void mount_erofs(const struct overlay *o)
{
	run(o, "mkdir image; mkfs.erofs --quiet img lower >/dev/null; cp -a lower copy; "
	       "mount -t erofs -o loop,ro img image; "
	       "mount -t overlay overlay -o lowerdir=image,upperdir=upper,workdir=work,"
	       "redirect_dir=nofollow,metacopy=off,index=on merged");
}

static const char linked[] =
	"cd lower; mkdir -p d e g; echo a > a1; ln a1 d/a2; ln a1 e/a3; echo b > b1; ln b1 d/b2; "
	"ln b1 e/b3; echo c > c1; ln c1 d/c2; ln -s l l1; ln l1 d/l2; echo g > g/1; ln g/1 h; "
	"echo alone > alone; touch -d @99 d e g .";

static const char relinked[] =
	/* through one name; through a new name, the old one gone; a name that became its own */
	"cd merged; echo more >> d/a2; rm e/a3; mv b1 other; echo more >> other; "
	"echo new > c; mv c c1; echo more >> d/c2; chown -h 3:3 l1; echo more >> h; rm -r g; mkdir "
	"g; "
	"echo mine > g/1; echo more >> alone";

static void names_that_were_left_alone(void **state)
{
	const struct overlay *o = *state;
	char *a[] = {TEXT("a1"), TEXT("d/a2"), TEXT("e/a3")},
	     *b[] = {TEXT("b1"), TEXT("d/b2"), TEXT("e/b3")}, *c[] = {TEXT("c1"), TEXT("d/c2")},
	     *l[] = {TEXT("l1"), TEXT("d/l2")}, *g[] = {TEXT("g/1"), TEXT("h")};

	run(o, linked);
	mount_erofs(o);
	struct cs_link_group groups[] = {{inode(o, "image/c1"), c, 2},
					 {inode(o, "image/a1"), a, 3},
					 {inode(o, "image/b1"), b, 3},
					 {inode(o, "image/l1"), l, 2},
					 {inode(o, "image/h"), g, 2}};

	run(o, relinked);
	carry(o, "copy", groups, ARRAY_LEN(groups));
	assert_same(o, "merged", "copy");
	assert_int_equal(carry(o, "copy", groups, ARRAY_LEN(groups)).changed, 0);
}

/* Written through a name that was removed then: the overlay keeps it in its index alone. */
static void what_only_the_index_holds(void **state)
{
	const struct overlay *o = *state;
	char *a[] = {TEXT("a1"), TEXT("d/a2"), TEXT("e/a3")}, *l[] = {TEXT("l1"), TEXT("d/l2")};

	run(o, linked);
	mount_erofs(o);
	struct cs_link_group groups[] = {{inode(o, "image/a1"), a, 3},
					 {inode(o, "image/l1"), l, 2}};

	run(o, "cd merged; echo more >> d/a2; rm d/a2; chown -h 3:3 l1; rm l1; touch -d @99 d .");
	carry(o, "copy", groups, ARRAY_LEN(groups));
	assert_same(o, "merged", "copy");
	assert_int_equal(inode(o, "copy/a1"), inode(o, "copy/e/a3"));
	assert_int_equal(carry(o, "copy", groups, ARRAY_LEN(groups)).changed, 0);
}

/* What is beneath an opaque directory carries no word of it. */
static void directories_beneath_an_opaque_one(void **state)
{
	const struct overlay *o = *state;

	run(o, tree);
	mount_overlay(o, "off");
	run(o, "cd merged; rm -r f; mkdir -p f/g; echo new > f/g/new");
	carry(o, "copy", NULL, 0);
	assert_same(o, "merged", "copy");
}

/* The rootfs on the host is an overlay, too: there each copy-up breaks links. */
static void the_target_may_be_an_overlay(void **state)
{
	const struct overlay *o = *state;
	char *a[] = {TEXT("a1"), TEXT("d/a2"), TEXT("e/a3")},
	     *b[] = {TEXT("b1"), TEXT("d/b2"), TEXT("e/b3")}, *c[] = {TEXT("c1"), TEXT("d/c2")},
	     *l[] = {TEXT("l1"), TEXT("d/l2")}, *g[] = {TEXT("g/1"), TEXT("h")};

	run(o, linked);
	run(o, tree);
	mount_erofs(o);
	struct cs_link_group groups[] = {{inode(o, "image/c1"), c, 2},
					 {inode(o, "image/a1"), a, 3},
					 {inode(o, "image/b1"), b, 3},
					 {inode(o, "image/l1"), l, 2},
					 {inode(o, "image/h"), g, 2}};

	run(o, "mkdir u2 w2 m2; mount -t overlay overlay -o lowerdir=copy,upperdir=u2,workdir=w2,"
	       "index=off m2");
	run(o, relinked);
	run(o, changes);
	run(o, "cd merged; ln e/new d/new2; ln d/c2 d/c3; chmod 640 d/c3; ln alone alone2");
	carry(o, "m2", groups, ARRAY_LEN(groups));
	assert_same(o, "merged", "m2");
	carry(o, "m2", groups, ARRAY_LEN(groups));
	assert_same(o, "merged", "m2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		T(every_change_arrives),
		T(whiteouts_and_opaque_directories_are_counted),
		T(names_that_were_left_alone),
		T(what_only_the_index_holds),
		T(directories_beneath_an_opaque_one),
		T(the_target_may_be_an_overlay),
	};

	return cmocka_run_group_tests(tests, private_mounts, NULL);
}
