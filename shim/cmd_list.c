#include "lib/cleanup.h"
#include "lib/json.h"
#include "lib/log.h"
#include "shim/lifecycle.h"

#include <string.h>

static void list_table_row(const struct container_state *st)
{
	char created[OCI_TIME_SIZE];

	printf("%-20s %-10d %-10s %-40s %-32s root\n", st->id, (int)st->pid,
	       oci_status_name(st->status), st->bundle, oci_time(&st->created, created));
}

/* A container that is half made or being deleted is left out, as it has no state to show. */
static bool load(const struct globals *g, const char *id, struct container_state *st)
{
	cleanup_container_dir struct container_dir d = {.fd = -1};
	struct error err = ERROR_INIT;

	if (container_open(g, id, false, &d, st, &err) == 0)
		return true;
	if (err.kind != ERR_NOT_FOUND)
		log_warn("%s", err.msg);
	return false;
}

static int list_json(const struct globals *g, char **ids, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_arr(&w);
	for (char **id = ids; *id; id++) {
		cleanup_state struct container_state st = {0};
		cleanup_oci_spec struct oci_spec *spec = NULL;
		struct oci_state view;

		if (!load(g, *id, &st))
			continue;
		container_spec(&st, &spec, NULL);
		view = state_view(&st, spec);
		oci_state_write(&view, &w);
	}
	jsonw_end_arr(&w);
	text = jsonw_finish(&w, NULL, err);
	if (!text)
		return -1;
	printf("%s\n", text);
	return 0;
}

int cmd_list(const struct globals *g, int argc, char **argv, struct error *err)
{
	const char *format = "table";
	bool quiet = false;
	const struct option_def defs[] = {
		{"format", "f", OPT_STR, &format, "table|json", "how to print"},
		{"quiet", "q", OPT_FLAG, &quiet, NULL, "print the ids alone"},
		{0}};
	int first = verb_options(argc, argv, defs, "list", "", 0, 0, err);
	char **ids;
	int r = 0;

	if (first < 0)
		return -1;
	if (strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		return error_kind(err, ERR_USAGE,
				  "husk list: --format: \"%s\": must be table or json", format);
	ids = state_list(g->root, err);
	if (!ids)
		return -1;
	if (!quiet && strcmp(format, "json") == 0) {
		r = list_json(g, ids, err);
		strv_free(ids);
		return r;
	}
	if (!quiet)
		printf("%-20s %-10s %-10s %-40s %-32s OWNER\n", "ID", "PID", "STATUS", "BUNDLE",
		       "CREATED");
	for (char **id = ids; *id; id++) {
		cleanup_state struct container_state st = {0};

		if (!load(g, *id, &st))
			continue;
		if (quiet)
			printf("%s\n", st.id);
		else
			list_table_row(&st);
	}
	strv_free(ids);
	return r;
}
