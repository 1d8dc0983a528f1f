/*
 * verbs.h - the command line of husk: one function a verb, one file a verb (cmd_*.c).
 */
#ifndef HUSK_SHIM_VERBS_H
#define HUSK_SHIM_VERBS_H

#include <stdbool.h>

#include "lib/error.h"
#include "shim/choice.h"
#include "shim/options.h"

#define DEFAULT_ROOT "/run/husk"

/* Global flags, as runc's. */
struct globals {
	const char *root; /* directory of the containers' state */
	const char *log;  /* file, or NULL: stderr alone */
	const char *log_format;
	bool debug;
	bool systemd_cgroup;
	const char *rootless;
	struct choice_wish wish; /* --engine, --kernel */
	int log_fd;		 /* open log file, or -1 */
};

/* argv holds what follows the verb. Returns the exit status, or -1 with *err. */
typedef int (*verb_fn)(const struct globals *g, int argc, char **argv, struct error *err);

struct verb {
	const char *name;
	verb_fn run;
	const char *operands;
	const char *help;
};

int cmd_check(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_checkpoint(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_create(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_delete(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_events(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_exec(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_features(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_kill(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_list(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_pause(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_ps(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_restore(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_resume(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_run(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_spec(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_start(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_state(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_sync(const struct globals *g, int argc, char **argv, struct error *err);
int cmd_update(const struct globals *g, int argc, char **argv, struct error *err);

/* Parses the verb's options and counts its operands: between `min` and `max` (-1: any). Prints the
 * verb's help and exits 0 on --help. Returns the index of the first operand. */
int verb_options(int argc, char **argv, const struct option_def *defs, const char *verb,
		 const char *operands, int min, int max, struct error *err);

#endif
