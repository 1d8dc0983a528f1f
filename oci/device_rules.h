/*
 * device_rules.h - what linux.resources.devices says of a device (config-linux.md, "Allowed Device
 * list"): later rules override earlier ones, separately for each kind of access.
 */
#ifndef HUSK_OCI_DEVICE_RULES_H
#define HUSK_OCI_DEVICE_RULES_H

#include "oci/spec.h"

/* Does the list allow `access` ('r', 'w' or 'm') to the device? What no rule speaks of is not
 * allowed. */
bool oci_device_allowed(const struct oci_device_rule *rules, size_t n, char type, int64_t major,
			int64_t minor, char access);

#endif
