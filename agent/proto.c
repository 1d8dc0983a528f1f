#include "agent/proto.h"
#include "agent/proto_network.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/json.h"

#include <limits.h>
#include <string.h>
#include <time.h>

static const char *const op_names[] = {
	[OP_HELLO] = "hello",	    [OP_CREATE] = "create",   [OP_START] = "start",
	[OP_EXEC] = "exec",	    [OP_WAIT] = "wait",	      [OP_KILL] = "kill",
	[OP_RESIZE] = "resize",	    [OP_PAUSE] = "pause",     [OP_RESUME] = "resume",
	[OP_UPDATE] = "update",	    [OP_PS] = "ps",	      [OP_DELETE] = "delete",
	[OP_CHANGES] = "changes",   [OP_PUSH] = "push",	      [OP_WATCH] = "watch",
	[OP_SHUTDOWN] = "shutdown", [OP_RELEASE] = "release", [OP_NETWORK] = "network",
	[OP_RESOLVER] = "resolver", [OP_STATS] = "stats",     [OP_READY] = "ready",
};

static const char *const from_names[] = {
	[PROTO_MOUNT_PROJECT] = "project", [PROTO_MOUNT_SHARE] = "share",
	[PROTO_MOUNT_DISK] = "disk",	   [PROTO_MOUNT_DEVICE] = "device",
	[PROTO_MOUNT_POD] = "pod",
};

static const char *const what_names[] = {
	[PROTO_WHAT_ROOT] = "root",
	[PROTO_WHAT_PROJECTS] = "projects",
	[PROTO_WHAT_DISK] = "disk",
};

static const char *const freezer_names[] = {
	[PROTO_FREEZE_USER] = "user",
	[PROTO_FREEZE_SYNC] = "sync",
};

/* ---- members */

static bool all_of(const char *s, const char *extra)
{
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
		      (*s >= '0' && *s <= '9') || strchr(extra, *s)))
			return false;
	return true;
}

static int want_string(yajl_val v, const char *name, const char **out, struct error *err)
{
	if (!YAJL_IS_STRING(v))
		return error_kind(err, ERR_INVALID, "%s: must be a string", name);
	*out = v->u.string;
	return 0;
}

/* An id becomes a directory's and a cgroup's name. */
static int parse_id(yajl_val v, const char *name, char **out, struct error *err)
{
	const char *id = NULL;

	if (want_string(v, name, &id, err) < 0)
		return -1;
	if (!*id || strlen(id) > PROTO_ID_MAX || !all_of(id, "_+.-") || strcmp(id, ".") == 0 ||
	    strcmp(id, "..") == 0)
		return error_kind(err, ERR_INVALID,
				  "%s: must be 1 to %d of letters, digits, '_', '+', '-', '.'",
				  name, PROTO_ID_MAX);
	*out = xstrdup(id);
	return 0;
}

static int parse_container(yajl_val tree, char **out, struct error *err)
{
	return parse_id(json_get(tree, "container"), "container", out, err);
}

static int parse_process_name(yajl_val tree, char out[PROTO_NAME_MAX + 1], struct error *err)
{
	yajl_val v = json_get(tree, "process");
	const char *name = NULL;

	out[0] = '\0';
	if (!v)
		return 0;
	if (want_string(v, "process", &name, err) < 0)
		return -1;
	if (strlen(name) > PROTO_NAME_MAX || strspn(name, "0123456789") != strlen(name))
		return error_kind(err, ERR_INVALID, "process: not a name that the agent gave");
	strcpy(out, name);
	return 0;
}

/* A string of 1 to `max` letters, digits, '.', '_', '-' that is a name and no path. */
static int parse_name(yajl_val obj, const char *where, const char *key, char *out, size_t max,
		      struct error *err)
{
	const char *s;

	if (!YAJL_IS_STRING(json_get(obj, key)))
		return error_kind(err, ERR_INVALID, "%s%s: must be a string", where, key);
	s = json_str(obj, key);
	if (!*s || strlen(s) > max || !all_of(s, "._-") || strcmp(s, ".") == 0 ||
	    strcmp(s, "..") == 0)
		return error_kind(err, ERR_INVALID,
				  "%s%s: must be 1 to %zu of letters, digits, '.', '_', '-'", where,
				  key, max);
	strcpy(out, s);
	return 0;
}

