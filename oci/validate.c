#include "oci/validate.h"
#include "oci/caps.h"
#include "oci/mount_options.h"
#include "oci/spec_names.h"
#include "oci/unsupported.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <inttypes.h>
#include <string.h>

#define bad(err, ...) error_kind(err, ERR_INVALID, __VA_ARGS__)

#define HOSTNAME_MAX 64 /* __NEW_UTS_LEN */

/* ---- small syntaxes */

static bool semver_identifiers(const char *s, size_t n)
{
	bool empty = true;

	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (c == '.' && empty)
			return false;
		if (c != '.' && c != '-' && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') &&
		    !(c >= 'A' && c <= 'Z'))
			return false;
		empty = c == '.';
	}
	return !empty;
}

/* Skips a number without superfluous zeros; NULL if there is none. */
static const char *semver_number(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n == 0 || (n > 1 && s[0] == '0') ? NULL : s + n;
}

bool oci_version_supported(const char *version)
{
	const char *s = version;
	size_t n;

	if (strncmp(s, "1.", 2) != 0 || !(s = semver_number(s + 2)) || *s++ != '.' ||
	    !(s = semver_number(s)))
		return false;
	if (*s == '-') {
		n = strcspn(s, "+") - 1;
		if (!semver_identifiers(s + 1, n))
			return false;
		s += n + 1;
	}
	return *s == '\0' || (*s == '+' && semver_identifiers(s + 1, strlen(s + 1)));
}

char *oci_sysctl_path(const char *name)
{
	cleanup_free char *path = xstrdup(name);
	char first = name[strcspn(name, "./")];
	char *part = path;

	for (char *p = path;; p++) {
		if (first == '.' && (*p == '.' || *p == '/'))
			*p = *p == '.' ? '/' : '.';
		if (*p != '/' && *p != '\0')
			continue;
		/* a part ends here */
		if (p == part || (p - part == 1 && part[0] == '.') ||
		    (p - part == 2 && part[0] == '.' && part[1] == '.'))
			return NULL;
		if (*p == '\0')
			return steal_ptr(&path);
		part = p + 1;
	}
}

bool oci_is_cpu_list(const char *s)
{
	for (;;) {
		size_t n = strspn(s, "0123456789");

		if (n == 0)
			return false;
		s += n;
		if (*s == '-') {
			n = strspn(++s, "0123456789");
			if (n == 0)
				return false;
			s += n;
		}
		if (*s == '\0')
			return true;
		if (*s++ != ',')
			return false;
		s += strspn(s, " ");
	}
}

/* ---- process */

static int check_env(const struct oci_process *p, struct error *err)
{
	for (size_t i = 0; i < p->n_env; i++) {
		const char *eq = strchr(p->env[i], '=');

		if (!eq)
			return bad(err, "process.env[%zu]: invalid environment variable: \"%s\"", i,
				   p->env[i]);
		if (eq == p->env[i])
			return bad(err,
				   "process.env[%zu]: environment variable name can't be empty: "
				   "\"%s\"",
				   i, p->env[i]);
	}
	return 0;
}

static int check_rlimits(const struct oci_process *p, struct error *err)
{
	uint64_t seen = 0;

	for (size_t i = 0; i < p->n_rlimits; i++) {
		const struct oci_rlimit *l = &p->rlimits[i];

		if (seen & (UINT64_C(1) << l->resource))
			return bad(err, "process.rlimits[%zu].type: \"%s\" is given twice", i,
				   oci_rlimit_name(l->resource));
		seen |= UINT64_C(1) << l->resource;
		if (l->soft > l->hard)
			return bad(err,
				   "process.rlimits[%zu]: %s: soft limit %" PRIu64
				   " is above hard limit %" PRIu64,
				   i, oci_rlimit_name(l->resource), l->soft, l->hard);
	}
	return 0;
}

