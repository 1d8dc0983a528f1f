/*
 * projects.h - the guest's copies of small host files, which config.json binds into containers.
 *
 * Each container has a tmpfs for them, PROJECTS_DIR/<id>. Their content comes by `push`
 * (agent/tools.h), and goes back by `changes` when a watcher here has seen a write.
 */
#ifndef HUSK_AGENT_PROJECTS_H
#define HUSK_AGENT_PROJECTS_H

#include <stdbool.h>

#include "lib/error.h"
#include "lib/loop.h"

/* Not below /run/husk, where every name may be a container's. */
#define PROJECTS_DIR "/run/projects"
#define PROJECTS_SIZE "size=25%,nr_inodes=64k,mode=0755"

struct projects;

/* Called from the loop: a writable project was written to (and closed, or a moment ago). Must not
 * use or release projects. */
typedef void (*project_changed_fn)(void *arg, const char *container, const char *name);

struct projects *projects_new(struct loop *loop, project_changed_fn fn, void *arg);
void projects_free(struct projects *set);
/* Mounts the container's tmpfs, once, on behalf of the connection `pusher`. Returns an O_PATH
 * descriptor of it that belongs to the set, or -1. */
int projects_dir(struct projects *set, const char *container, const void *pusher,
		 struct error *err);
/* A container that is being made uses its project `name`, which is there; watched if writable (only
 * files can be). Once for each mount. */
int projects_use(struct projects *set, const char *container, const char *name, bool writable,
		 struct error *err);
/* The container is gone: its projects are removed. */
void projects_release(struct projects *set, const char *container);
/* What was pushed by a connection that has made no container of it is removed. */
void projects_client_gone(struct projects *set, const void *client);
/* O_PATH descriptors of the container's writable projects, and their names (owned by the set until
 * the next call). */
size_t projects_writable(struct projects *set, const char *container, char ***names, int **fds);

#endif
