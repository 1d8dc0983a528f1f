/*
 * exec: a further process in a running container. In the foreground this process is the proxy
 * itself; detached, a proxy of its own is made, whose pid is the process's.
 */
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/unsupported.h"
#include "oci/validate.h"
#include "shim/console.h"
#include "shim/handover.h"
#include "shim/host_policy.h"
#include "shim/lifecycle.h"
#include "shim/spawn.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

struct exec_options {
	const char *process, *cwd, *user, *pid_file, *console_socket, *pidfd_socket;
	const char *label, *apparmor, *cgroup, *preserve;
	struct str_list env, groups, caps;
	bool tty, detach, no_new_privs, ignore_paused;
	int pidfd_sock;
	char **args;
};

/* ---- the process object */

static void write_list(struct jsonw *w, yajl_val list, const struct str_list *more)
{
	jsonw_arr(w);
	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < list->u.array.len; i++)
		jsonw_tree(w, list->u.array.values[i]);
	for (unsigned i = 0; i < more->n; i++)
		jsonw_str(w, more->v[i]);
	jsonw_end_arr(w);
}

/* A number of 32 bits at *p, which moves behind it. */
static bool take_id(const char **p, uint32_t *id)
{
	uint64_t n = 0;
	const char *s = *p;

	for (; *s >= '0' && *s <= '9' && n <= UINT32_MAX; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	if (s == *p || n > UINT32_MAX)
		return false;
	*p = s;
	*id = (uint32_t)n;
	return true;
}

/* The container's user with what --user ("UID[:GID]") and --additional-gids change, as runc does:
 * without a GID the group stays, and further groups are added. */
static int write_user(struct jsonw *w, yajl_val base, const struct exec_options *o,
		      struct error *err)
{
	uint32_t uid = (uint32_t)json_int(base, "uid", 0), gid = (uint32_t)json_int(base, "gid", 0);
	yajl_val groups = json_get(base, "additionalGids");
	const char *p = o->user;

	if (p && (!take_id(&p, &uid) || (*p == ':' && (p++, !take_id(&p, &gid))) || *p))
		return error_kind(err, ERR_USAGE, "--user: \"%s\": must be UID[:GID]", o->user);
	jsonw_key(w, "user");
	jsonw_obj(w);
	jsonw_kint(w, "uid", uid);
	jsonw_kint(w, "gid", gid);
	if (json_get(base, "umask")) {
		jsonw_key(w, "umask");
		jsonw_tree(w, json_get(base, "umask"));
	}
	jsonw_key(w, "additionalGids");
	jsonw_arr(w);
	for (size_t i = 0; YAJL_IS_ARRAY(groups) && i < groups->u.array.len; i++)
		jsonw_tree(w, groups->u.array.values[i]);
	for (unsigned i = 0; i < o->groups.n; i++) {
		p = o->groups.v[i];
		if (!take_id(&p, &gid) || *p)
			return error_kind(err, ERR_USAGE,
					  "--additional-gids: \"%s\": must be a number",
					  o->groups.v[i]);
		jsonw_int(w, gid);
	}
	jsonw_end_arr(w);
	jsonw_end_obj(w);
	return 0;
}

/* runc adds --cap to every set but ambient and inheritable. */
static void write_caps(struct jsonw *w, yajl_val base, const struct exec_options *o)
{
	static const char *const sets[] = {"bounding", "effective", "permitted", "inheritable",
					   "ambient"};

	jsonw_key(w, "capabilities");
	jsonw_obj(w);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
		jsonw_key(w, sets[i]);
		write_list(w, json_get(base, sets[i]), i < 3 ? &o->caps : &(struct str_list){0});
	}
	jsonw_end_obj(w);
}

/* Of a terminal that is the caller's: the process may ask for it at once. */
static void write_size(struct jsonw *w)
{
	struct winsize ws;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) < 0 || !ws.ws_col || !ws.ws_row)
		return;
	jsonw_key(w, "consoleSize");
	jsonw_obj(w);
	jsonw_kint(w, "height", ws.ws_row);
	jsonw_kint(w, "width", ws.ws_col);
	jsonw_end_obj(w);
}

