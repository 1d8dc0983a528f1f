/* What a container is to be, before anything of it is made. */
#include "shim/plan.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/unsupported.h"
#include "oci/validate.h"
#include "shim/annotations.h"
#include "shim/host_policy.h"
#include "shim/mirror.h"
#include "shim/net_devices.h"
#include "shim/network.h"
#include "shim/paths.h"
#include "shim/scratch.h"
#include "shim/machine_size.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

void plan_free(struct plan *p)
{
	free(p->bundle);
	free(p->config);
	free(p->rootfs);
	free(p->data);
	free(p->console_log);
	mount_plan_free(&p->mounts);
	choice_free(&p->choice);
}

static int find_rootfs(struct plan *p, struct error *err)
{
	const char *path = p->spec->root_path;
	cleanup_free char *joined =
		path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", p->bundle, path);
	struct stat st;

	if (stat(joined, &st) < 0)
		return error_errno(err, "root.path: %s", joined);
	if (!S_ISDIR(st.st_mode))
		return error_kind(err, ERR_INVALID, "root.path: %s: not a directory", joined);
	p->rootfs = realpath(joined, NULL);
	return p->rootfs ? 0 : error_errno(err, "root.path: %s", joined);
}

const char *plan_netns(const struct oci_spec *spec)
{
	const struct oci_namespace *net = oci_spec_namespace(spec, OCI_NS_NETWORK);

	return net ? net->path : NULL;
}

int plan_blame_netns(const struct oci_spec *spec, struct error *err)
{
	const struct oci_namespace *net = oci_spec_namespace(spec, OCI_NS_NETWORK);

	return error_wrap(err, "linux.namespaces[%td].path", net - spec->lnx.namespaces);
}

static int check_netns(const struct oci_spec *spec, struct error *err)
{
	const struct oci_namespace *net = oci_spec_namespace(spec, OCI_NS_NETWORK);

	if (!net->path || network_check_path(net->path, err) == 0)
		return 0;
	return plan_blame_netns(spec, err);
}

/* What config.json says of the machine, and of what is the host's to allow. A container that joins
 * a pod has the sandbox's machine. */
static int size_machine(struct plan *p, const struct config_file *file, struct error *err)
{
	struct machine_size size;
	struct host_size host;

	host_size(&host);
	if (annotations_check(p->spec, file, err) < 0 ||
	    scratch_size(oci_spec_annotation(p->spec, SCRATCH_ANNOTATION), file->scratch.def,
			 file->scratch.max, &p->scratch_bytes, err) < 0)
		return -1;
	if (p->pod.role == OCI_POD_JOINS)
		return p->spec->vm ? error_kind(err, ERR_UNSUPPORTED,
						"vm: the container runs in its sandbox's machine")
				   : 0;
	if (machine_size(p->spec, &p->pod, file, &host, &size, err) < 0)
		return -1;
	log_debug("machine: %" PRIu64 " MiB (%s), %u vCPUs (%s)", size.mem_bytes >> 20,
		  size.memory_by, size.vcpus, size.vcpus_by);
	p->mem_bytes = size.mem_bytes;
	p->vcpus = size.vcpus;
	return 0;
}

static int choose(const struct globals *g, struct plan *p, struct error *err)
{
	struct choice_ask ask = {.engine = oci_spec_annotation(p->spec, ENGINE_ANNOTATION),
				 .kernel = oci_spec_annotation(p->spec, KERNEL_ANNOTATION),
				 .vm = p->spec->vm};

	return choice_make(&g->wish, p->pod.role == OCI_POD_JOINS ? NULL : &ask, &p->choice, err);
}

/* Of a machine that is the container's own. */
static int plan_console(struct plan *p, const struct config_file *file, const char *id,
			struct error *err)
{
	if (!file->console || p->pod.role == OCI_POD_JOINS)
		return 0;
	if (mkdir_p(file->console, 0700, err) < 0)
		return error_wrap(err, "%s: console", file->path);
	p->console_log = xasprintf("%s/%s.log", file->console, id);
	return 0;
}

int plan_load(const struct globals *g, const char *bundle, const char *id, struct plan *p,
	      struct error *err)
{
	cleanup_config_file struct config_file file = {0};
	cleanup_free char *path = NULL;
	unsigned interval; /* the mirror's business; wrong ones are refused here */
	size_t len;

	p->bundle = realpath(bundle ? bundle : ".", NULL);
	if (!p->bundle)
		return error_errno(err, "bundle %s", bundle ? bundle : ".");
	path = xasprintf("%s/config.json", p->bundle);
	if (access(path, F_OK) < 0 && errno == ENOENT)
		return error_kind(err, ERR_INVALID,
				  "%s: no such file or directory: make one with 'husk spec'", path);
	if (file_read(AT_FDCWD, path, OCI_SPEC_MAX, &p->config, &len, err) < 0)
		return -1;
	if (config_file_load(&file, err) < 0)
		return -1;
	if (oci_spec_parse(p->config, len, &p->spec, err) < 0 ||
	    oci_spec_validate(p->spec, err) < 0 || oci_spec_supported(p->spec, err) < 0 ||
	    oci_pod_role(p->spec, &p->pod, err) < 0 ||
	    sync_interval(oci_spec_annotation(p->spec, SYNC_ANNOTATION), &interval, err) < 0 ||
	    (p->pod.role != OCI_POD_JOINS && check_netns(p->spec, err) < 0) ||
	    size_machine(p, &file, err) < 0 || find_rootfs(p, err) < 0 ||
	    mount_plan_make(p->spec, p->bundle, &p->mounts, err) < 0)
		return error_wrap(err, "%s", path);
	if (host_policy_check(p->spec, err) < 0 || net_devices_check(p->spec, err) < 0 ||
	    (p->pod.role == OCI_POD_JOINS && host_policy_check_joins(p->spec, err) < 0))
		return error_wrap(err, "%s", path);
	if (plan_console(p, &file, id, err) < 0 || choose(g, p, err) < 0)
		return -1;
	choice_say(&p->choice, g->log_fd >= 0);
	oci_spec_warn(p->spec);
	p->data = path_data(err);
	return p->data ? 0 : -1;
}
