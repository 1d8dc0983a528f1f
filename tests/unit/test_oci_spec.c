/* The parser: every field of config.json arrives, and every error names its field. */
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "lib/cleanup.h"
#include "lib/json.h"
#include "oci/caps.h"
#include "oci/spec.h"
#include "tests/unit/oci_text.h"

#define CAP(name) (UINT64_C(1) << oci_cap_from_name(name))

static struct oci_spec *parsed(const char *json)
{
	cleanup_free char *text = quoted(json);
	struct error err = ERROR_INIT;
	struct oci_spec *s = NULL;

	if (oci_spec_parse(text, strlen(text), &s, &err) < 0)
		fail_msg("%s: %s", json, err.msg);
	return s;
}

static void assert_refused(const char *json, const char *message)
{
	cleanup_free char *text = quoted(json);
	cleanup_free char *wanted = quoted(message);
	cleanup_oci_spec struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;

	if (oci_spec_parse(text, strlen(text), &s, &err) == 0)
		fail_msg("accepted: %s", json);
	assert_null(s);
	assert_string_equal(err.msg, wanted);
	assert_int_equal(err.kind, ERR_INVALID);
}

static void assert_strv(char **v, size_t n, const char *joined)
{
	char buf[256] = "";

	for (size_t i = 0; i < n; i++) {
		strcat(buf, i ? "|" : "");
		strcat(buf, v[i]);
	}
	if (v)
		assert_null(v[n]);
	assert_string_equal(buf, joined);
}

static struct oci_spec *every_field(void)
{
	cleanup_free char *text = NULL;
	struct error err = ERROR_INIT;
	struct oci_spec *s = NULL;
	size_t len;