/* The container's own process with what the command line changes. */
static char *derive_process(const char *config, const struct exec_options *o, struct error *err)
{
	cleanup_json yajl_val v = json_parse(config, strlen(config), err);
	cleanup_jsonw struct jsonw w = {0};
	yajl_val p = json_get(v, "process");
	const char *text;

	if (!v || jsonw_init(&w, false, err) < 0)
		return NULL;
	jsonw_obj(&w);
	for (size_t i = 0; YAJL_IS_OBJECT(p) && i < p->u.object.len; i++) {
		const char *key = p->u.object.keys[i];
		static const char *const own[] = {"terminal",	  "consoleSize",
						  "args",	  "env",
						  "cwd",	  "user",
						  "capabilities", "noNewPrivileges"};
		bool skip = (o->label && strcmp(key, "selinuxLabel") == 0) ||
			    (o->apparmor && strcmp(key, "apparmorProfile") == 0);

		for (size_t k = 0; k < ARRAY_LEN(own); k++)
			skip = skip || strcmp(key, own[k]) == 0;
		if (skip)
			continue;
		jsonw_key(&w, key);
		jsonw_tree(&w, p->u.object.values[i]);
	}
	jsonw_kbool(&w, "terminal", o->tty);
	if (o->tty && !o->detach)
		write_size(&w);
	jsonw_key(&w, "args");
	jsonw_arr(&w);
	for (char **a = o->args; *a; a++)
		jsonw_str(&w, *a);
	jsonw_end_arr(&w);
	jsonw_key(&w, "env");
	write_list(&w, json_get(p, "env"), &o->env);
	jsonw_kstr(&w, "cwd", o->cwd ? o->cwd : json_str(p, "cwd"));
	jsonw_kbool(&w, "noNewPrivileges",
		    o->no_new_privs || json_bool(p, "noNewPrivileges", false));
	if (o->label)
		jsonw_kstr(&w, "selinuxLabel", o->label);
	if (o->apparmor)
		jsonw_kstr(&w, "apparmorProfile", o->apparmor);
	if (json_get(p, "capabilities") || o->caps.n)
		write_caps(&w, json_get(p, "capabilities"), o);
	if (write_user(&w, json_get(p, "user"), o, err) < 0)
		return NULL;
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, NULL, err);
	return text ? xstrdup(text) : NULL;
}

static int make_process(const struct container_state *st, const struct exec_options *o, char **text,
			struct oci_process **p, struct error *err)
{
	cleanup_oci_spec struct oci_spec *spec = NULL;

	if (o->process) {
		if (file_read(AT_FDCWD, o->process, OCI_SPEC_MAX, text, NULL, err) < 0)
			return error_wrap(err, "--process");
	} else {
		*text = derive_process(st->config, o, err);
		if (!*text)
			return -1;
	}
	if (oci_process_parse(*text, strlen(*text), p, err) < 0 ||
	    oci_process_validate(*p, err) < 0 || oci_process_supported(*p, err) < 0 ||
	    container_spec(st, &spec, err) < 0 || host_policy_check_exec(spec, *p, err) < 0)
		return error_wrap(err, "%s", o->process ? o->process : "exec");
	return 0;
}

/* ---- running it */

struct running {
	const struct globals *g;
	const struct container_dir *d;
	const struct container_state *st;
	const struct exec_options *o;
	const struct oci_process *p;
	struct agent_client agent;
	struct agent_msg made;
	int streams[STREAMS];
};

static int run_foreground(struct running *r, struct error *err)
{
	struct proxy_job job = {.container = r->d->id,
				.process = r->made.process,
				.agent_sock = steal_fd(&r->agent.sock),
				.dirfd = r->d->fd,
				.scratch = -1,
				.tty_fd = r->p->terminal ? STDIN_FILENO : -1};
	cleanup_free char *noted = NULL;
	int status;

	if (host_cgroup_enter(&r->st->cgroup, err) < 0 ||
	    (r->o->pid_file && pid_file_write(r->o->pid_file, getpid(), err) < 0) ||
	    handover_pidfd(r->o->pidfd_sock, getpid(), err) < 0) {
		close_fd(&job.agent_sock);
		return -1;
	}
	noted = proxy_note(r->d->fd, r->made.process);
	memcpy(job.streams, r->streams, sizeof(job.streams));
	if (r->p->terminal)
		tty_raw(STDIN_FILENO);
	status = proxy_run(&job);
	tty_restore();
	if (noted)
		unlinkat(r->d->fd, noted, 0);
	return status;
}

