/*
 * caps.h - names of Linux capabilities.
 *
 * The table is husk's own, not that of the kernel or of libcap at hand: the guest's kernel is
 * husk's, and so both ends know the same 41.
 */
#ifndef HUSK_OCI_CAPS_H
#define HUSK_OCI_CAPS_H

#include <stdint.h>

#define OCI_CAPS 41 /* CAP_CHOWN = 0 to CAP_CHECKPOINT_RESTORE = 40 */
#define OCI_CAPS_ALL ((UINT64_C(1) << OCI_CAPS) - 1)

/* The number of capability "CAP_NET_ADMIN" (exactly as the runtime-spec writes it), or -1. */
int oci_cap_from_name(const char *name);
/* The same for what people type: in any case, and with or without "CAP_". */
int oci_cap_from_user(const char *name);
/* The name of capability n, or NULL. */
const char *oci_cap_name(int n);

#endif
