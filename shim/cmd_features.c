#include "lib/cleanup.h"
#include "oci/features.h"
#include "shim/verbs.h"

int cmd_features(const struct globals *g UNUSED, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, "features", "", 0, 0, err);
	/* cgroups of the host are left as they are, whatever their version is. */
	struct oci_features f = {.version = HUSK_VERSION,
				 .cgroup_v1 = {true, true},
				 .cgroup_v2 = {true, true},
				 .cgroup_systemd = {true, false}};
	cleanup_free char *text = NULL;

	if (first < 0 || oci_features_write(&f, &text, NULL, err) < 0)
		return -1;
	printf("%s\n", text);
	return 0;
}
