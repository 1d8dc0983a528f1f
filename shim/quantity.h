/*
 * quantity.h - durations and sizes as runc's command line has them. Pure.
 */
#ifndef HUSK_SHIM_QUANTITY_H
#define HUSK_SHIM_QUANTITY_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/error.h"

/* A duration of Go: "5s", "300ms", "1.5h", "2h45m"; "0" alone has no unit. Microseconds; what is
 * less than one is cut off. False: it is none, or is negative, or longer than a hundred years. */
bool quantity_duration(const char *s, uint64_t *us);
/* A size as docker's units have it: "1024", "100k", "512MiB", "1.5g"; steps of 1024, whatever the
 * case and with or without "i" and "b". Bytes. */
bool quantity_bytes(const char *s, int64_t *bytes);
/* A whole number in decimal, with a sign where `min` is negative. */
bool quantity_integer(const char *s, int64_t min, int64_t max, int64_t *out);

#endif
