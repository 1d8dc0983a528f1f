/*
 * ps.h - the processes of a container, as ps -ef would show them.
 */
#ifndef HUSK_AGENT_PS_H
#define HUSK_AGENT_PS_H

#include "agent/proto.h"

/* The name of a process that a client made, NULL for any other. */
typedef const char *(*ps_name_fn)(void *arg, int pid);

/* Lists the processes of the cgroup at `cgroup_fd` and of those below it, at most PROTO_PS_MAX. The
 * caller frees *list. Processes that end meanwhile are left out. */
int ps_list(int cgroup_fd, ps_name_fn name, void *arg, struct proto_ps **list, size_t *n,
	    struct error *err);

/* Parses a line of /proc/<pid>/stat; `boot_s` is when the machine booted, in seconds since the
 * epoch, `ticks` how many of the file's time units make a second. Fills everything but uid, cmd
 * (which gets the command's short name in brackets) and process. Returns -1 if it is no such line.
 */
int ps_parse_stat(const char *line, uint64_t boot_s, uint64_t ticks, struct proto_ps *p);

/* Puts a /proc/<pid>/cmdline of `len` bytes on one printable line. Empty: leaves `out` as it is. */
void ps_parse_cmdline(const char *text, size_t len, char out[PROTO_PS_CMD_MAX + 1]);

#endif