/* Index of the string `key` in `names`, or -1. */
static int parse_choice(yajl_val obj, const char *where, const char *key, const char *const *names,
			size_t n, struct error *err)
{
	const char *s = json_str(obj, key);

	for (size_t i = 0; s && i < n; i++)
		if (strcmp(names[i], s) == 0)
			return (int)i;
	if (!s)
		return error_kind(err, ERR_INVALID, "%s%s: must be a string", where, key);
	return error_kind(err, ERR_INVALID, "%s%s: unknown: %.64s", where, key, s);
}

static int parse_lower(yajl_val v, const char *where, struct proto_lower *out, struct error *err)
{
	static const char *const types[] = {"erofs", "ext4", "xfs", "squashfs"};
	int type;

	type = parse_choice(v, where, "type", types, ARRAY_LEN(types), err);
	if (type < 0)
		return -1;
	strcpy(out->type, types[type]);
	return parse_name(v, where, "serial", out->serial, PROTO_SERIAL_MAX, err);
}

static int parse_root(yajl_val tree, struct proto_root *r, struct error *err)
{
	yajl_val root = json_get(tree, "root");
	yajl_val lower = json_get(root, "lower");

	if (!YAJL_IS_OBJECT(root))
		return error_kind(err, ERR_INVALID, "root: must be an object");
	if (!YAJL_IS_ARRAY(lower) || lower->u.array.len < 1 ||
	    lower->u.array.len > PROTO_LOWERS_MAX)
		return error_kind(err, ERR_INVALID, "root.lower: must be a list of 1 to %d disks",
				  PROTO_LOWERS_MAX);
	for (size_t i = 0; i < lower->u.array.len; i++) {
		char where[48];

		snprintf(where, sizeof(where), "root.lower[%zu].", i);
		if (parse_lower(lower->u.array.values[i], where, &r->lower[i], err) < 0)
			return -1;
		r->n_lower = i + 1;
	}
	r->index = json_bool(root, "index", false);
	if (!json_get(root, "upper"))
		return 0;
	return parse_name(root, "root.", "upper", r->upper, PROTO_SERIAL_MAX, err);
}

/* Bytes, left out or 0: no limit of its own. */
static int parse_size(yajl_val v, const char *where, uint64_t *out, struct error *err)
{
	int64_t size = 0;

	if (json_get(v, "size") && (!json_get_int(v, "size", &size) || size < 0))
		return error_kind(err, ERR_INVALID, "%ssize: must be a number of bytes", where);
	*out = (uint64_t)size;
	return 0;
}

static int parse_mount(yajl_val v, const char *where, size_t n_config, struct proto_mount *m,
		       struct error *err)
{
	int64_t index;
	int from;

	if (!json_get_int(v, "mount", &index) || index < 0 || (uint64_t)index >= n_config)
		return error_kind(err, ERR_INVALID,
				  "%smount: must be the number of a member of config.mounts",
				  where);
	from = parse_choice(v, where, "from", from_names, ARRAY_LEN(from_names), err);
	if (from < 0)
		return -1;
	m->index = (size_t)index;
	m->from = (enum proto_mount_from)from;
	m->writable = json_bool(v, "writable", false);
	if (m->from == PROTO_MOUNT_POD && parse_size(v, where, &m->size, err) < 0)
		return -1;
	if (m->from != PROTO_MOUNT_DISK)
		return parse_name(v, where, "name", m->name, PROTO_MEMBER_MAX, err);
	if (parse_name(v, where, "serial", m->serial, PROTO_SERIAL_MAX, err) < 0)
		return -1;
	return parse_name(v, where, "type", m->type, PROTO_TYPE_MAX, err);
}

