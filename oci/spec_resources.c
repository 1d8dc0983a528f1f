/* linux.resources: config-linux.md, "Control groups". */
#include "oci/spec_field.h"
#include "oci/spec_names.h"
#include "lib/file.h"

static int read_memory(const struct field *resources, struct oci_memory *m, struct error *err)
{
	struct field f;
	int r = get_object(resources, "memory", &f, err);

	if (r <= 0)
		return r;
	if (get_opt_i64(&f, "limit", &m->limit, err) < 0 ||
	    get_opt_i64(&f, "reservation", &m->reservation, err) < 0 ||
	    get_opt_i64(&f, "swap", &m->swap, err) < 0 ||
	    get_opt_i64(&f, "kernel", &m->kernel, err) < 0 ||
	    get_opt_i64(&f, "kernelTCP", &m->kernel_tcp, err) < 0 ||
	    get_opt_u64(&f, "swappiness", &m->swappiness, err) < 0 ||
	    get_opt_bool(&f, "disableOOMKiller", &m->disable_oom_killer, err) < 0 ||
	    get_opt_bool(&f, "useHierarchy", &m->use_hierarchy, err) < 0)
		return -1;
	return get_opt_bool(&f, "checkBeforeUpdate", &m->check_before_update, err);
}

static int read_cpu(const struct field *resources, struct oci_cpu *c, struct error *err)
{
	struct field f;
	int r = get_object(resources, "cpu", &f, err);

	if (r <= 0)
		return r;
	if (get_opt_u64(&f, "shares", &c->shares, err) < 0 ||
	    get_opt_i64(&f, "quota", &c->quota_us, err) < 0 ||
	    get_opt_u64(&f, "burst", &c->burst_us, err) < 0 ||
	    get_opt_u64(&f, "period", &c->period_us, err) < 0 ||
	    get_opt_i64(&f, "realtimeRuntime", &c->realtime_runtime_us, err) < 0 ||
	    get_opt_u64(&f, "realtimePeriod", &c->realtime_period_us, err) < 0 ||
	    get_str(&f, "cpus", &c->cpus, err) < 0 || get_str(&f, "mems", &c->mems, err) < 0)
		return -1;
	return get_opt_i64(&f, "idle", &c->idle, err);
}

static int read_pids(const struct field *resources, struct oci_resources *r, struct error *err)
{
	struct field f;
	int found = get_object(resources, "pids", &f, err);

	return found <= 0 ? found : get_opt_i64(&f, "limit", &r->pids_limit, err);
}

/* ---- block I/O */

static int read_device_number(const struct field *f, int64_t *major, int64_t *minor,
			      struct error *err)
{
	if (need_i64(f, "major", 0, UINT32_MAX, major, err) < 0)
		return -1;
	return need_i64(f, "minor", 0, UINT32_MAX, minor, err);
}

static int read_weight_device(const struct field *f, void *elem, struct error *err)
{
	struct oci_weight_device *d = elem;

	if (read_device_number(f, &d->major, &d->minor, err) < 0 ||
	    get_opt_u16(f, "weight", &d->weight, err) < 0)
		return -1;
	return get_opt_u16(f, "leafWeight", &d->leaf_weight, err);
}

static int read_throttle_device(const struct field *f, void *elem, struct error *err)
{
	struct oci_throttle_device *d = elem;

	if (read_device_number(f, &d->major, &d->minor, err) < 0)
		return -1;
	return get_u64(f, "rate", UINT64_MAX, &d->rate, err);
}

static int read_block_io(const struct field *resources, struct oci_block_io *b, struct error *err)
{
	static const char *const throttles[OCI_THROTTLES] = {
		[OCI_THROTTLE_READ_BPS] = "throttleReadBpsDevice",
		[OCI_THROTTLE_WRITE_BPS] = "throttleWriteBpsDevice",
		[OCI_THROTTLE_READ_IOPS] = "throttleReadIOPSDevice",
		[OCI_THROTTLE_WRITE_IOPS] = "throttleWriteIOPSDevice",
	};
	struct field f;
	int r = get_object(resources, "blockIO", &f, err);

	if (r <= 0)
		return r;
	if (get_opt_u16(&f, "weight", &b->weight, err) < 0 ||
	    get_opt_u16(&f, "leafWeight", &b->leaf_weight, err) < 0 ||
	    get_list(&f, "weightDevice", sizeof(*b->weight_devices), read_weight_device,
		     &b->weight_devices, &b->n_weight_devices, err) < 0)
		return -1;
	for (int i = 0; i < OCI_THROTTLES; i++) {
		struct oci_throttle_list *l = &b->throttle[i];

		if (get_list(&f, throttles[i], sizeof(*l->v), read_throttle_device, &l->v, &l->n,
			     err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the others */

static int read_hugepage_limit(const struct field *f, void *elem, struct error *err)
{
	struct oci_hugepage_limit *h = elem;

	if (need_str(f, "pageSize", &h->page_size, err) < 0)
		return -1;
	return need_u64(f, "limit", UINT64_MAX, &h->limit, err);
}

static int read_if_priority(const struct field *f, void *elem, struct error *err)
{
	struct oci_if_priority *p = elem;

	if (need_str(f, "name", &p->name, err) < 0)
		return -1;
	return get_u32(f, "priority", &p->priority, err);
}

static int read_network(const struct field *resources, struct oci_resources *r, struct error *err)
{
	struct field f;
	int found = get_object(resources, "network", &f, err);

	if (found <= 0)
		return found;
	if (get_opt_u32(&f, "classID", &r->net_class_id, err) < 0)
		return -1;
	return get_list(&f, "priorities", sizeof(*r->net_priorities), read_if_priority,
			&r->net_priorities, &r->n_net_priorities, err);
}

static int read_rdma(const struct field *f, void *elem, struct error *err)
{
	struct oci_rdma *d = elem;

	if (field_is_object(f, err) < 0)
		return -1;
	d->device = xstrdup(f->key);
	if (get_opt_u32(f, "hcaHandles", &d->hca_handles, err) < 0)
		return -1;
	return get_opt_u32(f, "hcaObjects", &d->hca_objects, err);
}

static int read_device_rule(const struct field *f, void *elem, struct error *err)
{
	struct oci_device_rule *d = elem;
	uint64_t type = 'a';

	if (get_bool(f, "allow", &d->allow, err) < 0 ||
	    get_enum(f, "type", oci_device_rule_types, "device type", &type, err) < 0 ||
	    get_opt_i64(f, "major", &d->major, err) < 0 ||
	    get_opt_i64(f, "minor", &d->minor, err) < 0)
		return -1;
	d->type = (char)type;
	return get_str(f, "access", &d->access, err);
}

int spec_read_resources(const struct field *f, struct oci_resources *r, struct error *err)
{
	if (read_memory(f, &r->memory, err) < 0 || read_cpu(f, &r->cpu, err) < 0 ||
	    read_pids(f, r, err) < 0 || read_block_io(f, &r->block_io, err) < 0 ||
	    read_network(f, r, err) < 0)
		return -1;
	if (get_list(f, "hugepageLimits", sizeof(*r->hugepage_limits), read_hugepage_limit,
		     &r->hugepage_limits, &r->n_hugepage_limits, err) < 0 ||
	    get_map(f, "rdma", sizeof(*r->rdma), read_rdma, &r->rdma, &r->n_rdma, err) < 0 ||
	    get_list(f, "devices", sizeof(*r->devices), read_device_rule, &r->devices,
		     &r->n_devices, err) < 0)
		return -1;
	return get_strmap(f, "unified", &r->unified, &r->n_unified, err);
}
