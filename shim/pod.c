/*
 * Pods: several containers in one microVM.
 *
 * A joiner's directory has a link `vmm.sock` to its sandbox's, so that everything that talks to a
 * container's VM by its directory needs to know nothing of pods. The link is relative: --root may
 * be moved, and a sandbox that has gone is a VM that nobody finds.
 *
 * A file `ending` in the sandbox's directory says that its proxy is about to end the VM: who comes
 * to join after that is told that the sandbox has stopped. Whoever is in the middle of joining is
 * refused by the agent, or finds the VM gone.
 *
 * Names in the VM. The agent keeps containers apart by their ids; disks and shares have names of
 * the VM's, which end with the tag of their container. So `delete` finds what is a container's by
 * asking the VM, also what a killed `create` left there.
 */
#include "shim/pod.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "shim/agent_client.h"
#include "shim/share_join.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define ENDING "ending"
#define SOCKET "vmm.sock"
#define CONNECT_MS 10000
#define SETTLE_MS 10000 /* members that get nowhere for so long are not waited for */
#define DAWDLE_S 1800	/* nor any for so long */

/* ---- the sandbox */

void sandbox_close(struct sandbox *s)
{
	dir_close(&s->dir);
	state_free(&s->state);
}

static bool is_ending(const struct container_dir *d)
{
	return faccessat(d->fd, ENDING, F_OK, 0) == 0;
}

static int check_sandbox(const struct sandbox *s, const struct oci_pod *pod, struct error *err)
{
	if (!s->state.is_sandbox)
		return error_kind(err, ERR_INVALID,
				  "annotations[\"%s\"]: container \"%s\" is no sandbox: its VM is "
				  "its own",
				  pod->key, pod->sandbox);
	if (s->state.status == OCI_STATUS_STOPPED || is_ending(&s->dir))
		return error_kind(err, ERR_NOT_RUNNING,
				  "annotations[\"%s\"]: sandbox \"%s\" has stopped", pod->key,
				  pod->sandbox);
	if (s->state.status == OCI_STATUS_CREATING)
		return error_set(err, "annotations[\"%s\"]: sandbox \"%s\" is still being made",
				 pod->key, pod->sandbox);
	return 0;
}

int sandbox_open(const char *root, const struct oci_pod *pod, struct sandbox *s, struct error *err)
{
	*s = (struct sandbox){.dir = {.fd = -1}};
	if (dir_open(root, pod->sandbox, false, 0, &s->dir, err) < 0 ||
	    state_load(&s->dir, &s->state, err) < 0) {
		sandbox_close(s);
		return error_wrap(err, "annotations[\"%s\"]: sandbox", pod->key);
	}
	if (check_sandbox(s, pod, err) == 0)
		return 0;
	sandbox_close(s);
	return -1;
}

/* The directory of another container of the same root. */
static int open_sibling(int dirfd, const char *id, struct sandbox *s, struct error *err)
{
	cleanup_free char *path = xasprintf("../%s", id);

	*s = (struct sandbox){.dir = {.fd = -1}};
	if (id_check(id, err) < 0)
		return -1;
	*s = (struct sandbox){.dir = {.fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
				      .id = xstrdup(id),
				      .path = xstrdup(id)}};
	if (s->dir.fd >= 0 && state_load(&s->dir, &s->state, err) == 0)
		return 0;
	sandbox_close(s);
	return -1;
}

bool sandbox_runs(const struct container_dir *member, const char *sandbox)
{
	cleanup_sandbox struct sandbox s = {.dir = {.fd = -1}};

	return open_sibling(member->fd, sandbox, &s, NULL) == 0 &&
	       s.state.status != OCI_STATUS_STOPPED && !is_ending(&s.dir);
}

/* ---- namespaces */

