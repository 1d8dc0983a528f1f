/*
 * pod.h - a container's part in a pod, from its annotations (docs/pods.md, "Who is what"). Pure.
 */
#ifndef HUSK_OCI_POD_H
#define HUSK_OCI_POD_H

#include "oci/spec.h"

enum oci_pod_role {
	OCI_POD_SINGLE,	 /* none: its VM is its own */
	OCI_POD_SANDBOX, /* it makes the pod's VM */
	OCI_POD_JOINS,	 /* it runs in the VM of its sandbox */
};

struct oci_pod {
	enum oci_pod_role role;
	const char *sandbox; /* OCI_POD_JOINS: the sandbox's id; the spec's */
	const char *key;     /* of the annotation that says so: for messages */
};

/* ERR_INVALID names the annotation: a type that nobody knows, a container without its sandbox, two
 * engines' annotations that contradict each other. */
int oci_pod_role(const struct oci_spec *spec, struct oci_pod *pod, struct error *err);

#endif
