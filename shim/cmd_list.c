#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "shim/lifecycle.h"

#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#define OWNER_MAX 64

/* ---- the table, with the widths of runc's */

#define COLUMNS 6
#define COLUMN_MIN 12
#define PADDING 3

struct table {
	char *(*rows)[COLUMNS];
	size_t n;
};

static void add_cells(struct table *t, const char *const cells[COLUMNS])
{
	char *(*rows)[COLUMNS] = reallocarray(t->rows, t->n + 1, sizeof(*rows));

	if (!rows)
		abort();
	t->rows = rows;
	for (size_t i = 0; i < COLUMNS; i++)
		rows[t->n][i] = xstrdup(cells[i]);
	t->n++;
}

static void add_row(struct table *t, const struct container_state *st, const char *owner)
{
	char created[OCI_TIME_SIZE], pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)st->pid);
	add_cells(t,
		  (const char *const[COLUMNS]){st->id, pid, oci_status_name(st->status), st->bundle,
					       oci_time(&st->created, created), owner});
}

static void print_row(char *const cells[COLUMNS], const size_t widths[COLUMNS])
{
	for (size_t i = 0; i + 1 < COLUMNS; i++)
		printf("%-*s", (int)widths[i], cells[i]);
	printf("%s\n", cells[COLUMNS - 1]);
}

static void print_table(const struct table *t)
{
	static const char *const head[COLUMNS] = {"ID",	    "PID",     "STATUS",
						  "BUNDLE", "CREATED", "OWNER"};
	size_t widths[COLUMNS];

	for (size_t i = 0; i < COLUMNS; i++) {
		widths[i] = strlen(head[i]) + PADDING;
		for (size_t k = 0; k < t->n; k++)
			if (strlen(t->rows[k][i]) + PADDING > widths[i])
				widths[i] = strlen(t->rows[k][i]) + PADDING;
		if (widths[i] < COLUMN_MIN)
			widths[i] = COLUMN_MIN;
	}
	print_row((char *const *)head, widths);
	for (size_t k = 0; k < t->n; k++)
		print_row(t->rows[k], widths);
}

static void free_table(struct table *t)
{
	for (size_t k = 0; k < t->n; k++)
		for (size_t i = 0; i < COLUMNS; i++)
			free(t->rows[k][i]);
	free(t->rows);
}

/* ---- containers */

/* The name of whoever owns the container's directory. */
static void find_owner(const struct container_dir *d, char owner[OWNER_MAX])
{
	struct stat st;
	const struct passwd *pw;

	owner[0] = '\0';
	if (fstat(d->fd, &st) < 0)
		return;
	pw = getpwuid(st.st_uid);
	if (pw)
		snprintf(owner, OWNER_MAX, "%s", pw->pw_name);
	else
		snprintf(owner, OWNER_MAX, "#%u", st.st_uid);
}

/* A container that is half made or being deleted is left out, as it has no state to show. */
static bool load(const struct globals *g, const char *id, struct container_state *st,
		 char owner[OWNER_MAX])
{
	cleanup_container_dir struct container_dir d = {.fd = -1};
	struct error err = ERROR_INIT;

	if (container_open(g, id, false, &d, st, &err) == 0) {
		find_owner(&d, owner);
		return true;
	}
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
		char owner[OWNER_MAX];
		struct oci_state view;

		if (!load(g, *id, &st, owner))
			continue;
		container_spec(&st, &spec, NULL);
		view = state_view(&st, spec);
		view.owner = owner;
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
	struct table table = {0};
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
	for (char **id = ids; *id; id++) {
		cleanup_state struct container_state st = {0};
		char owner[OWNER_MAX];

		if (!load(g, *id, &st, owner))
			continue;
		if (quiet)
			printf("%s\n", st.id);
		else
			add_row(&table, &st, owner);
	}
	if (!quiet)
		print_table(&table);
	free_table(&table);
	strv_free(ids);
	return r;
}
