/*
 * net_devices.h - linux.netDevices (config-linux.md, "Network Devices"): interfaces of the host
 * that the container gets.
 *
 * Such an interface is moved to the container's network namespace on the host, with its addresses,
 * and is wired to the guest like any other that is there (network.h).
 */
#ifndef HUSK_SHIM_NET_DEVICES_H
#define HUSK_SHIM_NET_DEVICES_H

#include "oci/spec.h"

/* Names that the kernel would not take, or that are there twice. Errors name the device. */
int net_devices_check(const struct oci_spec *spec, struct error *err);

/* Moves them from the calling thread's namespace to the one at `netns`. What was moved when it
 * fails is brought back. */
int net_devices_move(const struct oci_spec *spec, const char *netns, struct error *err);

/* The other way round, for a namespace that outlives its container: those that are still there.
 * With a namespace that ends the kernel does that, for devices that are more than software. */
void net_devices_return(const struct oci_spec *spec, const char *netns);

#endif
