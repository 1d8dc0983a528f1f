#include "shim/quantity.h"
#include "lib/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_US (100ull * 365 * 86400 * 1000000)

/* Digits with at most one point between or beside them; moves *s behind them. */
static bool take_decimal(const char **s, double *v)
{
	size_t n = strspn(*s, "0123456789"), more = 0;
	char text[64];

	if ((*s)[n] == '.')
		more = 1 + strspn(*s + n + 1, "0123456789");
	if (n + (more ? more - 1 : 0) == 0 || n + more >= sizeof(text))
		return false;
	memcpy(text, *s, n + more);
	text[n + more] = '\0';
	*v = strtod(text, NULL);
	*s += n + more;
	return true;
}

bool quantity_duration(const char *s, uint64_t *us)
{
	static const struct {
		const char *name;
		double us;
	} units[] = {{"ns", 1e-3}, {"us", 1},  {"\u00b5s", 1}, {"\u03bcs", 1},
		     {"ms", 1e3},  {"s", 1e6}, {"m", 60e6},    {"h", 3600e6}};
	double sum = 0, v;

	if (*s == '+')
		s++;
	if (strcmp(s, "0") == 0) {
		*us = 0;
		return true;
	}
	if (!*s)
		return false;
	while (*s) {
		size_t i, n = 0;

		if (!take_decimal(&s, &v))
			return false;
		/* "ms" comes before "m" */
		for (i = 0; i < ARRAY_LEN(units); i++) {
			n = strlen(units[i].name);
			if (strncmp(s, units[i].name, n) == 0)
				break;
		}
		if (i == ARRAY_LEN(units))
			return false;
		sum += v * units[i].us;
		s += n;
	}
	if (sum > (double)LONGEST_US)
		return false;
	*us = (uint64_t)sum;
	return true;
}

bool quantity_bytes(const char *s, int64_t *bytes)
{
	static const char letters[] = "kmgtp";
	const char *at;
	double v;

	if (!take_decimal(&s, &v))
		return false;
	if (*s == ' ')
		s++;
	at = *s ? strchr(letters, *s | 0x20) : NULL;
	if (at) {
		for (const char *p = letters; p <= at; p++)
			v *= 1024;
		s++;
		if ((*s | 0x20) == 'i')
			s++;
	}
	if ((*s | 0x20) == 'b')
		s++;
	if (*s || v > 9e18)
		return false;
	*bytes = (int64_t)v;
	return true;
}

bool quantity_integer(const char *s, int64_t min, int64_t max, int64_t *out)
{
	size_t sign = *s == '-' && min < 0;
	char *end;
	long long v;

	if (!s[sign] || strspn(s + sign, "0123456789") != strlen(s + sign))
		return false;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (errno == ERANGE || v < min || v > max)
		return false;
	*out = v;
	return true;
}
