/*
 * json.h - JSON in and out, over yajl.
 *
 * In: json_parse() gives a yajl tree after checks that yajl does not make (nesting depth, since
 * yajl frees its trees recursively; trailing bytes; NUL bytes, also those written \u0000), with
 * line and column in errors. Trees stay inside the module that parses them: what crosses a
 * boundary is a typed struct.
 * Out: struct jsonw, an append-only writer that cannot produce unbalanced text unnoticed.
 */
#ifndef HUSK_LIB_JSON_H
#define HUSK_LIB_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <yajl/yajl_gen.h>
#include <yajl/yajl_tree.h>

#include "lib/error.h"

#define JSON_DEPTH_MAX 64

/* Parses `len` bytes that need no NUL behind them. The caller frees with yajl_tree_free() (or
 * cleanup_json). Errors: ERR_INVALID with "line L, column C: reason". */
yajl_val json_parse(const char *text, size_t len, struct error *err);

void json_treep(yajl_val *v);
#define cleanup_json __attribute__((cleanup(json_treep)))

/* Members of an object; NULL, false or `def` when absent, null or of another type. The strings
 * belong to the tree. `obj` may be NULL. */
yajl_val json_get(yajl_val obj, const char *key);
const char *json_str(yajl_val obj, const char *key);
int64_t json_int(yajl_val obj, const char *key, int64_t def);
bool json_bool(yajl_val obj, const char *key, bool def);
/* True when the member exists and is an integer; stores it. */
bool json_get_int(yajl_val obj, const char *key, int64_t *out);

/* ---- writer. All functions may be called after a failure; jsonw_finish() reports it. */
struct jsonw {
	yajl_gen gen;
	bool failed;
	int depth; /* objects and arrays that are open */
};

int jsonw_init(struct jsonw *w, bool pretty, struct error *err);
void jsonw_free(struct jsonw *w);
#define cleanup_jsonw __attribute__((cleanup(jsonw_free)))

void jsonw_obj(struct jsonw *w);
void jsonw_end_obj(struct jsonw *w);
void jsonw_arr(struct jsonw *w);
void jsonw_end_arr(struct jsonw *w);
void jsonw_key(struct jsonw *w, const char *key);
void jsonw_str(struct jsonw *w, const char *s); /* NULL writes null; invalid UTF-8 becomes '?' */
void jsonw_strn(struct jsonw *w, const char *s, size_t len);
void jsonw_int(struct jsonw *w, int64_t v);
void jsonw_uint(struct jsonw *w, uint64_t v);
void jsonw_bool(struct jsonw *w, bool v);
void jsonw_null(struct jsonw *w);
/* Writes a value that is JSON text already (checked by whoever made it). */
void jsonw_raw(struct jsonw *w, const char *text, size_t len);
/* Writes a parsed value again. */
void jsonw_tree(struct jsonw *w, yajl_val v);

/* key + value in one */
void jsonw_kstr(struct jsonw *w, const char *key, const char *s);
void jsonw_kint(struct jsonw *w, const char *key, int64_t v);
void jsonw_kuint(struct jsonw *w, const char *key, uint64_t v);
void jsonw_kbool(struct jsonw *w, const char *key, bool v);

/* The finished text, NUL-terminated; it belongs to the writer and lives until jsonw_free().
 * NULL on error (out of memory, unbalanced). */
const char *jsonw_finish(struct jsonw *w, size_t *len, struct error *err);

#endif
