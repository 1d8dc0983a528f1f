#include "lib/cleanup.h"
#include "shim/lifecycle.h"
#include "shim/pod.h"
#include "shim/root_disks.h"

#include <signal.h>

#define WAIT_MS 10000	/* for a command that holds the container */
#define GRACE_MS 500	/* for a create or start that is as good as done */
#define GIVE_UP_MS 5000 /* for one that was told to give up */

/* Ends the container's VM; of one that shares a pod's, only what is its own. */
static void end_vm(const struct container_dir *d)
{
	if (pod_is_joiner(d->fd))
		pod_kill(d);
	else
		vmm_end(d->fd);
}

/* A directory without a state (its create was killed before it had one), or with one that cannot be
 * read: a VM that answers and records of changes under its name are all that can be found of it. */
static int delete_unknown(const struct globals *g, struct container_dir *d, struct error *err)
{
	end_vm(d);
	if (root_changes_settle_unknown(d->id, &g->wish, -1, err) < 0)
		return -1;
	return dir_remove(d, err);
}

/* Opens the container and locks it. `force`: whatever has the lock does not keep it from ending. A
 * create or start that goes on is told to give up: hooks of the host may hang, the guest may, and
 * what waits for them waits for a signal, too. One that does not hear (it is in a system call that
 * cannot be interrupted) loses its VM, and is killed. */
static int open_locked(const char *root, const char *id, bool force, struct container_dir *d,
		       struct error *err)
{
	cleanup_container_dir struct container_dir busy = {.fd = -1};
	bool told;
	int r;

	if (dir_open(root, id, true, force ? GRACE_MS : WAIT_MS, d, err) == 0)
		return 0;
	if (!force || err->kind != ERR_TIMEOUT || dir_open(root, id, false, 0, &busy, err) < 0)
		return -1;
	told = dir_interrupt(&busy, SIGTERM);
	r = dir_open(root, id, true, told ? GIVE_UP_MS : WAIT_MS, d, err);
	if (r == 0 || err->kind != ERR_TIMEOUT)
		return r;
	end_vm(&busy);
	if (told)
		dir_interrupt(&busy, SIGKILL);
	return dir_open(root, id, true, WAIT_MS, d, err);
}

/* A `creating` whose lock is ours has nobody any more who creates it. */
static bool may_delete(const struct container_state *st)
{
	return st->status != OCI_STATUS_RUNNING && st->status != OCI_STATUS_PAUSED;
}

int cmd_delete(const struct globals *g, int argc, char **argv, struct error *err)
{
	bool force = false;
	const struct option_def defs[] = {
		{"force", "f", OPT_FLAG, &force, NULL,
		 "end the container if it runs; no error if there is none"},
		{0}};
	int first = verb_options(argc, argv, defs, "delete", "ID", 1, 1, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};

	if (first < 0)
		return -1;
	if (open_locked(g->root, argv[first], force, &d, err) < 0)
		return force && err->kind == ERR_NOT_FOUND ? 0 : -1;
	if (state_load(&d, &st, err) < 0)
		return err->kind == ERR_NOT_FOUND || force ? delete_unknown(g, &d, err) : -1;
	if (!force && !may_delete(&st))
		return error_set(
			err,
			"cannot delete container \"%s\" that is not stopped: %s: kill it first, "
			"or use --force",
			d.id, oci_status_name(st.status));
	return lifecycle_destroy(g, &d, &st, force, err);
}
