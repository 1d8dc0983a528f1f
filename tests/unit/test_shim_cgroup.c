/* The host's cgroup hierarchies, a container's place in them, and its limits there. */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "shim/cgroup_host.h"
#include "shim/cgroup_limits.h"
#include "shim/host_cgroup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
#define HYBRID_MOUNTS                                                                            \
	"30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"                             \
	"31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"                          \
	"32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=" \
	"systemd\n"                                                                              \
	"33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"            \
	"34 30 0:30 / /sys/fs/cgroup/memory rw,relatime master:3 - cgroup cgroup rw,memory\n"    \
	"35 30 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,noprefix\n"             \
	"36 30 0:32 / /sys/fs/cgroup/blkio ro - cgroup cgroup rw,blkio\n"
#define HYBRID_SELF                                                                              \
	"6:blkio:/\n5:cpuset:/\n4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/user.slice\n0::" \
	"/user.slice\n"

static void test_v2(void **state UNUSED)
{
	cleanup_cgroup_host struct cgroup_host h = {0};

	cgroup_host_parse(V2_MOUNT, "0::/system.slice/x.service\n", &h);
	assert_int_equal(h.n, 1);
	assert_true(cgroup_host_is_v2(&h));
	assert_true(h.v[0].writable);
	assert_string_equal(h.v[0].mount, "/sys/fs/cgroup");
	assert_string_equal(h.v[0].own, "/system.slice/x.service");
}

static void test_hybrid(void **state UNUSED)
{
	cleanup_cgroup_host struct cgroup_host h = {0};

	cgroup_host_parse(HYBRID_MOUNTS, HYBRID_SELF, &h);
	assert_int_equal(h.n, 6);
	assert_false(cgroup_host_is_v2(&h));
	assert_string_equal(cgroup_host_find(&h, "cpu")->mount, "/sys/fs/cgroup/cpu,cpuacct");
	assert_string_equal(cgroup_host_find(&h, "memory")->own, "/a/b");
	assert_string_equal(cgroup_host_find(&h, "cpuset")->names, "cpuset");
	/* v1 calls it blkio */
	assert_false(cgroup_host_find(&h, "io")->writable);
	assert_null(cgroup_host_find(&h, "pids"));
	assert_null(cgroup_host_find(&h, "systemd"));
	assert_string_equal(cgroup_host_of(&h, "/sys/fs/cgroup/memory/x")->names, "memory");
	assert_null(cgroup_host_of(&h, "/sys/fs/cgroup/memoryx/x"));
}

static void test_no_cgroups(void **state UNUSED)
{
	cleanup_cgroup_host struct cgroup_host h = {0};

	cgroup_host_parse("1 0 8:1 / / rw - ext4 /dev/sda rw\nbroken\n2 1 - cgroup\n", "0::/\n",
			  &h);
	assert_int_equal(h.n, 0);
	assert_false(cgroup_host_is_v2(&h));
	/* Mounted, but a hierarchy that no process is in: not one of ours. */
	cgroup_host_parse(V2_MOUNT, "", &h);
	assert_int_equal(h.n, 0);
}

/* In a container without a cgroup namespace only its own part is mounted. */
static void test_a_mount_of_a_part(void **state UNUSED)
{
	cleanup_cgroup_host struct cgroup_host h = {0};

	cgroup_host_parse("30 23 0:26 /docker/x /sys/fs/cg\\040roup rw - cgroup2 none rw\n",
			  "0::/docker/x/in\n", &h);
	assert_int_equal(h.n, 1);
	assert_string_equal(h.v[0].mount, "/sys/fs/cg roup");
	assert_string_equal(h.v[0].own, "/in");
	cgroup_host_free(&h);
	cgroup_host_parse("30 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 none rw\n", "0::/\n", &h);
	assert_string_equal(h.v[0].own, "/");
	cgroup_host_free(&h);
	/* one over the other, and one elsewhere */
	cgroup_host_parse("30 23 0:26 /.. /cg rw - cgroup2 none rw\n"
			  "31 30 0:26 /x /cg rw - cgroup2 none rw\n"
			  "32 23 0:26 /x/y /elsewhere rw - cgroup2 none rw\n",
			  "0::/x/y/z\n", &h);
	assert_int_equal(h.n, 1);
	assert_string_equal(h.v[0].mount, "/cg");
	assert_string_equal(h.v[0].own, "/y/z");
}

