#include "lib/cleanup.h"
#include "shim/handover.h"
#include "shim/lifecycle.h"
#include "shim/spawn.h"

int cmd_create(const struct globals *g, int argc, char **argv, struct error *err)
{
	cleanup_lifecycle struct lifecycle s = {.dir = {.fd = -1}, .proxy = {.link = -1}};
	struct create_options o = {.pidfd_sock = -1};
	const char *preserve = NULL, *pidfd_socket = NULL;
	cleanup_close int pidfd_sock = -1;
	const struct option_def defs[] = {
		{"bundle", "b", OPT_STR, &o.bundle, "DIR",
		 "directory with config.json (default: .)"},
		{"console-socket", NULL, OPT_STR, &o.console_socket, "PATH",
		 "Unix socket that gets the terminal's master"},
		{"pid-file", NULL, OPT_STR, &o.pid_file, "FILE",
		 "write the pid of the container to FILE"},
		{"pidfd-socket", NULL, OPT_STR, &pidfd_socket, "PATH",
		 "Unix socket that gets a pidfd of the container"},
		{"preserve-fds", NULL, OPT_STR, &preserve, "N",
		 "descriptors besides stdio: none can be given"},
		{"no-pivot", NULL, OPT_IGNORE_FLAG, NULL, NULL,
		 "accepted as runc's, without effect"},
		{"no-new-keyring", NULL, OPT_IGNORE_FLAG, NULL, NULL,
		 "accepted as runc's: the guest's keyring is the container's"},
		{0}};
	int first = verb_options(argc, argv, defs, "create", "ID", 1, 1, err);
	cleanup_close int intr = -1;

	if (first < 0 || handover_check(preserve, err) < 0 ||
	    handover_connect(pidfd_socket, &pidfd_sock, err) < 0)
		return -1;
	o.pidfd_sock = pidfd_sock;
	o.id = argv[first];
	intr = interrupt_fd(err);
	if (intr < 0)
		return -1;
	return lifecycle_create(g, &o, intr, &s, err);
}
