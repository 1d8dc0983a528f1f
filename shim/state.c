#include "shim/state.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ID_MAX 1024
#define NOTE "busy"
#define NOTE_MAX 64 /* bytes */
#define LOCK_RETRY_MS 2
#define LOCK_TURN_US 10000 /* the most that one turn counts */
/* Bytes of a state.json: config.json (4 MiB) escaped, and the rest. */
#define STATE_MAX (16u << 20)

bool process_alive(pid_t pid, uint64_t start)
{
	return pid > 0 && start != 0 && proc_start_time(pid) == start;
}

int id_check(const char *id, struct error *err)
{
	size_t n = strlen(id);

	if (n == 0)
		return error_kind(err, ERR_USAGE, "container id must not be empty");
	if (n > ID_MAX || strcmp(id, ".") == 0 || strcmp(id, "..") == 0 ||
	    strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-.") != n)
		return error_kind(
			err, ERR_USAGE,
			"invalid container id format: \"%s\": use letters, digits and _+-.", id);
	return 0;
}

/* True when the open directory is still the one that the path names (not deleted meanwhile). */
static bool still_there(const struct container_dir *d)
{
	struct stat a, b;

	return fstat(d->fd, &a) == 0 && stat(d->path, &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

static int not_found(const char *id, struct error *err)
{
	return error_kind(err, ERR_NOT_FOUND, "container \"%s\" does not exist", id);
}

int dir_lock(struct container_dir *d, unsigned wait_ms, struct error *err)
{
	uint64_t waited = 0, looked = now_us(), now;

	while (flock(d->fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_errno(err, "lock %s", d->path);
		if (waited >= (uint64_t)wait_ms * 1000)
			return error_kind(err, ERR_TIMEOUT,
					  "container \"%s\" is busy: another husk command holds it",
					  d->id);
		poll(NULL, 0, LOCK_RETRY_MS);
		now = now_us();
		waited += now - looked < LOCK_TURN_US ? now - looked : LOCK_TURN_US;
		looked = now;
	}
	d->locked = true;
	/* Deleted while we waited, and perhaps made anew by somebody else. */
	return still_there(d) ? 0 : not_found(d->id, err);
}

int dir_make(const char *root, const char *id, struct container_dir *d, struct error *err)
{
	*d = (struct container_dir){.fd = -1};
	if (id_check(id, err) < 0 || mkdir_p(root, 0700, err) < 0)
		return -1;
	d->id = xstrdup(id);
	d->path = xasprintf("%s/%s", root, id);
	if (mkdir(d->path, 0700) < 0) {
		if (errno == EEXIST)
			error_kind(err, ERR_EXISTS,
				   "container with given ID already exists: \"%s\"", id);
		else
			error_errno(err, "mkdir %s", d->path);
		dir_close(d);
		return -1;
	}
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0 || dir_lock(d, 1000, NULL) < 0) {
		error_set(err, "%s: taken away by another command", d->path);
		dir_close(d);
		return -1;
	}
	return 0;
}

int dir_open(const char *root, const char *id, bool lock, unsigned wait_ms, struct container_dir *d,
	     struct error *err)
{
	*d = (struct container_dir){.fd = -1};
	if (id_check(id, err) < 0)
		return -1;
	d->id = xstrdup(id);
	d->path = xasprintf("%s/%s", root, id);
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->fd < 0) {
		if (errno == ENOENT)
			not_found(id, err);
		else
			error_errno(err, "open %s", d->path);
		dir_close(d);
		return -1;
	}
	if (lock && dir_lock(d, wait_ms, err) < 0) {
		dir_close(d);
		return -1;
	}
	if (!still_there(d)) {
		dir_close(d);
		return not_found(id, err);
	}
	return 0;
}

void dir_note(struct container_dir *d)
{
	char text[64];

	snprintf(text, sizeof(text), "%d %" PRIu64, (int)getpid(), proc_start_time(getpid()));
	d->noted = file_write_atomic(d->fd, NOTE, text, strlen(text), 0600, NULL) == 0;
}

static void unnote(struct container_dir *d)
{
	if (d->noted)
		unlinkat(d->fd, NOTE, 0);
	d->noted = false;
}

bool dir_interrupt(const struct container_dir *d, int sig)
{
	cleanup_free char *text = NULL;
	cleanup_close int pidfd = -1;
	uint64_t start = 0;
	int pid = 0;

	if (file_read(d->fd, NOTE, NOTE_MAX, &text, NULL, NULL) < 0 ||
	    sscanf(text, "%d %" SCNu64, &pid, &start) != 2 || pid <= 0)
		return false;
	/* What it is now, it is for as long as we have it. */
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return pidfd >= 0 && process_alive(pid, start) &&
	       syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) == 0;
}

void dir_unlock(struct container_dir *d)
{
	unnote(d);
	flock(d->fd, LOCK_UN);
	d->locked = false;
}

void dir_close(struct container_dir *d)
{
	unnote(d);
	close_fd(&d->fd); /* drops the lock */
	free(d->path);
	free(d->id);
	*d = (struct container_dir){.fd = -1};
}

static int remove_files(struct container_dir *d, struct error *err)
{
	int copy = dup(d->fd);
	cleanup_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	if (!dir)
		return error_errno(err, "read %s", d->path);
	rewinddir(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(d->fd, e->d_name, 0) < 0 && errno != ENOENT)
			return error_errno(err, "unlink %s/%s", d->path, e->d_name);
	}
	return 0;
}