static void expect_place(const char *own, const char *path, bool beside, const char *want)
{
	struct cgroup_hierarchy h = {.mount = (char *)"/cg", .own = (char *)own};
	cleanup_free char *got = cgroup_path_in(&h, path, beside);

	assert_string_equal(got, want);
}

static void test_paths(void **state UNUSED)
{
	expect_place("/own", "/docker/x", false, "/cg/docker/x");
	expect_place("/own", "//a/./b/../c/", true, "/cg/a/c");
	expect_place("/own", "/../../x", false, "/cg/x");
	expect_place("/own/er", "rel/x", false, "/cg/own/er/rel/x");
	expect_place("/own/er", "../../../x", false, "/cg/own/er/x");
	expect_place("/", "x", false, "/cg/x");
	/* v2: a cgroup with processes hands no controllers down */
	expect_place("/own/er", "x", true, "/cg/own/x");
	expect_place("/own", "x", true, "/cg/x");
	expect_place("/", "x", true, "/cg/x");
}

static void expect_unit(const char *path, const char *slice, const char *unit)
{
	cleanup_free char *s = NULL, *u = NULL;
	struct error err = ERROR_INIT;

	if (cgroup_path_systemd(path, "id", &s, &u, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(s, slice);
	assert_string_equal(u, unit);
}

static void expect_no_unit(const char *path, const char *words)
{
	cleanup_free char *s = NULL, *u = NULL;
	struct error err = ERROR_INIT;

	assert_int_equal(cgroup_path_systemd(path, "id", &s, &u, &err), -1);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" instead of \"%s\"", err.msg, words);
}

static void test_systemd_names(void **state UNUSED)
{
	expect_unit(NULL, "system.slice", "husk-id.scope");
	expect_unit("machine.slice:libpod:abc", "machine.slice", "libpod-abc.scope");
	expect_unit(":docker:abc", "system.slice", "docker-abc.scope");
	expect_unit("kubepods-pod1.slice:cri-containerd:abc", "kubepods-pod1.slice",
		    "cri-containerd-abc.scope");
	expect_unit("user.slice::abc", "user.slice", "abc.scope");
	expect_no_unit("/docker/abc", "slice:prefix:name");
	expect_no_unit("a.slice:b", "slice:prefix:name");
	expect_no_unit("a.slice:b:", "slice:prefix:name");
	expect_no_unit("a:b:c", "slice:prefix:name");
	expect_no_unit("a.slice:b:c.slice", "cannot be a slice");
	expect_no_unit("a.slice:b:c d", "no name of a unit");
	expect_no_unit("a b.slice:b:c", "no name of a unit");
}

/* ---- limits */

static const struct limit_target on_v1 = {
	.version = {LIMIT_V1, LIMIT_V1, LIMIT_V1, LIMIT_V1},
	.machine_bytes = 1000,
	.overhead_bytes = 50,
};
static const struct limit_target on_v2 = {
	.version = {LIMIT_V2, LIMIT_V2, LIMIT_V2, LIMIT_V2},
	.machine_bytes = 1000,
	.overhead_bytes = 50,
};
static const struct limit_target nowhere = {.machine_bytes = 1000};
static const struct limit_target proxy = {
	.version = {LIMIT_V2, LIMIT_V2, LIMIT_V2, LIMIT_V2},
	.overhead_bytes = 50,
};

/* "file=value file=value|other=value": what is written, in this order. */
static void expect(const struct limit_target *t, const char *json, const char *want)
{
	cleanup_oci_resources struct oci_resources *r = NULL;
	cleanup_cgroup_limits struct cgroup_limits l = {0};
	struct error err = ERROR_INIT;
	char got[2048] = "";

	if (oci_resources_parse(json, strlen(json), &r, &err) < 0 ||
	    cgroup_limits_build(r, t, &l, &err) < 0)
		fail_msg("%s: %s", json, err.msg);
	for (size_t i = 0; i < l.n; i++) {
		size_t n = strlen(got);

		snprintf(got + n, sizeof(got) - n, "%s%s%s=%s%s%s%s%s", i ? " " : "",
			 l.v[i].optional ? "?" : "", l.v[i].file, l.v[i].value,
			 l.v[i].instead[0] ? "|" : "", l.v[i].instead, l.v[i].instead[0] ? "=" : "",
			 l.v[i].instead_value ? l.v[i].instead_value : "");
	}
	assert_string_equal(got, want);
}

static void expect_refusal(const struct limit_target *t, const char *json, const char *words)
{
	cleanup_oci_resources struct oci_resources *r = NULL;
	cleanup_cgroup_limits struct cgroup_limits l = {0};
	struct error err = ERROR_INIT;

	assert_int_equal(oci_resources_parse(json, strlen(json), &r, &err), 0);
	assert_int_equal(cgroup_limits_build(r, t, &l, &err), -1);
	assert_int_equal(err.kind, ERR_UNSUPPORTED);
	if (!strstr(err.msg, words))
		fail_msg("\"%s\" instead of \"%s\"", err.msg, words);
}

static void test_memory(void **state UNUSED)
{
	const char *both = "{\"memory\":{\"limit\":500,\"swap\":700,\"reservation\":300}}";
	const char *none = "{\"memory\":{\"limit\":-1,\"swap\":-1,\"reservation\":-1}}";

	/* the machine's memory is what is bounded, and what husk needs comes on top */
	expect(&on_v1, both,
	       "memory.limit_in_bytes=1050 ?memory.memsw.limit_in_bytes=1250 "
	       "?memory.soft_limit_in_bytes=300");
	expect(&on_v2, both, "?memory.swap.max=200 memory.max=1050 memory.low=300");
	expect(&proxy, both, "?memory.swap.max=200 memory.max=550 memory.low=300");
	expect(&on_v1, none,
	       "memory.limit_in_bytes=-1 ?memory.memsw.limit_in_bytes=-1 "
	       "?memory.soft_limit_in_bytes=-1");
	expect(&on_v2, none, "?memory.swap.max=max memory.max=max memory.low=max");
	/* the guest has no more than its machine has */
	expect(&nowhere, both, "");
	expect(&on_v2, "{\"memory\":{}}", "");
}

static void test_cpu(void **state UNUSED)
{
	const char *all =
		"{\"cpu\":{\"shares\":512,\"quota\":50000,\"period\":100000,\"burst\":1000,"
		"\"cpus\":\"0-1,3\",\"mems\":\"0\",\"idle\":0}}";

	/* half a processor on top */
	expect(&on_v1, all,
	       "cpu.shares=512 cpu.cfs_period_us=100000 cpu.cfs_quota_us=100000 "
	       "?cpu.cfs_burst_us=1000 ?cpu.idle=0 cpuset.cpus=0-1,3 cpuset.mems=0");
	expect(&on_v2, all,
	       "cpu.weight=59 cpu.max=100000 100000 ?cpu.max.burst=1000 ?cpu.idle=0 "
	       "cpuset.cpus=0-1,3 cpuset.mems=0");
	expect(&on_v2, "{\"cpu\":{\"quota\":2000,\"period\":10000}}", "cpu.max=7000 10000");
	expect(&on_v1, "{\"cpu\":{\"quota\":2000}}", "cpu.cfs_quota_us=52000");
	expect(&on_v1, "{\"cpu\":{\"quota\":-1}}", "cpu.cfs_quota_us=-1");
	expect(&on_v2, "{\"cpu\":{\"quota\":-1}}", "cpu.max=max 100000");
	expect(&on_v2, "{\"cpu\":{\"period\":50000}}", "cpu.max=max 50000");
	/* the guest holds to a quota, not to what is among the host's containers */
	expect(&nowhere, "{\"cpu\":{\"quota\":5000,\"idle\":1}}", "");
	expect_refusal(
		&nowhere, "{\"cpu\":{\"shares\":2}}",
		"linux.resources.cpu.shares: the container has no cgroup with controller cpu on");
	expect_refusal(
		&nowhere, "{\"cpu\":{\"mems\":\"0\"}}",
		"linux.resources.cpu.mems: the container has no cgroup with controller cpuset");
}

static void test_block_io(void **state UNUSED)
{
	const char *all = "{\"blockIO\":{\"weight\":500,\"weightDevice\":[{\"major\":8,\"minor\":0,"
			  "\"weight\":10}],\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":1,"
			  "\"rate\":600}],"
			  "\"throttleWriteBpsDevice\":[{\"major\":8,\"minor\":2,\"rate\":601}],"
			  "\"throttleReadIOPSDevice\":[{\"major\":8,\"minor\":3,\"rate\":602}],"
			  "\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":4,\"rate\":0}]}}";

	expect(&on_v1, all,
	       "blkio.bfq.weight=500|blkio.weight=500 "
	       "blkio.bfq.weight_device=8:0 10|blkio.weight_device=8:0 10 "
	       "blkio.throttle.read_bps_device=8:1 600 blkio.throttle.write_bps_device=8:2 601 "
	       "blkio.throttle.read_iops_device=8:3 602 blkio.throttle.write_iops_device=8:4 0");
	expect(&on_v2, all,
	       "io.bfq.weight=500|io.weight=4950 io.bfq.weight=8:0 10|io.weight=8:0 1 "
	       "io.max=8:1 rbps=600 io.max=8:2 wbps=601 io.max=8:3 riops=602 io.max=8:4 wiops=max");
	expect(&nowhere, "{\"blockIO\":{\"weight\":0}}", "");
	expect_refusal(&nowhere, all,
		       "linux.resources.blockIO: the container has no cgroup with controller io");
}

static void test_unified(void **state UNUSED)
{
	expect(&on_v2, "{\"unified\":{\"io.max\":\"8:0 rbps=1\",\"memory.high\":\"1\"}}",
	       "io.max=8:0 rbps=1");
	expect(&on_v2, "{\"unified\":{\"cpuset.cpus\":\"3\",\"pids.max\":\"5\"}}", "cpuset.cpus=3");
	expect(&on_v1, "{\"unified\":{\"cpuset.mems\":\"0\"}}", "cpuset.mems=0");
	expect_refusal(&on_v1, "{\"unified\":{\"io.max\":\"8:0 rbps=1\"}}",
		       "linux.resources.unified[\"io.max\"]: this host's cgroups of block I/O are "
		       "v1: use linux.resources.blockIO");
	expect_refusal(&nowhere, "{\"unified\":{\"cpuset.cpus\":\"0\"}}",
		       "linux.resources.unified[\"cpuset.cpus\"]: the container has no");
}

/* pids, huge pages and devices are the guest's alone. */
static void test_what_is_the_guests(void **state UNUSED)
{
	const char *json = "{\"pids\":{\"limit\":5},\"hugepageLimits\":[{\"pageSize\":\"2MB\","
			   "\"limit\":0}],\"devices\":[{\"allow\":false}]}";
	cleanup_oci_resources struct oci_resources *r = NULL;

	expect(&on_v2, json, "");
	assert_int_equal(oci_resources_parse(json, strlen(json), &r, NULL), 0);
	assert_false(cgroup_limits_any(r));
}

/* ---- state.json */

static void test_state(void **state UNUSED)
{
	char *dirs[] = {(char *)"/a/b", (char *)"/c \"d\"", NULL};
	struct host_cgroup cg = {.dirs = dirs,
				 .unit = (char *)"x.scope",
				 .made = true,
				 .machine_bytes = 1ull << 33,
				 .overhead_bytes = 7,
				 .oom_score_adj = {true, -5}};
	struct host_cgroup back;
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;
	const char *text;
	size_t len;

	jsonw_init(&w, false, NULL);
	host_cgroup_write(&w, &cg);
	text = jsonw_finish(&w, &len, NULL);
	v = json_parse(text, len, NULL);
	host_cgroup_read(v, &back);
	assert_string_equal(back.dirs[0], dirs[0]);
	assert_string_equal(back.dirs[1], dirs[1]);
	assert_null(back.dirs[2]);
	assert_string_equal(back.unit, cg.unit);
	assert_int_equal(back.machine_bytes, cg.machine_bytes);
	assert_true(back.made);
	assert_int_equal(back.overhead_bytes, 7);
	assert_true(back.oom_score_adj.has);
	assert_int_equal(back.oom_score_adj.v, -5);
	host_cgroup_free(&back);
	host_cgroup_read(NULL, &back);
	assert_null(back.dirs);
	assert_null(back.unit);
	assert_false(back.oom_score_adj.has);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_hybrid),
		cmocka_unit_test(test_no_cgroups),
		cmocka_unit_test(test_a_mount_of_a_part),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_systemd_names),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_cpu),
		cmocka_unit_test(test_block_io),
		cmocka_unit_test(test_unified),
		cmocka_unit_test(test_what_is_the_guests),
		cmocka_unit_test(test_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
