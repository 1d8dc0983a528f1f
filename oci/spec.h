/*
 * spec.h - the typed form of config.json (OCI runtime-spec 1.2, and of 1.3 linux.netDevices,
 * linux.memoryPolicy and vm.hwConfig).
 *
 * How to read it:
 *
 *  - an optional number or truth value is a struct oci_opt_*: `.has` says whether it was given;
 *  - an optional object is a pointer, NULL when absent, or (where all its members are optional) a
 *    member by value;
 *  - an optional string is NULL when absent; an empty one counts as absent, as it does in runc. All
 *    strings are valid C strings (no NUL inside), malloc'ed, and owned by the struct they are in;
 *  - a list of strings is a `char **` with a NULL behind its last element and a count; an empty or
 *    absent list is NULL and 0. Other lists are an array and a count;
 *  - names with a fixed set of values (namespaces, capabilities, rlimits, seccomp, schedulers) are
 *    numbers here: an unknown name is refused while parsing, with its field; an unknown capability
 *    is set aside in oci_capabilities.unknown (runc ignores it with a warning);
 *  - unknown properties are ignored ("Extensibility", config.md); a property given twice in one
 *    object is refused; null counts as absent.
 *
 * Parsing checks types and ranges. What the values mean together is checked by
 * oci_spec_validate() (oci/validate.h); what husk does not do is refused by oci_spec_supported()
 * (oci/unsupported.h). Every error names its field: `linux.namespaces[2].path: must be a string`.
 */
#ifndef HUSK_OCI_SPEC_H
#define HUSK_OCI_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yajl/yajl_tree.h>

#include "lib/error.h"

#define OCI_SPEC_MAX (4u << 20) /* bytes of config.json, a process file or resources */

/* The runtime-spec that husk speaks, and the range that it accepts in ociVersion. */
#define OCI_VERSION "1.2.0"
#define OCI_VERSION_MIN "1.0.0"

/* clang-format off */
struct oci_opt_bool { bool has; bool v; };
struct oci_opt_int { bool has; int v; };
struct oci_opt_u16 { bool has; uint16_t v; };
struct oci_opt_u32 { bool has; uint32_t v; };
struct oci_opt_u64 { bool has; uint64_t v; };
struct oci_opt_i64 { bool has; int64_t v; };
/* clang-format on */

/* A member of a map of strings (annotations, sysctl, unified), in the order of the file. */
struct oci_kv {
	char *key;
	char *value; /* "" if empty, never NULL */
};

struct oci_id_mapping {
	uint32_t container_id;
	uint32_t host_id;
	uint32_t size;
};

/* ---- process (config.md, "Process") */

struct oci_user {
	uint32_t uid;
	uint32_t gid;
	struct oci_opt_u32 umask; /* permission bits, at most 0777 */
	uint32_t *additional_gids;
	size_t n_additional_gids;
	char *username; /* windows; not used */
};

/* Sets of capabilities: bit n stands for capability number n of <linux/capability.h>. */
struct oci_capabilities {
	uint64_t bounding;
	uint64_t effective;
	uint64_t inheritable;
	uint64_t permitted;
	uint64_t ambient;
	char **unknown; /* names that are no capability of ours, each once */
	size_t n_unknown;
};

struct oci_rlimit {
	int resource;  /* RLIMIT_* of <sys/resource.h> */
	uint64_t soft; /* UINT64_MAX is RLIM_INFINITY */
	uint64_t hard;
};

struct oci_scheduler {
	uint32_t policy; /* SCHED_* of <linux/sched.h> */
	int32_t nice;
	int32_t priority;
	uint64_t flags;	      /* SCHED_FLAG_* of <linux/sched.h> */
	uint64_t runtime_ns;  /* SCHED_DEADLINE */
	uint64_t deadline_ns; /* SCHED_DEADLINE */
	uint64_t period_ns;   /* SCHED_DEADLINE */
};

struct oci_io_priority {
	int class; /* IOPRIO_CLASS_RT 1, IOPRIO_CLASS_BE 2, IOPRIO_CLASS_IDLE 3 */
	int priority;
};

struct oci_process {
	bool terminal;
	uint16_t console_height; /* in characters; 0: not given */
	uint16_t console_width;
	struct oci_user user;
	char **args;
	size_t n_args;
	char **env;
	size_t n_env;
	char *cwd;
	struct oci_capabilities *capabilities;
	struct oci_rlimit *rlimits;
	size_t n_rlimits;
	bool no_new_privileges;
	char *apparmor_profile;
	struct oci_opt_int oom_score_adj; /* -1000..1000 */
	char *selinux_label;
	struct oci_scheduler *scheduler;
	struct oci_io_priority *io_priority;
	char *exec_cpu_affinity_initial; /* list of CPUs: "0-3,7" */
	char *exec_cpu_affinity_final;
};

