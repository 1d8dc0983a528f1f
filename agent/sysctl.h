/*
 * sysctl.h - linux.sysctl.
 */
#ifndef HUSK_AGENT_SYSCTL_H
#define HUSK_AGENT_SYSCTL_H

#include "agent/container.h"

enum sysctl_home { SYSCTL_IPC, SYSCTL_UTS, SYSCTL_NET, SYSCTL_GLOBAL };

/* Which namespace a file below /proc/sys belongs to; pure. */
enum sysctl_home sysctl_home(const char *path);

/* Refuses those whose namespace is not the container's own (in the agent). */
int sysctl_check(const struct oci_spec *spec, struct error *err);
/* Sets ipc and uts ones (in the child, while /proc is the agent's). */
int sysctl_apply(const struct oci_spec *spec, struct error *err);
/* Sets net ones (in the agent, whose network is the container's). Those of an interface that does
 * not exist are passed over. */
int sysctl_apply_net(const struct oci_spec *spec, struct error *err);
/* Sets those of interfaces. An interface that does not exist is passed over unless `final`. */
int sysctl_apply_interfaces(const struct oci_spec *spec, bool final, struct error *err);

#endif
