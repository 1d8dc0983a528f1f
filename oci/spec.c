/* The whole of config.json, and the three ways into the parser. */
#include "oci/spec.h"
#include "oci/spec_field.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"

#include <linux/capability.h>
#include <string.h>

static int read_root(const struct field *spec, struct oci_spec *s, struct error *err)
{
	struct field f;
	int r = get_object(spec, "root", &f, err);

	if (r <= 0)
		return r;
	s->has_root = true;
	if (get_str(&f, "path", &s->root_path, err) < 0)
		return -1;
	return get_bool(&f, "readonly", &s->root_readonly, err);
}

static int read_spec(const struct field *f, struct oci_spec *s, struct error *err)
{
	struct field sub;
	int r;

	if (get_str(f, "ociVersion", &s->oci_version, err) < 0 || read_root(f, s, err) < 0 ||
	    get_str(f, "hostname", &s->hostname, err) < 0 ||
	    get_str(f, "domainname", &s->domainname, err) < 0 || spec_read_mounts(f, s, err) < 0 ||
	    spec_read_hooks(f, s, err) < 0 ||
	    get_strmap(f, "annotations", &s->annotations, &s->n_annotations, err) < 0)
		return -1;
	if ((r = get_object(f, "process", &sub, err)) < 0)
		return -1;
	if (r > 0) {
		s->process = xcalloc(1, sizeof(*s->process));
		if (spec_read_process(&sub, s->process, err) < 0)
			return -1;
	}
	if ((r = get_object(f, "linux", &sub, err)) < 0)
		return -1;
	s->has_linux = r > 0;
	if (r > 0 && spec_read_linux(&sub, &s->lnx, err) < 0)
		return -1;
	if ((r = get_object(f, "vm", &sub, err)) <= 0)
		return r;
	s->vm = xcalloc(1, sizeof(*s->vm));
	return spec_read_vm(&sub, s->vm, err);
}

static int check_root(const struct field *f, struct error *err)
{
	return field_is_object(f, err) < 0 ? -1 : field_refuse_duplicates(f, err);
}

int oci_spec_from_tree(yajl_val tree, struct oci_spec **out, struct error *err)
{
	cleanup_oci_spec struct oci_spec *s = xcalloc(1, sizeof(*s));
	struct field f = field_root("", tree);

	if (check_root(&f, err) < 0 || read_spec(&f, s, err) < 0)
		return -1;
	*out = steal_ptr(&s);
	return 0;
}

int oci_process_from_tree(yajl_val tree, struct oci_process **out, struct error *err)
{
	cleanup_oci_process struct oci_process *p = xcalloc(1, sizeof(*p));
	struct field f = field_root("process", tree);

	if (check_root(&f, err) < 0 || spec_read_process(&f, p, err) < 0)
		return -1;
	*out = steal_ptr(&p);
	return 0;
}

int oci_resources_from_tree(yajl_val tree, struct oci_resources **out, struct error *err)
{
	cleanup_oci_resources struct oci_resources *r = xcalloc(1, sizeof(*r));
	struct field f = field_root("resources", tree);

	if (check_root(&f, err) < 0 || spec_read_resources(&f, r, err) < 0)
		return -1;
	*out = steal_ptr(&r);
	return 0;
}

static yajl_val parse(const char *text, size_t len, struct error *err)
{
	if (len > OCI_SPEC_MAX) {
		error_kind(err, ERR_INVALID, "larger than %u bytes", OCI_SPEC_MAX);
		return NULL;
	}
	return json_parse(text, len, err);
}

int oci_spec_parse(const char *text, size_t len, struct oci_spec **out, struct error *err)
{
	cleanup_json yajl_val tree = parse(text, len, err);

	return tree ? oci_spec_from_tree(tree, out, err) : -1;
}

int oci_process_parse(const char *text, size_t len, struct oci_process **out, struct error *err)
{
	cleanup_json yajl_val tree = parse(text, len, err);

	return tree ? oci_process_from_tree(tree, out, err) : -1;
}

int oci_resources_parse(const char *text, size_t len, struct oci_resources **out, struct error *err)
{
	cleanup_json yajl_val tree = parse(text, len, err);

	return tree ? oci_resources_from_tree(tree, out, err) : -1;
}

const struct oci_namespace *oci_spec_namespace(const struct oci_spec *spec, enum oci_ns_type type)
{
	for (size_t i = 0; i < spec->lnx.n_namespaces; i++)
		if (spec->lnx.namespaces[i].type == type)
			return &spec->lnx.namespaces[i];
	return NULL;
}

bool oci_spec_all_devices(const struct oci_spec *spec)
{
	const struct oci_resources *r = spec->lnx.resources;
	bool all = false;

	for (size_t i = 0; r && i < r->n_devices; i++) {
		const struct oci_device_rule *d = &r->devices[i];

		if (d->type != 'a' || (d->major.has && d->major.v >= 0) ||
		    (d->minor.has && d->minor.v >= 0))
			continue;
		if (!d->access ||
		    (strchr(d->access, 'r') && strchr(d->access, 'w') && strchr(d->access, 'm')))
			all = d->allow;
	}
	return all;
}

bool oci_spec_may_mknod(const struct oci_spec *spec)
{
	const struct oci_capabilities *caps = spec->process ? spec->process->capabilities : NULL;

	return caps && (caps->bounding & (UINT64_C(1) << CAP_MKNOD));
}

const char *oci_spec_annotation(const struct oci_spec *spec, const char *key)
{
	for (size_t i = 0; i < spec->n_annotations; i++)
		if (strcmp(spec->annotations[i].key, key) == 0)
			return spec->annotations[i].value;
	return NULL;
}
