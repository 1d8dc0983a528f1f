/*
 * The container's cgroup on the host: how it is made, entered and taken away.
 *
 * A host has one v2 hierarchy, or one v1 hierarchy for each controller (or a few), or both; the
 * container has a directory in each. In v1 a process is moved into each of them, which waits for
 * a grace period of RCU once (some milliseconds); in v2 it is born there (CLONE_INTO_CGROUP). So
 * whoever is to be in it enters before it does anything else, and nobody is moved later: memory is
 * counted where it was first touched.
 *
 * All processes are in this one directory, and none below it: engines look for the container's
 * figures, and for its OOM kills, in the very cgroup in which they find its pid.
 *
 * The names are in state.json before anything is made, and a directory can only be removed when
 * nothing is in it: whatever dies in between, `delete` takes the rest away.
 */
#include "shim/host_cgroup.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/cgroup_host.h"
#include "shim/cgroup_limits.h"
#include "shim/cgroup_systemd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define MIB (1024ull * 1024)
/* What the machine needs besides its guest's memory (docs/cgroups.md, "Overhead"). */
#define OVERHEAD_KVM (32 * MIB)
#define OVERHEAD_QEMU (128 * MIB)
#define OVERHEAD_PART 64 /* and one such part of the guest's memory: page tables */
#define OVERHEAD_PROXY (32 * MIB)
#define PROCS_MAX (1u << 20) /* bytes of cgroup.procs */
#define ENDING_MS 2000	     /* what is just ending may take so long to go by itself */
#define GONE_MS 5000
#define ROUND_MS 2

void host_cgroup_free(struct host_cgroup *cg)
{
	for (char **d = cg->dirs; d && *d; d++)
		free(*d);
	free(cg->dirs);
	free(cg->unit);
	*cg = (struct host_cgroup){0};
}

/* ---- where it is */

static bool asked_for(const struct host_cgroup_wish *w)
{
	return w->path || w->systemd || (w->resources && cgroup_limits_any(w->resources));
}

static int no_cgroups(const struct host_cgroup_wish *w, const char *why, struct error *err)
{
	return error_kind(err, ERR_UNSUPPORTED,
			  "%s: this host has no cgroups that husk can use: %s",
			  w->path      ? "linux.cgroupsPath"
			  : w->systemd ? "--systemd-cgroup"
				       : "linux.resources",
			  why);
}

static int check_host(const struct cgroup_host *h, const struct host_cgroup_wish *w,
		      struct error *err)
{
	if (h->n == 0)
		return no_cgroups(w, "none are mounted", err);
	for (size_t i = 0; i < h->n; i++)
		if (!h->v[i].writable) {
			cleanup_free char *why =
				xasprintf("%s is mounted read-only", h->v[i].mount);

			return no_cgroups(w, why, err);
		}
	return 0;
}

static bool is_root(const char *path)
{
	cleanup_free char *clean = path ? cgroup_path_clean(path) : NULL;

	return clean && strcmp(clean, "/") == 0;
}

static void plan_dirs(const struct cgroup_host *h, const char *path, struct host_cgroup *cg)
{
	bool v2 = cgroup_host_is_v2(h);

	cg->dirs = xcalloc(h->n + 1, sizeof(*cg->dirs));
	for (size_t i = 0; i < h->n; i++)
		cg->dirs[i] = cgroup_path_in(&h->v[i], path, v2);
}

static uint64_t overhead(const struct host_cgroup_wish *w)
{
	if (!w->machine_bytes)
		return OVERHEAD_PROXY;
	return (w->kvm ? OVERHEAD_KVM : OVERHEAD_QEMU) +
	       w->machine_bytes / OVERHEAD_PART / MIB * MIB;
}

int host_cgroup_plan(const struct host_cgroup_wish *w, struct host_cgroup *cg, struct error *err)
{
	cleanup_cgroup_host struct cgroup_host host = {0};
	cleanup_free char *slice = NULL;

	*cg = (struct host_cgroup){.oom_score_adj = w->oom_score_adj};
	if (!asked_for(w))
		return 0;
	if (cgroup_host_read(&host, err) < 0 || check_host(&host, w, err) < 0)
		return -1;
	cg->machine_bytes = w->machine_bytes;
	cg->overhead_bytes = overhead(w);
	if (w->systemd)
		return cgroup_path_systemd(w->path, w->id, &slice, &cg->unit, err);
	if (is_root(w->path))
		return error_kind(err, ERR_INVALID,
				  "linux.cgroupsPath: \"%s\": the root cannot be a container's",
				  w->path);
	plan_dirs(&host, w->path ? w->path : w->id, cg);
	return 0;
}

/* ---- making it */

