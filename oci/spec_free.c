/* Freeing the typed form. Everything here also takes what a failed parse left half filled. */
#include "oci/spec.h"
#include "oci/spec_field.h"

#include <stdlib.h>

void oci_strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

static void kv_free(struct oci_kv *kv, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(kv[i].key);
		free(kv[i].value);
	}
	free(kv);
}

void oci_process_free(struct oci_process *p)
{
	if (!p)
		return;
	free(p->user.additional_gids);
	free(p->user.username);
	oci_strv_free(p->args);
	oci_strv_free(p->env);
	free(p->cwd);
	if (p->capabilities)
		oci_strv_free(p->capabilities->unknown);
	free(p->capabilities);
	free(p->rlimits);
	free(p->apparmor_profile);
	free(p->selinux_label);
	free(p->scheduler);
	free(p->io_priority);
	free(p->exec_cpu_affinity_initial);
	free(p->exec_cpu_affinity_final);
	free(p);
}

void oci_resources_free(struct oci_resources *r)
{
	if (!r)
		return;
	free(r->cpu.cpus);
	free(r->cpu.mems);
	free(r->block_io.weight_devices);
	for (int i = 0; i < OCI_THROTTLES; i++)
		free(r->block_io.throttle[i].v);
	for (size_t i = 0; i < r->n_hugepage_limits; i++)
		free(r->hugepage_limits[i].page_size);
	free(r->hugepage_limits);
	for (size_t i = 0; i < r->n_net_priorities; i++)
		free(r->net_priorities[i].name);
	free(r->net_priorities);
	for (size_t i = 0; i < r->n_rdma; i++)
		free(r->rdma[i].device);
	free(r->rdma);
	for (size_t i = 0; i < r->n_devices; i++)
		free(r->devices[i].access);
	free(r->devices);
	kv_free(r->unified, r->n_unified);
	free(r);
}

static void seccomp_free(struct oci_seccomp *s)
{
	if (!s)
		return;
	oci_strv_free(s->architectures);
	free(s->listener_path);
	free(s->listener_metadata);
	for (size_t i = 0; i < s->n_rules; i++) {
		oci_strv_free(s->rules[i].names);
		free(s->rules[i].args);
	}
	free(s->rules);
	free(s);
}

static void intel_rdt_free(struct oci_intel_rdt *r)
{
	if (!r)
		return;
	free(r->clos_id);
	oci_strv_free(r->schemata);
	free(r->l3_cache_schema);
	free(r->mem_bw_schema);
	free(r);
}

static void memory_policy_free(struct oci_memory_policy *m)
{
	if (!m)
		return;
	free(m->mode);
	free(m->nodes);
	oci_strv_free(m->flags);
	free(m);
}

static void linux_clear(struct oci_linux *l)
{
	for (size_t i = 0; i < l->n_namespaces; i++)
		free(l->namespaces[i].path);
	free(l->namespaces);
	free(l->uid_mappings);
	free(l->gid_mappings);
	for (size_t i = 0; i < l->n_devices; i++)
		free(l->devices[i].path);
	free(l->devices);
	for (size_t i = 0; i < l->n_net_devices; i++) {
		free(l->net_devices[i].host_name);
		free(l->net_devices[i].name);
	}
	free(l->net_devices);
	free(l->cgroups_path);
	oci_resources_free(l->resources);
	seccomp_free(l->seccomp);
	kv_free(l->sysctl, l->n_sysctl);
	oci_strv_free(l->masked_paths);
	oci_strv_free(l->readonly_paths);
	free(l->mount_label);
	intel_rdt_free(l->intel_rdt);
	memory_policy_free(l->memory_policy);
}

static void vm_free(struct oci_vm *vm)
{
	if (!vm)
		return;
	free(vm->hypervisor_path);
	oci_strv_free(vm->hypervisor_parameters);
	free(vm->kernel_path);
	oci_strv_free(vm->kernel_parameters);
	free(vm->kernel_initrd);
	free(vm->image_path);
	free(vm->image_format);
	free(vm->hw_device_tree);
	oci_strv_free(vm->hw_dtdevs);
	free(vm->hw_iomems);
	free(vm->hw_irqs);
	free(vm);
}

static void mounts_free(struct oci_mount *m, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(m[i].destination);
		free(m[i].type);
		free(m[i].source);
		oci_strv_free(m[i].options);
		free(m[i].uid_mappings);
		free(m[i].gid_mappings);
	}
	free(m);
}

static void hooks_clear(struct oci_hook_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].path);
		oci_strv_free(l->v[i].args);
		oci_strv_free(l->v[i].env);
	}
	free(l->v);
}

void oci_spec_free(struct oci_spec *s)
{
	if (!s)
		return;
	free(s->oci_version);
	oci_process_free(s->process);
	free(s->root_path);
	free(s->hostname);
	free(s->domainname);
	mounts_free(s->mounts, s->n_mounts);
	for (int i = 0; i < OCI_HOOK_PHASES; i++)
		hooks_clear(&s->hooks[i]);
	kv_free(s->annotations, s->n_annotations);
	linux_clear(&s->lnx);
	vm_free(s->vm);
	free(s);
}

void oci_spec_freep(struct oci_spec **spec)
{
	oci_spec_free(*spec);
}

void oci_process_freep(struct oci_process **process)
{
	oci_process_free(*process);
}

void oci_resources_freep(struct oci_resources **resources)
{
	oci_resources_free(*resources);
}
