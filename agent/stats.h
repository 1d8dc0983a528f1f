/*
 * stats.h - the figures of a container: its cgroup's, and those of the guest's interfaces.
 */
#ifndef HUSK_AGENT_STATS_H
#define HUSK_AGENT_STATS_H

#include "oci/stats.h"

/* What can be read of the cgroup; a file that is not there (a controller, PSI) leaves zeros. */
void stats_collect(int cgroup_fd, struct stats *s);

/* ---- pure: the kernel's texts */

/* A file of "key number" lines. False: it has no such key. */
bool stats_key(const char *text, const char *key, uint64_t *value);
/* "max" is STATS_NONE; anything else that is no number is 0. */
uint64_t stats_number(const char *text);
void stats_parse_memory(const char *text, struct stats *s);	/* memory.stat */
void stats_parse_io(const char *text, struct stats *s);		/* io.stat */
void stats_parse_psi(const char *text, struct stats_psi *p);	/* cpu.pressure */
void stats_parse_interfaces(const char *text, struct stats *s); /* /proc/net/dev, but for lo */
/* "0-3,7"; returns how many there are in `out`, which has room for STATS_CPUS_MAX. */
size_t stats_parse_list(const char *text, uint16_t *out);

#endif
