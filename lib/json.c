#include "lib/json.h"
#include "lib/cleanup.h"

#include <string.h>
#include <yajl/yajl_parse.h>

/* Line and column, from 1, of byte `off`. */
static void locate(const char *text, size_t off, size_t *line, size_t *col)
{
	*line = 1;
	*col = 1;
	for (size_t i = 0; i < off; i++) {
		if (text[i] == '\n') {
			(*line)++;
			*col = 1;
		} else {
			(*col)++;
		}
	}
}

static int fail_at(const char *text, size_t off, const char *reason, struct error *err)
{
	size_t line, col;

	locate(text, off, &line, &col);
	return error_kind(err, ERR_INVALID, "line %zu, column %zu: %s", line, col, reason);
}

/* yajl frees trees recursively, takes NUL bytes for white space in places, and cuts the strings of
 * a tree at a \u0000 unnoticed: look before. */
static int check_shape(const char *text, size_t len, struct error *err)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (c == '\0')
			return fail_at(text, i, "NUL byte", err);
		if (in_string) {
			if (c == '\\') {
				if (len - i >= 6 && memcmp(text + i + 1, "u0000", 5) == 0)
					return fail_at(text, i, "NUL character in a string", err);
				i++;
			} else if (c == '"') {
				in_string = false;
			}
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > JSON_DEPTH_MAX)
				return fail_at(text, i, "nested too deeply", err);
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return 0;
}

/* The parser alone knows where it stopped; a tree parse does not tell. */
static int explain(const char *text, size_t len, struct error *err)
{
	yajl_handle h = yajl_alloc(NULL, NULL, NULL);
	unsigned char *msg;
	size_t off;
	char reason[256];

	if (!h)
		return error_set(err, "out of memory");
	if (yajl_parse(h, (const unsigned char *)text, len) == yajl_status_ok &&
	    yajl_complete_parse(h) == yajl_status_ok) {
		yajl_free(h);
		return error_kind(err, ERR_INVALID, "empty");
	}
	off = yajl_get_bytes_consumed(h);
	msg = yajl_get_error(h, 0, (const unsigned char *)text, len);
	snprintf(reason, sizeof(reason), "%s", msg ? (const char *)msg : "not JSON");
	reason[strcspn(reason, "\n")] = '\0';
	yajl_free_error(h, msg);
	yajl_free(h);
	/* yajl counts the byte that it could not use. */
	if (off > 0)
		off--;
	return fail_at(text, off < len ? off : len, reason, err);
}

yajl_val json_parse(const char *text, size_t len, struct error *err)
{
	cleanup_free char *copy = NULL;
	char reason[128];
	yajl_val v;

	if (check_shape(text, len, err) < 0)
		return NULL;
	copy = malloc(len + 1);
	if (!copy) {
		error_set(err, "out of memory");
		return NULL;
	}
	memcpy(copy, text, len);
	copy[len] = '\0';
	v = yajl_tree_parse(copy, reason, sizeof(reason));
	if (!v)
		explain(text, len, err);
	return v;
}

void json_treep(yajl_val *v)
{
	if (*v)
		yajl_tree_free(*v);
	*v = NULL;
}

yajl_val json_get(yajl_val obj, const char *key)
{
	if (!YAJL_IS_OBJECT(obj))
		return NULL;
	for (size_t i = 0; i < obj->u.object.len; i++)
		if (strcmp(obj->u.object.keys[i], key) == 0)
			return YAJL_IS_NULL(obj->u.object.values[i]) ? NULL
								     : obj->u.object.values[i];
	return NULL;
}

const char *json_str(yajl_val obj, const char *key)
{
	return YAJL_GET_STRING(json_get(obj, key));
}

bool json_get_int(yajl_val obj, const char *key, int64_t *out)
{
	yajl_val v = json_get(obj, key);

	if (!YAJL_IS_INTEGER(v))
		return false;
	*out = YAJL_GET_INTEGER(v);
	return true;
}

int64_t json_int(yajl_val obj, const char *key, int64_t def)
{
	int64_t v;

	return json_get_int(obj, key, &v) ? v : def;
}

bool json_bool(yajl_val obj, const char *key, bool def)
{
	yajl_val v = json_get(obj, key);

	if (YAJL_IS_TRUE(v))
		return true;
	if (YAJL_IS_FALSE(v))
		return false;
	return def;
}

/* ---- writer */

int jsonw_init(struct jsonw *w, bool pretty, struct error *err)
{
	w->failed = false;
	w->depth = 0;
	w->gen = yajl_gen_alloc(NULL);
	if (!w->gen)
		return error_set(err, "out of memory");
	if (pretty) {
		yajl_gen_config(w->gen, yajl_gen_beautify, 1);
		yajl_gen_config(w->gen, yajl_gen_indent_string, "\t");
	}
	return 0;
}

