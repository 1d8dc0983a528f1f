#include "lib/cleanup.h"
#include "shim/lifecycle.h"
#include "shim/notify.h"
#include "shim/spawn.h"

#include <signal.h>

int cmd_start(const struct globals *g, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, "start", "ID", 1, 1, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_oci_spec struct oci_spec *spec = NULL;
	cleanup_close int intr = -1;

	if (first < 0 || container_open(g, argv[first], true, &d, &st, err) < 0 ||
	    container_spec(&st, &spec, err) < 0)
		return -1;
	intr = interrupt_fd(err);
	if (intr < 0)
		return -1;
	dir_note(&d);
	if (lifecycle_start(&d, &st, spec, intr, err) < 0)
		return -1;
	dir_unlock(&d);
	notify_wait(&d, &st, st.pid, intr);
	return 0;
}