static int parse_mounts(yajl_val tree, struct proto_request *r, struct error *err)
{
	yajl_val list = json_get(tree, "mounts");
	size_t n_config = r->config->n_mounts;
	cleanup_free bool *seen = NULL;

	if (!list)
		return 0;
	if (!YAJL_IS_ARRAY(list) || list->u.array.len > n_config)
		return error_kind(err, ERR_INVALID,
				  "mounts: must be a list, no longer than config.mounts");
	if (list->u.array.len == 0)
		return 0;
	seen = xcalloc(n_config, sizeof(*seen));
	r->mounts = xcalloc(list->u.array.len, sizeof(*r->mounts));
	for (size_t i = 0; i < list->u.array.len; i++) {
		struct proto_mount *m = &r->mounts[i];
		char where[48];

		snprintf(where, sizeof(where), "mounts[%zu].", i);
		if (parse_mount(list->u.array.values[i], where, n_config, m, err) < 0)
			return -1;
		if (seen[m->index])
			return error_kind(err, ERR_INVALID, "%smount: %zu is there twice", where,
					  m->index);
		seen[m->index] = true;
		r->n_mounts = i + 1;
	}
	return 0;
}

/* Each member of config.linux.devices at most once, and block devices alone. */
static int parse_devices(yajl_val tree, struct proto_request *r, struct error *err)
{
	yajl_val list = json_get(tree, "devices");
	const struct oci_linux *l = &r->config->lnx;
	cleanup_free bool *seen = xcalloc(l->n_devices + 1, sizeof(*seen));

	if (!list)
		return 0;
	if (!YAJL_IS_ARRAY(list) || list->u.array.len > l->n_devices)
		return error_kind(err, ERR_INVALID,
				  "devices: must be a list, no longer than config.linux.devices");
	r->devices = xcalloc(list->u.array.len + 1, sizeof(*r->devices));
	for (size_t i = 0; i < list->u.array.len; i++) {
		yajl_val v = list->u.array.values[i];
		struct proto_device *d = &r->devices[i];
		char where[48];
		int64_t index;

		snprintf(where, sizeof(where), "devices[%zu].", i);
		if (!json_get_int(v, "device", &index) || index < 0 ||
		    (uint64_t)index >= l->n_devices || l->devices[index].type != 'b' || seen[index])
			return error_kind(err, ERR_INVALID,
					  "%sdevice: must be the number of a block device of "
					  "config.linux.devices, each once",
					  where);
		if (parse_name(v, where, "serial", d->serial, PROTO_SERIAL_MAX, err) < 0)
			return -1;
		seen[index] = true;
		d->index = (size_t)index;
		r->n_devices = i + 1;
	}
	return 0;
}

static int parse_range(yajl_val tree, const char *key, int64_t min, int64_t max, int64_t *out,
		       struct error *err)
{
	if (!json_get_int(tree, key, out) || *out < min || *out > max)
		return error_kind(err, ERR_INVALID, "%s: must be a number from %lld to %lld", key,
				  (long long)min, (long long)max);
	return 0;
}

/* Of namespaces that the container has: which one's it is. */
static int parse_join(yajl_val tree, struct proto_request *r, struct error *err)
{
	const struct {
		enum oci_ns_type type;
		char **id;
	} types[] = {{OCI_NS_IPC, &r->join.ipc},
		     {OCI_NS_UTS, &r->join.uts},
		     {OCI_NS_PID, &r->join.pid},
		     {OCI_NS_USER, &r->join.user}};
	yajl_val join = json_get(tree, "join");
	size_t n = 0;

	if (!join)
		return 0;
	if (!YAJL_IS_OBJECT(join))
		return error_kind(err, ERR_INVALID, "join: must be an object");
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		const char *type = oci_ns_name(types[i].type);
		cleanup_free char *name = xasprintf("join.%s", type);
		yajl_val v = json_get(join, type);

		if (!v)
			continue;
		n++;
		if (parse_id(v, name, types[i].id, err) < 0)
			return -1;
		if (!oci_spec_namespace(r->config, types[i].type))
			return error_kind(err, ERR_INVALID, "%s: config has no %s namespace", name,
					  type);
	}
	/* Not to be passed over: the container would be by itself, and nobody know. */
	if (n != join->u.object.len)
		return error_kind(err, ERR_INVALID,
				  "join: there may be ipc, uts, pid and user, once");
	return 0;
}

static int parse_create(yajl_val tree, struct proto_request *r, struct error *err)
{
	if (parse_root(tree, &r->root, err) < 0)
		return -1;
	if (!json_get(tree, "config"))
		return error_kind(err, ERR_INVALID, "config: is missing");
	if (oci_spec_from_tree(json_get(tree, "config"), &r->config, err) < 0)
		return error_wrap(err, "config");
	/* container_new() looks into what the values mean. */
	if (!r->config->process)
		return error_kind(err, ERR_INVALID, "config: process: is missing");
	r->notify = json_bool(tree, "notify", false);
	if (parse_join(tree, r, err) < 0 || parse_mounts(tree, r, err) < 0)
		return -1;
	return parse_devices(tree, r, err);
}

