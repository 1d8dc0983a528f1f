/* linux.seccomp: config-linux.md, "Seccomp". */
#include "oci/spec_field.h"
#include "oci/spec_names.h"

#include <stdio.h>

#define ERRNO_MAX 4095 /* MAX_ERRNO of the kernel; larger ones are cut to it */

static int read_arg(const struct field *f, void *elem, struct error *err)
{
	struct oci_seccomp_arg *a = elem;
	uint64_t index, op;

	if (need_u64(f, "index", 5, &index, err) < 0 ||
	    need_u64(f, "value", UINT64_MAX, &a->value, err) < 0 ||
	    get_u64(f, "valueTwo", UINT64_MAX, &a->value_two, err) < 0 ||
	    need_enum(f, "op", oci_seccomp_ops, "seccomp operator", &op, err) < 0)
		return -1;
	a->index = (uint32_t)index;
	a->op = (enum oci_seccomp_op)op;
	return 0;
}

/* With SCMP_ACT_TRACE it is a message for the tracer, of 16 bits. */
static int read_errno(const struct field *f, const char *key, uint64_t action,
		      struct oci_opt_u32 *out, struct error *err)
{
	uint64_t v = 0;
	int r = get_u64(f, key, action == OCI_ACT_TRACE ? UINT16_MAX : ERRNO_MAX, &v, err);

	*out = (struct oci_opt_u32){.has = r > 0, .v = (uint32_t)v};
	return r;
}

static int read_rule(const struct field *f, void *elem, struct error *err)
{
	struct oci_seccomp_rule *r = elem;
	uint64_t action;

	if (get_strv(f, "names", &r->names, &r->n_names, err) < 0 ||
	    need_enum(f, "action", oci_seccomp_actions, "seccomp action", &action, err) < 0 ||
	    read_errno(f, "errnoRet", action, &r->errno_ret, err) < 0)
		return -1;
	r->action = (enum oci_seccomp_action)action;
	return get_list(f, "args", sizeof(*r->args), read_arg, &r->args, &r->n_args, err);
}

static int refuse_unknown_arch(const struct field *f, const struct oci_seccomp *s,
			       struct error *err)
{
	for (size_t i = 0; i < s->n_architectures; i++) {
		char key[48];

		if (oci_seccomp_arch_known(s->architectures[i]))
			continue;
		snprintf(key, sizeof(key), "architectures[%zu]", i);
		return field_fail_member(f, key, err, "\"%.64s\": unknown architecture",
					 s->architectures[i]);
	}
	return 0;
}

int spec_read_seccomp(const struct field *f, struct oci_seccomp *s, struct error *err)
{
	uint64_t action, flags = 0;

	if (need_enum(f, "defaultAction", oci_seccomp_actions, "seccomp action", &action, err) <
		    0 ||
	    read_errno(f, "defaultErrnoRet", action, &s->default_errno_ret, err) < 0 ||
	    get_strv(f, "architectures", &s->architectures, &s->n_architectures, err) < 0 ||
	    refuse_unknown_arch(f, s, err) < 0 ||
	    get_flags(f, "flags", oci_seccomp_flags, "seccomp flag", &flags, err) < 0)
		return -1;
	s->default_action = (enum oci_seccomp_action)action;
	s->flags = (uint32_t)flags;
	if (get_str(f, "listenerPath", &s->listener_path, err) < 0 ||
	    get_str(f, "listenerMetadata", &s->listener_metadata, err) < 0)
		return -1;
	return get_list(f, "syscalls", sizeof(*s->rules), read_rule, &s->rules, &s->n_rules, err);
}
