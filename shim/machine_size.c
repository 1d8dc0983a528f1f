#include "shim/machine_size.h"
#include "lib/size.h"
#include "shim/annotations.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define OVERHEAD (128 * MIB) /* guest kernel and agent, on top of what containers may use */
#define PERIOD_US 100000
#define SHARES_CPU 1024 /* cpu.shares of one processor */

#define MEMORY_HINT "io.kubernetes.cri.sandbox-memory"
#define QUOTA_HINT "io.kubernetes.cri.sandbox-cpu-quota"
#define PERIOD_HINT "io.kubernetes.cri.sandbox-cpu-period"
#define SHARES_HINT "io.kubernetes.cri.sandbox-cpu-shares"

#define ANNOTATION(name) "annotations[\"" name "\"]"

struct asked {
	const struct oci_spec *spec;
	const struct oci_pod *pod;
	const struct config_file *file;
	const struct host_size *host;
};

void host_size(struct host_size *h)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	h->mem_bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	h->cpus = online < 1		       ? 1
		  : online > MACHINE_VCPUS_MAX ? MACHINE_VCPUS_MAX
					       : (unsigned)online;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* A pod's hint: a decimal number; absent or 0: none. */
static int hint(const struct asked *a, const char *name, int64_t *v, struct error *err)
{
	const char *text = oci_spec_annotation(a->spec, name);
	char *end;

	*v = 0;
	if (!text || !text[0])
		return 0;
	errno = 0;
	*v = strtoll(text, &end, 10);
	if (errno || *end || end == text)
		return error_kind(err, ERR_INVALID, "annotations[\"%s\"]: \"%s\": must be a number",
				  name, text);
	return 0;
}

/* ---- memory */

static uint64_t with_room(uint64_t limit)
{
	return (limit + limit / 16 + OVERHEAD + MIB - 1) / MIB * MIB;
}

/* Asked for in so many words. */
static int exact_memory(const struct asked *a, uint64_t bytes, const char *by,
			struct machine_size *s, struct error *err)
{
	uint64_t most = a->file->memory.max ? a->file->memory.max : a->host->mem_bytes;
	char low[SIZE_TEXT], high[SIZE_TEXT];

	if (bytes < MACHINE_MEM_MIN)
		return error_kind(err, ERR_INVALID,
				  "%s: %" PRIu64 " bytes: a machine has %s at "
				  "least",
				  by, bytes, size_text(MACHINE_MEM_MIN, low));
	if (bytes > least(most, MACHINE_MEM_MAX))
		return error_kind(err, ERR_UNSUPPORTED, "%s: %" PRIu64 " bytes: more than %s (%s)",
				  by, bytes,
				  a->file->memory.max ? "memory.maximum of the "
							"configuration file"
						      : "this host has",
				  size_text(most / MIB * MIB, high));
	s->mem_bytes = (bytes + MIB - 1) / MIB * MIB;
	s->memory_by = by;
	return 1;
}

/* A limit, which the machine is made for. One that is none (more than the host has) makes no larger
 * machine than the host is. */
static int memory_for(const struct asked *a, uint64_t limit, const char *by, struct machine_size *s,
		      struct error *err)
{
	uint64_t most = a->file->memory.max, bytes = with_room(least(limit, a->host->mem_bytes));

	if (most && bytes > most)
		return error_kind(err, ERR_UNSUPPORTED,
				  "%s: %" PRIu64 " bytes take a machine of %" PRIu64 " MiB, and "
				  "memory.maximum of the configuration file is %" PRIu64 " MiB",
				  by, limit, bytes / MIB, most / MIB);
	s->mem_bytes = least(bytes, MACHINE_MEM_MAX);
	s->memory_by = by;
	return 1;
}

