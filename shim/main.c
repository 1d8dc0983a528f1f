/*
 * husk - OCI container runtime with runc's command line: global flags, then a verb.
 */
#include "lib/cleanup.h"
#include "lib/log.h"
#include "oci/spec.h"
#include "shim/proxy.h"
#include "shim/verbs.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

static const struct verb verbs[] = {
	{"check", cmd_check, "", "say what this host offers and what is missing"},
	{"checkpoint", cmd_checkpoint, "ID", "not supported yet"},
	{"create", cmd_create, "ID",
	 "create a container: its VM runs, its process waits for start"},
	{"delete", cmd_delete, "ID", "delete a stopped or created container"},
	{"events", cmd_events, "ID", "tell a container's figures and OOM kills, as JSON"},
	{"exec", cmd_exec, "ID [COMMAND [ARG...]]", "run a further process in a container"},
	{"features", cmd_features, "", "print what this runtime supports, as JSON"},
	{"kill", cmd_kill, "ID [SIGNAL]", "send a signal (default SIGTERM) to a container"},
	{"list", cmd_list, "", "list the containers below --root"},
	{"pause", cmd_pause, "ID", "stop all processes of a container for a while"},
	{"ps", cmd_ps, "ID [PS-OPTION...]", "list the processes of a container"},
	{"restore", cmd_restore, "ID", "not supported yet"},
	{"resume", cmd_resume, "ID", "let a paused container go on"},
	{"run", cmd_run, "ID", "create and start a container and wait for it"},
	{"spec", cmd_spec, "", "write a config.json to start from"},
	{"start", cmd_start, "ID", "start the process of a created container"},
	{"state", cmd_state, "ID", "print the state of a container, as JSON"},
	{"sync", cmd_sync, "ID", "bring what a container has changed to its rootfs directory"},
	{"update", cmd_update, "ID", "change the limits of a container"},
};

int verb_options(int argc, char **argv, const struct option_def *defs, const char *verb,
		 const char *operands, int min, int max, struct error *err)
{
	char what[64];
	int first;

	snprintf(what, sizeof(what), "husk %s", verb);
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (argv[i][0] != '-' && max < 0)
			break;
		if (strcmp(argv[i], "--help") != 0 && strcmp(argv[i], "-h") != 0)
			continue;
		printf("usage: %s [OPTIONS] %s\n", what, operands);
		options_help(defs);
		exit(0);
	}
	first = max < 0 ? options_parse(argc, argv, defs, what, err)
			: options_parse_all(argc, argv, defs, what, err);
	if (first < 0)
		return -1;
	if (argc - first < min || (max >= 0 && argc - first > max))
		return error_kind(err, ERR_USAGE,
				  "%s: wrong number of arguments: usage: %s [OPTIONS] %s", what,
				  what, operands);
	return first;
}

static void print_help(const struct option_def *defs)
{
	printf("husk - OCI container runtime that gives every container its own kernel in a "
	       "microVM\n\n"
	       "usage: husk [GLOBAL OPTIONS] VERB [OPTIONS] [ARGS]\n\nverbs:\n");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		printf("  %-10s %-24s %s\n", verbs[i].name, verbs[i].operands, verbs[i].help);
	printf("\nglobal options:\n");
	options_help(defs);
	printf("\n'husk VERB --help' tells the options of a verb; man husk has the rest.\n");
}

static void print_version(void)
{
	/* The first line is what callers parse: they look for "runc version" or for the name. */
	printf("husk version %s\ncommit: %s\nspec: %s\n", HUSK_VERSION, HUSK_COMMIT, OCI_VERSION);
}

/* Errors go to the log and, when that is not stderr, to stderr too. */
static void report(const struct globals *g, const struct error *err)
{
	log_error("%s", err->msg);
	if (g->log_fd >= 0)
		dprintf(STDERR_FILENO, "husk: error: %s\n", err->msg);
}

static int setup_log(struct globals *g, struct error *err)
{
	enum log_format format = LOG_FMT_TEXT;

	if (strcmp(g->log_format, "json") == 0)
		format = LOG_FMT_JSON;
	else if (strcmp(g->log_format, "text") != 0)
		return error_kind(err, ERR_USAGE, "--log-format: \"%s\": must be text or json",
				  g->log_format);
	if (g->log && g->log[0]) {
		g->log_fd = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (g->log_fd < 0)
			return error_errno(err, "--log: open %s", g->log);
	}
	log_setup(g->log_fd >= 0 ? g->log_fd : STDERR_FILENO, format,
		  g->debug ? LOG_LVL_DEBUG : LOG_LVL_INFO, "husk");
	return 0;
}

