#include "vmm/request.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"

#include <string.h>

static const struct {
	const char *name;
	unsigned nfds;
} ops[] = {
	[REQUEST_START] = {"start", 3},
	[REQUEST_ATTACH_BLOCK] = {"attach-block", 1},
	[REQUEST_ATTACH_TREE] = {"attach-tree", 2},
	[REQUEST_HOLD] = {"hold", 0},
	[REQUEST_DETACH] = {"detach", 0},
	[REQUEST_ATTACH_NET] = {"attach-net", 1},
	[REQUEST_DETACH_NET] = {"detach-net", 0},
	[REQUEST_NET_LINK] = {"net-link", 0},
	[REQUEST_VSOCK_CONNECT] = {"vsock-connect", 0},
	[REQUEST_BALLOON] = {"balloon", 0},
	[REQUEST_PAUSE] = {"pause", 0},
	[REQUEST_RESUME] = {"resume", 0},
	[REQUEST_STATUS] = {"status", 0},
	[REQUEST_CONSOLE] = {"console", 0},
	[REQUEST_STATS] = {"stats", 0},
	[REQUEST_SHUTDOWN] = {"shutdown", 0},
};

const char *request_op_name(enum request_op op)
{
	return ops[op].name;
}

/* ---- members: absent is `def`, another type is an error that names the member */

static int get_bool(yajl_val v, const char *key, bool *out, struct error *err)
{
	yajl_val b = json_get(v, key);

	if (b && !YAJL_IS_TRUE(b) && !YAJL_IS_FALSE(b))
		return error_kind(err, ERR_INVALID, "%s: not a boolean", key);
	*out = YAJL_IS_TRUE(b);
	return 0;
}

static int get_int(yajl_val v, const char *key, int64_t min, int64_t max, int64_t *out,
		   struct error *err)
{
	if (!json_get(v, key))
		return error_kind(err, ERR_INVALID, "%s: missing", key);
	if (!json_get_int(v, key, out))
		return error_kind(err, ERR_INVALID, "%s: not an integer", key);
	if (*out < min || *out > max)
		return error_kind(err, ERR_INVALID, "%s: %lld is not in %lld..%lld", key,
				  (long long)*out, (long long)min, (long long)max);
	return 0;
}

static const char *get_str(yajl_val v, const char *key, const char *def, struct error *err)
{
	yajl_val s = json_get(v, key);

	if (YAJL_IS_STRING(s))
		return YAJL_GET_STRING(s);
	if (s || !def) {
		error_kind(err, ERR_INVALID, "%s: %s", key, s ? "not a string" : "missing");
		return NULL;
	}
	return def;
}

static int get_limit(yajl_val rate, const char *key, uint64_t *out, struct error *err)
{
	int64_t n = 0;

	if (json_get(rate, key) && get_int(rate, key, 0, REQUEST_RATE_MAX, &n, err) < 0)
		return -1;
	*out = (uint64_t)n;
	return 0;
}

/* A limit (ratelimit.h); absent, or 0 a second: none. */
static int get_rate(yajl_val v, const char *key, struct ratelimit_config *out, struct error *err)
{
	yajl_val rate = json_get(v, key);

	if (!rate)
		return 0;
	if (!YAJL_IS_OBJECT(rate))
		return error_kind(err, ERR_INVALID, "%s: not an object", key);
	if (get_limit(rate, "bytes_per_s", &out->bytes_per_s, err) < 0 ||
	    get_limit(rate, "bytes_burst", &out->bytes_burst, err) < 0 ||
	    get_limit(rate, "ops_per_s", &out->ops_per_s, err) < 0 ||
	    get_limit(rate, "ops_burst", &out->ops_burst, err) < 0)
		return error_wrap(err, "%s", key);
	return 0;
}

/* ---- operations */

/* `out` has max + 1 bytes. */
static int get_name(yajl_val v, const char *key, char *out, size_t max, struct error *err)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";
	const char *s = get_str(v, key, NULL, err);
	size_t len;

	if (!s)
		return -1;
	len = strlen(s);
	if (len < 1 || len > max || s[strspn(s, allowed)] != '\0')
		return error_kind(err, ERR_INVALID, "%s: not 1 to %zu bytes of [A-Za-z0-9._-]", key,
				  max);
	memcpy(out, s, len + 1);
	return 0;
}

static int parse_serial(yajl_val v, struct request *r, struct error *err)
{
	return get_name(v, "serial", r->serial, REQUEST_SERIAL_MAX, err);
}

