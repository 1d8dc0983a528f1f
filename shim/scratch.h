/*
 * scratch.h - scratch disks: sparse ext4 that the guest's overlay has its upper layer on.
 */
#ifndef HUSK_SHIM_SCRATCH_H
#define HUSK_SHIM_SCRATCH_H

#include <stdint.h>

#include "lib/error.h"

#define SCRATCH_ANNOTATION "io.husk.scratch-size"
#define SCRATCH_DEFAULT (UINT64_C(10) << 30) /* bytes */
#define SCRATCH_MIN (UINT64_C(16) << 20)
#define SCRATCH_MAX (UINT64_C(1) << 40)

/* Bytes of a size as the annotation gives it (lib/size.h); a whole number of MiB comes out (rounded
 * up). NULL: `def`, or the default if that is 0. More than `max`, unless that is 0, is refused.
 * Errors name the annotation. */
int scratch_size(const char *text, uint64_t def, uint64_t max, uint64_t *bytes, struct error *err);

/* Makes the empty file `to` a fresh scratch disk: a clone of the template for that size, which is
 * kept in `data` and made at first use. */
int scratch_fill(const char *data, uint64_t bytes, int to, int intr_fd, struct error *err);

#endif
