#include "shim/oom.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>

#define SCORE_MIN (-1000)
#define PROXY_LESS 100

static int set_score(int adj)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", adj);
	return file_put(AT_FDCWD, "/proc/self/oom_score_adj", text, NULL);
}

/* Less than a privileged process set takes CAP_SYS_RESOURCE; 0 is what there was at first. */
static int set_at_least(int adj)
{
	if (set_score(adj) == 0)
		return adj;
	return adj < 0 && set_score(0) == 0 ? 0 : SCORE_MIN - 1;
}

void oom_score_machine(const struct oci_opt_int *adj)
{
	if (adj->has && set_at_least(adj->v) != adj->v)
		log_debug("process.oomScoreAdj: %d: holds in the guest; on the host the VM's is 0: "
			  "to lower it takes CAP_SYS_RESOURCE",
			  adj->v);
}

void oom_score_proxy(const struct oci_opt_int *adj)
{
	int less = adj->has && adj->v - PROXY_LESS > SCORE_MIN ? adj->v - PROXY_LESS : SCORE_MIN;

	if (adj->has && set_at_least(less) != less)
		set_at_least(adj->v);
}
