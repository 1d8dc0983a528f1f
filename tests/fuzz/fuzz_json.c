/* JSON of a peer or a file: parsed, looked through, written again, and then the same. */
#include "lib/cleanup.h"
#include "lib/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static void look(yajl_val v)
{
	int64_t n;

	for (size_t i = 0; YAJL_IS_OBJECT(v) && i < v->u.object.len; i++) {
		const char *key = v->u.object.keys[i];

		json_str(v, key);
		json_int(v, key, 0);
		json_bool(v, key, false);
		json_get_int(v, key, &n);
		look(v->u.object.values[i]);
	}
	for (size_t i = 0; YAJL_IS_ARRAY(v) && i < v->u.array.len; i++)
		look(v->u.array.values[i]);
}

static char *written(yajl_val v)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	expect(jsonw_init(&w, false, NULL) == 0);
	jsonw_tree(&w, v);
	text = jsonw_finish(&w, NULL, NULL);
	return text ? strdup(text) : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of the exact size: a byte read behind it is seen. */
	cleanup_free char *text = malloc(size ? size : 1), *once = NULL, *twice = NULL;
	struct error err = ERROR_INIT;
	cleanup_json yajl_val v = NULL, again = NULL;

	memcpy(text, data, size);
	v = json_parse(text, size, &err);
	if (!v) {
		expect(err.kind == ERR_INVALID && strncmp(err.msg, "line ", 5) == 0);
		return 0;
	}
	look(v);
	once = written(v);
	expect(once != NULL);
	again = json_parse(once, strlen(once), &err);
	expect(again != NULL);
	twice = written(again);
	expect(twice && strcmp(once, twice) == 0);
	return 0;
}
