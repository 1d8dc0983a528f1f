/* signal.h - signals by name, as `kill` takes them and images write them. */
#ifndef HUSK_OCI_SIGNAL_H
#define HUSK_OCI_SIGNAL_H

#include "lib/error.h"

/* The number of "15", "TERM", "SIGTERM" (in any case), "RTMIN", "SIGRTMIN+3" or "RTMAX-1"; 0 to
 * 64. Real-time signals are counted from the 34 that programs use. -1 with
 * `unknown signal "X"` (runc's words) otherwise. */
int oci_signal_parse(const char *s, struct error *err);

#endif