/* In v2 a directory has the controllers that its parent hands down: those that we set, and that
 * engines read. What cannot be handed down is missed by the limit that needs it, which says so. */
static void hand_down(const char *dir)
{
	cleanup_free char *has = xasprintf("%s/cgroup.controllers", dir);
	cleanup_free char *gives = xasprintf("%s/cgroup.subtree_control", dir);
	static const char *const ours[] = {"cpu", "cpuset", "io", "memory", "pids"};
	cleanup_free char *text = NULL, *given = NULL;

	if (file_read(AT_FDCWD, has, PROCS_MAX, &text, NULL, NULL) < 0 ||
	    file_read(AT_FDCWD, gives, PROCS_MAX, &given, NULL, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	given[strcspn(given, "\n")] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
		char order[16];

		if (!cgroup_names_have(text, ' ', ours[i]) ||
		    cgroup_names_have(given, ' ', ours[i]))
			continue;
		snprintf(order, sizeof(order), "+%s", ours[i]);
		file_put(AT_FDCWD, gives, order, NULL);
	}
}

/* In v1 a directory of cpuset takes no process before it has processors and memory nodes. */
static int inherit_cpuset(const char *dir, struct error *err)
{
	static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		cleanup_free char *own = xasprintf("%s/%s", dir, files[i]);
		cleanup_free char *above = xasprintf("%s/../%s", dir, files[i]);
		cleanup_free char *has = NULL, *text = NULL;

		if (file_read(AT_FDCWD, own, 65536, &has, NULL, err) < 0)
			return -1;
		if (has[strspn(has, " \n")] != '\0')
			continue;
		if (file_read(AT_FDCWD, above, 65536, &text, NULL, err) < 0 ||
		    file_put(AT_FDCWD, own, text, err) < 0)
			return -1;
	}
	return 0;
}

static int make_level(const struct cgroup_hierarchy *h, const char *dir, struct error *err)
{
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return error_errno(err, "mkdir %s", dir);
	return !h->v2 && cgroup_hierarchy_has(h, "cpuset") ? inherit_cpuset(dir, err) : 0;
}

/* The directory and its parents, which stay when it goes: others may use them by then. */
static int make_dir(const struct cgroup_hierarchy *h, const char *dir, struct error *err)
{
	cleanup_free char *path = xstrdup(dir);
	char *p = path + strlen(h->mount);

	while (*p == '/') {
		char *next = strchr(p + 1, '/');

		*p = '\0';
		if (h->v2)
			hand_down(path);
		*p = '/';
		if (next)
			*next = '\0';
		if (make_level(h, path, err) < 0)
			return -1;
		if (!next)
			break;
		*next = '/';
		p = next;
	}
	return 0;
}

static int check_empty(const char *dir, struct error *err)
{
	cleanup_free char *procs = xasprintf("%s/cgroup.procs", dir);
	cleanup_free char *text = NULL;

	if (file_read(AT_FDCWD, procs, PROCS_MAX, &text, NULL, err) < 0)
		return error_wrap(err, "linux.cgroupsPath");
	if (text[0] == '\0')
		return 0;
	return error_kind(
		err, ERR_EXISTS,
		"linux.cgroupsPath: %s: container's cgroup is not empty: process %d is in "
		"it",
		dir, atoi(text));
}

/* ---- limits */

static const char *dir_of(const struct host_cgroup *cg, const struct cgroup_host *host,
			  const struct cgroup_hierarchy *h)
{
	for (char **d = cg->dirs; h && d && *d; d++)
		if (cgroup_host_of(host, *d) == h)
			return *d;
	return NULL;
}

/* A v1 cgroup may have no more processor time than the one above it has: what is above bounds the
 * machine then. */
static int clamp_quota(const char *dir, struct error *err)
{
	static const char *const quota = "cpu.cfs_quota_us", *const period = "cpu.cfs_period_us";
	cleanup_free char *above_q = xasprintf("%s/../%s", dir, quota);
	cleanup_free char *above_p = xasprintf("%s/../%s", dir, period);
	cleanup_free char *own_p = xasprintf("%s/%s", dir, period);
	cleanup_free char *own_q = xasprintf("%s/%s", dir, quota);
	cleanup_free char *q = NULL, *p = NULL, *mine = NULL, *value = NULL;
	int64_t limit, per, own;

	if (file_read(AT_FDCWD, above_q, 64, &q, NULL, err) < 0 ||
	    file_read(AT_FDCWD, above_p, 64, &p, NULL, err) < 0 ||
	    file_read(AT_FDCWD, own_p, 64, &mine, NULL, err) < 0)
		return -1;
	limit = strtoll(q, NULL, 10);
	per = strtoll(p, NULL, 10);
	own = strtoll(mine, NULL, 10);
	if (limit <= 0 || per <= 0)
		return error_set(err, "%s: refused by the kernel", own_q);
	value = xasprintf("%lld", (long long)(limit * own / per));
	return file_put(AT_FDCWD, own_q, value, err);
}