void jsonw_free(struct jsonw *w)
{
	if (w->gen)
		yajl_gen_free(w->gen);
	w->gen = NULL;
}

static void check(struct jsonw *w, yajl_gen_status s)
{
	if (s != yajl_gen_status_ok)
		w->failed = true;
}

void jsonw_obj(struct jsonw *w)
{
	check(w, yajl_gen_map_open(w->gen));
	w->depth++;
}

void jsonw_end_obj(struct jsonw *w)
{
	check(w, yajl_gen_map_close(w->gen));
	w->depth--;
}

void jsonw_arr(struct jsonw *w)
{
	check(w, yajl_gen_array_open(w->gen));
	w->depth++;
}

void jsonw_end_arr(struct jsonw *w)
{
	check(w, yajl_gen_array_close(w->gen));
	w->depth--;
}

void jsonw_key(struct jsonw *w, const char *key)
{
	jsonw_str(w, key);
}

void jsonw_str(struct jsonw *w, const char *s)
{
	if (!s)
		jsonw_null(w);
	else
		jsonw_strn(w, s, strlen(s));
}

/* Length of the valid UTF-8 sequence at s, 0 if there is none. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	static const unsigned char min2[] = {0xc2, 0xe0, 0xf0};
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (len == 1)
		return 1;
	if (s[0] < min2[0] || s[0] > 0xf4 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

void jsonw_strn(struct jsonw *w, const char *s, size_t len)
{
	cleanup_free char *copy = malloc(len + 1);

	if (!copy) {
		w->failed = true;
		return;
	}
	memcpy(copy, s, len);
	for (size_t i = 0; i < len;) {
		size_t n = utf8_len((const unsigned char *)copy + i, len - i);

		if (n == 0)
			copy[i] = '?';
		i += n ? n : 1;
	}
	check(w, yajl_gen_string(w->gen, (const unsigned char *)copy, len));
}

void jsonw_int(struct jsonw *w, int64_t v)
{
	check(w, yajl_gen_integer(w->gen, v));
}

void jsonw_uint(struct jsonw *w, uint64_t v)
{
	char buf[24];
	int n = snprintf(buf, sizeof(buf), "%llu", (unsigned long long)v);

	check(w, yajl_gen_number(w->gen, buf, (size_t)n));
}

void jsonw_bool(struct jsonw *w, bool v)
{
	check(w, yajl_gen_bool(w->gen, v));
}

void jsonw_null(struct jsonw *w)
{
	check(w, yajl_gen_null(w->gen));
}

void jsonw_raw(struct jsonw *w, const char *text, size_t len)
{
	/* yajl writes a "number" as it stands. */
	check(w, yajl_gen_number(w->gen, text, len));
}

void jsonw_tree(struct jsonw *w, yajl_val v)
{
	if (!v || YAJL_IS_NULL(v)) {
		jsonw_null(w);
	} else if (YAJL_IS_STRING(v)) {
		jsonw_str(w, v->u.string);
	} else if (YAJL_IS_NUMBER(v)) {
		jsonw_raw(w, v->u.number.r, strlen(v->u.number.r));
	} else if (YAJL_IS_OBJECT(v)) {
		jsonw_obj(w);
		for (size_t i = 0; i < v->u.object.len; i++) {
			jsonw_key(w, v->u.object.keys[i]);
			jsonw_tree(w, v->u.object.values[i]);
		}
		jsonw_end_obj(w);
	} else if (YAJL_IS_ARRAY(v)) {
		jsonw_arr(w);
		for (size_t i = 0; i < v->u.array.len; i++)
			jsonw_tree(w, v->u.array.values[i]);
		jsonw_end_arr(w);
	} else {
		jsonw_bool(w, YAJL_IS_TRUE(v));
	}
}

void jsonw_kstr(struct jsonw *w, const char *key, const char *s)
{
	jsonw_key(w, key);
	jsonw_str(w, s);
}

void jsonw_kint(struct jsonw *w, const char *key, int64_t v)
{
	jsonw_key(w, key);
	jsonw_int(w, v);
}

void jsonw_kuint(struct jsonw *w, const char *key, uint64_t v)
{
	jsonw_key(w, key);
	jsonw_uint(w, v);
}

void jsonw_kbool(struct jsonw *w, const char *key, bool v)
{
	jsonw_key(w, key);
	jsonw_bool(w, v);
}

const char *jsonw_finish(struct jsonw *w, size_t *len, struct error *err)
{
	const unsigned char *buf;
	size_t n;

	if (w->failed || w->depth != 0 ||
	    yajl_gen_get_buf(w->gen, &buf, &n) != yajl_gen_status_ok) {
		error_set(err, "cannot write JSON");
		return NULL;
	}
	if (len)
		*len = n;
	return (const char *)buf;
}
