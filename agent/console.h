/*
 * console.h - the terminal of a process (config.md, "process.terminal").
 */
#ifndef HUSK_AGENT_CONSOLE_H
#define HUSK_AGENT_CONSOLE_H

#include "agent/container.h"

/* In the child, after root_enter(): makes a pty in the container's devpts, sends its master over
 * `sock`, makes the slave fds 0 to 2 and the controlling terminal; for the init (`is_init`) also
 * /dev/console. The caller is a session leader. */
int console_setup(const struct oci_process *p, int sock, bool is_init, struct error *err);

#endif
