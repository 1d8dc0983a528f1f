/*
 * update: new limits for a container that is there, in the guest's cgroup and in the host's.
 *
 * A machine has the memory and the processors that it was made with. A limit beyond them could not
 * be used up, and so is refused: nobody is to believe that there is more. What is refused, by the
 * guest or by the host, leaves everything as it was. What was done is in the container's state, for
 * whoever reads its configuration later.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/unsupported.h"
#include "oci/validate.h"
#include "shim/lifecycle.h"
#include "shim/update.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define RESOURCES "linux.resources"
#define PERIOD_US 100000 /* the kernel's default */

/* ---- what is wanted */

static int read_resources(const char *path, char **text, struct error *err)
{
	if (strcmp(path, "-") == 0)
		path = "/dev/stdin";
	return file_read(AT_FDCWD, path, OCI_SPEC_MAX, text, NULL, err) < 0
		       ? error_wrap(err, "--resources")
		       : 0;
}

static int parse(const char *text, struct oci_resources **r, struct error *err)
{
	cleanup_json yajl_val v = json_parse(text, strlen(text), err);

	if (!v || oci_resources_from_tree(v, r, err) < 0 ||
	    oci_resources_validate(*r, RESOURCES, err) < 0)
		return -1;
	return oci_resources_supported(*r, RESOURCES, err);
}

/* ---- the machine's bounds

   As for `create`, more than the host has is no wish for more; nor is what the container was made
   with, which callers send again with what they change. */

static uint64_t memory_of(const struct oci_resources *r)
{
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t limit;

	if (!r || !r->memory.limit.has || r->memory.limit.v <= 0)
		return 0;
	limit = (uint64_t)r->memory.limit.v;
	return limit < host ? limit : host;
}

static uint64_t period_of(const struct oci_cpu *c)
{
	return c->period_us.has && c->period_us.v ? c->period_us.v : PERIOD_US;
}

static uint64_t cpus_of(const struct oci_resources *r)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t n;

	if (!r || !r->cpu.quota_us.has || r->cpu.quota_us.v <= 0)
		return 0;
	n = ((uint64_t)r->cpu.quota_us.v + period_of(&r->cpu) - 1) / period_of(&r->cpu);
	return online > 0 && n > (uint64_t)online ? (uint64_t)online : n;
}

static int check_machine(struct agent_client *a, const char *id, const struct oci_resources *r,
			 const struct oci_resources *old, struct error *err)
{
	cleanup_agent_msg struct agent_msg m = {0};

	if (agent_stats(a, id, &m, err) < 0)
		return -1;
	if (memory_of(r) > m.guest_memory && memory_of(r) > memory_of(old))
		return error_kind(err, ERR_UNSUPPORTED,
				  RESOURCES ".memory.limit: %" PRId64 " bytes are more than the "
					    "container's machine has (%" PRIu64 " MiB), and a "
					    "machine's memory is fixed when it is made: create the "
					    "container with this limit, or with the annotation "
					    "io.husk.memory",
				  r->memory.limit.v, m.guest_memory >> 20);
	if (cpus_of(r) > m.guest_cpus && cpus_of(r) > cpus_of(old))
		return error_kind(err, ERR_UNSUPPORTED,
				  RESOURCES ".cpu.quota: %" PRId64 " of %" PRIu64
					    " us take %" PRIu64 " processors, and the container's "
					    "machine was made with %" PRIu64
					    ": create the container "
					    "with this limit, or with the annotation io.husk.vcpus",
				  r->cpu.quota_us.v, period_of(&r->cpu), cpus_of(r), m.guest_cpus);
	return 0;
}

/* ---- both */

/* When something is refused the limits that are known from before hold again. */
static int update_host(const struct container_state *st, const struct oci_resources *r,
		       const struct oci_resources *old, struct error *err)
{
	if (host_cgroup_update(&st->cgroup, r, err) == 0)
		return 0;
	if (old)
		host_cgroup_update(&st->cgroup, old, NULL);
	return -1;
}