static int put_limit(const char *dir, const struct cgroup_limit *l, struct error *err)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, l->file);
	cleanup_free char *other = xasprintf("%s/%s", dir, l->instead);
	struct error e = ERROR_INIT;

	if (file_put(AT_FDCWD, path, l->value, &e) == 0)
		return 0;
	if (e.errnum == ENOENT && l->instead[0] && access(other, F_OK) == 0) {
		e = (struct error)ERROR_INIT;
		if (file_put(AT_FDCWD, other, l->instead_value, &e) == 0)
			return 0;
	} else if (e.errnum == ENOENT && l->optional) {
		return 0;
	} else if (e.errnum == ENOENT) {
		e.errnum = 0;
		error_kind(
			&e, ERR_UNSUPPORTED,
			"this host's kernel has no %s, or the cgroup above does not hand it down",
			l->file);
	}
	if (err)
		*err = e;
	return -1;
}

static void find_versions(const struct host_cgroup *cg, const struct cgroup_host *host,
			  struct limit_target *t)
{
	for (unsigned c = 0; c < LIMIT_CONTROLLERS; c++) {
		const struct cgroup_hierarchy *h = cgroup_host_find(host, limit_controller_name(c));

		if (dir_of(cg, host, h))
			t->version[c] = h->v2 ? LIMIT_V2 : LIMIT_V1;
	}
}

static int wrap_limit(const struct cgroup_limit *l, struct error *err)
{
	return error_wrap(err, "linux.resources.%s", l->field);
}

/* The kernel wants some settings in an order that depends on what was there (memory and memory plus
 * swap, quota and period): what is refused once is tried again after the others. */
static int apply_limits(const struct host_cgroup *cg, const struct cgroup_host *host,
			const struct cgroup_limits *limits, struct error *err)
{
	for (unsigned round = 0, again = 1; again; round++) {
		again = 0;
		for (size_t i = 0; i < limits->n; i++) {
			const struct cgroup_limit *l = &limits->v[i];
			const char *dir = dir_of(
				cg, host,
				cgroup_host_find(host, limit_controller_name(l->controller)));
			struct error e = ERROR_INIT;

			if (put_limit(dir, l, &e) == 0)
				continue;
			if (e.errnum == EINVAL && round == 0) {
				again = 1;
				continue;
			}
			if (e.errnum == EINVAL && strcmp(l->file, "cpu.cfs_quota_us") == 0 &&
			    clamp_quota(dir, NULL) == 0)
				continue;
			if (err)
				*err = e;
			return wrap_limit(l, err);
		}
	}
	return 0;
}

static int write_limits(const struct host_cgroup *cg, const struct cgroup_host *host,
			const struct oci_resources *r, struct error *err)
{
	cleanup_cgroup_limits struct cgroup_limits limits = {0};
	struct limit_target t = {.machine_bytes = cg->machine_bytes,
				 .overhead_bytes = cg->overhead_bytes};

	find_versions(cg, host, &t);
	/* Without a cgroup all that the guest can hold to is the guest's. */
	if (cgroup_limits_build(r, &t, &limits, err) < 0)
		return -1;
	return apply_limits(cg, host, &limits, err);
}

int host_cgroup_update(const struct host_cgroup *cg, const struct oci_resources *r,
		       struct error *err)
{
	cleanup_cgroup_host struct cgroup_host host = {0};

	if (cgroup_host_read(&host, err) < 0)
		return -1;
	/* systemd rounds some: the files have the last word. */
	if (cg->unit && cgroup_systemd_update(cg, r, &host, err) < 0)
		return -1;
	return write_limits(cg, &host, r, err);
}

/* ---- both */

int host_cgroup_make(struct host_cgroup *cg, const struct host_cgroup_wish *w, struct error *err)
{
	cleanup_cgroup_host struct cgroup_host host = {0};

	if (!cg->dirs && !cg->unit)
		return 0;
	if (cgroup_host_read(&host, err) < 0)
		return -1;
	if (cg->unit && cgroup_systemd_start(cg, w, &host, err) < 0)
		return -1;
	for (char **d = cg->dirs; *d; d++) {
		const struct cgroup_hierarchy *h = cgroup_host_of(&host, *d);

		if (!h)
			return error_set(err, "linux.cgroupsPath: %s: no cgroups are mounted there",
					 *d);
		if (make_dir(h, *d, err) < 0)
			return error_wrap(err, "linux.cgroupsPath");
		/* systemd's has the process that it was made with. */
		if (!cg->unit && check_empty(*d, err) < 0)
			return -1;
	}
	cg->made = true;
	return w->resources ? write_limits(cg, &host, w->resources, err) : 0;
}

