#include "lib/size.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char units[] = "KMGT";

bool size_parse(const char *text, uint64_t *bytes)
{
	const char *p, *u;
	uint64_t v = 0;
	unsigned shift = 0;

	for (p = text; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return false;
	u = *p ? strchr(units, *p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p) : NULL;
	if (u) {
		shift = 10 * (unsigned)(u - units + 1);
		p++;
	}
	if (text[0] < '0' || text[0] > '9' || *p || v > UINT64_MAX >> shift)
		return false;
	*bytes = v << shift;
	return true;
}

const char *size_text(uint64_t bytes, char buf[SIZE_TEXT])
{
	unsigned unit = 0;

	while (unit < sizeof(units) - 1 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	snprintf(buf, SIZE_TEXT, "%" PRIu64 "%.*s", bytes, unit ? 1 : 0,
		 unit ? units + unit - 1 : "");
	return buf;
}
