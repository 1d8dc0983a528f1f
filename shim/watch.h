/*
 * watch.h - tells which paths of a rootfs directory others have changed, once they are settled.
 */
#ifndef HUSK_SHIM_WATCH_H
#define HUSK_SHIM_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>

#include "lib/error.h"

#define WATCH_DIRS_MAX 65536

struct watch;

struct watch_options {
	int inotify;	    /* non-blocking; kept by the caller, who reads it */
	const char *events; /* where changes show: an overlay's upper directory, or the rootfs */
	const char *merged; /* the rootfs */
	bool overlay;	    /* `events` is an upper directory */
	struct timespec
		since; /* what changed earlier (CLOCK_REALTIME) is known to the other side */
};

/* Watches the directory and all beneath it, and finds what has changed since. Directories beyond
 * WATCH_DIRS_MAX or the system's limit are left out, with one warning. */
struct watch *watch_new(const struct watch_options *o, struct error *err);
void watch_free(struct watch *w);

/* Takes an event from the inotify descriptor. False if it is not one of ours. */
bool watch_event(struct watch *w, const struct inotify_event *e);
/* Events were lost: looks through everything once more. */
void watch_rescan(struct watch *w);

/* Something is waiting to settle: ask watch_take() again after WATCH_QUIET_MS. */
#define WATCH_QUIET_MS 50
bool watch_pending(const struct watch *w);
/* The paths (relative to the rootfs) that are settled, or `all` that changed; sorted, none beneath
 * another one, NULL-terminated (strv_free). NULL if there are none. */
char **watch_take(struct watch *w, bool all, size_t *n);

/* Changes of our own, not to be told of: watch_own() after each (`st` is what is there now, NULL:
 * nothing); watch_own_done() when their events have been taken. */
void watch_own(struct watch *w, const char *path, const struct stat *st);
void watch_own_done(struct watch *w);

/* The order of watch_take(): a directory comes right before what is beneath it. */
int watch_path_cmp(const char *a, const char *b);

#endif