/* What a verb that failed exits with. A foreground run says what a shell would say of a command
 * that cannot be run; an exec that cannot start, whyever, is 255, as with runc. */
static int failure_status(const char *verb, enum error_kind kind)
{
	bool no_command = kind == ERR_CMD_NOT_FOUND, no_exec = kind == ERR_CMD_NOT_EXEC;

	if (strcmp(verb, "run") == 0 && (no_command || no_exec))
		return no_command ? 127 : 126;
	return strcmp(verb, "exec") == 0 && kind != ERR_USAGE ? 255 : 1;
}

/* husk needs root, and has nothing to ignore: only what is no value of it is told. */
static int check_rootless(const struct globals *g, struct error *err)
{
	static const char *const values[] = {"true", "false", "auto", "1", "0", ""};

	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		if (strcmp(g->rootless, values[i]) == 0)
			return 0;
	return error_kind(err, ERR_USAGE, "--rootless: \"%s\": must be true, false or auto",
			  g->rootless);
}

static int run_verb(const struct globals *g, int argc, char **argv, struct error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(argv[0], verbs[i].name) == 0)
			return verbs[i].run(g, argc - 1, argv + 1, err);
	return error_kind(err, ERR_USAGE, "unknown command \"%s\": see 'husk --help'", argv[0]);
}

/* What a caller may have left out. Without 0, 1 and 2 the first files that we open would be taken
 * for them; with SIGCHLD ignored, which is inherited, nobody would learn how a child ended. */
static void complete_start(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	close_fd(&fd);
	signal(SIGCHLD, SIG_DFL);
}

int main(int argc, char **argv)
{
	struct globals g = {
		.root = DEFAULT_ROOT, .log_format = "text", .rootless = "auto", .log_fd = -1};
	bool help = false, version = false;
	const struct option_def defs[] = {
		{"root", NULL, OPT_STR, &g.root, "DIR",
		 "state of the containers (default " DEFAULT_ROOT ")"},
		{"log", NULL, OPT_STR, &g.log, "FILE", "append messages to FILE as well"},
		{"log-format", NULL, OPT_STR, &g.log_format, "text|json", "form of the log"},
		{"debug", NULL, OPT_FLAG, &g.debug, NULL,
		 "tell what is done, and how long it took"},
		{"engine", NULL, OPT_STR, &g.wish.engine, "auto|kvm|qemu",
		 "what runs the VM (default auto: see 'husk check')"},
		{"kernel", NULL, OPT_STR, &g.wish.kernel, "FILE", "kernel of the guest"},
		{"systemd-cgroup", NULL, OPT_FLAG, &g.systemd_cgroup, NULL,
		 "cgroups are made by systemd"},
		{"rootless", NULL, OPT_STR, &g.rootless, "true|false|auto", "accepted as runc's"},
		{"criu", NULL, OPT_IGNORE, NULL, "PATH", "accepted as runc's, without effect"},
		{"version", "v", OPT_FLAG, &version, NULL, "print the version"},
		{"help", "h", OPT_FLAG, &help, NULL, "print this help"},
		{0}};
	struct error err = ERROR_INIT;
	int first, r;

	complete_start();
	if (proxy_requested())
		return proxy_main();
	first = options_parse(argc - 1, argv + 1, defs, "husk", &err);
	if (first >= 0 && version) {
		print_version();
		return 0;
	}
	if (first >= 0 && (help || first == argc - 1)) {
		print_help(defs);
		return 0;
	}
	r = first < 0 || setup_log(&g, &err) < 0 || check_rootless(&g, &err) < 0
		    ? -1
		    : run_verb(&g, argc - 1 - first, argv + 1 + first, &err);
	if (r >= 0 && (ferror(stdout) || fflush(stdout) != 0))
		r = error_errno(&err, "write to standard output");
	if (r >= 0)
		return r;
	report(&g, &err);
	return first < 0 ? 1 : failure_status(argv[1 + first], err.kind);
}
