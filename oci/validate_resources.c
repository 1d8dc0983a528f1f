/* linux.resources: what the kernel would refuse later and without a name. */
#include "oci/validate.h"

#include <inttypes.h>
#include <string.h>

#define bad(err, ...) error_kind(err, ERR_INVALID, __VA_ARGS__)

static int check_limit(const struct oci_opt_i64 *v, const char *path, const char *key,
		       struct error *err)
{
	if (v->has && v->v < -1)
		return bad(err, "%s.memory.%s: %" PRId64 " is neither a size nor -1", path, key,
			   v->v);
	return 0;
}

static int check_memory(const struct oci_memory *m, const char *path, struct error *err)
{
	if (check_limit(&m->limit, path, "limit", err) < 0 ||
	    check_limit(&m->reservation, path, "reservation", err) < 0 ||
	    check_limit(&m->swap, path, "swap", err) < 0)
		return -1;
	if (m->swappiness.has && m->swappiness.v > 100)
		return bad(err, "%s.memory.swappiness: %" PRIu64 " is out of range (0 to 100)",
			   path, m->swappiness.v);
	if (m->swap.has && m->limit.has && m->swap.v > 0 &&
	    (m->limit.v < 0 || m->swap.v < m->limit.v))
		return bad(err, "%s.memory.swap: memory+swap limit should be >= memory limit",
			   path);
	return 0;
}

#define PERIOD_MIN 1000 /* microseconds: min_cfs_quota_period, max_cfs_quota_period */
#define PERIOD_MAX 1000000

static int check_cpu(const struct oci_cpu *c, const char *path, struct error *err)
{
	if (c->period_us.has && c->period_us.v != 0 &&
	    (c->period_us.v < PERIOD_MIN || c->period_us.v > PERIOD_MAX))
		return bad(err, "%s.cpu.period: %" PRIu64 " is out of range (%d to %d)", path,
			   c->period_us.v, PERIOD_MIN, PERIOD_MAX);
	if (c->quota_us.has && c->quota_us.v > 0 && c->quota_us.v < PERIOD_MIN)
		return bad(err, "%s.cpu.quota: %" PRId64 " is below %d", path, c->quota_us.v,
			   PERIOD_MIN);
	if (c->idle.has && (c->idle.v < 0 || c->idle.v > 1))
		return bad(err, "%s.cpu.idle: %" PRId64 " is neither 0 nor 1", path, c->idle.v);
	if (c->cpus && !oci_is_cpu_list(c->cpus))
		return bad(err, "%s.cpu.cpus: \"%s\": not a list of CPUs", path, c->cpus);
	if (c->mems && !oci_is_cpu_list(c->mems))
		return bad(err, "%s.cpu.mems: \"%s\": not a list of memory nodes", path, c->mems);
	return 0;
}

static int check_weight(const struct oci_opt_u16 *w, const char *path, const char *key,
			struct error *err)
{
	if (w->has && w->v != 0 && (w->v < 10 || w->v > 1000))
		return bad(err, "%s.blockIO.%s: %u is out of range (10 to 1000)", path, key, w->v);
	return 0;
}

static int check_device_rules(const struct oci_resources *r, const char *path, struct error *err)
{
	for (size_t i = 0; i < r->n_devices; i++) {
		const struct oci_device_rule *d = &r->devices[i];

		if (d->major.has && (d->major.v < -1 || d->major.v > UINT32_MAX))
			return bad(err, "%s.devices[%zu].major: %" PRId64 " is out of range", path,
				   i, d->major.v);
		if (d->minor.has && (d->minor.v < -1 || d->minor.v > UINT32_MAX))
			return bad(err, "%s.devices[%zu].minor: %" PRId64 " is out of range", path,
				   i, d->minor.v);
		if (d->access && d->access[strspn(d->access, "rwm")] != '\0')
			return bad(err, "%s.devices[%zu].access: \"%s\": only r, w and m are known",
				   path, i, d->access);
	}
	return 0;
}

/* "2MB", as the files hugetlb.2MB.max are called. */
static bool is_page_size(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n > 0 && s[0] != '0' &&
	       (strcmp(s + n, "KB") == 0 || strcmp(s + n, "MB") == 0 || strcmp(s + n, "GB") == 0);
}

static int check_maps(const struct oci_resources *r, const char *path, struct error *err)
{
	for (size_t i = 0; i < r->n_hugepage_limits; i++)
		if (!is_page_size(r->hugepage_limits[i].page_size))
			return bad(err, "%s.hugepageLimits[%zu].pageSize: \"%s\": not a page size",
				   path, i, r->hugepage_limits[i].page_size);
	for (size_t i = 0; i < r->n_unified; i++) {
		const char *key = r->unified[i].key;

		if (strchr(key, '/'))
			return bad(err,
				   "%s.unified: unified resource \"%s\" must be a file name (no "
				   "slashes)",
				   path, key);
		if (!strchr(key, '.') || key[0] == '.')
			return bad(err,
				   "%s.unified: unified resource \"%s\" must be in the form "
				   "CONTROLLER.PARAMETER",
				   path, key);
	}
	return 0;
}

int oci_resources_validate(const struct oci_resources *r, const char *path, struct error *err)
{
	if (check_memory(&r->memory, path, err) < 0 || check_cpu(&r->cpu, path, err) < 0 ||
	    check_weight(&r->block_io.weight, path, "weight", err) < 0 ||
	    check_weight(&r->block_io.leaf_weight, path, "leafWeight", err) < 0 ||
	    check_device_rules(r, path, err) < 0)
		return -1;
	return check_maps(r, path, err);
}
