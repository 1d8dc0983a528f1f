#include "agent/ready.h"
#include "lib/cleanup.h"
#include "lib/file.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define NOTIFY_DIR "/run/notify" /* in the container, as with runc */
#define NOTIFY_NAME "notify.sock"
#define DATAGRAM_MAX 4096
#define ROUND 16 /* datagrams at one time: PID 1 has others to serve */

/* ---- the socket */

static int make_socket(const char *dir, struct error *err)
{
	cleanup_close int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	/* By the descriptor: a container's id may be longer than a socket's name. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" NOTIFY_NAME, at);
	if (at < 0 || fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    fchmodat(at, NOTIFY_NAME, 0777, 0) < 0)
		return error_errno(err, "make the notification socket in %s", dir);
	return steal_fd(&fd);
}

/* A copy with room for one more. `old` is freed. */
static void *grow(void *old, size_t n, size_t size)
{
	void *new = xcalloc(n + 1, size);

	if (n > 0)
		memcpy(new, old, n * size);
	free(old);
	return new;
}

static void add_mount(struct container *c)
{
	static const char *const options[] = {"bind", "nosuid", "noexec", "nodev", "ro"};
	struct oci_spec *s = c->spec;
	struct oci_mount *m;
	struct proto_mount *p;

	s->mounts = grow(s->mounts, s->n_mounts, sizeof(*s->mounts));
	m = &s->mounts[s->n_mounts];
	*m = (struct oci_mount){.destination = xstrdup(NOTIFY_DIR),
				.type = xstrdup("bind"),
				.source = xstrdup(NOTIFY_DIR),
				.options = xcalloc(ARRAY_LEN(options) + 1, sizeof(char *)),
				.n_options = ARRAY_LEN(options)};
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		m->options[i] = xstrdup(options[i]);
	c->mounts = grow(c->mounts, c->n_mounts, sizeof(*c->mounts));
	p = &c->mounts[c->n_mounts++];
	*p = (struct proto_mount){.index = s->n_mounts++, .from = PROTO_MOUNT_NOTIFY};
}

static void add_variable(struct oci_process *p)
{
	char **env = xcalloc(p->n_env + 2, sizeof(*env));

	for (size_t i = 0; i < p->n_env; i++)
		env[i] = p->env[i];
	free(p->env);
	p->env = env;
	p->env[p->n_env++] = xstrdup("NOTIFY_SOCKET=" NOTIFY_DIR "/" NOTIFY_NAME);
}

int ready_prepare(struct container *c, struct error *err)
{
	cleanup_free char *dir = xasprintf("%s/notify", c->dir);

	if (!c->notify)
		return 0;
	if (mkdir(dir, 0755) < 0)
		return error_errno(err, "mkdir %s", dir);
	c->notify_fd = make_socket(dir, err);
	if (c->notify_fd < 0)
		return -1;
	add_mount(c);
	add_variable(c->spec->process);
	return 0;
}

void ready_release(struct container *c)
{
	cleanup_free char *dir = xasprintf("%s/notify", c->dir);
	cleanup_free char *path = xasprintf("%s/" NOTIFY_NAME, dir);

	if (!c->notify)
		return;
	unlink(path);
	rmdir(dir);
}

/* ---- what comes */

bool ready_line(const char *datagram, size_t len, char line[PROTO_READY_MAX + 1])
{
	for (size_t i = 0, n; i < len; i += n + 1) {
		const char *s = datagram + i, *nl = memchr(s, '\n', len - i);
		size_t k = 0;

		n = nl ? (size_t)(nl - s) : len - i;
		if (n > PROTO_READY_MAX || n < 6 || memcmp(s, "READY=", 6) != 0)
			continue;
		while (k < n && s[k] >= ' ' && s[k] <= '~')
			k++;
		if (k < n)
			continue;
		memcpy(line, s, n);
		line[n] = '\0';
		return true;
	}
	return false;
}

/* Descriptors that come along are closed by the kernel, since nobody takes them: who waits for a
 * barrier goes on. */
static void on_datagrams(void *arg, uint32_t events UNUSED)
{
	struct ctr *ctr = arg;
	struct proto_reply r = {.type = REPLY_READY};
	char buf[DATAGRAM_MAX];

	for (int i = 0; i < ROUND; i++) {
		ssize_t n = recv(ctr->c->notify_fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0)
			return;
		if (ctr->ready[0] || !ready_line(buf, (size_t)n, ctr->ready))
			continue;
		r.ready = ctr->ready;
		waiters_reply(ctr->set, &ctr->ready_waiters, &r);
	}
}

int ready_watch(struct ctr *ctr, struct error *err)
{
	if (ctr->c->notify_fd < 0)
		return 0;
	ctr->ready_src =
		loop_add(ctr->set->loop, ctr->c->notify_fd, EPOLLIN, on_datagrams, ctr, err);
	return ctr->ready_src ? 0 : -1;
}

/* What it said at last may still be in the socket. */
void ready_ended(struct ctr *ctr)
{
	struct error err = ERROR_INIT;

	if (ctr->ready_src)
		on_datagrams(ctr, EPOLLIN);
	error_kind(&err, ERR_NOT_RUNNING, "container not running");
	waiters_fail(ctr->set, &ctr->ready_waiters, &err);
}

void ready_unwatch(struct ctr *ctr)
{
	ready_ended(ctr);
	loop_remove(ctr->ready_src);
	ctr->ready_src = NULL;
}
