#include "oci/features.h"
#include "oci/caps.h"
#include "oci/mount_options.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"

#include <string.h>

static void write_list(struct jsonw *w, const char *key, const char *const *names)
{
	jsonw_key(w, key);
	jsonw_arr(w);
	for (; *names; names++)
		jsonw_str(w, *names);
	jsonw_end_arr(w);
}

static void write_opt_bool(struct jsonw *w, const char *key, struct oci_opt_bool v)
{
	if (v.has)
		jsonw_kbool(w, key, v.v);
}

static void write_enabled(struct jsonw *w, const char *key, bool enabled)
{
	jsonw_key(w, key);
	jsonw_obj(w);
	jsonw_kbool(w, "enabled", enabled);
	jsonw_end_obj(w);
}

static void write_seccomp_flags(struct jsonw *w, const char *key)
{
	const char *name;

	jsonw_key(w, key);
	jsonw_arr(w);
	for (size_t i = 0; (name = oci_seccomp_flag_name(i, NULL)); i++)
		jsonw_str(w, name);
	jsonw_end_arr(w);
}

static void write_seccomp(struct jsonw *w)
{
	const char *name;

	jsonw_key(w, "seccomp");
	jsonw_obj(w);
	jsonw_kbool(w, "enabled", true);
	jsonw_key(w, "actions");
	jsonw_arr(w);
	jsonw_str(w, "SCMP_ACT_KILL");
	for (int a = 0; a < OCI_ACT_COUNT; a++)
		if (a != OCI_ACT_NOTIFY)
			jsonw_str(w, oci_seccomp_action_name((enum oci_seccomp_action)a));
	jsonw_end_arr(w);
	jsonw_key(w, "operators");
	jsonw_arr(w);
	for (int op = 0; op < OCI_CMP_COUNT; op++)
		jsonw_str(w, oci_seccomp_op_name((enum oci_seccomp_op)op));
	jsonw_end_arr(w);
	jsonw_key(w, "archs");
	jsonw_arr(w);
	for (size_t i = 0; (name = oci_seccomp_arch_name(i)); i++)
		jsonw_str(w, name);
	jsonw_end_arr(w);
	write_seccomp_flags(w, "knownFlags");
	write_seccomp_flags(w, "supportedFlags");
	jsonw_end_obj(w);
}

/* Whether the host has resctrl is asked when a container wants it. */
static void write_rdt(struct jsonw *w)
{
	jsonw_key(w, "intelRdt");
	jsonw_obj(w);
	jsonw_kbool(w, "enabled", true);
	jsonw_kbool(w, "schemata", true);
	jsonw_kbool(w, "monitoring", true);
	jsonw_end_obj(w);
}

static void write_policy(struct jsonw *w, const struct oci_features *f)
{
	if (!f->memory_modes)
		return;
	jsonw_key(w, "memoryPolicy");
	jsonw_obj(w);
	write_list(w, "modes", f->memory_modes);
	write_list(w, "flags", f->memory_flags);
	jsonw_end_obj(w);
}

static void write_linux(struct jsonw *w, const struct oci_features *f)
{
	jsonw_key(w, "linux");
	jsonw_obj(w);
	jsonw_key(w, "namespaces");
	jsonw_arr(w);
	for (int t = 0; t < OCI_NS_TYPES; t++)
		jsonw_str(w, oci_ns_name((enum oci_ns_type)t));
	jsonw_end_arr(w);
	jsonw_key(w, "capabilities");
	jsonw_arr(w);
	for (int c = 0; c < OCI_CAPS; c++)
		jsonw_str(w, oci_cap_name(c));
	jsonw_end_arr(w);
	jsonw_key(w, "cgroup");
	jsonw_obj(w);
	write_opt_bool(w, "v1", f->cgroup_v1);
	write_opt_bool(w, "v2", f->cgroup_v2);
	write_opt_bool(w, "systemd", f->cgroup_systemd);
	jsonw_kbool(w, "systemdUser", false);
	jsonw_kbool(w, "rdma", false);
	jsonw_end_obj(w);
	write_seccomp(w);
	write_enabled(w, "apparmor", true);
	write_enabled(w, "selinux", true);
	write_rdt(w);
	write_policy(w, f);
	write_enabled(w, "netDevices", true);
	jsonw_key(w, "mountExtensions");
	jsonw_obj(w);
	write_enabled(w, "idmap", true);
	jsonw_end_obj(w);
	jsonw_end_obj(w);
}

static void write_annotations(struct jsonw *w, const struct oci_features *f)
{
	jsonw_key(w, "annotations");
	jsonw_obj(w);
	jsonw_kstr(w, "io.husk.version", f->version);
	if (f->commit)
		jsonw_kstr(w, "io.husk.commit", f->commit);
	/* containerd and Docker look for this one, whatever the runtime is. */
	jsonw_kstr(w, "org.opencontainers.runc.checkpoint.enabled",
		   f->checkpoint ? "true" : "false");
	jsonw_end_obj(w);
}

/* Annotations that choose the sandbox or its size, or what systemd does with its scope. */
static const char *const unsafe_annotations[] = {
	"io.husk.",
	"io.kubernetes.cri.container-type",
	"io.kubernetes.cri.sandbox-id",
	"io.kubernetes.cri.sandbox-cpu-period",
	"io.kubernetes.cri.sandbox-cpu-quota",
	"io.kubernetes.cri.sandbox-cpu-shares",
	"io.kubernetes.cri.sandbox-memory",
	"io.kubernetes.cri-o.ContainerType",
	"io.kubernetes.cri-o.SandboxID",
	"org.systemd.property.",
	NULL,
};

static void write_features(struct jsonw *w, const struct oci_features *f)
{
	const char *name;

	jsonw_obj(w);
	jsonw_kstr(w, "ociVersionMin", OCI_VERSION_MIN);
	jsonw_kstr(w, "ociVersionMax", OCI_VERSION);
	jsonw_key(w, "hooks");
	jsonw_arr(w);
	for (int p = 0; p < OCI_HOOK_PHASES; p++)
		jsonw_str(w, oci_hook_name((enum oci_hook_phase)p));
	jsonw_end_arr(w);
	jsonw_key(w, "mountOptions");
	jsonw_arr(w);
	for (size_t i = 0; (name = mount_option_name(i)); i++)
		jsonw_str(w, name);
	jsonw_end_arr(w);
	write_linux(w, f);
	write_annotations(w, f);
	write_list(w, "potentiallyUnsafeConfigAnnotations", unsafe_annotations);
	jsonw_end_obj(w);
}

int oci_features_write(const struct oci_features *f, char **text, size_t *len, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *s;
	size_t n;

	if (jsonw_init(&w, true, err) < 0)
		return -1;
	yajl_gen_config(w.gen, yajl_gen_indent_string, "    ");
	write_features(&w, f);
	s = jsonw_finish(&w, &n, err);
	if (!s)
		return -1;
	*text = xstrdup(s);
	if (len)
		*len = n;
	return 0;
}
