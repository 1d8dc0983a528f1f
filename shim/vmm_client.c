#include "shim/vmm_client.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/frame.h"
#include "lib/json.h"
#include "lib/log.h"
#include "shim/host_policy.h"
#include "shim/oom.h"
#include "shim/paths.h"
#include "shim/spawn.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/un.h>

#define CONSOLE_TOLD 1000	  /* characters of it in an error */
#define ANSWER_US (20u * 1000000) /* the VMM itself answers at once; only guests take time */
#define BLAME_US 3000000	  /* QEMU has a second to end by itself */
#define NO_SEQ (-2)

/* A path that fits sun_path however long the directory's is. */
static void sock_addr(int dirfd, struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/vmm.sock", dirfd);
}

int vmm_listen(int dirfd, struct error *err)
{
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;

	sock_addr(dirfd, &a);
	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, SOMAXCONN) < 0)
		return error_errno(err, "vmm.sock");
	return steal_fd(&s);
}

void vmm_close(struct vmm_client *c)
{
	close_fd(&c->sock);
}

int vmm_connect(int dirfd, struct vmm_client *c, struct error *err)
{
	cleanup_close int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un a;

	*c = (struct vmm_client){.sock = -1, .intr_fd = -1};
	sock_addr(dirfd, &a);
	if (s < 0)
		return error_errno(err, "socket");
	if (connect(s, (struct sockaddr *)&a, sizeof(a)) < 0) {
		if (errno == ENOENT || errno == ECONNREFUSED)
			return error_kind(err, ERR_NOT_RUNNING, "container not running");
		return error_errno(err, "connect to the VM's control socket");
	}
	c->sock = steal_fd(&s);
	return 0;
}

/* An event of the machine's end in place of an answer. */
static int ended(yajl_val v, struct error *err)
{
	const char *why = json_str(v, "why"), *console = json_str(v, "console");
	size_t n = console ? strlen(console) : 0;

	if (n > CONSOLE_TOLD)
		console += n - CONSOLE_TOLD; /* the last lines are those that tell */
	return error_kind(err, ERR_PEER, "the VM ended: %s%s%s", why ? why : "no reason given",
			  console && console[0] ? ": last console lines: " : "",
			  console ? console : "");
}

/* Waits for the answer to `seq`; events before it are taken note of. */
static yajl_val receive(struct vmm_client *c, int64_t seq, int *fd, uint64_t deadline_us,
			struct error *err)
{
	for (;;) {
		cleanup_free char *text = NULL;
		cleanup_json yajl_val v = NULL;
		unsigned nfds = fd ? 1 : 0;
		yajl_val e;
		size_t len;
		int r = frame_recv(c->sock, &text, &len, fd, &nfds, c->intr_fd, deadline_us, err);

		if (r == 0)
			error_kind(err, ERR_NOT_RUNNING, "husk-vmm went away");
		if (r <= 0)
			return NULL;
		v = json_parse(text, len, err);
		if (!v) {
			error_wrap(err, "message of husk-vmm");
			return NULL;
		}
		if (json_get(v, "event")) {
			if (strcmp(json_str(v, "event") ?: "", "ended") != 0)
				continue;
			ended(v, err);
			return NULL;
		}
		if (json_int(v, "seq", -1) != seq)
			continue;
		e = json_get(v, "error");
		if (e) {
			const char *m = json_str(e, "message");

			error_kind(err, error_kind_from_name(json_str(e, "kind")), "%s",
				   m && m[0] ? m : "husk-vmm refused");
			return NULL;
		}
		if (fd && nfds == 0)
			*fd = -1;
		return steal_ptr(&v);
	}
}

void vmm_blame(struct vmm_client *c, struct error *err)
{
	cleanup_json yajl_val v = NULL;
	struct error why = ERROR_INIT;

	if (!err || err->kind != ERR_PEER || c->sock < 0)
		return;
	/* No answer has this number: what comes is the event of the end. */
	v = receive(c, NO_SEQ, NULL, now_us() + BLAME_US, &why);
	if (!v && why.kind == ERR_PEER)
		*err = why;
}

static int begin(struct vmm_client *c, struct jsonw *w, const char *op, struct error *err)
{
	if (jsonw_init(w, false, err) < 0)
		return -1;
	jsonw_obj(w);
	jsonw_kint(w, "seq", ++c->seq);
	jsonw_kstr(w, "op", op);
	return 0;
}

static int send_request(struct vmm_client *c, struct jsonw *w, const int *fds, unsigned nfds,
			struct error *err)
{
	const char *text;
	size_t len;

	jsonw_end_obj(w);
	text = jsonw_finish(w, &len, err);
	if (!text || frame_send_until(c->sock, text, len, fds, nfds, c->intr_fd,
				      now_us() + ANSWER_US, err) < 0)
		return error_wrap(err, "husk-vmm");
	return 0;
}

