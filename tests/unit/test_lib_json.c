/* JSON in (what is refused, and where) and out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "lib/cleanup.h"
#include "lib/json.h"

static void refused(const char *text, size_t len, const char *wanted)
{
	struct error err = ERROR_INIT;
	cleanup_json yajl_val v = json_parse(text, len, &err);

	if (v || !strstr(err.msg, wanted))
		fail_msg("\"%s\": wanted \"%s\", got %s", text, wanted, v ? "a tree" : err.msg);
	assert_int_equal(err.kind, ERR_INVALID);
}

static void members(void **state)
{
	static const char text[] = "{\"s\":\"x\",\"n\":-5,\"t\":true,\"o\":{\"k\":1},\"z\":null,"
				   "\"big\":9223372036854775807,\"f\":1.5}";
	cleanup_json yajl_val v = json_parse(text, sizeof(text) - 1, NULL);
	int64_t n = 0;

	(void)state;
	assert_non_null(v);
	assert_string_equal(json_str(v, "s"), "x");
	assert_int_equal(json_int(v, "n", 0), -5);
	assert_int_equal(json_int(v, "big", 0), INT64_MAX);
	assert_true(json_bool(v, "t", false));
	assert_int_equal(json_int(json_get(v, "o"), "k", 0), 1);
	assert_true(json_get_int(v, "n", &n));
	assert_int_equal(n, -5);
}

static void absent_or_of_another_type(void **state)
{
	static const char text[] = "{\"s\":\"x\",\"n\":7,\"f\":1.5,\"z\":null}";
	cleanup_json yajl_val v = json_parse(text, sizeof(text) - 1, NULL);
	int64_t n = 42;

	(void)state;
	assert_null(json_get(v, "nothing"));
	assert_null(json_str(v, "n"));
	assert_null(json_get(v, "z"));
	assert_int_equal(json_int(v, "s", 3), 3);
	assert_true(json_bool(v, "n", true));
	assert_false(json_get_int(v, "f", &n));
	assert_false(json_get_int(v, "s", &n));
	assert_int_equal(n, 42);
	assert_null(json_get(NULL, "x"));
	assert_null(json_str(NULL, "x"));
	assert_int_equal(json_int(NULL, "x", 9), 9);
}

static void errors_name_the_place(void **state)
{
	(void)state;
	refused("{\"a\":1,\n \"b\":}\n", 15, "line 2, column");
	refused("{\n\n  nope\n}", 11, "line 3, column 3");
	refused("[1,2", 4, "line 1, column");
}

static void hostile_input(void **state)
{
	static char deep[2000];

	(void)state;
	refused("", 0, "line 1, column 1");
	refused("{} x", 4, "line 1, column 4");
	refused("{\"a\":\"\\u0000\"}", 14, "NUL");
	refused("{\"a\":\"\0\"}", 9, "NUL");
	refused("\"\xff\xfe\"", 4, "line 1, column");
	memset(deep, '[', sizeof(deep));
	refused(deep, sizeof(deep), "deep");
}

static void depth_limit_is_exact(void **state)
{
	char text[2 * JSON_DEPTH_MAX + 2];
	yajl_val v;

	(void)state;
	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	v = json_parse(text, 2ul * JSON_DEPTH_MAX, NULL);
	assert_non_null(v);
	yajl_tree_free(v);
	memset(text, '[', JSON_DEPTH_MAX + 1);
	memset(text + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	assert_null(json_parse(text, sizeof(text), NULL));
}

/* Brackets in strings are no nesting. */
static void depth_ignores_strings(void **state)
{
	char text[300];
	yajl_val v;

	(void)state;
	memset(text, '[', sizeof(text));
	text[0] = text[sizeof(text) - 1] = '"';
	text[100] = '\\';
	text[101] = '"';
	v = json_parse(text, sizeof(text), NULL);
	assert_non_null(v);
	yajl_tree_free(v);
}

static void writes_all_types(void **state)
{
	cleanup_jsonw struct jsonw w = {0};
	size_t len = 0;
	const char *text;

	(void)state;
	assert_int_equal(jsonw_init(&w, false, NULL), 0);
	jsonw_obj(&w);
	jsonw_kstr(&w, "s", "a\"b\\c\n");
	jsonw_kstr(&w, "none", NULL);
	jsonw_kint(&w, "min", INT64_MIN);
	jsonw_key(&w, "max");
	jsonw_uint(&w, UINT64_MAX);
	jsonw_kbool(&w, "yes", true);
	jsonw_key(&w, "list");
	jsonw_arr(&w);
	jsonw_strn(&w, "abc", 2);
	jsonw_null(&w);
	jsonw_raw(&w, "{\"r\":1}", 7);
	jsonw_end_arr(&w);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, NULL);
	assert_string_equal(text, "{\"s\":\"a\\\"b\\\\c\\n\",\"none\":null,"
				  "\"min\":-9223372036854775808,\"max\":18446744073709551615,"
				  "\"yes\":true,\"list\":[\"ab\",null,{\"r\":1}]}");
	assert_int_equal(len, strlen(text));
}

static void writes_invalid_utf8_as_question_marks(void **state)
{
	cleanup_jsonw struct jsonw w = {0};

	(void)state;
	assert_int_equal(jsonw_init(&w, false, NULL), 0);
	jsonw_str(&w, "a\xff"
		      "b \xc3\xa9");
	assert_string_equal(jsonw_finish(&w, NULL, NULL), "\"a?b \xc3\xa9\"");
}

static void unbalanced_text_is_an_error(void **state)
{
	cleanup_jsonw struct jsonw open = {0}, closed = {0};
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(jsonw_init(&open, false, NULL), 0);
	jsonw_obj(&open);
	assert_null(jsonw_finish(&open, NULL, &err));
	assert_true(err.msg[0] != '\0');
	assert_int_equal(jsonw_init(&closed, false, NULL), 0);
	jsonw_arr(&closed);
	jsonw_end_arr(&closed);
	jsonw_end_arr(&closed);
	jsonw_kint(&closed, "after a failure", 1);
	assert_null(jsonw_finish(&closed, NULL, NULL));
}

/* What is parsed and written again is the same, numbers to the last digit. */
static void tree_is_written_again(void **state)
{
	static const char text[] = "{\"a\":[1,-2,3.25,1e3,18446744073709551615],\"b\":{\"c\":null,"
				   "\"d\":[true,false,\"\\u00e9\"]},\"e\":{},\"f\":[]}";
	cleanup_json yajl_val v = json_parse(text, sizeof(text) - 1, NULL);
	cleanup_jsonw struct jsonw w = {0};

	(void)state;
	assert_int_equal(jsonw_init(&w, false, NULL), 0);
	jsonw_tree(&w, v);
	assert_string_equal(jsonw_finish(&w, NULL, NULL),
			    "{\"a\":[1,-2,3.25,1e3,18446744073709551615],\"b\":{\"c\":null,"
			    "\"d\":[true,false,\"\xc3\xa9\"]},\"e\":{},\"f\":[]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(members),
		cmocka_unit_test(absent_or_of_another_type),
		cmocka_unit_test(errors_name_the_place),
		cmocka_unit_test(hostile_input),
		cmocka_unit_test(depth_limit_is_exact),
		cmocka_unit_test(depth_ignores_strings),
		cmocka_unit_test(writes_all_types),
		cmocka_unit_test(writes_invalid_utf8_as_question_marks),
		cmocka_unit_test(unbalanced_text_is_an_error),
		cmocka_unit_test(tree_is_written_again),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