	if (file_read(AT_FDCWD, "tests/fuzz/seeds/spec/every-field.json", OCI_SPEC_MAX, &text, &len,
		      &err) < 0 ||
	    oci_spec_parse(text, len, &s, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

/* ---- what arrives */

static void top_level(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();

	(void)state;
	assert_string_equal(s->oci_version, "1.2.1-rc.1+build.7");
	assert_true(s->has_root && s->root_readonly && s->has_linux);
	assert_string_equal(s->root_path, "/rootfs");
	assert_string_equal(s->hostname, "host");
	assert_string_equal(s->domainname, "example.org");
	assert_int_equal(s->n_annotations, 2);
	assert_string_equal(oci_spec_annotation(s, "com.example.key"), "value");
	assert_string_equal(oci_spec_annotation(s, "empty"), "");
	assert_null(oci_spec_annotation(s, "other"));
}

static void process(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_process *p = s->process;

	(void)state;
	assert_true(p->terminal && p->no_new_privileges);
	assert_int_equal(p->console_height, 25);
	assert_int_equal(p->console_width, 80);
	assert_int_equal(p->user.uid, 1000);
	assert_int_equal(p->user.gid, 1001);
	assert_true(p->user.umask.has);
	assert_int_equal(p->user.umask.v, 022);
	assert_int_equal(p->user.n_additional_gids, 2);
	assert_int_equal(p->user.additional_gids[1], 6);
	assert_string_equal(p->user.username, "nobody");
	assert_strv(p->args, p->n_args, "/bin/prog||b");
	assert_strv(p->env, p->n_env, "A=1|B=");
	assert_string_equal(p->cwd, "/srv");
	assert_string_equal(p->apparmor_profile, "docker-default");
	assert_string_equal(p->selinux_label, "system_u:system_r:svirt_lxc_net_t:s0");
	assert_true(p->oom_score_adj.has);
	assert_int_equal(p->oom_score_adj.v, -500);
	assert_string_equal(p->exec_cpu_affinity_initial, "0-1");
	assert_string_equal(p->exec_cpu_affinity_final, "1");
}

static void process_numbers_by_name(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_process *p = s->process;
	const struct oci_capabilities *c = p->capabilities;

	(void)state;
	assert_true(c->bounding == (CAP("CAP_CHOWN") | CAP("CAP_CHECKPOINT_RESTORE")));
	assert_true(c->effective == CAP("CAP_KILL"));
	assert_true(c->inheritable == CAP("CAP_BPF"));
	assert_true(c->permitted == CAP("CAP_KILL"));
	assert_true(c->ambient == CAP("CAP_SYS_ADMIN"));
	assert_strv(c->unknown, c->n_unknown, "CAP_FUTURE|kill");
	assert_int_equal(p->n_rlimits, 2);
	assert_int_equal(p->rlimits[0].resource, RLIMIT_NOFILE);
	assert_int_equal(p->rlimits[0].soft, 512);
	assert_int_equal(p->rlimits[0].hard, 1024);
	assert_int_equal(p->rlimits[1].resource, RLIMIT_CORE);
	assert_true(p->rlimits[1].soft == RLIM_INFINITY && p->rlimits[1].hard == UINT64_MAX);
	assert_int_equal(p->scheduler->policy, SCHED_DEADLINE);
	assert_int_equal(p->scheduler->flags, SCHED_FLAG_RESET_ON_FORK | SCHED_FLAG_RECLAIM);
	assert_int_equal(p->scheduler->runtime_ns, 1000);
	assert_int_equal(p->scheduler->deadline_ns, 2000);
	assert_int_equal(p->scheduler->period_ns, 3000);
	assert_int_equal(p->io_priority->class, 2);
	assert_int_equal(p->io_priority->priority, 4);
}

static void mounts_and_hooks(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_mount *m = &s->mounts[0];
	const struct oci_hook *h = &s->hooks[OCI_HOOK_PRESTART].v[0];

	(void)state;
	assert_int_equal(s->n_mounts, 1);
	assert_string_equal(m->destination, "data");
	assert_string_equal(m->type, "bind");
	assert_string_equal(m->source, "/srv/data");
	assert_strv(m->options, m->n_options, "rbind|rro|idmap");
	assert_int_equal(m->n_uid_mappings, 1);
	assert_int_equal(m->uid_mappings[0].host_id, 1000);
	assert_int_equal(m->gid_mappings[0].container_id, 1);
	assert_int_equal(m->gid_mappings[0].size, 20);
	for (int i = 0; i < OCI_HOOK_PHASES; i++)
		assert_int_equal(s->hooks[i].n, i == OCI_HOOK_POSTSTOP ? 2 : 1);
	assert_string_equal(h->path, "/bin/a");
	assert_strv(h->args, h->n_args, "a|1");
	assert_strv(h->env, h->n_env, "X=y");
	assert_int_equal(h->timeout.v, 5);
	assert_string_equal(s->hooks[OCI_HOOK_CREATE_RUNTIME].v[0].path, "/bin/b");
	assert_string_equal(s->hooks[OCI_HOOK_CREATE_CONTAINER].v[0].path, "/bin/c");
	assert_string_equal(s->hooks[OCI_HOOK_START_CONTAINER].v[0].path, "/bin/d");
	assert_string_equal(s->hooks[OCI_HOOK_POSTSTART].v[0].path, "/bin/e");
	assert_string_equal(s->hooks[OCI_HOOK_POSTSTOP].v[1].path, "/bin/g");
	assert_null(s->hooks[OCI_HOOK_POSTSTOP].v[1].args);
	assert_false(s->hooks[OCI_HOOK_POSTSTOP].v[1].timeout.has);
}

static void linux_namespaces(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_linux *l = &s->lnx;

	(void)state;
	assert_int_equal(l->n_namespaces, OCI_NS_TYPES);
	for (int i = 0; i < OCI_NS_TYPES; i++)
		assert_int_equal(l->namespaces[i].type, i);
	assert_string_equal(oci_spec_namespace(s, OCI_NS_NETWORK)->path, "/run/netns/a");
	assert_null(oci_spec_namespace(s, OCI_NS_PID)->path);
	assert_int_equal(l->uid_mappings[0].host_id, 100000);
	assert_int_equal(l->gid_mappings[0].host_id, 200000);
	assert_true(l->has_time_offsets);
	assert_int_equal(l->boottime.secs.v, -7);
	assert_int_equal(l->boottime.nanosecs, 5);
	assert_int_equal(l->monotonic.secs.v, 9);
}

static void linux_others(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_linux *l = &s->lnx;

	(void)state;
	assert_int_equal(l->n_devices, 4);
	assert_string_equal(l->devices[0].path, "/dev/fuse");
	assert_int_equal(l->devices[0].type, 'c');
	assert_int_equal(l->devices[0].major, 10);
	assert_int_equal(l->devices[0].minor, 229);
	assert_int_equal(l->devices[0].file_mode.v, 0666);
	assert_int_equal(l->devices[0].uid.v, 1);
	assert_int_equal(l->devices[0].gid.v, 2);
	assert_int_equal(l->devices[1].type, 'c');
	assert_false(l->devices[1].file_mode.has);
	assert_int_equal(l->devices[2].type, 'b');
	assert_int_equal(l->devices[3].type, 'p');
	assert_string_equal(l->net_devices[0].host_name, "eth0");
	assert_string_equal(l->net_devices[0].name, "net0");
	assert_null(l->net_devices[1].name);
	assert_string_equal(l->cgroups_path, "/a/b");
	assert_int_equal(l->rootfs_propagation, MS_SLAVE | MS_REC);
	assert_string_equal(l->sysctl[0].key, "net.ipv4.ip_forward");
	assert_string_equal(l->sysctl[0].value, "1");
	assert_strv(l->masked_paths, l->n_masked_paths, "/proc/kcore");
	assert_strv(l->readonly_paths, l->n_readonly_paths, "/proc/sys");
	assert_string_equal(l->mount_label, "label");
	assert_string_equal(l->intel_rdt->clos_id, "c");
	assert_strv(l->intel_rdt->schemata, l->intel_rdt->n_schemata, "L3:0=f");
	assert_string_equal(l->intel_rdt->l3_cache_schema, "L3:0=ff");
	assert_string_equal(l->intel_rdt->mem_bw_schema, "MB:0=20");
	assert_true(l->intel_rdt->enable_cmt && l->intel_rdt->enable_mbm);
	assert_true(l->intel_rdt->enable_monitoring);
	assert_string_equal(l->memory_policy->mode, "MPOL_BIND");
	assert_string_equal(l->memory_policy->nodes, "0-1");
	assert_strv(l->memory_policy->flags, l->memory_policy->n_flags, "MPOL_F_STATIC_NODES");
	assert_true(l->has_personality);
	assert_int_equal(l->personality, PER_LINUX32);
}

static void resources_memory_cpu(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_resources *r = s->lnx.resources;

	(void)state;
	assert_int_equal(r->memory.limit.v, 536870912);
	assert_int_equal(r->memory.reservation.v, 268435456);
	assert_int_equal(r->memory.swap.v, 1073741824);
	assert_int_equal(r->memory.kernel.v, -1);
	assert_int_equal(r->memory.kernel_tcp.v, -1);
	assert_int_equal(r->memory.swappiness.v, 60);
	assert_true(r->memory.disable_oom_killer.has && !r->memory.disable_oom_killer.v);
	assert_true(r->memory.use_hierarchy.v && r->memory.check_before_update.v);
	assert_int_equal(r->cpu.shares.v, 1024);
	assert_int_equal(r->cpu.quota_us.v, 100000);
	assert_int_equal(r->cpu.burst_us.v, 5000);
	assert_int_equal(r->cpu.period_us.v, 100000);
	assert_int_equal(r->cpu.realtime_runtime_us.v, 950000);
	assert_int_equal(r->cpu.realtime_period_us.v, 1000000);
	assert_string_equal(r->cpu.cpus, "0-3,7");
	assert_string_equal(r->cpu.mems, "0");
	assert_int_equal(r->cpu.idle.v, 1);
	assert_int_equal(r->pids_limit.v, 32771);
}

static void resources_others(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_resources *r = s->lnx.resources;

	(void)state;
	assert_int_equal(r->block_io.weight.v, 10);
	assert_int_equal(r->block_io.leaf_weight.v, 20);
	assert_int_equal(r->block_io.weight_devices[0].major, 8);
	assert_int_equal(r->block_io.weight_devices[0].weight.v, 500);
	assert_int_equal(r->block_io.weight_devices[0].leaf_weight.v, 300);
	for (int i = 0; i < OCI_THROTTLES; i++) {
		assert_int_equal(r->block_io.throttle[i].n, 1);
		assert_int_equal(r->block_io.throttle[i].v[0].minor, i + 1);
		assert_int_equal(r->block_io.throttle[i].v[0].rate, 600 + i);
	}
	assert_string_equal(r->hugepage_limits[0].page_size, "2MB");
	assert_true(r->hugepage_limits[0].limit == UINT64_C(9223372036854772000));
	assert_int_equal(r->net_class_id.v, 1048577);
	assert_string_equal(r->net_priorities[0].name, "eth0");
	assert_int_equal(r->net_priorities[0].priority, 500);
	assert_string_equal(r->rdma[0].device, "mlx5_1");
	assert_int_equal(r->rdma[0].hca_handles.v, 3);
	assert_int_equal(r->rdma[0].hca_objects.v, 10000);
	assert_int_equal(r->n_devices, 2);
	assert_int_equal(r->devices[0].type, 'a');
	assert_false(r->devices[0].allow || r->devices[0].major.has);
	assert_true(r->devices[1].allow);
	assert_int_equal(r->devices[1].minor.v, -1);
	assert_string_equal(r->devices[1].access, "rw");
	assert_string_equal(r->unified[1].key, "io.weight");
	assert_string_equal(r->unified[1].value, "default 50");
}

static void seccomp(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_seccomp *c = s->lnx.seccomp;

	(void)state;
	assert_int_equal(c->default_action, OCI_ACT_ERRNO);
	assert_int_equal(c->default_errno_ret.v, 38);
	assert_strv(c->architectures, c->n_architectures, "SCMP_ARCH_X86_64|SCMP_ARCH_X32");
	assert_int_equal(c->flags, SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW);
	assert_string_equal(c->listener_path, "/run/l.sock");
	assert_string_equal(c->listener_metadata, "meta");
	assert_int_equal(c->n_rules, 2);
	assert_strv(c->rules[0].names, c->rules[0].n_names, "open|openat");
	assert_int_equal(c->rules[0].action, OCI_ACT_NOTIFY);
	assert_false(c->rules[0].errno_ret.has);
	assert_int_equal(c->rules[1].action, OCI_ACT_TRACE);
	assert_int_equal(c->rules[1].errno_ret.v, 65535);
	assert_int_equal(c->rules[1].args[0].index, 5);
	assert_true(c->rules[1].args[0].value == UINT64_MAX);
	assert_int_equal(c->rules[1].args[0].value_two, 7);
	assert_int_equal(c->rules[1].args[0].op, OCI_CMP_MASKED_EQ);
}

static void vm(void **state)
{
	cleanup_oci_spec struct oci_spec *s = every_field();
	const struct oci_vm *v = s->vm;

	(void)state;
	assert_string_equal(v->hypervisor_path, "/bin/hv");
	assert_strv(v->hypervisor_parameters, v->n_hypervisor_parameters, "a|b");
	assert_string_equal(v->kernel_path, "/boot/vmlinuz");
	assert_strv(v->kernel_parameters, v->n_kernel_parameters, "quiet");
	assert_string_equal(v->kernel_initrd, "/boot/initrd");
	assert_string_equal(v->image_path, "/img");
	assert_string_equal(v->image_format, "raw");
	assert_true(v->has_hw_config);
	assert_string_equal(v->hw_device_tree, "/dt");
	assert_int_equal(v->hw_vcpus.v, 2);
	assert_int_equal(v->hw_memory.v, 4194304);
	assert_strv(v->hw_dtdevs, v->n_hw_dtdevs, "d");
	assert_int_equal(v->hw_iomems[0].first_gfn.v, 12544);
	assert_false(v->hw_iomems[1].first_gfn.has);
	assert_int_equal(v->hw_iomems[0].first_mfn, 33024);
	assert_int_equal(v->hw_iomems[0].nr_mfns, 2);
	assert_int_equal(v->hw_irqs[1], 22);
}

static void hw_config_in_go_spelling(void **state)
{
	cleanup_oci_spec struct oci_spec *s = parsed("{'vm':{'hwconfig':{'vcpus':3}}}");

	(void)state;
	assert_int_equal(s->vm->hw_vcpus.v, 3);
}

static void absent_and_empty(void **state)
{
	cleanup_oci_spec struct oci_spec *s = parsed(
		"{'hostname':'','domainname':null,'mounts':[],'root':null,'linux':"
		"{'rootfsPropagation':'','sysctl':{},'timeOffsets':{},'resources':{'devices':"
		"[{'allow':true,'type':''}]}},'process':{'capabilities':{},'args':null}}");

	(void)state;
	assert_null(s->hostname);
	assert_null(s->domainname);
	assert_null(s->mounts);
	assert_false(s->has_root);
	assert_int_equal(s->lnx.rootfs_propagation, 0);
	assert_int_equal(s->lnx.n_sysctl, 0);
	assert_false(s->lnx.has_time_offsets);
	assert_int_equal(s->lnx.resources->devices[0].type, 'a');
	assert_false(s->lnx.resources->memory.limit.has);
	assert_non_null(s->process->capabilities);
	assert_null(s->process->capabilities->unknown);
	assert_null(s->process->args);
	assert_false(s->process->user.umask.has);
	assert_null(s->lnx.seccomp);
	assert_null(s->vm);
}

static void unknown_properties_are_ignored(void **state)
{
	cleanup_oci_spec struct oci_spec *s =
		parsed("{'windows':{'layerFolders':7},'x':[{'y':1}],'process':{'z':0}}");

	(void)state;
	assert_non_null(s->process);
}

/* ---- errors */

static void wrong_types(void **state)
{
	(void)state;
	assert_refused("[]", "config.json: must be an object");
	assert_refused("{'ociVersion':1}", "ociVersion: must be a string");
	assert_refused("{'process':[]}", "process: must be an object");
	assert_refused("{'process':{'terminal':'yes'}}", "process.terminal: must be true or false");
	assert_refused("{'process':{'args':'sh'}}", "process.args: must be an array");
	assert_refused("{'process':{'args':['a',2]}}", "process.args[1]: must be a string");
	assert_refused("{'process':{'args':['a',null]}}", "process.args[1]: must be a string");
	assert_refused("{'process':{'user':{'uid':'0'}}}", "process.user.uid: must be an integer");
	assert_refused("{'process':{'user':{'uid':1.0}}}", "process.user.uid: must be an integer");
	assert_refused("{'process':{'user':{'uid':1e3}}}", "process.user.uid: must be an integer");
	assert_refused("{'linux':{'namespaces':[{'type':'pid'},{'type':'uts','path':3}]}}",
		       "linux.namespaces[1].path: must be a string");
	assert_refused("{'linux':{'namespaces':['pid']}}",
		       "linux.namespaces[0]: must be an object");
	assert_refused("{'linux':{'sysctl':{'a.b':1}}}", "linux.sysctl['a.b']: must be a string");
	assert_refused("{'linux':{'sysctl':[]}}", "linux.sysctl: must be an object");
	assert_refused("{'annotations':{'k':true}}", "annotations['k']: must be a string");
	assert_refused("{'linux':{'netDevices':{'eth0':'net0'}}}",
		       "linux.netDevices['eth0']: must be an object");
	assert_refused("{'linux':{'resources':{'rdma':{'m':1}}}}",
		       "linux.resources.rdma['m']: must be an object");
	assert_refused("{'mounts':{}}", "mounts: must be an array");
	assert_refused("{'hooks':{'poststop':[{'path':'/a','env':[1]}]}}",
		       "hooks.poststop[0].env[0]: must be a string");
}

static void out_of_range(void **state)
{
	(void)state;
	assert_refused("{'process':{'user':{'uid':4294967296}}}",
		       "process.user.uid: 4294967296 is out of range (0 to 4294967295)");
	assert_refused("{'process':{'user':{'gid':-1}}}",
		       "process.user.gid: -1 must not be negative");
	assert_refused("{'process':{'user':{'umask':512}}}",
		       "process.user.umask: 512 is out of range (0 to 0777)");
	assert_refused("{'process':{'user':{'additionalGids':[0,4294967296]}}}",
		       "process.user.additionalGids[1]: 4294967296 is out of range (0 to "
		       "4294967295)");
	assert_refused("{'process':{'consoleSize':{'height':65536,'width':1}}}",
		       "process.consoleSize.height: 65536 is out of range (0 to 65535)");
	assert_refused("{'process':{'oomScoreAdj':1001}}",
		       "process.oomScoreAdj: 1001 is out of range (-1000 to 1000)");
	assert_refused("{'process':{'ioPriority':{'class':'IOPRIO_CLASS_RT','priority':8}}}",
		       "process.ioPriority.priority: 8 is out of range (0 to 7)");
	assert_refused("{'process':{'rlimits':[{'type':'RLIMIT_CPU','soft':1,'hard':"
		       "18446744073709551616}]}}",
		       "process.rlimits[0].hard: 18446744073709551616 is out of range (0 to "
		       "18446744073709551615)");
	assert_refused("{'linux':{'resources':{'memory':{'limit':9223372036854775808}}}}",
		       "linux.resources.memory.limit: 9223372036854775808 is out of range "
		       "(-9223372036854775808 to 9223372036854775807)");
	assert_refused("{'linux':{'resources':{'blockIO':{'weight':65536}}}}",
		       "linux.resources.blockIO.weight: 65536 is out of range (0 to 65535)");
	assert_refused("{'linux':{'timeOffsets':{'boottime':{'nanosecs':1000000000}}}}",
		       "linux.timeOffsets.boottime.nanosecs: 1000000000 is out of range (0 to "
		       "999999999)");
	assert_refused("{'linux':{'devices':[{'path':'/a','type':'c','major':-1,'minor':0}]}}",
		       "linux.devices[0].major: -1 is out of range (0 to 4294967295)");
	assert_refused("{'linux':{'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'names'"
		       ":['a'],'action':'SCMP_ACT_KILL','args':[{'index':6,'value':0,'op':"
		       "'SCMP_CMP_EQ'}]}]}}}",
		       "linux.seccomp.syscalls[0].args[0].index: 6 is out of range (0 to 5)");
	assert_refused("{'linux':{'seccomp':{'defaultAction':'SCMP_ACT_ERRNO','defaultErrnoRet':"
		       "4096}}}",
		       "linux.seccomp.defaultErrnoRet: 4096 is out of range (0 to 4095)");
	assert_refused("{'hooks':{'prestart':[{'path':'/a','timeout':0}]}}",
		       "hooks.prestart[0].timeout: 0 is out of range (1 to 2147483647)");
}

static void unknown_names(void **state)
{
	(void)state;
	assert_refused("{'linux':{'namespaces':[{'type':'net'}]}}",
		       "linux.namespaces[0].type: 'net': unknown namespace type");
	assert_refused("{'process':{'rlimits':[{'type':'RLIMIT_FOO','soft':1,'hard':1}]}}",
		       "process.rlimits[0].type: 'RLIMIT_FOO': unknown rlimit type");
	assert_refused("{'process':{'scheduler':{'policy':'SCHED_EXT'}}}",
		       "process.scheduler.policy: 'SCHED_EXT': unknown scheduling policy");
	assert_refused("{'process':{'scheduler':{'policy':'SCHED_RR','flags':['X']}}}",
		       "process.scheduler.flags[0]: 'X': unknown scheduling flag");
	assert_refused("{'process':{'ioPriority':{'class':'BE'}}}",
		       "process.ioPriority.class: 'BE': unknown I/O priority class");
	assert_refused("{'linux':{'rootfsPropagation':'sharing'}}",
		       "linux.rootfsPropagation: 'sharing': unknown mount propagation");
	assert_refused("{'linux':{'personality':{'domain':'BSD'}}}",
		       "linux.personality.domain: 'BSD': unknown personality domain");
	assert_refused("{'linux':{'personality':{'domain':'LINUX','flags':['a']}}}",
		       "linux.personality.flags[0]: 'a': unknown personality flag");
	assert_refused("{'linux':{'devices':[{'path':'/a','type':'x'}]}}",
		       "linux.devices[0].type: 'x': unknown device type");
	assert_refused("{'linux':{'resources':{'devices':[{'allow':true,'type':'p'}]}}}",
		       "linux.resources.devices[0].type: 'p': unknown device type");
	assert_refused("{'linux':{'seccomp':{'defaultAction':'SCMP_ACT_X'}}}",
		       "linux.seccomp.defaultAction: 'SCMP_ACT_X': unknown seccomp action");
	assert_refused("{'linux':{'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','flags':['F']}}}",
		       "linux.seccomp.flags[0]: 'F': unknown seccomp flag");
	assert_refused("{'linux':{'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','architectures':"
		       "['SCMP_ARCH_X86','amd64']}}}",
		       "linux.seccomp.architectures[1]: 'amd64': unknown architecture");
	assert_refused("{'linux':{'seccomp':{'defaultAction':'SCMP_ACT_ALLOW','syscalls':[{'names'"
		       ":['a'],'action':'SCMP_ACT_KILL','args':[{'index':0,'value':0,'op':'EQ'}]}"
		       "]}}}",
		       "linux.seccomp.syscalls[0].args[0].op: 'EQ': unknown seccomp operator");
}

static void missing_members(void **state)
{
	(void)state;
	assert_refused("{'mounts':[{'type':'proc'}]}", "mounts[0].destination: must not be empty");
	assert_refused("{'linux':{'namespaces':[{}]}}",
		       "linux.namespaces[0].type: must not be empty");
	assert_refused("{'process':{'rlimits':[{'type':'RLIMIT_CPU','hard':1}]}}",
		       "process.rlimits[0].soft: must not be empty");
	assert_refused("{'hooks':{'poststart':[{'args':['a']}]}}",
		       "hooks.poststart[0].path: must not be empty");
	assert_refused("{'linux':{'devices':[{'path':'/a','type':'c','major':1}]}}",
		       "linux.devices[0].minor: must not be empty");
	assert_refused("{'linux':{'seccomp':{}}}",
		       "linux.seccomp.defaultAction: must not be empty");
	assert_refused("{'linux':{'personality':{}}}",
		       "linux.personality.domain: must not be empty");
	assert_refused("{'linux':{'memoryPolicy':{}}}",
		       "linux.memoryPolicy.mode: must not be empty");
	assert_refused("{'process':{'scheduler':{}}}",
		       "process.scheduler.policy: must not be empty");
	assert_refused("{'process':{'consoleSize':{'width':3}}}",
		       "process.consoleSize.height: must not be empty");
	assert_refused("{'linux':{'resources':{'hugepageLimits':[{'pageSize':'2MB'}]}}}",
		       "linux.resources.hugepageLimits[0].limit: must not be empty");
}

static void duplicates(void **state)
{
	(void)state;
	assert_refused("{'root':{'path':'a'},'root':{'path':'b'}}", "root: given twice");
	assert_refused("{'linux':{'namespaces':[{'type':'pid','type':'pid'}]}}",
		       "linux.namespaces[0].type: given twice");
	assert_refused("{'unknown':{'a':1,'b':2,'a':3}}", "unknown.a: given twice");
}

static void broken_json(void **state)
{
	cleanup_free char *big = xcalloc(OCI_SPEC_MAX + 1, 1);
	struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(oci_spec_parse("{\n  \"a\": tru\n}", 14, &s, &err), -1);
	assert_non_null(strstr(err.msg, "line 2, column "));
	assert_refused("{'hostname':'a\\u0000b'}", "line 1, column 15: NUL character in a string");
	memset(big, ' ', OCI_SPEC_MAX + 1);
	assert_int_equal(oci_spec_parse(big, OCI_SPEC_MAX + 1, &s, &err), -1);
	assert_string_equal(err.msg, "larger than 4194304 bytes");
	assert_null(s);
}

static void long_names_are_cut_in_errors(void **state)
{
	cleanup_free char *key = xcalloc(5001, 1);
	cleanup_free char *text = NULL;
	struct oci_spec *s = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	memset(key, 'k', 5000);
	text = xasprintf("{\"annotations\":{\"%s\":1}}", key);
	assert_int_equal(oci_spec_parse(text, strlen(text), &s, &err), -1);
	assert_true(strlen(err.msg) < 300);
	assert_non_null(strstr(err.msg, "kkk\"]: must be a string"));
}

/* ---- the other two ways in */

static void process_alone(void **state)
{
	cleanup_free char *text = quoted("{'args':['id'],'cwd':'/','user':{'uid':7}}");
	cleanup_oci_process struct oci_process *p = NULL, *q = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(oci_process_parse(text, strlen(text), &p, &err), 0);
	assert_strv(p->args, p->n_args, "id");
	assert_int_equal(p->user.uid, 7);
	assert_int_equal(oci_process_parse("{\"cwd\":1}", 9, &q, &err), -1);
	assert_string_equal(err.msg, "process.cwd: must be a string");
	assert_int_equal(oci_process_parse("7", 1, &q, &err), -1);
	assert_string_equal(err.msg, "process: must be an object");
}

static void resources_alone(void **state)
{
	cleanup_free char *text = quoted("{'memory':{'limit':5},'pids':{'limit':-1}}");
	cleanup_oci_resources struct oci_resources *r = NULL, *q = NULL;
	struct error err = ERROR_INIT;

	(void)state;
	assert_int_equal(oci_resources_parse(text, strlen(text), &r, &err), 0);
	assert_int_equal(r->memory.limit.v, 5);
	assert_true(r->pids_limit.has);
	assert_int_equal(r->pids_limit.v, -1);
	assert_int_equal(oci_resources_parse("{\"cpu\":1}", 9, &q, &err), -1);
	assert_string_equal(err.msg, "resources.cpu: must be an object");
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(oci_ns_name(OCI_NS_CGROUP), "cgroup");
	assert_null(oci_ns_name(OCI_NS_TYPES));
	assert_int_equal(oci_ns_clone_flag(OCI_NS_MOUNT), CLONE_NEWNS);
	assert_int_equal(oci_ns_clone_flag(OCI_NS_TYPES), 0);
	assert_string_equal(oci_hook_name(OCI_HOOK_START_CONTAINER), "startContainer");
	assert_null(oci_hook_name(OCI_HOOK_PHASES));
	assert_string_equal(oci_rlimit_name(RLIMIT_NOFILE), "RLIMIT_NOFILE");
	assert_null(oci_rlimit_name(-1));
	assert_string_equal(oci_seccomp_action_name(OCI_ACT_KILL_THREAD), "SCMP_ACT_KILL_THREAD");
	assert_string_equal(oci_seccomp_op_name(OCI_CMP_NE), "SCMP_CMP_NE");
	assert_null(oci_seccomp_arch_name(23));
	assert_null(oci_seccomp_flag_name(4, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(top_level),
		cmocka_unit_test(process),
		cmocka_unit_test(process_numbers_by_name),
		cmocka_unit_test(mounts_and_hooks),
		cmocka_unit_test(linux_namespaces),
		cmocka_unit_test(linux_others),
		cmocka_unit_test(resources_memory_cpu),
		cmocka_unit_test(resources_others),
		cmocka_unit_test(seccomp),
		cmocka_unit_test(vm),
		cmocka_unit_test(hw_config_in_go_spelling),
		cmocka_unit_test(absent_and_empty),
		cmocka_unit_test(unknown_properties_are_ignored),
		cmocka_unit_test(wrong_types),
		cmocka_unit_test(out_of_range),
		cmocka_unit_test(unknown_names),
		cmocka_unit_test(missing_members),
		cmocka_unit_test(duplicates),
		cmocka_unit_test(broken_json),
		cmocka_unit_test(long_names_are_cut_in_errors),
		cmocka_unit_test(process_alone),
		cmocka_unit_test(resources_alone),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
