#include "shim/update.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "shim/quantity.h"

#include <string.h>

static int take_text(struct jsonw *w, char **text, struct error *err)
{
	const char *s = jsonw_finish(w, NULL, err);

	if (!s)
		return -1;
	*text = xstrdup(s);
	return 0;
}

/* ---- flags */

enum flag_kind { FLAG_NUMBER, FLAG_BYTES, FLAG_TEXT };

struct flag {
	const char *flag, *value, *member;
	enum flag_kind kind;
	int64_t min, max;
};

static int put_flag(struct jsonw *w, const struct flag *f, struct error *err)
{
	int64_t v;

	if (!f->value || !f->value[0])
		return 0;
	if (f->kind == FLAG_TEXT) {
		jsonw_kstr(w, f->member, f->value);
		return 0;
	}
	if (f->kind == FLAG_BYTES && strcmp(f->value, "-1") != 0) {
		if (!quantity_bytes(f->value, &v))
			return error_kind(err, ERR_USAGE,
					  "--%s: \"%s\": must be a size (\"512M\"), or -1 for no "
					  "limit",
					  f->flag, f->value);
	} else if (!quantity_integer(f->value, f->min, f->max, &v)) {
		return error_kind(err, ERR_USAGE,
				  "--%s: \"%s\": must be a number from %lld to %lld", f->flag,
				  f->value, (long long)f->min, (long long)f->max);
	}
	jsonw_kint(w, f->member, v);
	return 0;
}

static int put_flags(struct jsonw *w, const char *key, const struct flag *f, size_t n,
		     struct error *err)
{
	jsonw_key(w, key);
	jsonw_obj(w);
	for (size_t i = 0; i < n; i++)
		if (put_flag(w, &f[i], err) < 0)
			return -1;
	jsonw_end_obj(w);
	return 0;
}

int update_from_flags(const struct update_flags *f, char **text, struct error *err)
{
	const struct flag memory[] = {{"memory", f->memory, "limit", FLAG_BYTES, -1, -1},
				      {"memory-reservation", f->memory_reservation, "reservation",
				       FLAG_BYTES, -1, -1},
				      {"memory-swap", f->memory_swap, "swap", FLAG_BYTES, -1, -1}};
	const struct flag cpu[] = {
		{"cpu-period", f->cpu_period, "period", FLAG_NUMBER, 0, INT64_MAX},
		{"cpu-quota", f->cpu_quota, "quota", FLAG_NUMBER, -1, INT64_MAX},
		{"cpu-burst", f->cpu_burst, "burst", FLAG_NUMBER, 0, INT64_MAX},
		{"cpu-share", f->cpu_share, "shares", FLAG_NUMBER, 0, INT64_MAX},
		{"cpu-idle", f->cpu_idle, "idle", FLAG_NUMBER, 0, 1},
		{"cpu-rt-period", f->rt_period, "realtimePeriod", FLAG_NUMBER, 0, INT64_MAX},
		{"cpu-rt-runtime", f->rt_runtime, "realtimeRuntime", FLAG_NUMBER, -1, INT64_MAX},
		{"cpuset-cpus", f->cpuset_cpus, "cpus", FLAG_TEXT, 0, 0},
		{"cpuset-mems", f->cpuset_mems, "mems", FLAG_TEXT, 0, 0}};
	const struct flag pids[] = {
		{"pids-limit", f->pids_limit, "limit", FLAG_NUMBER, -1, INT64_MAX}};
	const struct flag block[] = {
		{"blkio-weight", f->blkio_weight, "weight", FLAG_NUMBER, 0, UINT16_MAX}};
	cleanup_jsonw struct jsonw w = {0};

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	if (put_flags(&w, "memory", memory, ARRAY_LEN(memory), err) < 0 ||
	    put_flags(&w, "cpu", cpu, ARRAY_LEN(cpu), err) < 0 ||
	    put_flags(&w, "pids", pids, ARRAY_LEN(pids), err) < 0 ||
	    put_flags(&w, "blockIO", block, ARRAY_LEN(block), err) < 0)
		return -1;
	jsonw_end_obj(&w);
	return take_text(&w, text, err);
}

/* ---- what a caller gave */

/* Of these zero is a value as any other. */
static bool zero_counts(const char *key)
{
	return strcmp(key, "burst") == 0 || strcmp(key, "idle") == 0 ||
	       strcmp(key, "disableOOMKiller") == 0 || strcmp(key, "swappiness") == 0;
}

static bool is_unset(const char *key, yajl_val v)
{
	if (YAJL_IS_NULL(v))
		return true;
	if (YAJL_IS_STRING(v))
		return v->u.string[0] == '\0';
	if (YAJL_IS_ARRAY(v))
		return v->u.array.len == 0;
	return YAJL_IS_INTEGER(v) && YAJL_GET_INTEGER(v) == 0 && !zero_counts(key);
}

static bool has(yajl_val obj, const char *key)
{
	yajl_val v = json_get(obj, key);

	return v && !is_unset(key, v);
}

