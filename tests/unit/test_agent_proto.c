/* The agent's requests and answers, tokens, and the lines of `ps`. */
#include "agent/proto.h"
#include "agent/ps.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define LOWER "{\"serial\":\"c-lower\",\"type\":\"erofs\"}"

static void expect_invalid(const char *text, const char *message, bool has_seq)
{
	cleanup_proto_request struct proto_request r = {0};
	struct error err = ERROR_INIT;

	assert_int_equal(proto_parse(text, strlen(text), &r, &err), -1);
	assert_int_equal(err.kind, ERR_INVALID);
	assert_int_equal(r.has_seq, has_seq);
	if (!strstr(err.msg, message))
		fail_msg("\"%s\" instead of \"%s\"", err.msg, message);
}

static void parse_ok(const char *text, struct proto_request *r)
{
	struct error err = ERROR_INIT;

	if (proto_parse(text, strlen(text), r, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_simple_requests(void **state UNUSED)
{
	struct proto_request r;

	parse_ok("{\"seq\":-5,\"op\":\"hello\"}", &r);
	assert_int_equal(r.seq, -5);
	assert_int_equal(r.op, OP_HELLO);
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"kill\",\"container\":\"a.b\",\"process\":\"12\",\"signal\":9,"
		 "\"all\":true}",
		 &r);
	assert_int_equal(r.op, OP_KILL);
	assert_string_equal(r.container, "a.b");
	assert_string_equal(r.process, "12");
	assert_int_equal(r.signal, 9);
	assert_true(r.all);
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"resize\",\"container\":\"c\",\"width\":80,\"height\":24}",
		 &r);
	assert_string_equal(r.process, "");
	assert_int_equal(r.width, 80);
	assert_int_equal(r.height, 24);
	proto_request_free(&r);
}

static void test_create(void **state UNUSED)
{
	struct proto_request r;

	parse_ok("{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 "],\"upper\":null},\"config\":{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"r\"},"
		 "\"linux\":{\"namespaces\":[{\"type\":\"mount\"}]},"
		 "\"process\":{\"cwd\":\"/\",\"args\":[\"true\"]}}}",
		 &r);
	assert_int_equal(r.root.n_lower, 1);
	assert_string_equal(r.root.lower[0].serial, "c-lower");
	assert_string_equal(r.root.lower[0].type, "erofs");
	assert_string_equal(r.root.upper, "");
	assert_false(r.root.index);
	assert_int_equal(r.n_mounts, 0);
	assert_string_equal(r.config->process->args[0], "true");
	proto_request_free(&r);
}

#define CONFIG_MOUNTS                                                                             \
	"\"config\":{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"r\"},\"process\":{\"cwd\":\"/" \
	"\",\"args\":[\"true\"]},\"mounts\":[{\"destination\":\"/a\"},{\"destination\":\"/b\"},{" \
	"\"destination\":\"/c\"},{\"destination\":\"/d\"}]}"

static void test_disks_and_mounts(void **state UNUSED)
{
	struct proto_request r;

	parse_ok(
		"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[{\"serial\":"
		"\"u\",\"type\":\"xfs\"}," LOWER "],\"upper\":\"s\",\"index\":true},"
		"\"mounts\":[{\"mount\":3,\"from\":\"project\",\"name\":\"p.1\",\"writable\":true},"
		"{\"mount\":0,\"from\":\"share\",\"name\":\"s\"},{\"mount\":1,\"from\":\"disk\","
		"\"serial\":\"d\",\"type\":\"ext4\"},{\"mount\":2,\"from\":\"device\",\"name\":"
		"\"null\"}]," CONFIG_MOUNTS "}",
		&r);
	assert_int_equal(r.root.n_lower, 2);
	assert_string_equal(r.root.lower[0].serial, "u");
	assert_string_equal(r.root.lower[0].type, "xfs");
	assert_string_equal(r.root.lower[1].serial, "c-lower");
	assert_string_equal(r.root.upper, "s");
	assert_true(r.root.index);
	assert_int_equal(r.n_mounts, 4);
	assert_int_equal(r.mounts[0].index, 3);
	assert_int_equal(r.mounts[0].from, PROTO_MOUNT_PROJECT);
	assert_string_equal(r.mounts[0].name, "p.1");
	assert_true(r.mounts[0].writable);
	assert_int_equal(r.mounts[1].from, PROTO_MOUNT_SHARE);
	assert_false(r.mounts[1].writable);
	assert_int_equal(r.mounts[2].from, PROTO_MOUNT_DISK);
	assert_string_equal(r.mounts[2].serial, "d");
	assert_string_equal(r.mounts[2].type, "ext4");
	assert_int_equal(r.mounts[3].from, PROTO_MOUNT_DEVICE);
	assert_string_equal(r.mounts[3].name, "null");
	proto_request_free(&r);
}

