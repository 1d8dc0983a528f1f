/*
 * relay.h - bytes from one fd to another in a thread of its own, so that a slow reader of one
 * stream stalls no other and every stream keeps the back-pressure of a pipe.
 */
#ifndef HUSK_SHIM_RELAY_H
#define HUSK_SHIM_RELAY_H

#include <pthread.h>
#include <stdbool.h>

#include "lib/error.h"

struct relay {
	pthread_t thread;
	bool started;
	int from, to;
	bool shut_to; /* input: at the end, shutdown(to, SHUT_WR); else shutdown(from) */
	char *buf;    /* used where splice(2) cannot be */
};

/* Starts moving bytes until the end of `from` or an error of `to`. Neither fd is closed. */
int relay_start(struct relay *r, int from, int to, bool shut_to, struct error *err);
/* Waits for the end of `from`; frees what relay_start() took. */
void relay_join(struct relay *r);
/* The same for at most `ms`. False: it still runs, and so `r` has to stay where it is. */
bool relay_join_within(struct relay *r, unsigned ms);

#endif
