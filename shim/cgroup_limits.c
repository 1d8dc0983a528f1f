/*
 * What of linux.resources the host holds to.
 *
 * The guest's kernel bounds the container exactly (agent/cgroup_plan.c). The host's bounds are
 * those of the machine around it, so that nobody who breaks out of the one gets past the other:
 *
 *   - memory: what the guest can have, and what husk-vmm, QEMU, virtiofsd and the proxies need;
 *   - processor time: the quota and half a processor, for the machine's own work. Without that a
 *     container of a hundredth of a processor would take half a minute to boot;
 *   - weights as they are: they say something among neighbours on the host;
 *   - cpus and mems as they are: their numbers are the host's, and mean nothing in the guest;
 *   - block I/O, which names the host's devices;
 *   - not pids: it would bound the machine's threads.
 *
 * A limit is written in the language of the hierarchy that has its controller, v1 or v2.
 */
#include "shim/cgroup_limits.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/weights.h"

#include <inttypes.h>
#include <string.h>

#define PERIOD_DEFAULT 100000 /* microseconds, the kernel's own */

struct building {
	const struct limit_target *t;
	struct cgroup_limits *out;
};

const char *limit_controller_name(enum limit_controller c)
{
	static const char *const names[] = {"cpu", "cpuset", "memory", "io"};

	return names[c];
}

/* `value` is taken over. */
static struct cgroup_limit *add(struct building *b, enum limit_controller c, const char *file,
				const char *field, char *value)
{
	struct cgroup_limit *v = realloc(b->out->v, (b->out->n + 1) * sizeof(*v));
	struct cgroup_limit *l;

	if (!v)
		abort();
	b->out->v = v;
	l = &v[b->out->n++];
	*l = (struct cgroup_limit){.controller = c, .value = value, .field = xstrdup(field)};
	snprintf(l->file, sizeof(l->file), "%s", file);
	return l;
}

static enum limit_version version(const struct building *b, enum limit_controller c)
{
	return b->t->version[c];
}

static int missing(enum limit_controller c, const char *field, struct error *err)
{
	return error_kind(
		err, ERR_UNSUPPORTED,
		"linux.resources.%s: the container has no cgroup with controller %s on this "
		"host",
		field, limit_controller_name(c));
}

/* ---- memory */

static uint64_t host_bytes(const struct building *b, int64_t limit)
{
	uint64_t bytes = b->t->machine_bytes ? b->t->machine_bytes : (uint64_t)limit;

	return bytes + b->t->overhead_bytes;
}

static char *bytes_or(const char *none, const struct building *b, int64_t limit)
{
	return limit < 0 ? xstrdup(none) : xasprintf("%" PRIu64, host_bytes(b, limit));
}

static void memory_v1(struct building *b, const struct oci_memory *m)
{
	if (m->limit.has && m->limit.v != 0)
		add(b, LIMIT_MEMORY, "memory.limit_in_bytes", "memory.limit",
		    bytes_or("-1", b, m->limit.v));
	if (m->swap.has && m->swap.v != 0)
		/* of memory and swap; not every kernel counts swap */
		add(b, LIMIT_MEMORY, "memory.memsw.limit_in_bytes", "memory.swap",
		    m->swap.v < 0
			    ? xstrdup("-1")
			    : xasprintf("%" PRIu64, host_bytes(b, m->limit.v) +
							    (uint64_t)(m->swap.v - m->limit.v)))
			->optional = true;
	if (m->reservation.has && m->reservation.v != 0)
		add(b, LIMIT_MEMORY, "memory.soft_limit_in_bytes", "memory.reservation",
		    xasprintf("%" PRId64, m->reservation.v))
			->optional = true;
}

static void memory_v2(struct building *b, const struct oci_memory *m)
{
	if (m->swap.has && m->swap.v != 0)
		add(b, LIMIT_MEMORY, "memory.swap.max", "memory.swap",
		    m->swap.v < 0 ? xstrdup("max") : xasprintf("%" PRId64, m->swap.v - m->limit.v))
			->optional = true;
	if (m->limit.has && m->limit.v != 0)
		add(b, LIMIT_MEMORY, "memory.max", "memory.limit", bytes_or("max", b, m->limit.v));
	if (m->reservation.has && m->reservation.v != 0)
		add(b, LIMIT_MEMORY, "memory.low", "memory.reservation",
		    m->reservation.v < 0 ? xstrdup("max")
					 : xasprintf("%" PRId64, m->reservation.v));
}

static int plan_memory(struct building *b, const struct oci_memory *m, struct error *err)
{
	if (m->swap.has && m->swap.v > 0 && (!m->limit.has || m->limit.v <= 0))
		return error_kind(err, ERR_INVALID,
				  "linux.resources.memory.swap: unable to set swap limit without "
				  "memory limit");
	if (version(b, LIMIT_MEMORY) == LIMIT_V1)
		memory_v1(b, m);
	else if (version(b, LIMIT_MEMORY) == LIMIT_V2)
		memory_v2(b, m);
	/* else: the guest has no more memory than it was made with, and holds to the limit itself
	 */
	return 0;
}

