/* process: config.md, "Process". */
#include "oci/spec_field.h"
#include "oci/caps.h"
#include "oci/spec_names.h"
#include "lib/file.h"

#include <stdlib.h>
#include <string.h>

static int read_user(const struct field *process, struct oci_process *p, struct error *err)
{
	struct oci_user *u = &p->user;
	struct field f;
	int r = get_object(process, "user", &f, err);

	if (r <= 0)
		return r;
	if (get_u32(&f, "uid", &u->uid, err) < 0 || get_u32(&f, "gid", &u->gid, err) < 0 ||
	    get_opt_u32(&f, "umask", &u->umask, err) < 0 ||
	    get_u32v(&f, "additionalGids", &u->additional_gids, &u->n_additional_gids, err) < 0 ||
	    get_str(&f, "username", &u->username, err) < 0)
		return -1;
	if (u->umask.has && u->umask.v > 0777)
		return field_fail_member(&f, "umask", err, "%u is out of range (0 to 0777)",
					 u->umask.v);
	return 0;
}

static int read_console_size(const struct field *process, struct oci_process *p, struct error *err)
{
	struct field f;
	uint64_t height = 0, width = 0;
	int r = get_object(process, "consoleSize", &f, err);

	if (r <= 0)
		return r;
	if (need_u64(&f, "height", UINT16_MAX, &height, err) < 0 ||
	    need_u64(&f, "width", UINT16_MAX, &width, err) < 0)
		return -1;
	p->console_height = (uint16_t)height;
	p->console_width = (uint16_t)width;
	return 0;
}

/* ---- capabilities */

/* Room for them all was made before. */
static void note_unknown(struct oci_capabilities *c, char **name)
{
	for (size_t i = 0; i < c->n_unknown; i++)
		if (strcmp(c->unknown[i], *name) == 0)
			return;
	c->unknown[c->n_unknown++] = *name;
	*name = NULL;
}

#define UNKNOWN_CAPS_MAX 64

static int read_cap_set(const struct field *caps, const char *key, struct oci_capabilities *c,
			uint64_t *set, struct error *err)
{
	char **names = NULL;
	size_t n = 0;
	int r = get_strv(caps, key, &names, &n, err);

	for (size_t i = 0; r > 0 && i < n; i++) {
		int cap = oci_cap_from_name(names[i]);

		if (cap >= 0)
			*set |= UINT64_C(1) << cap;
		else if (c->n_unknown < UNKNOWN_CAPS_MAX)
			note_unknown(c, &names[i]);
	}
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return r;
}

static int read_capabilities(const struct field *process, struct oci_process *p, struct error *err)
{
	struct oci_capabilities *c;
	struct field f;
	int r = get_object(process, "capabilities", &f, err);

	if (r <= 0)
		return r;
	c = p->capabilities = xcalloc(1, sizeof(*c));
	c->unknown = xcalloc(UNKNOWN_CAPS_MAX + 1, sizeof(*c->unknown));
	if (read_cap_set(&f, "bounding", c, &c->bounding, err) < 0 ||
	    read_cap_set(&f, "effective", c, &c->effective, err) < 0 ||
	    read_cap_set(&f, "inheritable", c, &c->inheritable, err) < 0 ||
	    read_cap_set(&f, "permitted", c, &c->permitted, err) < 0 ||
	    read_cap_set(&f, "ambient", c, &c->ambient, err) < 0)
		return -1;
	if (c->n_unknown == 0) {
		free(c->unknown);
		c->unknown = NULL;
	}
	return 0;
}

/* ---- limits and scheduling */

static int read_rlimit(const struct field *f, void *elem, struct error *err)
{
	struct oci_rlimit *l = elem;
	uint64_t resource;

	if (need_enum(f, "type", oci_rlimit_names, "rlimit type", &resource, err) < 0 ||
	    need_u64(f, "soft", UINT64_MAX, &l->soft, err) < 0 ||
	    need_u64(f, "hard", UINT64_MAX, &l->hard, err) < 0)
		return -1;
	l->resource = (int)resource;
	return 0;
}

static int read_scheduler(const struct field *process, struct oci_process *p, struct error *err)
{
	struct oci_scheduler *s;
	struct field f;
	uint64_t policy;
	int64_t nice = 0, priority = 0;
	int r = get_object(process, "scheduler", &f, err);

	if (r <= 0)
		return r;
	s = p->scheduler = xcalloc(1, sizeof(*s));
	if (need_enum(&f, "policy", oci_sched_policies, "scheduling policy", &policy, err) < 0 ||
	    get_i64(&f, "nice", INT32_MIN, INT32_MAX, &nice, err) < 0 ||
	    get_i64(&f, "priority", INT32_MIN, INT32_MAX, &priority, err) < 0 ||
	    get_flags(&f, "flags", oci_sched_flags, "scheduling flag", &s->flags, err) < 0 ||
	    get_u64(&f, "runtime", UINT64_MAX, &s->runtime_ns, err) < 0 ||
	    get_u64(&f, "deadline", UINT64_MAX, &s->deadline_ns, err) < 0 ||
	    get_u64(&f, "period", UINT64_MAX, &s->period_ns, err) < 0)
		return -1;
	s->policy = (uint32_t)policy;
	s->nice = (int32_t)nice;
	s->priority = (int32_t)priority;
	return 0;
}

static int read_io_priority(const struct field *process, struct oci_process *p, struct error *err)
{
	struct field f;
	uint64_t class;
	int64_t priority = 0;
	int r = get_object(process, "ioPriority", &f, err);

	if (r <= 0)
		return r;
	p->io_priority = xcalloc(1, sizeof(*p->io_priority));
	if (need_enum(&f, "class", oci_ioprio_classes, "I/O priority class", &class, err) < 0 ||
	    get_i64(&f, "priority", 0, 7, &priority, err) < 0)
		return -1;
	p->io_priority->class = (int)class;
	p->io_priority->priority = (int)priority;
	return 0;
}

static int read_cpu_affinity(const struct field *process, struct oci_process *p, struct error *err)
{
	struct field f;
	int r = get_object(process, "execCPUAffinity", &f, err);

	if (r <= 0)
		return r;
	if (get_str(&f, "initial", &p->exec_cpu_affinity_initial, err) < 0)
		return -1;
	return get_str(&f, "final", &p->exec_cpu_affinity_final, err);
}

int spec_read_process(const struct field *f, struct oci_process *p, struct error *err)
{
	if (get_bool(f, "terminal", &p->terminal, err) < 0 || read_console_size(f, p, err) < 0 ||
	    read_user(f, p, err) < 0 || get_strv(f, "args", &p->args, &p->n_args, err) < 0 ||
	    get_strv(f, "env", &p->env, &p->n_env, err) < 0 || get_str(f, "cwd", &p->cwd, err) < 0)
		return -1;
	if (read_capabilities(f, p, err) < 0 ||
	    get_list(f, "rlimits", sizeof(*p->rlimits), read_rlimit, &p->rlimits, &p->n_rlimits,
		     err) < 0 ||
	    get_bool(f, "noNewPrivileges", &p->no_new_privileges, err) < 0 ||
	    get_str(f, "apparmorProfile", &p->apparmor_profile, err) < 0 ||
	    get_opt_int(f, "oomScoreAdj", -1000, 1000, &p->oom_score_adj, err) < 0 ||
	    get_str(f, "selinuxLabel", &p->selinux_label, err) < 0)
		return -1;
	if (read_scheduler(f, p, err) < 0 || read_io_priority(f, p, err) < 0)
		return -1;
	return read_cpu_affinity(f, p, err);
}
