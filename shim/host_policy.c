/*
 * What husk does with them: the guest's memory and processors are husk-vmm's (and QEMU's), so a
 * policy for the container's memory, or its share of the host's caches, is a policy for these
 * processes; it is taken before the first of them is executed, and inherited by all threads. A
 * profile or label of a security module confines the machine once it is made (vmm/jail.c), or at
 * its execve (QEMU): its start needs what profiles for containers forbid.
 */
#include "shim/host_policy.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "oci/validate.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#ifndef RDTGROUP_SUPER_MAGIC
#define RDTGROUP_SUPER_MAGIC 0x7655821
#endif
#define MPOL_PREFERRED_MANY_NR 5 /* of Linux 5.15 and 6.9; older headers have fewer */
#define MPOL_WEIGHTED_INTERLEAVE_NR 6

#define bad(err, ...) error_kind(err, ERR_INVALID, __VA_ARGS__)
#define refuse(err, ...) error_kind(err, ERR_UNSUPPORTED, __VA_ARGS__)

/* ---- security modules */

const char *host_policy_apparmor(const struct oci_process *p)
{
	return p->apparmor_profile && strcmp(p->apparmor_profile, "unconfined") != 0
		       ? p->apparmor_profile
		       : NULL;
}

const char *host_policy_selinux(const struct oci_process *p)
{
	return p->selinux_label;
}

static bool has_apparmor(void)
{
	cleanup_free char *text = NULL;

	return file_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 64, &text, NULL,
			 NULL) == 0 &&
	       text[0] == 'Y';
}

static bool has_selinux(void)
{
	struct statfs fs;

	return statfs("/sys/fs/selinux", &fs) == 0 && fs.f_type == SELINUX_MAGIC;
}

static int check_process(const struct oci_process *p, struct error *err)
{
	if (host_policy_apparmor(p) && !has_apparmor())
		return refuse(err,
			      "process.apparmorProfile: \"%s\": AppArmor is not enabled on this "
			      "host",
			      p->apparmor_profile);
	if (p->selinux_label && !has_selinux())
		return refuse(err,
			      "process.selinuxLabel: \"%s\": SELinux is not enabled on this host",
			      p->selinux_label);
	return 0;
}

static bool same(const char *a, const char *b)
{
	return !a || (b && strcmp(a, b) == 0);
}

int host_policy_check_exec(const struct oci_spec *spec, const struct oci_process *p,
			   struct error *err)
{
	if (check_process(p, err) < 0)
		return -1;
	if (!same(host_policy_apparmor(p), host_policy_apparmor(spec->process)))
		return refuse(err,
			      "process.apparmorProfile: \"%s\": the container's microVM has "
			      "another profile, and one only",
			      p->apparmor_profile);
	if (!same(p->selinux_label, spec->process->selinux_label))
		return refuse(err,
			      "process.selinuxLabel: \"%s\": the container's microVM has another "
			      "label, and one only",
			      p->selinux_label);
	return 0;
}

/* ---- memory policy */

struct number_name {
	const char *name;
	int number;
};