static bool same_node(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int pod_check_network(const struct sandbox *s, const struct oci_spec *spec, struct error *err)
{
	const struct oci_namespace *net = oci_spec_namespace(spec, OCI_NS_NETWORK);
	cleanup_free char *theirs = xasprintf("/proc/%d/ns/net", (int)s->state.pid);
	ptrdiff_t i = net - spec->lnx.namespaces;

	if (!net->path)
		return error_kind(
			err, ERR_UNSUPPORTED,
			"linux.namespaces[%td]: a new network namespace: the containers "
			"of a pod share their microVM's network: name that of the sandbox "
			"\"%s\"",
			i, s->dir.id);
	if (!same_node(net->path, theirs))
		return error_kind(err, ERR_UNSUPPORTED,
				  "linux.namespaces[%td].path: %s: is not the network namespace of "
				  "the sandbox \"%s\"",
				  i, net->path, s->dir.id);
	return 0;
}

/* The pid in "/proc/<pid>/ns/<type>"; 0 if it is no such path. */
static pid_t path_pid(const char *path, const char *type)
{
	cleanup_free char *again = NULL;
	int pid = 0;

	if (sscanf(path, "/proc/%d/ns/", &pid) != 1 || pid <= 0)
		return 0;
	again = xasprintf("/proc/%d/ns/%s", pid, type);
	return strcmp(again, path) == 0 ? pid : 0;
}

/* The container of the pod whose proxy that is; malloc'ed, NULL if it is none's. */
static char *member_of_pid(const char *root, const struct sandbox *s, pid_t pid)
{
	char **ids, *found = NULL;

	if (pid == s->state.pid)
		return xstrdup(s->dir.id);
	ids = state_list(root, NULL);
	for (char **id = ids; id && *id && !found; id++) {
		cleanup_sandbox struct sandbox m = {.dir = {.fd = -1}};

		if (open_sibling(s->dir.fd, *id, &m, NULL) == 0 && m.state.pid == pid &&
		    m.state.sandbox && strcmp(m.state.sandbox, s->dir.id) == 0)
			found = xstrdup(*id);
	}
	strv_free(ids);
	return found;
}

/* A path that the sandbox was given for its own (CRI-O keeps namespaces by files of the host). */
static bool is_path_of(const struct sandbox *s, enum oci_ns_type type, const char *path)
{
	cleanup_oci_spec struct oci_spec *spec = NULL;
	const struct oci_namespace *ns;

	if (!s->state.config ||
	    oci_spec_parse(s->state.config, strlen(s->state.config), &spec, NULL) < 0)
		return false;
	ns = oci_spec_namespace(spec, type);
	return ns && ns->path && strcmp(ns->path, path) == 0;
}

static char *whose(const char *root, const struct sandbox *s, const struct oci_namespace *ns)
{
	pid_t pid = path_pid(ns->path, oci_ns_name(ns->type));

	if (pid > 0)
		return member_of_pid(root, s, pid);
	return is_path_of(s, ns->type, ns->path) ? xstrdup(s->dir.id) : NULL;
}

static int write_join(struct jsonw *w, const char *root, const struct sandbox *s,
		      const struct oci_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->lnx.n_namespaces; i++) {
		const struct oci_namespace *ns = &spec->lnx.namespaces[i];
		cleanup_free char *id = NULL;

		if (!ns->path || ns->type == OCI_NS_NETWORK)
			continue;
		id = whose(root, s, ns);
		if (!id)
			return error_kind(err, ERR_UNSUPPORTED,
					  "linux.namespaces[%zu].path: %s: is of no container of "
					  "the pod \"%s\"",
					  i, ns->path, s->dir.id);
		jsonw_kstr(w, oci_ns_name(ns->type), id);
	}
	return 0;
}

char *pod_join_text(const char *root, const struct sandbox *s, const struct oci_spec *spec,
		    struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;

	if (jsonw_init(&w, false, err) < 0)
		return NULL;
	jsonw_obj(&w);
	if (write_join(&w, root, s, spec, err) < 0)
		return NULL;
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, NULL, err);
	return text ? xstrdup(text) : NULL;
}

/* ---- join */

char *pod_tag(void)
{
	uint32_t n = 0;

	if (getrandom(&n, sizeof(n), 0) != sizeof(n))
		n = (uint32_t)now_us();
	return xasprintf("%08x", n);
}

