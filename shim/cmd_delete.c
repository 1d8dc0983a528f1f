#include "lib/cleanup.h"
#include "shim/lifecycle.h"

/* A directory without a state: its create was killed before it had one. Nothing runs for it. */
static int delete_half_made(struct container_dir *d, struct error *err)
{
	return dir_remove(d, err);
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
	if (dir_open(g->root, argv[first], true, 10000, &d, err) < 0)
		return force && err->kind == ERR_NOT_FOUND ? 0 : -1;
	if (state_load(&d, &st, err) < 0)
		return err->kind == ERR_NOT_FOUND || force ? delete_half_made(&d, err) : -1;
	if (!force && st.status != OCI_STATUS_STOPPED && st.status != OCI_STATUS_CREATED)
		return error_set(
			err,
			"cannot delete container \"%s\" that is not stopped: %s: kill it first, "
			"or use --force",
			d.id, oci_status_name(st.status));
	return lifecycle_destroy(&d, &st, err);
}
