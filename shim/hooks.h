/*
 * hooks.h - the hooks of config.json that run on the host (config.md, "POSIX-platform Hooks"):
 * prestart, createRuntime, createContainer, poststart, poststop. startContainer runs in the guest.
 */
#ifndef HUSK_SHIM_HOOKS_H
#define HUSK_SHIM_HOOKS_H

#include "oci/spec.h"

/* Runs the hooks of one phase in order, each with `state` (JSON) on its stdin. Stops at the first
 * that fails: exit status, signal, time-out; but a poststop hook that fails is a warning, and the
 * others run (runtime.md, "Lifecycle"). `bundle` is their working directory. */
int hooks_run(const struct oci_spec *spec, enum oci_hook_phase phase, const char *state,
	      const char *bundle, int intr_fd, struct error *err);
bool hooks_any(const struct oci_spec *spec, enum oci_hook_phase phase);

#endif