int dir_remove(struct container_dir *d, struct error *err)
{
	/* The proxy of an exec may write its note (exec.<name>) at this very time: once more then.
	 */
	for (int tries = 0; tries < 10; tries++) {
		if (remove_files(d, err) < 0)
			return -1;
		if (rmdir(d->path) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY)
			break;
	}
	return error_errno(err, "rmdir %s", d->path);
}

/* ---- state.json */

int state_save(const struct container_dir *d, const struct container_state *s, struct error *err)
{
	cleanup_jsonw struct jsonw w = {0};
	const char *text;
	size_t len;

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	jsonw_kint(&w, "version", 1);
	jsonw_kstr(&w, "id", s->id);
	jsonw_kstr(&w, "bundle", s->bundle);
	jsonw_kstr(&w, "rootfs", s->rootfs);
	jsonw_kint(&w, "created_s", s->created.tv_sec);
	jsonw_kint(&w, "created_ns", s->created.tv_nsec);
	jsonw_kstr(&w, "status", oci_status_name(s->status));
	jsonw_kint(&w, "pid", s->pid);
	jsonw_kint(&w, "pid_start", (int64_t)s->pid_start);
	jsonw_kint(&w, "vmm_pid", s->vmm_pid);
	jsonw_kint(&w, "vmm_start", (int64_t)s->vmm_start);
	if (s->share_pid > 0) {
		jsonw_kint(&w, "share_pid", s->share_pid);
		jsonw_kint(&w, "share_start", (int64_t)s->share_start);
	}
	jsonw_kstr(&w, "engine", s->engine);
	jsonw_kstr(&w, "record", s->record);
	jsonw_key(&w, "cgroup");
	host_cgroup_write(&w, &s->cgroup);
	jsonw_kbool(&w, "started", s->started);
	if (s->is_sandbox)
		jsonw_kbool(&w, "is_sandbox", true);
	if (s->sandbox) {
		jsonw_kstr(&w, "sandbox", s->sandbox);
		jsonw_kstr(&w, "tag", s->tag);
	}
	jsonw_kstr(&w, "config", s->config);
	jsonw_end_obj(&w);
	text = jsonw_finish(&w, &len, err);
	if (!text)
		return -1;
	return file_write_atomic(d->fd, "state.json", text, len, 0600, err);
}

static char *copy_str(yajl_val v, const char *key)
{
	const char *s = json_str(v, key);

	return s ? xstrdup(s) : NULL;
}

/* What the file cannot know: whether the processes are still there. */
static void derive_status(struct container_state *s)
{
	if (!process_alive(s->pid, s->pid_start)) {
		s->status = OCI_STATUS_STOPPED;
		s->pid = 0;
	}
	if (!process_alive(s->vmm_pid, s->vmm_start))
		s->vmm_pid = 0;
}

