/*
 * A scope of systemd for a container.
 *
 * A scope is made of processes that are there. husk-vmm is not yet, and shall not run before it is
 * in its cgroup: so a child of ours that only waits goes first, and ends when husk-vmm and the
 * proxy have entered. When the last one has gone systemd forgets the scope by itself: a husk that
 * is killed in between leaves nothing.
 *
 * systemd is asked by its own busctl: one call a container is not worth a D-Bus library in every
 * husk. Its answer is a job; that it is done shows in the child's /proc/<pid>/cgroup.
 *
 * The limits go to systemd as properties, so that it knows them when it next looks at the scope,
 * and are written to the files afterwards as for any other cgroup (host_cgroup.c): systemd has no
 * word for some, and no hand in most hierarchies of v1. Delegate tells it to leave the rest alone.
 */
#include "shim/cgroup_systemd.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/log.h"
#include "shim/cgroup_limits.h"
#include "shim/paths.h"
#include "shim/spawn.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define ANSWER_US (25u * 1000000) /* of D-Bus itself */
#define JOB_MS 10000
#define WORDS_MAX 256
#define OUTPUT_MAX 4096
#define CPUS_MAX 8192
#define SCOPE_PROPERTY "org.systemd.property."

/* ---- busctl */

struct words {
	char *v[WORDS_MAX];
	unsigned n;
};

static void free_words(struct words *w)
{
	for (unsigned i = 0; i < w->n; i++)
		free(w->v[i]);
}

#define cleanup_words __attribute__((cleanup(free_words)))

/* Takes `word` over; one too many is left out, and counted. */
static void say(struct words *w, char *word)
{
	if (w->n < WORDS_MAX - 1)
		w->v[w->n++] = word;
	else
		free(word);
}

/* What it wrote, as one line; its last words are the error. */
static void read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	while (len > 0 && buf[len - 1] == '\n')
		len--;
	buf[len] = '\0';
}

static int call(struct words *w, struct error *err)
{
	cleanup_free char *exe = path_program("busctl", "systemd", err);
	cleanup_close int rd = -1, wr = -1;
	char output[OUTPUT_MAX];
	int status = 0;
	pid_t pid;

	if (!exe)
		return -1;
	if (w->n >= WORDS_MAX - 1)
		return error_set(err, "too many properties");
	w->v[w->n] = NULL;
	if (pipe_make(&rd, &wr, err) < 0)
		return -1;
	pid = spawn_process(
		&(struct spawn){.path = exe, .argv = w->v, .fds = (int[]){-1, wr, wr}, .nfds = 3},
		err);
	if (pid < 0)
		return -1;
	close_fd(&wr);
	read_all(rd, output, sizeof(output));
	if (spawn_wait(pid, -1, now_us() + ANSWER_US, &status, err) < 0)
		return error_wrap(err, "busctl");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_set(err, "%s", output[0] ? output : "busctl failed");
}

static void begin(struct words *w, const char *method, const char *signature)
{
	/* What follows is no option of busctl's, whatever config.json says. */
	static const char *const first[] = {"busctl",
					    "--system",
					    "--",
					    "call",
					    "org.freedesktop.systemd1",
					    "/org/freedesktop/systemd1",
					    "org.freedesktop.systemd1.Manager"};

	for (size_t i = 0; i < ARRAY_LEN(first); i++)
		say(w, xstrdup(first[i]));
	say(w, xstrdup(method));
	say(w, xstrdup(signature));
}

static int reset_failed(const char *unit, struct error *err)
{
	cleanup_words struct words w = {0};

	begin(&w, "ResetFailedUnit", "s");
	say(&w, xstrdup(unit));
	return call(&w, err);
}

/* ---- properties */

struct properties {
	struct words words;
	unsigned n;
};

static void property(struct properties *p, const char *name, const char *signature, char *value)
{
	say(&p->words, xstrdup(name));
	say(&p->words, xstrdup(signature));
	say(&p->words, value);
	p->n++;
}

static void property_number(struct properties *p, const char *name, uint64_t v)
{
	property(p, name, "t", xasprintf("%" PRIu64, v));
}

