/* oci_text.h - JSON for tests, written with ' instead of ". */
#ifndef HUSK_TESTS_OCI_TEXT_H
#define HUSK_TESTS_OCI_TEXT_H

#include <ctype.h>
#include <string.h>

#include "lib/file.h"

/* `text` with every ' turned into ", save an apostrophe between two letters, malloc'ed. */
static inline char *quoted(const char *text)
{
	char *s = xstrdup(text);

	for (char *p = s; *p; p++)
		if (*p == '\'' &&
		    !(p > s && isalpha((unsigned char)p[-1]) && isalpha((unsigned char)p[1])))
			*p = '"';
	return s;
}

/* `text` with the first `from` replaced by `to`, malloc'ed; NULL if it is not there. */
static inline char *edited(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);

	if (!at)
		return NULL;
	return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

#endif
