/*
 * error.h - the one way in which husk's functions fail.
 *
 * A function that can fail takes `struct error *err` as its last parameter and returns a negative
 * number (or NULL) after filling it. On success *err is untouched. The message is made where the
 * cause is known and names the object (path, field, id) and the system's reason; callers on the
 * way up may put context before it with error_wrap(). A message is one line without a full stop.
 *
 *	if (openat2(...) < 0)
 *		return error_errno(err, "open %s", path);
 *	if (spec_load(path, &spec, err) < 0)
 *		return error_wrap(err, "container %s", id);
 *
 * `err` may be NULL where the caller does not care.
 */
#ifndef HUSK_LIB_ERROR_H
#define HUSK_LIB_ERROR_H

#include <stdarg.h>
#include <stddef.h>

/* What a caller may want to act upon; everything else is ERR_OTHER. */
enum error_kind {
	ERR_OTHER = 0,
	ERR_USAGE,	   /* wrong command line */
	ERR_INVALID,	   /* config.json or another input breaks its specification */
	ERR_NOT_FOUND,	   /* no such container */
	ERR_EXISTS,	   /* container id in use */
	ERR_NOT_RUNNING,   /* container or process has ended */
	ERR_CMD_NOT_FOUND, /* the command to execute does not exist (shells say 127) */
	ERR_CMD_NOT_EXEC,  /* the command exists and cannot be executed (shells say 126) */
	ERR_TIMEOUT,	   /* a bounded wait ran out */
	ERR_INTERRUPTED,   /* SIGINT or SIGTERM asked us to stop */
	ERR_PEER,	   /* guest, QEMU or another process broke its protocol or went away */
	ERR_UNSUPPORTED,   /* understood, and refused by name */
	ERR_NO_ROOM,	   /* a machine has no free slot for one more device */
};

#define ERROR_MSG_MAX 2048

struct error {
	enum error_kind kind;
	int errnum; /* errno of the cause, 0 if there is none */
	char msg[ERROR_MSG_MAX];
};

#define ERROR_INIT \
	{          \
		0  \
	}

/* All return -1, so that `return error_set(...)` reads well. error_errno() appends ": " and
 * strerror(errno). */
int error_set(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int error_kind(struct error *err, enum error_kind kind, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int error_errno(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the message and keeps kind and errnum. Returns -1. */
int error_wrap(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#if defined(__clang_analyzer__) && !defined(HUSK_ERROR_C)
/* clang-tidy sees one file at a time: this tells it what these functions return. */
#define error_set(...) (error_set(__VA_ARGS__), -1)
#define error_kind(...) (error_kind(__VA_ARGS__), -1)
#define error_errno(...) (error_errno(__VA_ARGS__), -1)
#define error_wrap(...) (error_wrap(__VA_ARGS__), -1)
#endif

/* Stable names of kinds ("not_found", ...) as they cross the agent and control protocols. */
const char *error_kind_name(enum error_kind kind);
enum error_kind error_kind_from_name(const char *name);

#endif