int pod_link(const struct container_dir *d, const char *sandbox, struct error *err)
{
	cleanup_free char *target = xasprintf("../%s/" SOCKET, sandbox);

	return symlinkat(target, d->fd, SOCKET) < 0 ? error_errno(err, SOCKET) : 0;
}

bool pod_is_joiner(int dirfd)
{
	struct stat st;

	return fstatat(dirfd, SOCKET, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

/* ---- leave */

static bool vm_went_away(const struct error *err)
{
	return err->kind == ERR_PEER || err->kind == ERR_NOT_RUNNING || err->errnum == EPIPE ||
	       err->errnum == ECONNRESET;
}

/* The guest lets the disk go, the machine takes it out, and the guest hears that its slot is free
 * for another. */
static int leave_disk(struct vmm_client *vmm, struct agent_client *a, const char *serial,
		      struct error *err)
{
	struct error why = ERROR_INIT;

	/* One that the guest never saw is nobody's to release. */
	if (agent_release(a, serial, false, &why) < 0 && why.kind != ERR_NOT_FOUND &&
	    !vm_went_away(&why))
		log_warn("disk %s: %s", serial, why.msg);
	if (vmm_detach(vmm, serial, err) < 0)
		return -1;
	agent_release(a, serial, true, NULL);
	return 0;
}

static int leave_disks(struct vmm_client *vmm, struct agent_client *a, const char *tag,
		       struct error *err)
{
	cleanup_free char *end = xasprintf(".%s", tag);
	struct vmm_disks disks;
	int r = 0;

	if (vmm_disks(vmm, &disks, err) < 0)
		return -1;
	for (unsigned i = 0; i < disks.n; i++) {
		const char *serial = disks.serials[i];
		size_t n = strlen(serial), k = strlen(end);

		if (n > k && strcmp(serial + n - k, end) == 0 &&
		    leave_disk(vmm, a, serial, r < 0 ? NULL : err) < 0)
			r = -1;
	}
	return r;
}

static int leave_shares(const struct container_dir *d, const struct container_state *st,
			struct agent_client *a, struct error *err)
{
	cleanup_sandbox struct sandbox s = {.dir = {.fd = -1}};
	char **names = NULL;
	int r;

	if (open_sibling(d->fd, st->sandbox, &s, NULL) < 0 ||
	    !process_alive(s.state.share_pid, s.state.share_start))
		return 0;
	r = share_leave(s.state.share_pid, st->tag, &names, err);
	/* What it cannot forget now it forgets later. */
	for (char **name = names; r == 0 && name && *name; name++)
		agent_release_share(a, *name, NULL);
	strv_free(names);
	return r;
}

static int leave_vm(const struct container_dir *d, const struct container_state *st,
		    struct error *err)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};
	struct error why = ERROR_INIT;
	int r;

	if (vmm_connect(d->fd, &vmm, err) < 0 || agent_connect(&vmm, CONNECT_MS, &a, err) < 0)
		return -1;
	if (agent_delete(&a, d->id, &why) < 0 && why.kind != ERR_NOT_FOUND && !vm_went_away(&why))
		log_warn("container \"%s\": %s", d->id, why.msg);
	r = leave_disks(&vmm, &a, st->tag, err);
	return leave_shares(d, st, &a, r < 0 ? NULL : err) < 0 ? -1 : r;
}

int pod_leave(const struct container_dir *d, const struct container_state *st, struct error *err)
{
	struct error why = ERROR_INIT;
	uint64_t t = now_us();

	/* Its create did not get that far. */
	if (!pod_is_joiner(d->fd))
		return 0;
	if (leave_vm(d, st, &why) == 0) {
		log_elapsed("leave the pod", t);
		return 0;
	}
	/* The VM has ended, or does so while we ask. */
	if (!sandbox_runs(d, st->sandbox))
		return 0;
	if (err)
		*err = why;
	return error_wrap(err, "container \"%s\": leave the pod \"%s\"", d->id, st->sandbox);
}

