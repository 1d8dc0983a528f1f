#include "oci/unsupported.h"
#include "oci/mount_options.h"
#include "oci/pod.h"
#include "oci/spec_names.h"
#include "lib/cleanup.h"

#include <string.h>
#include <sys/mount.h>

#define refuse(err, ...) error_kind(err, ERR_UNSUPPORTED, __VA_ARGS__)

/* ---- process */

int oci_process_supported(const struct oci_process *p, struct error *err)
{
	if (p->scheduler && p->scheduler->policy == OCI_SCHED_ISO)
		return refuse(err, "process.scheduler.policy: Linux has no SCHED_ISO");
	return 0;
}

/* ---- mounts */

/* Filesystems that the guest's kernel makes out of nothing: their source is only a name. */
static const char *const guest_filesystems[] = {
	"proc",	   "sysfs",	"tmpfs",   "devpts",   "mqueue",      "cgroup",
	"cgroup2", "ramfs",	"debugfs", "tracefs",  "securityfs",  "configfs",
	"bpf",	   "hugetlbfs", "fusectl", "devtmpfs", "binfmt_misc",
};

static bool is_guest_filesystem(const char *type)
{
	for (size_t i = 0; i < ARRAY_LEN(guest_filesystems); i++)
		if (strcmp(guest_filesystems[i], type) == 0)
			return true;
	return false;
}

/* Filesystems on a disk of the host that the guest's kernel knows. */
static const char *const disk_filesystems[] = {"ext4", "xfs", "erofs", "squashfs"};

bool oci_mount_is_bind(const struct oci_mount *m)
{
	if (m->type && strcmp(m->type, "bind") == 0)
		return true;
	for (size_t i = 0; i < m->n_options; i++)
		if (strcmp(m->options[i], "bind") == 0 || strcmp(m->options[i], "rbind") == 0)
			return true;
	return false;
}

bool oci_mount_is_volume(const struct oci_mount *m)
{
	if (!m->type || oci_mount_is_bind(m))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(disk_filesystems); i++)
		if (strcmp(disk_filesystems[i], m->type) == 0)
			return true;
	return false;
}

/* A mount of the host that appears later cannot appear in the guest, nor the other way round. */
static int check_host_mount(const struct oci_mount *m, size_t i, const struct mount_options *o,
			    struct error *err)
{
	for (size_t k = 0; k < o->n_propagation; k++)
		if (o->propagation[k] & (MS_SHARED | MS_SLAVE))
			return refuse(err,
				      "mounts[%zu].options: %s: %s%s: propagation from the host "
				      "cannot reach a microVM",
				      i, m->destination, o->propagation[k] & MS_REC ? "r" : "",
				      o->propagation[k] & MS_SHARED ? "shared" : "slave");
	if (o->flags & MS_REMOUNT)
		return refuse(err,
			      "mounts[%zu].options: %s: remount: a mount that is there cannot be "
			      "changed by a mount",
			      i, m->destination);
	return 0;
}

static int check_mount(const struct oci_mount *m, size_t i, struct error *err)
{
	cleanup_mount_options struct mount_options o = MOUNT_OPTIONS_INIT;
	bool host = oci_mount_is_bind(m) || oci_mount_is_volume(m);

	if (!host && !m->type)
		return refuse(err, "mounts[%zu].type: %s: a mount without a type is not supported",
			      i, m->destination);
	if (!host && !is_guest_filesystem(m->type))
		return refuse(err,
			      "mounts[%zu].type: %s: \"%s\": the guest's kernel does not have this "
			      "filesystem",
			      i, m->destination, m->type);
	mount_options_parse(m->options, m->n_options, &o);
	if (!host && (m->n_uid_mappings || o.idmap != MOUNT_IDMAP_NONE))
		return refuse(err,
			      "mounts[%zu].%s: %s: id-mapped mounts are only supported for bind "
			      "mounts and volumes",
			      i, m->n_uid_mappings ? "uidMappings" : "options", m->destination);
	return host ? check_host_mount(m, i, &o, err) : 0;
}

/* ---- linux */

/* Whose path may be named: the containers of a pod have some in common, in the guest. */
static bool may_have_path(enum oci_pod_role role, enum oci_ns_type type)
{
	switch (type) {
	case OCI_NS_NETWORK:
		return true;
	case OCI_NS_IPC:
	case OCI_NS_UTS:
		return role != OCI_POD_SINGLE;
	case OCI_NS_PID:
	case OCI_NS_USER:
		return role == OCI_POD_JOINS;
	default:
		return false;
	}
}

static int check_namespaces(const struct oci_spec *s, struct error *err)
{
	struct oci_pod pod;

	if (oci_pod_role(s, &pod, err) < 0)
		return -1;
	for (size_t i = 0; i < s->lnx.n_namespaces; i++) {
		const struct oci_namespace *ns = &s->lnx.namespaces[i];

		if (ns->path && !may_have_path(pod.role, ns->type))
			return refuse(err,
				      "linux.namespaces[%zu].path: \"%s\": a microVM cannot join a "
				      "%s namespace of the host",
				      i, ns->path, oci_ns_name(ns->type));
	}
	if (pod.role != OCI_POD_SINGLE && !oci_spec_namespace(s, OCI_NS_PID))
		return refuse(err, "linux.namespaces: a pid namespace is needed: a pod's microVM "
				   "cannot share the host's (Kubernetes: no hostPID)");
	if (pod.role != OCI_POD_SINGLE && !oci_spec_namespace(s, OCI_NS_IPC))
		return refuse(err, "linux.namespaces: an ipc namespace is needed: a pod's microVM "
				   "cannot share the host's (Kubernetes: no hostIPC)");
	if (!oci_spec_namespace(s, OCI_NS_NETWORK))
		return refuse(err,
			      "linux.namespaces: a network namespace is needed: a microVM "
			      "cannot share the host's network: give the container one of its "
			      "own (docker, podman: another --network than host; Kubernetes: no "
			      "hostNetwork), or run it with runc");
	return 0;
}

