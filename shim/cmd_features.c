#include "lib/cleanup.h"
#include "oci/features.h"
#include "shim/host_policy.h"
#include "shim/verbs.h"

int cmd_features(const struct globals *g UNUSED, int argc, char **argv, struct error *err)
{
	const struct option_def defs[] = {{0}};
	int first = verb_options(argc, argv, defs, "features", "", 0, 0, err);
	const char *modes[POLICY_NAMES_MAX + 1] = {0}, *flags[POLICY_NAMES_MAX + 1] = {0};
	/* Of the host's cgroups there may be any kind. */
	struct oci_features f = {.version = HUSK_VERSION,
				 .cgroup_v1 = {true, true},
				 .cgroup_v2 = {true, true},
				 .cgroup_systemd = {true, true},
				 .memory_modes = modes,
				 .memory_flags = flags};
	cleanup_free char *text = NULL;

	memory_policy_names(modes, flags);
	if (first < 0 || oci_features_write(&f, &text, NULL, err) < 0)
		return -1;
	printf("%s\n", text);
	return 0;
}
