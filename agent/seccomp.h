/*
 * seccomp.h - linux.seccomp (config-linux.md, "Seccomp") as a BPF program.
 */
#ifndef HUSK_AGENT_SECCOMP_H
#define HUSK_AGENT_SECCOMP_H

#include <linux/filter.h>

#include "oci/spec.h"

struct seccomp_prog {
	struct sock_filter *insns;
	unsigned short n;
	unsigned flags; /* SECCOMP_FILTER_FLAG_* */
};

/* Compiles it. Pure; takes some milliseconds for an engine's default profile. */
struct seccomp_prog *seccomp_prog_compile(const struct oci_seccomp *s, struct error *err);
void seccomp_prog_free(struct seccomp_prog *p);

/* Puts the calling process under it. Needs no_new_privs or CAP_SYS_ADMIN. */
int seccomp_prog_load(const struct seccomp_prog *p, struct error *err);

#endif
