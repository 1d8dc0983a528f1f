/*
 * child.h - the life of a forked process between clone3 and execve.
 */
#ifndef HUSK_AGENT_CHILD_H
#define HUSK_AGENT_CHILD_H

#include "agent/container.h"

struct child {
	const struct container *c;
	const struct oci_process *p;
	const struct oci_capabilities *caps; /* NULL: none */
	bool is_init;
	struct child_io io;
	int sync;
};

/* Runs in the child; ends in execve, or in a report and _exit. */
void child_run(struct child *ch) __attribute__((noreturn));

#endif