/* A path of directories: no empty ones, no "." and "..". */
static bool is_plain_path(const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "/");

		if (n == 0 || n > NAME_MAX || (n == 1 && s[0] == '.') ||
		    (n == 2 && s[0] == '.' && s[1] == '.'))
			return false;
		if (!s[n])
			return true;
		s += n + 1;
	}
}

static int parse_cgroup(yajl_val tree, char **out, struct error *err)
{
	yajl_val v = json_get(tree, "cgroup");
	const char *path = NULL;

	if (!v)
		return 0;
	if (want_string(v, "cgroup", &path, err) < 0)
		return -1;
	if (strlen(path) > PROTO_CGROUP_MAX || !is_plain_path(path))
		return error_kind(err, ERR_INVALID,
				  "cgroup: must be a path below the container's cgroup");
	*out = xstrdup(path);
	return 0;
}

static int parse_exec(yajl_val tree, struct proto_request *r, struct error *err)
{
	if (!json_get(tree, "spec"))
		return error_kind(err, ERR_INVALID, "spec: is missing");
	if (oci_process_from_tree(json_get(tree, "spec"), &r->spec, err) < 0)
		return error_wrap(err, "spec");
	return parse_cgroup(tree, &r->cgroup, err);
}

static int parse_update(yajl_val tree, struct proto_request *r, struct error *err)
{
	if (json_bool(tree, "undo", false))
		return 0;
	if (!json_get(tree, "resources"))
		return error_kind(err, ERR_INVALID, "resources: is missing");
	return oci_resources_from_tree(json_get(tree, "resources"), &r->resources, err);
}

static int parse_kill(yajl_val tree, struct proto_request *r, struct error *err)
{
	int64_t n;

	if (parse_range(tree, "signal", 1, PROTO_SIGNAL_MAX, &n, err) < 0)
		return -1;
	r->signal = (int)n;
	r->all = json_bool(tree, "all", false);
	return 0;
}

static int parse_freeze(yajl_val tree, struct proto_request *r, struct error *err)
{
	int by;

	if (!json_get(tree, "by"))
		return 0;
	by = parse_choice(tree, "", "by", freezer_names, ARRAY_LEN(freezer_names), err);
	if (by < 0)
		return -1;
	r->by = (enum proto_freezer)by;
	return 0;
}

static int parse_resize(yajl_val tree, struct proto_request *r, struct error *err)
{
	int64_t w, h;

	if (parse_range(tree, "width", 0, UINT16_MAX, &w, err) < 0 ||
	    parse_range(tree, "height", 0, UINT16_MAX, &h, err) < 0)
		return -1;
	r->width = (uint16_t)w;
	r->height = (uint16_t)h;
	return 0;
}

/* `push` takes no disk; `changes` of one does without a container. */
static int parse_what(yajl_val tree, struct proto_request *r, struct error *err)
{
	size_t n = r->op == OP_PUSH ? PROTO_WHAT_DISK : ARRAY_LEN(what_names);
	int what = parse_choice(tree, "", "what", what_names, n, err);

	if (what < 0)
		return -1;
	r->what = (enum proto_what)what;
	if (r->what == PROTO_WHAT_DISK)
		return parse_name(tree, "", "serial", r->serial, PROTO_SERIAL_MAX, err);
	return parse_container(tree, &r->container, err);
}

static int parse_release(yajl_val tree, struct proto_request *r, struct error *err)
{
	if (json_get(tree, "share"))
		return parse_name(tree, "", "share", r->share, PROTO_MEMBER_MAX, err);
	r->detached = json_bool(tree, "detached", false);
	return parse_name(tree, "", "serial", r->serial, PROTO_SERIAL_MAX, err);
}

static int parse_op(yajl_val tree, enum proto_op *op, struct error *err)
{
	const char *name = NULL;

	if (want_string(json_get(tree, "op"), "op", &name, err) < 0)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(op_names); i++)
		if (strcmp(op_names[i], name) == 0) {
			*op = (enum proto_op)i;
			return 0;
		}
	return error_kind(err, ERR_INVALID, "op: unknown: %.64s", name);
}