static void test_bad_mounts(void **state UNUSED)
{
	static const struct {
		const char *mounts, *message;
	} cases[] = {
		{"{}", "mounts: must be a list"},
		{"[1]", "mounts[0].mount: "},
		{"[{\"mount\":4,\"from\":\"share\",\"name\":\"n\"}]", "mounts[0].mount: "},
		{"[{\"mount\":-1,\"from\":\"share\",\"name\":\"n\"}]", "mounts[0].mount: "},
		{"[{\"mount\":1}]", "mounts[0].from: "},
		{"[{\"mount\":1,\"from\":\"sky\"}]", "mounts[0].from: unknown: sky"},
		{"[{\"mount\":1,\"from\":\"project\"}]", "mounts[0].name: "},
		{"[{\"mount\":1,\"from\":\"project\",\"name\":\"..\"}]", "mounts[0].name: "},
		{"[{\"mount\":1,\"from\":\"share\",\"name\":\"a/b\"}]", "mounts[0].name: "},
		{"[{\"mount\":1,\"from\":\"pod\",\"name\":\"n\",\"size\":-1}]", "mounts[0].size: "},
		{"[{\"mount\":1,\"from\":\"pod\",\"name\":\"n\",\"size\":\"1m\"}]",
		 "mounts[0].size: "},
		{"[{\"mount\":1,\"from\":\"pod\"}]", "mounts[0].name: "},
		{"[{\"mount\":1,\"from\":\"disk\",\"name\":\"n\"}]", "mounts[0].serial: "},
		{"[{\"mount\":1,\"from\":\"disk\",\"serial\":\"n\"}]", "mounts[0].type: "},
		{"[{\"mount\":1,\"from\":\"share\",\"name\":\"n\"},{\"mount\":1,\"from\":"
		 "\"device\","
		 "\"name\":\"null\"}]",
		 "mounts[1].mount: 1 is there twice"},
		{"[0,0,0,0,0]", "mounts: must be a list"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cleanup_free char *text =
			xasprintf("{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{"
				  "\"lower\":[" LOWER "]},\"mounts\":%s," CONFIG_MOUNTS "}",
				  cases[i].mounts);

		expect_invalid(text, cases[i].message, true);
	}
}

#define CONFIG_DEVICES                                                                          \
	"\"config\":{\"ociVersion\":\"1.2.0\",\"process\":{\"cwd\":\"/\",\"args\":[\"true\"]}," \
	"\"linux\":{\"devices\":[{\"path\":\"/dev/c\",\"type\":\"c\",\"major\":1,\"minor\":3}," \
	"{\"path\":\"/dev/b\",\"type\":\"b\",\"major\":7,\"minor\":0}]}}"

static void test_devices(void **state UNUSED)
{
	static const struct {
		const char *devices, *message;
	} bad[] = {
		{"{}", "devices: must be a list"},
		{"[0,0,0]", "devices: must be a list"},
		{"[1]", "devices[0].device: "},
		{"[{\"device\":0,\"serial\":\"d\"}]",
		 "devices[0].device: "}, /* not a block device */
		{"[{\"device\":2,\"serial\":\"d\"}]", "devices[0].device: "},
		{"[{\"device\":1}]", "devices[0].serial: "},
		{"[{\"device\":1,\"serial\":\"d\"},{\"device\":1,\"serial\":\"e\"}]",
		 "devices[1].device: "},
	};
	struct proto_request r;

	parse_ok("{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 "]},\"devices\":[{\"device\":1,\"serial\":\"dev1\"}]," CONFIG_DEVICES "}",
		 &r);
	assert_int_equal(r.n_devices, 1);
	assert_int_equal(r.devices[0].index, 1);
	assert_string_equal(r.devices[0].serial, "dev1");
	proto_request_free(&r);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		cleanup_free char *text =
			xasprintf("{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{"
				  "\"lower\":[" LOWER "]},\"devices\":%s," CONFIG_DEVICES "}",
				  bad[i].devices);

		expect_invalid(text, bad[i].message, true);
	}
}

