/* vm: config-vm.md. */
#include "oci/spec_field.h"

static int read_iomem(const struct field *f, void *elem, struct error *err)
{
	struct oci_iomem *m = elem;

	if (get_opt_u64(f, "firstGFN", &m->first_gfn, err) < 0 ||
	    need_u64(f, "firstMFN", UINT64_MAX, &m->first_mfn, err) < 0)
		return -1;
	return need_u64(f, "nrMFNs", UINT64_MAX, &m->nr_mfns, err);
}

/* The specification's text and schema say hwConfig, its Go types write hwconfig. */
static int read_hw_config(const struct field *f, struct oci_vm *vm, struct error *err)
{
	struct field hw;
	int r = get_object(f, "hwConfig", &hw, err);

	if (r == 0)
		r = get_object(f, "hwconfig", &hw, err);
	if (r <= 0)
		return r;
	vm->has_hw_config = true;
	if (get_str(&hw, "deviceTree", &vm->hw_device_tree, err) < 0 ||
	    get_opt_u32(&hw, "vcpus", &vm->hw_vcpus, err) < 0 ||
	    get_opt_u64(&hw, "memory", &vm->hw_memory, err) < 0 ||
	    get_strv(&hw, "dtdevs", &vm->hw_dtdevs, &vm->n_hw_dtdevs, err) < 0 ||
	    get_list(&hw, "iomems", sizeof(*vm->hw_iomems), read_iomem, &vm->hw_iomems,
		     &vm->n_hw_iomems, err) < 0)
		return -1;
	return get_u32v(&hw, "irqs", &vm->hw_irqs, &vm->n_hw_irqs, err);
}

int spec_read_vm(const struct field *f, struct oci_vm *vm, struct error *err)
{
	struct field o;
	int r = get_object(f, "hypervisor", &o, err);

	if (r > 0 && (get_str(&o, "path", &vm->hypervisor_path, err) < 0 ||
		      get_strv(&o, "parameters", &vm->hypervisor_parameters,
			       &vm->n_hypervisor_parameters, err) < 0))
		return -1;
	if (r < 0 || (r = get_object(f, "kernel", &o, err)) < 0)
		return -1;
	if (r > 0 && (get_str(&o, "path", &vm->kernel_path, err) < 0 ||
		      get_strv(&o, "parameters", &vm->kernel_parameters, &vm->n_kernel_parameters,
			       err) < 0 ||
		      get_str(&o, "initrd", &vm->kernel_initrd, err) < 0))
		return -1;
	if ((r = get_object(f, "image", &o, err)) < 0)
		return -1;
	if (r > 0 && (get_str(&o, "path", &vm->image_path, err) < 0 ||
		      get_str(&o, "format", &vm->image_format, err) < 0))
		return -1;
	return read_hw_config(f, vm, err);
}
