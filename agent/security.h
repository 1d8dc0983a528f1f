/*
 * security.h - capabilities, limits and the like of a process (config.md, "Linux Process").
 */
#ifndef HUSK_AGENT_SECURITY_H
#define HUSK_AGENT_SECURITY_H

#include "agent/container.h"

/* ---- in the agent, on a child that waits: what takes rights over the whole guest */

/* OOM score, scheduler, I/O priority, CPU affinity; raises hard limits to where process.rlimits
 * will put them, so that the child can set its limits itself, late, when they cannot hinder it. */
int security_prepare(pid_t pid, const struct oci_process *p, bool is_init, struct error *err);

/* ---- in the child */

/* A session keyring of the container's own; none in a kernel without keys. */
int security_keyring(const char *id, struct error *err);
int security_personality(const struct oci_linux *l, struct error *err);
int security_rlimits(const struct oci_process *p, struct error *err);
int security_no_new_privs(const struct oci_process *p, struct error *err);

/* Capabilities in two steps, with the change of user between them: first the bounding set, and
 * permitted ones are kept over the change; then the other four. `caps` NULL: none. */
int security_caps_before_user(const struct oci_capabilities *caps, struct error *err);
int security_caps_after_user(const struct oci_capabilities *caps, struct error *err);

#endif