/* ---- mounts and hooks (config.md, "Mounts", "POSIX-platform Hooks") */

struct oci_mount {
	char *destination;
	char *type;
	char *source;
	char **options; /* see oci/mount_options.h */
	size_t n_options;
	struct oci_id_mapping *uid_mappings;
	size_t n_uid_mappings;
	struct oci_id_mapping *gid_mappings;
	size_t n_gid_mappings;
};

struct oci_hook {
	char *path;
	char **args; /* args[0] included; NULL: the path alone */
	size_t n_args;
	char **env; /* NULL: an empty environment */
	size_t n_env;
	struct oci_opt_int timeout; /* seconds, > 0 */
};

enum oci_hook_phase {
	OCI_HOOK_PRESTART,
	OCI_HOOK_CREATE_RUNTIME,
	OCI_HOOK_CREATE_CONTAINER,
	OCI_HOOK_START_CONTAINER,
	OCI_HOOK_POSTSTART,
	OCI_HOOK_POSTSTOP,
	OCI_HOOK_PHASES
};

struct oci_hook_list {
	struct oci_hook *v;
	size_t n;
};

/* ---- linux (config-linux.md) */

enum oci_ns_type {
	OCI_NS_PID,
	OCI_NS_NETWORK,
	OCI_NS_MOUNT,
	OCI_NS_IPC,
	OCI_NS_UTS,
	OCI_NS_USER,
	OCI_NS_CGROUP,
	OCI_NS_TIME,
	OCI_NS_TYPES
};

struct oci_namespace {
	enum oci_ns_type type;
	char *path; /* NULL: a new namespace */
};

struct oci_device {
	char *path;
	char type;     /* 'c' (also given as "u"), 'b' or 'p' */
	int64_t major; /* 0 for 'p' */
	int64_t minor;
	struct oci_opt_u32 file_mode; /* permission bits, at most 07777; usually 0666 if absent */
	struct oci_opt_u32 uid;
	struct oci_opt_u32 gid;
};

struct oci_net_device {
	char *host_name; /* the key: its name on the host */
	char *name;	 /* its name in the container; NULL: the same */
};

struct oci_time_offset {
	struct oci_opt_i64 secs;
	uint32_t nanosecs;
};

/* Bytes unless it says otherwise; -1 is no limit. */
struct oci_memory {
	struct oci_opt_i64 limit;
	struct oci_opt_i64 reservation;
	struct oci_opt_i64 swap; /* memory plus swap */
	struct oci_opt_i64 kernel;
	struct oci_opt_i64 kernel_tcp;
	struct oci_opt_u64 swappiness; /* 0..100 */
	struct oci_opt_bool disable_oom_killer;
	struct oci_opt_bool use_hierarchy;
	struct oci_opt_bool check_before_update;
};

struct oci_cpu {
	struct oci_opt_u64 shares;
	struct oci_opt_i64 quota_us; /* -1: no limit */
	struct oci_opt_u64 burst_us;
	struct oci_opt_u64 period_us;
	struct oci_opt_i64 realtime_runtime_us;
	struct oci_opt_u64 realtime_period_us;
	char *cpus; /* list: "0-3,7" */
	char *mems;
	struct oci_opt_i64 idle; /* 0 or 1 */
};

struct oci_weight_device {
	int64_t major;
	int64_t minor;
	struct oci_opt_u16 weight;
	struct oci_opt_u16 leaf_weight;
};

struct oci_throttle_device {
	int64_t major;
	int64_t minor;
	uint64_t rate; /* bytes or operations a second */
};

enum oci_throttle {
	OCI_THROTTLE_READ_BPS,
	OCI_THROTTLE_WRITE_BPS,
	OCI_THROTTLE_READ_IOPS,
	OCI_THROTTLE_WRITE_IOPS,
	OCI_THROTTLES
};

struct oci_throttle_list {
	struct oci_throttle_device *v;
	size_t n;
};

struct oci_block_io {
	struct oci_opt_u16 weight; /* 10..1000 */
	struct oci_opt_u16 leaf_weight;
	struct oci_weight_device *weight_devices;
	size_t n_weight_devices;
	struct oci_throttle_list throttle[OCI_THROTTLES];
};

struct oci_hugepage_limit {
	char *page_size; /* "2MB" */
	uint64_t limit;	 /* bytes */
};

struct oci_if_priority {
	char *name;
	uint32_t priority;
};

struct oci_rdma {
	char *device; /* the key */
	struct oci_opt_u32 hca_handles;
	struct oci_opt_u32 hca_objects;
};

