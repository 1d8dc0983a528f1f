/*
 * device_filter.h - linux.resources.devices as a BPF program for a cgroup (config-linux.md,
 * "Allowed Device list"; BPF_PROG_TYPE_CGROUP_DEVICE).
 */
#ifndef HUSK_AGENT_DEVICE_FILTER_H
#define HUSK_AGENT_DEVICE_FILTER_H

#include <linux/bpf.h>
#include <stdint.h>

#include "oci/spec.h"

struct device_program {
	struct bpf_insn *insns;
	size_t n;
};

/* A block device that the container was given: its number on the host, which rules speak of, and in
 * the guest. */
struct device_alias {
	int64_t host_major, host_minor;
	unsigned major, minor;
};

/* Builds the program: the rules in order, then the devices that every container may use. Block
 * devices with major number `disk_major` (0: none), the guest's own disks, stay out of reach
 * whatever the rules say: their numbers are the host's. What the rules say of an alias's host
 * number holds for its number in the guest. Pure. */
void device_program_build(const struct oci_device_rule *rules, size_t n, unsigned disk_major,
			  const struct device_alias *aliases, size_t n_aliases,
			  struct device_program *out);
void device_program_free(struct device_program *p);

/* Loads it and attaches it to a cgroup; replaces *prog_fd (-1: none so far). */
int device_filter_attach(int cgroup_fd, const struct device_program *p, int *prog_fd,
			 struct error *err);

#endif
