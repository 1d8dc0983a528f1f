/* What the agent parses: a request of the host (first byte '0', or none of these), a
 * /proc/<pid>/stat line ('1'), a command line ('2'), the kernel's texts about a cgroup and its
 * links
 * ('3'). Whatever the bytes, what comes out is within
 * its limits, and an error can be answered. */
#include "agent/proto.h"
#include "agent/ps.h"
#include "agent/stats.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void try_answer(struct proto_reply *r)
{
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;
	size_t len;
	yajl_val v;

	expect(proto_reply_text(r, &text, &len, &err) == 0);
	v = json_parse(text, len, &err);
	expect(v && json_int(v, "seq", r->seq + 1) == r->seq);
	yajl_tree_free(v);
}

static void expect_name(const char *s, size_t max)
{
	expect(*s && strlen(s) <= max && !strchr(s, '/') && strcmp(s, ".") != 0 &&
	       strcmp(s, "..") != 0);
}

static void expect_create(const struct proto_request *r)
{
	expect(r->root.n_lower <= PROTO_LOWERS_MAX);
	for (size_t i = 0; i < r->root.n_lower; i++) {
		expect_name(r->root.lower[i].serial, PROTO_SERIAL_MAX);
		expect_name(r->root.lower[i].type, PROTO_TYPE_MAX);
	}
	expect(r->n_mounts <= r->config->n_mounts);
	for (size_t i = 0; i < r->n_mounts; i++) {
		const struct proto_mount *m = &r->mounts[i];

		expect(m->index < r->config->n_mounts);
		if (m->from == PROTO_MOUNT_DISK)
			expect_name(m->serial, PROTO_SERIAL_MAX);
		else
			expect_name(m->name, PROTO_MEMBER_MAX);
		expect(m->size <= INT64_MAX);
	}
	if (r->join.ipc)
		expect_name(r->join.ipc, PROTO_ID_MAX);
	if (r->join.uts)
		expect_name(r->join.uts, PROTO_ID_MAX);
	if (r->join.pid)
		expect_name(r->join.pid, PROTO_ID_MAX);
	if (r->join.user)
		expect_name(r->join.user, PROTO_ID_MAX);
	expect(!r->join.ipc || oci_spec_namespace(r->config, OCI_NS_IPC));
	expect(!r->join.uts || oci_spec_namespace(r->config, OCI_NS_UTS));
	expect(!r->join.pid || oci_spec_namespace(r->config, OCI_NS_PID));
}

/* Names of sysctls stay in their directories, cards are those of links. */
static void expect_network(const struct proto_network *n)
{
	expect(n->n_cards <= PROTO_CARDS_MAX && n->n_sysctls <= PROTO_SYSCTLS_MAX);
	for (size_t i = 0; i < n->n_cards; i++)
		expect(net_config_link(&n->config, n->cards[i].link) != NULL);
	for (size_t i = 0; i < n->n_sysctls; i++) {
		const char *name = n->sysctls[i].name;
		size_t slashes = 0;

		expect(strncmp(name, "net/ipv4/", 9) == 0 || strncmp(name, "net/ipv6/", 9) == 0);
		expect(!strstr(name, "/../") && !strstr(name, "/./") && !strstr(name, "//"));
		expect(strcmp(strrchr(name, '/'), "/..") != 0);
		for (; *name; name++)
			slashes += *name == '/';
		expect(slashes == 4 && strlen(n->sysctls[i].value) <= PROTO_SYSCTL_VALUE_MAX);
	}
}

/* What comes out of them is what the host's end takes. */
static void try_stats(const char *text)
{
	cleanup_free struct stats *s = xcalloc(1, sizeof(*s)), *back = xcalloc(1, sizeof(*back));
	struct proto_reply r = {.type = REPLY_STATS, .stats = s};
	cleanup_free char *out = NULL;
	cleanup_json yajl_val v = NULL;
	size_t len;

	stats_parse_memory(text, s);
	stats_parse_io(text, s);
	stats_parse_psi(text, &s->cpu_psi);
	stats_parse_interfaces(text, s);
	s->n_cpus = stats_parse_list(text, s->cpus);
	expect(s->n_raw <= STATS_KEYS_MAX && s->n_disks <= STATS_LIST_MAX);
	expect(s->n_interfaces <= STATS_LIST_MAX && s->n_cpus <= STATS_CPUS_MAX);
	expect(proto_reply_text(&r, &out, &len, NULL) == 0);
	v = json_parse(out, len, NULL);
	expect(v != NULL);
	stats_read(json_get(v, "stats"), back, NULL);
}

static void try_request(const char *text, size_t len)
{
	struct proto_request r;
	struct error err = ERROR_INIT;
	int result = proto_parse(text, len, &r, &err);

	expect(result == 0 || (result == -1 && err.msg[0]));
	if (result == 0) {
		expect(r.has_seq);
		expect(r.container || r.op == OP_HELLO || r.op == OP_SHUTDOWN ||
		       r.op == OP_RELEASE || r.op == OP_NETWORK || r.op == OP_RESOLVER ||
		       (r.op == OP_CHANGES && r.what == PROTO_WHAT_DISK && r.serial[0]));
		expect(r.op != OP_PUSH || r.what != PROTO_WHAT_DISK);
		expect((r.op == OP_CREATE) == (r.config && r.config->process && r.root.n_lower));
		if (r.op == OP_CREATE)
			expect_create(&r);
		expect((r.op == OP_NETWORK) == (r.network != NULL));
		if (r.op == OP_NETWORK)
			expect_network(r.network);
		expect((r.op == OP_EXEC) == (r.spec != NULL));
		expect(r.op == OP_UPDATE || !r.resources);
		expect(!r.cgroup || (r.op == OP_EXEC && r.cgroup[0] && r.cgroup[0] != '/' &&
				     !strstr(r.cgroup, "//") && strncmp(r.cgroup, "../", 3) != 0 &&
				     !strstr(r.cgroup, "/../") && strcmp(r.cgroup, "..") != 0));
		expect(r.op != OP_KILL || (r.signal >= 1 && r.signal <= PROTO_SIGNAL_MAX));
		expect(!r.container ||
		       (r.container[0] && !strchr(r.container, '/') &&
			strcmp(r.container, ".") != 0 && strcmp(r.container, "..") != 0));
	} else if (r.has_seq) {
		struct proto_reply e = {.type = REPLY_ERROR, .seq = r.seq, .error = &err};

		try_answer(&e);
	}
	proto_request_free(&r);
}

static void try_ps(const char *stat, const char *cmdline, size_t len)
{
	struct proto_ps p = {0};
	struct proto_reply r = {.type = REPLY_PS, .ps = &p, .n_ps = 1};

	if (stat && ps_parse_stat(stat, 0, 100, &p) < 0)
		return;
	if (cmdline)
		ps_parse_cmdline(cmdline, len, p.cmd);
	try_answer(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *line = NULL;

	if (size == 0)
		return 0;
	line = strndup((const char *)data + 1, size - 1);
	expect(line != NULL);
	switch (data[0]) {
	case '1':
		try_ps(line, NULL, 0);
		break;
	case '2':
		try_ps(NULL, (const char *)data + 1, size - 1);
		break;
	case '3':
		try_stats(line);
		break;
	default:
		try_request((const char *)data + (data[0] == '0'), size - (data[0] == '0'));
	}
	return 0;
}