static int parse_tree(yajl_val tree, struct proto_request *r, struct error *err)
{
	if (!YAJL_IS_OBJECT(tree))
		return error_kind(err, ERR_INVALID, "message is not an object");
	r->has_seq = json_get_int(tree, "seq", &r->seq);
	if (!r->has_seq)
		return error_kind(err, ERR_INVALID, "seq: must be a number");
	if (parse_op(tree, &r->op, err) < 0)
		return -1;
	if (r->op == OP_HELLO || r->op == OP_SHUTDOWN || r->op == OP_RESOLVER)
		return 0;
	if (r->op == OP_NETWORK)
		return proto_network_parse(tree, &r->network, err);
	if (r->op == OP_CHANGES || r->op == OP_PUSH)
		return parse_what(tree, r, err);
	if (r->op == OP_RELEASE)
		return parse_release(tree, r, err);
	if (parse_container(tree, &r->container, err) < 0 ||
	    parse_process_name(tree, r->process, err) < 0)
		return -1;
	switch (r->op) {
	case OP_CREATE:
		return parse_create(tree, r, err);
	case OP_EXEC:
		return parse_exec(tree, r, err);
	case OP_UPDATE:
		return parse_update(tree, r, err);
	case OP_PAUSE:
	case OP_RESUME:
		return parse_freeze(tree, r, err);
	case OP_KILL:
		return parse_kill(tree, r, err);
	case OP_RESIZE:
		return parse_resize(tree, r, err);
	default:
		return 0;
	}
}

int proto_parse(const char *text, size_t len, struct proto_request *r, struct error *err)
{
	cleanup_json yajl_val tree = NULL;

	*r = (struct proto_request){0};
	tree = json_parse(text, len, err);
	return tree ? parse_tree(tree, r, err) : -1;
}

void proto_request_free(struct proto_request *r)
{
	free(r->container);
	free(r->mounts);
	free(r->devices);
	free(r->cgroup);
	free(r->join.ipc);
	free(r->join.uts);
	free(r->join.pid);
	free(r->join.user);
	oci_spec_free(r->config);
	oci_process_free(r->spec);
	oci_resources_free(r->resources);
	proto_network_free(r->network);
	*r = (struct proto_request){0};
}

/* ---- answers */

static void put_stream(struct jsonw *w, const char *name, const char *token)
{
	if (*token)
		jsonw_kstr(w, name, token);
}

static void put_process(struct jsonw *w, const struct proto_reply *r)
{
	jsonw_kint(w, "pid", r->pid);
	jsonw_kstr(w, "process", r->process);
	jsonw_key(w, "streams");
	jsonw_obj(w);
	put_stream(w, "stdin", r->in);
	put_stream(w, "stdout", r->out);
	put_stream(w, "stderr", r->err);
	put_stream(w, "console", r->console);
	jsonw_end_obj(w);
}

static void put_hello(struct jsonw *w, const struct proto_reply *r)
{
	jsonw_kint(w, "version", PROTO_VERSION);
	jsonw_kstr(w, "kernel", r->kernel);
	jsonw_key(w, "times_us");
	jsonw_obj(w);
	jsonw_key(w, "kernel");
	jsonw_uint(w, r->kernel_us);
	jsonw_key(w, "agent");
	jsonw_uint(w, r->agent_us);
	jsonw_end_obj(w);
}

/* As ps -f shows them: the time of day, or the date once a day has passed. */
static void put_times(struct jsonw *w, const struct proto_ps *p, time_t now)
{
	time_t start = (time_t)p->start_s;
	char text[48];
	struct tm tm;

	gmtime_r(&start, &tm);
	strftime(text, sizeof(text), now - start < 86400 ? "%H:%M" : "%b%d", &tm);
	jsonw_kstr(w, "stime", text);
	snprintf(text, sizeof(text), "%02llu:%02u:%02u", (unsigned long long)(p->cpu_s / 3600),
		 (unsigned)(p->cpu_s / 60 % 60), (unsigned)(p->cpu_s % 60));
	jsonw_kstr(w, "time", text);
}

