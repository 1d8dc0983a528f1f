/*
 * qmp.h - the few words of QEMU's monitor protocol that an engine needs.
 *
 * One connected socket, one JSON object a line (QEMU's docs/interop/qmp-spec.txt). The client
 * greets, enters command mode, then takes commands; their answers come in order of the commands'
 * ids. What QEMU says is not trusted: a guest may own it. A line has at most QMP_LINE_MAX bytes,
 * and whatever is not understood ends the connection.
 */
#ifndef HUSK_VMM_QMP_H
#define HUSK_VMM_QMP_H

#include "lib/loop.h"

#define QMP_LINE_MAX 65536
#define QMP_PENDING_MAX 16 /* commands without an answer */
#define QMP_ARGUMENTS_MAX 128

enum qmp_type { QMP_GREETING, QMP_RETURN, QMP_ERROR, QMP_EVENT };

/* A line of QMP in typed form. */
struct qmp_msg {
	enum qmp_type type;
	int64_t id;	 /* of an answer, -1: none */
	char event[64];	 /* name of an event */
	char reason[64]; /* data.reason of a SHUTDOWN or RESET event, "" if there is none */
	char status[64]; /* return.status of query-status, "" if there is none */
	char class_[64]; /* error.class */
	char desc[512];	 /* error.desc */
};

/* Reads one line of `len` bytes. Strings that are too long are cut. */
int qmp_parse(const char *line, size_t len, struct qmp_msg *m, struct error *err);

struct qmp;

struct qmp_handler {
	/* The monitor takes commands, which it does when the machine runs. Called once. */
	void (*ready)(void *arg);
	void (*event)(void *arg, const struct qmp_msg *m);
	/* QEMU hung up or said nonsense; nothing follows but the failure of pending commands. */
	void (*closed)(void *arg, const char *why);
	void *arg;
};

/* `err` is NULL when the command succeeded. */
typedef void (*qmp_done_fn)(void *arg, const struct qmp_msg *m, const struct error *err);

/* Speaks on connected socket `sock` (owned from now on, also on failure). */
struct qmp *qmp_new(struct loop *l, int sock, const struct qmp_handler *h, struct error *err);
/* Fails what is pending. Not to be called from a handler. */
void qmp_free(struct qmp *q);

/* Sends a command without arguments; `done` is called once, from the loop, unless this fails. */
int qmp_execute(struct qmp *q, const char *command, qmp_done_fn done, void *arg, struct error *err);
/* With `arguments`, the members of an object in JSON, at most QMP_ARGUMENTS_MAX bytes. */
int qmp_execute_with(struct qmp *q, const char *command, const char *arguments, qmp_done_fn done,
		     void *arg, struct error *err);

#endif
