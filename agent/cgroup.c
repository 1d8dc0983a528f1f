/*
 * The container's cgroup.
 *
 * /sys/fs/cgroup/husk.<id> holds the container's processes, and is what the container sees as the
 * root of its hierarchy when it has a cgroup namespace. The guest's memory and processors are the
 * VM's limits; these are the container's, and they matter within a pod, for the OOM killer, and for
 * what a program reads about itself.
 *
 * It is a child of the root, whose controllers are enabled at boot: a level more would cost every
 * container's start another directory and another change of subtree_control.
 */
#include "agent/cgroup.h"
#include "agent/device_filter.h"
#include "agent/devices.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define PREFIX "husk." /* keeps ids apart from names of the root's own files */
#define EMPTY_WAIT_US 5000000
#define FREEZE_WAIT_US 2000000

/* ---- the directory */

char *cgroup_name(const char *id)
{
	return xasprintf(PREFIX "%s", id);
}

int cgroup_create(struct container *c, struct error *err)
{
	const struct oci_resources *r = c->spec->lnx.resources;
	cleanup_free char *path = xasprintf(CGROUP_ROOT "/%s", c->cgroup);

	if (mkdir(path, 0755) < 0)
		return error_errno(err, "mkdir %s", path);
	c->cgroup_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->cgroup_fd < 0)
		return error_errno(err, "open %s", path);
	if (cgroup_devices(c, r ? r->devices : NULL, r ? r->n_devices : 0, err) < 0)
		return -1;
	return r ? cgroup_apply(c, r, err) : 0;
}

int cgroup_devices(struct container *c, const struct oci_device_rule *rules, size_t n,
		   struct error *err)
{
	cleanup_free struct device_alias *aliases = xcalloc(c->n_devices + 1, sizeof(*aliases));
	struct device_program p;
	int r;

	for (size_t i = 0; i < c->n_devices; i++) {
		const struct oci_device *d = &c->spec->lnx.devices[c->devices[i].index];

		aliases[i] = (struct device_alias){.host_major = d->major,
						   .host_minor = d->minor,
						   .major = c->numbers[i].major,
						   .minor = c->numbers[i].minor};
	}
	device_program_build(rules, n, c->disk_major, aliases, c->n_devices, &p);
	r = device_filter_attach(c->cgroup_fd, &p, &c->device_prog, err);
	device_program_free(&p);
	return r < 0 ? error_wrap(err, "linux.resources.devices") : 0;
}

int cgroup_apply(const struct container *c, const struct oci_resources *r, struct error *err)
{
	cleanup_plan struct cgroup_plan plan = {0};

	if (cgroup_plan_build(r, &plan, err) < 0)
		return -1;
	for (size_t i = 0; i < plan.n; i++) {
		const struct cgroup_setting *s = &plan.v[i];
		struct error e = ERROR_INIT;

		if (file_put(c->cgroup_fd, s->file, s->value, &e) == 0 ||
		    (s->optional && e.errnum == ENOENT))
			continue;
		if (err)
			*err = e;
		return error_wrap(err, "linux.resources.%s", s->field);
	}
	return 0;
}

/* What the files of `plan` hold now, to be written back in the opposite order. */
static struct cgroup_plan *remember(const struct container *c, const struct cgroup_plan *plan)
{
	struct cgroup_plan *old = xcalloc(1, sizeof(*old));

	old->v = xcalloc(plan->n + 1, sizeof(*old->v));
	for (size_t i = plan->n; i-- > 0;) {
		const struct cgroup_setting *s = &plan->v[i];
		struct cgroup_setting *o = &old->v[old->n];

		if (file_read(c->cgroup_fd, s->file, 4096, &o->value, NULL, NULL) < 0)
			continue; /* it is not there, and writing to it will tell */
		memcpy(o->file, s->file, sizeof(o->file));
		o->field = xstrdup(s->field);
		old->n++;
	}
	return old;
}

void cgroup_forget_update(struct container *c)
{
	if (!c->undo)
		return;
	cgroup_plan_free(c->undo);
	free(c->undo);
	c->undo = NULL;
}

int cgroup_undo(const struct container *c, struct error *err)
{
	int r = 0;

	for (size_t i = 0; c->undo && i < c->undo->n; i++)
		if (file_put(c->cgroup_fd, c->undo->v[i].file, c->undo->v[i].value,
			     r < 0 ? NULL : err) < 0)
			r = -1;
	return r;
}

int cgroup_remember(struct container *c, const struct oci_resources *r, struct error *err)
{
	cleanup_plan struct cgroup_plan plan = {0};

	if (cgroup_plan_build(r, &plan, err) < 0)
		return -1;
	cgroup_forget_update(c);
	c->undo = remember(c, &plan);
	return 0;
}

/* ---- its processes */

