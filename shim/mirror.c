/*
 * The mirror of a running container: one thread in the proxy of its init.
 *
 * It waits on an inotify descriptor (rootfs and sources of projects: watch.c, mirror_projects.c),
 * on a connection of the agent that tells when the container wrote to a project, and on sync.sock.
 * It starts its work SETTLE_MS after the container: most containers are over by then, and what
 * changed meanwhile is found by its time.
 *
 * Conflicts. What the host writes into the rootfs goes into the guest when it is settled; what the
 * guest writes goes to the host at the end or at a sync. Both at the same path at the same time is
 * a race that a directory shared by two writers has, too: the host's wins if it was pushed, the
 * guest's if it was written after that. Before changes are taken from the guest, the host's are
 * pushed, so that a write-back does not bring an old file back.
 *
 * A sync: the container's processes are frozen, so that what is taken is one moment of it; the
 * changes are applied while the guest goes on reading the very files that are replaced: husk-vmm is
 * told to hold each of them before. Our own writes give events like everybody's, and are told apart
 * by inode number, size and time.
 */
#include "shim/mirror.h"
#include "lib/changeset/collect.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/json.h"
#include "lib/log.h"
#include "shim/journal.h"
#include "shim/lifecycle.h"
#include "shim/mirror_projects.h"
#include "shim/paths.h"
#include "shim/project_push.h"
#include "shim/state.h"
#include "shim/watch.h"
#include "shim/writeback.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SETTLE_MS 300
#define STACK (1u << 20) /* of address space: a deep tree is collected by recursion */
#define CONNECT_MS 10000
#define REQUEST_US 5000000ull
#define FETCH_GAP_US 100000ull /* between two looks at what the guest wrote */
#define INTERVAL_MAX_S 86400
#define DRAIN_EVERY 256	  /* changes of our own, so that the queue of events has room */
#define FORGET_EVERY 8192 /* a multiple of it: they are remembered until their events were seen */

struct mirror {
	pthread_t thread;
	char *container;
	int dirfd, stop, sock, inotify;
	bool ready;
	struct timespec since; /* when the guest's view of the host began */
	struct record record;
	bool has_record;
	struct watch *watch;		  /* NULL: no rootfs to watch */
	struct projects_mirror *projects; /* NULL: none */
	struct agent_client events;
	struct frame_buf in;
	bool fetch; /* the guest wrote to a project */
	uint64_t fetched_us;
	bool failed;			   /* the last push: said once */
	bool sync_failed;		   /* the last periodic sync: said once */
	uint64_t interval_us, sync_due_us; /* of periodic syncs; 0: none */
	/* of a sync */
	struct vmm_client *vmm;
	unsigned n_own;
};

/* ---- connections */

struct link {
	struct vmm_client vmm;
	struct agent_client agent;
};

static void link_close(struct link *l)
{
	agent_close(&l->agent);
	vmm_close(&l->vmm);
}
#define cleanup_link __attribute__((cleanup(link_close)))

static int link_open(const struct mirror *m, struct link *l, struct error *err)
{
	if (vmm_connect(m->dirfd, &l->vmm, err) < 0)
		return -1;
	return agent_connect(&l->vmm, CONNECT_MS, &l->agent, err);
}

#define LINK_NONE                                                                         \
	{                                                                                 \
		.vmm = {.sock = -1, .intr_fd = -1}, .agent = {.sock = -1, .intr_fd = -1 } \
	}

/* ---- host to guest */

static void read_events(struct mirror *m)
{
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n;

	if (m->inotify < 0)
		return;
	while ((n = read(m->inotify, buf, sizeof(buf))) > 0) {
		const struct inotify_event *e;

		for (char *at = buf; at < buf + n; at += sizeof(*e) + e->len) {
			e = (const struct inotify_event *)(void *)at;
			if (e->mask & IN_Q_OVERFLOW) {
				if (m->watch)
					watch_rescan(m->watch);
				if (m->projects)
					pm_rescan(m->projects);
			} else if (!(m->watch && watch_event(m->watch, e)) && m->projects) {
				pm_event(m->projects, e);
			}
		}
	}
}

struct paths {
	char **v;
	size_t n;
	const char *rootfs;
};

