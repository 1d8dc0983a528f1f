/*
 * minder.h - a child program that cannot outlive us, in namespaces of its own. See minder.c.
 */
#ifndef HUSK_VMM_MINDER_H
#define HUSK_VMM_MINDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/error.h"

#define MINDER_FD_FIRST 3 /* number of fds[0] in the program */
#define MINDER_FDS_MAX 48

struct minder_config {
	const char *path;  /* of the program */
	char *const *argv; /* NULL-terminated */
	const int *fds; /* what the program gets as MINDER_FD_FIRST, +1, ...; kept by the caller */
	unsigned nfds;
	int output_fd;			/* the program's standard output and error */
	uint64_t file_bytes;		/* the largest file (or memfd) that it may make */
	const char *apparmor, *selinux; /* that it enters at its execve; NULL: none */
};

struct minder {
	pid_t pid;
	int pidfd;     /* readable when the minder and all its processes are gone */
	int status_fd; /* readable when minder_status() has news */
	pid_t program; /* 0: not known yet */
};

/* Starts the program and returns at once: that it cannot be executed comes by minder_status(). */
int minder_start(struct minder *m, const struct minder_config *cfg, struct error *err);
/* Takes news: the program's pid, or why it could not be started. 1: news, or 0: none, now or ever;
 * -1: the program could not be started. */
int minder_status(struct minder *m, struct error *err);
/* The program needs no file of the host any more: takes all mounts away from it. */
void minder_seal(struct minder *m);
/* Kills the program and the minder. */
void minder_kill(struct minder *m);
/* Waits for the end of the minder. Returns the program's exit status, 128 + n for signal n. */
int minder_wait(struct minder *m);
/* Frees the descriptors. The minder must have been waited for. */
void minder_free(struct minder *m);

/* An empty read-only directory in no mount namespace: somewhere to chroot to that leaves nothing
 * on the host. Returns a descriptor. */
int minder_empty_root(struct error *err);

#endif