static void test_a_tmpfs_of_the_pod(void **state UNUSED)
{
	struct proto_request r;

	parse_ok("{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 "]},"
		 "\"mounts\":[{\"mount\":0,\"from\":\"pod\",\"name\":\"shm\",\"size\":67108864},"
		 "{\"mount\":1,\"from\":\"pod\",\"name\":\"other\"}]," CONFIG_MOUNTS "}",
		 &r);
	assert_int_equal(r.mounts[0].from, PROTO_MOUNT_POD);
	assert_string_equal(r.mounts[0].name, "shm");
	assert_int_equal(r.mounts[0].size, 64 << 20);
	assert_int_equal(r.mounts[1].size, 0);
	proto_request_free(&r);
}

/* ---- join */

#define CREATE_JOINING(join)                                                                    \
	"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER "]},"    \
	"\"join\":" join ",\"config\":{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"r\"},"     \
	"\"process\":{\"cwd\":\"/\",\"args\":[\"true\"]},\"linux\":{\"namespaces\":[{\"type\":" \
	"\"mount\"},{\"type\":\"pid\"},{\"type\":\"ipc\",\"path\":\"/proc/7/ns/ipc\"}]}}}"

static void test_join(void **state UNUSED)
{
	struct proto_request r;

	parse_ok(CREATE_JOINING("{\"ipc\":\"sandbox\",\"pid\":\"other_1\"}"), &r);
	assert_string_equal(r.join.ipc, "sandbox");
	assert_string_equal(r.join.pid, "other_1");
	assert_null(r.join.uts);
	proto_request_free(&r);
	parse_ok(CREATE_JOINING("{}"), &r);
	assert_null(r.join.ipc);
	proto_request_free(&r);
	expect_invalid(CREATE_JOINING("[]"), "join: must be an object", true);
	expect_invalid(CREATE_JOINING("{\"ipc\":7}"), "join.ipc: must be a string", true);
	expect_invalid(CREATE_JOINING("{\"ipc\":\"a/b\"}"), "join.ipc: must be 1 to", true);
	expect_invalid(CREATE_JOINING("{\"ipc\":\"..\"}"), "join.ipc: must be 1 to", true);
	expect_invalid(CREATE_JOINING("{\"uts\":\"s\"}"), "join.uts: config has no uts namespace",
		       true);
	expect_invalid(CREATE_JOINING("{\"user\":\"s\"}"),
		       "join.user: config has no user namespace", true);
	expect_invalid(CREATE_JOINING("{\"net\":\"s\"}"), "join: there may be", true);
	expect_invalid(CREATE_JOINING("{\"ipc\":\"a\",\"ipc\":\"b\"}"), "join: there may be", true);
}