struct oci_device_rule {
	bool allow;
	char type;		  /* 'a' (all, also when absent), 'b' or 'c' */
	struct oci_opt_i64 major; /* absent or -1: every one */
	struct oci_opt_i64 minor;
	char *access; /* of the letters r, w and m; NULL: absent */
};

/* linux.resources, also what `update --resources` reads. */
struct oci_resources {
	struct oci_memory memory;
	struct oci_cpu cpu;
	struct oci_opt_i64 pids_limit; /* <= 0: no limit */
	struct oci_block_io block_io;
	struct oci_hugepage_limit *hugepage_limits;
	size_t n_hugepage_limits;
	struct oci_opt_u32 net_class_id;
	struct oci_if_priority *net_priorities;
	size_t n_net_priorities;
	struct oci_rdma *rdma;
	size_t n_rdma;
	struct oci_device_rule *devices;
	size_t n_devices;
	struct oci_kv *unified; /* cgroup v2 file name, its value */
	size_t n_unified;
};

enum oci_seccomp_action {
	OCI_ACT_KILL_THREAD, /* SCMP_ACT_KILL_THREAD and SCMP_ACT_KILL */
	OCI_ACT_KILL_PROCESS,
	OCI_ACT_TRAP,
	OCI_ACT_ERRNO,
	OCI_ACT_TRACE,
	OCI_ACT_ALLOW,
	OCI_ACT_LOG,
	OCI_ACT_NOTIFY,
	OCI_ACT_COUNT
};

enum oci_seccomp_op {
	OCI_CMP_NE,
	OCI_CMP_LT,
	OCI_CMP_LE,
	OCI_CMP_EQ,
	OCI_CMP_GE,
	OCI_CMP_GT,
	OCI_CMP_MASKED_EQ,
	OCI_CMP_COUNT
};

struct oci_seccomp_arg {
	uint32_t index; /* 0..5 */
	uint64_t value;
	uint64_t value_two;
	enum oci_seccomp_op op;
};

struct oci_seccomp_rule {
	char **names;
	size_t n_names;
	enum oci_seccomp_action action;
	struct oci_opt_u32 errno_ret; /* also the trace message of OCI_ACT_TRACE */
	struct oci_seccomp_arg *args;
	size_t n_args;
};

struct oci_seccomp {
	enum oci_seccomp_action default_action;
	struct oci_opt_u32 default_errno_ret;
	char **architectures; /* known ones: "SCMP_ARCH_X86_64"; see oci_seccomp_arch_name() */
	size_t n_architectures;
	uint32_t flags; /* SECCOMP_FILTER_FLAG_* of <linux/seccomp.h> */
	char *listener_path;
	char *listener_metadata;
	struct oci_seccomp_rule *rules; /* "syscalls" */
	size_t n_rules;
};

struct oci_intel_rdt {
	char *clos_id;
	char **schemata;
	size_t n_schemata;
	char *l3_cache_schema;
	char *mem_bw_schema;
	bool enable_cmt;
	bool enable_mbm;
	bool enable_monitoring;
};

struct oci_memory_policy {
	char *mode; /* "MPOL_BIND" */
	char *nodes;
	char **flags;
	size_t n_flags;
};

struct oci_linux {
	struct oci_namespace *namespaces;
	size_t n_namespaces;
	struct oci_id_mapping *uid_mappings;
	size_t n_uid_mappings;
	struct oci_id_mapping *gid_mappings;
	size_t n_gid_mappings;
	bool has_time_offsets;
	struct oci_time_offset boottime;
	struct oci_time_offset monotonic;
	struct oci_device *devices;
	size_t n_devices;
	struct oci_net_device *net_devices;
	size_t n_net_devices;
	char *cgroups_path;
	struct oci_resources *resources;
	unsigned long rootfs_propagation; /* MS_SHARED, MS_SLAVE, ... with MS_REC; 0: absent */
	struct oci_seccomp *seccomp;
	struct oci_kv *sysctl;
	size_t n_sysctl;
	char **masked_paths;
	size_t n_masked_paths;
	char **readonly_paths;
	size_t n_readonly_paths;
	char *mount_label;
	struct oci_intel_rdt *intel_rdt;
	struct oci_memory_policy *memory_policy;
	bool has_personality;
	unsigned long personality; /* PER_LINUX or PER_LINUX32 of <sys/personality.h> */
};

/* ---- vm (config-vm.md) */

struct oci_iomem {
	struct oci_opt_u64 first_gfn;
	uint64_t first_mfn;
	uint64_t nr_mfns;
};