static int send_paths(void *arg, int out, struct error *err)
{
	const struct paths *p = arg;
	cleanup_close int rootfd = open(p->rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct cs_counts n = {0};

	if (rootfd < 0)
		return error_errno(err, "open rootfs %s", p->rootfs);
	return cs_collect_paths(rootfd, p->v, p->n, out, &n, err);
}

/* What cannot be sent is said once until one can again: a guest without space has no other news. */
static void report(struct mirror *m, int result, const struct error *err)
{
	if (result < 0 && !m->failed)
		log_warn("container \"%s\": changes on the host do not get inside: %s",
			 m->container, err->msg);
	m->failed = result < 0;
}

static void push_rootfs(struct mirror *m, struct link *l, bool all)
{
	struct error err = ERROR_INIT;
	struct paths p = {.rootfs = m->record.rootfs.path};
	int result = 0;

	if (!m->watch)
		return;
	p.v = watch_take(m->watch, all, &p.n);
	if (!p.v)
		return;
	if (!rootfs_is(&m->record.rootfs))
		result = error_set(&err, "rootfs %s: not there any more", p.rootfs);
	if (result == 0 && l->agent.sock < 0)
		result = link_open(m, l, &err);
	if (result == 0)
		result = push_changeset(&l->vmm, &l->agent, m->container, "root", send_paths, &p,
					&err);
	log_debug("rootfs: %zu changed paths of the host, from %s on: %s", p.n, p.v[0],
		  result < 0 ? err.msg : "pushed");
	report(m, result, &err);
	strv_free(p.v);
}

static void push_projects(struct mirror *m, struct link *l, bool all)
{
	struct error err = ERROR_INIT;
	char **names;
	int *fds, result = 0;
	size_t n = m->projects ? pm_take(m->projects, all, &names, &fds) : 0;

	if (n == 0)
		return;
	if (l->agent.sock < 0)
		result = link_open(m, l, &err);
	if (result == 0)
		result = projects_push(&l->vmm, &l->agent, m->container, names, fds, n, &err);
	pm_pushed(m->projects, result == 0);
	report(m, result, &err);
}

/* ---- guest to host */

static int fetch_projects(struct mirror *m, struct vmm_client *vmm, struct agent_client *a,
			  struct error *err)
{
	const struct timeval stall = {.tv_sec = 30};
	cleanup_close int stream = -1;
	char token[AGENT_TOKEN_LEN + 1];

	if (agent_changes(a, m->container, "projects", NULL, token, err) < 0)
		return -1;
	stream = agent_open_stream(vmm, token, err);
	if (stream < 0)
		return -1;
	setsockopt(stream, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall));
	return pm_receive(m->projects, stream, err);
}

static void fetch(struct mirror *m, struct link *l)
{
	struct error err = ERROR_INIT;

	m->fetch = false;
	m->fetched_us = now_us();
	if ((l->agent.sock < 0 && link_open(m, l, &err) < 0) ||
	    fetch_projects(m, &l->vmm, &l->agent, &err) < 0)
		log_warn("container \"%s\": what it wrote to its mounts does not get to the host: "
			 "%s",
			 m->container, err.msg);
}

/* Any event of ours means: look. */
static void take_agent_events(struct mirror *m)
{
	struct error err = ERROR_INIT;
	char *text;
	size_t len;

	if (frame_buf_fill(&m->in, m->events.sock, &err) < 0) {
		/* The VM ended: so will the proxy. */
		agent_close(&m->events);
		return;
	}
	while (frame_buf_next(&m->in, &text, &len, &err) > 0) {
		struct agent_msg msg;

		if (agent_msg_parse(text, len, &msg, &err) == 0) {
			m->fetch = m->fetch || strcmp(msg.event, "changed") == 0;
			agent_msg_free(&msg);
		}
		frame_buf_done(&m->in);
		if (err.msg[0])
			break;
	}
	if (err.msg[0]) {
		log_warn("container \"%s\": %s", m->container, err.msg);
		agent_close(&m->events);
	}
}

/* ---- set-up */