static int parse_attach_block(yajl_val v, struct request *r, struct error *err)
{
	if (parse_serial(v, r, err) < 0 || get_bool(v, "readonly", &r->readonly, err) < 0 ||
	    get_bool(v, "discardable", &r->discardable, err) < 0 ||
	    get_rate(v, "rate", &r->rate, err) < 0)
		return -1;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes the escapes out of `s`, in place. */
static int unescape(char *s, struct error *err)
{
	char *out = s;

	for (; *s; s++) {
		int high, low;

		if (*s < ' ' || *s > '~')
			return error_kind(
				err, ERR_INVALID,
				"path: a byte that is not printable ASCII must be escaped");
		if (*s != '%') {
			*out++ = *s;
			continue;
		}
		high = hex_digit(s[1]);
		low = high < 0 ? -1 : hex_digit(s[2]);
		if (low < 0)
			return error_kind(err, ERR_INVALID,
					  "path: '%%' without two hexadecimal digits");
		if (high == 0 && low == 0)
			return error_kind(err, ERR_INVALID, "path: has a NUL");
		*out++ = (char)(high << 4 | low);
		s += 2;
	}
	*out = '\0';
	return 0;
}

/* Relative, and the same path however it is looked at: nothing to be resolved. */
static int check_path(const char *path, struct error *err)
{
	size_t len = strlen(path);

	if (len < 1 || len > REQUEST_PATH_MAX)
		return error_kind(err, ERR_INVALID, "path: not 1 to %d bytes", REQUEST_PATH_MAX);
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || (n <= 2 && strspn(p, ".") >= n))
			return error_kind(err, ERR_INVALID,
					  "path: not relative, or with a component that is empty, "
					  "\".\" or \"..\"");
		p += n;
		if (!*p)
			return 0;
	}
}

static int parse_hold(yajl_val v, struct request *r, struct error *err)
{
	const char *path;

	if (parse_serial(v, r, err) < 0)
		return -1;
	path = get_str(v, "path", NULL, err);
	if (!path)
		return -1;
	r->path = xstrdup(path);
	if (unescape(r->path, err) < 0 || check_path(r->path, err) < 0)
		return -1;
	return 0;
}

static int parse_nic_id(yajl_val v, struct request_nic *n, struct error *err)
{
	return get_name(v, "id", n->id, REQUEST_NIC_MAX, err);
}

/* Six bytes in hexadecimal with colons, of one station. */
static int parse_mac(const char *s, uint8_t mac[6], struct error *err)
{
	bool ok = strlen(s) == 17;

	for (unsigned i = 0; i < 6 && ok; i++) {
		int high = hex_digit(s[3 * i]), low = hex_digit(s[3 * i + 1]);

		ok = high >= 0 && low >= 0 && (i == 5 || s[3 * i + 2] == ':');
		mac[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
	}
	if (!ok || (mac[0] & 1))
		return error_kind(err, ERR_INVALID,
				  "mac: not a station's address, 02:00:00:00:00:01");
	return 0;
}

static int parse_attach_net(yajl_val v, struct request_nic *n, struct error *err)
{
	const char *mac;
	int64_t queues = 1;

	if (parse_nic_id(v, n, err) < 0)
		return -1;
	mac = get_str(v, "mac", NULL, err);
	if (!mac || parse_mac(mac, n->mac, err) < 0)
		return -1;
	if (get_rate(v, "rate_tx", &n->tx, err) < 0 || get_rate(v, "rate_rx", &n->rx, err) < 0)
		return -1;
	if (json_get(v, "queues") && get_int(v, "queues", 1, REQUEST_QUEUES_MAX, &queues, err) < 0)
		return -1;
	n->queues = (unsigned)queues;
	return get_bool(v, "vhost", &n->vhost, err);
}

static int parse_net_link(yajl_val v, struct request_nic *n, struct error *err)
{
	if (parse_nic_id(v, n, err) < 0)
		return -1;
	if (!json_get(v, "up"))
		return error_kind(err, ERR_INVALID, "up: missing");
	return get_bool(v, "up", &n->up, err);
}

static int parse_vsock_connect(yajl_val v, struct request *r, struct error *err)
{
	int64_t port, ms = 0;

	if (get_int(v, "port", 0, UINT32_MAX - 1, &port, err) < 0)
		return -1;
	if (json_get(v, "timeout_ms") && get_int(v, "timeout_ms", 0, 86400000, &ms, err) < 0)
		return -1;
	r->port = (uint32_t)port;
	r->timeout_us = (uint64_t)ms * 1000;
	return 0;
}

static int parse_balloon(yajl_val v, struct request *r, struct error *err)
{
	int64_t target;

	if (get_int(v, "target_bytes", 0, REQUEST_MEM_MAX, &target, err) < 0)
		return -1;
	r->target_bytes = (uint64_t)target;
	return 0;
}

static int parse_log_level(yajl_val v, enum log_level *out, struct error *err)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	const char *s = get_str(v, "log_level", "info", err);

	if (!s)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*out = (enum log_level)i;
			return 0;
		}
	}
	return error_kind(err, ERR_INVALID, "log_level: not error, warning, info or debug");
}

