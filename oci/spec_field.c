#include "oci/spec_field.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What is shown of a name or a value in an error. */
#define SHOWN_MAX 128
#define PATH_SHOWN_MAX 1024

struct field field_root(const char *name, yajl_val v)
{
	return (struct field){.kind = FIELD_ROOT, .key = name, .v = v};
}

static struct field below(const struct field *up, enum field_kind kind, const char *key, size_t i,
			  yajl_val v)
{
	return (struct field){.up = up, .kind = kind, .key = key, .index = i, .v = v};
}

/* ---- errors */

static void put_path(const struct field *f, char *buf, size_t size)
{
	size_t n;

	if (f->up)
		put_path(f->up, buf, size);
	n = strlen(buf);
	if (f->kind == FIELD_ELEMENT)
		snprintf(buf + n, size - n, "[%zu]", f->index);
	else if (f->kind == FIELD_ENTRY)
		snprintf(buf + n, size - n, "[\"%.*s\"]", SHOWN_MAX, f->key);
	else
		snprintf(buf + n, size - n, "%s%.*s", n ? "." : "", SHOWN_MAX, f->key);
}

static void fail(const struct field *f, struct error *err, const char *fmt, va_list ap)
{
	char path[PATH_SHOWN_MAX] = "", msg[ERROR_MSG_MAX - PATH_SHOWN_MAX];

	put_path(f, path, sizeof(path));
	vsnprintf(msg, sizeof(msg), fmt, ap);
	error_kind(err, ERR_INVALID, "%s: %s", path[0] ? path : "config.json", msg);
}

int field_fail(const struct field *f, struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail(f, err, fmt, ap);
	va_end(ap);
	return -1;
}

int field_fail_member(const struct field *f, const char *key, struct error *err, const char *fmt,
		      ...)
{
	struct field m = below(f, FIELD_MEMBER, key, 0, NULL);
	va_list ap;

	va_start(ap, fmt);
	fail(&m, err, fmt, ap);
	va_end(ap);
	return -1;
}

/* ---- duplicates: which of two values counts differs between JSON readers, and the one who wrote
 * the file cannot tell which of them was checked. */

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int refuse_duplicate_keys(const struct field *f, struct error *err)
{
	size_t n = f->v->u.object.len;
	cleanup_free const char **keys = NULL;

	if (n < 2)
		return 0;
	keys = xcalloc(n, sizeof(*keys));
	memcpy(keys, f->v->u.object.keys, n * sizeof(*keys));
	qsort(keys, n, sizeof(*keys), compare_keys);
	for (size_t i = 1; i < n; i++)
		if (strcmp(keys[i - 1], keys[i]) == 0)
			return field_fail_member(f, keys[i], err, "given twice");
	return 0;
}