static yajl_val call(struct vmm_client *c, struct jsonw *w, const int *fds, unsigned nfds,
		     int *fd_out, uint64_t timeout_us, struct error *err)
{
	if (send_request(c, w, fds, nfds, err) < 0)
		return NULL;
	return receive(c, c->seq, fd_out, now_us() + timeout_us, err);
}

/* ---- start */

static int send_start(struct vmm_client *c, const struct vmm_config *cfg, struct error *err)
{
	const struct choice *choice = cfg->choice;
	cleanup_free char *initramfs =
		choice->initrd ? xstrdup(choice->initrd) : path_initramfs(err);
	cleanup_free char *cmdline = xasprintf("%s%s%s", cfg->debug ? "husk.debug" : "",
					       cfg->debug && choice->parameters ? " " : "",
					       choice->parameters ? choice->parameters : "");
	cleanup_close int kfd = -1, ifd = -1, log = -1;
	cleanup_jsonw struct jsonw w = {0};
	unsigned nfds = 0;
	int fds[5];

	if (!initramfs)
		return -1;
	kfd = open(choice->kernel, O_RDONLY | O_CLOEXEC);
	if (kfd < 0)
		return error_errno(err, "open kernel %s", choice->kernel);
	ifd = open(initramfs, O_RDONLY | O_CLOEXEC);
	if (ifd < 0)
		return error_errno(err, "open initramfs %s", initramfs);
	if (cfg->console_log) {
		log = open(cfg->console_log, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
			   0600);
		if (log < 0)
			return error_errno(err, "console: %s", cfg->console_log);
	}
	if (begin(c, &w, "start", err) < 0)
		return -1;
	jsonw_kstr(&w, "engine", choice->engine);
	if (choice->qemu)
		jsonw_kstr(&w, "qemu", choice->qemu);
	jsonw_kint(&w, "memory", (int64_t)cfg->mem_bytes);
	jsonw_kint(&w, "vcpus", cfg->vcpus);
	if (!choice_is_kvm(choice)) {
		jsonw_kint(&w, "readonly_disks", cfg->readonly_disks);
		jsonw_kint(&w, "writable_disks", cfg->writable_disks);
		jsonw_kint(&w, "nics", cfg->nics);
	}
	if (cfg->file_bytes != VMM_FILE_BYTES_ANY)
		jsonw_kint(&w, "file_bytes", (int64_t)cfg->file_bytes);
	jsonw_kstr(&w, "cmdline", cmdline);
	jsonw_kbool(&w, "console", cfg->debug || cfg->console_log);
	jsonw_kbool(&w, "console_log", cfg->console_log);
	jsonw_kstr(&w, "log_level", cfg->debug ? "debug" : "info");
	jsonw_kbool(&w, "log_json", log_is_json());
	jsonw_kbool(&w, "fs", cfg->fs_sock >= 0);
	jsonw_kbool(&w, "late_devices", true);
	if (cfg->spec && host_policy_apparmor(cfg->spec->process))
		jsonw_kstr(&w, "apparmor", host_policy_apparmor(cfg->spec->process));
	if (cfg->spec && host_policy_selinux(cfg->spec->process))
		jsonw_kstr(&w, "selinux", host_policy_selinux(cfg->spec->process));
	fds[nfds++] = cfg->listen_sock;
	fds[nfds++] = kfd;
	fds[nfds++] = ifd;
	if (cfg->fs_sock >= 0)
		fds[nfds++] = cfg->fs_sock;
	if (log >= 0)
		fds[nfds++] = log;
	return send_request(c, &w, fds, nfds, err);
}

static int become_machine(void *arg, struct error *err)
{
	const struct vmm_config *cfg = arg;

	if (cfg->cgroup)
		oom_score_machine(&cfg->cgroup->oom_score_adj);
	return cfg->spec ? host_policy_enter(cfg->spec, cfg->id, err) : 0;
}

pid_t vmm_spawn(const struct vmm_config *cfg, int intr_fd, struct vmm_client *c, struct error *err)
{
	cleanup_free char *exe = path_vmm(err);
	cleanup_close int ours = -1, theirs = -1;
	int pair[2];
	pid_t pid;

	*c = (struct vmm_client){.sock = -1, .intr_fd = intr_fd};
	if (!exe)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	c->sock = ours;
	/* Everything that can be missing is found out before the process is made. */
	if (send_start(c, cfg, err) < 0) {
		c->sock = -1;
		return -1;
	}
	pid = spawn_process(
		&(struct spawn){.path = exe,
				.argv = (char *[]){exe, NULL},
				.fds = (int[]){-1, -1, cfg->log_fd, theirs, cfg->lifeline},
				.nfds = 5,
				.new_session = true,
				.new_pid_namespace = true,
				.cgroup = cfg->cgroup,
				.prepare = become_machine,
				.arg = (void *)cfg},
		err);
	if (pid < 0) {
		c->sock = -1;
		return error_wrap(err, "start husk-vmm");
	}
	steal_fd(&ours);
	return pid;
}