static int check_seccomp(const struct oci_seccomp *s, struct error *err)
{
	static const char why[] = "a guest cannot reach a seccomp listener on the host";

	if (!s)
		return 0;
	if (s->default_action == OCI_ACT_NOTIFY)
		return refuse(err, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY: %s", why);
	for (size_t i = 0; i < s->n_rules; i++)
		if (s->rules[i].action == OCI_ACT_NOTIFY)
			return refuse(err,
				      "linux.seccomp.syscalls[%zu].action: SCMP_ACT_NOTIFY: %s", i,
				      why);
	if (s->listener_path)
		return refuse(err, "linux.seccomp.listenerPath: \"%s\": %s", s->listener_path, why);
	if (s->listener_metadata)
		return refuse(err, "linux.seccomp.listenerMetadata: %s", why);
	return 0;
}

/* Files of a cgroup that are limits or weights, not ways to run it. */
static bool unified_known(const char *key)
{
	static const char *const controllers[] = {"cpu.", "memory.", "pids.", "io.", "hugetlb."};
	/* A partition of processors is the host's affair. */
	static const char *const single[] = {"cpuset.cpus", "cpuset.mems", "cgroup.max.depth",
					     "cgroup.max.descendants"};

	for (size_t i = 0; i < ARRAY_LEN(controllers); i++)
		if (strncmp(key, controllers[i], strlen(controllers[i])) == 0)
			return true;
	for (size_t i = 0; i < ARRAY_LEN(single); i++)
		if (strcmp(key, single[i]) == 0)
			return true;
	return false;
}

/* What only cgroup v1 had, and the guest's cgroups are v2. Zero asks for nothing. */
static int check_cgroup_v1_only(const struct oci_resources *r, const char *path, struct error *err)
{
	const char *field = NULL;

	if (r->memory.disable_oom_killer.v)
		field = "memory.disableOOMKiller";
	else if (r->memory.swappiness.has)
		field = "memory.swappiness";
	else if (r->cpu.realtime_runtime_us.v != 0)
		field = "cpu.realtimeRuntime";
	else if (r->cpu.realtime_period_us.v != 0)
		field = "cpu.realtimePeriod";
	else if (r->block_io.leaf_weight.v != 0)
		field = "blockIO.leafWeight";
	for (size_t i = 0; i < r->block_io.n_weight_devices; i++)
		if (r->block_io.weight_devices[i].leaf_weight.v != 0)
			field = "blockIO.weightDevice.leafWeight";
	return field ? refuse(err, "%s.%s: cgroup v2 has no such limit", path, field) : 0;
}

int oci_resources_supported(const struct oci_resources *r, const char *path, struct error *err)
{
	/* The host's kernel marks what the sockets of a cgroup send, not what comes out of a TAP.
	 */
	static const char no_sockets[] =
		"a microVM's packets come from no socket of its cgroup, so that it cannot mark "
		"them: use tc on its network interface";

	if (check_cgroup_v1_only(r, path, err) < 0)
		return -1;
	if (r->net_class_id.has && r->net_class_id.v != 0)
		return refuse(err, "%s.network.classID: %s", path, no_sockets);
	if (r->n_net_priorities > 0)
		return refuse(err, "%s.network.priorities: %s", path, no_sockets);
	if (r->n_rdma > 0)
		return refuse(err, "%s.rdma: a microVM has no RDMA devices", path);
	for (size_t i = 0; i < r->n_unified; i++)
		if (!unified_known(r->unified[i].key))
			return refuse(err, "%s.unified[\"%s\"]: unknown resource", path,
				      r->unified[i].key);
	return 0;
}

static int check_linux(const struct oci_spec *s, struct error *err)
{
	const struct oci_linux *l = &s->lnx;

	if (check_namespaces(s, err) < 0 || check_seccomp(l->seccomp, err) < 0)
		return -1;
	return l->resources ? oci_resources_supported(l->resources, "linux.resources", err) : 0;
}

/* Which hypervisor, kernel and size there may be is the host's to say (shim/choice.h,
 * machine_size.h). */
static int check_vm(const struct oci_vm *vm, struct error *err)
{
	if (vm->n_hypervisor_parameters > 0)
		return refuse(err,
			      "vm.hypervisor.parameters: the hypervisor's arguments are husk's "
			      "alone, as its jail depends on them");
	if (vm->image_path || vm->image_format)
		return refuse(err, "vm.image: the root file system is root.path's: mount the image "
				   "there (ext4, xfs, erofs or squashfs), and its device is the "
				   "guest's");
	if (vm->hw_device_tree)
		return refuse(err, "vm.hwConfig.deviceTree: the machine has none");
	if (vm->n_hw_dtdevs > 0 || vm->n_hw_iomems > 0 || vm->n_hw_irqs > 0)
		return refuse(err, "vm.hwConfig.%s: devices of the host are not handed to a guest",
			      vm->n_hw_dtdevs	? "dtdevs"
			      : vm->n_hw_iomems ? "iomems"
						: "irqs");
	return 0;
}

int oci_spec_supported(const struct oci_spec *s, struct error *err)
{
	if (s->vm && check_vm(s->vm, err) < 0)
		return -1;
	if (s->process && oci_process_supported(s->process, err) < 0)
		return -1;
	for (size_t i = 0; i < s->n_mounts; i++)
		if (check_mount(&s->mounts[i], i, err) < 0)
			return -1;
	return check_linux(s, err);
}