int field_refuse_duplicates(const struct field *f, struct error *err)
{
	if (YAJL_IS_ARRAY(f->v)) {
		for (size_t i = 0; i < f->v->u.array.len; i++) {
			struct field e = below(f, FIELD_ELEMENT, NULL, i, f->v->u.array.values[i]);

			if (field_refuse_duplicates(&e, err) < 0)
				return -1;
		}
		return 0;
	}
	if (!YAJL_IS_OBJECT(f->v))
		return 0;
	if (refuse_duplicate_keys(f, err) < 0)
		return -1;
	for (size_t i = 0; i < f->v->u.object.len; i++) {
		struct field m =
			below(f, FIELD_MEMBER, f->v->u.object.keys[i], 0, f->v->u.object.values[i]);

		if (field_refuse_duplicates(&m, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the value of a field */

int field_is_object(const struct field *f, struct error *err)
{
	return YAJL_IS_OBJECT(f->v) ? 0 : field_fail(f, err, "must be an object");
}

const char *field_str(const struct field *f, struct error *err)
{
	if (YAJL_IS_STRING(f->v))
		return f->v->u.string;
	field_fail(f, err, "must be a string");
	return NULL;
}

/* JSON knows numbers; the specification wants integers, and up to 2^64-1. So their text is read
 * here, not yajl's idea of their value. */
static const char *integer_text(const struct field *f)
{
	const char *s = YAJL_IS_NUMBER(f->v) ? f->v->u.number.r : "x";

	return s[strspn(s, "-0123456789")] == '\0' ? s : NULL;
}

int field_i64(const struct field *f, int64_t min, int64_t max, int64_t *out, struct error *err)
{
	const char *s = integer_text(f);
	long long v;

	if (!s)
		return field_fail(f, err, "must be an integer");
	errno = 0;
	v = strtoll(s, NULL, 10);
	if (errno == ERANGE || v < min || v > max)
		return field_fail(f, err, "%.*s is out of range (%" PRId64 " to %" PRId64 ")",
				  SHOWN_MAX, s, min, max);
	*out = v;
	return 0;
}

int field_u64(const struct field *f, uint64_t max, uint64_t *out, struct error *err)
{
	const char *s = integer_text(f);
	unsigned long long v;

	if (!s)
		return field_fail(f, err, "must be an integer");
	if (s[0] == '-')
		return field_fail(f, err, "%.*s must not be negative", SHOWN_MAX, s);
	errno = 0;
	v = strtoull(s, NULL, 10);
	if (errno == ERANGE || v > max)
		return field_fail(f, err, "%.*s is out of range (0 to %" PRIu64 ")", SHOWN_MAX, s,
				  max);
	*out = v;
	return 0;
}

int field_enum(const struct field *f, const struct name *table, const char *what, uint64_t *out,
	       struct error *err)
{
	const char *s = field_str(f, err);

	if (!s)
		return -1;
	for (; table->name; table++) {
		if (strcmp(table->name, s) == 0) {
			*out = table->value;
			return 0;
		}
	}
	return field_fail(f, err, "\"%.*s\": unknown %s", SHOWN_MAX, s, what);
}

const char *name_of(const struct name *table, uint64_t value)
{
	for (; table->name; table++)
		if (table->value == value)
			return table->name;
	return NULL;
}

/* ---- members */

static bool member(const struct field *obj, const char *key, struct field *out)
{
	yajl_val o = obj->v;

	if (!YAJL_IS_OBJECT(o))
		return false;
	for (size_t i = 0; i < o->u.object.len; i++) {
		if (strcmp(o->u.object.keys[i], key) != 0)
			continue;
		*out = below(obj, FIELD_MEMBER, o->u.object.keys[i], 0, o->u.object.values[i]);
		return !YAJL_IS_NULL(out->v);
	}
	return false;
}

int get_object(const struct field *obj, const char *key, struct field *out, struct error *err)
{
	if (!member(obj, key, out))
		return 0;
	return field_is_object(out, err) < 0 ? -1 : 1;
}

int get_str(const struct field *obj, const char *key, char **out, struct error *err)
{
	struct field f;
	const char *s;

	if (!member(obj, key, &f))
		return 0;
	s = field_str(&f, err);
	if (!s)
		return -1;
	if (!s[0])
		return 0;
	*out = xstrdup(s);
	return 1;
}

/* Member `key` as an array; 0 also for an empty one. */
static int get_array(const struct field *obj, const char *key, struct field *out, struct error *err)
{
	if (!member(obj, key, out))
		return 0;
	if (!YAJL_IS_ARRAY(out->v))
		return field_fail(out, err, "must be an array");
	return out->v->u.array.len > 0;
}

int get_strv(const struct field *obj, const char *key, char ***out, size_t *n, struct error *err)
{
	struct field arr;
	size_t len;
	int r = get_array(obj, key, &arr, err);

	if (r <= 0)
		return r;
	len = arr.v->u.array.len;
	*out = xcalloc(len + 1, sizeof(**out));
	*n = 0;
	for (size_t i = 0; i < len; i++) {
		struct field e = below(&arr, FIELD_ELEMENT, NULL, i, arr.v->u.array.values[i]);
		const char *s = field_str(&e, err);

		if (!s)
			return -1;
		(*out)[(*n)++] = xstrdup(s);
	}
	return 1;
}

int get_bool(const struct field *obj, const char *key, bool *out, struct error *err)
{
	struct field f;

	if (!member(obj, key, &f))
		return 0;
	if (!YAJL_IS_TRUE(f.v) && !YAJL_IS_FALSE(f.v))
		return field_fail(&f, err, "must be true or false");
	*out = YAJL_IS_TRUE(f.v);
	return 1;
}

int get_i64(const struct field *obj, const char *key, int64_t min, int64_t max, int64_t *out,
	    struct error *err)
{
	struct field f;

	if (!member(obj, key, &f))
		return 0;
	return field_i64(&f, min, max, out, err) < 0 ? -1 : 1;
}

int get_u64(const struct field *obj, const char *key, uint64_t max, uint64_t *out,
	    struct error *err)
{
	struct field f;

	if (!member(obj, key, &f))
		return 0;
	return field_u64(&f, max, out, err) < 0 ? -1 : 1;
}

int get_u32(const struct field *obj, const char *key, uint32_t *out, struct error *err)
{
	uint64_t v = 0;
	int r = get_u64(obj, key, UINT32_MAX, &v, err);

	if (r > 0)
		*out = (uint32_t)v;
	return r;
}

int get_u32v(const struct field *obj, const char *key, uint32_t **out, size_t *n, struct error *err)
{
	struct field arr;
	int r = get_array(obj, key, &arr, err);

	if (r <= 0)
		return r;
	*n = arr.v->u.array.len;
	*out = xcalloc(*n, sizeof(**out));
	for (size_t i = 0; i < *n; i++) {
		struct field e = below(&arr, FIELD_ELEMENT, NULL, i, arr.v->u.array.values[i]);
		uint64_t v = 0;

		if (field_u64(&e, UINT32_MAX, &v, err) < 0)
			return -1;
		(*out)[i] = (uint32_t)v;
	}
	return 1;
}

int get_enum(const struct field *obj, const char *key, const struct name *table, const char *what,
	     uint64_t *out, struct error *err)
{
	struct field f;

	if (!member(obj, key, &f))
		return 0;
	return field_enum(&f, table, what, out, err) < 0 ? -1 : 1;
}

int get_flags(const struct field *obj, const char *key, const struct name *table, const char *what,
	      uint64_t *out, struct error *err)
{
	struct field arr;
	int r = get_array(obj, key, &arr, err);

	if (r <= 0)
		return r;
	for (size_t i = 0; i < arr.v->u.array.len; i++) {
		struct field e = below(&arr, FIELD_ELEMENT, NULL, i, arr.v->u.array.values[i]);
		uint64_t v = 0;

		if (field_enum(&e, table, what, &v, err) < 0)
			return -1;
		*out |= v;
	}
	return 1;
}

/* ---- optional scalars */

int get_opt_bool(const struct field *obj, const char *key, struct oci_opt_bool *out,
		 struct error *err)
{
	int r = get_bool(obj, key, &out->v, err);

	out->has = r > 0;
	return r;
}

int get_opt_int(const struct field *obj, const char *key, int min, int max, struct oci_opt_int *out,
		struct error *err)
{
	int64_t v = 0;
	int r = get_i64(obj, key, min, max, &v, err);

	*out = (struct oci_opt_int){.has = r > 0, .v = (int)v};
	return r;
}

int get_opt_u16(const struct field *obj, const char *key, struct oci_opt_u16 *out,
		struct error *err)
{
	uint64_t v = 0;
	int r = get_u64(obj, key, UINT16_MAX, &v, err);

	*out = (struct oci_opt_u16){.has = r > 0, .v = (uint16_t)v};
	return r;
}

int get_opt_u32(const struct field *obj, const char *key, struct oci_opt_u32 *out,
		struct error *err)
{
	int r = get_u32(obj, key, &out->v, err);

	out->has = r > 0;
	return r;
}

int get_opt_u64(const struct field *obj, const char *key, struct oci_opt_u64 *out,
		struct error *err)
{
	int r = get_u64(obj, key, UINT64_MAX, &out->v, err);

	out->has = r > 0;
	return r;
}

int get_opt_i64(const struct field *obj, const char *key, struct oci_opt_i64 *out,
		struct error *err)
{
	int r = get_i64(obj, key, INT64_MIN, INT64_MAX, &out->v, err);

	out->has = r > 0;
	return r;
}

/* ---- members that must be there */

static int needed(int r, const struct field *obj, const char *key, struct error *err)
{
	if (r == 0)
		return field_fail_member(obj, key, err, "must not be empty");
	return r < 0 ? -1 : 0;
}

int need_str(const struct field *obj, const char *key, char **out, struct error *err)
{
	return needed(get_str(obj, key, out, err), obj, key, err);
}

int need_u64(const struct field *obj, const char *key, uint64_t max, uint64_t *out,
	     struct error *err)
{
	return needed(get_u64(obj, key, max, out, err), obj, key, err);
}

int need_i64(const struct field *obj, const char *key, int64_t min, int64_t max, int64_t *out,
	     struct error *err)
{
	return needed(get_i64(obj, key, min, max, out, err), obj, key, err);
}

int need_enum(const struct field *obj, const char *key, const struct name *table, const char *what,
	      uint64_t *out, struct error *err)
{
	return needed(get_enum(obj, key, table, what, out, err), obj, key, err);
}

/* ---- lists of structs */

int get_list(const struct field *obj, const char *key, size_t size, field_reader *read, void *out,
	     size_t *n, struct error *err)
{
	struct field arr;
	char *elems;
	int r = get_array(obj, key, &arr, err);

	if (r <= 0)
		return r;
	*n = arr.v->u.array.len;
	elems = xcalloc(*n, size);
	*(void **)out = elems;
	for (size_t i = 0; i < *n; i++) {
		struct field e = below(&arr, FIELD_ELEMENT, NULL, i, arr.v->u.array.values[i]);

		if (field_is_object(&e, err) < 0 || read(&e, elems + i * size, err) < 0)
			return -1;
	}
	return 1;
}

int get_map(const struct field *obj, const char *key, size_t size, field_reader *read, void *out,
	    size_t *n, struct error *err)
{
	struct field map;
	char *elems;
	int r = get_object(obj, key, &map, err);

	if (r <= 0 || map.v->u.object.len == 0)
		return r;
	*n = map.v->u.object.len;
	elems = xcalloc(*n, size);
	*(void **)out = elems;
	for (size_t i = 0; i < *n; i++) {
		struct field e = below(&map, FIELD_ENTRY, map.v->u.object.keys[i], 0,
				       map.v->u.object.values[i]);

		if (read(&e, elems + i * size, err) < 0)
			return -1;
	}
	return 1;
}

static int read_kv(const struct field *f, void *elem, struct error *err)
{
	struct oci_kv *kv = elem;
	const char *s = field_str(f, err);

	if (!s)
		return -1;
	kv->key = xstrdup(f->key);
	kv->value = xstrdup(s);
	return 0;
}

int get_strmap(const struct field *obj, const char *key, struct oci_kv **out, size_t *n,
	       struct error *err)
{
	return get_map(obj, key, sizeof(**out), read_kv, out, n, err);
}
