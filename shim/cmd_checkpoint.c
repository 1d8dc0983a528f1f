/*
 * checkpoint, restore: the command lines of runc's, so that callers get one clear answer instead of
 * an unknown flag. What they ask for needs snapshots of machines, which husk does not make.
 */
#include "lib/cleanup.h"
#include "shim/lifecycle.h"

/* Flags of both; those with values and those without. */
#define IMAGE_FLAGS                                                                   \
	{"image-path", NULL, OPT_IGNORE, NULL, "DIR", "as runc's"},                   \
		{"work-path", NULL, OPT_IGNORE, NULL, "DIR", "as runc's"},            \
		{"tcp-established", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},  \
		{"ext-unix-sk", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},      \
		{"shell-job", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},        \
		{"lazy-pages", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},       \
		{"file-locks", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},       \
		{"manage-cgroups-mode", NULL, OPT_IGNORE, NULL, "MODE", "as runc's"}, \
		{"empty-ns", NULL, OPT_IGNORE, NULL, "NS", "as runc's"},              \
	{                                                                             \
		"auto-dedup", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"          \
	}

static int refuse(const char *verb, struct error *err)
{
	return error_kind(err, ERR_UNSUPPORTED,
			  "%s: not supported yet: husk cannot save and load the state of a "
			  "container's machine",
			  verb);
}

int cmd_checkpoint(const struct globals *g, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {
		IMAGE_FLAGS,
		{"parent-path", NULL, OPT_IGNORE, NULL, "DIR", "as runc's"},
		{"leave-running", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},
		{"status-fd", NULL, OPT_IGNORE, NULL, "FD", "as runc's"},
		{"page-server", NULL, OPT_IGNORE, NULL, "ADDRESS:PORT", "as runc's"},
		{"pre-dump", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},
		{0}};
	int first = verb_options(argc, argv, defs, "checkpoint", "ID", 1, 1, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};

	if (first < 0 || container_open(g, argv[first], false, &d, &st, err) < 0)
		return -1;
	return refuse("checkpoint", err);
}

int cmd_restore(const struct globals *g UNUSED, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {
		IMAGE_FLAGS,
		{"bundle", "b", OPT_IGNORE, NULL, "DIR", "as runc's"},
		{"console-socket", NULL, OPT_IGNORE, NULL, "PATH", "as runc's"},
		{"detach", "d", OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},
		{"pid-file", NULL, OPT_IGNORE, NULL, "FILE", "as runc's"},
		{"no-subreaper", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},
		{"no-pivot", NULL, OPT_IGNORE_FLAG, NULL, NULL, "as runc's"},
		{"lsm-profile", NULL, OPT_IGNORE, NULL, "TYPE:NAME", "as runc's"},
		{"lsm-mount-context", NULL, OPT_IGNORE, NULL, "CONTEXT", "as runc's"},
		{0}};
	int first = verb_options(argc, argv, defs, "restore", "ID", 1, 1, err);

	return first < 0 ? -1 : refuse("restore", err);
}
