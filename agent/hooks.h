/*
 * hooks.h - startContainer hooks (config.md, "POSIX-platform Hooks").
 */
#ifndef HUSK_AGENT_HOOKS_H
#define HUSK_AGENT_HOOKS_H

#include "agent/container.h"

/* Runs them, one after the other, in the calling process's place: its namespaces, root, user and
 * filter. Each gets the container's state on stdin (`bundle` is "/": the guest does not know the
 * host's path). The first that fails or takes too long ends it with an error that holds its output.
 */
int hooks_start_container(const struct container *c, struct error *err);

#endif
