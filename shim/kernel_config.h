/*
 * kernel_config.h - what a guest's kernel lacks, by the configuration it was built with.
 */
#ifndef HUSK_SHIM_KERNEL_CONFIG_H
#define HUSK_SHIM_KERNEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/error.h"

/* The configuration of the kernel at `path`, if its file lies beside it: config-VERSION for
 * vmlinuz-VERSION or vmlinux-VERSION, else .config or config. 1: *text is its bytes (the caller
 * frees), 0: there is none, -1: it cannot be read. */
int kernel_config_read(const char *path, char **text, struct error *err);

/* Names of what must be built in and is not, with what it is instead: "CONFIG_A is missing,
 * CONFIG_B is a module"; NULL: nothing. `needed`: what no container runs without; otherwise what
 * some need. The caller frees. Pure. */
char *kernel_config_lacks(const char *text, bool needed);

#endif
