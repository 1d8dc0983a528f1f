/*
 * options.h - command lines by table, with the habits of runc's (Go) flags: "--name value",
 * "--name=value" and "-name" with one dash are the same thing; a flag without a value may be
 * written "--flag=false"; options end at the first operand or at "--".
 */
#ifndef HUSK_SHIM_OPTIONS_H
#define HUSK_SHIM_OPTIONS_H

#include <stdbool.h>

#include "lib/error.h"

enum opt_type {
	OPT_FLAG, /* bool * */
	OPT_STR,  /* const char ** */
	OPT_LIST, /* struct str_list *: may be given several times */
	OPT_IGNORE /* accepted for runc's sake, has a value, no effect here */,
	OPT_IGNORE_FLAG,
};

struct str_list {
	const char **v;
	unsigned n;
};

struct option_def {
	const char *name;  /* without dashes */
	const char *alias; /* a second name ("b" for "bundle"), or NULL */
	enum opt_type type;
	void *dest;
	const char *value; /* what the value is called in help, NULL for flags */
	const char *help;
};

/* Parses argv[0..argc) from the start until the operands. `what` ("husk create") begins errors
 * (ERR_USAGE). Returns the index of the first operand. Strings point into argv. */
int options_parse(int argc, char **argv, const struct option_def *defs, const char *what,
		  struct error *err);
/* The same, with options behind operands, too: these are moved to the end of argv, in their order.
 */
int options_parse_all(int argc, char **argv, const struct option_def *defs, const char *what,
		      struct error *err);
void options_help(const struct option_def *defs);

#endif
