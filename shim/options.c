#include "shim/options.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <string.h>

static const struct option_def *find(const struct option_def *defs, const char *name, size_t len)
{
	for (const struct option_def *d = defs; d->name; d++) {
		if (strlen(d->name) == len && strncmp(d->name, name, len) == 0)
			return d;
		if (d->alias && strlen(d->alias) == len && strncmp(d->alias, name, len) == 0)
			return d;
	}
	return NULL;
}

static int set_flag(const struct option_def *d, const char *value, const char *what,
		    struct error *err)
{
	bool on = true;

	if (value) {
		if (strcmp(value, "false") == 0 || strcmp(value, "0") == 0)
			on = false;
		else if (strcmp(value, "true") != 0 && strcmp(value, "1") != 0)
			return error_kind(err, ERR_USAGE,
					  "%s: --%s takes true or false, not \"%s\"", what, d->name,
					  value);
	}
	if (d->type == OPT_FLAG)
		*(bool *)d->dest = on;
	return 0;
}

static void list_add(struct str_list *l, const char *value)
{
	const char **v = xcalloc(l->n + 2, sizeof(*v));

	if (l->n)
		memcpy(v, l->v, l->n * sizeof(*v));
	free(l->v);
	v[l->n++] = value;
	l->v = v;
}

int options_parse(int argc, char **argv, const struct option_def *defs, const char *what,
		  struct error *err)
{
	int i;

	for (i = 0; i < argc; i++) {
		const char *name = argv[i], *eq, *value;
		const struct option_def *d;

		if (name[0] != '-' || name[1] == '\0')
			return i;
		if (strcmp(name, "--") == 0)
			return i + 1;
		name += name[1] == '-' ? 2 : 1;
		eq = strchr(name, '=');
		value = eq ? eq + 1 : NULL;
		d = find(defs, name, eq ? (size_t)(eq - name) : strlen(name));
		if (!d)
			return error_kind(err, ERR_USAGE, "%s: unknown flag %.*s: see '%s --help'",
					  what, eq ? (int)(eq - argv[i]) : (int)strlen(argv[i]),
					  argv[i], what);
		if (d->type == OPT_FLAG || d->type == OPT_IGNORE_FLAG) {
			if (set_flag(d, value, what, err) < 0)
				return -1;
			continue;
		}
		if (!value && ++i == argc)
			return error_kind(err, ERR_USAGE, "%s: --%s needs a value", what, d->name);
		if (!value)
			value = argv[i];
		if (d->type == OPT_STR)
			*(const char **)d->dest = value;
		else if (d->type == OPT_LIST)
			list_add(d->dest, value);
	}
	return i;
}

int options_parse_all(int argc, char **argv, const struct option_def *defs, const char *what,
		      struct error *err)
{
	int at = 0, operands = 0;

	/* Operands that were found are argv[argc - operands .. argc). */
	for (;;) {
		int n = options_parse(argc - operands - at, argv + at, defs, what, err);
		char *operand;

		if (n < 0)
			return -1;
		at += n;
		if (at == argc - operands)
			return at;
		operand = argv[at];
		if (at > 0 && n > 0 && strcmp(argv[at - 1], "--") == 0)
			break;
		memmove(argv + at, argv + at + 1, (size_t)(argc - at - 1) * sizeof(*argv));
		argv[argc - 1] = operand;
		operands++;
	}
	/* "--": the rest comes behind those before it. */
	while (operands > 0) {
		char *last = argv[argc - 1];

		memmove(argv + at + 1, argv + at, (size_t)(argc - at - 1) * sizeof(*argv));
		argv[at] = last;
		operands--;
	}
	return at;
}

void options_help(const struct option_def *defs)
{
	for (const struct option_def *d = defs; d->name; d++) {
		char left[64];

		snprintf(left, sizeof(left), "--%s%s%s%s%s", d->name, d->alias ? ", -" : "",
			 d->alias ? d->alias : "", d->value ? " " : "", d->value ? d->value : "");
		printf("  %-28s %s\n", left, d->help);
	}
}