static void test_changes_and_push(void **state UNUSED)
{
	struct proto_request r;

	parse_ok("{\"seq\":1,\"op\":\"changes\",\"container\":\"c\",\"what\":\"root\"}", &r);
	assert_int_equal(r.op, OP_CHANGES);
	assert_int_equal(r.what, PROTO_WHAT_ROOT);
	assert_string_equal(r.container, "c");
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"changes\",\"what\":\"disk\",\"serial\":\"s\"}", &r);
	assert_int_equal(r.what, PROTO_WHAT_DISK);
	assert_string_equal(r.serial, "s");
	assert_null(r.container);
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"push\",\"what\":\"projects\",\"container\":\"c\"}", &r);
	assert_int_equal(r.op, OP_PUSH);
	assert_int_equal(r.what, PROTO_WHAT_PROJECTS);
	assert_string_equal(r.container, "c");
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"watch\",\"container\":\"c\"}", &r);
	assert_int_equal(r.op, OP_WATCH);
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"release\",\"serial\":\"s\"}", &r);
	assert_int_equal(r.op, OP_RELEASE);
	assert_string_equal(r.serial, "s");
	assert_null(r.container);
	assert_false(r.detached);
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"release\",\"serial\":\"s\",\"detached\":true}", &r);
	assert_true(r.detached);
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"release\",\"share\":\"m3.0a1b2c3d\"}", &r);
	assert_string_equal(r.share, "m3.0a1b2c3d");
	assert_string_equal(r.serial, "");
	proto_request_free(&r);
	expect_invalid("{\"seq\":1,\"op\":\"release\",\"share\":\"..\"}", "share: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"push\",\"what\":\"projects\"}", "container: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"release\"}", "serial: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"release\",\"serial\":\"a/b\"}", "serial: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"changes\",\"container\":\"c\"}", "what: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"changes\",\"what\":\"root\"}", "container: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"changes\",\"what\":\"projects\"}", "container: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"changes\",\"what\":\"disk\"}", "serial: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"push\",\"what\":\"disk\",\"serial\":\"s\"}",
		       "what: unknown: disk", true);
	expect_invalid("{\"seq\":1,\"op\":\"push\",\"what\":\"projects\",\"container\":\"/\"}",
		       "container: ", true);
	expect_invalid("{\"seq\":1,\"op\":\"watch\"}", "container: ", true);
}

#define NETWORK(more)                                                                \
	"{\"seq\":1,\"op\":\"network\",\"links\":[{\"index\":7,\"name\":\"eth0.5\"," \
	"\"kind\":\"veth\"},{\"index\":8,\"name\":\"b\",\"kind\":\"veth\"}]" more "}"
#define MAC1 "\"mac\":\"02:68:75:73:6b:0f\""

static void test_network(void **state UNUSED)
{
	static const uint8_t mac[6] = {2, 0x68, 0x75, 0x73, 0x6b, 0x0f};
	struct proto_request r;

	parse_ok(NETWORK(",\"cards\":[{\"link\":8," MAC1 "}],\"resolver\":true,"
			 "\"sysctls\":{\"net/ipv4/conf/eth0.5/rp_filter\":\"2\"}"),
		 &r);
	assert_int_equal(r.op, OP_NETWORK);
	assert_null(r.container);
	assert_int_equal(r.network->config.n_links, 2);
	assert_int_equal(r.network->n_cards, 1);
	assert_int_equal(r.network->cards[0].link, 8);
	assert_memory_equal(r.network->cards[0].mac, mac, 6);
	assert_true(r.network->resolver);
	assert_int_equal(r.network->n_sysctls, 1);
	assert_string_equal(r.network->sysctls[0].name, "net/ipv4/conf/eth0.5/rp_filter");
	assert_string_equal(r.network->sysctls[0].value, "2");
	proto_request_free(&r);
	parse_ok(NETWORK(""), &r);
	assert_int_equal(r.network->n_cards + r.network->n_sysctls + r.network->resolver, 0);
	proto_request_free(&r);
	parse_ok("{\"seq\":1,\"op\":\"resolver\"}", &r);
	assert_int_equal(r.op, OP_RESOLVER);
	proto_request_free(&r);
}

