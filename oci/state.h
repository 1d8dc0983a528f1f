/*
 * state.h - the OCI state of a container as JSON (runtime.md, "State"), for `state`, `list` and
 * the standard input of hooks.
 */
#ifndef HUSK_OCI_STATE_H
#define HUSK_OCI_STATE_H

#include <sys/types.h>
#include <time.h>

#include "lib/json.h"
#include "oci/spec.h"

enum oci_status {
	OCI_STATUS_CREATING,
	OCI_STATUS_CREATED,
	OCI_STATUS_RUNNING,
	OCI_STATUS_STOPPED,
	OCI_STATUS_PAUSED, /* as runc says; the specification does not know it */
};

/* Nothing in it is owned: a view of what the writer shall write. */
struct oci_state {
	const char *id;
	enum oci_status status;
	pid_t pid; /* of the proxy; 0 when there is none (stopped) */
	const char *bundle;
	const struct oci_kv *annotations;
	size_t n_annotations;
	/* not in the specification: runc's `state` */
	const char *rootfs;
	struct timespec created;
	const char *owner;
	/* husk's own ("the state MAY include additional properties"); NULL: left out */
	const char *engine;
};

const char *oci_status_name(enum oci_status status);
/* -1 if there is none of that name. */
int oci_status_from_name(const char *name);

#define OCI_TIME_SIZE 64
/* UTC in RFC 3339 with as many digits of the second as it needs: "2026-01-02T15:04:05.25Z". */
const char *oci_time(const struct timespec *t, char buf[OCI_TIME_SIZE]);

/* What hooks read: ociVersion, id, status, pid (if there is one), bundle, annotations (if any). One
 * line, malloc'ed. */
int oci_state_for_hook(const struct oci_state *s, char **text, size_t *len, struct error *err);
/* What `state` prints: also pid 0, rootfs, created, owner, engine. Pretty, malloc'ed. */
int oci_state_for_user(const struct oci_state *s, char **text, size_t *len, struct error *err);
/* The same object as an element of a larger document (`list --format json`). */
void oci_state_write(const struct oci_state *s, struct jsonw *w);

#endif
