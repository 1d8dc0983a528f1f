/*
 * A proxy in a process of its own: how it is made, and how it and its maker agree.
 *
 * The maker (create, run, exec --detach) starts this same binary again with the guest process's
 * arguments as its own (what ps and docker top show), _HUSK_PROXY in its environment, and
 *
 *	0 1 2	the stdio that the container's process is to have
 *	3	link: a socket pair with framed messages to the maker
 *	4	lifeline: the write end whose closing ends husk-vmm (init only)
 *	5	the container's directory
 *	6	the connected console socket (with a detached terminal only)
 *	7	the log
 *	8	the scratch disk of the record of changes (init with a writable root only)
 *	9	the host's notification socket that the container has mounted (notify.c)
 *	10	the claim on its network namespace (netns/claim.h; an init with a VM of its own)
 *
 * The container's cgroup it finds in the state, and enters first.
 *
 * Being exec'ed anew keeps it small and free of the maker's memory. It enters its network
 * namespace before the exec, so that a proxy that exists is where callers look for it. Then: maker
 * sends "go" with the agent's connection and the streams; proxy makes the console and answers;
 * maker sends "commit" once the state is on disk. A link that closes before is a maker that died or
 * gave up: the proxy ends, with it the lifeline, with it the VM.
 */
#include "shim/proxy.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netns/claim.h"
#include "netns/netns.h"
#include "shim/console.h"
#include "shim/oom.h"
#include "shim/proxy_view.h"
#include "shim/spawn.h"
#include "shim/state.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define ENV_PROXY "_HUSK_PROXY"
#define FD_LINK 3
#define FD_LIFELINE 4
#define FD_DIR 5
#define FD_CONSOLE 6
#define FD_LOG 7
#define FD_SCRATCH 8
#define FD_NOTIFY 9
#define FD_CLAIM 10
#define FDS (FD_CLAIM + 1)
#define GO_US (30u * 1000000)

bool proxy_requested(void)
{
	return getenv(ENV_PROXY) != NULL;
}

/* ---- the maker's side */

struct birth {
	const struct proxy_spawn *spawn;
	int fds[FDS];
};

/* Another machine is in that namespace already. Its localhost is in its guest, where nobody who
 * comes now could see it, and an interface has one guest alone. */
static int is_taken(const struct proxy_spawn *s, pid_t holder, struct error *err)
{
	cleanup_free char *id = holder > 0 ? state_of_pid(s->dirfd, holder) : NULL;
	cleanup_free char *who = id	      ? xasprintf("container \"%s\" of husk", id)
				 : holder > 0 ? xasprintf("process %d", (int)holder)
					      : xstrdup("another container of husk");

	return error_kind(err, ERR_UNSUPPORTED,
			  "%s: %s has it already, and two microVMs cannot share one: neither would "
			  "see the other's localhost: give this container a network of its own, or "
			  "run both in a pod, or with runc",
			  s->netns, who);
}

static int claim_netns(struct birth *b, struct error *err)
{
	pid_t holder;

	if (!b->spawn->claims_netns)
		return 0;
	b->fds[FD_CLAIM] = netns_claim(&holder, err);
	if (b->fds[FD_CLAIM] >= 0)
		return 0;
	return err->kind == ERR_EXISTS ? is_taken(b->spawn, holder, err) : -1;
}

static int enter_netns(const struct proxy_spawn *s, struct error *err)
{
	char path[64];

	if (s->join_netns_pid > 0) {
		snprintf(path, sizeof(path), "/proc/%d/ns/net", s->join_netns_pid);
		return netns_join(path, err);
	}
	if (s->netns)
		return netns_join(s->netns, err);
	return s->new_netns ? netns_new(err) : 0;
}

/* In the process that is to be the proxy. */
static int settle(void *arg, struct error *err)
{
	struct birth *b = arg;

	return enter_netns(b->spawn, err) < 0 ? -1 : claim_netns(b, err);
}

static char **proxy_env(void)
{
	const char *keep[] = {"PATH", "HUSK_DATA", "HUSK_CONFIG"};
	char **env = xcalloc(ARRAY_LEN(keep) + 2, sizeof(*env));
	unsigned n = 0;

	env[n++] = xstrdup(ENV_PROXY "=1");
	for (size_t i = 0; i < ARRAY_LEN(keep); i++)
		if (getenv(keep[i]))
			env[n++] = xasprintf("%s=%s", keep[i], getenv(keep[i]));
	return env;
}

static void free_env(char **env)
{
	for (char **e = env; *e; e++)
		free(*e);
	free(env);
}

