/* linux: config-linux.md, all but "Control groups" (spec_resources.c) and "Seccomp". */
#include "oci/spec_field.h"
#include "oci/spec_names.h"
#include "lib/file.h"

#include <stdlib.h>

static int read_namespace(const struct field *f, void *elem, struct error *err)
{
	struct oci_namespace *ns = elem;
	uint64_t type;

	if (need_enum(f, "type", oci_ns_names, "namespace type", &type, err) < 0)
		return -1;
	ns->type = (enum oci_ns_type)type;
	return get_str(f, "path", &ns->path, err);
}

/* The mode may come with the file type in it, as stat(2) and Go's os.FileMode give it. */
static int read_device(const struct field *f, void *elem, struct error *err)
{
	struct oci_device *d = elem;
	uint64_t type;

	if (need_str(f, "path", &d->path, err) < 0 ||
	    need_enum(f, "type", oci_device_types, "device type", &type, err) < 0)
		return -1;
	d->type = (char)type;
	if (d->type != 'p' && (need_i64(f, "major", 0, UINT32_MAX, &d->major, err) < 0 ||
			       need_i64(f, "minor", 0, UINT32_MAX, &d->minor, err) < 0))
		return -1;
	if (get_opt_u32(f, "fileMode", &d->file_mode, err) < 0)
		return -1;
	d->file_mode.v &= 07777;
	if (get_opt_u32(f, "uid", &d->uid, err) < 0)
		return -1;
	return get_opt_u32(f, "gid", &d->gid, err);
}

static int read_net_device(const struct field *f, void *elem, struct error *err)
{
	struct oci_net_device *d = elem;

	if (field_is_object(f, err) < 0)
		return -1;
	d->host_name = xstrdup(f->key);
	return get_str(f, "name", &d->name, err);
}

static int read_time_offset(const struct field *offsets, const char *key, struct oci_time_offset *t,
			    struct error *err)
{
	struct field f;
	uint64_t ns = 0;
	int r = get_object(offsets, key, &f, err);

	if (r <= 0)
		return r;
	if (get_opt_i64(&f, "secs", &t->secs, err) < 0 ||
	    get_u64(&f, "nanosecs", 999999999, &ns, err) < 0)
		return -1;
	t->nanosecs = (uint32_t)ns;
	return 0;
}

static int read_time_offsets(const struct field *lnx, struct oci_linux *l, struct error *err)
{
	struct field f;
	int r = get_object(lnx, "timeOffsets", &f, err);

	if (r <= 0)
		return r;
	l->has_time_offsets = f.v->u.object.len > 0;
	if (read_time_offset(&f, "boottime", &l->boottime, err) < 0)
		return -1;
	return read_time_offset(&f, "monotonic", &l->monotonic, err);
}

static int read_intel_rdt(const struct field *lnx, struct oci_linux *l, struct error *err)
{
	struct oci_intel_rdt *r;
	struct field f;
	int found = get_object(lnx, "intelRdt", &f, err);

	if (found <= 0)
		return found;
	r = l->intel_rdt = xcalloc(1, sizeof(*r));
	if (get_str(&f, "closID", &r->clos_id, err) < 0 ||
	    get_strv(&f, "schemata", &r->schemata, &r->n_schemata, err) < 0 ||
	    get_str(&f, "l3CacheSchema", &r->l3_cache_schema, err) < 0 ||
	    get_str(&f, "memBwSchema", &r->mem_bw_schema, err) < 0 ||
	    get_bool(&f, "enableCMT", &r->enable_cmt, err) < 0 ||
	    get_bool(&f, "enableMBM", &r->enable_mbm, err) < 0)
		return -1;
	return get_bool(&f, "enableMonitoring", &r->enable_monitoring, err);
}

