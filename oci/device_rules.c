#include "oci/device_rules.h"

#include <string.h>

static bool number_matches(const struct oci_opt_i64 *rule, int64_t n)
{
	return !rule->has || rule->v == -1 || rule->v == n;
}

bool oci_device_allowed(const struct oci_device_rule *rules, size_t n, char type, int64_t major,
			int64_t minor, char access)
{
	while (n-- > 0) {
		const struct oci_device_rule *r = &rules[n];

		if (r->access && !strchr(r->access, access))
			continue;
		if (r->type == 'a' || (r->type == type && number_matches(&r->major, major) &&
				       number_matches(&r->minor, minor)))
			return r->allow;
	}
	return false;
}