static int apply(const struct container_dir *d, struct container_state *st, const char *resources,
		 const struct oci_resources *r, struct error *err)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	cleanup_oci_spec struct oci_spec *spec = NULL;
	cleanup_free char *config = NULL;
	const struct oci_resources *old;

	if (container_spec(st, &spec, err) < 0 ||
	    update_config(st->config, resources, &config, err) < 0 ||
	    container_agent(d, st, &vmm, &a, err) < 0)
		return -1;
	old = spec->lnx.resources;
	if (check_machine(&a, d->id, r, old, err) < 0 ||
	    agent_update(&a, d->id, resources, err) < 0)
		return -1;
	if (update_host(st, r, old, err) < 0) {
		agent_undo_update(&a, d->id, NULL);
		return -1;
	}
	free(st->config);
	st->config = steal_ptr(&config);
	return state_save(d, st, err);
}

static int update(const struct globals *g, const char *id, const char *given, struct error *err)
{
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	cleanup_free char *resources = NULL;
	cleanup_oci_resources struct oci_resources *r = NULL;

	if (container_open(g, id, true, &d, &st, err) < 0)
		return -1;
	if (st.status == OCI_STATUS_STOPPED)
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (!st.config)
		return error_set(err, "container \"%s\": its state has no configuration", id);
	if (update_complete(given, st.config, &resources, err) < 0 || parse(resources, &r, err) < 0)
		return -1;
	return apply(&d, &st, resources, r, err);
}

int cmd_update(const struct globals *g, int argc, char **argv, struct error *err)
{
	struct update_flags f = {0};
	const char *file = NULL, *l3 = NULL, *mem_bw = NULL;
	const struct option_def defs[] = {
		{"resources", "r", OPT_STR, &file, "FILE",
		 "linux.resources as JSON (-: standard input); no other flag counts then"},
		{"blkio-weight", NULL, OPT_STR, &f.blkio_weight, "N", "weight, 10 to 1000"},
		{"cpu-period", NULL, OPT_STR, &f.cpu_period, "US", "period of --cpu-quota"},
		{"cpu-quota", NULL, OPT_STR, &f.cpu_quota, "US", "time in a period; -1: no limit"},
		{"cpu-burst", NULL, OPT_STR, &f.cpu_burst, "US", "time above the quota"},
		{"cpu-share", NULL, OPT_STR, &f.cpu_share, "N", "weight, 2 to 262144"},
		{"cpu-idle", NULL, OPT_STR, &f.cpu_idle, "0|1", "run when nobody else wants to"},
		{"cpu-rt-period", NULL, OPT_STR, &f.rt_period, "US", "not supported"},
		{"cpu-rt-runtime", NULL, OPT_STR, &f.rt_runtime, "US", "not supported"},
		{"cpuset-cpus", NULL, OPT_STR, &f.cpuset_cpus, "LIST", "the host's processors"},
		{"cpuset-mems", NULL, OPT_STR, &f.cpuset_mems, "LIST", "the host's memory nodes"},
		{"memory", NULL, OPT_STR, &f.memory, "SIZE", "memory; -1: no limit"},
		{"memory-reservation", NULL, OPT_STR, &f.memory_reservation, "SIZE",
		 "memory that is left to it"},
		{"memory-swap", NULL, OPT_STR, &f.memory_swap, "SIZE",
		 "memory with swap; -1: no limit"},
		{"kernel-memory", NULL, OPT_IGNORE, NULL, "SIZE",
		 "accepted as runc's, without effect"},
		{"kernel-memory-tcp", NULL, OPT_IGNORE, NULL, "SIZE",
		 "accepted as runc's, without effect"},
		{"pids-limit", NULL, OPT_STR, &f.pids_limit, "N", "processes; -1: no limit"},
		{"l3-cache-schema", NULL, OPT_STR, &l3, "SCHEMA", "not supported"},
		{"mem-bw-schema", NULL, OPT_STR, &mem_bw, "SCHEMA", "not supported"},
		{0}};
	int first = verb_options(argc, argv, defs, "update", "ID", 1, 1, err);
	cleanup_free char *given = NULL;

	if (first < 0)
		return -1;
	if ((l3 && l3[0]) || (mem_bw && mem_bw[0]))
		return error_kind(err, ERR_UNSUPPORTED,
				  "--%s: Intel RDT of a running container cannot be changed",
				  l3 && l3[0] ? "l3-cache-schema" : "mem-bw-schema");
	if ((file ? read_resources(file, &given, err) : update_from_flags(&f, &given, err)) < 0)
		return -1;
	return update(g, argv[first], given, err);
}