int vmm_wait_started(struct vmm_client *c, uint64_t deadline_us, struct error *err)
{
	cleanup_json yajl_val v = receive(c, 1, NULL, deadline_us, err);

	return v ? 0 : -1;
}

/* ---- requests */

int vmm_attach_block(struct vmm_client *c, const char *serial, int fd, bool readonly,
		     bool discardable, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;

	if (begin(c, &w, "attach-block", err) < 0)
		return -1;
	jsonw_kstr(&w, "serial", serial);
	jsonw_kbool(&w, "readonly", readonly);
	jsonw_kbool(&w, "discardable", discardable);
	v = call(c, &w, &fd, 1, NULL, ANSWER_US, err);
	return v ? 0 : error_wrap(err, "attach disk %s", serial);
}

/* The directory in a mount of its own, that is nowhere: read-only, and without devices, so that
 * nothing that opens its files for husk-vmm can open one of those. What the host mounts there from
 * now on is not in it. A mount that is nowhere already cannot be cloned; those of husk are so. */
static int view_of(int dir, struct error *err)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV |
					      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
				  .propagation = MS_PRIVATE};
	cleanup_close int fd = open_tree(
		dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	struct statvfs fs;
	int why = errno;

	if (fd < 0 && fstatvfs(dir, &fs) == 0 && fs.f_flag & ST_NODEV && fs.f_flag & ST_RDONLY)
		return fcntl(dir, F_DUPFD_CLOEXEC, 3);
	errno = why;
	if (fd < 0)
		return error_errno(err, "clone the mount of the directory");
	if (mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return error_errno(err, "make the mount of the directory read-only");
	return steal_fd(&fd);
}

int vmm_attach_tree(struct vmm_client *c, const char *serial, int tree, int dir, struct error *err)
{
	cleanup_close int view = view_of(dir, err);
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;

	if (view < 0)
		return error_wrap(err, "attach disk %s", serial);
	if (begin(c, &w, "attach-tree", err) < 0)
		return -1;
	jsonw_kstr(&w, "serial", serial);
	v = call(c, &w, (int[]){tree, view}, 2, NULL, ANSWER_US, err);
	return v ? 0 : error_wrap(err, "attach disk %s", serial);
}

/* A file's name is any bytes, a JSON string is not: "%XX" stands for what is not printable ASCII,
 * and for '%'. */
static char *escape_path(const char *path)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = xcalloc(strlen(path) * 3 + 1, 1), *p = out;

	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if (c >= ' ' && c <= '~' && c != '%') {
			*p++ = *path;
			continue;
		}
		*p++ = '%';
		*p++ = hex[c >> 4];
		*p++ = hex[c & 15];
	}
	return out;
}

int vmm_hold(struct vmm_client *c, const char *serial, const char *path, struct error *err)
{
	cleanup_free char *escaped = escape_path(path);
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;

	if (begin(c, &w, "hold", err) < 0)
		return -1;
	jsonw_kstr(&w, "serial", serial);
	jsonw_kstr(&w, "path", escaped);
	v = call(c, &w, NULL, 0, NULL, ANSWER_US, err);
	return v ? 0 : -1; /* the answer names disk and path */
}

int vmm_detach(struct vmm_client *c, const char *serial, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;

	if (begin(c, &w, "detach", err) < 0)
		return -1;
	jsonw_kstr(&w, "serial", serial);
	v = call(c, &w, NULL, 0, NULL, ANSWER_US, err);
	return v ? 0 : error_wrap(err, "detach disk %s", serial);
}

/* The answer to `status`; NULL with *err. */
static yajl_val status(struct vmm_client *c, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};

	return begin(c, &w, "status", err) < 0 ? NULL : call(c, &w, NULL, 0, NULL, ANSWER_US, err);
}

int vmm_disks(struct vmm_client *c, struct vmm_disks *d, struct error *err)
{
	cleanup_json yajl_val v = status(c, err);
	yajl_val list;

	*d = (struct vmm_disks){0};
	if (!v)
		return -1;
	list = json_get(v, "slots");
	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < list->u.array.len; i++) {
		const char *serial = json_str(list->u.array.values[i], "serial");

		if (!serial)
			continue;
		if (d->n == VMM_DISKS_MAX || strlen(serial) >= sizeof(d->serials[0]))
			return error_kind(err, ERR_PEER, "husk-vmm tells of disks that cannot be");
		snprintf(d->serials[d->n++], sizeof(d->serials[0]), "%s", serial);
	}
	return 0;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
	unsigned b[6];
	char rest;

	if (!text || strlen(text) != 17 ||
	    sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &rest) != 6)
		return false;
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)b[i];
	return true;
}

