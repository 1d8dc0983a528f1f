/*
 * kill: signals go to the guest's process through the agent, so that the container ends in order,
 * with its output and status, whatever the signal is. Only a guest that does not obey SIGKILL, by
 * no answer or by another, is ended from outside: by SIGKILL to its proxy. A container that is
 * being created is nothing yet that could handle a signal: KILL ends its create, others are
 * refused.
 */
#include "lib/cleanup.h"
#include "oci/signal.h"
#include "shim/lifecycle.h"

#include <signal.h>

static int send_signal(const struct container_dir *d, const struct container_state *st, int sig,
		       bool all, struct error *err)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};

	if (container_agent(d, st, &vmm, &a, err) < 0)
		return -1;
	return agent_kill(&a, d->id, "", sig, all, err);
}

int cmd_kill(const struct globals *g, int argc, char **argv, struct error *err)
{
	bool all = false;
	const struct option_def defs[] = {
		{"all", "a", OPT_FLAG, &all, NULL, "signal every process of the container"}, {0}};
	int first = verb_options(argc, argv, defs, "kill", "ID [SIGNAL]", 1, 2, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	int sig;

	if (first < 0)
		return -1;
	sig = oci_signal_parse(argc - first > 1 ? argv[first + 1] : "SIGTERM", err);
	if (sig < 0 || container_open(g, argv[first], false, &d, &st, err) < 0)
		return -1;
	if (st.status == OCI_STATUS_STOPPED)
		return all ? 0 : error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (send_signal(&d, &st, sig, all, err) == 0 ||
	    /* A machine that ended meanwhile is one that has ended now. */
	    (err->kind == ERR_PEER && send_signal(&d, &st, sig, all, err) == 0))
		return 0;
	/* It ended while we asked (its output may not be over): the answer is the same as if it
	 * had before. */
	if (err->kind == ERR_NOT_RUNNING || !process_alive(st.pid, st.pid_start))
		return all ? 0 : error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (sig == SIGKILL)
		return kill(st.pid, SIGKILL);
	/* "does not exist" would tell callers that it has gone. */
	if (err->kind == ERR_NOT_FOUND && st.status == OCI_STATUS_CREATING)
		return error_set(err, "container \"%s\" is being created", d.id);
	return -1;
}