int proxy_start(const struct proxy_spawn *s, struct proxy *p, struct error *err)
{
	cleanup_close int theirs = -1;
	/* Opened anew: a duplicate would share the lock that the maker holds on the directory. */
	cleanup_close int dirfd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct birth b;
	char **env;
	int pair[2];

	*p = (struct proxy){.link = -1};
	if (dirfd < 0)
		return error_errno(err, "open the container's directory");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, "socketpair");
	p->link = pair[0];
	theirs = pair[1];
	b = (struct birth){s,
			   {0, 1, 2, theirs, s->lifeline, dirfd, s->console_sock, s->log_fd,
			    s->scratch, s->notify_sock, -1}};
	env = proxy_env();
	p->pid = spawn_process(&(struct spawn){.path = "/proc/self/exe",
					       .argv = s->argv,
					       .envp = env,
					       .fds = b.fds,
					       .nfds = FDS,
					       .new_session = s->own_session,
					       .prepare = settle,
					       .arg = &b},
			       err);
	free_env(env);
	if (p->pid < 0) {
		close_fd(&p->link);
		p->pid = 0;
		if (err && err->kind == ERR_UNSUPPORTED)
			return -1;
		return error_wrap(err, "start the proxy");
	}
	return 0;
}

int proxy_go(struct proxy *p, const struct proxy_job *job, bool terminal, unsigned width,
	     unsigned height, int intr_fd, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_free char *answer = NULL;
	cleanup_json yajl_val v = NULL;
	int fds[FRAME_FDS_MAX] = {job->agent_sock};
	unsigned nfds = 1;
	const char *text;
	size_t len;
	int r;

	for (unsigned i = 0; i < STREAMS; i++)
		if (job->streams[i] >= 0)
			fds[nfds++] = job->streams[i];
	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	jsonw_kstr(&w, "op", "go");
	jsonw_kstr(&w, "container", job->container);
	jsonw_kstr(&w, "process", job->process);
	jsonw_kbool(&w, "init", job->init);
	jsonw_kint(&w, "role", job->role);
	jsonw_kbool(&w, "terminal", terminal);
	jsonw_kbool(&w, "debug", log_enabled(LOG_LVL_DEBUG));
	jsonw_kbool(&w, "log_json", log_is_json());
	jsonw_kint(&w, "width", width);
	jsonw_kint(&w, "height", height);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, err);
	if (!text || frame_send(p->link, text, len, fds, nfds, err) < 0)
		return error_wrap(err, "proxy");
	r = frame_recv(p->link, &answer, &len, NULL, NULL, intr_fd, now_us() + GO_US, err);
	if (r == 0)
		return error_kind(err, ERR_PEER, "the proxy ended");
	if (r < 0)
		return error_wrap(err, "proxy");
	v = json_parse(answer, len, err);
	if (!v)
		return -1;
	if (json_str(v, "error"))
		return error_set(err, "%s", json_str(v, "error"));
	return 0;
}

int proxy_commit(struct proxy *p, struct error *err)
{
	static const char msg[] = "{\"op\":\"commit\"}";
	int r = frame_send(p->link, msg, sizeof(msg) - 1, NULL, 0, err);

	close_fd(&p->link);
	return r;
}

void proxy_abort(struct proxy *p)
{
	close_fd(&p->link);
	if (p->pid <= 0)
		return;
	kill(p->pid, SIGKILL);
	while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
		;
	p->pid = 0;
}

/* ---- the proxy's side */

struct orders {
	char *container, *process;
	bool init, terminal;
	unsigned width, height;
	struct proxy_job job;
};

static bool is_disk(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

static int take_orders(struct orders *o, struct error *err)
{
	cleanup_free char *text = NULL;
	cleanup_json yajl_val v = NULL;
	int fds[FRAME_FDS_MAX];
	unsigned nfds = FRAME_FDS_MAX, want;
	size_t len;
	int r = frame_recv(FD_LINK, &text, &len, fds, &nfds, -1, 0, err);

	if (r <= 0)
		return r < 0 ? -1 : error_kind(err, ERR_PEER, "given up");
	v = json_parse(text, len, err);
	if (!v)
		return -1;
	o->container = xstrdup(json_str(v, "container") ?: "");
	o->process = xstrdup(json_str(v, "process") ?: "");
	o->init = json_bool(v, "init", false);
	o->terminal = json_bool(v, "terminal", false);
	o->width = (unsigned)json_int(v, "width", 0);
	o->height = (unsigned)json_int(v, "height", 0);
	log_setup(FD_LOG, json_bool(v, "log_json", false) ? LOG_FMT_JSON : LOG_FMT_TEXT,
		  json_bool(v, "debug", false) ? LOG_LVL_DEBUG : LOG_LVL_INFO, "husk");
	want = o->terminal ? 2 : 4;
	if (nfds != want)
		return error_kind(err, ERR_PEER, "%u descriptors came instead of %u", nfds, want);
	o->job = (struct proxy_job){.container = o->container,
				    .process = o->process,
				    .agent_sock = fds[0],
				    .streams = {-1, -1, -1, -1},
				    .init = o->init,
				    .role = (enum oci_pod_role)json_int(v, "role", OCI_POD_SINGLE),
				    .dirfd = FD_DIR,
				    .scratch = is_disk(FD_SCRATCH) ? FD_SCRATCH : -1,
				    .notify_sock = is_socket(FD_NOTIFY) ? FD_NOTIFY : -1,
				    .tty_fd = -1};
	if (o->terminal)
		o->job.streams[STREAM_CONSOLE] = fds[1];
	else
		memcpy(o->job.streams, fds + 1, 3 * sizeof(int));
	return 0;
}

/* While the maker goes on: to be moved into a cgroup waits for the kernel. */
static int enter_cgroup(struct error *err)
{
	struct container_dir d = {.fd = FD_DIR, .id = (char *)"", .path = (char *)"."};
	cleanup_state struct container_state st = {0};
	const struct rlimit none = {0, 0};

	/* A core of it would hold the container's input and output. */
	setrlimit(RLIMIT_CORE, &none);
	if (state_load(&d, &st, err) < 0)
		return -1;
	oom_score_proxy(&st.cgroup.oom_score_adj);
	return host_cgroup_enter(&st.cgroup, err);
}

static int answer(const char *problem)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;
	size_t len;

	if (jsonw_init(&w, false, NULL) < 0)
		return -1;
	jsonw_obj(&w);
	if (problem)
		jsonw_kstr(&w, "error", problem);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, NULL);
	return text ? frame_send(FD_LINK, text, len, NULL, 0, NULL) : -1;
}