static int parse_slots(yajl_val v, struct request_start *s, struct error *err)
{
	int64_t ro = REQUEST_DISKS_DEFAULT, rw = REQUEST_DISKS_DEFAULT, nics = 0;

	if ((json_get(v, "readonly_disks") &&
	     get_int(v, "readonly_disks", 0, REQUEST_DISKS_MAX, &ro, err) < 0) ||
	    (json_get(v, "writable_disks") &&
	     get_int(v, "writable_disks", 0, REQUEST_DISKS_MAX, &rw, err) < 0))
		return -1;
	if (ro + rw > REQUEST_DISKS_MAX)
		return error_kind(err, ERR_INVALID, "readonly_disks, writable_disks: more than %d",
				  REQUEST_DISKS_MAX);
	if (json_get(v, "nics") && get_int(v, "nics", 0, REQUEST_NICS_MAX, &nics, err) < 0)
		return -1;
	s->nics = (unsigned)nics;
	s->readonly_disks = (unsigned)ro;
	s->writable_disks = (unsigned)rw;
	return 0;
}

static int check_slots(const struct request_start *s, struct error *err)
{
	unsigned disks = s->readonly_disks + s->writable_disks,
		 n = disks + s->nics + s->fs + s->console;

	if (s->engine != REQUEST_ENGINE_QEMU || n <= REQUEST_SLOTS_MAX)
		return 0;
	return error_kind(err, ERR_INVALID,
			  "nics: %u with %u disks%s%s are more than the %d slots of engine qemu",
			  s->nics, disks, s->fs ? " and virtio-fs" : "",
			  s->console ? " and a console" : "", REQUEST_SLOTS_MAX);
}

static int parse_engine(yajl_val v, struct request_start *s, struct error *err)
{
	const char *engine = get_str(v, "engine", NULL, err), *qemu;

	if (!engine)
		return -1;
	if (strcmp(engine, "kvm") == 0) {
		s->engine = REQUEST_ENGINE_KVM;
		return 0;
	}
	if (strcmp(engine, "qemu") != 0)
		return error_kind(err, ERR_UNSUPPORTED, "engine: \"%.32s\" is not known", engine);
	s->engine = REQUEST_ENGINE_QEMU;
	qemu = get_str(v, "qemu", NULL, err);
	if (!qemu)
		return -1;
	if (qemu[0] != '/' || strlen(qemu) >= 4096)
		return error_kind(err, ERR_INVALID, "qemu: not an absolute path");
	s->qemu = xstrdup(qemu);
	return 0;
}

static int parse_cmdline(yajl_val v, struct request_start *s, struct error *err)
{
	const char *cmdline = get_str(v, "cmdline", "", err);

	if (!cmdline)
		return -1;
	if (strlen(cmdline) > REQUEST_CMDLINE_MAX)
		return error_kind(err, ERR_INVALID, "cmdline: longer than %d bytes",
				  REQUEST_CMDLINE_MAX);
	for (const char *p = cmdline; *p; p++)
		if (*p < ' ' || *p > '~')
			return error_kind(err, ERR_INVALID, "cmdline: not printable ASCII");
	s->cmdline = xstrdup(cmdline);
	return 0;
}

/* The name of a profile, or a label: one line of printable ASCII. */
static int parse_confinement(yajl_val v, const char *key, char **out, struct error *err)
{
	const char *s;

	if (!json_get(v, key))
		return 0;
	s = get_str(v, key, NULL, err);
	if (!s)
		return -1;
	if (!*s || strlen(s) > REQUEST_CONFINEMENT_MAX)
		return error_kind(err, ERR_INVALID, "%s: not of 1 to %d bytes", key,
				  REQUEST_CONFINEMENT_MAX);
	for (const char *p = s; *p; p++)
		if (*p < ' ' || *p > '~')
			return error_kind(err, ERR_INVALID, "%s: not printable ASCII", key);
	*out = xstrdup(s);
	return 0;
}