/* ---- processors */

static void cpu_v1(struct building *b, const struct oci_cpu *c, uint64_t period, int64_t quota)
{
	if (c->shares.has && c->shares.v)
		add(b, LIMIT_CPU, "cpu.shares", "cpu.shares", xasprintf("%" PRIu64, c->shares.v));
	if (c->period_us.has && c->period_us.v)
		add(b, LIMIT_CPU, "cpu.cfs_period_us", "cpu.period", xasprintf("%" PRIu64, period));
	if (quota != 0)
		add(b, LIMIT_CPU, "cpu.cfs_quota_us", "cpu.quota", xasprintf("%" PRId64, quota));
	if (c->burst_us.has)
		add(b, LIMIT_CPU, "cpu.cfs_burst_us", "cpu.burst",
		    xasprintf("%" PRIu64, c->burst_us.v))
			->optional = true;
}

static void cpu_v2(struct building *b, const struct oci_cpu *c, uint64_t period, int64_t quota)
{
	if (c->shares.has && c->shares.v)
		add(b, LIMIT_CPU, "cpu.weight", "cpu.shares",
		    xasprintf("%u", oci_cpu_weight(c->shares.v)));
	if (quota > 0)
		add(b, LIMIT_CPU, "cpu.max", "cpu.quota",
		    xasprintf("%" PRId64 " %" PRIu64, quota, period));
	else if (quota < 0 || (c->period_us.has && c->period_us.v))
		add(b, LIMIT_CPU, "cpu.max", "cpu.quota", xasprintf("max %" PRIu64, period));
	if (c->burst_us.has)
		add(b, LIMIT_CPU, "cpu.max.burst", "cpu.burst",
		    xasprintf("%" PRIu64, c->burst_us.v))
			->optional = true;
}

static int plan_cpuset(struct building *b, const struct oci_cpu *c, struct error *err)
{
	if ((c->cpus || c->mems) && version(b, LIMIT_CPUSET) == LIMIT_NONE)
		return missing(LIMIT_CPUSET, c->cpus ? "cpu.cpus" : "cpu.mems", err);
	if (c->cpus)
		add(b, LIMIT_CPUSET, "cpuset.cpus", "cpu.cpus", xstrdup(c->cpus));
	if (c->mems)
		add(b, LIMIT_CPUSET, "cpuset.mems", "cpu.mems", xstrdup(c->mems));
	return 0;
}

static int plan_cpu(struct building *b, const struct oci_cpu *c, struct error *err)
{
	uint64_t period = c->period_us.has && c->period_us.v ? c->period_us.v : PERIOD_DEFAULT;
	int64_t quota = c->quota_us.has ? c->quota_us.v : 0;

	if (quota > 0)
		quota += (int64_t)(period / 2);
	if (version(b, LIMIT_CPU) == LIMIT_V1)
		cpu_v1(b, c, period, quota);
	else if (version(b, LIMIT_CPU) == LIMIT_V2)
		cpu_v2(b, c, period, quota);
	else if (c->shares.has && c->shares.v)
		return missing(LIMIT_CPU, "cpu.shares", err);
	if (c->idle.has && version(b, LIMIT_CPU) != LIMIT_NONE)
		add(b, LIMIT_CPU, "cpu.idle", "cpu.idle", xasprintf("%" PRId64, c->idle.v))
			->optional = true;
	return plan_cpuset(b, c, err);
}

/* ---- block I/O */

static void io_weight(struct building *b, unsigned weight)
{
	bool v1 = version(b, LIMIT_IO) == LIMIT_V1;
	struct cgroup_limit *l = add(b, LIMIT_IO, v1 ? "blkio.bfq.weight" : "io.bfq.weight",
				     "blockIO.weight", xasprintf("%u", weight));

	snprintf(l->instead, sizeof(l->instead), "%s", v1 ? "blkio.weight" : "io.weight");
	l->instead_value = xasprintf("%u", v1 ? weight : oci_io_weight(weight));
}

static void io_weight_device(struct building *b, const struct oci_weight_device *d, size_t i)
{
	cleanup_free char *field = xasprintf("blockIO.weightDevice[%zu]", i);
	bool v1 = version(b, LIMIT_IO) == LIMIT_V1;
	struct cgroup_limit *l =
		add(b, LIMIT_IO, v1 ? "blkio.bfq.weight_device" : "io.bfq.weight", field,
		    xasprintf("%" PRId64 ":%" PRId64 " %u", d->major, d->minor, d->weight.v));

	snprintf(l->instead, sizeof(l->instead), "%s", v1 ? "blkio.weight_device" : "io.weight");
	l->instead_value = xasprintf("%" PRId64 ":%" PRId64 " %u", d->major, d->minor,
				     v1 ? d->weight.v : oci_io_weight(d->weight.v));
}