static int run_detached(struct running *r, int intr_fd, struct error *err)
{
	cleanup_close int console = -1;
	struct proxy_spawn ps = {.argv = r->p->args,
				 .join_netns_pid = r->st->pid,
				 .lifeline = -1,
				 .dirfd = r->d->fd,
				 .console_sock = -1,
				 .scratch = -1,
				 .notify_sock = -1,
				 .log_fd = r->g->log_fd,
				 .own_session = true};
	struct proxy_job job = {.container = r->d->id,
				.process = r->made.process,
				.agent_sock = r->agent.sock,
				.scratch = -1};
	struct proxy proxy;

	memcpy(job.streams, r->streams, sizeof(job.streams));
	if (r->p->terminal) {
		console = console_connect(r->o->console_socket, err);
		if (console < 0)
			return -1;
		ps.console_sock = console;
	}
	if (proxy_start(&ps, &proxy, err) < 0)
		return -1;
	if (proxy_go(&proxy, &job, r->p->terminal, r->p->console_width, r->p->console_height,
		     intr_fd, err) < 0 ||
	    (r->o->pid_file && pid_file_write(r->o->pid_file, proxy.pid, err) < 0) ||
	    handover_pidfd(r->o->pidfd_sock, proxy.pid, err) < 0 || proxy_commit(&proxy, err) < 0) {
		proxy_abort(&proxy);
		return -1;
	}
	return 0;
}

static int check_terminal(const struct exec_options *o, const struct oci_process *p,
			  struct error *err)
{
	if (p->terminal && o->detach && !o->console_socket)
		return error_kind(err, ERR_USAGE,
				  "cannot allocate tty if husk will detach without setting console "
				  "socket: give --console-socket");
	if (o->console_socket && (!p->terminal || !o->detach))
		return error_kind(
			err, ERR_USAGE,
			"--console-socket: cannot use console socket if husk will not detach "
			"or allocate tty");
	return 0;
}

/* "/a/b/" is a/b below the container's cgroup, "/" that one (*path stays NULL). */
static int find_cgroup(const char *wish, char **path, struct error *err)
{
	size_t n;

	if (!wish)
		return 0;
	if (strchr(wish, ':'))
		return error_kind(err, ERR_UNSUPPORTED,
				  "--cgroup: \"%s\": the guest has one hierarchy for all "
				  "controllers: give a path without a controller",
				  wish);
	while (*wish == '/')
		wish++;
	n = strlen(wish);
	while (n > 0 && wish[n - 1] == '/')
		n--;
	if (n > 0)
		*path = xasprintf("%.*s", (int)n, wish);
	return 0;
}

static int exec_in(const struct globals *g, const struct container_dir *d,
		   const struct container_state *st, const struct exec_options *o,
		   struct error *err)
{
	cleanup_free char *text = NULL, *cgroup = NULL;
	cleanup_oci_process struct oci_process *p = NULL;
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	struct running r = {.g = g,
			    .d = d,
			    .st = st,
			    .o = o,
			    .agent = {.sock = -1},
			    .streams = {-1, -1, -1, -1}};
	cleanup_close int intr = -1;
	uint64_t t = now_us();
	int status = -1;

