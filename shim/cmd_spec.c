#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/default_spec.h"
#include "shim/verbs.h"

#include <fcntl.h>

int cmd_spec(const struct globals *g UNUSED, int argc, char **argv, struct error *err)
{
	const char *bundle = ".";
	bool rootless = false;
	const struct option_def defs[] = {
		{"bundle", "b", OPT_STR, &bundle, "DIR", "where to write config.json (default: .)"},
		{"rootless", NULL, OPT_FLAG, &rootless, NULL, "not supported"},
		{0}};
	int first = verb_options(argc, argv, defs, "spec", "", 0, 0, err);
	cleanup_free char *path = NULL;
	cleanup_close int fd = -1;

	if (first < 0)
		return -1;
	if (rootless)
		return error_kind(err, ERR_UNSUPPORTED,
				  "--rootless: husk runs as root: a container's own "
				  "users are its guest's");
	path = xasprintf("%s/config.json", bundle);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 && errno == EEXIST)
		return error_set(err, "%s: exists: remove it first", path);
	if (fd < 0)
		return error_errno(err, "create %s", path);
	return write_all(fd, oci_default_spec, oci_default_spec_len, err);
}