static int check_scheduler(const struct oci_scheduler *s, struct error *err)
{
	const char *policy;

	if (!s)
		return 0;
	policy = name_of(oci_sched_policies, s->policy);
	if ((strcmp(policy, "SCHED_OTHER") == 0 || strcmp(policy, "SCHED_BATCH") == 0) &&
	    (s->nice < -20 || s->nice > 19))
		return bad(err, "process.scheduler.nice: %d is out of range (-20 to 19)", s->nice);
	if (s->priority != 0 && strcmp(policy, "SCHED_FIFO") != 0 &&
	    strcmp(policy, "SCHED_RR") != 0)
		return bad(err, "process.scheduler.priority: can only be specified for SCHED_FIFO "
				"or SCHED_RR");
	if (s->priority < 0 || s->priority > 99)
		return bad(err, "process.scheduler.priority: %d is out of range (0 to 99)",
			   s->priority);
	if ((s->runtime_ns || s->deadline_ns || s->period_ns) &&
	    strcmp(policy, "SCHED_DEADLINE") != 0)
		return bad(err, "process.scheduler: runtime, deadline and period can only be "
				"specified for SCHED_DEADLINE");
	return 0;
}

int oci_process_validate(const struct oci_process *p, struct error *err)
{
	if (!p->cwd)
		return bad(err, "process.cwd: property must not be empty");
	if (p->cwd[0] != '/')
		return bad(err, "process.cwd: \"%s\" must be an absolute path", p->cwd);
	if (p->n_args == 0)
		return bad(err, "process.args: must not be empty");
	if (!p->args[0][0])
		return bad(err, "process.args[0]: must not be empty");
	if (check_env(p, err) < 0 || check_rlimits(p, err) < 0 ||
	    check_scheduler(p->scheduler, err) < 0)
		return -1;
	if (p->exec_cpu_affinity_initial && !oci_is_cpu_list(p->exec_cpu_affinity_initial))
		return bad(err, "process.execCPUAffinity.initial: \"%s\": not a list of CPUs",
			   p->exec_cpu_affinity_initial);
	if (p->exec_cpu_affinity_final && !oci_is_cpu_list(p->exec_cpu_affinity_final))
		return bad(err, "process.execCPUAffinity.final: \"%s\": not a list of CPUs",
			   p->exec_cpu_affinity_final);
	return 0;
}

/* ---- namespaces and what hangs on them */

static int check_namespaces(const struct oci_linux *l, struct error *err)
{
	unsigned seen = 0;

	for (size_t i = 0; i < l->n_namespaces; i++) {
		const struct oci_namespace *ns = &l->namespaces[i];

		if (seen & (1u << ns->type))
			return bad(err, "linux.namespaces[%zu]: duplicate \"%s\" namespace", i,
				   oci_ns_name(ns->type));
		seen |= 1u << ns->type;
		if (ns->path && ns->path[0] != '/')
			return bad(err,
				   "linux.namespaces[%zu].path: \"%s\" must be an absolute path", i,
				   ns->path);
	}
	return 0;
}

static int check_mappings(const struct oci_id_mapping *m, size_t n, const char *path,
			  struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		const uint64_t end = UINT64_C(1) << 32;

		if (m[i].size == 0)
			return bad(err, "%s[%zu].size: must not be zero", path, i);
		if ((uint64_t)m[i].container_id + m[i].size > end ||
		    (uint64_t)m[i].host_id + m[i].size > end)
			return bad(err, "%s[%zu]: reaches beyond the last id", path, i);
	}
	return 0;
}

static int check_user_namespace(const struct oci_spec *s, struct error *err)
{
	const struct oci_linux *l = &s->lnx;
	const struct oci_namespace *user = oci_spec_namespace(s, OCI_NS_USER);

	if (!user && l->n_uid_mappings + l->n_gid_mappings > 0)
		return bad(err,
			   "linux.%s: user namespace mappings specified, but user namespace isn't "
			   "enabled in the config",
			   l->n_uid_mappings ? "uidMappings" : "gidMappings");
	if (user && !user->path && (l->n_uid_mappings == 0 || l->n_gid_mappings == 0))
		return bad(err, "linux.%s: user namespaces enabled, but no mappings found",
			   l->n_uid_mappings ? "gidMappings" : "uidMappings");
	if (check_mappings(l->uid_mappings, l->n_uid_mappings, "linux.uidMappings", err) < 0)
		return -1;
	return check_mappings(l->gid_mappings, l->n_gid_mappings, "linux.gidMappings", err);
}

