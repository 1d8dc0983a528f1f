/*
 * ps: the table shows the guest's processes; the JSON form lists host pids, which are the proxies':
 * callers (docker top) look them up in the host's process table.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "shim/lifecycle.h"

#include <stddef.h>
#include <string.h>

#define NOTE_MAX 128 /* bytes of an exec.<name> file */

/* Host pid of a proxied guest process, 0 if its proxy has gone. */
static pid_t host_pid(const struct container_dir *d, const struct container_state *st,
		      const char *process)
{
	cleanup_free char *name = xasprintf("exec.%s", process);
	cleanup_free char *text = NULL;
	unsigned long long start;
	int pid;

	if (!process[0])
		return st->pid;
	if (strspn(process, "0123456789") != strlen(process) ||
	    file_read(d->fd, name, NOTE_MAX, &text, NULL, NULL) < 0 ||
	    sscanf(text, "%d %llu", &pid, &start) != 2 || !process_alive(pid, start))
		return 0;
	return pid;
}

static int print_json(const struct container_dir *d, const struct container_state *st,
		      const struct agent_msg *m, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_arr(&w);
	for (size_t i = 0; i < m->n_ps; i++) {
		pid_t pid = m->ps[i].process ? host_pid(d, st, m->ps[i].process) : 0;

		if (pid > 0)
			jsonw_int(&w, pid);
	}
	jsonw_end_arr(&w);
	text = jsonw_finish(&w, NULL, err);
	if (!text)
		return -1;
	printf("%s\n", text);
	return 0;
}

/* ---- the table

   The processes are the guest's, so ps options are read here: those that say which columns there
   are, of the columns that the guest tells. Which processes is no question: all of the container's.
 */

static const struct column {
	const char *names; /* in -o, between blanks */
	const char *head;
	size_t offset;
	int width; /* negative: to the left */
	bool number;
} columns[] = {
	{" user euser ", "UID", offsetof(struct agent_process, user), -8, false},
	{" uid euid ", "UID", offsetof(struct agent_process, uid), 7, true},
	{" pid ", "PID", offsetof(struct agent_process, pid), 7, true},
	{" ppid ", "PPID", offsetof(struct agent_process, ppid), 7, true},
	{" stime start ", "STIME", offsetof(struct agent_process, stime), -8, false},
	{" tty tt tname ", "TTY", offsetof(struct agent_process, tty), -8, false},
	{" time cputime ", "TIME", offsetof(struct agent_process, time), 8, false},
	{" cmd args command ", "CMD", offsetof(struct agent_process, cmd), -1, false},
};

#define SHOWN_MAX 32

struct layout {
	const struct column *v[SHOWN_MAX];
	size_t n;
};

static int refuse_option(const char *option, struct error *err)
{
	return error_kind(
		err, ERR_UNSUPPORTED,
		"ps option \"%s\": the processes are the guest's, of which -e, -f, -A and "
		"-o with user, uid, pid, ppid, stime, tty, time and cmd are known",
		option);
}

static const struct column *find_column(const char *name)
{
	cleanup_free char *word = xasprintf(" %s ", name);

	for (size_t i = 0; i < ARRAY_LEN(columns); i++)
		if (!strchr(name, ' ') && strstr(columns[i].names, word))
			return &columns[i];
	return NULL;
}

/* "pid,cmd", also with blanks. */
static int add_columns(struct layout *l, const char *list, struct error *err)
{
	cleanup_free char *copy = xstrdup(list);
	char *rest = copy, *name;

	while ((name = strsep(&rest, ", "))) {
		const struct column *c = name[0] ? find_column(name) : NULL;

		if (!name[0])
			continue;
		if (!c || l->n == SHOWN_MAX)
			return refuse_option(name, err);
		l->v[l->n++] = c;
	}
	return 0;
}

/* "-ef", "-o pid,cmd", "-eopid": letters, the last of which may want a value. */
static int read_option(struct layout *l, char **args, int *i, struct error *err)
{
	const char *p = args[*i];

	if (strcmp(p, "--") == 0)
		return 0;
	for (p += *p == '-'; *p; p++) {
		if (strchr("efA", *p))
			continue;
		if (*p != 'o')
			return refuse_option(args[*i], err);
		if (p[1])
			return add_columns(l, p + 1, err);
		if (!args[*i + 1])
			return error_kind(err, ERR_USAGE, "ps option \"%s\" needs a value",
					  args[*i]);
		return add_columns(l, args[++*i], err);
	}
	return 0;
}

static int read_options(struct layout *l, char **args, struct error *err)
{
	for (int i = 0; args[i]; i++)
		if (read_option(l, args, &i, err) < 0)
			return -1;
	return l->n ? 0 : add_columns(l, "user pid ppid stime tty time cmd", err);
}

static void print_cell(const struct column *c, const char *text, bool last)
{
	printf("%*s%s", last && c->width < 0 ? 0 : c->width, text, last ? "\n" : " ");
}

static void print_process(const struct layout *l, const struct agent_process *p)
{
	char *const texts[] = {p->user, p->stime, p->tty, p->time, p->cmd};

	/* The guest chose these bytes. */
	for (size_t k = 0; k < ARRAY_LEN(texts); k++)
		replace_controls(texts[k], '?');
	for (size_t i = 0; i < l->n; i++) {
		const char *at = (const char *)p + l->v[i]->offset;
		char number[24];
		const char *text = number;
		int64_t n;

		if (l->v[i]->number) {
			memcpy(&n, at, sizeof(n));
			snprintf(number, sizeof(number), "%lld", (long long)n);
		} else {
			memcpy(&text, at, sizeof(text));
		}
		print_cell(l->v[i], text, i + 1 == l->n);
	}
}

static void print_table(const struct layout *l, const struct agent_msg *m)
{
	for (size_t i = 0; i < l->n; i++)
		print_cell(l->v[i], l->v[i]->head, i + 1 == l->n);
	for (size_t i = 0; i < m->n_ps; i++)
		print_process(l, &m->ps[i]);
}

int cmd_ps(const struct globals *g, int argc, char **argv, struct error *err)
{
	const char *format = "table";
	const struct option_def defs[] = {
		{"format", "f", OPT_STR, &format, "table|json", "how to print"}, {0}};
	int first = verb_options(argc, argv, defs, "ps", "ID [PS-OPTION...]", 1, -1, err);
	struct layout layout = {0};
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	cleanup_agent_msg struct agent_msg m = {0};

	if (first < 0)
		return -1;
	if (strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		return error_kind(err, ERR_USAGE,
				  "husk ps: --format: \"%s\": must be table or json", format);
	if (read_options(&layout, argv + first + 1, err) < 0)
		return -1;
	if (container_open(g, argv[first], false, &d, &st, err) < 0 ||
	    container_agent(&d, &st, &vmm, &a, err) < 0 || agent_ps(&a, d.id, &m, err) < 0)
		return -1;
	if (strcmp(format, "json") == 0)
		return print_json(&d, &st, &m, err);
	print_table(&layout, &m);
	return 0;
}
