/*
 * weights.h - linux.resources.cpu.shares and blockIO.weight as weights of cgroup v2.
 */
#ifndef HUSK_OCI_WEIGHTS_H
#define HUSK_OCI_WEIGHTS_H

#include <stdint.h>

/* cpu.weight, 1 to 10000, of shares. */
unsigned oci_cpu_weight(uint64_t shares);
/* io.weight, 1 to 10000, of 10 to 1000. */
unsigned oci_io_weight(unsigned weight);

#endif
