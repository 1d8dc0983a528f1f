/* Options of mounts: each word lands where it belongs, and later ones override earlier ones. */
#include <linux/mount.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/mount_options.h"

/* Options as a list with commas. */
static struct mount_options sorted(const char *list)
{
	cleanup_free char *copy = xstrdup(list);
	char *words[32], *save;
	size_t n = 0;
	struct mount_options o;

	for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
		words[n++] = w;
	mount_options_parse(words, n, &o);
	return o;
}

static void an_empty_list(void **state)
{
	cleanup_mount_options struct mount_options o = sorted("");

	(void)state;
	assert_int_equal(o.flags | o.clear_flags | o.rec_set | o.rec_clear, 0);
	assert_int_equal(o.n_propagation, 0);
	assert_null(o.data);
	assert_false(o.tmpcopyup);
	assert_int_equal(o.idmap, MOUNT_IDMAP_NONE);
}

static void flags_and_data(void **state)
{
	cleanup_mount_options struct mount_options o =
		sorted("nosuid,strictatime,mode=755,noexec,size=65536k,gid=5,defaults");

	(void)state;
	assert_int_equal(o.flags, MS_NOSUID | MS_STRICTATIME | MS_NOEXEC);
	assert_string_equal(o.data, "mode=755,size=65536k,gid=5");
}

static void the_last_word_holds(void **state)
{
	cleanup_mount_options struct mount_options a = sorted("ro,nodev,rw,dev");
	cleanup_mount_options struct mount_options b = sorted("rw,suid,ro,nosuid");
	cleanup_mount_options struct mount_options c = sorted("noatime,relatime");

	(void)state;
	assert_int_equal(a.flags, 0);
	assert_int_equal(a.clear_flags, MS_RDONLY | MS_NODEV);
	assert_int_equal(b.flags, MS_RDONLY | MS_NOSUID);
	assert_int_equal(b.clear_flags, 0);
	assert_int_equal(c.flags, MS_RELATIME);
}

static void recursive_attributes(void **state)
{
	cleanup_mount_options struct mount_options a = sorted("rro,rnosuid,rnodev,rexec");
	cleanup_mount_options struct mount_options b = sorted("rro,rrw");

	(void)state;
	assert_int_equal(a.flags, 0);
	assert_int_equal(a.rec_set, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	assert_int_equal(a.rec_clear, MOUNT_ATTR_NOEXEC);
	assert_int_equal(b.rec_set, 0);
	assert_int_equal(b.rec_clear, MOUNT_ATTR_RDONLY);
}

static void recursive_access_time(void **state)
{
	cleanup_mount_options struct mount_options a = sorted("rnoatime");
	cleanup_mount_options struct mount_options b = sorted("rnoatime,rrelatime");
	cleanup_mount_options struct mount_options c = sorted("rstrictatime,ratime");
	cleanup_mount_options struct mount_options d = sorted("rnoatime,ratime");
	cleanup_mount_options struct mount_options e = sorted("rnodiratime");

	(void)state;
	assert_int_equal(a.rec_set, MOUNT_ATTR_NOATIME);
	assert_int_equal(a.rec_clear, MOUNT_ATTR__ATIME);
	assert_int_equal(b.rec_set, 0);
	assert_int_equal(b.rec_clear, MOUNT_ATTR__ATIME);
	assert_int_equal(c.rec_set, MOUNT_ATTR_STRICTATIME);
	assert_int_equal(d.rec_set, 0);
	assert_int_equal(e.rec_set, MOUNT_ATTR_NODIRATIME);
	assert_int_equal(e.rec_clear, 0);
}

static void propagation_in_order(void **state)
{
	cleanup_mount_options struct mount_options o = sorted("rbind,rslave,ro,shared");

	(void)state;
	assert_int_equal(o.flags, MS_BIND | MS_REC | MS_RDONLY);
	assert_int_equal(o.n_propagation, 2);
	assert_int_equal(o.propagation[0], MS_SLAVE | MS_REC);
	assert_int_equal(o.propagation[1], MS_SHARED);
}

static void special_words(void **state)
{
	cleanup_mount_options struct mount_options a = sorted("tmpcopyup,idmap");
	cleanup_mount_options struct mount_options b = sorted("idmap,ridmap");

	(void)state;
	assert_true(a.tmpcopyup);
	assert_int_equal(a.idmap, MOUNT_IDMAP);
	assert_int_equal(b.idmap, MOUNT_IDMAP_RECURSIVE);
}

static void every_known_word_is_known(void **state)
{
	const char *last = "";
	size_t n = 0;

	(void)state;
	for (const char *name; (name = mount_option_name(n)); n++) {
		cleanup_mount_options struct mount_options o = sorted(name);

		assert_null(o.data);
		assert_true(strcmp(last, name) < 0);
		last = name;
	}
	assert_int_equal(n, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_list),
		cmocka_unit_test(flags_and_data),
		cmocka_unit_test(the_last_word_holds),
		cmocka_unit_test(recursive_attributes),
		cmocka_unit_test(recursive_access_time),
		cmocka_unit_test(propagation_in_order),
		cmocka_unit_test(special_words),
		cmocka_unit_test(every_known_word_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
