/*
 * ps: the table shows the guest's processes; the JSON form lists host pids, which are the proxies':
 * callers (docker top) look them up in the host's process table.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "shim/lifecycle.h"

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

static void print_table(const struct agent_msg *m)
{
	printf("%-8s %7s %7s %-8s %-8s %8s %s\n", "UID", "PID", "PPID", "STIME", "TTY", "TIME",
	       "CMD");
	for (size_t i = 0; i < m->n_ps; i++) {
		const struct agent_process *p = &m->ps[i];
		char *const texts[] = {p->user, p->stime, p->tty, p->time, p->cmd};

		/* The guest chose these bytes. */
		for (size_t k = 0; k < ARRAY_LEN(texts); k++)
			replace_controls(texts[k], '?');
		printf("%-8s %7lld %7lld %-8s %-8s %8s %s\n", p->user, (long long)p->pid,
		       (long long)p->ppid, p->stime, p->tty, p->time, p->cmd);
	}
}

int cmd_ps(const struct globals *g, int argc, char **argv, struct error *err)
{
	const char *format = "table";
	const struct option_def defs[] = {
		{"format", "f", OPT_STR, &format, "table|json", "how to print"}, {0}};
	int first = verb_options(argc, argv, defs, "ps", "ID [PS-OPTION...]", 1, -1, err);
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
	if (container_open(g, argv[first], false, &d, &st, err) < 0 ||
	    container_agent(&d, &st, &vmm, &a, err) < 0 || agent_ps(&a, d.id, &m, err) < 0)
		return -1;
	if (strcmp(format, "json") == 0)
		return print_json(&d, &st, &m, err);
	print_table(&m);
	return 0;
}
