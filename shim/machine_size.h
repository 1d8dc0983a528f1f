/*
 * machine_size.h - how large a container's machine is. docs/pods.md, "Size"; husk.8, SIZE.
 *
 * Said by, the first one that says anything: the annotations io.husk.memory and io.husk.vcpus; the
 * section vm.hwConfig; a pod's hints; the limits of linux.resources; the configuration file; what
 * is built in. What is asked for in so many words is had or refused; limits make a machine that is
 * large enough for them, with room for its kernel, up to the host's size. The configuration
 * file's maximum is never passed: what asks for more is refused by name.
 */
#ifndef HUSK_SHIM_MACHINE_SIZE_H
#define HUSK_SHIM_MACHINE_SIZE_H

#include "oci/pod.h"
#include "shim/config_file.h"

#define SIZE_MEMORY_DEFAULT (UINT64_C(512) << 20)
#define SIZE_MEMORY_POD (UINT64_C(2) << 30)
#define SIZE_VCPUS_POD 2u

struct machine_size {
	uint64_t mem_bytes; /* whole MiB */
	unsigned vcpus;
	const char *memory_by, *vcpus_by; /* who said so, in words; static or the spec's */
};

/* What the host has. */
struct host_size {
	uint64_t mem_bytes;
	unsigned cpus;
};

void host_size(struct host_size *h);
/* Pure. */
int machine_size(const struct oci_spec *spec, const struct oci_pod *pod,
		 const struct config_file *file, const struct host_size *host,
		 struct machine_size *size, struct error *err);

#endif
