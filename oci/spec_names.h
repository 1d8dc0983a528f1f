/* spec_names.h - the names with a fixed set of values. Private to the parser and validator. */
#ifndef HUSK_OCI_SPEC_NAMES_H
#define HUSK_OCI_SPEC_NAMES_H

#include "oci/spec_field.h"

extern const struct name oci_ns_names[];	  /* enum oci_ns_type */
extern const struct name oci_rlimit_names[];	  /* RLIMIT_* */
extern const struct name oci_sched_policies[];	  /* SCHED_* */
extern const struct name oci_sched_flags[];	  /* SCHED_FLAG_* */
extern const struct name oci_ioprio_classes[];	  /* IOPRIO_CLASS_* */
extern const struct name oci_seccomp_actions[];	  /* enum oci_seccomp_action */
extern const struct name oci_seccomp_ops[];	  /* enum oci_seccomp_op */
extern const struct name oci_seccomp_flags[];	  /* SECCOMP_FILTER_FLAG_* */
extern const struct name oci_propagations[];	  /* MS_* */
extern const struct name oci_personalities[];	  /* PER_* */
extern const struct name oci_device_types[];	  /* 'c', 'b', 'p' */
extern const struct name oci_device_rule_types[]; /* 'a', 'c', 'b' */

#define OCI_SCHED_ISO 4 /* a name of the specification that Linux never had */

bool oci_seccomp_arch_known(const char *name);

#endif
