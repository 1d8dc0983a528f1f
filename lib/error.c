#define HUSK_ERROR_C
#include "lib/error.h"
#include "lib/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void set_message(struct error *err, enum error_kind kind, int errnum, const char *fmt,
			va_list ap)
{
	err->kind = kind;
	err->errnum = errnum;
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	/* One line, whatever a path or a peer put into it. */
	replace_controls(err->msg, ' ');
}

int error_set(struct error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	set_message(err, ERR_OTHER, 0, fmt, ap);
	va_end(ap);
	return -1;
}

int error_kind(struct error *err, enum error_kind kind, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	set_message(err, kind, 0, fmt, ap);
	va_end(ap);
	return -1;
}

int error_errno(struct error *err, const char *fmt, ...)
{
	int errnum = errno;
	size_t n;
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	set_message(err, ERR_OTHER, errnum, fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(errnum));
	return -1;
}

int error_wrap(struct error *err, const char *fmt, ...)
{
	char old[ERROR_MSG_MAX];
	size_t n;
	va_list ap;

	if (!err)
		return -1;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	set_message(err, err->kind, err->errnum, fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", old);
	return -1;
}

static const char *const kind_names[] = {
	[ERR_OTHER] = "other",
	[ERR_USAGE] = "usage",
	[ERR_INVALID] = "invalid",
	[ERR_NOT_FOUND] = "not_found",
	[ERR_EXISTS] = "exists",
	[ERR_NOT_RUNNING] = "not_running",
	[ERR_CMD_NOT_FOUND] = "cmd_not_found",
	[ERR_CMD_NOT_EXEC] = "cmd_not_exec",
	[ERR_TIMEOUT] = "timeout",
	[ERR_INTERRUPTED] = "interrupted",
	[ERR_PEER] = "peer",
	[ERR_UNSUPPORTED] = "unsupported",
	[ERR_NO_ROOM] = "no_room",
};

const char *error_kind_name(enum error_kind kind)
{
	size_t n = sizeof(kind_names) / sizeof(kind_names[0]);

	return (size_t)kind < n ? kind_names[kind] : kind_names[ERR_OTHER];
}

enum error_kind error_kind_from_name(const char *name)
{
	for (size_t i = 0; name && i < sizeof(kind_names) / sizeof(kind_names[0]); i++)
		if (strcmp(kind_names[i], name) == 0)
			return (enum error_kind)i;
	return ERR_OTHER;
}
