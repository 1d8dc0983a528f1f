/*
 * mirror_projects.h - keeps projected host files and the guest's copies alike (docs/rootfs.md,
 * "Mounts").
 */
#ifndef HUSK_SHIM_MIRROR_PROJECTS_H
#define HUSK_SHIM_MIRROR_PROJECTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/inotify.h>
#include <time.h>

#include "lib/changeset/reader.h"
#include "shim/agent_client.h"

struct projects_mirror;

/* What the container in `dirfd` has projected: NULL with *err untouched if that is nothing. What
 * changed on the host since `since` (CLOCK_REALTIME) counts as changed. Nothing is watched yet. */
struct projects_mirror *pm_open(int dirfd, struct timespec since, struct error *err);
void pm_free(struct projects_mirror *p);
/* From now on changes of the sources give events on `inotify` (kept by the caller, who reads it).
 * What changed since pm_open() counts as changed. */
void pm_watch(struct projects_mirror *p, int inotify);

bool pm_event(struct projects_mirror *p, const struct inotify_event *e);
void pm_rescan(struct projects_mirror *p);
/* True if some may be written by the container. */
bool pm_writable(const struct projects_mirror *p);

/* Something on the host has changed: ask pm_push() again after PM_QUIET_MS. */
#define PM_QUIET_MS 50
bool pm_pending(const struct projects_mirror *p);
/* Members that have changed and settled (or `all` that have changed), for one push; then
 * pm_pushed(). Arrays belong to `p`. */
size_t pm_take(struct projects_mirror *p, bool all, char ***names, int **fds);
void pm_pushed(struct projects_mirror *p, bool ok);

/* Takes the guest's writable projects from a changeset: what the container wrote goes to the host's
 * file, in place. */
int pm_receive(struct projects_mirror *p, int in, struct error *err);

#endif
