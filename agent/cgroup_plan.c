/*
 * linux.resources as files of cgroup v2 (config-linux.md, "Control groups"). Pure.
 *
 * The specification speaks cgroup v1, and its values are translated as runc does, since engines
 * check what they see against it. Order matters in two places: memory.swap.max before memory.max (a
 * lower memory.max may have to push pages somewhere), and unified last, since it overrides the
 * rest.
 */
#include "agent/cgroup.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "oci/weights.h"

#include <inttypes.h>
#include <string.h>

#define HUGEPAGE_SIZE_MAX 16 /* characters of "2MB" */

static void add(struct cgroup_plan *p, const char *file, bool optional, const char *field,
		char *value)
{
	struct cgroup_setting *v = realloc(p->v, (p->n + 1) * sizeof(*v));
	struct cgroup_setting *s;

	if (!v)
		abort();
	p->v = v;
	s = &v[p->n++];
	*s = (struct cgroup_setting){.value = value, .field = xstrdup(field), .optional = optional};
	snprintf(s->file, sizeof(s->file), "%s", file);
}

static char *number_or_max(int64_t v)
{
	return v < 0 ? xstrdup("max") : xasprintf("%" PRId64, v);
}

/* ---- controllers */

static int plan_memory(const struct oci_memory *m, struct cgroup_plan *p, struct error *err)
{
	int64_t limit = m->limit.has ? m->limit.v : 0;
	int64_t swap = m->swap.has ? m->swap.v : 0;

	/* memory plus swap, there; swap alone, here */
	if (swap > 0) {
		if (limit <= 0)
			return error_kind(err, ERR_INVALID,
					  "linux.resources.memory.swap: unable to set swap limit "
					  "without memory limit");
		if (swap < limit)
			return error_kind(err, ERR_INVALID,
					  "linux.resources.memory.swap: memory+swap limit must be "
					  ">= memory limit");
		add(p, "memory.swap.max", false, "memory.swap",
		    xasprintf("%" PRId64, swap - limit));
	} else if (swap < 0 || limit < 0) {
		/* without a limit on memory there is none on both together */
		add(p, "memory.swap.max", true, "memory.swap", xstrdup("max"));
	}
	if (limit != 0)
		add(p, "memory.max", false, "memory.limit", number_or_max(limit));
	if (m->reservation.has && m->reservation.v != 0)
		add(p, "memory.low", false, "memory.reservation", number_or_max(m->reservation.v));
	return 0;
}

static void plan_cpu(const struct oci_cpu *c, struct cgroup_plan *p)
{
	uint64_t period = c->period_us.has && c->period_us.v ? c->period_us.v : 100000;

	if (c->shares.has && c->shares.v)
		add(p, "cpu.weight", false, "cpu.shares",
		    xasprintf("%u", oci_cpu_weight(c->shares.v)));
	if (c->idle.has)
		add(p, "cpu.idle", false, "cpu.idle", xasprintf("%" PRId64, c->idle.v));
	if ((c->quota_us.has && c->quota_us.v > 0))
		add(p, "cpu.max", false, "cpu.quota",
		    xasprintf("%" PRId64 " %" PRIu64, c->quota_us.v, period));
	else if ((c->quota_us.has && c->quota_us.v < 0) || (c->period_us.has && c->period_us.v))
		add(p, "cpu.max", false, "cpu.quota", xasprintf("max %" PRIu64, period));
	if (c->burst_us.has)
		add(p, "cpu.max.burst", false, "cpu.burst", xasprintf("%" PRIu64, c->burst_us.v));
	/* Not cpus and mems: their numbers are the host's, which pins the machine there. */
}

static int plan_hugepages(const struct oci_resources *r, struct cgroup_plan *p, struct error *err)
{
	for (size_t i = 0; i < r->n_hugepage_limits; i++) {
		const struct oci_hugepage_limit *h = &r->hugepage_limits[i];
		cleanup_free char *field = xasprintf("hugepageLimits[%zu]", i);
		char file[64];

		if (strlen(h->page_size) > HUGEPAGE_SIZE_MAX || strchr(h->page_size, '/'))
			return error_kind(err, ERR_INVALID,
					  "linux.resources.%s.pageSize: \"%s\" is not a page size",
					  field, h->page_size);
		snprintf(file, sizeof(file), "hugetlb.%s.max", h->page_size);
		add(p, file, false, field, xasprintf("%" PRIu64, h->limit));
		/* pages that are reserved and not yet used; not in every kernel */
		snprintf(file, sizeof(file), "hugetlb.%s.rsvd.max", h->page_size);
		add(p, file, true, field, xasprintf("%" PRIu64, h->limit));
	}
	return 0;
}

static int plan_unified(const struct oci_resources *r, struct cgroup_plan *p, struct error *err)
{
	for (size_t i = 0; i < r->n_unified; i++) {
		const struct oci_kv *kv = &r->unified[i];
		cleanup_free char *field = xasprintf("unified[\"%.64s\"]", kv->key);

		if (!kv->key[0] || strlen(kv->key) >= sizeof(p->v->file) || strchr(kv->key, '/') ||
		    kv->key[0] == '.')
			return error_kind(err, ERR_INVALID,
					  "linux.resources.%s: must be the name of a file", field);
		/* The host's devices, and its processors. */
		if (strncmp(kv->key, "io.", 3) != 0 && strncmp(kv->key, "cpuset.", 7) != 0)
			add(p, kv->key, false, field, xstrdup(kv->value));
	}
	return 0;
}

int cgroup_plan_build(const struct oci_resources *r, struct cgroup_plan *out, struct error *err)
{
	*out = (struct cgroup_plan){0};
	if (plan_memory(&r->memory, out, err) < 0)
		return -1;
	plan_cpu(&r->cpu, out);
	if (r->pids_limit.has)
		add(out, "pids.max", false, "pids.limit",
		    number_or_max(r->pids_limit.v > 0 ? r->pids_limit.v : -1));
	if (r->block_io.weight.has && r->block_io.weight.v)
		add(out, "io.weight", true, "blockIO.weight",
		    xasprintf("%u", oci_io_weight(r->block_io.weight.v)));
	if (plan_hugepages(r, out, err) < 0)
		return -1;
	return plan_unified(r, out, err);
}

void cgroup_plan_free(struct cgroup_plan *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].value);
		free(p->v[i].field);
	}
	free(p->v);
	*p = (struct cgroup_plan){0};
}
