#include "agent/hooks.h"
#include "lib/cleanup.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define OUTPUT_MAX 1024 /* bytes of a hook's output that an error shows */

static int state_text(const struct container *c, char **text, size_t *len, struct error *err)
{
	cleanup_jsonw struct jsonw w;
	const char *s;

	if (jsonw_init(&w, false, err) < 0)
		return -1;
	jsonw_obj(&w);
	jsonw_kstr(&w, "ociVersion", OCI_VERSION);
	jsonw_kstr(&w, "id", c->id);
	jsonw_kstr(&w, "status", "created");
	jsonw_kint(&w, "pid", getpid());
	jsonw_kstr(&w, "bundle", "/");
	if (c->spec->n_annotations) {
		jsonw_key(&w, "annotations");
		jsonw_obj(&w);
		for (size_t i = 0; i < c->spec->n_annotations; i++)
			jsonw_kstr(&w, c->spec->annotations[i].key, c->spec->annotations[i].value);
		jsonw_end_obj(&w);
	}
	jsonw_end_obj(&w);
	s = jsonw_finish(&w, len, err);
	if (!s)
		return -1;
	*text = xstrdup(s);
	return 0;
}

/* In the hook's process. */
static void run_hook(const struct oci_hook *h, int in, int out)
{
	static char *const none[] = {NULL};
	char *const by_path[] = {h->path, NULL};

	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		_exit(127);
	execve(h->path, h->n_args ? h->args : by_path, h->n_env ? h->env : none);
	dprintf(2, "%s", strerror(errno));
	_exit(127);
}

/* Collects output and end of the hook; kills it when its time is up. */
static int await_hook(const struct oci_hook *h, pid_t pid, int out, struct error *err)
{
	cleanup_close int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	uint64_t deadline = h->timeout.has ? now_us() + (uint64_t)h->timeout.v * 1000000 : 0;
	char text[OUTPUT_MAX + 1], drain[4096];
	size_t n = 0;
	bool late = false;
	int status;

	for (;;) {
		struct pollfd p[2] = {{.fd = out, .events = POLLIN},
				      {.fd = pidfd, .events = POLLIN}};
		uint64_t now = now_us();
		ssize_t k;

		late = deadline && now >= deadline;
		if (late) {
			kill(pid, SIGKILL);
			break;
		}
		if (poll(p, 2, deadline ? (int)((deadline - now) / 1000) + 1 : -1) < 0 &&
		    errno != EINTR)
			break;
		k = p[0].revents ? read(out, drain, sizeof(drain)) : 0;
		if (k > 0) {
			size_t room = OUTPUT_MAX - n;
			size_t take = (size_t)k < room ? (size_t)k : room;

			memcpy(text + n, drain, take);
			n += take;
		} else if (p[0].revents) {
			out = -1; /* it has closed its output, or ended */
		}
		/* What it leaves behind may go on writing for ever. */
		if ((p[1].revents || pidfd < 0) && (k <= 0 || n == OUTPUT_MAX))
			break;
	}
	text[n] = '\0';
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(err, "wait");
	if (late)
		return error_kind(err, ERR_TIMEOUT, "killed after its timeout of %d s",
				  h->timeout.v);
	if (WIFSIGNALED(status))
		return error_set(err, "signal: %d, output: %s", WTERMSIG(status), text);
	if (WEXITSTATUS(status) != 0)
		return error_set(err, "exit status %d, output: %s", WEXITSTATUS(status), text);
	return 0;
}

/* The state on a file rather than a pipe: a hook that does not read it cannot make us wait. */
static int state_file(const char *text, size_t len, struct error *err)
{
	cleanup_close int fd = (int)syscall(SYS_memfd_create, "state", 1U /* MFD_CLOEXEC */);

	if (fd < 0)
		return error_errno(err, "memfd_create");
	if (write_all(fd, text, len, err) < 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return error_errno(err, "lseek");
	return steal_fd(&fd);
}

static int one_hook(const struct container *c, const struct oci_hook *h, struct error *err)
{
	cleanup_free char *text = NULL;
	cleanup_close int in = -1;
	cleanup_close int out_r = -1;
	cleanup_close int out_w = -1;
	int pipefd[2];
	size_t len;
	pid_t pid;

	if (state_text(c, &text, &len, err) < 0)
		return -1;
	in = state_file(text, len, err);
	if (in < 0)
		return -1;
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return error_errno(err, "pipe");
	out_r = pipefd[0];
	out_w = pipefd[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, "fork");
	if (pid == 0)
		run_hook(h, in, out_w);
	close_fd(&out_w);
	return await_hook(h, pid, out_r, err);
}

int hooks_start_container(const struct container *c, struct error *err)
{
	const struct oci_hook_list *l = &c->spec->hooks[OCI_HOOK_START_CONTAINER];

	for (size_t i = 0; i < l->n; i++)
		if (one_hook(c, &l->v[i], err) < 0)
			return error_wrap(err, "error running startContainer hook #%zu (%s)", i,
					  l->v[i].path);
	return 0;
}
