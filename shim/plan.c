/* What a container is to be, before anything of it is made. */
#include "shim/plan.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/unsupported.h"
#include "oci/validate.h"
#include "shim/host_policy.h"
#include "shim/mirror.h"
#include "shim/network.h"
#include "shim/paths.h"
#include "shim/scratch.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define MIB (1024ull * 1024)
#define MEM_DEFAULT (512 * MIB)
#define MEM_OVERHEAD (128 * MIB) /* guest kernel and agent, on top of a container's limit */
#define VCPUS_MAX 64

void plan_free(struct plan *p)
{
	free(p->bundle);
	free(p->config);
	free(p->rootfs);
	free(p->data);
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

static int check_netns(const struct oci_spec *spec, struct error *err)
{
	const struct oci_namespace *net = oci_spec_namespace(spec, OCI_NS_NETWORK);

	if (!net->path || network_check_path(net->path, err) == 0)
		return 0;
	return error_wrap(err, "linux.namespaces[%td].path", net - spec->lnx.namespaces);
}

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The guest gets what the container may use and what its kernel needs; a limit that is none (more
 * than the host has) makes no larger machine than the host is. */
static void size_machine(struct plan *p)
{
	const struct oci_resources *r = p->spec->lnx.resources;
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned cpus = online < 1 ? 1 : online > VCPUS_MAX ? VCPUS_MAX : (unsigned)online;

	p->mem_bytes = MEM_DEFAULT;
	p->vcpus = 1;
	if (r && r->memory.limit.has && r->memory.limit.v > 0) {
		uint64_t limit = (uint64_t)r->memory.limit.v, most = host_memory();

		if (limit > most)
			limit = most;
		p->mem_bytes = (limit + limit / 16 + MEM_OVERHEAD + MIB - 1) / MIB * MIB;
	}
	if (r && r->cpu.quota_us.has && r->cpu.quota_us.v > 0) {
		uint64_t period =
			r->cpu.period_us.has && r->cpu.period_us.v ? r->cpu.period_us.v : 100000;
		uint64_t n = ((uint64_t)r->cpu.quota_us.v + period - 1) / period;

		p->vcpus = n < cpus ? (unsigned)n : cpus;
	}
}

int plan_load(const struct globals *g, const char *bundle, struct plan *p, struct error *err)
{
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
	if (oci_spec_parse(p->config, len, &p->spec, err) < 0 ||
	    oci_spec_validate(p->spec, err) < 0 || oci_spec_supported(p->spec, err) < 0 ||
	    oci_pod_role(p->spec, &p->pod, err) < 0 ||
	    scratch_size(oci_spec_annotation(p->spec, SCRATCH_ANNOTATION), &p->scratch_bytes, err) <
		    0 ||
	    sync_interval(oci_spec_annotation(p->spec, SYNC_ANNOTATION), &interval, err) < 0 ||
	    (p->pod.role != OCI_POD_JOINS && check_netns(p->spec, err) < 0) ||
	    find_rootfs(p, err) < 0 || mount_plan_make(p->spec, p->bundle, &p->mounts, err) < 0)
		return error_wrap(err, "%s", path);
	if (host_policy_check(p->spec, err) < 0 ||
	    (p->pod.role == OCI_POD_JOINS && host_policy_check_joins(p->spec, err) < 0))
		return error_wrap(err, "%s", path);
	if (choice_make(&g->wish, oci_spec_annotation(p->spec, ENGINE_ANNOTATION), &p->choice,
			err) < 0)
		return -1;
	choice_say(&p->choice, g->log_fd >= 0);
	oci_spec_warn(p->spec);
	size_machine(p);
	p->data = path_data(err);
	return p->data ? 0 : -1;
}