static void watch_guest(struct mirror *m)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1, .intr_fd = -1};
	struct error err = ERROR_INIT;

	if (!m->projects || !pm_writable(m->projects))
		return;
	if (vmm_connect(m->dirfd, &vmm, &err) < 0 ||
	    agent_connect(&vmm, CONNECT_MS, &m->events, &err) < 0 ||
	    agent_watch(&m->events, m->container, &err) < 0) {
		agent_close(&m->events);
		log_warn("container \"%s\": what it writes to its mounts is not seen before it "
			 "ends: %s",
			 m->container, err.msg);
	}
	/* What it wrote before we listened. */
	m->fetch = true;
}

static int load_record(struct mirror *m, const char *name, struct error *err)
{
	cleanup_free char *data = path_data(err);

	if (!data || record_open(data, name, false, 0, &m->record, err) < 0)
		return -1;
	m->has_record = true;
	/* Only for an apply, which loads them for itself. */
	links_free(&m->record);
	return 0;
}

int sync_interval(const char *text, unsigned *seconds, struct error *err)
{
	unsigned v = 0;
	const char *p = text;

	*seconds = 0;
	if (!text)
		return 0;
	for (; *p >= '0' && *p <= '9' && v <= INTERVAL_MAX_S; p++)
		v = v * 10 + (unsigned)(*p - '0');
	if (p == text || *p || v < 1 || v > INTERVAL_MAX_S)
		return error_kind(err, ERR_INVALID,
				  "annotations[\"" SYNC_ANNOTATION
				  "\"]: \"%s\": must be a number of seconds from 1 to %d",
				  text, INTERVAL_MAX_S);
	*seconds = v;
	return 0;
}

static void load_interval(struct mirror *m, const struct container_state *st)
{
	cleanup_oci_spec struct oci_spec *spec = NULL;
	unsigned s = 0;

	/* Most have none: their configuration is not parsed once more. */
	if (!st->config || !strstr(st->config, SYNC_ANNOTATION) ||
	    container_spec(st, &spec, NULL) < 0)
		return;
	if (sync_interval(oci_spec_annotation(spec, SYNC_ANNOTATION), &s, NULL) < 0)
		return;
	m->interval_us = s * 1000000ull;
	m->sync_due_us = now_us() + m->interval_us;
}

/* Reads what the container has. Once. */
static void set_up(struct mirror *m)
{
	struct container_dir d = {.fd = m->dirfd, .id = m->container, .path = m->container};
	cleanup_state struct container_state st = {0};
	struct error err = ERROR_INIT;

	if (m->ready)
		return;
	m->ready = true;
	if (state_load(&d, &st, &err) < 0) {
		log_warn("container \"%s\": not kept alike with the host: %s", m->container,
			 err.msg);
		return;
	}
	if (st.record && load_record(m, st.record, &err) < 0)
		log_warn("container \"%s\": its changes are not mirrored: %s", m->container,
			 err.msg);
	if (m->has_record && !m->record.block)
		load_interval(m, &st);
	m->since = st.created;
	if (m->record.read)
		m->since = (struct timespec){.tv_sec = (time_t)(m->record.read / 1000000000),
					     .tv_nsec = (long)(m->record.read % 1000000000)};
	err = (struct error)ERROR_INIT;
	m->projects = pm_open(m->dirfd, st.created, &err);
	if (!m->projects && err.msg[0])
		log_warn("container \"%s\": its mounts are not kept up to date: %s", m->container,
			 err.msg);
}

static void watch_host(struct mirror *m)
{
	struct error err = ERROR_INIT;
	struct watch_options o = {.overlay = m->record.rootfs.upper != NULL,
				  .events = m->record.rootfs.upper,
				  .merged = m->record.rootfs.path,
				  .since = m->since};
	bool rootfs = m->has_record && !m->record.block;

	if (!rootfs && !m->projects)
		return;
	m->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (m->inotify < 0) {
		log_warn("container \"%s\": changes on the host are not seen inside: inotify: %s: "
			 "see /proc/sys/fs/inotify/max_user_instances",
			 m->container, strerror(errno));
		return;
	}
	o.inotify = m->inotify;
	if (!o.overlay)
		o.events = o.merged;
	if (rootfs)
		m->watch = watch_new(&o, &err);
	if (rootfs && !m->watch)
		log_warn("container \"%s\": changes on the host are not seen inside: %s",
			 m->container, err.msg);
	if (m->projects)
		pm_watch(m->projects, m->inotify);
}

/* ---- sync */