static void put_ps(struct jsonw *w, const struct proto_reply *r)
{
	time_t now = time(NULL);

	jsonw_key(w, "processes");
	jsonw_arr(w);
	for (size_t i = 0; i < r->n_ps; i++) {
		const struct proto_ps *p = &r->ps[i];
		char uid[16];

		snprintf(uid, sizeof(uid), "%u", p->uid);
		jsonw_obj(w);
		jsonw_kint(w, "pid", p->pid);
		jsonw_kint(w, "ppid", p->ppid);
		jsonw_kint(w, "uid", p->uid);
		/* Names are the container's own affair; root is root everywhere. */
		jsonw_kstr(w, "user", p->uid ? uid : "root");
		put_times(w, p, now);
		jsonw_kstr(w, "tty", p->tty);
		jsonw_kstr(w, "cmd", p->cmd);
		if (p->named)
			jsonw_kstr(w, "process", p->process);
		jsonw_end_obj(w);
	}
	jsonw_end_arr(w);
}

static void put_stats(struct jsonw *w, const struct proto_reply *r)
{
	jsonw_kuint(w, "cpus", r->cpus);
	jsonw_kuint(w, "memory", r->memory);
	jsonw_key(w, "stats");
	stats_write(r->stats, w);
}

static void put_wait(struct jsonw *w, const struct proto_reply *r)
{
	jsonw_kint(w, "status", r->status);
	jsonw_kint(w, "signal", r->signal);
	jsonw_kbool(w, "oom", r->oom);
	jsonw_kbool(w, "killed", r->killed);
	if (r->clean)
		jsonw_kbool(w, "clean", true);
}

static void put_error(struct jsonw *w, const struct error *e)
{
	jsonw_key(w, "error");
	jsonw_obj(w);
	jsonw_kstr(w, "kind", error_kind_name(e->kind));
	jsonw_kstr(w, "message", e->msg);
	jsonw_end_obj(w);
}

static int take_text(struct jsonw *w, char **text, size_t *len, struct error *err)
{
	const char *s = jsonw_finish(w, len, err);

	if (!s)
		return -1;
	if (*len > FRAME_MAX)
		return error_set(err, "answer of %zu bytes is too large", *len);
	*text = malloc(*len + 1);
	if (!*text)
		return error_set(err, "out of memory");
	memcpy(*text, s, *len + 1);
	return 0;
}

int proto_reply_text(const struct proto_reply *r, char **text, size_t *len, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	jsonw_kint(&w, "seq", r->seq);
	if (r->type != REPLY_ERROR)
		jsonw_kbool(&w, "ok", true);
	switch (r->type) {
	case REPLY_OK:
		break;
	case REPLY_ERROR:
		put_error(&w, r->error);
		break;
	case REPLY_HELLO:
		put_hello(&w, r);
		break;
	case REPLY_PROCESS:
		put_process(&w, r);
		break;
	case REPLY_WAIT:
		put_wait(&w, r);
		break;
	case REPLY_PS:
		put_ps(&w, r);
		break;
	case REPLY_STATS:
		put_stats(&w, r);
		break;
	case REPLY_READY:
		jsonw_kstr(&w, "ready", r->ready);
		break;
	case REPLY_STREAM:
		put_stream(&w, "stream", r->stream);
		put_stream(&w, "result", r->result);
		break;
	}
	jsonw_end_obj(&w);
	return take_text(&w, text, len, err);
}

int proto_event_text(const char *event, const char *id, const char *name, char **text, size_t *len,
		     struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	jsonw_kstr(&w, "event", event);
	jsonw_kstr(&w, "container", id);
	if (name)
		jsonw_kstr(&w, "name", name);
	jsonw_end_obj(&w);
	return take_text(&w, text, len, err);
}

/* ---- tokens */

void proto_token_text(const unsigned char token[16], char text[PROTO_TOKEN_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++) {
		text[2 * i] = digits[token[i] >> 4];
		text[2 * i + 1] = digits[token[i] & 15];
	}
	text[PROTO_TOKEN_HEX] = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int proto_token_parse(const char text[PROTO_TOKEN_HEX], unsigned char token[16])
{
	for (int i = 0; i < 16; i++) {
		int hi = hex_value(text[2 * i]), lo = hex_value(text[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -1;
		token[i] = (unsigned char)(hi << 4 | lo);
	}
	return 0;
}
