#include "shim/hooks.h"
#include "lib/cleanup.h"
#include "lib/log.h"
#include "shim/spawn.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

bool hooks_any(const struct oci_spec *spec, enum oci_hook_phase phase)
{
	return spec->hooks[phase].n > 0;
}

/* The state as a file: a hook that does not read it cannot block us. */
static int state_file(const char *state, struct error *err)
{
	cleanup_close int fd = memfd_create("state", MFD_CLOEXEC);
	size_t len = strlen(state);

	if (fd < 0 || pwrite(fd, state, len, 0) != (ssize_t)len)
		return error_errno(err, "hand over the state");
	return steal_fd(&fd);
}

static int run_one(const struct oci_hook *h, const char *state, const char *bundle, int intr_fd,
		   struct error *err)
{
	static char *const no_env[] = {NULL};
	cleanup_close int in = state_file(state, err);
	cleanup_close int out = memfd_create("hook", MFD_CLOEXEC);
	char *own_args[] = {h->path, NULL};
	char text[512] = "";
	uint64_t deadline = h->timeout.has ? now_us() + (uint64_t)h->timeout.v * 1000000 : 0;
	int status = 0;
	ssize_t n;
	pid_t pid;

	if (in < 0)
		return -1;
	pid = spawn_process(&(struct spawn){.path = h->path,
					    .argv = h->args ? h->args : own_args,
					    .envp = h->env ? h->env : (char *const *)no_env,
					    .fds = (int[]){in, out, out},
					    .nfds = 3,
					    .cwd = bundle},
			    err);
	if (pid < 0 || spawn_wait(pid, intr_fd, deadline, &status, err) < 0)
		return -1;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	n = pread(out, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	return error_set(err, "%s %d%s%s", WIFSIGNALED(status) ? "killed by signal" : "exit status",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
			 text[0] ? ": " : "", text);
}

int hooks_run(const struct oci_spec *spec, enum oci_hook_phase phase, const char *state,
	      const char *bundle, int intr_fd, struct error *err)
{
	const struct oci_hook_list *l = &spec->hooks[phase];

	for (size_t i = 0; i < l->n; i++) {
		struct error why = ERROR_INIT;

		if (run_one(&l->v[i], state, bundle, intr_fd, &why) == 0)
			continue;
		error_wrap(&why, "hooks.%s[%zu] (%s)", oci_hook_name(phase), i, l->v[i].path);
		if (phase != OCI_HOOK_POSTSTOP) {
			if (err)
				*err = why;
			return -1;
		}
		log_warn("%s", why.msg);
	}
	return 0;
}