static int before_replace(void *arg, const char *path, struct error *err)
{
	struct mirror *m = arg;

	if (!m->record.held[0])
		return 0;
	return vmm_hold(m->vmm, m->record.held, path, err);
}

static void own_change(void *arg, const char *path, const struct stat *st)
{
	struct mirror *m = arg;

	if (!m->watch)
		return;
	watch_own(m->watch, path, st);
	if (++m->n_own % DRAIN_EVERY == 0)
		read_events(m);
	if (m->n_own % FORGET_EVERY == 0)
		watch_own_done(m->watch);
}

static int open_record(const struct mirror *m, struct record *r, struct error *err)
{
	cleanup_free char *data = path_data(err);

	return data ? record_open(data, m->record.name, false, 0, r, err) : -1;
}

static int sync_frozen(struct mirror *m, struct link *l, struct cs_counts *n, struct error *err)
{
	const struct writeback_hooks hooks = {
		.before_replace = before_replace, .changed = own_change, .arg = m};
	cleanup_record struct record r = {.dirfd = -1, .scratch = -1};
	int result;

	m->vmm = &l->vmm;
	result = open_record(m, &r, err);
	if (result == 0)
		result = writeback_live(&l->vmm, &l->agent, &r, &hooks, n, err);
	if (n->changed > 0 && record_note_written(&r, result < 0 ? NULL : err) < 0)
		result = -1;
	m->vmm = NULL;
	if (m->watch) {
		read_events(m);
		watch_own_done(m->watch);
	}
	return result;
}

/* Whatever happened, the container goes on, unless its user has paused it. */
static int thaw(struct mirror *m, struct link *l, struct error *err)
{
	cleanup_link struct link again = LINK_NONE;

	if (agent_resume(&l->agent, m->container, "sync", NULL) == 0)
		return 0;
	if (link_open(m, &again, err) < 0 ||
	    agent_resume(&again.agent, m->container, "sync", err) < 0)
		return error_wrap(err, "let container \"%s\" go on", m->container);
	return 0;
}

static int sync_now(struct mirror *m, struct cs_counts *n, struct error *err)
{
	cleanup_link struct link l = LINK_NONE;
	struct error late = ERROR_INIT;
	uint64_t t = now_us();
	int result;

	if (!m->has_record)
		return error_kind(err, ERR_UNSUPPORTED,
				  "container \"%s\" keeps no changes: its root file system is "
				  "read-only, or its record is gone",
				  m->container);
	if (m->record.block)
		return error_kind(err, ERR_UNSUPPORTED,
				  "container \"%s\": rootfs %s is a disk that the guest has "
				  "mounted: its changes are written back when the container ends",
				  m->container, m->record.rootfs.path);
	if (link_open(m, &l, err) < 0)
		return -1;
	read_events(m);
	push_rootfs(m, &l, true);
	if (agent_pause(&l.agent, m->container, "sync", err) < 0) {
		thaw(m, &l, NULL);
		return error_wrap(err, "freeze container \"%s\"", m->container);
	}
	result = sync_frozen(m, &l, n, err);
	if (thaw(m, &l, &late) < 0 && result == 0) {
		if (err)
			*err = late;
		result = -1;
	}
	if (m->projects && pm_writable(m->projects))
		m->fetch = true;
	log_elapsed("sync", t);
	return result;
}

static void sync_by_itself(struct mirror *m)
{
	struct error err = ERROR_INIT;
	struct cs_counts n = {0};
	int result = sync_now(m, &n, &err);

	if (result < 0 && !m->sync_failed)
		log_warn("container \"%s\": its changes do not get to its rootfs while it runs: %s",
			 m->container, err.msg);
	m->sync_failed = result < 0;
	m->sync_due_us = now_us() + m->interval_us;
}

