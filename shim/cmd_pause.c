/*
 * pause, resume: the container's processes stand still in the guest; its machine goes on, and so do
 * its proxies, the mirror of its files and `sync`.
 *
 * The state says "paused" from before the first process stops until after the last one goes on: a
 * husk that is killed in between leaves a container that `resume` mends. A paused container whose
 * proxy has gone has stopped, as any other (state.h).
 *
 * Who pauses a container may look at its files then: `docker commit` takes them from the rootfs. So
 * `pause` answers when what the container has changed is there.
 */
#include "lib/cleanup.h"
#include "lib/log.h"
#include "shim/lifecycle.h"
#include "shim/mirror.h"
#include "shim/spawn.h"

/* The agent is told, and the state is kept, under the lock. */
static int open_here(const struct globals *g, int argc, char **argv, const char *verb,
		     struct container_dir *d, struct container_state *st, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, verb, "ID", 1, 1, err);

	return first < 0 ? -1 : container_open(g, argv[first], true, d, st, err);
}

static int set_status(const struct container_dir *d, struct container_state *st,
		      enum oci_status status, struct error *err)
{
	st->status = status;
	return state_save(d, st, err);
}

/* The container is paused all the same. */
static void bring_changes(const struct container_dir *d, const struct container_state *st)
{
	struct error why = ERROR_INIT;
	struct cs_counts n = {0};
	cleanup_close int intr = -1;

	if (!st->record || !st->started)
		return;
	intr = interrupt_fd(&why);
	if (intr >= 0 && mirror_ask_sync(d->fd, intr, &n, &why) == 0)
		return;
	if (why.kind != ERR_NOT_RUNNING)
		log_warn("container \"%s\": what it has changed is not in its rootfs: %s", d->id,
			 why.msg);
}

int cmd_pause(const struct globals *g, int argc, char **argv, struct error *err)
{
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	enum oci_status was;

	if (open_here(g, argc, argv, "pause", &d, &st, err) < 0)
		return -1;
	was = st.status;
	if (was != OCI_STATUS_RUNNING && was != OCI_STATUS_CREATED)
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (container_agent(&d, &st, &vmm, &a, err) < 0 ||
	    set_status(&d, &st, OCI_STATUS_PAUSED, err) < 0)
		return -1;
	if (agent_pause(&a, d.id, "user", err) < 0) {
		set_status(&d, &st, was, NULL);
		return -1;
	}
	bring_changes(&d, &st);
	return 0;
}

int cmd_resume(const struct globals *g, int argc, char **argv, struct error *err)
{
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};

	if (open_here(g, argc, argv, "resume", &d, &st, err) < 0)
		return -1;
	if (st.status != OCI_STATUS_PAUSED)
		return error_set(err, "container not paused");
	if (container_agent(&d, &st, &vmm, &a, err) < 0 || agent_resume(&a, d.id, "user", err) < 0)
		return -1;
	return set_status(&d, &st, st.started ? OCI_STATUS_RUNNING : OCI_STATUS_CREATED, err);
}
