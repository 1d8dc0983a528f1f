/*
 * default_spec.h - the config.json that `husk spec` writes: a shell on a terminal, in a read-only
 * ./rootfs, with the same content as `runc spec`.
 */
#ifndef HUSK_OCI_DEFAULT_SPEC_H
#define HUSK_OCI_DEFAULT_SPEC_H

#include <stddef.h>

/* JSON text, NUL-terminated, and its length without the NUL. */
extern const char oci_default_spec[];
extern const size_t oci_default_spec_len;

#endif