int state_load(const struct container_dir *d, struct container_state *s, struct error *err)
{
	cleanup_free char *text = NULL;
	cleanup_json yajl_val v = NULL;
	int status;
	size_t len;

	*s = (struct container_state){0};
	if (faccessat(d->fd, "state.json", F_OK, 0) < 0 && errno == ENOENT)
		return not_found(d->id, err);
	if (file_read(d->fd, "state.json", STATE_MAX, &text, &len, err) < 0)
		return error_wrap(err, "container \"%s\"", d->id);
	v = json_parse(text, len, err);
	if (!v)
		return error_wrap(err, "%s/state.json", d->path);
	s->id = copy_str(v, "id");
	s->bundle = copy_str(v, "bundle");
	s->rootfs = copy_str(v, "rootfs");
	s->created.tv_sec = json_int(v, "created_s", 0);
	s->created.tv_nsec = json_int(v, "created_ns", 0);
	s->engine = copy_str(v, "engine");
	s->record = copy_str(v, "record");
	host_cgroup_read(json_get(v, "cgroup"), &s->cgroup);
	s->started = json_bool(v, "started", true);
	s->is_sandbox = json_bool(v, "is_sandbox", false);
	s->sandbox = copy_str(v, "sandbox");
	s->tag = copy_str(v, "tag");
	s->config = copy_str(v, "config");
	s->pid = (pid_t)json_int(v, "pid", 0);
	s->pid_start = (uint64_t)json_int(v, "pid_start", 0);
	s->vmm_pid = (pid_t)json_int(v, "vmm_pid", 0);
	s->vmm_start = (uint64_t)json_int(v, "vmm_start", 0);
	s->share_pid = (pid_t)json_int(v, "share_pid", 0);
	s->share_start = (uint64_t)json_int(v, "share_start", 0);
	status = oci_status_from_name(json_str(v, "status") ?: "");
	s->status = status < 0 ? OCI_STATUS_STOPPED : (enum oci_status)status;
	if (!s->id || !s->bundle || !s->rootfs || !s->sandbox != !s->tag) {
		state_free(s);
		return error_set(err, "%s/state.json: not a state of husk", d->path);
	}
	derive_status(s);
	return 0;
}

void state_free(struct container_state *s)
{
	free(s->id);
	free(s->bundle);
	free(s->rootfs);
	free(s->engine);
	free(s->record);
	free(s->sandbox);
	free(s->tag);
	free(s->config);
	host_cgroup_free(&s->cgroup);
	*s = (struct container_state){0};
}

struct oci_state state_view(const struct container_state *s, const struct oci_spec *spec)
{
	return (struct oci_state){.id = s->id,
				  .status = s->status,
				  .pid = s->pid,
				  .bundle = s->bundle,
				  .annotations = spec ? spec->annotations : NULL,
				  .n_annotations = spec ? spec->n_annotations : 0,
				  .rootfs = s->rootfs,
				  .created = s->created,
				  .owner = "",
				  .engine = s->engine};
}

int pid_file_write(const char *path, pid_t pid, struct error *err)
{
	cleanup_free char *tmp = xasprintf("%s.%d", path, (int)getpid());
	char text[16];
	int fd, r;

	snprintf(text, sizeof(text), "%d", (int)pid);
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_errno(err, "--pid-file %s", path);
	r = write_all(fd, text, strlen(text), err);
	close(fd);
	if (r == 0 && rename(tmp, path) < 0)
		r = error_errno(err, "--pid-file %s", path);
	if (r < 0)
		unlink(tmp);
	return r;
}

/* ---- lists */

void strv_free(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

char **dir_list(const char *path, bool (*wanted)(const char *name), struct error *err)
{
	cleanup_dir DIR *dir = opendir(path);
	char **v = xcalloc(1, sizeof(*v));
	size_t n = 0;

	if (!dir && errno == ENOENT)
		return v;
	if (!dir) {
		error_errno(err, "open %s", path);
		free(v);
		return NULL;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		char **more;

		if (!wanted(e->d_name))
			continue;
		more = xcalloc(n + 2, sizeof(*more));
		memcpy(more, v, n * sizeof(*more));
		free(v);
		v = more;
		v[n++] = xstrdup(e->d_name);
	}
	qsort(v, n, sizeof(*v), by_name);
	return v;
}

static bool is_id(const char *name)
{
	return id_check(name, NULL) == 0;
}

char **state_list(const char *root, struct error *err)
{
	return dir_list(root, is_id, err);
}

char *state_of_pid(int dirfd, pid_t pid)
{
	cleanup_free char *root = xasprintf("/proc/self/fd/%d/..", dirfd);
	char **ids = state_list(root, NULL), *found = NULL;

	for (char **id = ids; id && *id && !found; id++) {
		cleanup_container_dir struct container_dir d = {.fd = -1};
		cleanup_state struct container_state s = {0};

		if (dir_open(root, *id, false, 0, &d, NULL) == 0 && state_load(&d, &s, NULL) == 0 &&
		    s.pid == pid)
			found = xstrdup(*id);
	}
	strv_free(ids);
	return found;
}
