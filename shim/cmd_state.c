#include "lib/cleanup.h"
#include "shim/lifecycle.h"

int cmd_state(const struct globals *g, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, "state", "ID", 1, 1, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_oci_spec struct oci_spec *spec = NULL;
	cleanup_free char *text = NULL;
	struct oci_state view;

	if (first < 0 || container_open(g, argv[first], false, &d, &st, err) < 0 ||
	    container_spec(&st, &spec, err) < 0)
		return -1;
	view = state_view(&st, spec);
	if (oci_state_for_user(&view, &text, NULL, err) < 0)
		return -1;
	printf("%s\n", text);
	return 0;
}