int vmm_attach_net(struct vmm_client *c, const struct vmm_nic *n, uint8_t driver_mac[6],
		   struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;
	char mac[18];

	if (begin(c, &w, "attach-net", err) < 0)
		return -1;
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", n->mac[0], n->mac[1], n->mac[2],
		 n->mac[3], n->mac[4], n->mac[5]);
	jsonw_kstr(&w, "id", n->id);
	jsonw_kstr(&w, "mac", mac);
	jsonw_kint(&w, "queues", n->queues);
	jsonw_kbool(&w, "vhost", n->vhost);
	v = call(c, &w, n->fds, n->vhost ? 2 * n->queues : n->queues, NULL, ANSWER_US, err);
	if (!v)
		return -1; /* the answer names the card */
	if (!parse_mac(json_str(v, "mac"), driver_mac))
		return error_kind(err, ERR_PEER, "husk-vmm told no MAC address of card %s", n->id);
	return 0;
}

int vmm_detach_net(struct vmm_client *c, const char *id, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;

	if (begin(c, &w, "detach-net", err) < 0)
		return -1;
	jsonw_kstr(&w, "id", id);
	v = call(c, &w, NULL, 0, NULL, ANSWER_US, err);
	return v ? 0 : -1;
}

int vmm_net_link(struct vmm_client *c, const char *id, bool up, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;

	if (begin(c, &w, "net-link", err) < 0)
		return -1;
	jsonw_kstr(&w, "id", id);
	jsonw_kbool(&w, "up", up);
	v = call(c, &w, NULL, 0, NULL, ANSWER_US, err);
	return v ? 0 : -1;
}

static int take_nic(yajl_val v, struct vmm_nics *n, struct error *err)
{
	const char *id = json_str(v, "id");

	if (!id || strlen(id) > VMM_NIC_ID_MAX || n->n == VMM_NICS_MAX ||
	    !parse_mac(json_str(v, "mac"), n->v[n->n].mac))
		return error_kind(err, ERR_PEER, "husk-vmm told of a network card without sense");
	snprintf(n->v[n->n].id, sizeof(n->v[n->n].id), "%s", id);
	n->v[n->n++].up = json_bool(v, "up", false);
	return 0;
}

int vmm_nics(struct vmm_client *c, struct vmm_nics *n, struct error *err)
{
	cleanup_json yajl_val v = status(c, err);
	yajl_val list;

	*n = (struct vmm_nics){0};
	if (!v)
		return -1;
	n->kvm = strcmp(json_str(v, "engine") ?: "", "kvm") == 0;
	n->vcpus = (unsigned)json_int(v, "vcpus", 1);
	list = json_get(v, "nics");
	for (size_t i = 0; YAJL_IS_ARRAY(list) && i < list->u.array.len; i++)
		if (take_nic(list->u.array.values[i], n, err) < 0)
			return -1;
	return 0;
}

int vmm_vsock_connect(struct vmm_client *c, uint32_t port, unsigned timeout_ms, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;
	int fd = -1;

	if (begin(c, &w, "vsock-connect", err) < 0)
		return -1;
	jsonw_kint(&w, "port", port);
	jsonw_kint(&w, "timeout_ms", timeout_ms);
	v = call(c, &w, NULL, 0, &fd, (uint64_t)timeout_ms * 1000 + ANSWER_US, err);
	if (!v)
		return -1;
	if (fd < 0)
		return error_kind(err, ERR_PEER, "husk-vmm sent no stream");
	return fd;
}

char *vmm_console(struct vmm_client *c)
{
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;
	const char *text = NULL;

	if (begin(c, &w, "console", NULL) == 0) {
		v = call(c, &w, NULL, 0, NULL, ANSWER_US, NULL);
		text = json_str(v, "text");
	}
	return xstrdup(text ? text : "");
}

int vmm_times(struct vmm_client *c, struct vmm_times *t, struct error *err)
{
	cleanup_json yajl_val v = status(c, err);
	yajl_val times;

	if (!v)
		return -1;
	times = json_get(v, "times_us");
	t->exec = (uint64_t)json_int(times, "exec", 0);
	t->machine = (uint64_t)json_int(times, "machine", 0);
	t->ready = (uint64_t)json_int(times, "ready", 0);
	return 0;
}

void vmm_end(int dirfd)
{
	cleanup_vmm struct vmm_client c = {.sock = -1};
	cleanup_jsonw struct jsonw w = {0};
	cleanup_json yajl_val v = NULL;

	if (vmm_connect(dirfd, &c, NULL) == 0 && begin(&c, &w, "shutdown", NULL) == 0)
		v = call(&c, &w, NULL, 0, NULL, ANSWER_US, NULL);
}