/* A list of numbers ("0-3,7") as systemd has it: a mask of bytes. */
static void property_mask(struct properties *p, const char *name, const char *list)
{
	uint8_t mask[CPUS_MAX / 8] = {0};
	unsigned bytes = 0;

	for (const char *s = list; *s;) {
		char *end;
		unsigned long from = strtoul(s, &end, 10), to = from;

		if (end == s)
			return;
		if (*end == '-')
			to = strtoul(end + 1, &end, 10);
		for (unsigned long i = from; i <= to && i < CPUS_MAX; i++) {
			mask[i / 8] |= (uint8_t)(1u << i % 8);
			bytes = i / 8 + 1 > bytes ? (unsigned)(i / 8 + 1) : bytes;
		}
		s = *end == ',' ? end + 1 : "";
	}
	property(p, name, "ay", xasprintf("%u", bytes));
	for (unsigned i = 0; i < bytes; i++)
		say(&p->words, xasprintf("%u", mask[i]));
}

/* "MAX" and "-1" are no limit. */
static uint64_t number_of(const char *value)
{
	return value[0] < '0' || value[0] > '9' ? UINT64_MAX : strtoull(value, NULL, 10);
}

/* Of a second, and of whole hundredths; UINT64_MAX: none. */
static void quota_property(struct properties *p, uint64_t quota, uint64_t period)
{
	property_number(p, "CPUQuotaPerSecUSec",
			quota == UINT64_MAX ? UINT64_MAX
					    : (quota * 1000000 / period + 9999) / 10000 * 10000);
	property_number(p, "CPUQuotaPeriodUSec", period);
}

/* In v1 the two are files of their own. */
static void quota_property_v1(struct properties *p, const struct cgroup_limits *limits)
{
	uint64_t quota = 0, period = 100000;

	for (size_t i = 0; i < limits->n; i++) {
		if (strcmp(limits->v[i].file, "cpu.cfs_quota_us") == 0)
			quota = number_of(limits->v[i].value);
		if (strcmp(limits->v[i].file, "cpu.cfs_period_us") == 0)
			period = number_of(limits->v[i].value);
	}
	if (quota > 0)
		quota_property(p, quota, period);
}

/* One limit, as it is written to its file, in systemd's words if it has some for it. */
static void limit_property(struct properties *p, const struct cgroup_limit *l)
{
	static const struct {
		const char *file, *name;
	} plain[] = {{"memory.max", "MemoryMax"},	   {"memory.low", "MemoryLow"},
		     {"memory.swap.max", "MemorySwapMax"}, {"memory.limit_in_bytes", "MemoryLimit"},
		     {"cpu.weight", "CPUWeight"},	   {"cpu.shares", "CPUShares"}};

	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (strcmp(l->file, plain[i].file) == 0)
			property_number(p, plain[i].name, number_of(l->value));
	if (strcmp(l->file, "cpu.max") == 0)
		quota_property(p, number_of(l->value),
			       strtoull(strchr(l->value, ' ') + 1, NULL, 10));
	if (l->controller == LIMIT_CPUSET && strcmp(l->file, "cpuset.cpus") == 0)
		property_mask(p, "AllowedCPUs", l->value);
	if (l->controller == LIMIT_CPUSET && strcmp(l->file, "cpuset.mems") == 0)
		property_mask(p, "AllowedMemoryNodes", l->value);
}

/* What an engine asks of systemd by annotations: "'text'", "true", "uint64 5", "5". */
static int annotated(struct properties *p, const struct oci_kv *a, struct error *err)
{
	static const struct {
		const char *word, *signature;
	} types[] = {{"uint64 ", "t"}, {"int64 ", "x"}, {"uint32 ", "u"}, {"int32 ", "i"}};
	const char *name = a->key + strlen(SCOPE_PROPERTY), *v = a->value;
	size_t n = strlen(v);

	if (!name[0])
		return error_kind(err, ERR_INVALID, "annotations[\"%s\"]: no property", a->key);
	if (strcmp(v, "true") == 0 || strcmp(v, "false") == 0) {
		property(p, name, "b", xstrdup(v));
		return 0;
	}
	if (n >= 2 && (v[0] == '\'' || v[0] == '"') && v[n - 1] == v[0] &&
	    memchr(v + 1, v[0], n - 2) == NULL && !strchr(v, '\\')) {
		property(p, name, "s", xasprintf("%.*s", (int)n - 2, v + 1));
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		size_t w = strlen(types[i].word);

		if (strncmp(v, types[i].word, w) == 0 && v[w] &&
		    strspn(v + w, "-0123456789") == n - w) {
			property(p, name, types[i].signature, xstrdup(v + w));
			return 0;
		}
	}
	if (n > 0 && strspn(v, "-0123456789") == n) {
		property(p, name, "i", xstrdup(v));
		return 0;
	}
	return error_kind(
		err, ERR_UNSUPPORTED,
		"annotations[\"%s\"]: \"%.200s\": must be true, false, a quoted text or a "
		"number, with its type (\"uint64 5\") unless it is int32",
		a->key, v);
}