	if (st->status == OCI_STATUS_STOPPED)
		return error_kind(err, ERR_NOT_RUNNING, "cannot exec in a stopped container");
	if (st->status == OCI_STATUS_PAUSED && !o->ignore_paused)
		return error_set(err, "cannot exec in a paused container (use --ignore-paused to "
				      "override)");
	if (make_process(st, o, &text, &p, err) < 0 || check_terminal(o, p, err) < 0 ||
	    find_cgroup(o->cgroup, &cgroup, err) < 0)
		return -1;
	r.p = p;
	intr = interrupt_fd(err);
	if (intr < 0 || container_agent(d, st, &vmm, &r.agent, err) < 0)
		return -1;
	t = log_elapsed("connect", t);
	r.agent.intr_fd = intr;
	if (agent_exec(&r.agent, d->id, text, cgroup, o->ignore_paused, &r.made, err) == 0) {
		t = log_elapsed("exec in the guest", t);
		if (agent_open_streams(&vmm, &r.made, r.streams, err) == 0) {
			log_elapsed("streams", t);
			vmm_close(&vmm);
			status = o->detach ? run_detached(&r, intr, err) : run_foreground(&r, err);
		}
	}
	if (status < 0 && err->kind == ERR_NOT_FOUND && st->status == OCI_STATUS_CREATING)
		error_set(err, "container \"%s\" is being created", d->id);
	agent_msg_free(&r.made);
	agent_close(&r.agent);
	for (unsigned i = 0; i < STREAMS; i++)
		close_fd(&r.streams[i]);
	return status;
}

int cmd_exec(const struct globals *g, int argc, char **argv, struct error *err)
{
	struct exec_options o = {.pidfd_sock = -1};
	cleanup_close int pidfd_sock = -1;
	const struct option_def defs[] = {
		{"process", "p", OPT_STR, &o.process, "FILE",
		 "process object as JSON, in place of COMMAND"},
		{"tty", "t", OPT_FLAG, &o.tty, NULL, "give it a terminal"},
		{"detach", "d", OPT_FLAG, &o.detach, NULL, "do not wait for it"},
		{"env", "e", OPT_LIST, &o.env, "NAME=VALUE", "add to its environment"},
		{"user", "u", OPT_STR, &o.user, "UID[:GID]", "user and group"},
		{"additional-gids", "g", OPT_LIST, &o.groups, "GID", "further group"},
		{"cwd", NULL, OPT_STR, &o.cwd, "DIR", "working directory"},
		{"cap", "c", OPT_LIST, &o.caps, "CAP", "add a capability"},
		{"no-new-privs", NULL, OPT_FLAG, &o.no_new_privs, NULL, "set no_new_privs"},
		{"pid-file", NULL, OPT_STR, &o.pid_file, "FILE", "write its pid to FILE"},
		{"console-socket", NULL, OPT_STR, &o.console_socket, "PATH",
		 "Unix socket that gets the terminal's master"},
		{"process-label", NULL, OPT_STR, &o.label, "LABEL", "SELinux label"},
		{"apparmor", NULL, OPT_STR, &o.apparmor, "PROFILE", "AppArmor profile"},
		{"cgroup", NULL, OPT_STR, &o.cgroup, "PATH", "cgroup below the container's"},
		{"ignore-paused", NULL, OPT_FLAG, &o.ignore_paused, NULL,
		 "also in a paused container: it runs once that goes on"},
		{"pidfd-socket", NULL, OPT_STR, &o.pidfd_socket, "PATH",
		 "Unix socket that gets a pidfd of the process"},
		{"preserve-fds", NULL, OPT_STR, &o.preserve, "N",
		 "descriptors besides stdio: none can be given"},
		{0}};
	int first = verb_options(argc, argv, defs, "exec", "ID [COMMAND [ARG...]]", 1, -1, err);
	cleanup_container_dir struct container_dir d = {.fd = -1};
	cleanup_state struct container_state st = {0};
	int r;

	if (first < 0 || handover_check(o.preserve, err) < 0 ||
	    handover_connect(o.pidfd_socket, &pidfd_sock, err) < 0)
		return -1;
	o.pidfd_sock = pidfd_sock;
	o.args = argv + first + 1;
	if (!o.process && !o.args[0])
		return error_kind(err, ERR_USAGE, "husk exec: give a COMMAND or --process FILE");
	if (container_open(g, argv[first], false, &d, &st, err) < 0)
		return -1;
	r = exec_in(g, &d, &st, &o, err);
	free(o.env.v);
	free(o.groups.v);
	free(o.caps.v);
	return r;
}