static int check_names(const struct oci_spec *s, struct error *err)
{
	bool uts = oci_spec_namespace(s, OCI_NS_UTS) != NULL;

	if (s->hostname && !uts)
		return bad(err, "hostname: unable to set hostname without a private UTS namespace");
	if (s->domainname && !uts)
		return bad(err,
			   "domainname: unable to set domainname without a private UTS namespace");
	if (s->hostname && strlen(s->hostname) > HOSTNAME_MAX)
		return bad(err, "hostname: longer than %d bytes", HOSTNAME_MAX);
	if (s->domainname && strlen(s->domainname) > HOSTNAME_MAX)
		return bad(err, "domainname: longer than %d bytes", HOSTNAME_MAX);
	return 0;
}

static int check_paths(char *const *paths, size_t n, const char *what, bool mount_ns,
		       struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (paths[i][0] != '/')
			return bad(err, "linux.%s[%zu]: \"%s\" must be an absolute path", what, i,
				   paths[i]);
	if (n > 0 && !mount_ns)
		return bad(err,
			   "linux.%s: unable to restrict sys entries without a private MNT "
			   "namespace",
			   what);
	return 0;
}

static int check_sysctl(const struct oci_linux *l, struct error *err)
{
	for (size_t i = 0; i < l->n_sysctl; i++) {
		cleanup_free char *path = oci_sysctl_path(l->sysctl[i].key);

		if (!path)
			return bad(err, "linux.sysctl[\"%s\"]: not a sysctl", l->sysctl[i].key);
		if (strcmp(path, "kernel/hostname") == 0)
			return bad(err,
				   "linux.sysctl: sysctl \"%s\" is not allowed as it conflicts "
				   "with the OCI \"hostname\" field",
				   l->sysctl[i].key);
	}
	return 0;
}

static int check_devices(const struct oci_linux *l, struct error *err)
{
	for (size_t i = 0; i < l->n_devices; i++)
		if (l->devices[i].path[0] != '/')
			return bad(err, "linux.devices[%zu].path: \"%s\" must be an absolute path",
				   i, l->devices[i].path);
	return 0;
}

static int check_seccomp(const struct oci_seccomp *s, struct error *err)
{
	for (size_t i = 0; s && i < s->n_rules; i++) {
		const struct oci_seccomp_rule *r = &s->rules[i];

		if (r->n_names == 0)
			return bad(err, "linux.seccomp.syscalls[%zu].names: must not be empty", i);
		for (size_t j = 0; j < r->n_names; j++)
			if (!r->names[j][0])
				return bad(err,
					   "linux.seccomp.syscalls[%zu].names[%zu]: must not be "
					   "empty",
					   i, j);
	}
	return 0;
}

static int check_linux(const struct oci_spec *s, struct error *err)
{
	const struct oci_linux *l = &s->lnx;
	bool mount_ns = oci_spec_namespace(s, OCI_NS_MOUNT) != NULL;

	if (check_namespaces(l, err) < 0 || check_names(s, err) < 0 ||
	    check_user_namespace(s, err) < 0)
		return -1;
	if (l->has_time_offsets && !oci_spec_namespace(s, OCI_NS_TIME))
		return bad(err, "linux.timeOffsets: time namespace offsets specified, but time "
				"namespace isn't enabled in the config");
	if (check_paths(l->masked_paths, l->n_masked_paths, "maskedPaths", mount_ns, err) < 0 ||
	    check_paths(l->readonly_paths, l->n_readonly_paths, "readonlyPaths", mount_ns, err) <
		    0 ||
	    check_sysctl(l, err) < 0 || check_devices(l, err) < 0 ||
	    check_seccomp(l->seccomp, err) < 0)
		return -1;
	return l->resources ? oci_resources_validate(l->resources, "linux.resources", err) : 0;
}

/* ---- the rest */

/* Either list alone would leave the other ids without any. */
static int check_idmap(const struct oci_spec *s, const struct oci_mount *m, size_t i,
		       struct error *err)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;

	if (!m->n_uid_mappings != !m->n_gid_mappings)
		return bad(err, "mounts[%zu].%s: %s: uidMappings and gidMappings go together", i,
			   m->n_uid_mappings ? "gidMappings" : "uidMappings", m->destination);
	mount_options_parse(m->options, m->n_options, &o);
	if (o.idmap != MOUNT_IDMAP_NONE && !m->n_uid_mappings && s->lnx.n_uid_mappings == 0)
		return bad(err,
			   "mounts[%zu].options: %s: idmap: neither the mount nor a user "
			   "namespace has mappings",
			   i, m->destination);
	return 0;
}