static void test_bad_networks(void **state UNUSED)
{
	static const char *const names[] = {
		"net/ipv4/ip_forward",	 "net/ipv4/conf/../ip_forward",
		"net/ipv4/conf/eth0/..", "net/ipv4/conf//x",
		"net/ipv4/conf/eth0/",	 "net/ipv4/conf/eth0/a/b",
		"net/ipv4/conf/eth0",	 "kernel/conf/eth0/x",
		"/net/ipv4/conf/eth0/x", "net/ipv5/conf/eth0/x",
		"net/ipv4/conf/e th/x",	 "net/ipv4/conf/longer-than-a-name/x",
	};

	expect_invalid(NETWORK(",\"cards\":{}"), "cards: must be a list", true);
	expect_invalid(NETWORK(",\"cards\":[{\"link\":9," MAC1 "}]"), "cards[0].link: ", true);
	expect_invalid(NETWORK(",\"cards\":[{" MAC1 "}]"), "cards[0].link: ", true);
	expect_invalid(NETWORK(",\"cards\":[{\"link\":7,\"mac\":\"02:68:75:73:6b:0f:00\"}]"),
		       "cards[0].mac: ", true);
	expect_invalid(NETWORK(",\"cards\":[{\"link\":7,\"mac\":\"02:68:75:73:6b\"}]"),
		       "cards[0].mac: ", true);
	expect_invalid(NETWORK(",\"cards\":[{\"link\":7," MAC1 "},{\"link\":8," MAC1 "}]"),
		       "cards[1]: same link or address as cards[0]", true);
	expect_invalid(NETWORK(",\"routes\":[{\"dst\":\"10.0.0.0/8\",\"link\":3}]"),
		       "routes[0].link: ", true);
	expect_invalid(NETWORK(",\"sysctls\":[]"), "sysctls: must be an object", true);
	expect_invalid(NETWORK(",\"sysctls\":{\"net/ipv4/conf/b/x\":1}"), "must be a string", true);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		cleanup_free char *text =
			xasprintf(NETWORK(",\"sysctls\":{\"%s\":\"1\"}"), names[i]);

		expect_invalid(text, "not of an interface", true);
	}
}

static void test_refusals(void **state UNUSED)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{"{\"seq\":1}", "op: "},
		{"{\"seq\":1,\"op\":\"x\"}", "op: unknown: x"},
		{"{\"seq\":1,\"op\":\"wait\"}", "container: "},
		{"{\"seq\":1,\"op\":\"wait\",\"container\":\"\"}", "container: "},
		{"{\"seq\":1,\"op\":\"wait\",\"container\":\"..\"}", "container: "},
		{"{\"seq\":1,\"op\":\"wait\",\"container\":\"a/b\"}", "container: "},
		{"{\"seq\":1,\"op\":\"wait\",\"container\":\"c\",\"process\":\"x\"}", "process: "},
		{"{\"seq\":1,\"op\":\"wait\",\"container\":\"c\",\"process\":"
		 "\"1234567890123456\"}",
		 "process: "},
		{"{\"seq\":1,\"op\":\"kill\",\"container\":\"c\",\"signal\":0}", "signal: "},
		{"{\"seq\":1,\"op\":\"kill\",\"container\":\"c\",\"signal\":65}", "signal: "},
		{"{\"seq\":1,\"op\":\"resize\",\"container\":\"c\",\"width\":1}", "height: "},
		{"{\"seq\":1,\"op\":\"resize\",\"container\":\"c\",\"width\":65536,\"height\":1}",
		 "width: "},
		{"{\"seq\":1,\"op\":\"exec\",\"container\":\"c\"}", "spec: "},
		{"{\"seq\":1,\"op\":\"exec\",\"container\":\"c\",\"spec\":{\"cwd\":1}}",
		 "spec: process.cwd"},
		{"{\"seq\":1,\"op\":\"update\",\"container\":\"c\"}", "resources: "},
		{"{\"seq\":1,\"op\":\"pause\",\"container\":\"c\",\"by\":\"me\"}",
		 "by: unknown: me"},
		{"{\"seq\":1,\"op\":\"exec\",\"container\":\"c\",\"spec\":{},\"cgroup\":\"a/../"
		 "b\"}",
		 "cgroup: "},
		{"{\"seq\":1,\"op\":\"exec\",\"container\":\"c\",\"spec\":{},\"cgroup\":\"/a\"}",
		 "cgroup: "},
		{"{\"seq\":1,\"op\":\"exec\",\"container\":\"c\",\"spec\":{},\"cgroup\":\"\"}",
		 "cgroup: "},
		{"{\"seq\":1,\"op\":\"stats\"}", "container: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\"}", "root: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{}}", "root.lower: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[]}}",
		 "root.lower: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[1]}}",
		 "root.lower[0].type: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 "," LOWER "," LOWER "," LOWER "]}}",
		 "root.lower: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 ",{\"serial\":\"x\",\"type\":\"vfat\"}]}}",
		 "root.lower[1].type: unknown: vfat"},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[{\"type\":"
		 "\"ext4\",\"serial\":\"../x\"}]}}",
		 "root.lower[0].serial: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[{\"type\":"
		 "\"ext4\",\"serial\":\"123456789012345678901\"}]}}",
		 "root.lower[0].serial: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 "],\"upper\":1}}",
		 "root.upper: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 "]}}",
		 "config: "},
		{"{\"seq\":1,\"op\":\"create\",\"container\":\"c\",\"root\":{\"lower\":[" LOWER
		 "]},"
		 "\"config\":{\"ociVersion\":1}}",
		 "config: ociVersion"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		expect_invalid(cases[i].text, cases[i].message, true);
	expect_invalid("", "", false);
	expect_invalid("[]", "not an object", false);
	expect_invalid("{\"seq\":\"1\",\"op\":\"hello\"}", "seq: ", false);
	expect_invalid("{\"seq\":1,", "line 1", false);
}