static int limit_properties(struct properties *p, const struct host_cgroup *cg,
			    const struct oci_resources *r, const struct cgroup_host *host,
			    struct error *err)
{
	cleanup_cgroup_limits struct cgroup_limits limits = {0};
	struct limit_target t = {.machine_bytes = cg->machine_bytes,
				 .overhead_bytes = cg->overhead_bytes};
	bool v2 = cgroup_host_is_v2(host);

	for (unsigned c = 0; c < LIMIT_CONTROLLERS; c++)
		if (cgroup_host_find(host, limit_controller_name(c)))
			t.version[c] = v2 ? LIMIT_V2 : LIMIT_V1;
	if (r && cgroup_limits_build(r, &t, &limits, err) < 0)
		return -1;
	for (size_t i = 0; i < limits.n; i++)
		if (v2 || limits.v[i].controller != LIMIT_CPUSET)
			limit_property(p, &limits.v[i]);
	quota_property_v1(p, &limits);
	return 0;
}

static int all_properties(struct properties *p, const struct host_cgroup *cg,
			  const struct host_cgroup_wish *w, const struct cgroup_host *host,
			  const char *slice, struct error *err)
{
	static const char *const accounts[] = {"CPUAccounting", "MemoryAccounting", "IOAccounting",
					       "TasksAccounting"};

	property(p, "Description", "s", xasprintf("husk container %s", w->id));
	property(p, "Slice", "s", xstrdup(slice));
	property(p, "Delegate", "b", xstrdup("true"));
	property(p, "DefaultDependencies", "b", xstrdup("false"));
	property_number(p, "TasksMax", UINT64_MAX);
	for (size_t i = 0; i < ARRAY_LEN(accounts); i++)
		property(p, accounts[i], "b", xstrdup("true"));
	property(p, "PIDs", "au", xstrdup("1"));
	say(&p->words, xasprintf("%d", (int)cg->holder));
	if (limit_properties(p, cg, w->resources, host, err) < 0)
		return -1;
	for (size_t i = 0; i < w->n_annotations; i++)
		if (strncmp(w->annotations[i].key, SCOPE_PROPERTY, strlen(SCOPE_PROPERTY)) == 0 &&
		    annotated(p, &w->annotations[i], err) < 0)
			return -1;
	return 0;
}

static int start_unit(const char *unit, struct properties *p, struct error *err)
{
	cleanup_words struct words w = {0};

	begin(&w, "StartTransientUnit", "ssa(sv)a(sa(sv))");
	say(&w, xstrdup(unit));
	say(&w, xstrdup("replace"));
	say(&w, xasprintf("%u", p->n));
	for (unsigned i = 0; i < p->words.n; i++)
		say(&w, xstrdup(p->words.v[i]));
	say(&w, xstrdup("0"));
	return call(&w, err);
}

/* ---- the scope */

/* A process that waits, and ends with us. */
static pid_t make_holder(struct error *err)
{
	pid_t self = getpid(), pid = fork();

	if (pid < 0)
		return error_errno(err, "fork");
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Above all the lock of the container's directory. */
	syscall(SYS_close_range, 0u, ~0u, 0u);
	while (getppid() == self)
		pause();
	_exit(0);
}