static const struct number_name modes[] = {
	{"MPOL_DEFAULT", MPOL_DEFAULT},
	{"MPOL_PREFERRED", MPOL_PREFERRED},
	{"MPOL_BIND", MPOL_BIND},
	{"MPOL_INTERLEAVE", MPOL_INTERLEAVE},
	{"MPOL_LOCAL", MPOL_LOCAL},
	{"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY_NR},
	{"MPOL_WEIGHTED_INTERLEAVE", MPOL_WEIGHTED_INTERLEAVE_NR},
	{NULL, 0},
};

static const struct number_name mode_flags[] = {
	{"MPOL_F_STATIC_NODES", 1 << 15},
	{"MPOL_F_RELATIVE_NODES", 1 << 14},
	{"MPOL_F_NUMA_BALANCING", 1 << 13},
	{NULL, 0},
};

void memory_policy_names(const char *mode_names[POLICY_NAMES_MAX],
			 const char *flag_names[POLICY_NAMES_MAX])
{
	_Static_assert(ARRAY_LEN(modes) <= POLICY_NAMES_MAX &&
			       ARRAY_LEN(mode_flags) <= POLICY_NAMES_MAX,
		       "all have room");
	for (const struct number_name *n = modes; n->name; n++)
		*mode_names++ = n->name;
	for (const struct number_name *n = mode_flags; n->name; n++)
		*flag_names++ = n->name;
}

static const struct number_name *find_name(const struct number_name *names, const char *name)
{
	for (; names->name; names++)
		if (strcmp(names->name, name) == 0)
			return names;
	return NULL;
}

static int set_nodes(const char *list, struct memory_policy *p, struct error *err)
{
	if (!oci_is_cpu_list(list))
		return bad(err, "linux.memoryPolicy.nodes: \"%s\": not a list of memory nodes",
			   list);
	while (*list) {
		char *end;
		unsigned long a = strtoul(list, &end, 10), b = a;

		if (*end == '-')
			b = strtoul(end + 1, &end, 10);
		if (a > b || b >= POLICY_NODES_MAX)
			return bad(err, "linux.memoryPolicy.nodes: \"%s\": out of range", list);
		for (; a <= b; a++)
			p->nodes[a / (8 * sizeof(long))] |= 1ul << a % (8 * sizeof(long));
		list = end + strspn(end, ", ");
	}
	return 0;
}

int memory_policy_parse(const struct oci_memory_policy *m, struct memory_policy *p,
			struct error *err)
{
	const struct number_name *n = find_name(modes, m->mode);

	*p = (struct memory_policy){0};
	if (!n)
		return bad(err, "linux.memoryPolicy.mode: \"%s\": unknown mode", m->mode);
	p->mode = n->number;
	for (size_t i = 0; i < m->n_flags; i++) {
		n = find_name(mode_flags, m->flags[i]);
		if (!n)
			return bad(err, "linux.memoryPolicy.flags[%zu]: \"%s\": unknown flag", i,
				   m->flags[i]);
		p->mode |= n->number;
	}
	return m->nodes ? set_nodes(m->nodes, p, err) : 0;
}

static int enter_memory_policy(const struct oci_memory_policy *m, struct error *err)
{
	struct memory_policy p;

	if (memory_policy_parse(m, &p, err) < 0)
		return -1;
	/* One more than there are bits: the kernel takes one off. */
	if (syscall(SYS_set_mempolicy, p.mode, m->nodes ? p.nodes : NULL,
		    m->nodes ? POLICY_NODES_MAX + 1 : 0) < 0)
		return error_errno(err, "linux.memoryPolicy: set_mempolicy (%s, nodes %s)", m->mode,
				   m->nodes ? m->nodes : "none");
	return 0;
}

/* ---- resctrl */

static bool has_schemata(const struct oci_intel_rdt *r)
{
	return r->n_schemata || r->l3_cache_schema || r->mem_bw_schema;
}

/* A group that config.json names is somebody's; without a name it is ours, as is that of the whole
 * machine, "/". */
static char *group_path(const char *root, const struct oci_intel_rdt *r, const char *id)
{
	if (r->clos_id && strcmp(r->clos_id, "/") == 0)
		return xstrdup(root);
	return xasprintf("%s/%s", root, r->clos_id ? r->clos_id : id);
}

static bool is_monitored(const struct oci_intel_rdt *r)
{
	return r->enable_cmt || r->enable_mbm || r->enable_monitoring;
}

static int put(const char *dir, const char *file, const char *text, struct error *err)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, file);

	return file_put(AT_FDCWD, path, text, err);
}

static int put_line(const char *dir, const char *field, const char *line, struct error *err)
{
	cleanup_free char *text = xasprintf("%s\n", line);

	return put(dir, "schemata", text, err) < 0
		       ? error_wrap(err, "linux.intelRdt.%s: \"%s\"", field, line)
		       : 0;
}

static int put_schemata(const char *dir, const struct oci_intel_rdt *r, struct error *err)
{
	if (r->l3_cache_schema && put_line(dir, "l3CacheSchema", r->l3_cache_schema, err) < 0)
		return -1;
	if (r->mem_bw_schema && put_line(dir, "memBwSchema", r->mem_bw_schema, err) < 0)
		return -1;
	for (size_t i = 0; i < r->n_schemata; i++)
		if (put_line(dir, "schemata", r->schemata[i], err) < 0)
			return -1;
	return 0;
}