/* A member that is not given, as config.json has it. */
static void borrow(struct jsonw *w, yajl_val given, yajl_val from, const char *key)
{
	if (has(given, key) || !has(from, key))
		return;
	jsonw_key(w, key);
	jsonw_tree(w, json_get(from, key));
}

static bool is_empty(yajl_val given)
{
	for (size_t i = 0; i < given->u.object.len; i++)
		if (!is_unset(given->u.object.keys[i], given->u.object.values[i]))
			return false;
	return true;
}

/* An object's members that are set, and what belongs to them. */
static void put_section(struct jsonw *w, const char *name, yajl_val given, yajl_val old)
{
	jsonw_key(w, name);
	jsonw_obj(w);
	for (size_t i = 0; i < given->u.object.len; i++) {
		const char *key = given->u.object.keys[i];

		if (is_unset(key, given->u.object.values[i]))
			continue;
		jsonw_key(w, key);
		jsonw_tree(w, given->u.object.values[i]);
	}
	if (strcmp(name, "cpu") == 0 && has(given, "quota"))
		borrow(w, given, old, "period");
	else if (strcmp(name, "cpu") == 0 && has(given, "period"))
		borrow(w, given, old, "quota");
	else if (strcmp(name, "memory") == 0 && json_int(given, "swap", 0) > 0)
		borrow(w, given, old, "limit");
	else if (strcmp(name, "memory") == 0 && json_int(given, "limit", 0) == -1 &&
		 !has(given, "swap"))
		jsonw_kint(w, "swap", -1);
	jsonw_end_obj(w);
}

static int same_text(yajl_val a, yajl_val b, bool *same, struct error *err)
{
	cleanup_jsonw struct jsonw wa = {0}, wb = {0};
	const char *ta, *tb;

	if (jsonw_init(&wa, false, err) < 0 || jsonw_init(&wb, false, err) < 0)
		return -1;
	jsonw_tree(&wa, a);
	jsonw_tree(&wb, b);
	ta = jsonw_finish(&wa, NULL, err);
	tb = ta ? jsonw_finish(&wb, NULL, err) : NULL;
	if (!tb)
		return -1;
	*same = strcmp(ta, tb) == 0;
	return 0;
}

static int check_devices(yajl_val given, yajl_val old, struct error *err)
{
	bool same = false;

	if (json_get(old, "devices") && same_text(given, json_get(old, "devices"), &same, err) < 0)
		return -1;
	return same ? 0
		    : error_kind(err, ERR_UNSUPPORTED,
				 "linux.resources.devices: device rules cannot be changed");
}

int update_complete(const char *given, const char *config, char **text, struct error *err)
{
	cleanup_json yajl_val v = json_parse(given, strlen(given), err);
	cleanup_json yajl_val c = v ? json_parse(config, strlen(config), err) : NULL;
	yajl_val old = json_get(json_get(c, "linux"), "resources");
	cleanup_jsonw struct jsonw w = {0};

	if (!c)
		return error_wrap(err, "linux.resources");
	if (!YAJL_IS_OBJECT(v))
		return error_kind(err, ERR_INVALID, "linux.resources: must be an object");
	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	for (size_t i = 0; i < v->u.object.len; i++) {
		const char *key = v->u.object.keys[i];
		yajl_val m = v->u.object.values[i];

		if (is_unset(key, m) || (YAJL_IS_OBJECT(m) && is_empty(m)))
			continue;
		if (strcmp(key, "devices") == 0) {
			if (check_devices(m, old, err) < 0)
				return -1;
		} else if (YAJL_IS_OBJECT(m)) {
			put_section(&w, key, m, json_get(old, key));
		} else {
			jsonw_key(&w, key);
			jsonw_tree(&w, m);
		}
	}
	jsonw_end_obj(&w);
	return take_text(&w, text, err);
}

/* ---- config.json */

/* `base` with what `over` says instead, member by member. */
static void put_merged(struct jsonw *w, yajl_val base, yajl_val over)
{
	if (!YAJL_IS_OBJECT(base) || !YAJL_IS_OBJECT(over)) {
		jsonw_tree(w, over ? over : base);
		return;
	}
	jsonw_obj(w);
	for (size_t i = 0; i < base->u.object.len; i++) {
		const char *key = base->u.object.keys[i];

		jsonw_key(w, key);
		put_merged(w, base->u.object.values[i], json_get(over, key));
	}
	for (size_t i = 0; i < over->u.object.len; i++) {
		if (json_get(base, over->u.object.keys[i]))
			continue;
		jsonw_key(w, over->u.object.keys[i]);
		jsonw_tree(w, over->u.object.values[i]);
	}
	jsonw_end_obj(w);
}

int update_config(const char *config, const char *resources, char **text, struct error *err)
{
	cleanup_free char *nested = xasprintf("{\"linux\":{\"resources\":%s}}", resources);
	cleanup_json yajl_val base = json_parse(config, strlen(config), err);
	cleanup_json yajl_val over = base ? json_parse(nested, strlen(nested), err) : NULL;
	cleanup_jsonw struct jsonw w = {0};

	if (!over || jsonw_init(&w, false, err) < 0)
		return -1;
	put_merged(&w, base, over);
	return take_text(&w, text, err);
}