static int memory_of_limits(const struct asked *a, struct machine_size *s, struct error *err)
{
	const struct oci_resources *r = a->spec->lnx.resources;
	int64_t pods = 0;

	if (a->pod->role == OCI_POD_SANDBOX && hint(a, MEMORY_HINT, &pods, err) < 0)
		return -1;
	if (pods > 0)
		return memory_for(a, (uint64_t)pods, ANNOTATION(MEMORY_HINT), s, err);
	if (r && r->memory.limit.has && r->memory.limit.v > 0)
		return memory_for(a, (uint64_t)r->memory.limit.v, "linux.resources.memory.limit", s,
				  err);
	return 0;
}

static void default_memory(const struct asked *a, struct machine_size *s)
{
	bool pod = a->pod->role == OCI_POD_SANDBOX;
	uint64_t said = pod ? a->file->memory.pod : a->file->memory.def;
	uint64_t most = a->file->memory.max ? a->file->memory.max : UINT64_MAX;

	s->memory_by = said ? "the configuration file" : "the default";
	s->mem_bytes = said;
	if (!said && pod) /* half of a small host at most */
		s->mem_bytes = least(SIZE_MEMORY_POD, a->host->mem_bytes / 2 / MIB * MIB);
	if (s->mem_bytes < SIZE_MEMORY_DEFAULT && !said)
		s->mem_bytes = SIZE_MEMORY_DEFAULT;
	s->mem_bytes = least(s->mem_bytes, most);
}

static int memory(const struct asked *a, struct machine_size *s, struct error *err)
{
	const char *text = oci_spec_annotation(a->spec, MEMORY_ANNOTATION);
	const struct oci_vm *vm = a->spec->vm;
	uint64_t bytes;
	int r;

	if (text && !size_parse(text, &bytes))
		return error_kind(err, ERR_INVALID,
				  ANNOTATION(MEMORY_ANNOTATION) ": \"%s\": give a size such as "
								"500M or 2G",
				  text);
	if (text)
		return exact_memory(a, bytes, ANNOTATION(MEMORY_ANNOTATION), s, err);
	if (vm && vm->hw_memory.has)
		return exact_memory(a, vm->hw_memory.v, "vm.hwConfig.memory", s, err);
	r = memory_of_limits(a, s, err);
	if (r == 0)
		default_memory(a, s);
	return r;
}

/* ---- processors */

static int exact_vcpus(const struct asked *a, uint64_t n, const char *by, struct machine_size *s,
		       struct error *err)
{
	unsigned most = a->file->vcpus.max ? a->file->vcpus.max : a->host->cpus;

	if (n < 1)
		return error_kind(err, ERR_INVALID, "%s: must be 1 at least", by);
	if (n > most)
		return error_kind(err, ERR_UNSUPPORTED, "%s: %" PRIu64 ": more than %s (%u)", by, n,
				  a->file->vcpus.max ? "vcpus.maximum of the configuration file"
						     : "this host has",
				  most);
	s->vcpus = (unsigned)n;
	s->vcpus_by = by;
	return 1;
}

static int vcpus_for(const struct asked *a, uint64_t n, const char *by, struct machine_size *s,
		     struct error *err)
{
	unsigned most = a->file->vcpus.max;

	n = least(n, a->host->cpus);
	if (most && n > most)
		return error_kind(err, ERR_UNSUPPORTED,
				  "%s: takes %" PRIu64 " processors, and vcpus.maximum of the "
				  "configuration file is %u",
				  by, n, most);
	s->vcpus = (unsigned)n;
	s->vcpus_by = by;
	return 1;
}

static uint64_t cpus_of_quota(uint64_t quota, uint64_t period)
{
	return quota / (period ? period : PERIOD_US) + (quota % (period ? period : PERIOD_US) > 0);
}