struct oci_vm {
	char *hypervisor_path;
	char **hypervisor_parameters;
	size_t n_hypervisor_parameters;
	char *kernel_path;
	char **kernel_parameters;
	size_t n_kernel_parameters;
	char *kernel_initrd;
	char *image_path;
	char *image_format; /* "raw", "qcow2", ... */
	bool has_hw_config;
	char *hw_device_tree;
	struct oci_opt_u32 hw_vcpus;
	struct oci_opt_u64 hw_memory; /* bytes */
	char **hw_dtdevs;
	size_t n_hw_dtdevs;
	struct oci_iomem *hw_iomems;
	size_t n_hw_iomems;
	uint32_t *hw_irqs;
	size_t n_hw_irqs;
};

/* ---- the whole */

struct oci_spec {
	char *oci_version;
	struct oci_process *process;
	bool has_root;
	char *root_path; /* as written: relative to the bundle unless absolute */
	bool root_readonly;
	char *hostname;
	char *domainname;
	struct oci_mount *mounts;
	size_t n_mounts;
	struct oci_hook_list hooks[OCI_HOOK_PHASES];
	struct oci_kv *annotations;
	size_t n_annotations;
	bool has_linux;
	struct oci_linux lnx; /* `linux` is a macro of gnu17 */
	struct oci_vm *vm;
};

/*
 * Parse a whole config.json from text of `len` bytes (at most OCI_SPEC_MAX, no NUL needed behind
 * it) or from a tree that json_parse() made. The caller owns *out and frees it with
 * oci_spec_free(). Errors: ERR_INVALID, "line L, column C: ..." for broken JSON, or
 * "<field>: ..." for a value of the wrong type or out of range.
 */
int oci_spec_parse(const char *text, size_t len, struct oci_spec **out, struct error *err);
int oci_spec_from_tree(yajl_val tree, struct oci_spec **out, struct error *err);
void oci_spec_free(struct oci_spec *spec);

/* The same for a process object alone (`exec --process FILE`); fields are named `process.args`. */
int oci_process_parse(const char *text, size_t len, struct oci_process **out, struct error *err);
int oci_process_from_tree(yajl_val tree, struct oci_process **out, struct error *err);
void oci_process_free(struct oci_process *process);

/* The same for a linux.resources object alone (`update --resources FILE`); fields are named
 * `resources.memory.limit`. */
int oci_resources_parse(const char *text, size_t len, struct oci_resources **out,
			struct error *err);
int oci_resources_from_tree(yajl_val tree, struct oci_resources **out, struct error *err);
void oci_resources_free(struct oci_resources *resources);

void oci_spec_freep(struct oci_spec **spec);
void oci_process_freep(struct oci_process **process);
void oci_resources_freep(struct oci_resources **resources);
#define cleanup_oci_spec __attribute__((cleanup(oci_spec_freep)))
#define cleanup_oci_process __attribute__((cleanup(oci_process_freep)))
#define cleanup_oci_resources __attribute__((cleanup(oci_resources_freep)))

/* ---- look-ups. What they return belongs to the spec. */

/* The namespace of that type in the list, or NULL if the container has none of its own. */
const struct oci_namespace *oci_spec_namespace(const struct oci_spec *spec, enum oci_ns_type type);
/* Whether linux.resources.devices allows every device, which engines say of privileged containers
 * and list every device of the host with it: the guest's own are meant then, none of the host is
 * given. */
bool oci_spec_all_devices(const struct oci_spec *spec);
/* Whether its processes could make device nodes, were they on the host: CAP_MKNOD is in their
 * bounding set. */
bool oci_spec_may_mknod(const struct oci_spec *spec);
/* The value of an annotation, or NULL. */
const char *oci_spec_annotation(const struct oci_spec *spec, const char *key);

/* ---- names. NULL or 0 for a value that is out of range. */
const char *oci_ns_name(enum oci_ns_type type);	  /* "pid", "network", ... */
int oci_ns_clone_flag(enum oci_ns_type type);	  /* CLONE_NEWPID, ... */
const char *oci_hook_name(enum oci_hook_phase p); /* "createRuntime", ... */
const char *oci_rlimit_name(int resource);	  /* "RLIMIT_NOFILE", ... */
const char *oci_seccomp_action_name(enum oci_seccomp_action a);
const char *oci_seccomp_op_name(enum oci_seccomp_op op);

/* The i-th name of a seccomp architecture ("SCMP_ARCH_X86") or filter flag (and its
 * SECCOMP_FILTER_FLAG_* in *flag, which may be NULL), in the order of the table; NULL behind the
 * last. For the features listing. */
const char *oci_seccomp_arch_name(size_t i);
const char *oci_seccomp_flag_name(size_t i, uint32_t *flag);

#endif