/* The number behind `key` in a file of "key number" lines; `def` if it is not there. */
static unsigned long read_key(const struct container *c, const char *file, const char *key,
			      unsigned long def)
{
	cleanup_free char *text = NULL;
	size_t n = strlen(key);

	if (c->cgroup_fd < 0 || file_read(c->cgroup_fd, file, 65536, &text, NULL, NULL) < 0)
		return def;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return strtoul(line + n + 1, NULL, 10);
	}
	return def;
}

unsigned long container_oom_kills(struct container *c)
{
	return read_key(c, "memory.events", "oom_kill", 0);
}

/* Waits until `key` of cgroup.events is `value`. The kernel notifies by POLLPRI. */
static int wait_event(const struct container *c, const char *key, unsigned long value,
		      uint64_t wait_us, struct error *err)
{
	cleanup_close int fd = openat(c->cgroup_fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	uint64_t deadline = now_us() + wait_us;
	char drain[256];

	if (fd < 0)
		return error_errno(err, "open cgroup.events");
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLPRI};
		uint64_t now;

		/* the notification is armed by a read of this very descriptor */
		if (pread(fd, drain, sizeof(drain), 0) < 0)
			return error_errno(err, "read cgroup.events");
		if (read_key(c, "cgroup.events", key, !value) == value)
			return 0;
		now = now_us();
		if (now >= deadline)
			return error_kind(err, ERR_TIMEOUT, "%s: %s did not become %lu", c->cgroup,
					  key, value);
		if (poll(&p, 1, (int)((deadline - now) / 1000) + 1) < 0 && errno != EINTR)
			return error_errno(err, "poll cgroup.events");
	}
}

/* Signals the processes of one cgroup directory and those below it. Pids are the agent's. */
static int signal_tree(int dir, int signal, int depth)
{
	cleanup_free char *text = NULL;
	cleanup_close int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup_dir DIR *d = again >= 0 ? fdopendir(again) : NULL;
	const struct dirent *e;
	char *rest, *line;
	int n = 0;

	if (d)
		again = -1;
	if (file_read(dir, "cgroup.procs", 1 << 22, &text, NULL, NULL) == 0) {
		rest = text;
		while ((line = strsep(&rest, "\n")))
			if (*line && kill((pid_t)strtol(line, NULL, 10), signal) == 0)
				n++;
	}
	while (d && depth < 64 && (e = readdir(d))) {
		cleanup_close int sub = -1;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub >= 0)
			n += signal_tree(sub, signal, depth + 1);
	}
	return n;
}

int container_kill_all(struct container *c, int signal, struct error *err)
{
	if (c->cgroup_fd < 0)
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	if (signal == SIGKILL)
		return file_put(c->cgroup_fd, "cgroup.kill", "1", err);
	if (signal_tree(c->cgroup_fd, signal, 0) == 0)
		return error_kind(err, ERR_NOT_RUNNING, "container not running");
	return 0;
}

int container_await_empty(const struct container *c, struct error *err)
{
	return c->cgroup_fd < 0 ? 0 : wait_event(c, "populated", 0, EMPTY_WAIT_US, err);
}

int container_freeze(struct container *c, enum proto_freezer by, bool frozen, struct error *err)
{
	unsigned was = c->frozen_by, bit = 1u << by;

	c->frozen_by = frozen ? was | bit : was & ~bit;
	if (file_put(c->cgroup_fd, "cgroup.freeze", c->frozen_by ? "1" : "0", err) == 0)
		return 0;
	c->frozen_by = was;
	return -1;
}

bool container_has_frozen(const struct container *c)
{
	return read_key(c, "cgroup.events", "frozen", 2) == (c->frozen_by != 0);
}

int container_await_frozen(const struct container *c, struct error *err)
{
	return wait_event(c, "frozen", c->frozen_by != 0, FREEZE_WAIT_US, err);
}

/* Containers may have made cgroups of their own in theirs. */
static int remove_tree(int parent, const char *name, int depth, struct error *err)
{
	cleanup_close int dir =
		openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	cleanup_dir DIR *d = dir >= 0 ? fdopendir(dir) : NULL;
	const struct dirent *e;

	if (!d)
		return errno == ENOENT ? 0 : error_errno(err, "open cgroup %s", name);
	dir = -1;
	while (depth < 64 && (e = readdir(d)))
		if (e->d_type == DT_DIR && e->d_name[0] != '.' &&
		    remove_tree(dirfd(d), e->d_name, depth + 1, err) < 0)
			return -1;
	if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_errno(err, "remove cgroup %s", name);
	return 0;
}

int cgroup_remove(struct container *c, struct error *err)
{
	cleanup_close int parent = -1;

	if (c->cgroup_fd < 0)
		return 0;
	if (file_put(c->cgroup_fd, "cgroup.kill", "1", err) < 0 ||
	    wait_event(c, "populated", 0, EMPTY_WAIT_US, err) < 0)
		return -1;
	parent = open(CGROUP_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (parent < 0)
		return error_errno(err, "open " CGROUP_ROOT);
	close_fd(&c->cgroup_fd);
	close_fd(&c->device_prog);
	return remove_tree(parent, c->cgroup, 0, err);
}