static char *text_of(const struct proto_reply *r)
{
	char *text = NULL;
	size_t len;

	assert_int_equal(proto_reply_text(r, &text, &len, NULL), 0);
	assert_int_equal(strlen(text), len);
	return text;
}

static void expect_text(const struct proto_reply *r, const char *wanted)
{
	cleanup_free char *text = text_of(r);

	assert_string_equal(text, wanted);
}

static void test_answers(void **state UNUSED)
{
	struct error err = {.kind = ERR_NOT_RUNNING, .msg = "no \"x\""};
	struct proto_reply r = {.type = REPLY_OK, .seq = 9};

	expect_text(&r, "{\"seq\":9,\"ok\":true}");
	r.type = REPLY_ERROR;
	r.error = &err;
	expect_text(&r, "{\"seq\":9,\"error\":{\"kind\":\"not_running\",\"message\":\"no "
			"\\\"x\\\"\"}}");
	r = (struct proto_reply){.type = REPLY_WAIT, .status = 137, .signal = 9, .oom = true};
	expect_text(&r, "{\"seq\":0,\"ok\":true,\"status\":137,\"signal\":9,\"oom\":true,"
			"\"killed\":false}");
	r = (struct proto_reply){.type = REPLY_PROCESS, .pid = 7, .process = "1", .console = "abc"};
	expect_text(&r, "{\"seq\":0,\"ok\":true,\"pid\":7,\"process\":\"1\",\"streams\":{"
			"\"console\":\"abc\"}}");
	r = (struct proto_reply){.type = REPLY_STREAM, .stream = "abc"};
	expect_text(&r, "{\"seq\":0,\"ok\":true,\"stream\":\"abc\"}");
	r = (struct proto_reply){.type = REPLY_STREAM, .stream = "abc", .result = "def"};
	expect_text(&r, "{\"seq\":0,\"ok\":true,\"stream\":\"abc\",\"result\":\"def\"}");
	r = (struct proto_reply){
		.type = REPLY_HELLO, .kernel = "6.12", .kernel_us = 5, .agent_us = 6};
	expect_text(&r, "{\"seq\":0,\"ok\":true,\"version\":1,\"kernel\":\"6.12\",\"times_us\":{"
			"\"kernel\":5,\"agent\":6}}");
}

