/*
 * paths.h - where husk finds its own parts and keeps its files.
 *
 * Everything is looked for beside the husk binary first (build/), then in ../libexec/husk (an
 * installed tree). Each has an environment variable that overrides it: HUSK_VMM, HUSK_KERNEL,
 * HUSK_INITRAMFS, HUSK_QEMU, HUSK_VIRTIOFSD, HUSK_DATA.
 */
#ifndef HUSK_SHIM_PATHS_H
#define HUSK_SHIM_PATHS_H

#include "lib/error.h"

/* Each returns a malloc'ed path of an existing file, or NULL with an error that says what to do. */
char *path_vmm(struct error *err);
char *path_kernel(struct error *err);
char *path_initramfs(struct error *err);
char *path_qemu(struct error *err);
/* The one that comes with QEMU, written in C: what shares directories. */
char *path_virtiofsd(struct error *err);
/* A program on PATH or in the usual places (/usr/bin, /usr/sbin, ...). `package` is the Debian
 * package that the error names. */
char *path_program(const char *name, const char *package, struct error *err);

/* Directory for disk images and the scratch template (default /var/lib/husk); made if missing. */
char *path_data(struct error *err);

#endif