static int vcpus_of_pod(const struct asked *a, struct machine_size *s, struct error *err)
{
	int64_t quota, period, shares;
	unsigned least_of_all = a->file->vcpus.pod ? a->file->vcpus.pod : SIZE_VCPUS_POD;
	uint64_t wanted;

	if (hint(a, QUOTA_HINT, &quota, err) < 0 || hint(a, PERIOD_HINT, &period, err) < 0 ||
	    hint(a, SHARES_HINT, &shares, err) < 0)
		return -1;
	if (quota > 0)
		return vcpus_for(a,
				 cpus_of_quota((uint64_t)quota, period > 0 ? (uint64_t)period : 0),
				 ANNOTATION(QUOTA_HINT), s, err);
	wanted = shares > 0 ? ((uint64_t)shares + SHARES_CPU - 1) / SHARES_CPU : 0;
	if (wanted > least_of_all)
		return vcpus_for(a, wanted, ANNOTATION(SHARES_HINT), s, err);
	s->vcpus = (unsigned)least(least_of_all, a->host->cpus);
	s->vcpus_by = a->file->vcpus.pod ? "the configuration file" : "the default";
	if (a->file->vcpus.max)
		s->vcpus = (unsigned)least(s->vcpus, a->file->vcpus.max);
	return 1;
}

/* How many are in a list that is one: "0-3,7". */
static unsigned count_cpus(const char *list)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (const char *p = list; *p;) {
		char *end;
		unsigned long from = strtoul(p, &end, 10), to = from;

		if (*end == '-')
			to = strtoul(end + 1, &end, 10);
		for (unsigned long i = from; i <= to && i < CPU_SETSIZE; i++)
			CPU_SET(i, &set);
		p = end + strspn(end, ", \n");
		if (p == end && *p)
			break;
	}
	return (unsigned)CPU_COUNT(&set);
}

static int vcpus_of_limits(const struct asked *a, struct machine_size *s, struct error *err)
{
	const struct oci_resources *r = a->spec->lnx.resources;
	unsigned pinned = r && r->cpu.cpus && r->cpu.cpus[0] ? count_cpus(r->cpu.cpus) : 0;
	uint64_t n;

	if (r && r->cpu.quota_us.has && r->cpu.quota_us.v > 0) {
		n = cpus_of_quota((uint64_t)r->cpu.quota_us.v,
				  r->cpu.period_us.has ? r->cpu.period_us.v : 0);
		return vcpus_for(a, pinned ? least(n, pinned) : n, "linux.resources.cpu.quota", s,
				 err);
	}
	return pinned ? vcpus_for(a, pinned, "linux.resources.cpu.cpus", s, err) : 0;
}

static int parse_count(const char *text, uint64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && !*end && !errno ? 0 : -1;
}

static int vcpus(const struct asked *a, struct machine_size *s, struct error *err)
{
	const char *text = oci_spec_annotation(a->spec, VCPUS_ANNOTATION);
	const struct oci_vm *vm = a->spec->vm;
	uint64_t n;
	int r;

	if (text && parse_count(text, &n) < 0)
		return error_kind(err, ERR_INVALID,
				  ANNOTATION(VCPUS_ANNOTATION) ": \"%s\": must be a number", text);
	if (text)
		return exact_vcpus(a, n, ANNOTATION(VCPUS_ANNOTATION), s, err);
	if (vm && vm->hw_vcpus.has)
		return exact_vcpus(a, vm->hw_vcpus.v, "vm.hwConfig.vcpus", s, err);
	r = a->pod->role == OCI_POD_SANDBOX ? vcpus_of_pod(a, s, err) : vcpus_of_limits(a, s, err);
	if (r != 0)
		return r;
	s->vcpus = (unsigned)least(a->file->vcpus.def ? a->file->vcpus.def : 1, a->host->cpus);
	s->vcpus_by = a->file->vcpus.def ? "the configuration file" : "the default";
	return 0;
}

int machine_size(const struct oci_spec *spec, const struct oci_pod *pod,
		 const struct config_file *file, const struct host_size *host,
		 struct machine_size *size, struct error *err)
{
	const struct asked a = {.spec = spec, .pod = pod, .file = file, .host = host};

	*size = (struct machine_size){0};
	return memory(&a, size, err) < 0 || vcpus(&a, size, err) < 0 ? -1 : 0;
}