void pod_kill(const struct container_dir *d)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};

	if (vmm_connect(d->fd, &vmm, NULL) == 0 && agent_connect(&vmm, CONNECT_MS, &a, NULL) == 0)
		agent_delete(&a, d->id, NULL);
}

/* ---- the end of the sandbox */

void pod_close(int dirfd)
{
	cleanup_close int fd = openat(dirfd, ENDING, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		log_warn("make the file " ENDING ": %s", strerror(errno));
}

uint64_t process_ticks(pid_t pid)
{
	cleanup_free char *path = xasprintf("/proc/%d/stat", (int)pid);
	cleanup_free char *text = NULL;
	unsigned long long user = 0, sys = 0;
	char *p;

	if (file_read(AT_FDCWD, path, 65536, &text, NULL, NULL) < 0)
		return 0;
	/* The command name may hold anything; the last ')' ends it. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
			 &sys) != 2)
		return 0;
	return user + sys;
}

/* Containers that joined the sandbox and whose proxies live. */
struct pod_members *pod_members(int dirfd, const char *sandbox)
{
	cleanup_free char *self = xasprintf("/proc/self/fd/%d/..", dirfd);
	struct pod_members *list = xcalloc(1, sizeof(*list));
	char **ids = state_list(self, NULL);
	size_t n = 0;

	while (ids && ids[n])
		n++;
	list->v = xcalloc(n + 1, sizeof(*list->v));
	for (char **id = ids; id && *id; id++) {
		cleanup_sandbox struct sandbox m = {.dir = {.fd = -1}};
		cleanup_free char *path = xasprintf("../%s", *id);
		cleanup_close int fd = openat(dirfd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);

		/* A link is read in no time, a state with a whole config.json is not. */
		if (fd < 0 || !pod_is_joiner(fd) || open_sibling(dirfd, *id, &m, NULL) < 0 ||
		    !m.state.sandbox || strcmp(m.state.sandbox, sandbox) != 0 || m.state.pid == 0)
			continue;
		list->v[list->n++] = (struct pod_member){
			.id = xstrdup(*id), .pid = m.state.pid, .pid_start = m.state.pid_start};
	}
	strv_free(ids);
	return list;
}

void pod_members_free(struct pod_members *list)
{
	for (size_t i = 0; list && i < list->n; i++)
		free(list->v[i].id);
	free(list ? list->v : NULL);
	free(list);
}

uint64_t pod_members_ticks(const struct pod_members *list)
{
	uint64_t ticks = 0;

	for (size_t i = 0; i < list->n; i++)
		ticks += process_ticks(list->v[i].pid);
	return ticks;
}

static bool any_alive(const struct pod_members *list)
{
	for (size_t i = 0; i < list->n; i++)
		if (process_alive(list->v[i].pid, list->v[i].pid_start))
			return true;
	return false;
}

static void kill_members(int dirfd, const struct pod_members *list)
{
	cleanup_vmm struct vmm_client vmm = {.sock = -1};
	cleanup_agent struct agent_client a = {.sock = -1};

	if (list->n == 0 || vmm_connect(dirfd, &vmm, NULL) < 0 ||
	    agent_connect(&vmm, CONNECT_MS, &a, NULL) < 0)
		return;
	for (size_t i = 0; i < list->n; i++)
		agent_kill(&a, list->v[i].id, "", SIGKILL, true, NULL);
}

void pod_end_members(int dirfd, const char *sandbox)
{
	cleanup_pod_members struct pod_members *list = pod_members(dirfd, sandbox);
	uint64_t begun = now_us(), since = begun, used = 0;

	kill_members(dirfd, list);
	while (any_alive(list) && now_us() - since < SETTLE_MS * 1000ull &&
	       now_us() - begun < DAWDLE_S * 1000000ull) {
		uint64_t ticks = pod_members_ticks(list);

		if (ticks != used)
			since = now_us();
		used = ticks;
		poll(NULL, 0, 2);
	}
}