static int parse_start(yajl_val v, struct request_start *s, struct error *err)
{
	int64_t memory, vcpus, file_bytes = REQUEST_FILE_BYTES_MAX;

	if (parse_engine(v, s, err) < 0)
		return -1;
	if (get_int(v, "memory", REQUEST_MEM_MIN, REQUEST_MEM_MAX, &memory, err) < 0 ||
	    get_int(v, "vcpus", 1, REQUEST_VCPUS_MAX, &vcpus, err) < 0)
		return -1;
	if (memory % (1 << 20) != 0)
		return error_kind(err, ERR_INVALID, "memory: not a multiple of 1 MiB");
	if (json_get(v, "file_bytes") &&
	    get_int(v, "file_bytes", 0, REQUEST_FILE_BYTES_MAX, &file_bytes, err) < 0)
		return -1;
	s->memory = (uint64_t)memory;
	s->file_bytes = (uint64_t)file_bytes;
	s->vcpus = (unsigned)vcpus;
	if (parse_cmdline(v, s, err) < 0 || parse_log_level(v, &s->log_level, err) < 0 ||
	    parse_slots(v, s, err) < 0)
		return -1;
	if (get_bool(v, "log_json", &s->log_json, err) < 0 || get_bool(v, "fs", &s->fs, err) < 0 ||
	    get_bool(v, "late_devices", &s->late_devices, err) < 0 ||
	    get_bool(v, "console", &s->console, err) < 0 ||
	    get_bool(v, "console_log", &s->console_log, err) < 0 ||
	    parse_confinement(v, "apparmor", &s->apparmor, err) < 0 ||
	    parse_confinement(v, "selinux", &s->selinux, err) < 0)
		return -1;
	return check_slots(s, err);
}

static int parse_op(yajl_val v, struct request *r, struct error *err)
{
	const char *op = get_str(v, "op", NULL, err);
	size_t i;

	if (!op)
		return -1;
	for (i = 0; i < ARRAY_LEN(ops); i++)
		if (strcmp(op, ops[i].name) == 0)
			break;
	if (i == ARRAY_LEN(ops))
		return error_kind(err, ERR_UNSUPPORTED, "op: \"%.32s\" is not known", op);
	r->op = (enum request_op)i;
	r->nfds = ops[i].nfds;
	switch (r->op) {
	case REQUEST_START:
		if (parse_start(v, &r->start, err) < 0)
			return -1;
		r->nfds += r->start.fs + r->start.console_log;
		return 0;
	case REQUEST_ATTACH_BLOCK:
		return parse_attach_block(v, r, err);
	case REQUEST_HOLD:
		return parse_hold(v, r, err);
	case REQUEST_ATTACH_TREE:
		if (get_rate(v, "rate", &r->rate, err) < 0)
			return -1;
		return parse_serial(v, r, err);
	case REQUEST_DETACH:
		return parse_serial(v, r, err);
	case REQUEST_ATTACH_NET:
		if (parse_attach_net(v, &r->nic, err) < 0)
			return -1;
		r->nfds = r->nic.queues << r->nic.vhost;
		return 0;
	case REQUEST_DETACH_NET:
		return parse_nic_id(v, &r->nic, err);
	case REQUEST_NET_LINK:
		return parse_net_link(v, &r->nic, err);
	case REQUEST_VSOCK_CONNECT:
		return parse_vsock_connect(v, r, err);
	case REQUEST_BALLOON:
		return parse_balloon(v, r, err);
	default:
		return 0;
	}
}

int request_parse(const char *text, size_t len, struct request *r, struct error *err)
{
	cleanup_json yajl_val v = NULL;

	*r = (struct request){0};
	v = json_parse(text, len, err);
	if (!v)
		return -1;
	if (!YAJL_IS_OBJECT(v))
		return error_kind(err, ERR_INVALID, "a request is an object");
	if (get_int(v, "seq", INT64_MIN, INT64_MAX, &r->seq, err) < 0)
		return -1;
	r->has_seq = true;
	if (parse_op(v, r, err) < 0)
		return -1;
	return 0;
}

void request_free(struct request *r)
{
	free(r->start.qemu);
	free(r->start.cmdline);
	free(r->start.apparmor);
	free(r->start.selinux);
	free(r->path);
	r->start.qemu = r->start.cmdline = r->path = NULL;
}