/* ---- being in it */

int host_cgroup_clone_fd(const struct host_cgroup *cg)
{
	cleanup_free char *v2 = NULL;

	if (!cg->dirs || !cg->dirs[0] || cg->dirs[1])
		return -1;
	v2 = xasprintf("%s/cgroup.controllers", cg->dirs[0]);
	if (access(v2, F_OK) < 0)
		return -1;
	return open(cg->dirs[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int host_cgroup_enter(const struct host_cgroup *cg, struct error *err)
{
	for (char **d = cg->dirs; d && *d; d++) {
		cleanup_free char *procs = xasprintf("%s/cgroup.procs", *d);

		if (file_put(AT_FDCWD, procs, "0", err) < 0)
			return error_wrap(err, "enter the container's cgroup");
	}
	return 0;
}

void host_cgroup_let_go(struct host_cgroup *cg)
{
	if (cg->holder <= 0)
		return;
	kill(cg->holder, SIGKILL);
	while (waitpid(cg->holder, NULL, 0) < 0 && errno == EINTR)
		;
	cg->holder = 0;
}

/* ---- the end of it */

static void kill_all(const char *dir)
{
	cleanup_free char *procs = xasprintf("%s/cgroup.procs", dir);
	cleanup_free char *text = NULL;
	char *save = NULL;

	if (file_read(AT_FDCWD, procs, PROCS_MAX, &text, NULL, NULL) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		pid_t pid = (pid_t)atoi(line);

		/* 0: one of another pid namespace */
		if (pid > 0 && pid != getpid())
			kill(pid, SIGKILL);
	}
}

/* Times are counted in rounds of ours: while the machine stands still nobody else ends. */
static int remove_dir(const char *dir, bool ours, struct error *err)
{
	for (unsigned waited = 0; rmdir(dir) < 0; waited += ROUND_MS) {
		if (errno == ENOENT || (errno == EBUSY && !ours))
			return 0;
		if (errno != EBUSY || waited > GONE_MS)
			return error_errno(err, "remove cgroup %s", dir);
		if (waited > ENDING_MS)
			kill_all(dir);
		poll(NULL, 0, ROUND_MS);
	}
	return 0;
}

int host_cgroup_remove(const struct host_cgroup *cg, struct error *err)
{
	int r = cg->unit ? cgroup_systemd_stop(cg->unit, err) : 0;

	/* The first error is told, and the rest removed all the same. */
	for (char **d = cg->dirs; d && *d; d++)
		if (remove_dir(*d, cg->made, r == 0 ? err : NULL) < 0)
			r = -1;
	return r;
}

/* ---- state.json */

void host_cgroup_write(struct jsonw *w, const struct host_cgroup *cg)
{
	jsonw_obj(w);
	if (cg->dirs) {
		jsonw_key(w, "dirs");
		jsonw_arr(w);
		for (char **d = cg->dirs; *d; d++)
			jsonw_str(w, *d);
		jsonw_end_arr(w);
	}
	if (cg->unit)
		jsonw_kstr(w, "unit", cg->unit);
	if (cg->oom_score_adj.has)
		jsonw_kint(w, "oom_score_adj", cg->oom_score_adj.v);
	jsonw_kbool(w, "made", cg->made);
	jsonw_kuint(w, "machine_bytes", cg->machine_bytes);
	jsonw_kuint(w, "overhead_bytes", cg->overhead_bytes);
	jsonw_end_obj(w);
}

void host_cgroup_read(yajl_val v, struct host_cgroup *cg)
{
	yajl_val dirs = json_get(v, "dirs");
	bool adj = json_get(v, "oom_score_adj") != NULL;
	const char *unit = json_str(v, "unit");
	size_t n = 0;

	*cg = (struct host_cgroup){.made = json_bool(v, "made", false),
				   .machine_bytes = (uint64_t)json_int(v, "machine_bytes", 0),
				   .overhead_bytes = (uint64_t)json_int(v, "overhead_bytes", 0),
				   .oom_score_adj = {.has = adj,
						     .v = (int)json_int(v, "oom_score_adj", 0)},
				   .unit = unit ? xstrdup(unit) : NULL};
	if (!YAJL_IS_ARRAY(dirs))
		return;
	cg->dirs = xcalloc(dirs->u.array.len + 1, sizeof(*cg->dirs));
	for (size_t i = 0; i < dirs->u.array.len; i++)
		if (YAJL_IS_STRING(dirs->u.array.values[i]))
			cg->dirs[n++] = xstrdup(YAJL_GET_STRING(dirs->u.array.values[i]));
}
