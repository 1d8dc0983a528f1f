/*
 * namespaces.h - which namespaces a container has of its own, and how its processes get there.
 */
#ifndef HUSK_AGENT_NAMESPACES_H
#define HUSK_AGENT_NAMESPACES_H

#include <stdint.h>

#include "agent/container.h"

/* True if the container has a namespace of that type which is not the agent's, new or joined. The
 * network namespace never is: it is the guest's. */
bool ns_own(const struct oci_spec *spec, enum oci_ns_type type);
/* True if it has one that is no other container's. */
bool ns_new(const struct container *c, enum oci_ns_type type);

/* CLONE_NEW* flags for setns(2) of a process that joins the container. */
int ns_join_flags(const struct oci_spec *spec);

/* Clones the calling process (a fork, but by clone3) into cgroup `cgroup_fd` with `flags` added.
 * Returns as fork() does; in the parent *pidfd is set. */
pid_t ns_fork(uint64_t flags, int cgroup_fd, int *pidfd, struct error *err);

/* Forks the init, as ns_fork(): in new pid, mount, ipc, uts, user and time namespaces as the spec
 * has them, and in those of other containers. The rest is ns_enter(). ERR_NOT_RUNNING: one of those
 * has ended. */
pid_t ns_fork_init(const struct container *c, int *pidfd, struct error *err);

/* The same in the user namespace of another container, with the other new namespaces in `flags`
 * belonging to that; for ns_fork_init(). */
pid_t ns_fork_in_user(const struct container *c, uint64_t flags, int *pidfd, struct error *err);

/* Forks a process into the pid namespace of `init_pidfd`. The rest is setns(2) by the child. */
pid_t ns_fork_into(const struct oci_spec *spec, int init_pidfd, int cgroup_fd, struct error *err);

/* In the agent: writes uid_map and gid_map of a child in a new user namespace. */
int ns_write_id_maps(const struct container *c, pid_t pid, struct error *err);

/* In the init, once its ids are mapped: becomes root of its user namespace, makes a cgroup
 * namespace, sets host and domain name. */
int ns_enter(const struct container *c, struct error *err);

/* Becomes root (as far as the user namespace has one). */
int ns_become_root(struct error *err);

#endif