static void io_throttle(struct building *b, enum oci_throttle kind,
			const struct oci_throttle_device *d, size_t i)
{
	static const struct {
		const char *field, *v1, *v2;
	} how[] = {
		[OCI_THROTTLE_READ_BPS] = {"throttleReadBpsDevice",
					   "blkio.throttle.read_bps_device", "rbps"},
		[OCI_THROTTLE_WRITE_BPS] = {"throttleWriteBpsDevice",
					    "blkio.throttle.write_bps_device", "wbps"},
		[OCI_THROTTLE_READ_IOPS] = {"throttleReadIOPSDevice",
					    "blkio.throttle.read_iops_device", "riops"},
		[OCI_THROTTLE_WRITE_IOPS] = {"throttleWriteIOPSDevice",
					     "blkio.throttle.write_iops_device", "wiops"},
	};
	cleanup_free char *field = xasprintf("blockIO.%s[%zu]", how[kind].field, i);

	if (version(b, LIMIT_IO) == LIMIT_V1)
		add(b, LIMIT_IO, how[kind].v1, field,
		    xasprintf("%" PRId64 ":%" PRId64 " %" PRIu64, d->major, d->minor, d->rate));
	else if (d->rate == 0)
		add(b, LIMIT_IO, "io.max", field,
		    xasprintf("%" PRId64 ":%" PRId64 " %s=max", d->major, d->minor, how[kind].v2));
	else
		add(b, LIMIT_IO, "io.max", field,
		    xasprintf("%" PRId64 ":%" PRId64 " %s=%" PRIu64, d->major, d->minor,
			      how[kind].v2, d->rate));
}

static bool io_any(const struct oci_block_io *io)
{
	bool any = (io->weight.has && io->weight.v) || io->n_weight_devices > 0;

	for (unsigned k = 0; k < OCI_THROTTLES; k++)
		any = any || io->throttle[k].n > 0;
	return any;
}

static int plan_io(struct building *b, const struct oci_block_io *io, struct error *err)
{
	if (!io_any(io))
		return 0;
	if (version(b, LIMIT_IO) == LIMIT_NONE)
		return missing(LIMIT_IO, "blockIO", err);
	if (io->weight.has && io->weight.v)
		io_weight(b, io->weight.v);
	for (size_t i = 0; i < io->n_weight_devices; i++)
		if (io->weight_devices[i].weight.has && io->weight_devices[i].weight.v)
			io_weight_device(b, &io->weight_devices[i], i);
	for (unsigned k = 0; k < OCI_THROTTLES; k++)
		for (size_t i = 0; i < io->throttle[k].n; i++)
			io_throttle(b, k, &io->throttle[k].v[i], i);
	return 0;
}

/* ---- unified */

bool cgroup_limits_host_key(const char *key)
{
	return strncmp(key, "io.", 3) == 0 || strncmp(key, "cpuset.", 7) == 0;
}

static int plan_unified(struct building *b, const struct oci_resources *r, struct error *err)
{
	for (size_t i = 0; i < r->n_unified; i++) {
		const struct oci_kv *kv = &r->unified[i];
		enum limit_controller c = kv->key[0] == 'i' ? LIMIT_IO : LIMIT_CPUSET;
		cleanup_free char *field = xasprintf("unified[\"%.64s\"]", kv->key);

		if (!cgroup_limits_host_key(kv->key))
			continue;
		if (version(b, c) == LIMIT_NONE)
			return missing(c, field, err);
		/* cpuset's two are called alike there */
		if (version(b, c) == LIMIT_V1 && c == LIMIT_IO)
			return error_kind(
				err, ERR_UNSUPPORTED,
				"linux.resources.%s: this host's cgroups of block I/O are "
				"v1: use linux.resources.blockIO",
				field);
		add(b, c, kv->key, field, xstrdup(kv->value));
	}
	return 0;
}

/* ---- the whole */

int cgroup_limits_build(const struct oci_resources *r, const struct limit_target *t,
			struct cgroup_limits *out, struct error *err)
{
	struct building b = {.t = t, .out = out};

	*out = (struct cgroup_limits){0};
	if (plan_memory(&b, &r->memory, err) < 0 || plan_cpu(&b, &r->cpu, err) < 0 ||
	    plan_io(&b, &r->block_io, err) < 0)
		return -1;
	return plan_unified(&b, r, err);
}

void cgroup_limits_free(struct cgroup_limits *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].value);
		free(l->v[i].instead_value);
		free(l->v[i].field);
	}
	free(l->v);
	*l = (struct cgroup_limits){0};
}

bool cgroup_limits_any(const struct oci_resources *r)
{
	static const struct limit_target v2 = {.version = {LIMIT_V2, LIMIT_V2, LIMIT_V2, LIMIT_V2}};
	cleanup_cgroup_limits struct cgroup_limits l = {0};

	/* What is wrong is told by the one that applies it. */
	return cgroup_limits_build(r, &v2, &l, NULL) < 0 || l.n > 0;
}