/* Where the holder is in systemd's own hierarchy, when that is the scope; NULL: not yet. */
static char *scope_path(pid_t holder, const char *unit)
{
	cleanup_free char *file = xasprintf("/proc/%d/cgroup", (int)holder);
	cleanup_free char *end = xasprintf("/%s", unit);
	cleanup_free char *text = NULL;
	char *save = NULL;

	if (file_read(AT_FDCWD, file, 65536, &text, NULL, NULL) < 0)
		return NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
		size_t n = path ? strlen(path + 1) : 0, m = strlen(end);

		if (!path)
			continue;
		*path++ = '\0';
		if ((list[1] == '\0' || strcmp(list + 1, "name=systemd") == 0) && n >= m &&
		    strcmp(path + n - m, end) == 0)
			return xstrdup(path);
	}
	return NULL;
}

static char *await_scope(pid_t holder, const char *unit, struct error *err)
{
	uint64_t end = now_us() + JOB_MS * 1000ull;
	char *path;

	while (!(path = scope_path(holder, unit))) {
		if (now_us() > end) {
			error_kind(err, ERR_TIMEOUT, "systemd did not make it within %d s",
				   JOB_MS / 1000);
			return NULL;
		}
		poll(NULL, 0, 1);
	}
	return path;
}

static int start(struct host_cgroup *cg, const struct host_cgroup_wish *w,
		 const struct cgroup_host *host, const char *slice, struct error *err)
{
	struct properties p = {.n = 0};
	cleanup_free char *path = NULL;
	int r = all_properties(&p, cg, w, host, slice, err);

	if (r == 0 && start_unit(cg->unit, &p, err) < 0) {
		/* One that ended badly is kept for somebody to look at. */
		r = err && strstr(err->msg, "already") && reset_failed(cg->unit, NULL) == 0
			    ? start_unit(cg->unit, &p, err)
			    : -1;
	}
	free_words(&p.words);
	if (r < 0)
		return -1;
	path = await_scope(cg->holder, cg->unit, err);
	if (!path)
		return -1;
	cg->dirs = xcalloc(host->n + 1, sizeof(*cg->dirs));
	for (size_t i = 0; i < host->n; i++)
		cg->dirs[i] = cgroup_path_in(&host->v[i], path, false);
	return 0;
}

int cgroup_systemd_start(struct host_cgroup *cg, const struct host_cgroup_wish *w,
			 const struct cgroup_host *host, struct error *err)
{
	cleanup_free char *slice = NULL, *unit = NULL;

	if (cgroup_path_systemd(w->path, w->id, &slice, &unit, err) < 0)
		return -1;
	cg->holder = make_holder(err);
	if (cg->holder < 0) {
		cg->holder = 0;
		return -1;
	}
	if (start(cg, w, host, slice, err) == 0)
		return 0;
	error_wrap(err, "--systemd-cgroup: systemd: %s", cg->unit);
	host_cgroup_let_go(cg);
	/* It may come late; if nobody answers there is none. */
	cgroup_systemd_stop(cg->unit, NULL);
	free(cg->unit);
	cg->unit = NULL;
	return -1;
}

int cgroup_systemd_update(const struct host_cgroup *cg, const struct oci_resources *r,
			  const struct cgroup_host *host, struct error *err)
{
	struct properties p = {.n = 0};
	cleanup_words struct words w = {0};
	int result = limit_properties(&p, cg, r, host, err);

	if (result == 0 && p.n > 0) {
		begin(&w, "SetUnitProperties", "sba(sv)");
		say(&w, xstrdup(cg->unit));
		say(&w, xstrdup("true")); /* until it ends */
		say(&w, xasprintf("%u", p.n));
		for (unsigned i = 0; i < p.words.n; i++)
			say(&w, xstrdup(p.words.v[i]));
		result = call(&w, err);
		if (result < 0)
			error_wrap(err, "systemd: %s", cg->unit);
	}
	free_words(&p.words);
	return result;
}

int cgroup_systemd_stop(const char *unit, struct error *err)
{
	cleanup_words struct words w = {0};
	struct error e = ERROR_INIT;

	begin(&w, "StopUnit", "ss");
	say(&w, xstrdup(unit));
	say(&w, xstrdup("replace"));
	if (call(&w, &e) < 0 && !strstr(e.msg, "not loaded")) {
		if (err)
			*err = e;
		return error_wrap(err, "systemd: stop %s", unit);
	}
	reset_failed(unit, NULL);
	return 0;
}