static int read_memory_policy(const struct field *lnx, struct oci_linux *l, struct error *err)
{
	struct oci_memory_policy *m;
	struct field f;
	int r = get_object(lnx, "memoryPolicy", &f, err);

	if (r <= 0)
		return r;
	m = l->memory_policy = xcalloc(1, sizeof(*m));
	if (need_str(&f, "mode", &m->mode, err) < 0 || get_str(&f, "nodes", &m->nodes, err) < 0)
		return -1;
	return get_strv(&f, "flags", &m->flags, &m->n_flags, err);
}

/* No personality flag is defined: any in the list is an unknown one. */
static int read_personality(const struct field *lnx, struct oci_linux *l, struct error *err)
{
	static const struct name no_flags[] = {{NULL, 0}};
	struct field f;
	uint64_t domain, flags = 0;
	int r = get_object(lnx, "personality", &f, err);

	if (r <= 0)
		return r;
	if (need_enum(&f, "domain", oci_personalities, "personality domain", &domain, err) < 0 ||
	    get_flags(&f, "flags", no_flags, "personality flag", &flags, err) < 0)
		return -1;
	l->has_personality = true;
	l->personality = (unsigned long)domain;
	return 0;
}

static int read_propagation(const struct field *lnx, struct oci_linux *l, struct error *err)
{
	char *s = NULL;
	uint64_t flags;
	int r = get_str(lnx, "rootfsPropagation", &s, err);

	free(s);
	if (r <= 0)
		return r;
	if (get_enum(lnx, "rootfsPropagation", oci_propagations, "mount propagation", &flags, err) <
	    0)
		return -1;
	l->rootfs_propagation = (unsigned long)flags;
	return 0;
}

static int read_subobjects(const struct field *f, struct oci_linux *l, struct error *err)
{
	struct field sub;
	int r = get_object(f, "resources", &sub, err);

	if (r > 0) {
		l->resources = xcalloc(1, sizeof(*l->resources));
		r = spec_read_resources(&sub, l->resources, err);
	}
	if (r < 0)
		return -1;
	r = get_object(f, "seccomp", &sub, err);
	if (r > 0) {
		l->seccomp = xcalloc(1, sizeof(*l->seccomp));
		r = spec_read_seccomp(&sub, l->seccomp, err);
	}
	if (r < 0 || read_intel_rdt(f, l, err) < 0 || read_memory_policy(f, l, err) < 0)
		return -1;
	return read_personality(f, l, err);
}

int spec_read_linux(const struct field *f, struct oci_linux *l, struct error *err)
{
	if (get_list(f, "namespaces", sizeof(*l->namespaces), read_namespace, &l->namespaces,
		     &l->n_namespaces, err) < 0 ||
	    get_list(f, "uidMappings", sizeof(*l->uid_mappings), spec_read_id_mapping,
		     &l->uid_mappings, &l->n_uid_mappings, err) < 0 ||
	    get_list(f, "gidMappings", sizeof(*l->gid_mappings), spec_read_id_mapping,
		     &l->gid_mappings, &l->n_gid_mappings, err) < 0 ||
	    get_list(f, "devices", sizeof(*l->devices), read_device, &l->devices, &l->n_devices,
		     err) < 0 ||
	    get_map(f, "netDevices", sizeof(*l->net_devices), read_net_device, &l->net_devices,
		    &l->n_net_devices, err) < 0)
		return -1;
	if (read_time_offsets(f, l, err) < 0 ||
	    get_str(f, "cgroupsPath", &l->cgroups_path, err) < 0 ||
	    read_propagation(f, l, err) < 0 ||
	    get_strmap(f, "sysctl", &l->sysctl, &l->n_sysctl, err) < 0 ||
	    get_strv(f, "maskedPaths", &l->masked_paths, &l->n_masked_paths, err) < 0 ||
	    get_strv(f, "readonlyPaths", &l->readonly_paths, &l->n_readonly_paths, err) < 0 ||
	    get_str(f, "mountLabel", &l->mount_label, err) < 0)
		return -1;
	return read_subobjects(f, l, err);
}