static int await_commit(void)
{
	cleanup_free char *text = NULL;
	size_t len;

	return frame_recv(FD_LINK, &text, &len, NULL, NULL, -1, 0, NULL) == 1 ? 0 : -1;
}

/* The terminal: one of our own whose master goes to the console socket, or the caller's. */
static int setup_terminal(struct orders *o, bool have_socket, struct error *err)
{
	if (!have_socket) {
		o->job.tty_fd = STDIN_FILENO;
		return 0;
	}
	o->job.tty_fd = console_make(FD_CONSOLE, o->width, o->height, err);
	if (o->job.tty_fd < 0)
		return -1;
	/* Callers read the output of `create` until all its writers have closed it. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (dup2(o->job.tty_fd, fd) < 0)
			return error_errno(err, "stdio on the terminal");
	return 0;
}

char *proxy_note(int dirfd, const char *process)
{
	char text[64];
	char *name;

	if (!process[0] || strspn(process, "0123456789") != strlen(process))
		return NULL;
	name = xasprintf("exec.%s", process);
	snprintf(text, sizeof(text), "%d %llu", (int)getpid(),
		 (unsigned long long)proc_start_time(getpid()));
	file_write_atomic(dirfd, name, text, strlen(text), 0600, NULL);
	return name;
}

static int run_committed(struct proxy_job *job)
{
	close(FD_LINK);
	return proxy_run(job);
}

static int work(struct orders *o)
{
	cleanup_free char *noted = o->init ? NULL : proxy_note(FD_DIR, o->process);
	int status = answer(NULL) < 0 || await_commit() < 0 ? 1 : run_committed(&o->job);

	if (noted)
		unlinkat(FD_DIR, noted, 0);
	return status;
}

struct worker {
	struct orders *o;
	sem_t go;
	int status;
	bool failed;
};

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	while (sem_wait(&w->go) < 0)
		;
	if (!w->failed)
		w->status = work(w->o);
	return NULL;
}

/* The init's pid is looked into by engines: proxy_view.h. */
static int work_beside_view(struct orders *o, struct error *err)
{
	struct worker w = {.o = o, .status = 1};
	pthread_t thread;
	int r;

	sem_init(&w.go, 0, 0);
	r = pthread_create(&thread, NULL, worker_main, &w);
	if (r != 0) {
		errno = r;
		return error_errno(err, "start a thread");
	}
	w.failed = view_enter(FD_DIR, err) < 0;
	sem_post(&w.go);
	pthread_join(thread, NULL);
	return w.failed ? -1 : w.status;
}

int proxy_main(void)
{
	struct orders o = {0};
	struct error err = ERROR_INIT, why = ERROR_INIT;
	bool console, entered;
	int status;

	unsetenv(ENV_PROXY);
	for (int fd = FD_LINK; fd < FDS; fd++)
		set_cloexec(fd, true);
	console = is_socket(FD_CONSOLE);
	entered = enter_cgroup(&why) == 0;
	if (take_orders(&o, &err) < 0)
		return 1;
	if (!entered) {
		answer(why.msg);
		return 1;
	}
	if (o.terminal && setup_terminal(&o, console, &err) < 0) {
		answer(err.msg);
		return 1;
	}
	close(FD_CONSOLE);
	/* Before our pid is known to anybody. */
	proxy_hold_signals();
	if (!o.init)
		return work(&o);
	status = work_beside_view(&o, &err);
	if (status >= 0)
		return status;
	answer(err.msg);
	return 1;
}
