/* mounts and hooks: config.md, "Mounts", "POSIX-platform Hooks". */
#include "oci/spec_field.h"

#include <limits.h>

int spec_read_id_mapping(const struct field *f, void *elem, struct error *err)
{
	struct oci_id_mapping *m = elem;

	if (get_u32(f, "containerID", &m->container_id, err) < 0 ||
	    get_u32(f, "hostID", &m->host_id, err) < 0)
		return -1;
	return get_u32(f, "size", &m->size, err);
}

static int read_mount(const struct field *f, void *elem, struct error *err)
{
	struct oci_mount *m = elem;

	if (need_str(f, "destination", &m->destination, err) < 0 ||
	    get_str(f, "type", &m->type, err) < 0 || get_str(f, "source", &m->source, err) < 0 ||
	    get_strv(f, "options", &m->options, &m->n_options, err) < 0)
		return -1;
	if (get_list(f, "uidMappings", sizeof(*m->uid_mappings), spec_read_id_mapping,
		     &m->uid_mappings, &m->n_uid_mappings, err) < 0)
		return -1;
	return get_list(f, "gidMappings", sizeof(*m->gid_mappings), spec_read_id_mapping,
			&m->gid_mappings, &m->n_gid_mappings, err);
}

int spec_read_mounts(const struct field *spec, struct oci_spec *s, struct error *err)
{
	return get_list(spec, "mounts", sizeof(*s->mounts), read_mount, &s->mounts, &s->n_mounts,
			err);
}

static int read_hook(const struct field *f, void *elem, struct error *err)
{
	struct oci_hook *h = elem;

	if (need_str(f, "path", &h->path, err) < 0 ||
	    get_strv(f, "args", &h->args, &h->n_args, err) < 0 ||
	    get_strv(f, "env", &h->env, &h->n_env, err) < 0)
		return -1;
	return get_opt_int(f, "timeout", 1, INT_MAX, &h->timeout, err);
}

int spec_read_hooks(const struct field *spec, struct oci_spec *s, struct error *err)
{
	struct field f;
	int r = get_object(spec, "hooks", &f, err);

	for (int p = 0; r > 0 && p < OCI_HOOK_PHASES; p++) {
		struct oci_hook_list *l = &s->hooks[p];

		if (get_list(&f, oci_hook_name((enum oci_hook_phase)p), sizeof(*l->v), read_hook,
			     &l->v, &l->n, err) < 0)
			return -1;
	}
	return r;
}