static void test_events(void **state UNUSED)
{
	cleanup_free char *text = NULL;
	size_t len;

	assert_int_equal(proto_event_text("oom", "c", NULL, &text, &len, NULL), 0);
	assert_string_equal(text, "{\"event\":\"oom\",\"container\":\"c\"}");
	free(text);
	assert_int_equal(proto_event_text("changed", "c", "n", &text, &len, NULL), 0);
	assert_string_equal(text, "{\"event\":\"changed\",\"container\":\"c\",\"name\":\"n\"}");
}

static void test_the_longest_ps_fits_a_message(void **state UNUSED)
{
	struct proto_ps *list = calloc(PROTO_PS_MAX, sizeof(*list));
	struct proto_reply r = {.type = REPLY_PS, .ps = list, .n_ps = PROTO_PS_MAX};

	for (int i = 0; i < PROTO_PS_MAX; i++) {
		struct proto_ps *p = &list[i];

		*p = (struct proto_ps){.pid = INT32_MAX,
				       .ppid = INT32_MAX,
				       .uid = UINT32_MAX,
				       .cpu_s = UINT32_MAX,
				       .named = true};
		memset(p->tty, 'x', sizeof(p->tty) - 1);
		memset(p->cmd, '"', sizeof(p->cmd) - 1);
		memset(p->process, '1', sizeof(p->process) - 1);
	}
	free(text_of(&r));
	free(list);
}

static void test_tokens(void **state UNUSED)
{
	unsigned char token[16], again[16];
	char text[PROTO_TOKEN_HEX + 1];

	for (int i = 0; i < 16; i++)
		token[i] = (unsigned char)(i * 17);
	proto_token_text(token, text);
	assert_string_equal(text, "00112233445566778899aabbccddeeff");
	assert_int_equal(proto_token_parse(text, again), 0);
	assert_memory_equal(again, token, 16);
	text[31] = 'F';
	assert_int_equal(proto_token_parse(text, again), -1);
	text[31] = '\0';
	assert_int_equal(proto_token_parse(text, again), -1);
}

static void test_stat_lines(void **state UNUSED)
{
	struct proto_ps p = {0};

	assert_int_equal(ps_parse_stat("42 (a) b) S 7 42 42 34817 42 4194304 1 2 3 4 300 61 5 6 20 "
				       "0 1 0 12345 99 1",
				       1000, 100, &p),
			 0);
	assert_int_equal(p.pid, 42);
	assert_int_equal(p.ppid, 7);
	assert_string_equal(p.tty, "pts/1");
	assert_string_equal(p.cmd, "[a) b]");
	assert_int_equal(p.cpu_s, 3);
	assert_int_equal(p.start_s, 1123);
	assert_int_equal(ps_parse_stat("42 (a", 0, 100, &p), -1);
	assert_int_equal(ps_parse_stat("42 )a(", 0, 100, &p), -1);
	assert_int_equal(ps_parse_stat("42 (a) S 1", 0, 100, &p), -1);
	assert_int_equal(ps_parse_stat("", 0, 100, &p), -1);
}

static void test_command_lines(void **state UNUSED)
{
	char out[PROTO_PS_CMD_MAX + 1] = "[x]", many[2 * PROTO_PS_CMD_MAX];

	ps_parse_cmdline("\0\0", 2, out);
	assert_string_equal(out, "[x]");
	ps_parse_cmdline("sh\0-c\0a\nb\0", 10, out);
	assert_string_equal(out, "sh -c a b");
	memset(many, 'm', sizeof(many));
	ps_parse_cmdline(many, sizeof(many), out);
	assert_int_equal(strlen(out), PROTO_PS_CMD_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simple_requests),
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_disks_and_mounts),
		cmocka_unit_test(test_bad_mounts),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_changes_and_push),
		cmocka_unit_test(test_a_tmpfs_of_the_pod),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_network),
		cmocka_unit_test(test_bad_networks),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_the_longest_ps_fits_a_message),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_stat_lines),
		cmocka_unit_test(test_command_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