static int check_mounts(const struct oci_spec *s, struct error *err)
{
	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct oci_mount *m = &s->mounts[i];
		char path[64];

		if ((oci_mount_is_bind(m) || oci_mount_is_volume(m)) &&
		    (!m->source || !m->source[0]))
			return bad(err, "mounts[%zu].source: %s: a %s needs one", i, m->destination,
				   oci_mount_is_bind(m) ? "bind mount" : "volume");
		snprintf(path, sizeof(path), "mounts[%zu].uidMappings", i);
		if (check_mappings(m->uid_mappings, m->n_uid_mappings, path, err) < 0)
			return -1;
		snprintf(path, sizeof(path), "mounts[%zu].gidMappings", i);
		if (check_mappings(m->gid_mappings, m->n_gid_mappings, path, err) < 0 ||
		    check_idmap(s, m, i, err) < 0)
			return -1;
	}
	return 0;
}

static int check_hooks(const struct oci_spec *s, struct error *err)
{
	for (int p = 0; p < OCI_HOOK_PHASES; p++)
		for (size_t i = 0; i < s->hooks[p].n; i++)
			if (s->hooks[p].v[i].path[0] != '/')
				return bad(err,
					   "hooks.%s[%zu].path: \"%s\" must be an absolute path",
					   oci_hook_name((enum oci_hook_phase)p), i,
					   s->hooks[p].v[i].path);
	return 0;
}

static int check_annotations(const struct oci_spec *s, struct error *err)
{
	for (size_t i = 0; i < s->n_annotations; i++)
		if (!s->annotations[i].key[0])
			return bad(err, "annotations: a key must not be empty");
	return 0;
}

int oci_spec_validate(const struct oci_spec *s, struct error *err)
{
	if (!s->oci_version)
		return bad(err, "ociVersion: property must not be empty");
	if (!oci_version_supported(s->oci_version))
		return bad(err, "ociVersion: \"%s\": unsupported version", s->oci_version);
	if (!s->process)
		return bad(err, "process: property must not be empty");
	if (!s->has_root)
		return bad(err, "root: property must not be empty");
	if (!s->root_path)
		return bad(err, "root.path: property must not be empty");
	if (!s->has_linux)
		return bad(err, "linux: property must not be empty");
	if (oci_process_validate(s->process, err) < 0 || check_linux(s, err) < 0 ||
	    check_mounts(s, err) < 0 || check_hooks(s, err) < 0)
		return -1;
	return check_annotations(s, err);
}

static void warn_ambient(const struct oci_capabilities *c)
{
	uint64_t lost = c->ambient & ~(c->permitted & c->inheritable);

	for (int i = 0; i < 64; i++)
		if (lost >> i & 1)
			log_warn(
				"process.capabilities.ambient: ignoring %s: not both permitted and "
				"inheritable",
				oci_cap_name(i));
}

void oci_spec_warn(const struct oci_spec *s)
{
	const struct oci_capabilities *c = s->process ? s->process->capabilities : NULL;
	const struct oci_resources *r = s->lnx.resources;

	for (size_t i = 0; c && i < c->n_unknown; i++)
		log_warn("process.capabilities: ignoring unknown capability \"%s\"", c->unknown[i]);
	if (c)
		warn_ambient(c);
	for (size_t i = 0; i < s->n_mounts; i++)
		if (s->mounts[i].destination[0] != '/')
			log_warn(
				"mounts[%zu].destination: \"%s\" is not absolute, taken as below /",
				i, s->mounts[i].destination);
	if (s->lnx.n_devices > 0 && oci_spec_all_devices(s))
		log_warn("linux.devices: all devices are allowed: the container gets those of its "
			 "microVM, none of the host's but disks that have a name of their own in "
			 "the container (--device /dev/sdX:/dev/disk)");
	if (r && (r->memory.kernel.has || r->memory.kernel_tcp.has))
		log_warn("linux.resources.memory: kernel memory limits are obsolete and ignored");
}