int rdt_enter(const char *root, const struct oci_intel_rdt *r, const char *id, struct error *err)
{
	cleanup_free char *dir = group_path(root, r, id);
	cleanup_free char *monitor = xasprintf("%s/mon_groups/%s", dir, id);
	bool is_new = mkdir(dir, 0755) == 0;
	char pid[16];

	if (!is_new && errno != EEXIST)
		return error_errno(err, "linux.intelRdt: mkdir %s", dir);
	if (is_new && r->clos_id && !has_schemata(r)) {
		rmdir(dir);
		return bad(err,
			   "linux.intelRdt.closID: \"%s\": there is no such group, and no schema "
			   "to make it with",
			   r->clos_id);
	}
	if (put_schemata(dir, r, err) < 0)
		return -1;
	snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	if (put(dir, "tasks", pid, err) < 0)
		return error_wrap(err, "linux.intelRdt");
	if (!is_monitored(r))
		return 0;
	if (mkdir(monitor, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "linux.intelRdt: mkdir %s", monitor);
	return put(monitor, "tasks", pid, err) < 0 ? error_wrap(err, "linux.intelRdt") : 0;
}

static void remove_group(const char *path)
{
	if (rmdir(path) < 0 && errno != ENOENT)
		log_warn("linux.intelRdt: remove %s: %s", path, strerror(errno));
}

void rdt_leave(const char *root, const struct oci_intel_rdt *r, const char *id)
{
	cleanup_free char *dir = group_path(root, r, id);
	cleanup_free char *monitor = xasprintf("%s/mon_groups/%s", dir, id);

	if (is_monitored(r))
		remove_group(monitor);
	if (!r->clos_id)
		remove_group(dir);
}

static int check_rdt(const struct oci_intel_rdt *r, struct error *err)
{
	struct statfs fs;

	if (r->clos_id && strcmp(r->clos_id, "/") != 0 &&
	    (strchr(r->clos_id, '/') || r->clos_id[0] == '.'))
		return bad(err, "linux.intelRdt.closID: \"%s\": not a name", r->clos_id);
	if (statfs(RESCTRL_DIR, &fs) < 0 || fs.f_type != RDTGROUP_SUPER_MAGIC)
		return refuse(err, "linux.intelRdt: resctrl is not mounted on " RESCTRL_DIR
				   ": this host has no Intel RDT, or has not enabled it");
	return 0;
}

/* ---- all together */

int host_policy_check(const struct oci_spec *spec, struct error *err)
{
	const struct oci_linux *l = &spec->lnx;
	struct memory_policy p;

	if (check_process(spec->process, err) < 0)
		return -1;
	if (l->mount_label && !has_selinux())
		return refuse(err, "linux.mountLabel: \"%s\": SELinux is not enabled on this host",
			      l->mount_label);
	if (l->memory_policy && memory_policy_parse(l->memory_policy, &p, err) < 0)
		return -1;
	return l->intel_rdt ? check_rdt(l->intel_rdt, err) : 0;
}

int host_policy_check_joins(const struct oci_spec *spec, struct error *err)
{
	static const char why[] = "the microVM of the pod was made before: only its sandbox can "
				  "choose";

	if (spec->lnx.memory_policy)
		return refuse(err, "linux.memoryPolicy: %s", why);
	if (spec->lnx.intel_rdt)
		return refuse(err, "linux.intelRdt: %s", why);
	if (spec->lnx.n_net_devices > 0)
		return refuse(err, "linux.netDevices[\"%s\"]: %s",
			      spec->lnx.net_devices[0].host_name, why);
	if (host_policy_apparmor(spec->process) || spec->process->selinux_label)
		log_info("process.%s: the pod's microVM has that of its sandbox",
			 spec->process->selinux_label ? "selinuxLabel" : "apparmorProfile");
	return 0;
}

int host_policy_enter(const struct oci_spec *spec, const char *id, struct error *err)
{
	const struct oci_linux *l = &spec->lnx;

	if (l->memory_policy && enter_memory_policy(l->memory_policy, err) < 0)
		return -1;
	return l->intel_rdt ? rdt_enter(RESCTRL_DIR, l->intel_rdt, id, err) : 0;
}

void host_policy_leave(const struct oci_spec *spec, const char *id)
{
	if (spec->lnx.intel_rdt)
		rdt_leave(RESCTRL_DIR, spec->lnx.intel_rdt, id);
}
