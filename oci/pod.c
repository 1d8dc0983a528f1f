#include "oci/pod.h"

#include <string.h>

#define POD_ID 64 /* digits */

/* The two families of annotations that engines write. */
static const struct family {
	const char *type, *sandbox;
} families[] = {
	{"io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"},	/* containerd */
	{"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"}, /* CRI-O, podman */
};

static int read_family(const struct oci_spec *spec, const struct family *f, struct oci_pod *pod,
		       struct error *err)
{
	const char *type = oci_spec_annotation(spec, f->type);

	*pod = (struct oci_pod){.role = OCI_POD_SINGLE};
	if (!type)
		return 0;
	if (strcmp(type, "sandbox") == 0) {
		*pod = (struct oci_pod){.role = OCI_POD_SANDBOX, .key = f->type};
		return 0;
	}
	if (strcmp(type, "container") != 0)
		return error_kind(err, ERR_INVALID,
				  "annotations[\"%s\"]: \"%s\": must be \"sandbox\" or "
				  "\"container\"",
				  f->type, type);
	*pod = (struct oci_pod){.role = OCI_POD_JOINS,
				.sandbox = oci_spec_annotation(spec, f->sandbox),
				.key = f->sandbox};
	if (!pod->sandbox || !pod->sandbox[0])
		return error_kind(err, ERR_INVALID,
				  "annotations[\"%s\"]: is missing: %s says that the container "
				  "joins a sandbox",
				  f->sandbox, f->type);
	return 0;
}

/* podman (4.3) annotates the containers of a pod, but not the one that they join. That one is known
 * by its cgroup: ".../<pod>/libpod-<id>", or with systemd "machine-libpod_pod_<pod>.slice:...". */
static bool is_podman_infra(const struct oci_spec *spec)
{
	const char *manager = oci_spec_annotation(spec, "io.container.manager");
	const char *path = spec->lnx.cgroups_path, *leaf;
	size_t n;

	if (!manager || strcmp(manager, "libpod") != 0 || !path)
		return false;
	if (strstr(path, "libpod_pod_"))
		return true;
	leaf = strstr(path, "/libpod-");
	n = leaf ? (size_t)(leaf - path) : 0;
	return n > POD_ID && path[n - POD_ID - 1] == '/' &&
	       strspn(path + n - POD_ID, "0123456789abcdef") == POD_ID;
}

int oci_pod_role(const struct oci_spec *spec, struct oci_pod *pod, struct error *err)
{
	struct oci_pod one, other;

	if (read_family(spec, &families[0], &one, err) < 0 ||
	    read_family(spec, &families[1], &other, err) < 0)
		return -1;
	if (one.key && other.key &&
	    (one.role != other.role || (one.sandbox && strcmp(one.sandbox, other.sandbox) != 0)))
		return error_kind(err, ERR_INVALID, "annotations[\"%s\"]: contradicts %s",
				  other.key, one.key);
	*pod = one.key ? one : other;
	if (!pod->key && is_podman_infra(spec))
		*pod = (struct oci_pod){.role = OCI_POD_SANDBOX, .key = "io.container.manager"};
	return 0;
}
