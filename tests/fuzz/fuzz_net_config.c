/* A configuration as the host sends it: any JSON is refused with a reason, or is one that reads the
 * same when it is written. */
#include "lib/cleanup.h"
#include "netns/config_json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool ok)
{
	if (!ok)
		abort();
}

static char *to_text(const struct net_config *c)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	expect(jsonw_init(&w, false, NULL) == 0);
	jsonw_obj(&w);
	net_config_write(&w, c);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, NULL, NULL);
	expect(text != NULL);
	return strdup(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_json yajl_val v = json_parse((const char *)data, size, NULL), again = NULL;
	cleanup_net_config struct net_config c = {0}, back = {0};
	cleanup_free char *text = NULL, *second = NULL;
	struct error err = ERROR_INIT;

	if (!v)
		return 0;
	if (net_config_read(v, &c, &err) < 0) {
		expect(err.msg[0] && (err.kind == ERR_INVALID || err.kind == ERR_UNSUPPORTED));
		expect(c.links == NULL && c.routes == NULL);
		return 0;
	}
	text = to_text(&c);
	again = json_parse(text, strlen(text), NULL);
	expect(again != NULL && net_config_read(again, &back, NULL) == 0);
	second = to_text(&back);
	expect(strcmp(text, second) == 0);
	return 0;
}