static void answer_sync(int sock, int result, const struct cs_counts *n, const struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;
	size_t len;

	if (jsonw_init(&w, false, NULL) < 0)
		return;
	jsonw_obj(&w);
	if (result < 0) {
		jsonw_key(&w, "error");
		jsonw_obj(&w);
		jsonw_kstr(&w, "kind", error_kind_name(err->kind));
		jsonw_kstr(&w, "message", err->msg);
		jsonw_end_obj(&w);
	} else {
		jsonw_kbool(&w, "ok", true);
		jsonw_kint(&w, "entries", (int64_t)n->entries);
		jsonw_kint(&w, "whiteouts", (int64_t)n->whiteouts);
		jsonw_kint(&w, "links", (int64_t)n->links);
		jsonw_kint(&w, "data_bytes", (int64_t)n->data_bytes);
		jsonw_kint(&w, "changed", (int64_t)n->changed);
		jsonw_kint(&w, "refused", (int64_t)n->refused);
	}
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, NULL);
	if (text)
		frame_send(sock, text, len, NULL, 0, NULL);
}

static bool peer_allowed(int sock)
{
	struct ucred c;
	socklen_t len = sizeof(c);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &c, &len) == 0 &&
	       (c.uid == 0 || c.uid == geteuid());
}

static void serve(struct mirror *m)
{
	cleanup_close int sock = accept4(m->sock, NULL, NULL, SOCK_CLOEXEC);
	cleanup_free char *text = NULL;
	cleanup_json yajl_val v = NULL;
	struct error err = ERROR_INIT;
	struct cs_counts n = {0};
	size_t len;
	int result;

	if (sock < 0 || !peer_allowed(sock) ||
	    frame_recv(sock, &text, &len, NULL, NULL, m->stop, now_us() + REQUEST_US, NULL) != 1)
		return;
	v = json_parse(text, len, &err);
	if (v && strcmp(json_str(v, "op") ?: "", "sync") == 0)
		result = sync_now(m, &n, &err);
	else
		result = error_kind(&err, ERR_INVALID, "sync.sock: not a request");
	answer_sync(sock, result, &n, &err);
}

/* ---- the thread */

static int ms_until(uint64_t us)
{
	uint64_t now = now_us();

	return us <= now ? 0 : (int)((us - now) / 1000) + 1;
}

/* Waits until there is something to do. False: it is time to stop. */
static bool await(struct mirror *m)
{
	struct pollfd p[4] = {{.fd = m->stop, .events = POLLIN},
			      {.fd = m->sock, .events = POLLIN},
			      {.fd = m->inotify, .events = POLLIN},
			      {.fd = m->events.sock, .events = POLLIN}};
	bool pending = m->fetch || (m->watch && watch_pending(m->watch)) ||
		       (m->projects && pm_pending(m->projects));

	int timeout = pending ? WATCH_QUIET_MS : -1;

	if (m->interval_us && timeout < 0)
		timeout = ms_until(m->sync_due_us);
	if (poll(p, ARRAY_LEN(p), timeout) < 0)
		return true;
	if (p[0].revents)
		return false;
	if (p[2].revents)
		read_events(m);
	if (p[3].revents)
		take_agent_events(m);
	if (p[1].revents)
		serve(m);
	return true;
}

static void step(struct mirror *m)
{
	cleanup_link struct link l = LINK_NONE;

	push_rootfs(m, &l, false);
	push_projects(m, &l, false);
	if (m->fetch && now_us() - m->fetched_us >= FETCH_GAP_US)
		fetch(m, &l);
	if (m->interval_us && now_us() >= m->sync_due_us)
		sync_by_itself(m);
}

static void *mirror_main(void *arg)
{
	struct mirror *m = arg;
	struct pollfd p[2] = {{.fd = m->stop, .events = POLLIN}, {.fd = m->sock, .events = POLLIN}};
	struct error err = ERROR_INIT;

	while (poll(p, ARRAY_LEN(p), SETTLE_MS) < 0)
		;
	if (p[0].revents)
		return NULL;
	set_up(m);
	/* Not at create, since it waits for a disk. */
	if (m->has_record && record_sync(&m->record, &err) < 0)
		log_warn("container \"%s\": %s", m->container, err.msg);
	watch_host(m);
	watch_guest(m);
	/* What state and plan took while they were read. */
	malloc_trim(0);
	while (await(m))
		step(m);
	return NULL;
}

static void sync_addr(int dirfd, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/sync.sock", dirfd);
}

static int listen_sync(int dirfd, struct error *err)
{
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;

	sync_addr(dirfd, &a);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 8) < 0)
		return error_errno(err, "sync.sock");
	return steal_fd(&s);
}

static int start_thread(struct mirror *m, struct error *err)
{
	pthread_attr_t attr;
	int e;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	e = pthread_create(&m->thread, &attr, mirror_main, m);
	pthread_attr_destroy(&attr);
	errno = e;
	return e ? error_errno(err, "pthread_create") : 0;
}

static void free_mirror(struct mirror *m)
{
	watch_free(m->watch);
	pm_free(m->projects);
	if (m->has_record)
		record_close(&m->record);
	agent_close(&m->events);
	frame_buf_free(&m->in);
	close_fd(&m->inotify);
	close_fd(&m->stop);
	close_fd(&m->sock);
	free(m->container);
	free(m);
}

struct mirror *mirror_start(const char *container, int dirfd, struct error *err)
{
	struct mirror *m = xcalloc(1, sizeof(*m));

	*m = (struct mirror){.container = xstrdup(container),
			     .dirfd = dirfd,
			     .stop = eventfd(0, EFD_CLOEXEC),
			     .sock = -1,
			     .inotify = -1,
			     .record = {.dirfd = -1, .scratch = -1},
			     .events = {.sock = -1, .intr_fd = -1}};
	/* A thread that allocates would get an arena of its own. */
	mallopt(M_ARENA_MAX, 1);
	if (m->stop < 0)
		error_errno(err, "eventfd");
	else
		m->sock = listen_sync(dirfd, err);
	if (m->stop >= 0 && m->sock >= 0 && start_thread(m, err) == 0)
		return m;
	free_mirror(m);
	return NULL;
}

/* The last of what both sides wrote. */
static void finish(struct mirror *m, struct vmm_client *vmm, struct agent_client *a)
{
	struct link l = {.vmm = *vmm, .agent = *a};
	struct error err = ERROR_INIT;

	set_up(m);
	read_events(m);
	push_rootfs(m, &l, true);
	if (m->projects && pm_writable(m->projects) &&
	    fetch_projects(m, &l.vmm, &l.agent, &err) < 0)
		log_error("container \"%s\": what it wrote to its mounts last is lost: %s",
			  m->container, err.msg);
	*vmm = l.vmm;
	*a = l.agent;
}

void mirror_stop(struct mirror *m, struct vmm_client *vmm, struct agent_client *a)
{
	if (!m)
		return;
	eventfd_write(m->stop, 1);
	pthread_join(m->thread, NULL);
	if (vmm && a)
		finish(m, vmm, a);
	free_mirror(m);
}

/* ---- the other end */

static int take_answer(const char *text, size_t len, struct cs_counts *n, struct error *err)
{
	cleanup_json yajl_val v = json_parse(text, len, err);
	yajl_val e = json_get(v, "error");

	if (!v)
		return error_wrap(err, "sync.sock");
	if (e)
		return error_kind(err, error_kind_from_name(json_str(e, "kind")), "%s",
				  json_str(e, "message") ?: "no reason given");
	n->entries = (uint64_t)json_int(v, "entries", 0);
	n->whiteouts = (uint64_t)json_int(v, "whiteouts", 0);
	n->links = (uint64_t)json_int(v, "links", 0);
	n->data_bytes = (uint64_t)json_int(v, "data_bytes", 0);
	n->changed = (uint64_t)json_int(v, "changed", 0);
	n->refused = (uint64_t)json_int(v, "refused", 0);
	return 0;
}

int mirror_ask_sync(int dirfd, int intr_fd, struct cs_counts *n, struct error *err)
{
	static const char request[] = "{\"op\":\"sync\"}";
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cleanup_free char *text = NULL;
	struct sockaddr_un a;
	size_t len;
	int r;

	sync_addr(dirfd, &a);
	if (s < 0)
		return error_errno(err, "socket");
	if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return error_kind(err, ERR_NOT_RUNNING, "container not running");
		return error_errno(err, "connect to sync.sock");
	}
	if (frame_send(s, request, sizeof(request) - 1, NULL, 0, err) < 0)
		return error_wrap(err, "sync");
	r = frame_recv(s, &text, &len, NULL, NULL, intr_fd, 0, err);
	if (r == 0)
		return error_kind(err, ERR_NOT_RUNNING, "the container ended meanwhile");
	return r < 0 ? error_wrap(err, "sync") : take_answer(text, len, n, err);
}
